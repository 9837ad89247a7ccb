"""Guards each operation of `layers.py`: values and gradients against the float64 reference, and what they promise.

float32 results may deviate from the reference by 1e-5 of its largest value (measured: below 6e-7).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from alexnet_jax.model import layers
from alexnet_jax.model.fft_convolution import cpu_convolution
from alexnet_jax.model.layer_specs import outputs_along

TOLERANCE = 1e-5


@pytest.fixture(autouse=True, scope='module')
def how_to_compile():
    """No TF32 on a GPU, where these tests may run too."""
    with jax.default_matmul_precision('highest'):
        yield


def draws(seed, *shapes):
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(shape) for shape in shapes]


def check(function, right, *inputs):
    """Compares values, and gradients along a random cotangent, of two functions of the same inputs."""
    # Both get the same numbers: those that float32 can hold.
    inputs = [np.float32(x) for x in inputs]
    right_y, right_back = right(*[x.astype(float) for x in inputs])
    cotangent = np.float32(draws(99, right_y.shape)[0])

    @jax.jit
    def value_and_gradients(cotangent, *inputs):
        y, vjp = jax.vjp(function, *inputs)
        return y, vjp(cotangent)

    y, gradients = value_and_gradients(cotangent, *inputs)
    assert y.dtype == jnp.float32
    assert reference.relative_error(y, right_y) < TOLERANCE
    right_gradients = right_back(cotangent.astype(float))
    if len(inputs) == 1:
        right_gradients = (right_gradients,)
    for gradient, right_gradient in zip(gradients, right_gradients, strict=True):
        assert reference.relative_error(gradient, right_gradient) < TOLERANCE


def check_reference(operation, *inputs):
    """Compares every gradient of a reference operation with central differences, one number at a time."""
    y, back = operation(*inputs)
    (cotangent,) = draws(98, np.shape(y))
    gradients = back(cotangent)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    for position, (x, gradient) in enumerate(zip(inputs, gradients, strict=True)):

        def value(x, position=position):
            return np.sum(cotangent * operation(*inputs[:position], x, *inputs[position + 1 :])[0])

        numeric = np.empty(x.shape)
        for index in np.ndindex(x.shape):
            direction = np.zeros(x.shape)
            direction[index] = 1.0
            numeric[index] = reference.directional_derivative(value, x, direction)
        assert reference.relative_error(gradient, numeric) < 1e-7


REFERENCE_CASES = {
    'convolution, overhanging': (
        lambda x, w, b: reference.convolution(x, w, b, stride=3, pad=1),
        [(2, 7, 6, 2), (4, 4, 2, 3), (3,)],
    ),
    'convolution, rounded down': (
        lambda x, w, b: reference.convolution(x, w, b, stride=3, pad=1, rounding='down', far_pad=0),
        [(2, 9, 6, 2), (4, 4, 2, 3), (3,)],
    ),
    'convolution, padded': (lambda x, w, b: reference.convolution(x, w, b, pad=2), [(2, 4, 5, 2), (5, 5, 2, 2), (2,)]),
    'dense': (reference.dense, [(3, 4), (4, 5), (5,)]),
    'relu': (reference.relu, [(3, 7)]),
    'normalization': (
        lambda a: reference.local_response_normalization(a, k=1.5, n=5, alpha=0.7, beta=0.75),
        [(2, 2, 2, 8)],
    ),
    'normalization, few channels': (
        lambda a: reference.local_response_normalization(a, k=1.0, n=5, alpha=0.7, beta=0.5),
        [(2, 2, 2, 2)],
    ),
    'spatial normalization': (
        lambda a: reference.spatial_normalization(a, k=1.5, size=3, alpha=0.7, beta=0.75),
        [(2, 3, 4, 2)],
    ),
    'tanh': (reference.tanh, [(3, 7)]),
    'locally connected, overhanging': (
        lambda x, w, b: reference.locally_connected(x, w, b, size=3, stride=2, pad=1),
        [(2, 4, 5, 2), (3, 3, 18, 2), (3, 3, 2)],  # 1 + ceil(3 / 2) places, and 1 + 4 / 2
    ),
    'average pooling, overhanging': (lambda x: reference.average_pooling(x, size=3, stride=2), [(2, 6, 8, 2)]),
    'average pooling, rounded down': (
        lambda x: reference.average_pooling(x, size=3, stride=2, rounding='down'),
        [(2, 6, 8, 2)],
    ),
    'pooling, rounded down': (lambda x: reference.max_pooling(x, size=3, stride=2, rounding='down'), [(2, 6, 8, 2)]),
    'pooling, overhanging': (lambda x: reference.max_pooling(x, size=3, stride=2), [(2, 6, 8, 2)]),
    'dropout, training': (lambda x: reference.dropout(x, np.eye(3, 5) == 1), [(3, 5)]),
    'dropout, test': (lambda x: reference.dropout(x, rate=0.3), [(3, 5)]),
    'loss': (lambda z: reference.softmax_cross_entropy(z, [1, 0, 3]), [(3, 4)]),
}


@pytest.mark.parametrize('name', REFERENCE_CASES)
def test_reference_against_central_differences(name):
    operation, shapes = REFERENCE_CASES[name]
    check_reference(operation, *draws(1, *shapes))


def test_reference_convolution_against_the_sum_it_stands_for():
    x, kernel, bias = draws(2, (1, 6, 6, 2), (3, 3, 2, 2), (2,))
    y, _ = reference.convolution(x, kernel, bias, stride=2)
    assert y.shape == (1, 3, 3, 2)  # 1 + ceil(3 / 2)
    for r, c, k in np.ndindex(3, 3, 2):
        total = bias[k]
        for i, j, channel in np.ndindex(3, 3, 2):
            if 2 * r + i < 6 and 2 * c + j < 6:  # what lies past the edge is zero
                total += x[0, 2 * r + i, 2 * c + j, channel] * kernel[i, j, channel, k]
        assert abs(y[0, r, c, k] - total) < 1e-12


@pytest.mark.parametrize(
    'length, size, stride, pad, outputs',
    [
        (224, 11, 4, 0, 55),
        (227, 11, 4, 0, 55),
        (55, 3, 2, 0, 27),
        (27, 5, 1, 2, 27),
        (27, 3, 2, 0, 13),
        (13, 3, 1, 1, 13),
        (13, 3, 2, 0, 6),
        (27, 5, 1, 1, 25),
        (55, 2, 2, 0, 28),  # the last window holds one pixel
        (11, 11, 4, 0, 1),
        (12, 11, 4, 0, 2),
        (2, 3, 1, 1, 2),
        (10, 11, 4, 0, 1),  # less than a stride short of a window: it overhangs, as any last one may
        (7, 11, 4, 0, 0),
    ],
)
def test_outputs_along(length, size, stride, pad, outputs):
    assert outputs_along(length, size, stride, pad) == outputs
    assert reference.outputs_along(length, size, stride, pad) == outputs


@pytest.mark.parametrize(
    'length, size, stride, pad, far_pad, outputs',
    [
        (224, 11, 4, 2, None, 55),  # torchvision's conv1
        (224, 11, 4, 0, None, 54),  # that of ONNX's model zoo
        (224, 11, 4, 0, 3, 55),  # the paper's, as other software says it
        (54, 3, 2, 0, None, 26),
        (8, 3, 2, 1, 0, 4),
        (2, 3, 2, 0, None, 0),
        (10, 11, 4, 0, None, 0),
    ],
)
def test_outputs_along_rounded_down(length, size, stride, pad, far_pad, outputs):
    assert outputs_along(length, size, stride, pad, rounding='down', far_pad=far_pad) == outputs
    assert reference.outputs_along(length, size, stride, pad, 'down', far_pad) == outputs


def test_map_sizes_of_the_paper():
    def maps(x):
        seen = []
        for size, stride, pad, pool in [(11, 4, 0, True), (5, 1, 2, True), (3, 1, 1, False), (3, 1, 1, True)]:
            kernel = jnp.zeros((size, size, x.shape[-1], 2))
            x = layers.convolution(x, kernel, jnp.zeros(2), stride=stride, pad=pad)
            seen.append(x)
            if pool:
                x = layers.max_pooling(x, size=3, stride=2)
                seen.append(x)
        return seen

    shapes = jax.eval_shape(maps, jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32))
    assert [s.shape[1:3] for s in shapes] == [(n, n) for n in (55, 27, 27, 13, 13, 13, 6)]


@pytest.mark.parametrize(
    'height, width, channels, size, stride, pad',
    [
        (35, 35, 3, 11, 4, 0),  # like conv1: divides, as 227 does
        (20, 20, 3, 11, 4, 0),  # as 224: the last window overhangs by 3
        (17, 18, 3, 11, 4, 0),  # by 2 and by 1
        (19, 24, 3, 11, 4, 0),  # divides along one side only
        (7, 9, 4, 5, 1, 2),  # like conv2
        (7, 7, 4, 5, 1, 1),  # conv2 of the network that pools 2/2
        (6, 5, 6, 3, 1, 1),  # like conv3
        (8, 7, 2, 4, 3, 1),  # padded before, and overhanging or not
        (6, 6, 2, 3, 1, 0),
        (5, 4, 3, 1, 1, 0),
        (4, 4, 2, 2, 3, 0),  # windows apart from each other
    ],
)
def test_convolution(height, width, channels, size, stride, pad):
    shapes = (2, height, width, channels), (size, size, channels, 5), (5,)
    check(
        lambda x, w, b: layers.convolution(x, w, b, stride=stride, pad=pad),
        lambda x, w, b: reference.convolution(x, w, b, stride=stride, pad=pad),
        *draws(3, *shapes),
    )


@pytest.mark.parametrize('far_pad', [None, 0, 3])
@pytest.mark.parametrize('rounding', ['up', 'down'])
@pytest.mark.parametrize('height, width, size, stride, pad', [(20, 18, 11, 4, 2), (8, 7, 4, 3, 1), (6, 5, 3, 1, 1)])
def test_convolution_with_the_edges_of_other_software(height, width, size, stride, pad, rounding, far_pad):
    edges = {'stride': stride, 'pad': pad, 'rounding': rounding, 'far_pad': far_pad}
    inputs = draws(21, (2, height, width, 3), (size, size, 3, 5), (5,))
    right = functools.partial(reference.convolution, **edges)
    check(lambda x, w, b: layers.convolution(x, w, b, **edges), right, *inputs)
    check(lambda x, w, b: cpu_convolution([x], w[None], b[None], **edges)[0], right, *inputs)


@pytest.mark.parametrize(
    'height, width, channels, size, stride, pad',
    [
        (6, 6, 4, 3, 1, 1),  # like local3 and local4
        (7, 6, 3, 3, 2, 0),  # divides along one side, overhangs along the other
        (8, 7, 2, 4, 3, 1),
        (4, 5, 2, 1, 1, 0),
        (4, 4, 2, 2, 3, 0),  # windows apart from each other
        (3, 3, 2, 3, 1, 0),  # one place
    ],
)
def test_locally_connected(height, width, channels, size, stride, pad):
    places = [reference.outputs_along(length, size, stride, pad) for length in (height, width)]
    shapes = (2, height, width, channels), (*places, size * size * channels, 5), (*places, 5)
    check(
        lambda x, w, b: layers.locally_connected(x, w, b, size=size, stride=stride, pad=pad),
        lambda x, w, b: reference.locally_connected(x, w, b, size=size, stride=stride, pad=pad),
        *draws(17, *shapes),
    )


def test_locally_connected_with_the_same_kernels_everywhere_is_a_convolution():
    x, kernel, bias = (jnp.float32(d) for d in draws(18, (2, 7, 8, 3), (3, 3, 3, 4), (4,)))
    rows, columns = 4, 5  # 1 + ceil(6 / 2), 1 + ceil(7 / 2)
    everywhere = jnp.broadcast_to(kernel.reshape(-1, 4), (rows, columns, 27, 4))
    biases = jnp.broadcast_to(bias, (rows, columns, 4))
    y = jax.jit(lambda *a: layers.locally_connected(*a, size=3, stride=2, pad=1))(x, everywhere, biases)
    assert reference.relative_error(y, layers.convolution(x, kernel, bias, stride=2, pad=1)) < TOLERANCE


def test_dense():
    check(layers.dense, reference.dense, *draws(4, (6, 40), (40, 7), (7,)))


def test_relu():
    check(layers.relu, reference.relu, *draws(5, (4, 5, 5, 3)))


def test_tanh():
    check(layers.tanh, reference.tanh, *draws(5, (4, 5, 5, 3)))


def test_relu_has_no_slope_at_zero():
    np.testing.assert_array_equal(jax.vmap(jax.grad(layers.relu))(jnp.array([-1.0, 0.0, 1.0])), [0.0, 0.0, 1.0])


@pytest.mark.parametrize('channels', [1, 2, 4, 5, 6, 16])
@pytest.mark.parametrize(
    'k, n, alpha, beta',
    [(2.0, 5, 1e-4, 0.75), (2.0, 5, 0.5, 0.75), (1.0, 3, 2.0, 0.5), (1.0, 9, 0.3, 1.0), (2.0, 4, 0.5, 0.75)],
)
def test_local_response_normalization(channels, k, n, alpha, beta):
    constants = {'k': k, 'n': n, 'alpha': alpha, 'beta': beta}
    check(
        lambda a: layers.local_response_normalization(a, **constants),
        lambda a: reference.local_response_normalization(a, **constants),
        *draws(6, (2, 3, 3, channels)),
    )


def test_local_response_normalization_at_the_scale_of_activations():
    """Values in the hundreds, as conv1 gives them: there the paper's alpha matters."""
    (a,) = draws(7, (2, 3, 3, 48))
    check(
        lambda a: layers.local_response_normalization(a, k=2.0, n=5, alpha=1e-4, beta=0.75),
        reference.local_response_normalization,
        300 * np.abs(a),
    )


