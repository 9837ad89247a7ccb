"""Batches and statistics, from the host to the devices of the mesh."""

import collections
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding

from alexnet_jax.data.augment import Statistics
from alexnet_jax.model.columns import DATA, EVERYWHERE, PER_EXAMPLE, sharding

Batch = dict[str, Array]


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: examples are split along 'data', and every column has the same ones."""
    return sharding(mesh, PER_EXAMPLE)


def own_places(mesh: Mesh, batch_size: int) -> np.ndarray:
    """The places in a batch, ascending, that this process's devices hold; with one process all of them."""
    held = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[index] for index in held]))


def to_devices(batch: Any, mesh: Mesh) -> Batch:
    """Sends this process's share of a batch, that of `own_places`, to its devices."""
    copies = mesh.shape[DATA]
    share = len(own_places(mesh, copies))

    def send(x: np.ndarray) -> Array:
        whole = (len(x) * copies // share, *x.shape[1:])
        return jax.make_array_from_process_local_data(batch_sharding(mesh), x, whole)

    return jax.tree.map(send, batch)


def ahead(batches: Iterator[Any], mesh: Mesh, count: int = 2) -> Iterator[Batch]:
    """Sends batches to the devices `count` steps before they are needed, so that no step waits for the transfer."""
    waiting: collections.deque[Batch] = collections.deque()
    for batch in batches:
        waiting.append(to_devices(batch, mesh))
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


def statistics_to_devices(statistics: Statistics, mesh: Mesh) -> Statistics:
    """Sends the training set's statistics to every device."""
    return jax.tree.map(lambda x: jax.device_put(x, sharding(mesh, EVERYWHERE)), statistics)
