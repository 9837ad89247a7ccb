"""The operations of one column, as pure functions (sections 3.1 to 3.5 and 4.2).

Activations are [batch, height, width, channels] or [batch, units]. Sums that decide accuracy are computed in float32,
whatever the type of the activations.
"""

import functools
import itertools
from collections.abc import Iterator
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from alexnet_jax.model.layer_specs import Rounding, outputs_along


def _far_padding(
    length: int, size: int, stride: int, pad: int, rounding: Rounding = 'up', far_pad: int | None = None
) -> int:
    """Pixels by which the last window runs past the far edge; 0 where it ends before the edge."""
    outputs = outputs_along(length, size, stride, pad, rounding=rounding, far_pad=far_pad)
    return max(0, (outputs - 1) * stride + size - pad - length)


def convolution(
    x: Array,
    kernel: Array,
    bias: Array,
    *,
    stride: int = 1,
    pad: int = 0,
    rounding: Rounding = 'up',
    far_pad: int | None = None,
) -> Array:
    """Correlates x with each kernel and adds the kernel's bias (section 3.5).

    Args:
      x: [batch, height, width, channels].
      kernel: [size, size, channels, kernels].
      bias: [kernels].
      stride: distance between neighboring windows, in pixels.
      pad: zeros before the top and left edges.
      rounding: 'up', with as many more zeros after the bottom and right edges as complete the last window (see
        `layer_specs.Convolution`); or 'down', without that window.
      far_pad: zeros after the bottom and right edges; None for `pad`.

    Returns:
      [batch, outputs, outputs, kernels], of x's type.
    """
    return correlation(x, kernel, stride=stride, pad=pad, rounding=rounding, far_pad=far_pad) + bias.astype(x.dtype)


def correlation(
    x: Array, kernel: Array, *, stride: int, pad: int, rounding: Rounding = 'up', far_pad: int | None = None
) -> Array:
    """`convolution` without the bias."""
    size = kernel.shape[0]
    return lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        window_strides=(stride, stride),
        padding=[(pad, _far_padding(length, size, stride, pad, rounding, far_pad)) for length in x.shape[1:3]],
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )


def locally_connected(x: Array, kernel: Array, bias: Array, *, size: int, stride: int = 1, pad: int = 0) -> Array:
    """`convolution` with other kernels and biases at each position.

    Args:
      x: [batch, height, width, channels].
      kernel: [rows, columns, size * size * channels, kernels], with a window's values in the order height, width,
        channel.
      bias: [rows, columns, kernels], as is the result after its batch.
      size, stride, pad: of the windows, as in `convolution`.
    """
    positions = _positions(x, size, stride, pad)
    far = [_far_padding(length, size, stride, pad) for length in x.shape[1:3]]
    padded = jnp.pad(x, ((0, 0), (pad, far[0]), (pad, far[1]), (0, 0)))
    windows = jnp.concatenate(list(_window_slices(padded, size, stride, positions)), axis=-1)
    return jnp.einsum('brci,rcik->brck', windows, kernel.astype(x.dtype)) + bias.astype(x.dtype)


def dense(x: Array, kernel: Array, bias: Array) -> Array:
    """Fully connected units: [batch, inputs] times [inputs, units] plus [units]."""
    return x @ kernel.astype(x.dtype) + bias.astype(x.dtype)


def relu(x: Array) -> Array:
    """max(0, x), with derivative 0 at 0 (section 3.1)."""
    return jax.nn.relu(x)


def tanh(x: Array) -> Array:
    """tanh(x), which section 3.1 compares the ReLU with."""
    return jnp.tanh(x)


def local_response_normalization(x: Array, *, k: float, n: int, alpha: float, beta: float) -> Array:
    """Section 3.3: b_i = a_i / (k + alpha * sum_j a_j^2)^beta over the n channels around i, the last axis.

    j runs from max(0, i - n/2) to min(N - 1, i + n/2), where N is the number of channels of this column: the paper's
    GPUs do not communicate here. The sum and the power are computed in float32. The gradient is written out because it
    then costs no more than the forward pass; JAX's own costs ten times as much.
    """
    return _normalize(x, (-1,), k, n, alpha, beta)


def spatial_normalization(x: Array, *, k: float, size: int, alpha: float, beta: float) -> Array:
    """The 2012 code's second normalization: the same over size x size positions of a map, within its edges."""
    return _normalize(x, (1, 2), k, size, alpha, beta)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4, 5))