@pytest.mark.parametrize('height, width', [(1, 1), (2, 7), (6, 5)])
@pytest.mark.parametrize('k, size, alpha, beta', [(1.0, 5, 0.001 / 25, 0.75), (1.0, 5, 0.5, 0.75), (2.0, 3, 2.0, 0.5)])
def test_spatial_normalization(height, width, k, size, alpha, beta):
    constants = {'k': k, 'size': size, 'alpha': alpha, 'beta': beta}
    check(
        lambda a: layers.spatial_normalization(a, **constants),
        lambda a: reference.spatial_normalization(a, **constants),
        *draws(8, (2, height, width, 3)),
    )


def test_spatial_normalization_keeps_to_its_map():
    a = jnp.zeros((1, 7, 7, 2)).at[0, 3, 3].set(jnp.array([1.0, 3.0]))
    b = layers.spatial_normalization(a.at[0, 3, 5, 0].set(1.0), k=1.0, size=5, alpha=1.0, beta=1.0)
    assert (float(b[0, 3, 3, 0]), float(b[0, 3, 3, 1])) == (pytest.approx(1 / 3), pytest.approx(3 / 10))


def test_local_response_normalization_worked_out():
    a = jnp.array([1.0, 2.0, 3.0, 4.0])
    b = layers.local_response_normalization(a, k=1.0, n=3, alpha=1.0, beta=1.0)
    np.testing.assert_allclose(b, [1 / 6, 2 / 15, 3 / 30, 4 / 26], rtol=1e-6)


