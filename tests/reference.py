"""The paper's formulas once more, in float64 NumPy, forward and backward by hand: what the tests compare with.

Nothing here is shared with `alexnet_jax`. Every operation returns its value and a function that turns the
gradient of that value into the gradients of the operation's inputs. `test_layers.py` and `test_model.py`
check these functions themselves against central differences.
"""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def outputs_along(length, size, stride, pad=0, rounding='up', far_pad=None):
    far_pad = pad if far_pad is None else far_pad
    return 1 + {'up': math.ceil, 'down': math.floor}[rounding]((length + pad + far_pad - size) / stride)


def convolution(x, kernel, bias, stride=1, pad=0, rounding='up', far_pad=None):
    """x [b, h, w, c], kernel [size, size, c, k], bias [k]; zeros past the far edges where a window overhangs."""
    size = kernel.shape[0]
    _, height, width, _ = x.shape
    rows, columns = (outputs_along(n, size, stride, pad, rounding, far_pad) for n in (height, width))
    # As tall and wide as the last window reaches, or as the padding that was asked for.
    tall, wide = (rows - 1) * stride + size, (columns - 1) * stride + size
    padded = np.zeros((len(x), max(tall, height + pad), max(wide, width + pad), x.shape[3]))
    padded[:, pad : pad + height, pad : pad + width] = x
    padded = padded[:, :tall, :wide]
    windows = sliding_window_view(padded, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    y = np.einsum('bhwcij,ijck->bhwk', windows, kernel, optimize=True) + bias

    def back(dy):
        dkernel = np.einsum('bhwcij,bhwk->ijck', windows, dy, optimize=True)
        dpadded = np.zeros_like(padded)
        for r in range(rows):
            for c in range(columns):
                box = np.einsum('bk,ijck->bijc', dy[:, r, c], kernel)
                dpadded[:, r * stride : r * stride + size, c * stride : c * stride + size] += box
        seen = dpadded[:, pad : pad + height, pad : pad + width]
        dx = np.zeros_like(x)  # what no window reaches has no gradient
        dx[:, : seen.shape[1], : seen.shape[2]] = seen
        return dx, dkernel, dy.sum((0, 1, 2))

    return y, back


def locally_connected(x, kernel, bias, size, stride=1, pad=0):
    """x [b, h, w, c], kernel [rows, columns, size * size * c, k], bias [rows, columns, k]: place by place."""
    batch, height, width, channels = x.shape
    rows, columns = outputs_along(height, size, stride, pad), outputs_along(width, size, stride, pad)
    tall, wide = (rows - 1) * stride + size, (columns - 1) * stride + size
    padded = np.zeros((batch, max(tall, height + pad), max(wide, width + pad), channels))
    padded[:, pad : pad + height, pad : pad + width] = x
    y = np.empty((batch, rows, columns, kernel.shape[-1]))

    def box(r, c):
        return slice(None), slice(r * stride, r * stride + size), slice(c * stride, c * stride + size)

    for r, c in np.ndindex(rows, columns):
        y[:, r, c] = padded[box(r, c)].reshape(batch, -1) @ kernel[r, c] + bias[r, c]

    def back(dy):
        dpadded, dkernel = np.zeros_like(padded), np.empty_like(kernel)
        for r, c in np.ndindex(rows, columns):
            dkernel[r, c] = padded[box(r, c)].reshape(batch, -1).T @ dy[:, r, c]
            dpadded[box(r, c)] += (dy[:, r, c] @ kernel[r, c].T).reshape(batch, size, size, channels)
        return dpadded[:, pad : pad + height, pad : pad + width], dkernel, dy.sum(0)

    return y, back


def dense(x, kernel, bias):
    def back(dy):
        return np.einsum('bu,iu->bi', dy, kernel), np.einsum('bi,bu->iu', x, dy), dy.sum(0)

    return np.einsum('bi,iu->bu', x, kernel) + bias, back


def relu(x):
    def back(dy):
        return np.where(x > 0, dy, 0.0)

    return np.where(x > 0, x, 0.0), back


def tanh(x):
    return np.tanh(x), lambda dy: dy / np.cosh(x) ** 2


def local_response_normalization(a, k=2.0, n=5, alpha=1e-4, beta=0.75):
    """b_i = a_i / (k + alpha sum_j a_j^2)^beta with j from max(0, i - n/2) to min(N - 1, i + n/2)."""
    channels = a.shape[-1]
    around = [list(range(max(0, i - n // 2), min(channels - 1, i + n // 2) + 1)) for i in range(channels)]
    s = np.stack([k + alpha * sum(a[..., j] ** 2 for j in around[i]) for i in range(channels)], axis=-1)

    def back(db):
        # db_i/da_j = [i == j] s_i^-beta - 2 alpha beta a_i a_j s_i^(-beta - 1) for j around i.
        da = np.zeros_like(a)
        for i in range(channels):
            da[..., i] += db[..., i] * s[..., i] ** -beta
            for j in around[i]:
                da[..., j] -= 2 * alpha * beta * db[..., i] * a[..., i] * a[..., j] * s[..., i] ** (-beta - 1)
        return da

    return a / s**beta, back


def spatial_normalization(a, k=1.0, size=5, alpha=0.001 / 25, beta=0.75):
    """a / (k + alpha sum of squares over the size x size places around, within the map)^beta, place by place."""
    _, height, width, _ = a.shape

    def around(i, j):
        rows = range(max(0, i - size // 2), min(height - 1, i + size // 2) + 1)
        return [(p, q) for p in rows for q in range(max(0, j - size // 2), min(width - 1, j + size // 2) + 1)]

    places = [(i, j) for i in range(height) for j in range(width)]
    s = np.empty_like(a)
    for i, j in places:
        s[:, i, j] = k + alpha * sum(a[:, p, q] ** 2 for p, q in around(i, j))

    def back(db):
        da = np.zeros_like(a)
        for i, j in places:
            da[:, i, j] += db[:, i, j] * s[:, i, j] ** -beta
            for p, q in around(i, j):
                da[:, p, q] -= 2 * alpha * beta * db[:, i, j] * a[:, i, j] * a[:, p, q] * s[:, i, j] ** (-beta - 1)
        return da

    return a / s**beta, back


def max_pooling(x, size=3, stride=2, rounding='up'):
    """Largest value of each window, of what there is of it; the gradient goes to where that value stood."""
    batch, height, width, channels = x.shape
    rows, columns = (outputs_along(n, size, stride, rounding=rounding) for n in (height, width))
    y = np.empty((batch, rows, columns, channels))
    source = np.empty((batch, rows, columns, channels, 2), int)
    for b, r, c, channel in np.ndindex(y.shape):
        window = x[b, r * stride : r * stride + size, c * stride : c * stride + size, channel]
        i, j = np.unravel_index(np.argmax(window), window.shape)
        y[b, r, c, channel] = window[i, j]
        source[b, r, c, channel] = r * stride + i, c * stride + j

    def back(dy):
        dx = np.zeros_like(x)
        for b, r, c, channel in np.ndindex(y.shape):
            i, j = source[b, r, c, channel]
            dx[b, i, j, channel] += dy[b, r, c, channel]
        return dx

    return y, back


def average_pooling(x, size=2, stride=2, rounding='up'):
    """Mean of each window, of what there is of it; everything there is gets an equal share of the gradient."""
    batch, height, width, channels = x.shape
    rows, columns = (outputs_along(n, size, stride, rounding=rounding) for n in (height, width))
    y = np.empty((batch, rows, columns, channels))

    def window(values, r, c):
        return values[:, r * stride : r * stride + size, c * stride : c * stride + size]

    for r, c in np.ndindex(rows, columns):
        y[:, r, c] = window(x, r, c).mean((1, 2))

    def back(dy):
        dx = np.zeros_like(x)
        for r, c in np.ndindex(rows, columns):
            part = window(dx, r, c)
            part += dy[:, r, c][:, None, None] / (part.shape[1] * part.shape[2])
        return dx

    return y, back


def dropout(x, keep=None, rate=0.5):
    """In training (`keep` given) dropped values are 0 and kept ones stay; at test time all count (1 - rate)."""
    factor = (1.0 - rate) if keep is None else keep.astype(float)
    return x * factor, lambda dy: dy * factor


def flatten(x):
    return x.reshape(len(x), -1), lambda dy: dy.reshape(x.shape)


def softmax_cross_entropy(logits, labels):
    """Mean over the batch of -log softmax(logits)[label]."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    right = np.eye(logits.shape[1])[labels]
    loss = -np.mean(np.log((probabilities * right).sum(axis=1)))
    return loss, lambda dloss=1.0: dloss * (probabilities - right) / len(labels)


class _Run:
    """The values of every column, and the way back."""

    def __init__(self, params, values):
        self.params, self.values, self.backs, self.gradients = params, values, [], {}

    def learned(self, name, operation, **how):
        kernels, biases = self.params[name]['kernel'], self.params[name]['bias']
        done = [operation(x, w, b, **how) for x, w, b in zip(self.values, kernels, biases, strict=True)]

        def back(dys):
            dxs, dkernels, dbiases = zip(*[back(dy) for (_, back), dy in zip(done, dys, strict=True)], strict=True)
            self.gradients[name] = {'kernel': np.stack(dkernels), 'bias': np.stack(dbiases)}
            return list(dxs)

        self.values = [y for y, _ in done]
        self.backs.append(back)

    def fixed(self, operation, each=None, **how):
        each = [()] * len(self.values) if each is None else [(one,) for one in each]
        done = [operation(x, *more, **how) for x, more in zip(self.values, each, strict=True)]
        self.values = [y for y, _ in done]
        self.backs.append(lambda dys: [back(dy) for (_, back), dy in zip(done, dys, strict=True)])

    def exchange(self):
        """Every column sees column 1's values and then column 2's; backward both have their say about both."""
        count = len(self.values)
        joined = np.concatenate(self.values, axis=-1)
        self.values = [joined] * count
        self.backs.append(lambda dys: np.split(sum(dys), count, axis=-1))

    def normalized(self, normalization):
        if normalization == 'before ReLU':
            self.fixed(local_response_normalization)
        self.fixed(relu)
        if normalization == 'after ReLU':
            self.fixed(local_response_normalization)


def network(params, images, labels, classes, masks=None, normalization='after ReLU', rate=0.5):
    """Figure 2 at any width: one column for each entry of the leading axis of the parameters.

    Args:
      params: {'conv1': {'kernel': [columns, 11, 11, 3, kernels], 'bias': [columns, kernels]}, ...}, float64.
      images: [batch, side, side, 3].
      labels: [batch].
      classes: logits beyond these are cut off.
      masks: in training {'drop6': [columns, batch, units], 'drop7': ...}, true where a value is kept.
      normalization: 'after ReLU' as in the paper, 'before ReLU', or None for a network without it.
      rate: of dropout.

    Returns:
      Logits, mean loss, and gradients of the loss by every parameter, arranged as `params`.
    """
    columns = len(params['conv1']['kernel'])
    run = _Run(params, [images] * columns)
    run.learned('conv1', convolution, stride=4)
    run.normalized(normalization)
    run.fixed(max_pooling, size=3, stride=2)
    run.learned('conv2', convolution, pad=2)
    run.normalized(normalization)
    run.fixed(max_pooling, size=3, stride=2)
    run.exchange()
    run.learned('conv3', convolution, pad=1)
    run.fixed(relu)
    run.learned('conv4', convolution, pad=1)
    run.fixed(relu)
    run.learned('conv5', convolution, pad=1)
    run.fixed(relu)
    run.fixed(max_pooling, size=3, stride=2)
    run.fixed(flatten)
    run.exchange()
    run.learned('fc6', dense)
    run.fixed(relu)
    run.fixed(dropout, each=None if masks is None else masks['drop6'], rate=rate)
    run.exchange()
    run.learned('fc7', dense)
    run.fixed(relu)
    run.fixed(dropout, each=None if masks is None else masks['drop7'], rate=rate)
    run.exchange()
    run.learned('fc8', dense)
    joined = np.concatenate(run.values, axis=-1)
    logits = joined[:, :classes]
    loss, back = softmax_cross_entropy(logits, labels)
    d = np.split(np.pad(back(), ((0, 0), (0, joined.shape[1] - classes))), columns, axis=-1)
    for step_back in reversed(run.backs):
        d = step_back(d)
    return logits, loss, run.gradients


def relative_error(value, right):
    """Largest deviation in units of the largest right value."""
    value, right = np.asarray(value, float), np.asarray(right, float)
    assert value.shape == right.shape, (value.shape, right.shape)
    assert np.all(np.isfinite(value))
    return np.abs(value - right).max() / np.abs(right).max()


def directional_derivative(function, x, direction, step=1e-5):
    """Central difference of a scalar function along a direction."""
    return (function(x + step * direction) - function(x - step * direction)) / (2 * step)
