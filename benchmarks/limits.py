"""Limits of a training step's speed: the operations and bytes that it needs, and the rates that the machine reaches.

Rates are measured, as nominal ones are never reached: products of large matrices, and a sum of two arrays far larger
than any cache, by JAX and, where it is installed, by PyTorch; the better counts.
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from alexnet_jax.commands.inspect import lines_of
from alexnet_jax.runs.build import Experiment


def flops(experiment: Experiment) -> int:
    """Floating point operations of a training step, for one image.

    A multiply-add is two. The gradient costs as much as the forward pass for the inputs of a layer and again for its
    kernels; that of the image is not needed.
    """
    counts = [line.multiply_adds for line in lines_of(experiment.config) if line.multiply_adds]
    return 6 * sum(counts) - 2 * counts[0]


def parameter_bytes(experiment: Experiment) -> int:
    """Least number of bytes that a step moves for the parameters, whatever the batch; all are float32.

    A parameter is read forward, backward and by the update, and written; its gradient is written and read; its
    velocity read and written.
    """
    return 8 * 4 * sum(line.parameters for line in lines_of(experiment.config))


def activation_bytes(experiment: Experiment, bytes_a_value: int) -> int:
    """Least number of bytes that a step moves for the activations of one image.

    It is assumed that whatever can be computed along with a product is (biases, ReLU, dropout), and that normalization
    and pooling between two products are one pass. Then a product's output y is written, read by what follows, and read
    again for the gradient; the gradient of y is written, and read twice, for the inputs and for the kernels. Where a
    pass lies between, its result x is written and read twice as y is; and the gradient of x is written and read.
    """
    values, between, passes = 0, 0, False
    for line in lines_of(experiment.config):
        size = 1
        for n in line.output:
            size *= n
        if line.multiply_adds:
            values += 5 * between if passes else 0
            values += (6 if values else 5) * size  # the gradient of the image is not needed
            passes = False
        elif line.kind in ('LocalResponseNormalization', 'SpatialNormalization', 'MaxPooling', 'AveragePooling'):
            between, passes = size, True
    image = experiment.config.data.crop_size**2 * 3
    return values * bytes_a_value + image


def matrix_rate(device: str, precision: str) -> float:
    """Floating point operations a second of a product of two square matrices."""
    n = 2048 if device == 'cpu' else 8192
    dtype = getattr(jnp, precision)
    a, b = (jax.random.normal(jax.random.key(i), (n, n), dtype) for i in range(2))
    product = jax.jit(jnp.matmul)
    rates = [_rate(lambda: product(a, b), lambda c: c.block_until_ready())]
    torch = _torch(device)
    if torch:
        x, y = (torch.randn(n, n, device=device, dtype=getattr(torch, precision)) for _ in range(2))
        rates.append(_rate(lambda: x @ y, lambda _: _wait(torch, device)))
    return 2 * n**3 * max(rates)


def bandwidth(device: str) -> float:
    """Bytes a second read and written by a += b / 2 in float32."""
    n = 2**26 if device == 'cpu' else 2**29
    arrays = [jnp.zeros(n, jnp.float32), jnp.ones(n, jnp.float32)]
    add = jax.jit(lambda a, b: a + b / 2, donate_argnums=0)

    def ours() -> jax.Array:
        arrays[0] = add(*arrays)
        return arrays[0]

    rates = [_rate(ours, lambda a: a.block_until_ready())]
    arrays.clear()
    torch = _torch(device)
    if torch:
        x, y = (torch.ones(n, device=device) for _ in range(2))
        rates.append(_rate(lambda: x.add_(y, alpha=0.5), lambda _: _wait(torch, device)))
    return 3 * 4 * n * max(rates)


def _rate(call: Callable[[], object], wait: Callable[[object], object], seconds: float = 0.5) -> float:
    """Calls a second, the best of several tries."""
    wait(call())
    best, since = 0.0, time.perf_counter()
    while time.perf_counter() - since < seconds:
        start = time.perf_counter()
        for _ in range(3):
            last = call()
        wait(last)
        best = max(best, 3 / (time.perf_counter() - start))
    return best


def _torch(device: str):
    try:
        import torch
    except ImportError:
        return None
    return torch if device == 'cpu' or torch.cuda.is_available() else None


def _wait(torch, device: str) -> None:
    if device != 'cpu':
        torch.cuda.synchronize()
