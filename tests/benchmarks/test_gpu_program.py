"""Programs compiled for GPUs that are not there, against the formula; a made-up program, against counts by hand."""

import jax
import numpy as np
import pytest
from configs import typed
from small_run import get_config

from alexnet_jax.model.columns import DATA
from alexnet_jax.runtime.errors import UserError
from benchmarks import gpu_target, limits
from benchmarks.gpu_analysis import expected, largest_batch, names_of, overlaps, peak, received_by_image, seconds
from benchmarks.gpu_schedule import kernels
from benchmarks.gpu_target import GPUS, compiled, devices, experiment_on

# Two devices; conv1's kernel is 5 x 5 x 3 -> 8, an image 8 x 8, a batch of 4; half of the parameter is cast.
MADE_UP = """HloModule jit_train_step, is_scheduled=true, num_partitions=2

%sliced (p0: f32[2,64,32]) -> bf16[1,64,32] {
  %p0 = f32[2,64,32]{2,1,0} parameter(0)
  %slice.1 = f32[1,64,32]{2,1,0} slice(%p0), slice={[0:1], [0:64], [0:32]}
  ROOT %convert.1 = bf16[1,64,32]{2,1,0} convert(%slice.1), metadata={op_name="jit(train_step)/jvp(AlexNet)/fc6/cast"}
}

%product (p0: bf16[4,64], p1: bf16[64,32]) -> bf16[4,32] {
  %p0.1 = bf16[4,64]{1,0} parameter(0)
  %p1.1 = bf16[64,32]{1,0} parameter(1)
  ROOT %dot.1 = bf16[4,32]{1,0} dot(%p0.1, %p1.1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

ENTRY %main (image: bf16[4,8,8,3], kernel: bf16[8,5,5,3], fc6: f32[2,64,32]) -> bf16[4,64] {
  %image = bf16[4,8,8,3]{3,2,1,0} parameter(0)
  %kernel = bf16[8,5,5,3]{3,2,1,0} parameter(1)
  %fc6 = f32[2,64,32]{2,1,0} parameter(2)
  %conv.1 = (bf16[4,4,4,8]{3,2,1,0}, u8[0]{0}) custom-call(%image, /*index=1*/%kernel), window={size=5x5}, \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward", \
metadata={op_name="jit(train_step)/jvp(AlexNet)/conv1/conv_general_dilated"}
  %get-tuple-element.1 = bf16[4,4,4,8]{3,2,1,0} get-tuple-element(%conv.1), index=0
  %gather-start = (bf16[4,4,4,8]{3,2,1,0}, bf16[4,4,4,16]{3,2,1,0}) all-gather-start(%get-tuple-element.1), \
replica_groups={{0,1}}, dimensions={3}, metadata={op_name="jit(train_step)/jvp(AlexNet)/exchange3/all_gather"}
  %cast = bf16[1,64,32]{2,1,0} fusion(%fc6), kind=kLoop, calls=%sliced
  %bitcast.1 = bf16[64,32]{1,0} bitcast(%cast)
  %gather-done = bf16[4,4,4,16]{3,2,1,0} all-gather-done(%gather-start)
  %bitcast.2 = bf16[4,64]{1,0} bitcast(%gather-done)
  %filter.1 = (bf16[8,5,5,3]{3,2,1,0}, u8[0]{0}) custom-call(%image, %get-tuple-element.1), window={size=5x5}, \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardFilter", \
metadata={op_name="jit(train_step)/transpose(jvp(AlexNet))/conv1/conv_general_dilated"}
  %gemm.1 = bf16[4,32]{1,0} fusion(%bitcast.2, %bitcast.1), kind=kCustom, calls=%product, \
metadata={op_name="jit(train_step)/jvp(AlexNet)/fc6/dot_general"}
  %scatter-start = ((bf16[4,32]{1,0}), bf16[4,16]{1,0}) reduce-scatter-start(%gemm.1), replica_groups={{0,1}}, \
dimensions={1}, metadata={op_name="jit(train_step)/transpose(jvp(AlexNet))/exchange3/reduce_scatter"}
  %scatter-done = bf16[4,16]{1,0} reduce-scatter-done(%scatter-start)
  ROOT %copy.1 = bf16[4,64]{0,1} copy(%bitcast.2)
}
"""


@pytest.fixture(scope='module')
def programs():
    """Experiment and program of a small network on two H200s, by precision."""
    found = {}
    for precision in ('float32', 'bfloat16'):
        config = typed(get_config()).replace(**{'mesh.column': 2, 'precision': precision})
        try:
            experiment = experiment_on(config, 'h200')
        except UserError as error:
            pytest.skip(str(error))
        found[precision] = (experiment, compiled(experiment, 'h200'))
    return found