@pytest.mark.parametrize(
    'height, width, size, stride',
    [
        (7, 9, 3, 2),  # overlapping, as in the paper
        (8, 6, 3, 2),  # overhanging by one
        (8, 7, 2, 2),  # side by side; the last column holds one pixel
        (8, 8, 2, 2),
        (9, 8, 5, 3),
        (6, 6, 3, 1),
        (5, 5, 1, 1),
        (3, 3, 3, 2),
        (5, 5, 2, 3),  # windows apart from each other
    ],
)
@pytest.mark.parametrize('shift', [0.0, -10.0])
def test_max_pooling(height, width, size, stride, shift):
    # All negative with the shift: then what lies past the edge must not win.
    (x,) = draws(8, (2, height, width, 3))
    check(
        lambda x: layers.max_pooling(x, size=size, stride=stride),
        lambda x: reference.max_pooling(x, size=size, stride=stride),
        x + shift,
    )


@pytest.mark.parametrize(
    'height, width, size, stride', [(8, 6, 3, 2), (7, 8, 3, 2), (9, 8, 5, 3), (11, 9, 2, 2), (6, 6, 2, 3)]
)
@pytest.mark.parametrize('kind', ['max_pooling', 'average_pooling'])
def test_pooling_rounded_down(kind, height, width, size, stride):
    windows = {'size': size, 'stride': stride, 'rounding': 'down'}
    check(
        lambda x: getattr(layers, kind)(x, **windows),
        lambda x: getattr(reference, kind)(x, **windows),
        *draws(22, (2, height, width, 3)),
    )


