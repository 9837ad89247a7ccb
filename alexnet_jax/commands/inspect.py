"""`--mode=inspect`: tables of a config's network and of what its devices hold and exchange, or of two networks."""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence, Set
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from rich.console import Console

from alexnet_jax.commands.tables import Table, add_row, new_table
from alexnet_jax.config import Config
from alexnet_jax.data.augment import Statistics
from alexnet_jax.data.device_feed import batch_sharding
from alexnet_jax.model.columns import COLUMN, DATA, EVERYWHERE, sharding
from alexnet_jax.model.compiled import Collective, collectives
from alexnet_jax.model.summary import Line, network_lines
from alexnet_jax.runs.build import Experiment, build, training_step
from alexnet_jax.runtime.compiler_options import known_options
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.formatting import format_count
from alexnet_jax.training.optimizer import layer_rates
from alexnet_jax.training.step import TrainState, state_sharding

_DIFFERENT = '*'


# One network.


def inspect(config: Config, console: Console, workdir: str | None = None) -> None:
    """Prints the layers, the placement of parameters, and what devices exchange; draws the network (Figure 2).

    Args:
      config: of the network.
      console: for output.
      workdir: for figures/network.png and .svg, and the same for phones (network_narrow); None to print only.

    Raises:
      UserError: the config is not valid, or does not fit the devices; or a picture cannot be written.
    """
    experiment = build(config)
    console.print(_layers_table(config))
    console.print(_placement_table(experiment))
    found = []
    if experiment.mesh.size > 1:
        with console.status('compiling the training step'):
            # Not to be run, so its machine code may be poor; what is exchanged is settled before that is made.
            compiled = lowered_step(experiment).compile(known_options({'xla_backend_optimization_level': '0'}))
            found = collectives(compiled.as_text() or '', experiment.mesh)
    console.print(_exchanges_table(experiment, found))
    if workdir:
        from alexnet_jax.figures.figure2 import devices_of, write_network  # imports Matplotlib, which takes a while

        devices = devices_of(experiment.mesh, config.columns)
        write_network(config, pathlib.Path(workdir) / 'figures', console, devices)


def lines_of(config: Config) -> list[Line]:
    """The layers of a config's network; UserError if they do not fit the images or the number of columns."""
    return network_lines(config.network, config.columns, config.data.crop_size)


def _layers_table(config: Config) -> Table:
    lines = lines_of(config)
    title = f'{config.name}: the network, {config.columns} column(s)'
    table = new_table(title, '', ('layer', 'description', 'sees', 'output'), ('parameters', 'multiply-adds'))
    for line in lines:
        counts = format_count(line.parameters), format_count(line.multiply_adds)
        add_row(table, line.name, line.kernel, line.sees, _by(line.output), *counts)
    table.add_section()
    add_row(table, 'sum', '', '', '', *(f'{sum(getattr(line, field) for line in lines):,}' for field in _COUNTS))
    return table


_COUNTS = ('parameters', 'multiply_adds')


def _by(shape: Sequence[int]) -> str:
    return 'x'.join(map(str, shape))


def _placement_table(experiment: Experiment) -> Table:
    mesh = experiment.mesh
    devices = [
        f'device {device.id}\n{DATA} {copy}, {COLUMN} {partner}'
        for (copy, partner), device in zip(np.ndindex(mesh.devices.shape), mesh.devices.flat, strict=True)
    ]
    title = f'Placement of the parameters on {mesh.size} {mesh.devices.flat[0].platform} device(s)'
    table = new_table(title, '', ('parameter', 'shape', *devices))
    for path, leaf in jax.tree_util.tree_leaves_with_path(experiment.shapes.parameters):
        where = state_sharding(leaf, mesh).devices_indices_map(leaf.shape)
        parts = [range(leaf.shape[0])[where[device][0]] for device in mesh.devices.flat]
        columns = [f'column{"s" * (len(part) > 1)} {", ".join(str(i + 1) for i in part)}' for part in parts]
        add_row(table, jax.tree_util.keystr(path, simple=True, separator='/'), _by(leaf.shape), *columns)
    return table


def _exchanges_table(experiment: Experiment, found: Sequence[Collective]) -> Table:
    mesh, batch = experiment.mesh, experiment.config.batch_size
    per_device = batch // mesh.shape[DATA]
    times = experiment.config.accumulation_steps  # what columns exchange they exchange in each micro-batch
    found = list(dict.fromkeys(found)) if times > 1 else found  # once, where micro-batches are written out
    found = [dataclasses.replace(one, received=one.received * times) if COLUMN in one.axes else one for one in found]
    table = new_table(
        'What devices exchange in a training step, from the compiled program',
        f'{batch} images a step, {per_device} a device' if found else 'Nothing: no device needs another.',
        ('along', 'exchange', 'result on a device'),
        ('bytes received by\na device in a step', 'by image'),
    )
    for one in found:
        shapes = ', '.join(one.shapes[:2]) + (f' and {len(one.shapes) - 2} more' if len(one.shapes) > 2 else '')
        per_image = f'{one.received / per_device:,.0f}' if DATA not in one.axes else ''
        add_row(table, ' and '.join(one.axes), one.kind, shapes, f'{one.received:,}', per_image)
    for axis in mesh.axis_names:
        if total := sum(one.received for one in found if one.axes == (axis,)):
            table.add_section()
            add_row(table, axis, 'sum', '', f'{total:,}', f'{total / per_device:,.0f}' if axis == COLUMN else '')
    return table


