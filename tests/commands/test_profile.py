"""Where a step's time goes: what belongs to which layer, how time is dealt, the profile of a run, errors."""

import json
import pathlib

import fakes
import jax
import pytest
import small_run
from configs import typed

from alexnet_jax.commands.inspect import lowered_step
from alexnet_jax.commands.profile import profile
from alexnet_jax.model.layer_specs import Convolution, Dense, MaxPooling, ReLU
from alexnet_jax.runs.build import build
from alexnet_jax.runs.workdir import read_config
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.trace import Operation, read_operations, time_shares
from alexnet_jax.training.attribution import EXCHANGES, OTHER, SCOPES, Origin, origins

# Instructions.

TABLE = (('conv1', Convolution(8, 3)), ('relu1', ReLU()), ('pool1', MaxPooling()), ('fc8', Dense(10)))
PROGRAM = """HloModule jit_train_step, is_scheduled=true

%fused (a: f32[8], b: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  %b = f32[8]{0} parameter(1)
  %sum = f32[8]{0} add(%a, %b), metadata={op_name="jit(train_step)/jvp(AlexNet)/conv1/AlexNet._apply_layer/add"}
  ROOT %most = f32[8]{0} maximum(%sum, %a), metadata={op_name="jit(train_step)/jvp(AlexNet)/relu1/max"}
}

%inner (c: f32[8]) -> f32[8] {
  %c = f32[8]{0} parameter(0)
  ROOT %conv = f32[8]{0} convolution(%c, %c), window={size=3x3}, dim_labels=b01f_01io->b01f
}

ENTRY %main (kernel: f32[8]) -> (f32[8], f32[]) {
  %kernel = f32[8]{0} parameter(0)
  %layout = f32[8]{0} copy(%kernel)
  %forward = f32[8]{0} fusion(%layout), kind=kCustom, calls=%inner, metadata={op_name="jit(s)/jvp(AlexNet)/conv1/conv"}
  %mixed = f32[8]{0} fusion(%forward, %kernel), kind=kLoop, calls=%fused, metadata={op_name="jit(s)/jvp(conv1)/add"}
  %product = f32[8]{0} dot(%mixed, %mixed), metadata={op_name="jit(s)/transpose(jvp(AlexNet))/fc8/dot_general"}
  %cublas = f32[8]{0} custom-call(%mixed), custom_call_target="__cublas$gemm", metadata={op_name="s/jvp(A)/fc8/dot"}
  %cudnn = (f32[8]{0}, u8[0]{0}) custom-call(%mixed), custom_call_target="__cudnn$convForward"
  %largest = f32[8]{0} maximum(%product, %mixed), metadata={op_name="jit(s)/while/body/jvp(AlexNet)/pool1/max"}
  %grad = f32[8]{0} all-reduce(%product), replica_groups={{0,1}}, to_apply=%add, metadata={op_name="jit(s)/psum"}
  %step = f32[8]{0} multiply(%grad, %grad), metadata={op_name="jit(s)/update/mul"}
  %loop = (f32[8]{0}, /*index=1*/f32[8]{0}) while(%step), condition=%cond, body=%body
  %lone = s32[] add(%kernel, %kernel)
}
"""


def test_every_instruction_has_its_layer_its_direction_and_its_kind():
    found = origins(PROGRAM, TABLE)
    expected = {
        'layout': Origin('conv1', False, 'copy'),  # of who uses it
        'forward': Origin('conv1', False, 'convolution'),  # by what is inside
        'mixed': Origin('relu1', False, 'activation'),  # the root's layer
        'product': Origin('fc8', True, 'matrix product'),
        'cublas': Origin('fc8', False, 'matrix product'),
        'cudnn': Origin('relu1', False, 'convolution'),  # of whose value it takes
        'largest': Origin('pool1', False, 'pooling'),
        'grad': Origin(EXCHANGES, False, 'exchange'),
        'step': Origin('update', False, 'update'),
        'loop': Origin('update', False, 'update', contains=True),
        'lone': Origin(OTHER, False, OTHER),
    }
    assert {name: found[name] for name in expected} == expected


@pytest.fixture(scope='module')
def in_two_parts():
    config = small_run.get_config()
    config.accumulation_steps, config.mesh.data = 2, 2
    experiment = build(typed(config))
    return origins(lowered_step(experiment).compile().as_text(), experiment.config.network)