def test_all_that_equal_the_largest_value_of_a_window_get_its_gradient():
    x = jnp.array([[2.0, 1.0, 2.0, 2.0, 0.0], [0.0, 2.0, 0.0, 0.0, 0.0], [1.0, 1.0, 2.0, 1.0, 0.0]])
    weights = jnp.array([[[[3.0], [5.0]]]])  # of the two windows, which share the third column of pixels
    gradient = jax.grad(lambda x: (weights * layers.max_pooling(x, size=3, stride=2)).sum())(x[None, :, :, None])
    expected = [[3.0, 0.0, 8.0, 5.0, 0.0], [0.0, 3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 8.0, 0.0, 0.0]]
    np.testing.assert_array_equal(gradient[0, :, :, 0], expected)


@pytest.mark.parametrize(
    'height, width, size, stride',
    [
        (8, 6, 2, 2),  # as in LeNet-5
        (9, 8, 2, 2),  # the last row of windows holds one row of pixels
        (8, 7, 3, 2),  # overlapping; the last row overhangs
        (9, 8, 5, 3),
        (5, 5, 1, 1),
        (3, 3, 3, 2),
    ],
)
def test_average_pooling(height, width, size, stride):
    check(
        lambda x: layers.average_pooling(x, size=size, stride=stride),
        lambda x: reference.average_pooling(x, size=size, stride=stride),
        *draws(19, (2, height, width, 3)),
    )


