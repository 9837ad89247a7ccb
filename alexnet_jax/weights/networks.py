"""Converts a foreign network: its table of layers, its columns, and its parameters in the layout used here.

Kernels of [kernels, channels, height, width] become [column, height, width, channels, kernels], and a matrix that
follows a map takes the map's values by height, width and channel. Dropout here halves its values at test time (section
4.2), which that of other libraries does not: the weights after it are doubled. The order and the scale of the image's
channels go into the first kernels. All of this is exact, but for the scale's rounding.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from alexnet_jax.model.layer_specs import (
    AveragePooling,
    Convolution,
    Dense,
    Dropout,
    Exchange,
    Flatten,
    Layer,
    Learned,
    LocallyConnected,
    LocalResponseNormalization,
    MaxPooling,
    ReLU,
    SpatialNormalization,
    Table,
    outputs_along,
)
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights.graph import ForeignNetwork, Step

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in gray, as Pillow and OpenCV have it
_MOST_VALUES = 150_000_000  # numbers in all arrays of a network; the paper's has 61 million
_LARGEST_IMAGE = 1024  # pixels a side, up to which the size of images is looked for
Arrays = dict[str, dict[str, np.ndarray]]


def arranged(network: ForeignNetwork, crop_size: int) -> tuple[Table, int, Arrays]:
    """Converts a network to a table of layers with parameters.

    Args:
      network: as its file has it.
      crop_size: height and width of the images, in pixels.

    Returns:
      The table; the number of columns; and {layer: {'kernel', 'bias'}}, float32, the leading axis being the column.

    Raises:
      UserError: a table of layers cannot express the network, or an array does not fit it; the message names the first.
    """
    columns = max((step.groups for step in network.steps), default=1)
    total = sum(step.weight.size for step in network.steps if step.weight is not None)
    if total > _MOST_VALUES:
        raise UserError(f'it has {total:,} weights; the limit is {_MOST_VALUES:,}.')
    names = _names(network.steps)
    table: list[tuple[str, Layer]] = []
    parameters: Arrays = {}
    shape: tuple[int, ...] = (first_channels(network), crop_size, crop_size)
    joined, factor, is_first, flat = True, 1.0, True, False
    for step, name in zip(network.steps, names, strict=True):
        layer, number = step.layer, name[len(_kind(step.layer)) :]
        if isinstance(layer, Learned):
            if isinstance(layer, Dense) and len(shape) == 3 and not flat:
                table.append((f'flatten{int(number) - 1}', Flatten()))
            if step.groups == 1 and columns > 1 and not joined:
                table.append((f'exchange{number}', Exchange()))
                joined = True
            elif step.groups not in (1, columns) or (step.groups > 1 and joined):
                raise UserError(f'{step.name} has {step.groups} groups, in a network of {columns} columns.')
            kernel, bias = _arrays(step, shape, columns, last=step is _last(network))
            if is_first:
                kernel = _of_rgb(kernel, network)
            with np.errstate(over='ignore'):  # to be refused where it is written
                kernel *= np.float32(1 / factor)
            parameters[name] = {'kernel': kernel, 'bias': bias}
            joined, factor, is_first = columns == 1, 1.0, False
        elif isinstance(layer, Dropout) and network.inverted_dropout:
            factor *= 1 - layer.rate
        elif not isinstance(layer, ReLU | MaxPooling | AveragePooling | Flatten | Dropout) and factor != 1:
            raise UserError(f'{step.name} stands between a dropout and the next weights; the factor cannot pass it.')
        if isinstance(layer, LocalResponseNormalization) and columns == 1:
            layer = dataclasses.replace(layer, across_columns=False)
        if not isinstance(layer, Flatten) or (len(shape) == 3 and not flat):
            table.append((name, layer))
        flat = flat or isinstance(layer, Flatten)
        shape = shape_after(step, shape)
    if factor != 1:
        raise UserError('the network ends with dropout.')
    return tuple(table), columns, parameters


def crop_size_of(network: ForeignNetwork) -> int | None:
    """The image size of a network: as its file says, or else the only one at which no window leaves a pixel over.

    None if there is no such size, or more than one.
    """
    if network.crop_size:
        return network.crop_size
    found = [size for size in range(1, _LARGEST_IMAGE + 1) if _fits(network, size)]
    return found[0] if len(found) == 1 else None


def fits(network: ForeignNetwork, crop_size: int) -> bool:
    """Whether the first dense layer has the inputs that images of this size give it."""
    return _fits(network, crop_size, evenly=False)


def _fits(network: ForeignNetwork, size: int, evenly: bool = True) -> bool:
    shape: tuple[int, ...] = (first_channels(network), size, size)
    for step in network.steps:
        layer = step.layer
        if isinstance(layer, Dense):
            return step.weight is not None and int(np.prod(shape)) == step.weight.shape[1]
        if isinstance(layer, Convolution | LocallyConnected | MaxPooling | AveragePooling):
            pads = 2 * layer.pad if isinstance(layer, Convolution | LocallyConnected) else 0
            if evenly and (shape[1] + pads - layer.size) % layer.stride:
                return False
        shape = shape_after(step, shape)
        if min(shape) < 1:
            return False
    return True


def first_channels(network: ForeignNetwork) -> int:
    """Channels of the images: 3, or 1 for gray ones.

    Raises:
      UserError: it has another number, or its first layer with weights is no convolution.
    """
    first = next((step for step in network.steps if step.weight is not None), None)
    if first is None or first.weight is None or not isinstance(first.layer, Convolution):
        raise UserError('the network does not begin with a convolution.')
    if first.groups != 1 or first.weight.ndim != 4 or first.weight.shape[1] not in (1, 3):
        raise UserError(f'{first.name} has weights of {list(first.weight.shape)}; images have 3 channels, or 1.')
    return int(first.weight.shape[1])


def shape_after(step: Step, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the values of all columns after a layer, [channels, height, width] or [units], given that before."""
    match step.layer:
        case Convolution(kernels, size, stride, pad) as layer:
            far_pad = None if layer.far_pad < 0 else layer.far_pad
            return kernels, *(
                outputs_along(n, size, stride, pad, rounding=layer.rounding, far_pad=far_pad) for n in shape[1:]
            )
        case MaxPooling(size, stride, rounding) | AveragePooling(size, stride, rounding):
            return shape[0], *(outputs_along(n, size, stride, rounding=rounding) for n in shape[1:])
        case Dense(units):
            return (units,)
    return shape


