"""Checksums of a training state, the same on any mesh, and whether all of it is finite."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from alexnet_jax.model.columns import EVERYWHERE, sharding


def examine(state: Any) -> tuple[dict[str, int], bool]:
    """Computes the checksum of each array on the devices, and looks for values that are not finite.

    A checksum is the sum over all elements of the element's 32 bits times an odd number that depends on its position,
    modulo 2**32. Any change of one element changes it; any other change does with probability 1 - 2**-32. Sums of
    integers do not depend on their order, so checksums do not depend on the mesh.

    Args:
      state: a tree of arrays of 32-bit elements, all on one mesh.

    Returns:
      The checksum of every array by its name; and whether all floating-point elements are finite.
    """
    everywhere = sharding(jax.tree.leaves(state)[0].sharding.mesh, EVERYWHERE)
    checksums, finite = jax.jit(_examine, out_shardings=everywhere)(state)
    named = jax.tree_util.tree_leaves_with_path(checksums)
    return {name_of(path): int(checksum) for path, checksum in named}, bool(finite)


def name_of(path: tuple[Any, ...]) -> str:
    """The name of a leaf in messages and checkpoints, such as 'parameters/conv1/kernel'."""
    return jax.tree_util.keystr(path, simple=True, separator='/')


def _examine(state: Any) -> tuple[Any, Array]:
    floats = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    finite = jnp.stack([jnp.isfinite(x).all() for x in floats]).all()
    return jax.tree.map(_checksum, state), finite


def _checksum(x: Array) -> Array:
    bits = lax.bitcast_convert_type(x, jnp.uint32)
    position, stride = jnp.zeros((), jnp.uint32), 1
    for axis in reversed(range(x.ndim)):
        position += lax.broadcasted_iota(jnp.uint32, x.shape, axis) * jnp.uint32(stride % 2**32)
        stride *= x.shape[axis]
    position = (position ^ (position >> 15)) * jnp.uint32(0x9E3779B1)  # so that neighbors differ in all their bits
    return jnp.sum(bits * ((position ^ (position >> 13)) | 1), dtype=jnp.uint32)