def test_average_pooling_averages_what_is_there():
    x = jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    y = jax.jit(lambda x: layers.average_pooling(x, size=2, stride=2))(x)
    np.testing.assert_allclose(y[0, ..., 0], [[3, 4.5], [7.5, 9]])


@pytest.mark.parametrize('rounding, side', [('up', 8), ('up', 7), ('down', 8)])
@pytest.mark.parametrize('size, stride', [(3, 2), (2, 2), (3, 1)])
def test_in_bfloat16_equal_maxima_share_a_windows_gradient(size, stride, rounding, side):
    rng = np.random.default_rng(5)
    x = jnp.asarray(rng.integers(1, 4, (2, side, side, 3)), jnp.bfloat16)  # three values: most windows have ties

    def pooled(x):
        return layers.max_pooling(x, size=size, stride=stride, rounding=rounding)

    y, backward = jax.vjp(jax.jit(pooled), x)
    expected = np.zeros(x.shape)
    for image, row, column, channel in np.ndindex(*y.shape):
        window = (
            image,
            slice(row * stride, row * stride + size),
            slice(column * stride, column * stride + size),
            channel,
        )
        largest = np.asarray(x[window] == x[window].max(), np.float64)
        expected[window] += largest / largest.sum()
    (gradient,) = backward(jnp.ones_like(y))
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(gradient, np.float64), expected, rtol=2e-2)
    assert np.asarray(gradient, np.float64).sum() == pytest.approx(y.size, rel=5e-3)