def test_every_line_and_every_scope_of_a_step_is_found_in_its_program(in_two_parts):
    layers = {origin.layer for origin in in_two_parts.values()}
    assert layers >= {'conv1', 'relu1', 'pool1', 'fc7', 'relu7', 'drop7', 'fc8', *SCOPES}
    assert EXCHANGES in {one.layer for one in in_two_parts.values() if one.kind == 'exchange'}
    for kind in ('convolution', 'matrix product'):
        products = {one.layer for one in in_two_parts.values() if one.kind == kind and not one.contains}
        assert products == {'convolution': {'conv1'}, 'matrix product': {'fc7', 'fc8'}}[kind]
        assert {one.backward for one in in_two_parts.values() if one.kind == kind} == {False, True}


# Time.


def time_of(*operations, contains=()):
    found = time_shares([Operation(*one) for one in operations], lambda name: name in contains)
    times = {name: share.time for name, share in found.by_name.items()}
    assert sum(times.values()) + found.idle == pytest.approx(found.total)
    return times, found.idle, found.total


def test_a_moment_goes_in_equal_parts_to_what_is_in_progress():
    one, other = ('one', 'cpu', 0, 6), ('other', 'cpu', 4, 8)
    assert time_of(one, other) == ({'one': 5, 'other': 3}, 0, 8)
    assert time_of(one, ('other', 'cpu', 10, 14)) == ({'one': 6, 'other': 4}, 4, 14)
    assert time_of(one, ('one', 'cpu', 6, 7), ('none', 'cpu', 3, 3)) == ({'one': 7, 'none': 0}, 0, 7)


def test_a_loop_gets_what_its_body_leaves():
    loop, body = ('loop', 'cpu', 0, 10), [('body', 'cpu', 1, 4), ('body', 'cpu', 5, 9)]
    assert time_of(loop, *body, contains=['loop']) == ({'loop': 3, 'body': 7}, 0, 10)


def test_of_several_devices_the_mean_counts():
    assert time_of(('a', 'gpu 0', 0, 8), ('a', 'gpu 1', 2, 6)) == ({'a': 6}, 2, 8)


def test_nothing_ran():
    assert time_of() == ({}, 0.0, 0.0)


def written(text, directory):
    path = directory / 'made.xplane.pb'
    path.write_bytes(jax.profiler.ProfileData.text_proto_to_serialized_xspace(text))
    return path


METADATA = ''.join(
    f'stat_metadata {{ key: {number} value {{ id: {number} name: "{name}" }} }}\n'
    for number, name in enumerate(('hlo_op', 'hlo_module', '_p', '_c', 'device_ordinal'), start=1)
)


def event(number, start, duration, **stats):
    """An event in microseconds."""
    keys = {'hlo_op': 1, 'hlo_module': 2, 'p': 3, 'c': 4, 'device_ordinal': 5}
    lines = ' '.join(
        f'stats {{ metadata_id: {keys[name]} {"str_value" if isinstance(value, str) else "uint64_value"}: '
        f'{json.dumps(value)} }}'
        for name, value in stats.items()
    )
    return f'events {{ metadata_id: {number} offset_ps: {start}000000 duration_ps: {duration}000000 {lines} }}\n'


def names(*names):
    return ''.join(
        f'event_metadata {{ key: {number} value {{ id: {number} name: "{name}" }} }}\n'
        for number, name in enumerate(names, start=1)
    )


def test_on_the_cpu_an_operation_lasts_until_the_event_of_its_end(tmp_path):
    """XLA's CPU starts a convolution in one thread, and says in another that it has ended."""
    own = {'hlo_op': 'conv.1', 'hlo_module': 'jit_train_step'}
    first = event(1, 5, 1, p=7, **own) + event(1, 40, 1, p=8, **own) + event(3, 0, 90, hlo_module='jit_another')
    second = event(2, 30, 2, c=7) + event(3, 50, 1, hlo_op='add', hlo_module='jit_another')
    lines = f'lines {{ id: 1 name: "one" {first} }} lines {{ id: 2 name: "other" {second} }}'
    path = written(f'planes {{ name: "/host:CPU" {names("conv.1", "end: conv.1", "add")}{METADATA}{lines} }}', tmp_path)
    found = read_operations(path, 'jit_train_step')
    assert [(one.name, one.start, one.end) for one in found] == [('conv.1', 5e3, 30e3), ('conv.1', 40e3, 41e3)]


