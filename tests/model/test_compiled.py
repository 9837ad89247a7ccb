"""Guards the reader of compiled programs: instructions, and every notation of the devices of a collective."""

import jax
import jax.numpy as jnp
import pytest

from alexnet_jax.model.columns import COLUMN, DATA, make_mesh
from alexnet_jax.model.compiled import ArrayType, collectives, device_groups, read_program

# Lines as XLA's GPU and CPU compilers print them, for a mesh of 2 x 2.
PROGRAM = """
  %a = (f32[4,64]{1,0}, f32[4,128]{1,0}) all-gather-start(%x), channel_id=1, replica_groups=[2,2]<=[4], dimensions={1}
  %b = f32[4,128]{1,0} all-gather-done(%a)
  %c = f32[8]{0} all-reduce-start(%y), channel_id=2, replica_groups=[2,2]<=[2,2]T(1,0), to_apply=%add
  %d = (bf16[10]{0}, f32[]) all-reduce(%p, %q), channel_id=3, replica_groups={{0,1,2,3}}, to_apply=%add
  %e = f32[6]{0} collective-permute(%z), channel_id=4, source_target_pairs={{0,1},{1,0}}
  %f = f32[6]{0} all-reduce(%z), channel_id=5, replica_groups={{0},{1},{2},{3}}, to_apply=%add
  ROOT %g = f32[5,3]{1,0} reduce-scatter(%w), replica_groups={{0,2},{1,3}}, dimensions={0}, metadata={op_name="step/x"}
  %h = f32[8]{0} fusion(%y), calls=%all-reduce.clone
  %i = f32[2]{0} all-gather(%z), channel_id=6, replica_groups=mesh['data'=2,'column'=2] {'column'}, dimensions={0}
"""


def test_collectives_of_a_program():
    found = collectives(PROGRAM, make_mesh(2, 2, 2))
    assert [(one.kind, one.axes, one.shapes, one.received) for one in found] == [
        ('all-gather', (COLUMN,), ('f32[4,128]',), 1024),
        ('all-reduce', (DATA,), ('f32[8]',), 32),
        ('all-reduce', (DATA, COLUMN), ('bf16[10]', 'f32[]'), 36),
        ('collective-permute', (COLUMN,), ('f32[6]',), 24),
        ('reduce-scatter', (DATA,), ('f32[5,3]',), 60),
        ('all-gather', (COLUMN,), ('f32[2]',), 4),
    ]
    assert found[4].source == 'step/x'


PAIRS, ACROSS, ALL, NONE = [[0, 1], [2, 3]], [[0, 2], [1, 3]], [[0, 1, 2, 3]], [[0], [1], [2], [3]]


@pytest.mark.parametrize(
    ('notation', 'groups'),
    [
        ('replica_groups={{0,1},{2,3}}', PAIRS),
        ('replica_groups={{0},{1},{2},{3}}', NONE),
        ('replica_groups={}', ALL),
        ('source_target_pairs={{0,2},{1,3}}', ACROSS),
        ('replica_groups=[2,2]<=[4]', PAIRS),
        ('replica_groups=[1,4]<=[4]', ALL),
        ('replica_groups=[2,2]<=[2,2]T(1,0)', ACROSS),
        ("replica_groups=mesh['data'=2,'column'=2] {'column'}", PAIRS),
        ("replica_groups=mesh['data'=2,'column'=2] {'data'}", ACROSS),
        ("replica_groups=mesh['data'=2,'column'=2] {'data','column'}", ALL),
        ("replica_groups=mesh['data'=2,'column'=2] {'column','data'}", [[0, 2, 1, 3]]),
        ("replica_groups=mesh['axis_0'=4,'axis_1'=1] {'axis_0'}", ALL),
        ("replica_groups=mesh['axis_0'=4,'axis_1'=1] {'axis_1'}", NONE),
        ("replica_groups=mesh['data'=2,'column'=2] {}", NONE),
        ('replica_groups=mesh[data=2,column=2] {column}', PAIRS),  # as XLA wrote it at first
        ("replica_groups=mesh['data'=2,'column'=2], device_ids=([2,2]T(1,0)) {'column'}", ACROSS),
        ("replica_groups=mesh['data'=2,'column'=2], device_ids=(0,3,2,1) {'column'}", [[0, 3], [2, 1]]),
    ],
)
def test_devices_of_a_collective_in_every_notation(notation, groups):
    for attributes in (f', {notation}', f', channel_id=1, {notation}, use_global_device_ids=true, to_apply=%add'):
        assert device_groups(attributes, 4) == groups


@pytest.mark.parametrize(
    'notation',
    [
        '',
        ', channel_id=1, to_apply=%add',
        ', replica_groups=<2,2>',
        ', replica_groups=all',
        ", replica_groups=mesh['a'=4] {'a':(1)2}",  # a part of an axis
        ", replica_groups=mesh['a'=4], device_ids=here {'a'}",
        ', replica_groups=maximal_mesh[device_id=0] {}',
        ', replica_groups=[2,2]',
        ', replica_groups={0,1}',
    ],
)
def test_an_unknown_notation_is_an_error(notation):
    with pytest.raises(ValueError, match='unknown notation'):
        device_groups(notation, 4)


def test_instructions():
    program = read_program("""HloModule jit_f, is_scheduled=true

%inside (a: f32[8]) -> f32[8] {
  ROOT %a = f32[8]{0} parameter(0)
}

ENTRY %main (x: pred[3], y: s4[6]) -> f32[2] {
  %x = pred[3]{0:T(256)} parameter(0)
  y = s4[6]{0} parameter(1)
  %both = (pred[3]{0}, /*index=1*/f32[2,5]{1,0:T(8,128)}) custom-call(%x, /*index=1*/%y), custom_call_target="a$conv(b"
  ROOT %end = f32[2]{0} fusion(f32[8]{0} %both), kind=kLoop, calls=%inside, metadata={op_name="jit(f)/jvp(conv1)/add"}
}
""")
    assert program.entry == 'main' and list(program.computations) == ['inside', 'main']
    x, y, both, end = program.computations['main']
    assert [one.opcode for one in (x, y, both, end)] == ['parameter', 'parameter', 'custom-call', 'fusion']
    assert (x.size, y.size, both.size) == (3, 3, 43)
    assert both.arrays == (ArrayType('pred', (3,)), ArrayType('f32', (2, 5))) and str(both.arrays[1]) == 'f32[2,5]'
    assert y.operands == ('1',) and both.operands == ('x', 'y') and end.operands == ('both',)
    assert both.target == 'a$conv(b' and end.source == 'jit(f)/jvp(conv1)/add' and end.called == 'inside'
    assert end.root and not both.root
    assert program.body(end) == program.computations['inside'] and not program.body(both)


def test_a_program_that_xla_compiled():
    text = jax.jit(lambda x: jnp.tanh(x @ x).sum()).lower(jnp.ones((5, 5))).compile().as_text()
    program = read_program(text)
    instructions = [one for body in program.computations.values() for one in body]
    assert program.entry in program.computations
    assert sum(line.count(' = ') > 0 and line.startswith(' ') for line in text.splitlines()) == len(instructions)
    names = {one.name for one in instructions}
    assert all(set(one.operands) <= names for one in instructions if one.opcode not in ('parameter', 'constant'))
    assert any('dot' in one.source for one in instructions)


def test_what_is_no_instruction_is_an_error():
    with pytest.raises(ValueError, match='brackets do not close'):
        read_program('  %a = f32[4]{0} add(%x, %y')
