"""The paper's two GPUs (section 3.2): the mesh, where each array lives, and how columns meet.

The mesh has two axes. Along 'column' lies the paper's split: each device holds its own column's kernels,
velocity and activations. Along 'data' lie copies that share a batch. Inside `jax.shard_map` a device sees
only its own column; `Columns.exchange` is the one place at which columns see each other's values.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from alexnet_jax.runtime.errors import UserError

DATA, COLUMN = 'data', 'column'
PER_COLUMN = PartitionSpec(COLUMN)  # parameters and velocity: their leading axis is the column
PER_EXAMPLE = PartitionSpec(DATA)  # batches: their leading axis is the example
EVERYWHERE = PartitionSpec()


@dataclasses.dataclass(frozen=True)
class Columns:
    """How many columns there are, and how many of them live on one device.

    Attributes:
      count: columns of the network, 2 in the paper.
      here: columns on this device; the others live on its partners along the mesh axis.
      axis: name of that mesh axis inside `jax.shard_map`; None outside, where all columns are here.
    """

    count: int
    here: int
    axis: str | None = None

    def exchange(self, values: list[Array]) -> Array:
        """Joins the values of all columns along the last axis, column 1's first.

        Args:
          values: one array [..., n] for each column on this device.

        Returns:
          [..., count * n], the same on every device of a row of columns. Backward, a column receives the
          sum of what all columns have to say about its values.
        """
        joined = values[0] if len(values) == 1 else jnp.concatenate(values, axis=-1)
        if self.here == self.count:
            return joined
        return lax.all_gather(joined, self.axis, axis=joined.ndim - 1, tiled=True)

    def gather_logits(self, values: list[Array]) -> Array:
        """Joins the columns' logits as `exchange` does, for the loss, which every column then computes alike.

        As nothing after it differs between columns, its gradient takes no communication.
        """
        joined = values[0] if len(values) == 1 else jnp.concatenate(values, axis=-1)
        if self.axis is None:
            return joined
        return lax.all_gather(joined, self.axis, axis=joined.ndim - 1, tiled=True, to='invarying')

    def indices(self) -> list[Array | int]:
        """The numbers, from 0, of the columns on this device."""
        first = 0 if self.axis is None else lax.axis_index(self.axis) * self.here
        return [first + i for i in range(self.here)]


def make_mesh(columns: int, data: int = 0, column: int = 0, devices: list[jax.Device] | None = None) -> Mesh:
    """Lays the devices out as ('data', 'column').

    Args:
      columns: columns of the network.
      data: copies that share a batch; 0 for as many as the devices allow.
      column: devices over which a copy's columns are split; 0 for all columns apart where the number of
        devices is a multiple of them, all of them together on each device otherwise.
      devices: the devices to use, by default all that JAX has.

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
        apart = len(devices) % columns == 0 and columns * max(data, 1) <= len(devices)
        column = columns if apart else 1
    if columns % column:
        raise UserError(
            f'config.mesh.column={column}: {columns} column(s) cannot be dealt evenly to {column} devices; '
            f'take a divisor of {columns}.'
        )
    data = data or max(1, len(devices) // column)
    if data * column > len(devices):
        raise UserError(
            f'config.mesh: {data} (data) x {column} (column) = {data * column} devices asked for, '
            f'{len(devices)} {devices[0].platform} device(s) found. Lower config.mesh.data or config.mesh.column; '
            'to try a mesh without such devices, run with JAX_PLATFORMS=cpu, where any number can be simulated.'
        )
    if jax.process_count() > 1 and data * column != len(devices):
        raise UserError(
            f'config.mesh: {data} (data) x {column} (column) = {data * column} devices asked for, and the '
            f'{jax.process_count()} processes have {len(devices)}; in a run of several processes all are used.'
        )
    return jax.make_mesh(
        (data, column), (DATA, COLUMN), axis_types=(AxisType.Auto,) * 2, devices=devices[: data * column]
    )


def columns_on(mesh: Mesh, count: int) -> Columns:
    """How `count` columns live on each device of a mesh, as seen inside `jax.shard_map`."""
    return Columns(count, count // mesh.shape[COLUMN], COLUMN)


def sharding(mesh: Mesh, spec: PartitionSpec) -> NamedSharding:
    """Where an array with this layout lives on the mesh."""
    return NamedSharding(mesh, spec)


def check_batch(batch_size: int, mesh: Mesh) -> None:
    """Raises UserError where a batch cannot be dealt evenly to the copies along 'data'."""
    copies = mesh.shape[DATA]
    if batch_size < 1 or batch_size % copies:
        raise UserError(
            f'config.batch_size={batch_size} is not divisible by the {copies} devices along the mesh axis '
            f"'data'; take a multiple of {copies}, or set config.mesh.data."
        )
