"""Guards the network: Figure 2's counts and sizes, section 5's initialization, and the whole against the reference.

At small width logits, loss and the gradients of all parameters are compared with `reference.network`, at test
time and in training. float32 may deviate from float64 by 1e-5 of an array's largest value (measured: below
1e-6).
"""

import dataclasses
import math
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
from configs import table_of
from ml_collections import ConfigDict

from alexnet_jax.config import network_config
from alexnet_jax.model.alexnet import AlexNet, classes_of, initial_parameters
from alexnet_jax.model.columns import Columns
from alexnet_jax.model.figure_2 import figure_2
from alexnet_jax.model.half_precision import narrowed, widened
from alexnet_jax.model.layer_specs import (
    Convolution,
    Dense,
    Dropout,
    Exchange,
    Flatten,
    LocalResponseNormalization,
    MaxPooling,
    ReLU,
)
from alexnet_jax.runtime.errors import UserError

TOLERANCE = 1e-5
LEARNED = ('conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'fc6', 'fc7', 'fc8')

# Maps of 16, 8, 8, 4, 4 and 2 pixels, where every kind of window overhangs once: conv1's and all three pools'.
CROP, BATCH, CLASSES = 70, 3, 6
WIDTHS = {
    'conv1': {'kernels': 8, 'std': 0.05},
    'conv2': {'kernels': 16, 'std': 0.1},
    'conv3': {'kernels': 12, 'std': 0.1},
    'conv4': {'kernels': 12, 'std': 0.1},
    'conv5': {'kernels': 8, 'std': 0.1},
    'fc6': {'units': 16, 'std': 0.1},
    'fc7': {'units': 16, 'std': 0.1},
    'fc8': {'std': 0.2},
}


@pytest.fixture(autouse=True, scope='module')
def how_to_compile():
    """No TF32 on a GPU, where these tests may run too."""
    with jax.default_matmul_precision('highest'):
        yield


def small_layers(classes=CLASSES):
    lines = figure_2(classes)
    return lines | {name: dataclasses.replace(lines[name], **width) for name, width in WIDTHS.items()}


def as_table(lines):
    return tuple(lines.items())


SMALL = as_table(small_layers())


def small_batch(batch=BATCH):
    generator = np.random.default_rng(0)
    # Sized as images are whose mean has been subtracted: so that the paper's alpha matters in LRN.
    images = np.float32(50 * generator.standard_normal((batch, CROP, CROP, 3)))
    return images, generator.integers(0, CLASSES, batch), generator.integers(0, 2**32, batch, dtype=np.uint32)


def lines_of(network, params, images, seeds=None):
    """The values of every column after each line of the table."""
    _, state = network.apply({'params': params}, images, dropout_seeds=seeds, mutable=['intermediates'])
    return {name.removeprefix('after_'): values for name, (values,) in state['intermediates'].items()}


def shapes_at_full_size(columns):
    network = AlexNet(as_table(figure_2()), Columns(columns, columns))
    images = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    params = jax.eval_shape(lambda images: network.init(jax.random.key(0), images)['params'], images)
    logits = jax.eval_shape(lambda p, x: network.apply({'params': p}, x), params, images)
    return params, logits, jax.eval_shape(lambda p, x: lines_of(network, p, x), params, images)


# --- Figure 2 ---


PAPER_COUNTS = {
    'conv1': 34_944,
    'conv2': 307_456,
    'conv3': 885_120,
    'conv4': 663_936,
    'conv5': 442_624,
    'fc6': 37_752_832,
    'fc7': 16_781_312,
    'fc8': 4_097_000,
}


def test_parameter_count_of_two_columns():
    params, _, _ = shapes_at_full_size(2)
    counts = {name: sum(math.prod(p.shape) for p in layer.values()) for name, layer in params.items()}
    assert counts == PAPER_COUNTS
    assert sum(counts.values()) == 60_965_224
    assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype('float32')}


def test_parameter_count_of_one_column():
    params, _, _ = shapes_at_full_size(1)
    assert sum(math.prod(p.shape) for p in jax.tree.leaves(params)) == 62_378_344


