"""Whether a training state is what it was: a mark for every array, the same on any mesh, and whether all is finite."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from alexnet_jax.model.columns import EVERYWHERE, sharding


def examine(state: Any) -> tuple[dict[str, int], bool]:
    """Computes each array's mark on the devices, and looks for what is not finite.

    A mark is the sum over all elements of the element's 32 bits times an odd number that depends on its place,
    modulo 2**32. Any change of one element changes it; any other change does so but for one time in 2**32. Sums of
    integers do not depend on their order, so neither does the mark on the mesh.

    Args:
      state: a tree of arrays of 32-bit elements, all on one mesh.

    Returns:
      The mark of every array by its path; and whether all floating-point elements are finite.
    """
    everywhere = sharding(jax.tree.leaves(state)[0].sharding.mesh, EVERYWHERE)
    marks, finite = jax.jit(_examine, out_shardings=everywhere)(state)
    return {path_of(path): int(mark) for path, mark in jax.tree_util.tree_leaves_with_path(marks)}, bool(finite)


def path_of(path: tuple[Any, ...]) -> str:
    """The path of a leaf as it reads in messages, such as 'parameters/conv1/kernel'."""
    return '/'.join(str(getattr(part, 'key', getattr(part, 'name', getattr(part, 'idx', part)))) for part in path)


def _examine(state: Any) -> tuple[Any, Array]:
    floats = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    finite = jnp.stack([jnp.isfinite(x).all() for x in floats]).all()
    return jax.tree.map(_mark, state), finite


def _mark(x: Array) -> Array:
    bits = lax.bitcast_convert_type(x, jnp.uint32)
    place, stride = jnp.zeros((), jnp.uint32), 1
    for axis in reversed(range(x.ndim)):
        place += lax.broadcasted_iota(jnp.uint32, x.shape, axis) * jnp.uint32(stride % 2**32)
        stride *= x.shape[axis]
    place = (place ^ (place >> 15)) * jnp.uint32(0x9E3779B1)  # neighbors are told apart by all their bits
    return jnp.sum(bits * ((place ^ (place >> 13)) | 1), dtype=jnp.uint32)
