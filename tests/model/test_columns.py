"""The column split is real: what each device holds, and what devices exchange, read from compiled programs."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from configs import typed
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from alexnet_jax.commands.inspect import lines_of, lowered_step
from alexnet_jax.config import network_config
from alexnet_jax.model.alexnet import AlexNet
from alexnet_jax.model.columns import COLUMN, DATA, Columns, check_batch, columns_on, make_mesh
from alexnet_jax.model.compiled import collectives
from alexnet_jax.model.layer_specs import Dense, Exchange, Flatten, LocalResponseNormalization
from alexnet_jax.model.summary import column_exchanges
from alexnet_jax.runs.build import build, first_state
from alexnet_jax.runtime.errors import UserError
from experiments import digits, paper


def devices(count):
    return jax.devices()[:count]


@pytest.mark.parametrize(
    ('count', 'columns', 'fields', 'expected'),
    [
        (1, 2, {}, (1, 1)),
        (2, 2, {}, (1, 2)),
        (3, 2, {}, (3, 1)),
        (4, 2, {}, (2, 2)),
        (4, 1, {}, (4, 1)),
        (4, 4, {}, (1, 4)),
        (4, 2, {'data': 1}, (1, 2)),
        (4, 2, {'data': 4}, (4, 1)),
        (4, 2, {'column': 1}, (4, 1)),
        (4, 4, {'column': 2}, (2, 2)),
        (4, 2, {'data': 1, 'column': 1}, (1, 1)),
    ],
)
def test_mesh_defaults_and_fields(count, columns, fields, expected):
    mesh = make_mesh(columns, **fields, devices=devices(count))
    assert mesh.devices.shape == expected
    assert mesh.axis_names == (DATA, COLUMN)
    assert columns_on(mesh, columns).local * mesh.shape[COLUMN] == columns


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'column': 3}, r'config\.mesh\.column=3 must be a divisor of the number of columns, 2'),
        ({'data': 3, 'column': 2}, r'3 \(data\) x 2 \(column\) = 6 devices requested, 4'),
        ({'data': -1}, 'at least 0'),
    ],
)
def test_a_mesh_that_does_not_fit_is_a_clear_error(fields, message):
    with pytest.raises(UserError, match=message):
        make_mesh(2, **fields, devices=devices(4))


def test_a_batch_that_cannot_be_dealt_is_a_clear_error():
    mesh = make_mesh(2, devices=devices(3))
    with pytest.raises(UserError, match=r'config\.batch_size=128 is not divisible by the 3'):
        check_batch(128, mesh)
    check_batch(129, mesh)


# What a column is allowed to receive, per image, in values: paper section 3.5 and Figure 2.
GATHERED = {'conv3': (13, 13, 256), 'fc6': (9216,), 'fc7': (4096,), 'fc8': (4096,), 'logits': (1000,)}
SCATTERED = {'conv3': (13, 13, 128), 'fc6': (4608,), 'fc7': (2048,), 'fc8': (2048,)}
PARAMETERS_OF_A_COLUMN = 60_965_224 // 2


def exchanges(data, column, precision='float32', change=lambda config: None):
    config = paper.get_config()
    config.batch_size = 4 * data
    config.precision = precision
    config.mesh.data, config.mesh.column = data, column
    change(config)
    experiment = build(typed(config))
    return collectives(lowered_step(experiment).compile().as_text(), experiment.mesh)


def summary(found):
    """Kinds, axes and shapes; the arrays of a sum along 'data' only by their number of values."""
    lines = []
    for one in found:
        if one.axes == (DATA,):
            sizes = [np.prod([int(n) for n in re.findall(r'\d+', s[s.index('[') :])]) for s in one.shapes]
            lines.append((one.kind, one.axes, int(sum(sizes))))
        else:
            lines.append((one.kind, one.axes, one.shapes))
    return sorted(lines, key=str)


def allowed(data, precision='float32'):
    batch, kind = 4, {'float32': 'f32', 'bfloat16': 'bf16'}[precision]
    lines = [
        (name, (COLUMN,), (f'{kind}[{",".join(map(str, (batch, *shape)))}]',))
        for name, shapes in (('all-gather', GATHERED), ('reduce-scatter', SCATTERED))
        for shape in shapes.values()
    ]
    if data > 1:  # gradients, and with them the loss and two errors
        lines.append(('all-reduce', (DATA,), PARAMETERS_OF_A_COLUMN + 3))
    return sorted(lines, key=str)


@pytest.fixture(scope='module')
def paper_exchanges():
    return functools.cache(exchanges)


@pytest.mark.parametrize('data', [1, 2])
def test_the_step_exchanges_across_columns_where_the_paper_does_and_nowhere_else(data, paper_exchanges):
    assert summary(paper_exchanges(data, 2)) == allowed(data)


@pytest.mark.parametrize('data', [1, 2])
def test_bytes_received_are_those_of_the_formula(data, paper_exchanges):
    found = [one for one in paper_exchanges(data, 2) if one.axes == (COLUMN,)]
    forward = 21_632 + 4_608 + 2_048 + 2_048  # values a column receives for an image, in either direction
    assert sum(one.received for one in found if one.kind == 'all-gather') == 4 * 4 * (forward + 500)
    assert sum(one.received for one in found if one.kind == 'reduce-scatter') == 4 * 4 * forward


def test_exchanges_in_half_precision_pass_half_of_the_bytes():
    def halve(config):
        for name in ('exchange3', 'exchange6', 'exchange7', 'exchange8'):
            config.network[name].precision = 'float16'

    found = [one for one in exchanges(1, 2, change=halve) if one.axes == (COLUMN,)]
    forward = 21_632 + 4_608 + 2_048 + 2_048
    assert sum(one.received for one in found if one.kind == 'all-gather') == 4 * (2 * forward + 4 * 500)
    assert sum(one.received for one in found if one.kind == 'reduce-scatter') == 4 * 2 * forward


def test_columns_on_one_device_exchange_nothing(paper_exchanges):
    assert paper_exchanges(1, 1) == []
    whole = ('all-reduce', (DATA,), 2 * PARAMETERS_OF_A_COLUMN + 3)
    assert summary(paper_exchanges(2, 1)) == [whole]


def test_an_exchange_too_many_is_noticed():
    def talk_before_conv2(config):
        layers = list(config.network.items())
        place = [name for name, _ in layers].index('conv2')
        layers.insert(place, ('exchange2', network_config({'x': Exchange()}).x))
        config.network = type(config.network)(dict(layers), sort_keys=False)

    found = summary(exchanges(1, 2, change=talk_before_conv2))
    extra = [line for line in found if line not in allowed(1)]
    assert ('all-gather', (COLUMN,), ('f32[4,27,27,96]',)) in extra


def test_a_grouped_convolution_under_sharding_constraints_is_noticed():
    """What this split replaces: XLA gathers such a convolution's maps and kernels on both devices."""
    mesh = make_mesh(2, 1, 2)
    split = NamedSharding(mesh, PartitionSpec(None, None, None, COLUMN))

    def convolve(x, kernel):
        x = lax.with_sharding_constraint(x, split)
        kernel = lax.with_sharding_constraint(kernel, split)
        y = lax.conv_general_dilated(
            x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'), feature_group_count=2
        )
        return lax.with_sharding_constraint(y, split)

    x, kernel = jnp.zeros((4, 27, 27, 96)), jnp.zeros((5, 5, 48, 256))
    compiled = jax.jit(convolve, in_shardings=(split, split), out_shardings=split).lower(x, kernel).compile()
    assert collectives(compiled.as_text(), mesh) != []


