"""Half precision between columns, as in network 170-quant of the authors' notes of 2012 (not in the paper).

Gradients cross as those of a sum over images, as they do there, and not of the mean over the batch: float16 has all its
bits only above 6e-5, and the gradient of a mean over 128 images would lie below.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike


@functools.partial(jax.custom_vjp, nondiff_argnames=('dtype',))
def narrowed(x: Array, dtype: DTypeLike) -> Array:
    """The values [batch, ...] in a type of fewer bits; its gradient there is of a sum over images, not their mean."""
    return x.astype(dtype)


def _narrowed_forward(x: Array, dtype: DTypeLike) -> tuple[Array, Array]:
    return x.astype(dtype), jnp.zeros((), x.dtype)


def _narrowed_backward(dtype: DTypeLike, like: Array, gradient: Array) -> tuple[Array]:
    return (gradient.astype(like.dtype) / gradient.shape[0],)


narrowed.defvjp(_narrowed_forward, _narrowed_backward)


@functools.partial(jax.custom_vjp, nondiff_argnames=('dtype',))
def widened(x: Array, dtype: DTypeLike) -> Array:
    """The values [batch, ...] in the type they had before `narrowed`, whose scale the gradient gets back."""
    return x.astype(dtype)


def _widened_forward(x: Array, dtype: DTypeLike) -> tuple[Array, Array]:
    return x.astype(dtype), jnp.zeros((), x.dtype)


def _widened_backward(dtype: DTypeLike, like: Array, gradient: Array) -> tuple[Array]:
    return ((gradient * gradient.shape[0]).astype(like.dtype),)


widened.defvjp(_widened_forward, _widened_backward)
