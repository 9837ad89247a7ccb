"""Guards `fft_convolution.py`: values and gradients against the float64 reference, and when transforms are used.

As in test_layers.py, float32 may deviate by 1e-5 of the reference's largest value (measured: below 1e-6).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from alexnet_jax.model import fft_convolution
from alexnet_jax.model.fft_convolution import cpu_convolution
from alexnet_jax.model.layers import computed_once

TOLERANCE = 1e-5
CASES = [
    # side, size, pad
    (27, 5, 2),  # conv2: four tiles a side, of 11; the last runs past the edge
    (13, 3, 1),  # conv3 to conv5: two tiles of 9, the same
    (9, 3, 1),  # one tile, of 11
    (9, 2, 0),  # one tile of 9
    (5, 2, 1),  # one tile of 7, padded
    (6, 1, 0),  # no overlap; a tile of even width, 6
    (8, 7, 3),  # even, and the overlap wider than what comes of a tile
    (16, 16, 2),  # wider than the widest tile: a place a tile
]


def draws(*shapes):
    generator = np.random.default_rng(1)
    return [np.float32(generator.standard_normal(shape)) for shape in shapes]


def check(shared, shapes, **options):
    """Two columns; shared: both see the same maps, as they do of the image, and its gradient is both's."""
    xs, kernels, biases, cotangent = draws((1 if shared else 2, *shapes[0]), *((2, *shape) for shape in shapes[1:]))

    @jax.jit
    def value_and_gradients(xs, kernels, biases, cotangent):
        def both(xs, kernels, biases):
            seen = [xs[0]]  # one array, and not two that are equal
            return jnp.stack(cpu_convolution(seen * 2 if shared else list(xs), kernels, biases, **options))

        y, vjp = jax.vjp(both, xs, kernels, biases)
        return y, vjp(cotangent)

    y, gradients = value_and_gradients(xs, kernels, biases, cotangent)
    assert y.dtype == jnp.float32
    right, right_gradients = np.empty(cotangent.shape), [np.zeros(x.shape) for x in (xs, kernels, biases)]
    for column in range(2):
        seen = 0 if shared else column
        inputs = (each.astype(float) for each in (xs[seen], kernels[column], biases[column]))
        right[column], back = reference.convolution(*inputs, **options)
        for total, one, place in zip(right_gradients, back(cotangent[column]), (seen, column, column), strict=True):
            total[place] += one
    assert reference.relative_error(y, right) < TOLERANCE
    for gradient, right_gradient in zip(gradients, right_gradients, strict=True):
        assert reference.relative_error(gradient, right_gradient) < TOLERANCE


@pytest.mark.parametrize('shared', [False, True])
@pytest.mark.parametrize('side, size, pad', CASES)
def test_convolution_by_transforms(side, size, pad, shared, monkeypatch):
    monkeypatch.setattr(fft_convolution, 'saves_work', lambda *_: True)
    outputs = side + 2 * pad - size + 1
    check(shared, [(3, side, side, 4), (size, size, 4, 5), (5,), (3, outputs, outputs, 5)], pad=pad)


@pytest.mark.parametrize('shared', [False, True])
@pytest.mark.parametrize('batch', [1, 8, 9, 19])
def test_convolution_in_groups_of_images(batch, shared):
    check(shared, [(batch, 6, 5, 3), (3, 3, 3, 4), (4,), (batch, 4, 3, 4)], stride=2, pad=1)


@pytest.mark.parametrize('shared, count, convolutions', [(False, 24, 2), (True, 24, 1), (True, 48, 2)])
def test_columns_that_see_the_same_maps_are_one_convolution_of_few_kernels(shared, count, convolutions):
    x, other = (jax.ShapeDtypeStruct((8, 28, 28, 3), jnp.float32) for _ in range(2))
    kernels, biases = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, 7, 7, 3, count), (2, count)))

    def both(x, other, kernels, biases):
        return cpu_convolution([x, x if shared else other], kernels, biases)

    assert str(jax.make_jaxpr(both)(x, other, kernels, biases)).count('conv_general_dilated[') == convolutions


@pytest.mark.parametrize(
    'dtype, stride, transforms', [('float32', 1, True), ('float32', 2, False), ('bfloat16', 1, False)]
)
def test_transforms_are_for_a_stride_of_one_in_float32(dtype, stride, transforms):
    x = jax.ShapeDtypeStruct((128, 13, 13, 192), dtype)
    kernels, biases = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, 3, 3, 192, 192), (2, 192)))
    program = str(jax.make_jaxpr(lambda *own: cpu_convolution(*own, stride=stride, pad=1))([x] * 2, kernels, biases))
    assert ('conv_general_dilated' not in program) == transforms


@pytest.mark.parametrize('width', [1, 2, 5, 6, 9, 13])
def test_the_products_are_those_of_the_transforms(width):
    """NumPy's transform of the correlation is the product of NumPy's transforms; here as real products, all counted."""
    matrices = fft_convolution._matrices(width, 1)
    tile, kernel = draws((width, width), (1, 1))
    assert matrices.tiles.shape == (fft_convolution._number_of_products(width), width**2)
    products = (matrices.tiles @ tile.ravel()) * (matrices.kernels @ kernel.ravel())
    circular = np.fft.ifft2(np.fft.fft2(tile) * np.fft.fft2(kernel, (width, width)).conj()).real
    assert reference.relative_error(matrices.outputs @ products, circular.ravel()) < TOLERANCE


@pytest.mark.parametrize(
    'shape, kernel, pad, saves',
    [
        ((128, 27, 27, 48), (5, 5, 48, 128), 2, True),  # the paper's conv2, 4 and 5 of a column, and conv3 of both
        ((128, 13, 13, 256), (3, 3, 256, 192), 1, True),
        ((128, 13, 13, 192), (3, 3, 192, 192), 1, True),
        ((128, 13, 13, 192), (3, 3, 192, 128), 1, True),
        ((1, 13, 13, 192), (3, 3, 192, 192), 1, False),  # the kernels' transforms, for one image
        ((128, 64, 64, 3), (5, 5, 3, 32), 2, False),  # the tiles' and places' transforms, for three channels
        ((128, 13, 13, 192), (1, 1, 192, 192), 0, False),  # nothing to save
        ((128, 13, 12, 192), (3, 3, 192, 192), 1, False),  # not a square
    ],
)
def test_where_it_saves_work(shape, kernel, pad, saves):
    assert fft_convolution.saves_work(shape, kernel, pad) is saves


def test_computed_once_changes_nothing():
    (x,) = draws((2, 3, 4))
    y, vjp = jax.vjp(jax.jit(computed_once), x)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(vjp(2 * x)[0], 2 * x)