# The training step, without arrays.


def lowered_step(experiment: Experiment) -> jax.stages.Lowered:
    """The training step as given to the compiler, for the experiment's mesh; no array is made."""
    step: Any = training_step(experiment)
    lowered: jax.stages.Lowered = step.lower(*step_arguments(experiment))
    return lowered


def step_arguments(experiment: Experiment) -> tuple[Any, ...]:
    """Shapes, types and placement of the training step's arguments."""
    mesh, config = experiment.mesh, experiment.config
    batch, crop, size = config.batch_size, config.data.crop_size, config.data.image_size
    fields: dict[str, tuple[tuple[int, ...], type]] = {
        'image': ((batch, crop, crop, 3), np.uint8),
        'label': ((batch,), np.int32),
        'top': ((batch,), np.int32),
        'left': ((batch,), np.int32),
        'mirror': ((batch,), np.bool_),
        'color': ((batch, 3), np.float32),
        'dropout_seed': ((batch,), np.uint32),
    }
    if config.data.color_rescale:
        fields['scale'] = ((batch,), np.float32)
    if config.data.blend_probability:
        fields |= {f'blend_{name}': fields[name] for name in ('image', 'top', 'left', 'mirror')}
        fields['blend_weight'] = ((batch,), np.float32)
    constants = {'mean_image': (size, size, 3), 'color_components': (3, 3)}
    if config.data.mean_patch == 'center':
        constants['mean_patch'] = (crop, crop, 3)
    everywhere = sharding(mesh, EVERYWHERE)
    shapes: TrainState = experiment.shapes
    rates = layer_rates(shapes.parameters, 0.0, 0.0, config.rate_control)
    return (
        jax.tree.map(lambda x, where: _placed(x.shape, x.dtype, where), shapes, state_sharding(shapes, mesh)),
        {name: _placed(shape, dtype, batch_sharding(mesh)) for name, (shape, dtype) in fields.items()},
        Statistics(**{name: _placed(shape, np.float32, everywhere) for name, shape in constants.items()}),
        jax.tree.map(lambda rate: _placed((), rate.dtype, everywhere), rates),
    )


def _placed(shape: tuple[int, ...], dtype: Any, where: NamedSharding) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=where)


# Two networks.


def inspect_beside(one: Config, other: Config, console: Console) -> None:
    """Prints the layers of two networks side by side, their parameters and multiply-adds, and the ratios."""
    first = lines_of(one)
    try:
        second = lines_of(other)
    except UserError as error:
        raise UserError(f'--beside: {error}') from error
    networks = dict(one.network), dict(other.network)
    same = {name for name, layer in networks[0].items() if networks[1].get(name) == layer}
    console.print(_pairs_table(one.name, other.name, list(pairs(first, second)), same))


Pair = tuple[Line | None, Line | None]


def pairs(first: Sequence[Line], second: Sequence[Line]) -> Iterator[Pair]:
    """Matches layers by name, in the order of the first; those of the second alone follow their predecessor.

    Yields:
      A line of each network, None where it has none of the name.
    """
    names, by_name = {line.name for line in first}, {line.name: line for line in second}
    alone: dict[str, list[Line]] = {}  # by the name before
    before = ''
    for line in second:
        if line.name in names:
            before = line.name
        else:
            alone.setdefault(before, []).append(line)
    yield from ((None, line) for line in alone.get('', []))
    for line in first:
        yield line, by_name.get(line.name)
        yield from ((None, other) for other in alone.get(line.name, []))


def _pairs_table(one: str, other: str, found: Sequence[Pair], same: Set[str]) -> Table:
    """Lines of two networks, named `one` and `other`; `same` are the layers whose specifications are equal."""
    table = new_table(
        f'{one} and {other}',
        f'{_DIFFERENT} marks layers that differ. Ratio: the second to the first.',
        ('layer', ''),
        [f'{what}\n{name}' for what in ('output', 'parameters', 'multiply-adds') for name in (one, other)],
    )
    for pair in found:
        name = next(line.name for line in pair if line)
        counts = [format_count(getattr(line, field, 0)) for field in _COUNTS for line in pair]
        outputs = [_by(line.output) if line else '' for line in pair]
        equal = pair[0] == pair[1] and name in same
        add_row(table, name, '' if equal else _DIFFERENT, *outputs, *counts)
    totals = [sum(getattr(pair[i], field, 0) for pair in found) for field in _COUNTS for i in (0, 1)]
    table.add_section()
    add_row(table, 'sum', '', '', '', *map(format_count, totals))
    add_row(table, 'ratio', '', '', '', '', f'{totals[1] / totals[0]:.3f}', '', f'{totals[3] / totals[2]:.3f}')
    return table
