"""The paper's two GPUs (section 3.2): the mesh, the placement of arrays, and the communication between columns.

The mesh has two axes. Along 'column' each device holds the kernels, velocity and activations of its own columns, the
paper's split. Along 'data' copies of the network share a batch. Inside `jax.shard_map` a device sees only its own
columns; `Columns.exchange` passes activations between them, and `Columns.neighbors` those at the columns' edges.
"""

import dataclasses
from typing import cast

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from alexnet_jax.runtime.errors import UserError

DATA, COLUMN = 'data', 'column'
PER_COLUMN = PartitionSpec(COLUMN)  # parameters and velocity: the leading axis is the column
PER_EXAMPLE = PartitionSpec(DATA)  # batches: the leading axis is the example
EVERYWHERE = PartitionSpec()


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a network, and how many of them are local to a device.

    Attributes:
      count: of the network, 2 in the paper.
      local: columns on this device; the others are on the devices along the mesh axis.
      axis: name of that mesh axis inside `jax.shard_map`; None outside, where all columns are local.
    """

    count: int
    local: int
    axis: str | None = None

    def exchange(self, values: list[Array]) -> Array:
        """Concatenates the activations of all columns along the last axis, column 1 first.

        Args:
          values: for each local column an array [..., n].

        Returns:
          [..., count * n], the same for every column. Its gradient, for a column, is the sum of all columns' gradients.
        """
        joined = _concatenated(values)
        if self.local == self.count:
            return joined
        return cast(Array, lax.all_gather(joined, self.axis, axis=joined.ndim - 1, tiled=True))

    def neighbors(self, values: list[Array], count: int) -> list[tuple[Array, Array]]:
        """For each local column the last `count` values of the column before it and the first of the one after it.

        Args:
          values: for each local column an array [..., n].
          count: along the last axis, at most n.

        Returns:
          Pairs of arrays [..., count]; zeros where there is no such column.
        """
        first, last = values[0][..., :count], values[-1][..., values[-1].shape[-1] - count :]
        devices = self.count // self.local
        if devices == 1:
            before = after = jnp.zeros_like(first)
        else:
            before = lax.ppermute(last, self.axis, [(i, i + 1) for i in range(devices - 1)])
            after = lax.ppermute(first, self.axis, [(i + 1, i) for i in range(devices - 1)])
        lasts = [x[..., x.shape[-1] - count :] for x in values]
        firsts = [x[..., :count] for x in values]
        return list(zip([before, *lasts[:-1]], [*firsts[1:], after], strict=True))

    def gather_logits(self, values: list[Array]) -> Array:
        """Concatenates the columns' logits as `exchange` does, for the loss, which is then the same in every column.

        Nothing after it differs between columns, so that its gradient needs no communication.
        """
        joined = _concatenated(values)
        if self.axis is None:
            return joined
        return cast(Array, lax.all_gather(joined, self.axis, axis=joined.ndim - 1, tiled=True, to='invarying'))

    def indices(self) -> list[Array | int]:
        """Indices of the local columns, from 0."""
        first = 0 if self.axis is None else lax.axis_index(self.axis) * self.local
        return [first + i for i in range(self.local)]


def _concatenated(values: list[Array]) -> Array:
    return values[0] if len(values) == 1 else jnp.concatenate(values, axis=-1)


def make_mesh(columns: int, data: int = 0, column: int = 0, devices: list[jax.Device] | None = None) -> Mesh:
    """Arranges devices as ('data', 'column').

    Args:
      columns: of the network.
      data: copies of the network that share a batch; 0 for as many as the devices allow.
      column: devices over which a copy's columns are split; 0 for one column a device if the number of devices is a
        multiple of the columns, otherwise all columns on each device.
      devices: by default all that JAX has.

    Raises:
      UserError: the columns cannot be split so, or there are too few devices.
    """
    devices = jax.devices() if devices is None else devices
    if columns < 1 or min(data, column) < 0:
        raise UserError(
            f'config.columns={columns} must be at least 1, config.mesh.data={data} and '
            f'config.mesh.column={column} at least 0 (0: as many as fit).'
        )
    if column == 0:
        one_a_device = len(devices) % columns == 0 and columns * max(data, 1) <= len(devices)
        column = columns if one_a_device else 1
    if columns % column:
        raise UserError(f'config.mesh.column={column} must be a divisor of the number of columns, {columns}.')
    data = data or max(1, len(devices) // column)
    request = f'config.mesh: {data} (data) x {column} (column) = {data * column} devices requested'
    if data * column > len(devices):
        raise UserError(
            f'{request}, {len(devices)} {devices[0].platform} device(s) found. Lower config.mesh.data or '
            'config.mesh.column; to try a mesh without such devices, run with JAX_PLATFORMS=cpu, which simulates any '
            'number.'
        )
    if jax.process_count() > 1 and data * column != len(devices):
        raise UserError(
            f'{request}, but the {jax.process_count()} processes have {len(devices)}; several processes use them all.'
        )
    return jax.make_mesh(
        (data, column), (DATA, COLUMN), axis_types=(AxisType.Auto,) * 2, devices=devices[: data * column]
    )


def columns_on(mesh: Mesh, count: int) -> Columns:
    """The columns as a device of the mesh sees them inside `jax.shard_map`."""
    return Columns(count, count // mesh.shape[COLUMN], COLUMN)


def sharding(mesh: Mesh, spec: PartitionSpec) -> NamedSharding:
    """The placement of an array on the mesh."""
    return NamedSharding(mesh, spec)


def check_batch(batch_size: int, mesh: Mesh) -> None:
    """Raises UserError if the devices along 'data' do not divide the batch."""
    copies = mesh.shape[DATA]
    if batch_size < 1 or batch_size % copies:
        raise UserError(
            f'config.batch_size={batch_size} is not divisible by the {copies} devices along the mesh axis '
            f"'data'; use a multiple of {copies}, or set config.mesh.data."
        )
