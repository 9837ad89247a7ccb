"""The authors' own checkpoints of 2012 (cuda-convnet): pickles of Python 2 with a dict for each layer of each column.

The names of fields and the order of numbers are those of the published code's layer.py and convnet.py. No public file
was found; this has been tried only on files made for the tests.
"""

import math
import mmap
import reprlib
from collections.abc import Mapping
from typing import IO, Any, cast

import numpy as np

from alexnet_jax.model.layer_specs import (
    AveragePooling,
    Convolution,
    Dense,
    Dropout,
    Layer,
    LocalResponseNormalization,
    MaxPooling,
    ReLU,
    SpatialNormalization,
    Tanh,
)
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.plain_pickle import PlainArray, read_pickle
from alexnet_jax.weights.graph import ForeignNetwork, Node, described, steps_of

_MOST_INSTRUCTIONS = 4 * 10**6  # a checkpoint has a record of every batch
_TYPES = ('f4', 'f8', 'u1', 'i4', 'i8')


def read_checkpoint(file: bytes | IO[bytes] | mmap.mmap) -> Any:
    """The pickle of a checkpoint or of batches.meta, as plain data; objects of the authors' classes stand as `Inert`.

    Raises:
      ValueError: it is damaged, or not such a pickle.
    """
    return read_pickle(cast(IO[bytes], file), inert=True, types=_TYPES, most=_MOST_INSTRUCTIONS)


def is_checkpoint(content: Any) -> bool:
    """Whether a pickle's content is a checkpoint."""
    return isinstance(content, dict) and isinstance(content.get('model_state'), dict)


