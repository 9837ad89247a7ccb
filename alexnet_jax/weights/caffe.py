"""Caffe's files: trained networks (.caffemodel, of both versions), and mean images (.binaryproto).

Field numbers are those of Caffe's caffe.proto. A network is a list of layers, whose type is a string in the second
version, and a number in the first. Layers that only train or measure are left out.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

from alexnet_jax.model.layer_specs import (
    AveragePooling,
    Convolution,
    Dense,
    Dropout,
    Flatten,
    Layer,
    LocalResponseNormalization,
    MaxPooling,
    ReLU,
    Rounding,
    SpatialNormalization,
    Tanh,
)
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights.graph import ForeignNetwork, Node, described, steps_of
from alexnet_jax.weights.protobuf import Message

# Field numbers: of a NetParameter; of a layer, in both versions.
_LAYERS, _OLD_LAYERS, _INPUT_DIM, _INPUT_SHAPE = 100, 2, 4, 8
_NEW = {'name': 1, 'bottom': 3, 'top': 4, 'blobs': 7, 'transform': 100, 'convolution': 106, 'data': 107}
_NEW |= {'dropout': 108, 'inner_product': 117, 'lrn': 118, 'pooling': 121, 'relu': 123, 'input': 143}
_OLD = {'name': 4, 'bottom': 2, 'top': 3, 'blobs': 6, 'transform': 36, 'convolution': 10, 'data': 11}
_OLD |= {'dropout': 12, 'inner_product': 17, 'lrn': 18, 'pooling': 19, 'relu': 30, 'input': 143}
_OLD_TYPES = (
    *('None', 'Accuracy', 'BNLL', 'Concat', 'Convolution', 'Data', 'Dropout', 'EuclideanLoss', 'Flatten', 'HDF5Data'),
    *('HDF5Output', 'Im2col', 'ImageData', 'InfogainLoss', 'InnerProduct', 'LRN', 'MultinomialLogisticLoss', 'Pooling'),
    *('ReLU', 'Sigmoid', 'Softmax', 'SoftmaxWithLoss', 'Split', 'TanH', 'WindowData', 'Eltwise', 'Power'),
    *('SigmoidCrossEntropyLoss', 'HingeLoss', 'MemoryData', 'ArgMax', 'Threshold', 'DummyData', 'Slice', 'MVN'),
    *('AbsVal', 'Silence', 'ContrastiveLoss', 'Exp', 'Deconvolution'),
)
_DATA = ('Data', 'ImageData', 'HDF5Data', 'MemoryData', 'WindowData', 'DummyData', 'Input')
_ENDS = ('Softmax', 'Accuracy', 'ArgMax', 'Silence', 'HDF5Output')


def read_caffemodel(data: memoryview) -> ForeignNetwork:
    """Reads a trained network.

    Args:
      data: of the file.

    Raises:
      ValueError: it is damaged.
      UserError: it has a layer that a table of layers cannot express.
    """
    net = Message(data)
    versions = ((_NEW, net.messages(_LAYERS)), (_OLD, net.messages(_OLD_LAYERS)))
    numbers, layers = next(((numbers, layers) for numbers, layers in versions if layers), (_NEW, []))
    if not layers:
        raise ValueError('it has no layers')
    dimensions = net.integers(_INPUT_DIM) or net.message(_INPUT_SHAPE).integers(1)
    facts: dict[str, Message] = {}
    nodes: list[Node] = []
    versions_of: dict[str, str] = {}  # a layer may write over what it takes
    for place, layer in enumerate(layers):
        if numbers is _OLD and 1 in layer:
            raise UserError("it is of Caffe's earliest format (V0); Caffe's upgrade_net_proto_binary converts it.")
        name, kind = layer.text(numbers['name'])[:100], _type_of(layer, numbers)
        bottoms, tops = layer.texts(numbers['bottom']), layer.texts(numbers['top'])
        if kind in _DATA:
            facts.setdefault('transform', layer.message(numbers['transform']))
            facts.setdefault('data', layer.message(numbers['data']))
            dimensions = dimensions or layer.message(numbers['input']).message(1).integers(1)
            continue
        if kind in _ENDS or kind.endswith('Loss'):
            continue
        inputs = tuple(versions_of.get(bottom, '') for bottom in bottoms)
        if kind == 'Split':
            versions_of |= dict.fromkeys(tops, inputs[0] if inputs else '')
            continue
        if len(inputs) != 1 or len(tops) != 1 or kind not in _READERS:
            raise UserError(
                f'layer {name}, of type {kind} with {len(inputs)} inputs, is not supported; layers of one input are: '
                f'{", ".join(_READERS)}.'
            )
        output = versions_of[tops[0]] = f'{tops[0]} of layer {place + 1}'
        try:
            nodes.append(_READERS[kind](layer, numbers, name, inputs, output))
        except ValueError as error:
            raise ValueError(f'layer {name}: {described(error)}') from error
    crop_size, channels, mean, scale = _input(facts, dimensions)
    steps = steps_of(nodes)
    return ForeignNetwork('Caffe', steps, crop_size, channels, mean, (scale,))


def read_mean(data: memoryview) -> np.ndarray:
    """Reads a mean image (.binaryproto): [channels, height, width] in 0..255, the channels as the network has them.

    Raises:
      ValueError: it is damaged.
    """
    mean = _blob(Message(data))
    return mean.reshape(mean.shape[-3:])


def _type_of(layer: Message, numbers: Mapping[str, int]) -> str:
    if numbers is _NEW:
        return layer.text(2)[:100]
    number = layer.integer(5)
    return _OLD_TYPES[number] if 0 <= number < len(_OLD_TYPES) else f'number {number}'


def _input(facts: Mapping[str, Message], dimensions: list[int]) -> tuple[int | None, str, np.ndarray | None, float]:
    """Size of the images, order of their channels, mean and scale, from what a layer of data says."""
    transform, data = (facts.get(name, Message(memoryview(b''))) for name in ('transform', 'data'))
    crop_size = transform.integer(3) or data.integer(5) or None
    if len(dimensions) == 4:
        if dimensions[2] != dimensions[3]:
            raise UserError(f'its images are {dimensions[3]} x {dimensions[2]} pixels; only square ones are supported.')
        crop_size = dimensions[2]
    mean = transform.floats(5)
    return crop_size, 'bgr', mean if len(mean) else None, transform.number(1, data.number(2, 1.0))


def _blob(blob: Message) -> np.ndarray:
    """An array. Early versions give it four dimensions, however many it needs."""
    shape = blob.message(7).integers(1) if 7 in blob else [blob.integer(number, 1) for number in (1, 2, 3, 4)]
    values = blob.floats(8, '<f8') if 8 in blob else blob.floats(5)
    if any(n < 1 for n in shape) or math.prod(shape) != len(values):
        raise ValueError(f'an array of shape {shape} has {len(values):,} numbers')
    return values.reshape(shape)


def _arrays(layer: Message, numbers: Mapping[str, int], ndim: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Weight, of `ndim` dimensions, and bias."""
    blobs = layer.messages(numbers['blobs'])
    if not 1 <= len(blobs) <= 2:
        raise ValueError(f'it has {len(blobs)} arrays; a trained network has a weight and a bias there')
    weight = _blob(blobs[0])
    if weight.shape[: weight.ndim - ndim] != (1,) * (weight.ndim - ndim) or weight.ndim < ndim:
        raise ValueError(f'its weight is {list(weight.shape)}; {ndim} dimensions were expected')
    bias = _blob(blobs[1]).reshape(-1) if len(blobs) == 2 else None
    return weight.reshape(weight.shape[weight.ndim - ndim :]), bias


