"""What XLA is kept from doing: computing a value anew in every operation that reads it."""

import jax
from jax import Array, lax


@jax.custom_vjp
def computed_once(x: Array) -> Array:
    """x, and backward its gradient, which XLA is to compute and to keep.

    XLA fuses what is cheap into all that reads it: a normalization into each of the nine slices of a pooling. Its CPU
    compiler takes an `optimization_barrier` out before it fuses. It does not look through a first element that is
    written over itself, which happens in place and costs nothing.
    """
    return lax.platform_dependent(x, cpu=_first_element_rewritten, default=lax.optimization_barrier)


computed_once.defvjp(lambda x: (computed_once(x), None), lambda _, gradient: (computed_once(gradient),))


def _first_element_rewritten(x: Array) -> Array:
    first = (0,) * x.ndim
    return lax.dynamic_update_slice(x, lax.slice(x, first, (1,) * x.ndim), first)