def test_no_device_computes_maps_of_the_other_column():
    config = paper.get_config()
    config.batch_size = 4
    config.mesh.column = 2
    config.mesh.data = 1
    program = lowered_step(build(typed(config))).compile().as_text()
    for both in ('4,55,55,96', '4,27,27,96', '4,27,27,256', '4,13,13,384', '11,11,3,96', '5,5,48,256', '9216,4096'):
        assert f'[{both}]' not in program, both
    for own in ('4,55,55,48', '4,27,27,128', '4,13,13,192', '11,11,3,48', '5,5,48,128', '9216,2048'):
        assert f'{own}]' in program, own


def test_bfloat16_halves_what_is_exchanged_where_the_device_can_send_it():
    # XLA's CPU compiler widens bfloat16 collectives; what the program asks for is read before it does.

    config = paper.get_config()
    config.batch_size, config.precision = 4, 'bfloat16'
    config.mesh.data, config.mesh.column = 1, 2
    text = lowered_step(build(typed(config))).as_text()
    gathers = re.findall(r'stablehlo\.all_gather.*-> tensor<([\dx]+)x(\w+)>', text)
    assert sorted(gathers) == sorted(
        [('4x13x13x256', 'bf16'), ('4x9216', 'bf16'), ('4x4096', 'bf16'), ('4x4096', 'bf16'), ('4x1000', 'bf16')]
    )