def _last(network: ForeignNetwork) -> Step:
    return [step for step in network.steps if isinstance(step.layer, Learned)][-1]


def _arrays(step: Step, shape: tuple[int, ...], columns: int, last: bool) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias in the layout used here, the first axis being the column; `shape` is that of the input."""
    layer, weight = step.layer, step.weight
    assert isinstance(layer, Convolution | Dense) and weight is not None
    outputs = layer.units if isinstance(layer, Dense) else layer.kernels
    bias = np.zeros(outputs, np.float32) if step.bias is None else step.bias
    if isinstance(layer, Convolution):
        expected: tuple[int, ...] = (outputs, shape[0] // step.groups, layer.size, layer.size)
    else:
        expected = (outputs, int(np.prod(shape)) // step.groups)
    for array, name, wanted in ((weight, 'weight', expected), (bias, 'bias', (outputs,))):
        if array.shape != wanted:
            raise UserError(f'{step.name}: its {name} is {list(array.shape)}, the network has {list(wanted)} there.')
        if not np.isfinite(array).all():
            raise UserError(f'{step.name}: its {name} has values that are not finite numbers.')
    if isinstance(layer, Convolution) and len(shape) != 3:
        raise UserError(f'{step.name} is a convolution after dense layers.')
    if outputs % columns:
        if not last:
            raise UserError(f'{step.name} has {outputs} outputs, which are not divisible by {columns} columns.')
        weight = np.concatenate([weight, np.zeros((-outputs % columns, *weight.shape[1:]), weight.dtype)])
        bias = np.concatenate([bias, np.zeros(-outputs % columns, bias.dtype)])
    bias = np.array(bias.reshape(columns, -1), np.float32, order='C')
    if isinstance(layer, Convolution):
        kernel = weight.reshape(columns, -1, *weight.shape[1:]).transpose(0, 3, 4, 2, 1)
    elif len(shape) == 3:
        groups = 1 if step.groups > 1 else columns  # of the inputs: what a column flattens lies together
        channels, *sides = shape[0] // (columns if step.groups > 1 else 1), *shape[1:]
        kernel = weight.reshape(columns, -1, groups, channels // groups, *sides).transpose(0, 2, 4, 5, 3, 1)
        kernel = kernel.reshape(columns, -1, kernel.shape[-1])
    else:
        kernel = weight.reshape(columns, -1, weight.shape[1]).transpose(0, 2, 1)
    return np.array(kernel, np.float32, order='C'), bias


def _of_rgb(kernel: np.ndarray, network: ForeignNetwork) -> np.ndarray:
    """The first kernels, [columns, height, width, channels, kernels], for red, green and blue from 0 to 255."""
    kernel = kernel * np.array(network.scale, np.float64)[:, None]
    if kernel.shape[3] == 1:
        kernel = kernel * np.array(LUMA)[:, None]
    elif network.channels == 'bgr':
        kernel = kernel[..., ::-1, :]
    return np.ascontiguousarray(kernel, np.float32)


_KINDS = {'convolution': 'conv', 'dense': 'fc', 'dropout': 'drop'}


def _kind(layer: Layer) -> str:
    """The beginning of a layer's name."""
    match layer:
        case LocalResponseNormalization():
            return 'norm'
        case SpatialNormalization():
            return 'spatial'
        case MaxPooling() | AveragePooling():
            return 'pool'
    kind = type(layer).__name__.lower()
    return _KINDS.get(kind, kind)


def _names(steps: Sequence[Step]) -> list[str]:
    """Names as in Figure 2's table: layers with weights are numbered, and what follows them has their number.

    Where dropout stands before the first dense layer, as in torchvision's network, it has the number of what it is for.
    """
    dense = next((place for place, step in enumerate(steps) if isinstance(step.layer, Dense)), 0)
    before = next((step.layer for step in steps[:dense][::-1] if not isinstance(step.layer, Flatten)), None)
    ahead, number = isinstance(before, Dropout), 0
    names: list[str] = []
    for step in steps:
        number += isinstance(step.layer, Learned)
        name = f'{_kind(step.layer)}{number + (ahead and isinstance(step.layer, Dropout))}'
        again = sum(other.split('_')[0] == name for other in names)
        names.append(f'{name}_{again + 1}' if again else name)
    return names