def _normalize(x: Array, axes: tuple[int, ...], k: float, n: int, alpha: float, beta: float) -> Array:
    return _normalize_forward(x, axes, k, n, alpha, beta)[0]


def _normalize_forward(
    x: Array, axes: tuple[int, ...], k: float, n: int, alpha: float, beta: float
) -> tuple[Array, Array]:
    a = x.astype(jnp.float32)
    return (a * _power(_base(a, axes, k, n, alpha), beta)).astype(x.dtype), x


def _normalize_backward(
    axes: tuple[int, ...], k: float, n: int, alpha: float, beta: float, x: Array, gradient: Array
) -> tuple[Array]:
    # With d_i the base: db_i/da_j = delta_ij d_i^-beta - 2 alpha beta a_i a_j d_i^(-beta - 1) for j near i.
    a, g = x.astype(jnp.float32), gradient.astype(jnp.float32)
    base = _base(a, axes, k, n, alpha)
    scaled = g * _power(base, beta)
    return ((scaled - 2 * alpha * beta * a * _sum_near(scaled * a / base, axes, n)).astype(x.dtype),)


_normalize.defvjp(_normalize_forward, _normalize_backward)


def _base(a: Array, axes: tuple[int, ...], k: float, n: int, alpha: float) -> Array:
    """k + alpha * sum of squares; without k infinite where all of these are zero, so that zeros stay zeros."""
    squares = alpha * _sum_near(jnp.square(a), axes, n)
    return k + squares if k else jnp.where(squares > 0, squares, jnp.inf)


def _power(base: Array, beta: float) -> Array:
    """base^-beta; for the paper's 3/4 from square roots, at a fifth of the cost of a power."""
    if beta == 0.75:
        root = lax.rsqrt(base)
        return root * jnp.sqrt(root)
    return base**-beta


def _sum_near(values: Array, axes: tuple[int, ...], n: int) -> Array:
    """For each position the sum over those at most n/2 away along each of the axes.

    A `reduce_window` rather than a sum of slices, which XLA would fuse into all readers and recompute in each.
    """
    sizes, padding = [1] * values.ndim, [(0, 0)] * values.ndim
    for axis in axes:
        sizes[axis], padding[axis] = n // 2 * 2 + 1, (n // 2, n // 2)
    zero = np.zeros((), values.dtype)
    return cast(Array, lax.reduce_window(values, zero, lax.add, sizes, [1] * values.ndim, padding))


@functools.partial(jax.custom_vjp, nondiff_argnames=('size', 'stride', 'rounding'))
def max_pooling(x: Array, size: int, stride: int, rounding: Rounding = 'up') -> Array:
    """The largest value of each window (section 3.4), [batch, outputs, outputs, channels]; windows may overlap.

    A window past the far edge covers only the pixels there are; rounded down, it is left out. The gradient sums over
    the windows of each pixel, at most four for size 3 and stride 2; XLA's own, a scatter, takes forty times as long on
    a CPU. As in cuda-convnet, all values equal to a window's maximum get its gradient; in float32 such ties are
    zeros after a ReLU, whose gradient is zero. In types of fewer bits, where others are common too, they share it.
    """
    return _max_pooling_forward(x, size, stride, rounding)[0]


def _max_pooling_forward(
    x: Array, size: int, stride: int, rounding: Rounding = 'up'
) -> tuple[Array, tuple[Array, Array]]:
    x = computed_once(x)
    padded = _padded(x, size, stride, -jnp.inf, rounding)
    slices = _window_slices(padded, size, stride, _positions(x, size, stride, rounding=rounding))
    y = computed_once(functools.reduce(jnp.maximum, slices))
    return y, (x, y)