def test_average_pooling_sums_in_float32():
    x = jnp.array([[256, 1], [1, 2]], jnp.bfloat16).reshape(1, 2, 2, 1)
    # In bfloat16, which tells apart 256 and 258 only, the ones would be lost.
    assert float(jax.jit(lambda x: layers.average_pooling(x, size=2, stride=2))(x)[0, 0, 0, 0]) == 65


def keys_of(seed, count):
    return jax.random.split(jax.random.key(seed), count)


@pytest.mark.parametrize('rate', [0.5, 0.2, 0.9])
def test_dropout_in_training(rate):
    batch, units = 32, 2048
    x = jnp.float32(draws(9, (batch, units))[0] + 3 * np.pi)  # no value is 0
    keys = keys_of(0, batch)
    y, vjp = jax.vjp(lambda x: layers.dropout(x, keys, rate=rate), x)
    keep = np.asarray(y) != 0
    np.testing.assert_array_equal(y, np.where(keep, x, 0))  # kept values bit for bit, not rescaled
    cotangent = jnp.float32(draws(10, (batch, units))[0])
    np.testing.assert_array_equal(vjp(cotangent)[0], np.where(keep, cotangent, 0))
    # Frequencies within four standard deviations: overall, and for every example (five, as there are many).
    spread = np.sqrt(rate * (1 - rate))
    assert abs(keep.mean() - (1 - rate)) < 4 * spread / np.sqrt(keep.size)
    assert np.abs(keep.mean(1) - (1 - rate)).max() < 5 * spread / np.sqrt(units)
    # Independent between examples: two of them agree as often as chance has it.
    agree = np.mean(keep[:-1] == keep[1:])
    assert abs(agree - (rate**2 + (1 - rate) ** 2)) < 0.02


@pytest.mark.parametrize('rate', [0.5, 0.2, 0.0])
def test_dropout_at_test_time(rate):
    check(
        lambda x: layers.dropout(x, None, rate=rate),
        lambda x: reference.dropout(x, rate=rate),
        *draws(11, (4, 9)),
    )


def test_dropout_against_the_reference_in_training():
    keys = keys_of(1, 6)
    keep = np.asarray(layers.dropout(jnp.ones((6, 50)), keys, rate=0.5)) == 1
    check(
        lambda x: layers.dropout(x, keys, rate=0.5),
        lambda x: reference.dropout(x, keep),
        *draws(12, (6, 50)),
    )


def test_dropout_extremes():
    x = jnp.ones((3, 100))
    np.testing.assert_array_equal(layers.dropout(x, keys_of(2, 3), rate=0.0), x)
    np.testing.assert_array_equal(layers.dropout(x, keys_of(2, 3), rate=1.0), 0 * x)


def test_dropout_depends_on_the_key_and_not_on_the_place():
    x = jnp.ones((8, 64))
    keys = keys_of(3, 8)
    y = layers.dropout(x, keys, rate=0.5)
    order = np.random.default_rng(0).permutation(8)
    np.testing.assert_array_equal(layers.dropout(x, keys[order], rate=0.5), y[order])
    np.testing.assert_array_equal(layers.dropout(x[:3], keys[:3], rate=0.5), y[:3])
    np.testing.assert_array_equal(layers.dropout(x[5:6], keys[5:6], rate=0.5), y[5:6])
    assert len({row.tobytes() for row in np.asarray(y)}) == 8


def test_bfloat16_stays_bfloat16():
    kernel, bias = jnp.ones((3, 3, 4, 5)), jnp.ones(5)
    x = jnp.asarray(draws(13, (2, 8, 8, 4))[0], jnp.bfloat16)
    results = [
        layers.convolution(x, kernel, bias, stride=2, pad=1),
        jax.jit(lambda x: layers.locally_connected(x, jnp.ones((6, 6, 36, 5)), jnp.ones((6, 6, 5)), size=3))(x),
        layers.dense(x.reshape(2, -1), jnp.ones((256, 3)), jnp.ones(3)),
        layers.relu(x),
        layers.local_response_normalization(x, k=2.0, n=5, alpha=1e-4, beta=0.75),
        layers.max_pooling(x, size=3, stride=2),  # 8 pixels: the last window overhangs
        jax.jit(lambda x: layers.average_pooling(x, size=3, stride=2))(x),
        layers.dropout(x.reshape(2, -1), keys_of(4, 2), rate=0.5),
        layers.dropout(x.reshape(2, -1), None, rate=0.5),
    ]
    for result in results:
        assert result.dtype == jnp.bfloat16
        assert jnp.isfinite(result.astype(jnp.float32)).all()


