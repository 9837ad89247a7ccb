"""What a config's network is and what its devices exchange, as tables: `--mode=inspect`."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from alexnet_jax.config import Config
from alexnet_jax.data.augment import Statistics
from alexnet_jax.data.device_feed import batch_sharding
from alexnet_jax.model.alexnet import AlexNet
from alexnet_jax.model.columns import COLUMN, DATA, EVERYWHERE, Columns, sharding
from alexnet_jax.model.compiled import Collective, collectives
from alexnet_jax.model.layer_specs import (
    AveragePooling,
    Convolution,
    Dense,
    Dropout,
    Exchange,
    Layer,
    LocallyConnected,
    LocalResponseNormalization,
    MaxPooling,
    SpatialNormalization,
)
from alexnet_jax.model.layer_specs import Table as Layers
from alexnet_jax.runs.build import Experiment, build, state_shapes, training_step
from alexnet_jax.training.optimizer import layer_rates
from alexnet_jax.training.step import TrainState, state_sharding


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of the network's table, all columns together.

    Attributes:
      name: of the layer.
      kind: its type, such as 'Convolution'.
      kernel: what it is made of, such as '96 of 11x11x3, stride 4'.
      sees: whose values it computes from: 'image', 'own column', 'both columns', 'all columns'.
      output: [height, width, channels] or [units], of all columns.
      parameters: kernels and biases.
      multiply_adds: for one image, forward.
    """

    name: str
    kind: str
    kernel: str
    sees: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int


def lines(experiment: Experiment) -> list[Line]:
    """The network's lines, as the module itself computes their shapes."""
    return network_lines(experiment.config, experiment.config.network)


def network_lines(config: Config, table: Layers) -> list[Line]:
    """The same of a config and its network's table, whatever devices there are."""
    count, crop = config.columns, config.data.crop_size
    network = AlexNet(table, Columns(count, count))
    image = jax.ShapeDtypeStruct((1, crop, crop, 3), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), image)
    parameters = variables['params']
    _, traced = jax.eval_shape(
        lambda p, x: network.apply({'params': p}, x, mutable=['intermediates']), parameters, image
    )

    result = []
    inputs = 'image'
    everyone = {1: 'own column', 2: 'both columns'}.get(count, 'all columns')
    for name, layer in table:
        shape = traced['intermediates'][f'after_{name}'][0][0].shape[1:]
        own = parameters.get(name, {})
        kernel = own['kernel'].shape if own else ()
        output = shape if isinstance(layer, Exchange) else (*shape[:-1], shape[-1] * count)
        result.append(
            Line(
                name,
                type(layer).__name__,
                _kernel(layer, kernel[1:]),
                inputs if own else '',
                output,
                sum(math.prod(x.shape) for x in own.values()),
                _multiply_adds(layer, kernel, shape) if own else 0,
            )
        )
        if isinstance(layer, Exchange):
            inputs = everyone
        elif own:
            inputs = 'own column'
    return result


def _multiply_adds(layer: Layer, kernel: tuple[int, ...], output: tuple[int, ...]) -> int:
    """Of one image, in all columns: a kernel is used at every place, unless it has a place of its own."""
    return math.prod(kernel) * (1 if isinstance(layer, LocallyConnected) else math.prod(output[:-1]))


def _kernel(layer: Layer, shape: tuple[int, ...]) -> str:
    match layer:
        case Convolution(kernels, size, stride):
            return f'{kernels} of {size}x{size}x{shape[2]}' + (f', stride {stride}' if stride > 1 else '')
        case LocallyConnected(kernels, size, stride):
            own = f'{kernels} of {size}x{size}x{shape[2] // size**2} at each of {shape[0]}x{shape[1]} places'
            return own + (f', stride {stride}' if stride > 1 else '')
        case Dense(units):
            return f'{units} of {shape[0]}'
        case MaxPooling(size, stride):
            return f'max pooling {size}x{size}, stride {stride}'
        case AveragePooling(size, stride):
            return f'average pooling {size}x{size}, stride {stride}'
        case LocalResponseNormalization(k, n, alpha, beta):
            return f'LRN k={k:g} n={n} alpha={alpha:g} beta={beta:g}'
        case SpatialNormalization(k, size, alpha, beta):
            return f'spatial k={k:g} {size}x{size} alpha={alpha:g} beta={beta:g}'
        case Dropout(rate):
            return f'dropout {rate:g}'
    return type(layer).__name__.lower().replace('relu', 'ReLU')


def lowered_step(experiment: Experiment) -> jax.stages.Lowered:
    """The training step as given to the compiler, for the experiment's mesh; no array is made."""
    return training_step(experiment).lower(*step_arguments(experiment))


def compiled_step(experiment: Experiment) -> jax.stages.Compiled:
    """The compiled training step, for the experiment's mesh; no array is made."""
    return lowered_step(experiment).compile()