def test_of_a_gpu_its_streams_count_and_not_the_host(tmp_path):
    own = {'hlo_op': 'fusion', 'hlo_module': 'jit_train_step'}
    kernel = f'lines {{ id: 1 name: "Stream #13(Compute)" {event(1, 5, 3, **own)} }}'
    again = f'lines {{ id: 2 name: "XLA Ops" {event(1, 5, 3, **own)} }}'
    text = ''.join(
        f'planes {{ name: "{name}" {names("a_kernel")}{METADATA}{lines} }}\n'
        for name, lines in (('/host:CPU', again), ('/device:GPU:0', kernel + again), ('/device:GPU:1', kernel))
    )
    found = read_operations(written(text, tmp_path), 'jit_train_step')
    assert [(one.name, one.device, one.end - one.start) for one in found] == [
        ('fusion', '/device:GPU:0 0', 3e3),
        ('fusion', '/device:GPU:1 0', 3e3),
    ]


# A run.


@pytest.fixture(scope='module')
def profiled(trained, tmp_path_factory):
    """Of the small run's step, in its workdir's copy."""
    config, workdir = small_run.copied(trained, tmp_path_factory.mktemp('profiled'))
    config.data.directory = trained[0].data.directory
    before = {path: path.read_bytes() for path in workdir.rglob('*') if path.is_file()}
    console = fakes.console()
    console.width = 120
    found = profile(typed(config), str(workdir), 3, console)
    return found, workdir, before, console.file.getvalue()


def test_the_parts_add_up_to_the_step(profiled):
    found, *_ = profiled
    assert found.steps == 3 and found.ms_without_profiler > 0
    layers = sum(forward + backward for forward, backward in found.by_layer().values())
    assert layers + found.idle_ms == pytest.approx(found.ms)
    assert sum(found.by_kind().values()) == pytest.approx(layers)
    assert {'conv1', 'fc7', 'update', 'input'} <= set(found.by_layer())
    forward, backward = found.by_layer()['conv1']
    assert forward > 0 and backward > 0
    assert any(row.runs == 1 for row in found.operations)  # once a step, of three


def test_the_tables_and_the_way_to_the_trace_are_told(profiled):
    found, workdir, _, said = profiled
    line = next(line for line in said.splitlines() if line.split()[:1] == ['fc7'])  # of the first table
    both = sum(found.by_layer()['fc7'])
    assert line.split()[-2:] == [f'{both:,.2f}', f'{both / found.ms:.1%}']
    assert found.operations[0].name in said and 'idle' in said and 'convolution' in said
    (trace,) = (workdir / 'profile').rglob('*.xplane.pb')
    assert f'tensorboard --logdir={workdir / "profile"}' in said
    assert str(next(trace.parent.glob('*.trace.json.gz'))) in said


def test_the_rest_of_the_workdir_stays_as_it_was(profiled):
    found, workdir, before, _ = profiled
    after = {path: path.read_bytes() for path in workdir.rglob('*') if path.is_file() and 'profile' not in path.parts}
    assert after == before
    written = json.loads((workdir / 'profile' / 'profile.json').read_text())
    assert written['ms'] == found.ms and written['layers']['conv1']['backward_ms'] == found.by_layer()['conv1'][1]


def test_without_a_data_set_batches_are_made_up(trained, tmp_path):
    config = read_config(trained[1])
    config = config.replace(**{'data.source': 'imagenet2012', 'data.directory': str(tmp_path / 'none')})
    console = fakes.console()
    assert profile(config, str(tmp_path / 'run'), 1, console).ms > 0
    assert f"There is no data set in '{tmp_path / 'none'}': the profile is of batches that are made up." in (
        console.file.getvalue()
    )


def test_a_profile_that_cannot_be_written_leaves_nothing(trained, tmp_path, monkeypatch):
    config, _ = trained

    def full():
        half = tmp_path / 'run/profile/plugins/profile/now'
        half.mkdir(parents=True)
        (half / 'host.xplane.pb').write_bytes(b'half')
        stop()
        raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: host.xplane.pb; No space left on device')

    stop = jax.profiler.stop_trace
    monkeypatch.setattr(jax.profiler, 'stop_trace', full)
    with pytest.raises(UserError, match=r'run/profile cannot be written: .*No space left on device'):
        profile(typed(config), str(tmp_path / 'run'), 1, fakes.console())
    assert list((tmp_path / 'run').rglob('*.xplane.pb')) == []


def test_a_file_in_the_place_of_the_profile_is_a_clear_error(trained, tmp_path):
    pathlib.Path(tmp_path, 'profile').touch()
    with pytest.raises(UserError, match='profile cannot be written: File exists'):
        profile(typed(trained[0]), str(tmp_path), 1, fakes.console())
