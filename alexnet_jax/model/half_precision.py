"""Half precision between columns, as in network 170-quant of the authors' notes of 2012 (not in the paper).

Gradients cross as those of a sum over images, as they do there, and not of the mean over the batch: float16 has all its
bits only above 6e-5, and the gradient of a mean over 128 images would lie below.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike


def narrowed(x: Array, dtype: DTypeLike) -> Array:
    """The values [batch, ...] in a type of fewer bits; its gradient there is of a sum over images, not their mean."""
    return _cast(x, dtype, -1)


def widened(x: Array, dtype: DTypeLike) -> Array:
    """The values [batch, ...] in the type they had before `narrowed`, whose scale the gradient gets back."""
    return _cast(x, dtype, 1)


@functools.partial(jax.custom_vjp, nondiff_argnames=('dtype', 'power'))
def _cast(x: Array, dtype: DTypeLike, power: int) -> Array:
    """The values in another type; their gradient is multiplied by a power of the number of images."""
    return x.astype(dtype)


def _forward(x: Array, dtype: DTypeLike, power: int) -> tuple[Array, Array]:
    return x.astype(dtype), jnp.zeros((), x.dtype)


def _backward(dtype: DTypeLike, power: int, like: Array, gradient: Array) -> tuple[Array]:
    factor = float(gradient.shape[0]) ** power
    return ((factor * gradient.astype(jnp.float32)).astype(like.dtype),)


_cast.defvjp(_forward, _backward)
