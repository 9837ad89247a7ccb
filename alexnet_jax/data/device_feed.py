"""Batches from the host to the devices of a mesh."""

import collections
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding

from alexnet_jax.data.augment import Statistics
from alexnet_jax.model.columns import DATA, EVERYWHERE, PER_EXAMPLE, sharding

Batch = dict[str, Array]
S = TypeVar('S')
T = TypeVar('T')


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of a batch: examples along 'data', replicated over the columns."""
    return sharding(mesh, PER_EXAMPLE)


def local_positions(mesh: Mesh, batch_size: int) -> np.ndarray:
    """Positions in a batch that this process's devices hold, int64, ascending; all of them with one process."""
    held = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[index] for index in held]))


def to_devices(batch: Any, mesh: Mesh) -> Any:
    """Sends this process's share of a batch (a tree of arrays), that of `local_positions`, to its devices."""
    shards = mesh.shape[DATA]
    local = len(local_positions(mesh, shards))

    def send(x: np.ndarray) -> Any:
        global_shape = (len(x) * shards // local, *x.shape[1:])
        return jax.make_array_from_process_local_data(batch_sharding(mesh), x, global_shape)

    return jax.tree.map(send, batch)


def run_ahead(items: Iterable[T], count: int = 2) -> Iterator[T]:
    """Yields items `count` later than it takes them, so that devices work on the next ones meanwhile."""
    waiting: collections.deque[T] = collections.deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


def results_ahead(step: Callable[[S], T], batches: Iterable[S], mesh: Mesh, count: int = 2) -> Iterator[T]:
    """Yields a step's results for batches, `count` batches later than it takes them.

    On a CPU a step is dispatched when the one before has ended, as it would hold its memory while it waits; the next
    batch is made meanwhile.
    """
    on_cpu = mesh.devices.flat[0].platform == 'cpu'
    before = None

    def in_turn(batch: S) -> T:
        nonlocal before
        if on_cpu:
            jax.block_until_ready(before)
        before = step(batch)
        return before

    return run_ahead(map(in_turn, batches), count)


def prefetch_to_devices(batches: Iterable[Any], mesh: Mesh, count: int = 2) -> Iterator[Any]:
    """Sends batches to the devices `count` steps early, so that no step waits for the transfer."""
    return run_ahead((to_devices(batch, mesh) for batch in batches), count)


def statistics_to_devices(statistics: Statistics, mesh: Mesh) -> Statistics:
    """Replicates the training set's statistics on every device."""
    return Statistics(*jax.device_put(tuple(statistics), sharding(mesh, EVERYWHERE)))