def test_each_device_holds_its_own_columns_kernels_and_velocity():
    config = digits.get_config()
    config.mesh.data, config.mesh.column = 2, 2
    experiment = build(typed(config))
    state = first_state(experiment)
    for array in jax.tree.leaves((state.parameters, state.velocity)):
        for shard in array.addressable_shards:
            _, column = np.argwhere(experiment.mesh.devices == shard.device)[0]
            assert shard.data.shape == (1, *array.shape[1:])
            assert shard.index[0] == slice(column, column + 1)


NORMALIZED = {
    'norm': LocalResponseNormalization(k=1.0, n=5, alpha=0.3, beta=0.75, across_columns=True),
    'flatten': Flatten(),
    'exchange': Exchange(),
    'fc': Dense(units=4),
}


@pytest.mark.parametrize(('columns', 'devices'), [(2, 1), (2, 2), (4, 1), (4, 2), (4, 4), (1, 1)])
def test_a_normalization_across_columns_is_that_of_all_channels(columns, devices):
    """Values and gradients, for columns of three channels, against the float64 reference over all of them."""
    generator = np.random.default_rng(0)
    x, cotangent = (np.float32(generator.standard_normal((columns, 2, 3, 3, 3))) for _ in range(2))
    split = Columns(columns, columns // devices, COLUMN if devices > 1 else None)
    network = AlexNet(NORMALIZED, split)

    def normalized(own):
        return jnp.stack(network._apply_layer('norm', NORMALIZED['norm'], list(own), None))

    def both(x, cotangent):
        y, vjp = jax.vjp(normalized, x)
        return y, vjp(cotangent)[0]

    if devices > 1:
        spec = PartitionSpec(COLUMN)
        mesh = make_mesh(columns, 1, devices)
        both = jax.shard_map(both, mesh=mesh, in_specs=(spec, spec), out_specs=(spec, spec))
    y, gradient = jax.jit(both)(x, cotangent)
    together = [np.concatenate(list(each.astype(float)), axis=-1) for each in (x, cotangent)]
    right, back = reference.local_response_normalization(together[0], k=1.0, n=5, alpha=0.3, beta=0.75)
    for found, expected in ((y, right), (gradient, back(together[1]))):
        assert reference.relative_error(found, np.stack(np.split(expected, columns, axis=-1))) < 1e-5


@pytest.mark.parametrize('name, places', [('norm1', 55), ('norm2', 27)])
def test_across_columns_two_channels_pass_each_edge_and_no_more(name, places, paper_exchanges):
    def across(config):
        config.network[name].across_columns = True

    found = exchanges(1, 2, change=across)
    extra = [one for one in found if one.kind == 'collective-permute']
    assert sorted(summary(one for one in found if one not in extra)) == allowed(1)
    # To and fro, and the gradients back: each time two channels of four images for one of the two devices.
    assert {one.shapes for one in extra} == {(f'f32[4,{places},{places},2]',)} and len(extra) == 4
    edge = 4 * 4 * places * places * 2
    assert sum(one.received for one in extra) == 2 * edge
    config = paper.get_config()
    across(config)
    predicted = {one.into: one.size for one in column_exchanges(lines_of(typed(config)), 2, 4)}
    assert 4 * predicted[name] == edge


def test_columns_too_narrow_to_be_normalized_together_are_a_clear_error():
    network = AlexNet(NORMALIZED, 4)
    with pytest.raises(UserError, match=r'config\.network\.norm: across_columns needs at least 2 channels .* are 1'):
        network._apply_layer('norm', NORMALIZED['norm'], [jnp.zeros((1, 2, 2, 1))] * 4, None)