@pytest.mark.parametrize('alpha', [1e-4, 0.5])
def test_bfloat16_normalization_is_only_rounded_at_its_end(alpha):
    x = jnp.asarray(10 * draws(14, (2, 4, 4, 32))[0], jnp.bfloat16)
    b = layers.local_response_normalization(x, k=2.0, n=5, alpha=alpha, beta=0.75)
    right, _ = reference.local_response_normalization(np.asarray(x, float), alpha=alpha)
    # Rounding to bfloat16 moves a value by at most 2^-9 of its power of two: every single value is held to that.
    np.testing.assert_allclose(np.asarray(b, float), right, rtol=2**-8 + 1e-5, atol=0)
    plain = layers.local_response_normalization(x.astype(jnp.float32), k=2.0, n=5, alpha=alpha, beta=0.75)
    np.testing.assert_array_equal(np.asarray(b, float), np.asarray(plain.astype(jnp.bfloat16), float))


def test_bfloat16_normalization_rounds_its_gradient_only_at_the_end():
    x, cotangent = (jnp.asarray(10 * d, jnp.bfloat16) for d in draws(16, (2, 4, 4, 32), (2, 4, 4, 32)))
    _, vjp = jax.vjp(lambda x: layers.local_response_normalization(x, k=2.0, n=5, alpha=0.01, beta=0.75), x)
    (gradient,) = vjp(cotangent)
    assert gradient.dtype == jnp.bfloat16
    _, back = reference.local_response_normalization(np.asarray(x, float), alpha=0.01)
    right = back(np.asarray(cotangent, float))
    # The two terms of the gradient may cancel in part: hence the absolute tolerance of float32.
    np.testing.assert_allclose(np.asarray(gradient, float), right, rtol=2**-8, atol=1e-5 * np.abs(right).max())


def test_bfloat16_convolution_is_near_float32_of_its_rounded_inputs():
    x, kernel, bias = (jnp.asarray(d, jnp.bfloat16) for d in draws(15, (2, 9, 9, 16), (5, 5, 16, 8), (8,)))
    y = layers.convolution(x, kernel.astype(jnp.float32), bias.astype(jnp.float32), pad=2)
    right, _ = reference.convolution(*(np.asarray(a, float) for a in (x, kernel, bias)), pad=2)
    assert reference.relative_error(y, right) < 2**-7


@pytest.mark.parametrize('beta', [0.75, 0.5, 1.0])
@pytest.mark.parametrize(
    'normalize, axis', [(layers.local_response_normalization, 'n'), (layers.spatial_normalization, 'size')]
)
def test_normalization_without_k_keeps_dead_maps_dead(normalize, axis, beta):
    """Where all squares are zero there is nothing to divide by; elsewhere it is the formula."""
    x = np.zeros((1, 3, 3, 9), np.float32)
    x[..., 7] = np.random.default_rng(0).uniform(0.5, 2, (1, 3, 3))
    constants = {'k': 0.0, axis: 3, 'alpha': 0.5, 'beta': beta}
    y, gradient = jax.value_and_grad(lambda a: normalize(a, **constants).sum())(jnp.asarray(x))
    assert np.isfinite(y) and np.isfinite(gradient).all()
    np.testing.assert_array_equal(np.asarray(normalize(jnp.asarray(x), **constants))[..., :6], 0)
    np.testing.assert_array_equal(np.asarray(gradient)[..., :6], 0)
    if axis == 'n':
        expected = x.astype(np.float64)[..., 7] * (0.5 * x.astype(np.float64)[..., 7] ** 2) ** -beta
        np.testing.assert_allclose(normalize(jnp.asarray(x), **constants)[..., 7], expected, rtol=1e-5)
