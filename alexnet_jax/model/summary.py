"""Layer table of a network: descriptions, outputs, parameters, multiply-adds, and what columns exchange."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from alexnet_jax.model.alexnet import AlexNet
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
    Table,
)


@dataclasses.dataclass(frozen=True)
class Line:
    """One layer, all columns together."""

    name: str
    kind: str  # 'Convolution', ...
    kernel: str  # a description, such as '96 of 11x11x3, stride 4'
    sees: str  # 'image', 'own column', 'both columns' or 'all columns'; '' without parameters
    output: tuple[int, ...]  # [height, width, channels] or [units]
    parameters: int  # kernel values and biases
    multiply_adds: int  # of an image, forward
    precision: str = 'network'  # in which an exchange passes its values
    edges: int = 0  # channels that a normalization takes of each neighboring column


class ColumnExchange(NamedTuple):
    """What a column receives from the others for one image, forward."""

    into: str  # the layer that uses it, or 'softmax'
    values: int
    size: int  # bytes


def network_lines(layers: Mapping[str, Layer] | Table, columns: int = 2, crop_size: int = 224) -> list[Line]:
    """The layers of a network for images of `crop_size` pixels a side, with the module's own shapes; no array is made.

    Raises:
      UserError: the layers do not fit the images or the number of columns.
    """
    network = AlexNet(layers, columns)
    image = jax.ShapeDtypeStruct((1, crop_size, crop_size, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, mutable=True), image)
    everyone = {1: 'own column', 2: 'both columns'}.get(columns, 'all columns')
    lines, inputs = [], 'image'
    for name, layer in network.table:
        shape = variables['intermediates'][f'after_{name}'][0][0].shape[1:]  # of one column
        parameters = variables['params'].get(name)
        kernel = parameters['kernel'].shape if parameters else ()
        # A kernel is used at every position of the output, unless each position has its own.
        uses = 1 if isinstance(layer, LocallyConnected) else math.prod(shape[:-1])
        lines.append(
            Line(
                name=name,
                kind=type(layer).__name__,
                kernel=_description(layer, kernel[1:]),
                sees=inputs if parameters else '',
                output=shape if isinstance(layer, Exchange) else (*shape[:-1], shape[-1] * columns),
                parameters=sum(math.prod(x.shape) for x in parameters.values()) if parameters else 0,
                multiply_adds=math.prod(kernel) * uses if parameters else 0,
                precision=layer.precision if isinstance(layer, Exchange) else 'network',
                edges=layer.n // 2 if isinstance(layer, LocalResponseNormalization) and layer.across_columns else 0,
            )
        )
        if isinstance(layer, Exchange):
            inputs = everyone
        elif parameters:
            inputs = 'own column'
    return lines


def _description(layer: Layer, kernel: tuple[int, ...]) -> str:
    match layer:
        case Convolution(kernels, size, stride):
            return f'{kernels} of {size}x{size}x{kernel[2]}' + (f', stride {stride}' if stride > 1 else '')
        case LocallyConnected(kernels, size, stride):
            channels = kernel[2] // size**2
            at_each = f'{kernels} of {size}x{size}x{channels} at each of {kernel[0]}x{kernel[1]} positions'
            return at_each + (f', stride {stride}' if stride > 1 else '')
        case Dense(units):
            return f'{units} of {kernel[0]}'
        case MaxPooling(size, stride):
            return f'max pooling {size}x{size}, stride {stride}'
        case AveragePooling(size, stride):
            return f'average pooling {size}x{size}, stride {stride}'
        case LocalResponseNormalization(k, n, alpha, beta, across_columns):
            return f'LRN k={k:g} n={n} alpha={alpha:g} beta={beta:g}' + ' across columns' * across_columns
        case SpatialNormalization(k, size, alpha, beta):
            return f'spatial k={k:g} {size}x{size} alpha={alpha:g} beta={beta:g}'
        case Dropout(rate):
            return f'dropout {rate:g}'
        case Exchange(precision) if precision != 'network':
            return f'exchange in {precision}'
    return type(layer).__name__.lower().replace('relu', 'ReLU')


def column_exchanges(lines: Sequence[Line], columns: int, bytes_per_value: int) -> list[ColumnExchange]:
    """What a column receives from the others for one image: at each exchange layer, and the logits for the softmax.

    At a normalization across columns it is what a column between two others receives, or one of two from the other.
    """
    if columns == 1:
        return []
    received = []
    for i, line in enumerate(lines):
        others = math.prod(line.output) * (columns - 1) // columns
        if line.kind == 'Exchange':
            into = next((after.name for after in lines[i:] if after.parameters), 'softmax')
            received.append((into, others, bytes_per_value if line.precision == 'network' else 2))
        elif line.edges:
            received.append(
                (line.name, math.prod(line.output[:-1]) * line.edges * min(2, columns - 1), bytes_per_value)
            )
    received.append(('softmax', others, bytes_per_value))
    return [ColumnExchange(into, values, values * size) for into, values, size in received]
