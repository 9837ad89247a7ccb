"""What one column computes, one pure function an operation (paper, sections 3.1 to 3.4 and 4.2).

Activations are [batch, height, width, channels] or [batch, units] of one column; sums that decide
accuracy run in float32 whatever the type of the activations.
"""

import functools
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from alexnet_jax.model.fusion import computed_once


def outputs_along(length: int, size: int, stride: int, pad: int = 0) -> int:
    """Number of windows along a side of `length` pixels: 1 + ceil((length + 2 pad - size) / stride).

    The 2012 code's rule. The last window may run past the far edge. Below 1 when a window does not fit.
    """
    return 1 + -((length + 2 * pad - size) // -stride)


def _far_padding(length: int, size: int, stride: int, pad: int) -> int:
    """How far the last window runs past the far edge, in pixels (at least 0 where it ends before it)."""
    return max(0, (outputs_along(length, size, stride, pad) - 1) * stride + size - pad - length)


def convolution(
    x: Array, kernel: Array, bias: Array, *, stride: int = 1, pad: int = 0, at_once: int | None = None
) -> Array:
    """Correlates x with each kernel and adds the kernel's bias (section 3.5).

    Args:
      x: [batch, height, width, channels].
      kernel: [size, size, channels, kernels].
      bias: [kernels].
      stride: distance between neighboring windows, in pixels.
      pad: zeros before the top and left edge, and at least as far after the bottom and right one that
        the last window is whole (see `table.Convolution`).
      at_once: how many images to take at a time; None for all. The values are the same. The kernel's gradient is then
        summed over such groups, which is what this is for: where XLA's takes longer the more images it has.

    Returns:
      [batch, outputs, outputs, kernels], of x's type.
    """
    size = kernel.shape[0]
    correlate = functools.partial(
        lax.conv_general_dilated,
        rhs=kernel.astype(x.dtype),
        window_strides=(stride, stride),
        padding=[(pad, _far_padding(length, size, stride, pad)) for length in x.shape[1:3]],
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    groups = jnp.split(x, list(range(at_once, len(x), at_once))) if at_once else [x]
    return jnp.concatenate([correlate(group) for group in groups]) + bias.astype(x.dtype)


def locally_connected(x: Array, kernel: Array, bias: Array, *, size: int, stride: int = 1, pad: int = 0) -> Array:
    """Correlates x with kernels that differ from place to place, and adds each place's own biases.

    Args:
      x: [batch, height, width, channels].
      kernel: [rows, columns, size * size * channels, kernels], rows and columns being the places; the window's values
        are ordered by height, width and channel.
      bias: [rows, columns, kernels].
      size, stride, pad: of the windows, as in `convolution`.

    Returns:
      [batch, rows, columns, kernels], of x's type.
    """
    places = _places(x, size, stride, pad)
    far = [_far_padding(length, size, stride, pad) for length in x.shape[1:3]]
    padded = jnp.pad(x, ((0, 0), (pad, far[0]), (pad, far[1]), (0, 0)))
    windows = jnp.concatenate(list(_parts(padded, size, stride, places)), axis=-1)
    return jnp.einsum('brci,rcik->brck', windows, kernel.astype(x.dtype)) + bias.astype(x.dtype)


def dense(x: Array, kernel: Array, bias: Array) -> Array:
    """Fully connected neurons: [batch, inputs] times [inputs, units] plus [units]."""
    return x @ kernel.astype(x.dtype) + bias.astype(x.dtype)


def relu(x: Array) -> Array:
    """max(0, x), with derivative 0 at 0 (section 3.1)."""
    return jax.nn.relu(x)


def tanh(x: Array) -> Array:
    """tanh(x), with which section 3.1 compares the ReLU."""
    return jnp.tanh(x)


def local_response_normalization(x: Array, *, k: float, n: int, alpha: float, beta: float) -> Array:
    """Section 3.3: b_i = a_i / (k + alpha * sum_j a_j^2)^beta over the n channels around i.

    j runs from max(0, i - n/2) to min(N - 1, i + n/2), N being the channels of this column: the paper's
    GPUs do not talk here. The sum and the power are computed in float32. The gradient is written out, as
    it costs no more than the forward pass, where the one that JAX derives costs ten times as much.

    Args:
      x: [..., channels].
      k, n, alpha, beta: the paper's constants.

    Returns:
      As x, in shape and type.
    """
    return _normalize(x, (-1,), k, n, alpha, beta)


def spatial_normalization(x: Array, *, k: float, size: int, alpha: float, beta: float) -> Array:
    """The 2012 code's second normalization: a / (k + alpha * sum of squares)^beta within a map.

    The sum runs over the size x size places around, of which those outside the map do not count.

    Args:
      x: [batch, height, width, channels].
      k, size, alpha, beta: 1, 5, 0.001 / 25 and 0.75 in the code.

    Returns:
      As x, in shape and type.
    """
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
    # With d_i the base: db_i/da_j = delta_ij d_i^-beta - 2 alpha beta a_i a_j d_i^(-beta - 1) for j near i,
    # and j is near i just where i is near j.
    a, g = x.astype(jnp.float32), gradient.astype(jnp.float32)
    base = _base(a, axes, k, n, alpha)
    scaled = g * _power(base, beta)
    return ((scaled - 2 * alpha * beta * a * _sum_near(scaled * a / base, axes, n)).astype(x.dtype),)


_normalize.defvjp(_normalize_forward, _normalize_backward)


def _base(a: Array, axes: tuple[int, ...], k: float, n: int, alpha: float) -> Array:
    return k + alpha * _sum_near(jnp.square(a), axes, n)


def _power(base: Array, beta: float) -> Array:
    """base^-beta; for the paper's 3/4 by square roots, which cost a fifth of a power."""
    if beta == 0.75:
        root = lax.rsqrt(base)
        return root * jnp.sqrt(root)
    return base**-beta


def _sum_near(values: Array, axes: tuple[int, ...], n: int) -> Array:
    """For each place the sum over those at most n/2 away along each of the axes.

    A `reduce_window`, and not a sum of slices: XLA fuses slices into whatever reads them, and computes them anew there.
    """
    sizes, padding = [1] * values.ndim, [(0, 0)] * values.ndim
    for axis in axes:
        sizes[axis], padding[axis] = n // 2 * 2 + 1, (n // 2, n // 2)
    return lax.reduce_window(values, np.zeros((), values.dtype), lax.add, sizes, [1] * values.ndim, padding)


@functools.partial(jax.custom_vjp, nondiff_argnames=('size', 'stride'))
def max_pooling(x: Array, size: int, stride: int) -> Array:
    """The largest value of each window (section 3.4); windows overlap where stride < size.

    Written as the maximum of size * size strided slices, and its gradient as a sum over the windows that hold a pixel,
    at most four of them where size is 3 and stride 2; XLA's own, a scatter, takes forty times as long on a CPU. As in
    cuda-convnet all that are equal to a window's largest value get its gradient; after a ReLU that concerns zeros,
    which pass on nothing anyhow.

    Args:
      x: [batch, height, width, channels].

    Returns:
      [batch, outputs, outputs, channels]; a window that runs past the far edge sees only what is there.
    """
    return _max_pooling_forward(x, size, stride)[0]


def _max_pooling_forward(x: Array, size: int, stride: int) -> tuple[Array, tuple[Array, Array]]:
    x = computed_once(x)
    padded = _padded(x, size, stride, -jnp.inf)
    y = computed_once(functools.reduce(jnp.maximum, _parts(padded, size, stride, _places(x, size, stride))))
    return y, (x, y)


def _max_pooling_backward(size: int, stride: int, kept: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    # Seen from a pixel: of the windows that hold it, the last ones along each axis, and those before them.
    x, y = kept
    gradient = computed_once(gradient)
    passed = jnp.zeros(x.shape, gradient.dtype)
    for steps in itertools.product(range(-(-size // stride)), repeat=2):
        within = [np.arange(n) % stride + step * stride < size for n, step in zip(x.shape[1:3], steps, strict=True)]
        holds = np.logical_and.outer(*within)[:, :, None]
        largest, own = (_of_pixels(each, x.shape[1:3], stride, steps) for each in (y, gradient))
        passed += jnp.where(holds & (x == largest), own, 0)
    return (computed_once(passed),)


def _of_pixels(of_windows: Array, sides: tuple[int, ...], stride: int, steps: tuple[int, ...]) -> Array:
    """For each pixel the value of the last window that begins at it or before, or of so many steps before that one.

    Args:
      of_windows: [batch, rows, columns, channels].
      sides: of the maps, in pixels.
      stride: of the windows.
      steps: along both sides.

    Returns:
      [batch, *sides, channels]; 0 where there is no such window.
    """
    for axis, (side, step) in enumerate(zip(sides, steps, strict=True), start=1):
        ends = -(-side // stride) - of_windows.shape[axis]
        padding = [(0, 0, 0)] * of_windows.ndim
        padding[axis] = (step, ends - step, 0)
        of_windows = jnp.repeat(lax.pad(of_windows, jnp.zeros((), of_windows.dtype), padding), stride, axis)
        of_windows = lax.slice_in_dim(of_windows, 0, side, axis=axis)
    return of_windows


max_pooling.defvjp(_max_pooling_forward, _max_pooling_backward)


def average_pooling(x: Array, *, size: int, stride: int) -> Array:
    """The mean of each window; the sum is computed in float32.

    Args:
      x: [batch, height, width, channels].

    Returns:
      [batch, outputs, outputs, channels], of x's type; a window that runs past the far edge averages what is there.
    """
    places = _places(x, size, stride)
    padded = _padded(x.astype(jnp.float32), size, stride, 0.0)
    there = [
        np.minimum(np.arange(outputs) * stride + size, length) - np.arange(outputs) * stride
        for outputs, length in zip(places, x.shape[1:3], strict=True)
    ]
    counts = (there[0][:, None] * there[1])[:, :, None].astype(np.float32)
    return (sum(_parts(padded, size, stride, places)) / counts).astype(x.dtype)


def _places(x: Array, size: int, stride: int, pad: int = 0) -> tuple[int, int]:
    """Rows and columns of windows."""
    height, width = (outputs_along(length, size, stride, pad) for length in x.shape[1:3])
    return height, width


def _padded(x: Array, size: int, stride: int, value: float) -> Array:
    """x with `value` past the far edges, as far as the last windows reach."""
    far = [(0, _far_padding(length, size, stride, 0), 0) for length in x.shape[1:3]]
    return lax.pad(x, jnp.array(value, x.dtype), [(0, 0, 0), *far, (0, 0, 0)])


def _parts(padded: Array, size: int, stride: int, places: tuple[int, int]) -> Iterator[Array]:
    """For each position within a window, row by row, what all windows have there: [batch, *places, channels]."""
    rows, columns = places
    for i in range(size):
        for j in range(size):
            yield padded[:, i : i + (rows - 1) * stride + 1 : stride, j : j + (columns - 1) * stride + 1 : stride]


def dropout(x: Array, keys: Array | None, *, rate: float) -> Array:
    """The paper's dropout (section 4.2), which is not the inverted dropout of today's libraries.

    In training an output is set to 0 with probability `rate` and otherwise left as it is; at test time
    all outputs are used, multiplied by (1 - rate).

    Args:
      x: [batch, units].
      keys: [batch] random keys, one an example, in training; None at test time.
      rate: probability of dropping, 0.5 in the paper.

    Returns:
      As x, in shape and type.
    """
    if keys is None:
        return x * jnp.asarray(1.0 - rate, x.dtype)
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1.0 - rate, x.shape[1:]))(keys)
    return jnp.where(keep, x, jnp.zeros((), x.dtype))