def network_of(content: dict[str, Any]) -> ForeignNetwork:
    """The network of a checkpoint.

    Raises:
      ValueError: it is damaged.
      UserError: it has a layer that a table of layers cannot express.
    """
    layers = content['model_state'].get('layers')
    layers = list(layers.values()) if isinstance(layers, dict) else layers
    if not isinstance(layers, list) or not all(isinstance(one, dict) for one in layers):
        raise ValueError('it has no layers')
    if not all(isinstance(one.get(field), str) for one in layers for field in ('name', 'type')):
        raise ValueError('a layer has no name or type')
    data = [one for one in layers if one.get('type') == 'data' and one.get('name') == 'data']
    if len(data) != 1:
        raise ValueError("it has no layer 'data', the images")
    side = math.isqrt(_whole(data[0], 'outputs') // 3)
    ends = {one.get('name') for one in layers if one.get('type') in ('data', 'softmax')} - {'data'}
    nodes = []
    for layer in layers:
        inputs = _texts(layer, 'inputs')
        kind = layer['type'][:50]
        if not inputs or kind == 'softmax' or kind.startswith('cost.') or ends & set(inputs):
            continue
        name = layer['name'][:100]
        try:
            nodes.append(_node(layer, name, kind, tuple('' if one == 'data' else one for one in inputs)))
        except ValueError as error:
            raise ValueError(f'layer {name}: {described(error)}') from error
    nodes.sort(key=lambda node: node.name)  # a and b, the columns
    return ForeignNetwork('cuda-convnet', steps_of(nodes), side, 'rgb', inverted_dropout=False)


def mean_and_names(meta: Any) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """The mean image, [3, side, side] in RGB and 0..255, and the names of the classes, from batches.meta.

    Raises:
      ValueError: it has no mean image.
    """
    mean = meta.get('data_mean') if isinstance(meta, dict) else None
    side = math.isqrt(mean.size // 3) if isinstance(mean, np.ndarray) else 0
    if not isinstance(mean, np.ndarray) or not side or mean.size != 3 * side * side:
        raise ValueError("it has no 'data_mean' of three square channels")
    names = meta.get('label_names')
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return mean.reshape(3, side, side), None
    return mean.reshape(3, side, side), tuple(names)


def _node(layer: Mapping[str, Any], name: str, kind: str, inputs: tuple[str, ...]) -> Node:
    """A layer of one column."""
    output = layer['name']
    match kind:
        case 'conv':
            return _convolution(layer, name, inputs, output)
        case 'fc':
            weights = _weights(layer, len(inputs))
            bias = _array(layer, 'biases').reshape(-1)
            weight = np.concatenate([one.T for one in weights], axis=1)
            return Node(name, inputs, output, Dense(units=_whole(layer, 'outputs')), weight, bias)
    return Node(name, inputs, output, _fixed(layer, name, kind))


def _convolution(layer: Mapping[str, Any], name: str, inputs: tuple[str, ...], output: str) -> Node:
    def same(field: str) -> int:
        """A field with a number for each input."""
        values = layer.get(field)
        values = values if isinstance(values, list) else [values]
        if not values or any(type(one) is not int or one != values[0] for one in values):
            raise UserError(
                f'layer {name}: its {field} is {reprlib.repr(values)}, which is not one number for all inputs.'
            )
        return int(values[0])

    if layer.get('groups') not in (None, 1) and same('groups') != 1:
        raise UserError(f'layer {name} has groups, which are not supported in these checkpoints.')
    if not layer.get('sharedBiases', True):
        raise UserError(f'layer {name} has biases of its own at every position.')
    kernels, size = same('filters'), same('filterSize')
    parts = []
    for matrix in _weights(layer, len(inputs)):
        if matrix.shape[0] % (size * size) or matrix.shape[1] != kernels:
            raise UserError(
                f'layer {name}: a weight is {list(matrix.shape)}, the network has {kernels} kernels of {size} x {size} '
                'there.'
            )
        parts.append(matrix.reshape(-1, size, size, kernels).transpose(3, 0, 1, 2))
    spec = Convolution(kernels=kernels, size=size, stride=same('stride'), pad=abs(same('padding')))
    return Node(name, inputs, output, spec, np.concatenate(parts, axis=1), _array(layer, 'biases').reshape(-1))


def _fixed(layer: Mapping[str, Any], name: str, kind: str) -> Layer:
    """A layer without parameters."""
    match kind:
        case 'pool' if layer.get('pool') in ('max', 'avg') and not layer.get('start'):
            size, stride = _whole(layer, 'sizeX'), _whole(layer, 'stride')
            made = MaxPooling if layer['pool'] == 'max' else AveragePooling
            return made(size=size, stride=stride)
        case 'cmrnorm' if not layer.get('blocked'):
            k, n = _number(layer, 'minDiv', 1.0), _odd(layer, name)
            return LocalResponseNormalization(k=k, n=n, alpha=_number(layer, 'scale'), beta=_number(layer, 'pow'))
        case 'rnorm':
            size = _odd(layer, name)
            return SpatialNormalization(k=1.0, size=size, alpha=_number(layer, 'scale'), beta=_number(layer, 'pow'))
        case 'hs':
            return Dropout(rate=1.0 - _number(layer, 'keep'))
        case 'neuron':
            neuron = layer.get('neuron')
            what = neuron.get('type') if isinstance(neuron, dict) else neuron
            parameters = neuron.get('params') if isinstance(neuron, dict) else {}
            if what == 'relu':
                return ReLU()
            if what == 'tanh' and parameters in ({}, {'a': 1.0, 'b': 1.0}):
                return Tanh()
            raise UserError(
                f'layer {name}: the nonlinearity {reprlib.repr(what)} is not supported; supported are relu and tanh.'
            )
    raise UserError(f'layer {name} is of type {kind}, or a variant of it, which a table of layers cannot express.')


def _weights(layer: Mapping[str, Any], count: int) -> list[np.ndarray]:
    """A matrix for each input."""
    found = layer.get('weights')
    if not isinstance(found, list) or len(found) != count:
        raise ValueError(f'it does not have {count} weights, one for each input')
    return [_values(one, 'weights', 2) for one in found]


def _array(layer: Mapping[str, Any], field: str) -> np.ndarray:
    return _values(layer.get(field), field, 2)


def _values(array: Any, field: str, ndim: int) -> np.ndarray:
    values = array.values if isinstance(array, PlainArray) else None
    if values is None or values.ndim != ndim or values.dtype.kind != 'f':
        raise ValueError(f'its {field} are not a matrix of numbers')
    return values


def _whole(layer: Mapping[str, Any], field: str) -> int:
    value = layer.get(field)
    if type(value) is not int or value < 1:
        raise ValueError(f'its {field} is {reprlib.repr(value)}')
    return value


def _odd(layer: Mapping[str, Any], name: str) -> int:
    """The size of a normalization's window, which has a middle here."""
    size = _whole(layer, 'size')
    if size % 2 == 0:
        raise UserError(f'layer {name} normalizes over windows of {size}; the size must be odd.')
    return size


def _number(layer: Mapping[str, Any], field: str, default: float | None = None) -> float:
    value = layer.get(field, default)
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f'its {field} is {reprlib.repr(value)}')
    return float(value)


def _texts(layer: Mapping[str, Any], field: str) -> list[str]:
    found = layer.get(field) or []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError(f'a layer has {field} that are not names')
    return found