def _max_pooling_backward(
    size: int, stride: int, rounding: Rounding, residuals: tuple[Array, Array], gradient: Array
) -> tuple[Array]:
    # For each pixel: the last windows along each axis that contain it, and those before them.
    x, y = residuals
    if x.dtype != jnp.float32:
        slices = _window_slices(
            _padded(x, size, stride, -jnp.inf, rounding), size, stride, _positions(x, size, stride, rounding=rounding)
        )
        ties = sum((each == y).astype(jnp.float32) for each in slices)
        gradient = (gradient / ties).astype(gradient.dtype)
    gradient = computed_once(gradient)
    passed = jnp.zeros(x.shape, gradient.dtype)
    for steps in itertools.product(range(-(-size // stride)), repeat=2):
        within = [np.arange(n) % stride + step * stride < size for n, step in zip(x.shape[1:3], steps, strict=True)]
        contains = np.logical_and.outer(*within)[:, :, None]
        largest, own = (_spread_to_pixels(each, x.shape[1:3], stride, steps) for each in (y, gradient))
        passed += jnp.where(contains & (x == largest), own, 0)
    return (computed_once(passed),)


def _spread_to_pixels(values: Array, sides: tuple[int, ...], stride: int, steps: tuple[int, ...]) -> Array:
    """For each pixel the value of the window `steps` before the last one that begins at or before the pixel.

    Values are [batch, rows, columns, channels]; the result is [batch, *sides, channels], 0 where there is no window.
    """
    for axis, (side, step) in enumerate(zip(sides, steps, strict=True), start=1):
        missing = -(-side // stride) - values.shape[axis]
        padding = [(0, 0, 0)] * values.ndim
        padding[axis] = (step, missing - step, 0)
        values = jnp.repeat(lax.pad(values, jnp.zeros((), values.dtype), padding), stride, axis)
        values = lax.slice_in_dim(values, 0, side, axis=axis)
    return values


max_pooling.defvjp(_max_pooling_forward, _max_pooling_backward)


def average_pooling(x: Array, *, size: int, stride: int, rounding: Rounding = 'up') -> Array:
    """The mean of each window, summed in float32; a window past the far edge averages the pixels there are."""
    positions = _positions(x, size, stride, rounding=rounding)
    padded = _padded(x.astype(jnp.float32), size, stride, 0.0, rounding)
    pixels = [
        np.minimum(np.arange(outputs) * stride + size, length) - np.arange(outputs) * stride
        for outputs, length in zip(positions, x.shape[1:3], strict=True)
    ]
    counts = np.multiply.outer(*pixels)[:, :, None].astype(np.float32)
    total: Array = functools.reduce(jnp.add, _window_slices(padded, size, stride, positions), jnp.float32(0))
    return (total / counts).astype(x.dtype)


def _positions(x: Array, size: int, stride: int, pad: int = 0, rounding: Rounding = 'up') -> tuple[int, int]:
    """Rows and columns of windows."""
    height, width = (outputs_along(length, size, stride, pad, rounding=rounding) for length in x.shape[1:3])
    return height, width


def _padded(x: Array, size: int, stride: int, value: float, rounding: Rounding) -> Array:
    """x, extended by `value` at the far edges as far as the last windows reach."""
    far = [(0, _far_padding(length, size, stride, 0, rounding), 0) for length in x.shape[1:3]]
    return lax.pad(x, jnp.array(value, x.dtype), [(0, 0, 0), *far, (0, 0, 0)])


def _window_slices(padded: Array, size: int, stride: int, positions: tuple[int, int]) -> Iterator[Array]:
    """For each offset within a window, row by row, the values of all windows there: [batch, *positions, channels]."""
    rows, columns = positions
    for i in range(size):
        for j in range(size):
            yield padded[:, i : i + (rows - 1) * stride + 1 : stride, j : j + (columns - 1) * stride + 1 : stride]


def dropout(x: Array, keys: Array | None = None, *, rate: float) -> Array:
    """The paper's dropout (section 4.2), which is not the inverted dropout of today's libraries.

    In training an output is set to 0 with probability `rate` and otherwise unchanged; at test time all outputs are
    multiplied by (1 - rate).

    Args:
      x: [batch, units], as is the result.
      keys: in training [batch] random keys, one an example; None at test time.
      rate: probability of dropping, 0.5 in the paper.
    """
    if keys is None:
        return x * jnp.asarray(1.0 - rate, x.dtype)
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1.0 - rate, x.shape[1:]))(keys)
    return jnp.where(keep, x, jnp.zeros((), x.dtype))


@jax.custom_vjp
def computed_once(x: Array) -> Array:
    """x, computed and stored once instead of fused into each of its readers by XLA; its gradient likewise.

    Otherwise XLA computes a normalization again for each of the nine slices of a pooling. Its CPU compiler removes an
    `optimization_barrier` before fusing, but not a first element written over itself, which is done in place.
    """
    return cast(Array, lax.platform_dependent(x, cpu=_first_element_rewritten, default=lax.optimization_barrier))


computed_once.defvjp(lambda x: (computed_once(x), None), lambda _, gradient: (computed_once(gradient),))


def _first_element_rewritten(x: Array) -> Array:
    first = (0,) * x.ndim
    return lax.dynamic_update_slice(x, lax.slice(x, first, (1,) * x.ndim), first)