def step_arguments(experiment: Experiment) -> tuple[Any, ...]:
    """Shapes, types and places of what the training step takes."""
    mesh, config = experiment.mesh, experiment.config
    batch, crop, size = config.batch_size, config.data.crop_size, config.data.image_size
    fields = {
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
    everywhere = sharding(mesh, EVERYWHERE)
    shapes: TrainState = state_shapes(experiment)
    rates = layer_rates(shapes.parameters, 0.0, 0.0, config.rate_control)
    return (
        jax.tree.map(lambda x, where: _placed(x.shape, x.dtype, where), shapes, state_sharding(shapes, mesh)),
        {name: _placed(shape, dtype, batch_sharding(mesh)) for name, (shape, dtype) in fields.items()},
        Statistics(_placed((size, size, 3), np.float32, everywhere), _placed((3, 3), np.float32, everywhere)),
        jax.tree.map(lambda rate: _placed((), rate.dtype, everywhere), rates),
    )


def _placed(shape: tuple[int, ...], dtype: Any, where: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=where)


def inspect(config: Config, console: Console) -> None:
    """Prints the layers, where parameters live, and what devices exchange.

    Raises:
      UserError: the config does not make sense, or does not fit the devices.
    """
    experiment = build(config)
    console.print(_layers_table(experiment))
    console.print(_places_table(experiment))
    found = []
    if experiment.mesh.size > 1:  # one device has nobody to exchange anything with
        with console.status('compiling the training step'):
            # The program is not run, so that its machine code may be poor; exchanges are settled before that is made.
            compiled = lowered_step(experiment).compile({'xla_backend_optimization_level': 0})
            found = collectives(compiled.as_text(), experiment.mesh)
    console.print(_exchanges_table(experiment, found))


def _layers_table(experiment: Experiment) -> Table:
    found = lines(experiment)
    table = Table(
        title=f'{experiment.config.name}: the network, {experiment.config.columns} column(s)', box=SIMPLE_HEAD
    )
    for column in ('layer', 'what it is', 'sees', 'output'):
        table.add_column(column, no_wrap=True)
    for column in ('parameters', 'multiply-adds'):
        table.add_column(column, justify='right', no_wrap=True)
    for line in found:
        numbers = [f'{n:,}' if n else '' for n in (line.parameters, line.multiply_adds)]
        table.add_row(line.name, line.kernel, line.sees, 'x'.join(map(str, line.output)), *numbers)
    table.add_section()
    totals = [
        f'{sum(values):,}' for values in zip(*((line.parameters, line.multiply_adds) for line in found), strict=True)
    ]
    table.add_row('sum', '', '', '', *totals)
    return table


def _places_table(experiment: Experiment) -> Table:
    mesh = experiment.mesh
    table = Table(
        title=f'Where parameters live, on {mesh.size} {mesh.devices.flat[0].platform} device(s)', box=SIMPLE_HEAD
    )
    table.add_column('parameter')
    table.add_column('shape')
    copies, partners = mesh.devices.shape
    for copy in range(copies):
        for partner in range(partners):
            table.add_column(f'device {mesh.devices[copy, partner].id}\n{DATA} {copy}, {COLUMN} {partner}')
    shapes = state_shapes(experiment)
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes.parameters):
        where = state_sharding(leaf, mesh).devices_indices_map(leaf.shape)
        row = [_columns(where[device][0], leaf.shape[0]) for device in mesh.devices.flat]
        table.add_row('/'.join(part.key for part in path), 'x'.join(map(str, leaf.shape)), *row)
    return table


def _columns(part: slice, count: int) -> str:
    first, last = part.start or 0, part.stop or count
    numbers = ', '.join(str(i + 1) for i in range(first, last))
    return f'column{"s" if last - first > 1 else ""} {numbers}'


def _exchanges_table(experiment: Experiment, found: list[Collective]) -> Table:
    mesh, batch = experiment.mesh, experiment.config.batch_size
    per_device = batch // mesh.shape[DATA]
    times = experiment.config.accumulation_steps  # what columns exchange they exchange in each part
    found = [dataclasses.replace(one, received=one.received * times) if COLUMN in one.axes else one for one in found]
    table = Table(
        title='What devices exchange in a training step, read from the compiled program',
        box=SIMPLE_HEAD,
        caption=f'{batch} images a step, {per_device} a device' if found else 'Nothing: no device needs another.',
    )
    for column in ('along', 'exchange', 'result on a device'):
        table.add_column(column)
    for column in ('bytes received by\na device in a step', 'by image'):
        table.add_column(column, justify='right')
    for one in found:
        shapes = ', '.join(one.shapes[:2]) + (f' and {len(one.shapes) - 2} more' if len(one.shapes) > 2 else '')
        per_image = f'{one.received / per_device:,.0f}' if DATA not in one.axes else ''
        table.add_row(' and '.join(one.axes), one.kind, shapes, f'{one.received:,}', per_image)
    for axis in mesh.axis_names:
        total = sum(one.received for one in found if one.axes == (axis,))
        if total:
            table.add_section()
            table.add_row(axis, 'sum', '', f'{total:,}', f'{total / per_device:,.0f}' if axis == COLUMN else '')
    return table