def test_a_made_up_program_is_counted_as_by_hand():
    found = {kernel.name: kernel for kernel in kernels(MADE_UP, frozenset({'conv1', 'exchange3', 'fc6'}))}
    assert list(found) == [
        'conv.1', 'gather-start', 'cast', 'gather-done', 'filter.1', 'gemm.1', 'scatter-start', 'scatter-done',
        'copy.1',
    ]  # fmt: skip
    # Images 4*8*8*3, kernel 8*5*5*3 and outputs 4*4*4*8 in two bytes each; 2*5*5*3 operations for each output.
    for name, backward in (('conv.1', False), ('filter.1', True)):
        kernel = found[name]
        assert (kernel.moved, kernel.flops) == (2 * (768 + 600 + 512), 150 * 512)
        assert (kernel.layer, kernel.backward, kernel.kind) == ('conv1', backward, 'convolution')
    # Half of a [2, 64, 32] is read in float32 and written in bfloat16; the name is that of what is inside.
    assert (found['cast'].moved, found['cast'].flops, found['cast'].layer) == (4 * 2048 + 2 * 2048, 0, 'fc6')
    assert found['cast'].vector == 2048
    assert (found['gemm.1'].moved, found['gemm.1'].flops) == (2 * (256 + 2048 + 128), 2 * 4 * 64 * 32)
    assert found['gemm.1'].kind == 'matmul'
    assert found['copy.1'].moved == 2 * 2 * 256


def test_what_runs_beside_an_exchange_in_the_made_up_program(programs):
    experiment, _ = programs['bfloat16']
    gpu = GPUS['h200']
    found = kernels(MADE_UP, frozenset({'conv1', 'exchange3', 'fc6'}))
    gather, scatter = overlaps(found, experiment, gpu)
    assert (gather.axes, scatter.axes) == (('column',), ('column',))
    assert [kernel.name for kernel in gather.kernels] == ['cast'] and scatter.kernels == []
    assert (gather.received, scatter.received) == (2 * 512, 2 * 64)
    assert gather.hidden == pytest.approx(12288 / 4.8e12) and scatter.hidden == 0


def test_a_while_loop_counts_as_often_as_it_runs():
    loop = """
%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p = (s32[], f32[8]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[8]{0} get-tuple-element(%p), index=1
  %y = f32[8]{0} copy(%x)
  ROOT %t = (s32[], f32[8]{0}) tuple(%i, %y)
}

ENTRY %main (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p.1 = (s32[], f32[8]{0}) parameter(0)
  ROOT %w = (s32[], f32[8]{0}) while(%p.1), condition=%c, body=%body, backend_config={"known_trip_count":{"n":"5"}}
}
"""
    (kernel,) = kernels(loop, frozenset())
    assert (kernel.name, kernel.moved, kernel.times) == ('y', 64, 5)
    assert seconds(kernel, GPUS['t4'], 'float32') == pytest.approx(5 * 64 / 320e9)


def test_columns_exchange_what_the_formula_says_and_half_in_bfloat16(programs):
    # exchange7 joins 2 columns of 5 x 5 x 8 maps, exchange8 of 32 units, the logits of 5 classes; on the other device.
    for precision, width in (('float32', 4), ('bfloat16', 2)):
        experiment, program = programs[precision]
        assert expected(experiment) == (_maps() + 32 + 5, _maps() + 32)
        assert received_by_image(program.as_text(), experiment) == tuple(width * n for n in expected(experiment))


def _maps():
    """Values that a column sends before fc7: 8 maps, of 21 pixels by windows of 5 every 2, then 3 every 2."""
    outputs = (21 - 5) // 2 + 1
    return 8 * ((outputs - 3) // 2 + 1) ** 2


def test_products_of_the_program_are_those_of_the_network(programs):
    for experiment, program in programs.values():
        found = kernels(program.as_text(), names_of(experiment.config.network))
        here = experiment.config.batch_size // experiment.mesh.shape[DATA]
        assert 2 * sum(kernel.flops for kernel in found) == here * limits.flops(experiment)  # half of it a device
        layers = {kernel.layer for kernel in found}
        assert {'conv1', 'fc7', 'fc8', 'input', 'loss', 'update'} <= layers


def test_memory_holds_parameters_and_velocity_of_one_column(programs):
    for experiment, program in programs.values():
        found = program.memory_analysis()
        shapes = jax.tree.leaves(experiment.shapes)
        whole = sum(np.prod(x.shape) * 4 for x in shapes if x.ndim)
        assert whole / 2 <= found.alias_size_in_bytes <= whole / 2 + 64 * len(shapes)
        assert peak(found) > found.argument_size_in_bytes


def test_the_largest_batch_is_tried_and_so_is_the_next():
    def needs(batch):
        return 1000 + batch**1.5  # so that no straight line finds it at once

    found = largest_batch(needs, 50_000, known := {64: needs(64), 128: needs(128)}, 64)
    assert found % 64 == 0 and needs(found) <= 50_000 < needs(found + 64)
    assert len(known) < 15 and known == {size: needs(size) for size in known} and {found, found + 64} <= set(known)
    assert largest_batch(needs, 1500, {64: needs(64), 128: needs(128)}, 64) == 0


def test_without_the_plugin_one_message_says_what_to_install(monkeypatch):
    def missing(*_, **__):
        raise NotImplementedError('topology not implemented for cuda')

    monkeypatch.setattr(gpu_target.topologies, 'get_topology_desc', missing)
    with pytest.raises(UserError, match=r'plugin.*is not installed.*requirements\.txt'):
        devices('h200', 2)
    if jax.devices()[0].platform == 'cpu':
        with pytest.raises(UserError, match='there is no GPU here'):
            devices('attached', 1)