def test_kernels_see_what_figure_2_says():
    params, _, _ = shapes_at_full_size(2)
    assert {name: layer['kernel'].shape for name, layer in params.items()} == {
        'conv1': (2, 11, 11, 3, 48),
        'conv2': (2, 5, 5, 48, 128),
        'conv3': (2, 3, 3, 256, 192),
        'conv4': (2, 3, 3, 192, 192),
        'conv5': (2, 3, 3, 192, 128),
        'fc6': (2, 9216, 2048),
        'fc7': (2, 4096, 2048),
        'fc8': (2, 4096, 500),
    }
    for layer in params.values():
        assert layer['bias'].shape == (2, layer['kernel'].shape[-1])


@pytest.mark.parametrize('columns', [1, 2])
def test_map_sizes(columns):
    _, logits, lines = shapes_at_full_size(columns)
    assert logits.shape == (2, 1000)
    assert {len(values) for values in lines.values()} == {columns}
    maps = {
        'conv1': (55, 96),
        'pool1': (27, 96),
        'conv2': (27, 256),
        'pool2': (13, 256),
        'conv3': (13, 384),
        'conv4': (13, 384),
        'conv5': (13, 256),
        'pool5': (6, 256),
    }
    for name, (side, kernels) in maps.items():
        assert lines[name][0].shape == (2, side, side, kernels // columns), name
    assert [lines[name][0].shape[1] * columns for name in ('flatten5', 'fc6', 'fc7', 'fc8')] == [9216, 4096, 4096, 1000]
    assert [lines[f'exchange{i}'][0].shape[-1] for i in (3, 6, 7, 8)] == [256, 9216, 4096, 4096]


# --- Initialization ---


def test_initialization_is_section_5s():
    lines = figure_2()
    lines |= {name: dataclasses.replace(lines[name], units=512) for name in ('fc6', 'fc7')}  # narrower, to be quick
    params = initial_parameters(as_table(lines), 2, 224, seed=3)
    for name in LEARNED:
        kernel, bias = np.asarray(params[name]['kernel']), params[name]['bias']
        for column in kernel:
            sample = column.ravel()[:300_000]
            assert abs(sample.std() / 0.01 - 1) < 0.03, name
            assert abs(sample.mean()) < 5 * 0.01 / math.sqrt(sample.size), name
            assert abs(np.mean(np.abs(sample) < 0.01) - 0.6827) < 0.02, name  # a normal distribution, not cut off
        assert abs(np.corrcoef(kernel[0].ravel()[:10_000], kernel[1].ravel()[:10_000])[0, 1]) < 0.05, name
        value = 1.0 if name in ('conv2', 'conv4', 'conv5', 'fc6', 'fc7') else 0.0
        np.testing.assert_array_equal(bias, np.full(bias.shape, value), err_msg=name)


FEW_LINES = (
    ('conv', Convolution(kernels=64, size=5, std=0.3, bias=0.25)),
    ('flatten', Flatten()),
    ('fc', Dense(units=10, std=0.02, bias=-1.0)),
)


def test_initialization_takes_each_layers_own_std_and_bias():
    params = initial_parameters(FEW_LINES, 2, 8, seed=0)
    assert abs(np.std(params['conv']['kernel']) / 0.3 - 1) < 0.05
    assert abs(np.std(params['fc']['kernel']) / 0.02 - 1) < 0.05
    assert set(np.ravel(params['conv']['bias'])) == {0.25}
    assert set(np.ravel(params['fc']['bias'])) == {-1.0}


def test_initialization_depends_on_the_seed_alone():
    first, again, other = (initial_parameters(FEW_LINES, 2, 8, seed) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    for name in ('conv', 'fc'):
        assert np.mean(np.asarray(first[name]['kernel']) == np.asarray(other[name]['kernel'])) < 0.01, name


# --- The whole against the reference ---


def drawn_parameters(table, columns):
    """Arrays of the right shapes and spreads from NumPy, so that nothing has to be compiled.

    Biases differ from unit to unit, so that one mistaken for another shows.
    """
    network = AlexNet(table, Columns(columns, columns))
    images = jax.ShapeDtypeStruct((1, CROP, CROP, 3), jnp.float32)
    shapes = jax.eval_shape(lambda images: network.init(jax.random.key(0), images)['params'], images)
    generator, lines = np.random.default_rng(5), dict(table)

    def draw(shape, mean, std):
        return np.float32(mean + std * generator.standard_normal(shape.shape))

    return {
        name: {
            'kernel': draw(shapes[name]['kernel'], 0.0, lines[name].std),
            'bias': draw(shapes[name]['bias'], lines[name].bias, 0.1),
        }
        for name in LEARNED
    }


def in_float64(params):
    return jax.tree.map(lambda p: np.asarray(p, float), params)


def logits_loss_gradients(network, params, images, labels, seeds=None):
    @jax.jit
    def compute(params, images, seeds):
        def loss(params):
            logits = network.apply({'params': params}, images, dropout_seeds=seeds)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

        (value, logits), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        return logits, value, gradients

    return compute(params, images, seeds)


def keep_masks(seeds, name, columns, units, rate=0.5):
    """Which values `name` keeps, by the documented draw: by example, then layer, then column."""

    def keep(seed, column):
        key = jax.random.key(seed)
        for number in (zlib.crc32(name.encode()), column):
            key = jax.random.fold_in(key, number)
        return jax.random.bernoulli(key, 1 - rate, (units // columns,))

    return np.array([[keep(seed, column) for seed in seeds] for column in range(columns)])


def check_against_reference(lines, columns, training, normalization='after ReLU', rate=0.5):
    table, classes = as_table(lines), lines['fc8'].units
    images, labels, seeds = small_batch()
    labels = labels % classes
    params = drawn_parameters(table, columns)
    network = AlexNet(table, Columns(columns, columns))
    masks = {name: keep_masks(seeds, name, columns, 16, rate) for name in ('drop6', 'drop7')} if training else None
    logits, loss, gradients = logits_loss_gradients(network, params, images, labels, seeds if training else None)
    right_logits, right_loss, right_gradients = reference.network(
        in_float64(params), images.astype(float), labels, classes, masks, normalization, rate
    )
    assert logits.shape == (BATCH, classes)
    assert logits.dtype == jnp.float32
    assert reference.relative_error(logits, right_logits) < TOLERANCE
    assert abs(float(loss) / right_loss - 1) < TOLERANCE
    assert set(gradients) == set(LEARNED)
    for name in LEARNED:
        for kind in ('kernel', 'bias'):
            gradient, right = gradients[name][kind], right_gradients[name][kind]
            assert np.abs(right).max() > 1e-5, (name, kind)  # else the comparison means nothing
            assert reference.relative_error(gradient, right) < TOLERANCE, (name, kind)


@pytest.mark.parametrize('training', [False, True], ids=['test time', 'training'])
@pytest.mark.parametrize('columns', [2, 1])
def test_network_against_the_reference(columns, training):
    check_against_reference(small_layers(), columns, training)


def test_classes_need_not_divide_among_columns():
    check_against_reference(small_layers(classes=5), 2, training=False)


def test_dropout_with_another_rate_in_training():
    lines = small_layers() | {'drop6': Dropout(rate=0.25), 'drop7': Dropout(rate=0.25)}
    check_against_reference(lines, 2, training=True, rate=0.25)


def test_network_without_normalization():
    lines = {name: line for name, line in small_layers().items() if name not in ('norm1', 'norm2')}
    check_against_reference(lines, 2, training=False, normalization=None)


def test_network_with_normalization_before_the_relu():
    lines = small_layers()
    swap = {'relu1': 'norm1', 'norm1': 'relu1', 'relu2': 'norm2', 'norm2': 'relu2'}
    swapped = {swap.get(name, name): lines[swap.get(name, name)] for name in lines}
    assert list(swapped)[:4] == ['conv1', 'norm1', 'relu1', 'pool1']
    check_against_reference(swapped, 2, training=False, normalization='before ReLU')


@pytest.mark.parametrize(
    'normalization, training', [('after ReLU', True), ('after ReLU', False), ('before ReLU', True), (None, False)]
)
def test_reference_network_against_central_differences(normalization, training):
    images, labels, seeds = small_batch(2)
    images, labels = images.astype(float), labels % 5
    params = in_float64(drawn_parameters(as_table(small_layers(5)), 2))
    masks = {name: keep_masks(seeds, name, 2, 16) for name in ('drop6', 'drop7')} if training else None
    _, _, gradients = reference.network(params, images, labels, 5, masks, normalization)
    generator = np.random.default_rng(2)
    for name in LEARNED:
        for kind in ('kernel', 'bias'):
            p = params[name][kind]

            def loss(p, name=name, kind=kind):
                changed = params | {name: params[name] | {kind: p}}
                return reference.network(changed, images, labels, 5, masks, normalization)[1]

            # Along the gradient, where most is at stake, and a little aside.
            direction = gradients[name][kind] / np.linalg.norm(gradients[name][kind])
            direction = direction + 0.3 * generator.standard_normal(p.shape) / math.sqrt(p.size)
            numeric = reference.directional_derivative(loss, p, direction, step=1e-6)
            assert abs(numeric / np.sum(gradients[name][kind] * direction) - 1) < 1e-5, (name, kind)


# --- Columns and dropout ---


@pytest.fixture(scope='module')
def small():
    """The network of two columns, its parameters, images and seeds of dropout, and every line in training."""
    network, params = AlexNet(SMALL, Columns(2, 2)), drawn_parameters(SMALL, 2)
    images, _, seeds = small_batch()
    lines = jax.jit(lambda *arguments: lines_of(network, *arguments))
    return network, params, images, seeds, lines


def test_columns_meet_at_exchanges_only(small):
    """Changing column 2's first kernels changes nothing in column 1 before conv3, and everything from there."""
    _, params, images, _, lines = small

    def other_second_column(name):
        sign = np.float32([1, -1]).reshape(2, 1, 1, 1, 1)
        return params | {name: params[name] | {'kernel': params[name]['kernel'] * sign}}

    before, after = lines(params, images), lines(other_second_column('conv1'), images)
    for name in ('conv1', 'norm1', 'pool1', 'conv2', 'relu2', 'norm2', 'pool2'):
        np.testing.assert_array_equal(before[name][0], after[name][0])
        assert not np.array_equal(before[name][1], after[name][1])
    for name in ('conv3', 'conv4', 'conv5', 'fc6', 'fc7', 'fc8'):
        assert not np.array_equal(before[name][0], after[name][0])
    # Between exchanges they are apart again: conv4's second column does not reach the first's conv5.
    after = lines(other_second_column('conv4'), images)
    np.testing.assert_array_equal(before['pool5'][0], after['pool5'][0])
    assert not np.array_equal(before['fc6'][0], after['fc6'][0])


def test_exchange_puts_column_1_first(small):
    _, params, images, _, lines = small
    seen = lines(params, images)
    for exchange, source in [('exchange3', 'pool2'), ('exchange6', 'flatten5'), ('exchange8', 'drop7')]:
        for column in range(2):
            np.testing.assert_array_equal(seen[exchange][column], np.concatenate(seen[source], axis=-1))
    np.testing.assert_array_equal(seen['flatten5'][1], np.reshape(seen['pool5'][1], (BATCH, -1)))


def test_an_exchange_rounds_to_its_precision(small):
    _, params, images, _, _ = small
    network = AlexNet(dict(SMALL) | {'exchange3': Exchange(precision='float16')}, Columns(2, 2))
    seen = jax.jit(lambda *arguments: lines_of(network, *arguments))(params, images)
    joined = np.concatenate(seen['pool2'], axis=-1)
    rounded = joined.astype(np.float16).astype(np.float32)
    assert not np.array_equal(rounded, joined)
    for column in range(2):
        np.testing.assert_array_equal(seen['exchange3'][column], rounded)
    np.testing.assert_array_equal(seen['exchange6'][0], np.concatenate(seen['flatten5'], axis=-1))


def test_gradients_cross_in_half_precision_as_those_of_a_sum_over_images(small):
    """Those of a mean over a large batch would be below float16's smallest number with all bits."""
    rng = np.random.default_rng(3)
    x, weights = (rng.normal(size=shape).astype(np.float32) for shape in ((128, 5), (128, 5)))
    split = Columns(1, 1)

    def loss(x, cross):
        return (cross(x) * weights).sum() * 1e-6 / len(x)

    def crossed(x):
        return widened(split.exchange([narrowed(x, 'float16')]), x.dtype)

    value, gradient = jax.value_and_grad(loss)(x, crossed)
    rounded = (1e-6 * weights).astype(np.float16).astype(np.float64) / 128
    np.testing.assert_allclose(gradient, rounded, rtol=1e-6)
    assert (crossed(x) == x.astype(np.float16).astype(np.float32)).all() and value == loss(x, crossed)


def test_lines_show_the_draws_of_dropout(small):
    _, params, images, seeds, lines = small
    seen = lines(params, images, seeds)
    for drop, relu in [('drop6', 'relu6'), ('drop7', 'relu7')]:
        masks = keep_masks(seeds, drop, 2, 16)
        assert 0.2 < masks.mean() < 0.8
        for column in range(2):
            np.testing.assert_array_equal(seen[drop][column], np.where(masks[column], seen[relu][column], 0))
    at_test = lines(params, images)
    np.testing.assert_array_equal(at_test['drop6'][0], 0.5 * at_test['relu6'][0])


def test_draws_differ_between_layers_columns_and_examples():
    _, _, seeds = small_batch()
    masks = [
        keep_masks(seeds, name, 2, 128)[column, i] for name in ('drop6', 'drop7') for column in (0, 1) for i in (0, 1)
    ]
    assert len({mask.tobytes() for mask in masks}) == len(masks)


def test_an_example_gives_the_same_wherever_it_stands(small):
    network, params, images, seeds, _ = small
    apply = jax.jit(lambda images, seeds: network.apply({'params': params}, images, dropout_seeds=seeds))
    logits = apply(images, seeds)
    order = np.array([2, 0, 1])
    np.testing.assert_allclose(apply(images[order], seeds[order]), logits[order], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(apply(images[1:2], seeds[1:2]), logits[1:2], rtol=1e-5, atol=1e-5)
    assert np.abs(apply(images, seeds[order]) - logits).max() > 1e-2


# --- bfloat16 ---


def test_bfloat16_activations():
    images, labels, seeds = small_batch()
    params = drawn_parameters(SMALL, 2)
    half = AlexNet(SMALL, Columns(2, 2), dtype=jnp.bfloat16)
    logits, loss, gradients = logits_loss_gradients(half, params, images, labels, seeds)
    full_logits, full_loss, full_gradients = logits_loss_gradients(
        AlexNet(SMALL, Columns(2, 2)), params, images, labels, seeds
    )
    assert logits.dtype == loss.dtype == jnp.float32
    assert {g.dtype for g in jax.tree.leaves(gradients)} == {jnp.dtype('float32')}
    assert 0 < reference.relative_error(logits, full_logits) < 0.03
    assert abs(loss - full_loss) < 0.03 * full_loss
    for name in LEARNED:
        gradient, full = (np.ravel(g[name]['kernel']) for g in (gradients, full_gradients))
        assert gradient @ full / np.linalg.norm(gradient) / np.linalg.norm(full) > 0.97, name
    initial = jax.eval_shape(half.init, jax.random.key(0), jax.ShapeDtypeStruct(images.shape, jnp.float32))['params']
    assert {p.dtype for p in jax.tree.leaves(initial)} == {jnp.dtype('float32')}
    inside = jax.eval_shape(lambda p, x: lines_of(half, p, x), params, images)
    assert {value.dtype for value in jax.tree.leaves(inside)} == {jnp.dtype('bfloat16')}


# --- Tables and what is refused ---


@pytest.mark.parametrize('lines', [figure_2(), figure_2(10), small_layers()], ids=['figure 2', 'ten classes', 'small'])
def test_table_survives_being_a_config(lines):
    config = network_config(lines)
    assert table_of(config) == as_table(lines)
    assert list(config) == list(lines)  # in order


def test_table_of_every_type_survives_being_a_config():
    lines = {
        'a': Convolution(kernels=4, size=3, stride=2, pad=1, std=0.5, bias=0.25, rounding='down', far_pad=2),
        'b': ReLU(),
        'c': LocalResponseNormalization(k=1.0, n=3, alpha=0.5, beta=0.25, across_columns=True),
        'd': MaxPooling(size=2, stride=1, rounding='down'),
        'e': Exchange(),
        'f': Flatten(),
        'g': Dropout(rate=0.25),
        'h': Dense(units=2, std=0.5, bias=0.25),
    }
    assert table_of(network_config(lines)) == as_table(lines)


def test_table_can_be_changed_as_a_config():
    config = network_config(figure_2())
    config.conv1.kernels = 48
    del config.norm1
    table = dict(table_of(config))
    assert table['conv1'] == Convolution(kernels=48, size=11, stride=4)
    assert 'norm1' not in table
    assert table['norm2'] == LocalResponseNormalization()


def test_table_fills_in_defaults():
    config = ConfigDict({'conv1': {'type': 'convolution', 'kernels': 4, 'size': 3}})
    assert table_of(config) == (('conv1', Convolution(kernels=4, size=3)),)


@pytest.mark.parametrize(
    'line, named',
    [
        ({'type': 'deconvolution'}, [r'config.network.conv9', "'deconvolution'", 'max_pooling']),
        ({'kernels': 4}, ['config.network.conv9', 'unknown layer type']),
        (
            {'type': 'convolution', 'kernels': 4, 'size': 3, 'strides': 2},
            ['config.network.conv9.strides', "'stride'"],
        ),
        ({'type': 'relu', 'slope': 0.1}, ['config.network.conv9.slope', 'none']),
        ({'type': 'convolution', 'kernels': 4}, ['config.network.conv9.size is missing']),
        ({'type': 'dense'}, ['config.network.conv9.units is missing']),
    ],
)
def test_from_config_refuses(line, named):
    with pytest.raises(UserError) as error:
        table_of(ConfigDict({'conv9': line}))
    for part in named:
        assert part in str(error.value)


def trace(lines, columns=2, crop=CROP):
    network = AlexNet(as_table(lines), Columns(columns, columns))
    jax.eval_shape(network.init, jax.random.key(0), jax.ShapeDtypeStruct((1, crop, crop, 3), jnp.float32))


@pytest.mark.parametrize(
    'name, change, field',
    [
        ('conv1', {'kernels': 7}, 'config.network.conv1.kernels=7'),
        ('conv5', {'kernels': 9}, 'config.network.conv5.kernels=9'),
        ('fc6', {'units': 15}, 'config.network.fc6.units=15'),
    ],
)
def test_what_does_not_divide_among_columns_is_refused(name, change, field):
    lines = small_layers()
    lines[name] = dataclasses.replace(lines[name], **change)
    with pytest.raises(UserError) as error:
        trace(lines)
    assert field in str(error.value)
    trace(lines, columns=1)  # one column takes any number


@pytest.mark.parametrize('crop, name', [(5, 'conv1'), (15, 'pool2'), (31, 'pool5')])
def test_windows_that_do_not_fit_are_refused(crop, name):
    with pytest.raises(UserError) as error:
        trace(small_layers(), crop=crop)
    assert f'config.network.{name}' in str(error.value)
    assert 'config.data.crop_size' in str(error.value)


def test_pooling_a_vector_is_refused():
    lines = {'flatten': Flatten(), 'pool': MaxPooling(), 'fc': Dense(units=2)}
    with pytest.raises(UserError, match=r'config\.network\.pool'):
        trace(lines)


@pytest.mark.parametrize('lines', [{}, {'fc': Dense(units=4), 'relu': ReLU()}])
def test_a_table_without_logits_is_refused(lines):
    with pytest.raises(UserError, match=r'config\.network: the last layer must be of type dense'):
        classes_of(as_table(lines))


def test_a_network_whose_last_layer_is_not_dense_is_refused():
    lines = small_layers()
    del lines['fc8']
    with pytest.raises(UserError, match='exchange8'):
        trace(lines)


def test_classes_of():
    assert classes_of(as_table(figure_2())) == 1000
    assert classes_of(SMALL) == CLASSES