def _one(message: Message, number: int, default: int, by_axis: tuple[int, int], what: str) -> int:
    """A number that is given once for both axes, or for each, which must agree."""
    found = {*message.integers(number), *(n for axis in by_axis for n in message.integers(axis))}
    if len(found) > 1:
        raise UserError(f'a layer has a different {what} along height and width ({sorted(found)}).')
    return found.pop() if found else default


def _convolution(layer: Message, numbers: Mapping[str, int], name: str, inputs: tuple[str, ...], output: str) -> Node:
    given = layer.message(numbers['convolution'])
    if any(n != 1 for n in given.integers(18)):
        raise UserError(f'layer {name} has dilated windows.')
    weight, bias = _arrays(layer, numbers, 4)
    spec = Convolution(
        kernels=given.integer(1),
        size=_one(given, 4, 0, (11, 12), 'kernel size'),
        stride=_one(given, 6, 1, (13, 14), 'stride'),
        pad=_one(given, 3, 0, (9, 10), 'padding'),
        rounding='down',
    )
    return Node(name, inputs, output, spec, weight, bias, given.integer(5, 1))


def _inner_product(layer: Message, numbers: Mapping[str, int], name: str, inputs: tuple[str, ...], output: str) -> Node:
    given = layer.message(numbers['inner_product'])
    if given.integer(5, 1) != 1 or given.integer(6):
        raise UserError(f'layer {name} multiplies along another axis or by a transpose.')
    weight, bias = _arrays(layer, numbers, 2)
    return Node(name, inputs, output, Dense(units=given.integer(1)), weight, bias)


def _pooling(message: Message) -> Layer:
    pads = _one(message, 4, 0, (9, 10), 'padding')
    if pads or message.integer(12):
        raise UserError('a pooling layer is padded, or pools whole maps.')
    size, stride = _one(message, 2, 0, (5, 6), 'size'), _one(message, 3, 1, (7, 8), 'stride')
    rounding: Rounding = 'down' if message.integer(13) else 'up'
    match message.integer(1):
        case 0:
            return MaxPooling(size=size, stride=stride, rounding=rounding)
        case 1:
            return AveragePooling(size=size, stride=stride, rounding=rounding)
    raise UserError('a pooling layer is stochastic.')


def _normalization(message: Message) -> Layer:
    size, beta = message.integer(1, 5), message.number(3, 0.75)
    alpha, k = message.number(2, 1.0), message.number(5, 1.0)
    if message.integer(4):
        if k != 1.0:
            raise UserError('a normalization within channels has a constant other than 1.')
        return SpatialNormalization(k=1.0, size=size, alpha=alpha / size**2, beta=beta)
    return LocalResponseNormalization(k=k, n=size, alpha=alpha / size, beta=beta)


def _relu(message: Message) -> Layer:
    if message.number(1, 0.0):
        raise UserError('a ReLU has a slope below zero.')
    return ReLU()


def _fixed(group: str, made: Callable[[Message], Layer]) -> Callable[..., Node]:
    def node(layer: Message, numbers: Mapping[str, int], name: str, inputs: tuple[str, ...], output: str) -> Node:
        return Node(name, inputs, output, made(layer.message(numbers[group]) if group else layer))

    return node


_READERS: dict[str, Callable[..., Node]] = {
    'Convolution': _convolution,
    'InnerProduct': _inner_product,
    'Pooling': _fixed('pooling', _pooling),
    'LRN': _fixed('lrn', _normalization),
    'ReLU': _fixed('relu', _relu),
    'Dropout': _fixed('dropout', lambda message: Dropout(rate=message.number(1, 0.5))),
    'TanH': _fixed('', lambda message: Tanh()),
    'Flatten': _fixed('', lambda message: Flatten()),
}
