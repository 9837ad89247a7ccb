"""ONNX models of networks such as AlexNet: a chain of the operators that Caffe, PyTorch and this software write.

Field numbers are those of ONNX's onnx.proto. Arrays may be initializers or constants in the graph. What is done to the
image before its first convolution (a mean subtracted, a scale) becomes part of the network.
"""

import dataclasses
import json
import math
from typing import Any

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
    Tanh,
    outputs_along,
)
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights.graph import ForeignNetwork, Node, described, steps_of
from alexnet_jax.weights.protobuf import Message

_GRAPH, _FACTS = 7, 14  # of a ModelProto
_HALF = 10
_TYPES = {1: '<f4', 6: '<i4', 7: '<i8', _HALF: '<f2', 11: '<f8'}  # of a TensorProto
_OWN_FIELDS = {1: 4, 11: 10}  # where its numbers stand if they are not raw bytes
_MOST_VALUES = 150_000_000  # numbers of a constant
_LARGEST_MEAN = 2**24
_OPERATORS = (
    *('AveragePool', 'Concat', 'Constant', 'ConstantOfShape', 'Conv', 'Dropout', 'Flatten', 'Gemm', 'Identity', 'LRN'),
    *('MatMul', 'MaxPool', 'Relu', 'Reshape', 'Softmax', 'Tanh', 'and Add, Sub, Mul, Div on the image'),
)


def is_onnx(message: Message) -> bool:
    """Whether a message is a model: it has a graph with nodes, and the version of the format."""
    try:
        return message.integer(1) > 0 and 1 in message.message(_GRAPH) and bool(message.parts(8))
    except ValueError:
        return False


def read_onnx(model: Message) -> ForeignNetwork:
    """Reads a model.

    Raises:
      ValueError: it is damaged.
      UserError: it has an operator that a table of layers cannot express, or arrays in another file.
    """
    facts = {one.text(1): one.parts(2)[-1] for one in model.messages(_FACTS) if 2 in one}
    channels = bytes(facts.get('channels', b'')).decode('latin-1')
    size = bytes(facts.get('image_size', b''))
    network = _Reader(model.message(_GRAPH)).network()
    return dataclasses.replace(
        network,
        channels=channels if channels in ('rgb', 'bgr') else None,
        class_names=_class_names(bytes(facts.get('class_names', b''))),
        image_size=int(size) if size.isdigit() and len(size) < 5 else None,
    )


class _Reader:
    """Goes through a graph's nodes in order, which ONNX demands to be that of computation."""

    def __init__(self, graph: Message) -> None:
        tensors = graph.messages(5)
        self._constants = {tensor.text(8): _tensor(tensor) for tensor in tensors}
        images = [one for one in graph.messages(11) if one.text(1) not in self._constants]
        if len(images) != 1:
            raise UserError(f'it has {len(images)} inputs; there must be one, the images.')
        dimensions = images[0].message(2).message(1).message(2).messages(1)
        shape = [one.integer(1) for one in dimensions]  # 0 where it has a name
        if len(shape) != 4:
            raise UserError(f'its input has {len(shape)} dimensions; images have 4.')
        self._last_axis = shape[3] in (1, 3) and shape[1] not in (1, 3)  # of channels, where Transpose follows
        self._channels = shape[3 if self._last_axis else 1]
        sides = shape[1:3] if self._last_axis else shape[2:]
        if sides[0] != sides[1]:
            raise UserError(f'its images are {sides[1]} x {sides[0]} pixels; only square ones are supported.')
        self._crop_size = sides[0] or None
        image = images[0].text(1)
        self._names = {image: ''}  # of values: of those that nothing changes, the name of what they are
        self._sides: dict[str, int | None] = {'': self._crop_size}
        self._nodes: list[Node] = []
        self._mean, self._scale = np.zeros((1, 1, 1)), np.ones((1, 1, 1))
        self._subtracts = False
        self._classes: int | None = None
        self._graph = graph

    def network(self) -> ForeignNetwork:
        """The network of the graph."""
        for place, node in enumerate(self._graph.messages(1)):
            name = node.text(3) or node.text(2)
            try:
                self._follow(f'node {place + 1}, {name[:100]}', node)
            except ValueError as error:
                raise ValueError(f'node {place + 1}, {name[:100]}: {described(error)}') from error
        steps = list(steps_of(self._nodes))
        if self._classes and steps and isinstance(steps[-1].layer, Dense):  # columns that are wider than needed
            last, classes = steps[-1], self._classes
            bias = None if last.bias is None else last.bias[:classes]
            weight = None if last.weight is None else last.weight[:classes]
            steps[-1] = dataclasses.replace(last, layer=Dense(units=classes), weight=weight, bias=bias)
        mean = self._mean.reshape(-1) if self._mean.shape[1:] == (1, 1) else self._mean
        scale = tuple(map(float, self._scale.reshape(-1)))
        return ForeignNetwork('ONNX', tuple(steps), self._crop_size, None, mean if self._subtracts else None, scale)

    def _follow(self, name: str, node: Message) -> None:
        kind, inputs, outputs = node.text(4)[:100], node.texts(1), node.texts(2)
        given = {one.text(1): one for one in node.messages(5)}
        if not outputs:
            raise ValueError('it has no output')
        output = outputs[0]
        if kind in ('Constant', 'ConstantOfShape'):
            self._constants[output] = self._constant(kind, inputs, given)
            return
        values = [self._names[one] for one in inputs if one in self._names]
        constants = [self._constants[one] for one in inputs if one in self._constants]
        if not values or len(values) + len(constants) < len([one for one in inputs if one]):
            raise UserError(f'{name} takes a value that no earlier node computes, or one that follows the logits.')
        if inputs[0] not in self._names and kind not in ('Add', 'Mul'):
            raise UserError(f'{name} takes a constant first, and then a value; it must be the other way round.')
        value, side = values[0], self._sides[values[0]]
        if self._last_axis and kind not in ('Identity', 'Transpose'):
            raise UserError(f'{name} takes images whose channels are the last axis, which must be transposed first.')
        if kind == 'Identity':
            self._names[output] = value
        elif kind in ('Softmax', 'LogSoftmax'):
            return
        elif kind == 'Slice':
            self._classes = _classes(constants)
        elif kind == 'Concat':
            if constants:
                raise UserError(f'{name} joins a constant to what the layers give.')
            self._add(Node(name, tuple(values), output, None), side)
        elif value == '' and kind in ('Sub', 'Add', 'Mul', 'Div', 'Transpose'):
            self._change_image(name, kind, constants, given)
            self._names[output] = ''
        elif kind == 'Add' and len(constants) == 1 and self._nodes and self._nodes[-1].output == value:
            self._nodes[-1] = _with_bias(name, self._nodes[-1], constants[0])
            self._names[output] = value
        elif kind in ('Conv', 'Gemm', 'MatMul'):
            self._add(*_learned(name, kind, value, output, constants, given, side))
        else:
            layer = _fixed(name, kind, constants, given, side)
            after = side
            if isinstance(layer, MaxPooling | AveragePooling) and side is not None:
                after = outputs_along(side, layer.size, layer.stride, rounding=layer.rounding)
            self._add(Node(name, (value,), output, layer), None if isinstance(layer, Flatten) else after)

    def _add(self, node: Node, side: int | None) -> None:
        self._nodes.append(node)
        self._names[node.output] = node.output
        self._sides[node.output] = side

    def _constant(self, kind: str, inputs: list[str], given: dict[str, Message]) -> np.ndarray:
        if kind == 'Constant':
            if 'value' not in given:
                raise ValueError('a constant is no tensor')
            return _tensor(given['value'].message(5))
        shape = [int(n) for n in self._constants[inputs[0]].reshape(-1)] if inputs[0] in self._constants else [-1]
        if min(shape, default=0) < 0 or len(shape) > 8 or math.prod(shape) > _MOST_VALUES:
            raise ValueError(f'a constant is of the shape {shape!s:.100}')
        value = _tensor(given['value'].message(5)).reshape(-1)[:1] if 'value' in given else np.zeros(1, np.float32)
        return np.broadcast_to(value, shape)

    def _change_image(self, name: str, kind: str, constants: list[np.ndarray], given: dict[str, Message]) -> None:
        """Notes what is done to the image: (image - mean) * scale."""
        if kind == 'Transpose':
            if not self._last_axis or 'perm' not in given or given['perm'].integers(8) != [0, 3, 1, 2]:
                raise UserError(f'{name} transposes the image other than from height, width, channels.')
            self._last_axis = False
            return
        if len(constants) != 1 or constants[0].ndim > 4 or constants[0].size > _LARGEST_MEAN:
            raise UserError(f'{name} changes the image by something other than one constant.')
        constant = np.asarray(constants[0], np.float64)
        constant = constant.reshape((1,) * (3 - constant.ndim) + constant.shape[max(0, constant.ndim - 3) :])
        if kind in ('Sub', 'Add'):
            self._mean = self._mean + (constant if kind == 'Sub' else -constant) / self._scale
            self._subtracts = True
        elif constant.shape not in ((1, 1, 1), (self._channels, 1, 1)) or not constant.all():
            raise UserError(f'{name} scales the image by something other than one number, or one per channel, not 0.')
        else:
            self._scale = self._scale * (constant if kind == 'Mul' else 1 / constant)


def _class_names(content: bytes) -> tuple[str, ...] | None:
    """The class names in a model's metadata, where `export_onnx` or somebody else put them as JSON."""
    try:
        names = json.loads(content)
    except (ValueError, RecursionError):
        return None
    known = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if known and names else None


def _tensor(tensor: Message) -> np.ndarray:
    """An array in the file."""
    shape, kind = tensor.integers(1), tensor.integer(2)
    if tensor.integer(14):
        raise UserError(f'{tensor.text(8)[:100]}: its numbers are in another file; save the model in one.')
    if kind not in _TYPES:
        raise ValueError(f'{tensor.text(8)[:100]} has numbers of the unknown type {kind}')
    if 9 in tensor:
        values = tensor.floats(9, _TYPES[kind])
    elif kind in _OWN_FIELDS:
        values = tensor.floats(_OWN_FIELDS[kind], _TYPES[kind])
    elif kind == _HALF:  # in whole numbers that have its bits
        values = np.array(tensor.integers(5), np.uint16).view(np.float16)
    else:
        values = np.array(tensor.integers(7 if kind == 7 else 5), np.int64)
    if any(n < 0 for n in shape) or len(shape) > 8 or math.prod(shape) != len(values):
        raise ValueError(f'{tensor.text(8)[:100]} has the shape {shape!s:.100}, and {len(values):,} numbers')
    return values.reshape(shape)


def _learned(
    name: str,
    kind: str,
    value: str,
    output: str,
    constants: list[np.ndarray],
    given: dict[str, Message],
    side: int | None,
) -> tuple[Node, int | None]:
    """A convolution or dense layer, and the side of the maps after it."""
    if not 1 <= len(constants) <= 2 or constants[0].ndim != (4 if kind == 'Conv' else 2):
        raise UserError(f'{name} has no constant weights of the right number of dimensions.')
    weight, bias = constants[0], constants[1].reshape(-1) if len(constants) == 2 else None
    if kind != 'Conv':
        for scalar in ('alpha', 'beta'):
            if scalar in given and given[scalar].number(2, 1.0) != 1.0:
                raise UserError(f'{name} has an {scalar} other than 1.')
        if 'transA' in given and given['transA'].integer(3):
            raise UserError(f'{name} transposes its input.')
        if 'transB' not in given or not given['transB'].integer(3):
            weight = weight.T
        return Node(name, (value,), output, Dense(units=max(1, len(weight))), weight, bias), None
    size, stride, near, far = _windows(name, given, weight.shape[2:])
    groups = given['group'].integer(3) if 'group' in given else 1
    layer = Convolution(kernels=max(1, len(weight)), size=size, stride=stride, pad=near)
    after = None if side is None else outputs_along(side, size, stride, near, rounding='down', far_pad=far)
    if after is None or outputs_along(side or 0, size, stride, near) != after:
        layer = dataclasses.replace(layer, rounding='down', far_pad=-1 if near == far else far)
    return Node(name, (value,), output, layer, weight, bias, groups), after


def _windows(name: str, given: dict[str, Message], shape: tuple[int, ...] = ()) -> tuple[int, int, int, int]:
    """Size, stride, and padding before and after, each the same along both axes."""
    auto = given['auto_pad'].text(4) if 'auto_pad' in given else 'NOTSET'
    if auto not in ('NOTSET', 'VALID') or (
        'dilations' in given and any(one != 1 for one in given['dilations'].integers(8))
    ):
        raise UserError(f'{name} has dilated windows, or the padding {auto}; save it with explicit pads.')
    sizes = given['kernel_shape'].integers(8) if 'kernel_shape' in given else list(shape)
    strides = given['strides'].integers(8) if 'strides' in given else [1, 1]
    pads = given['pads'].integers(8) if 'pads' in given else [0] * 4
    if (len(sizes), len(strides), len(pads)) != (2, 2, 4) or (shape and sizes != list(shape)):
        raise ValueError('its windows do not have two dimensions')
    if sizes[0] != sizes[1] or strides[0] != strides[1] or pads[0] != pads[1] or pads[2] != pads[3]:
        raise UserError(f'{name} has different windows along height and width.')
    if min(*sizes, *strides) < 1 or min(pads) < 0 or max(*sizes, *strides, *pads) > 2**14:
        raise ValueError(f'its windows are of {sizes}, {strides} apart, with {pads} around')
    return sizes[0], strides[0], pads[0], pads[2]


def _fixed(name: str, kind: str, constants: list[np.ndarray], given: dict[str, Message], side: int | None) -> Layer:
    """A layer without parameters."""

    def number(attribute: str, default: float) -> float:
        return given[attribute].number(2, default) if attribute in given else default

    match kind:
        case 'Relu':
            return ReLU()
        case 'Tanh':
            return Tanh()
        case 'Flatten' | 'Reshape':
            return Flatten()
        case 'Dropout':
            ratio = float(constants[0].reshape(-1)[0]) if constants and constants[0].size else number('ratio', 0.5)
            return Dropout(rate=ratio)
        case 'LRN':
            size = given['size'].integer(3) if 'size' in given else 1
            if size % 2 == 0:
                raise UserError(f'{name} normalizes over {size} channels; there must be an odd number of them.')
            alpha, beta, k = number('alpha', 0.0001), number('beta', 0.75), number('bias', 1.0)
            return LocalResponseNormalization(k=k, n=size, alpha=alpha / size, beta=beta)
        case 'MaxPool' | 'AveragePool':
            size, stride, near, far = _windows(name, given)
            counted = 'count_include_pad' in given and given['count_include_pad'].integer(3)
            ceil = 'ceil_mode' in given and given['ceil_mode'].integer(3)
            rounding = _rounding(side, size, stride, far, bool(ceil))
            if near or rounding is None or (counted and far):
                raise UserError(f'{name} pools with padding that a table of layers cannot express.')
            made = MaxPooling if kind == 'MaxPool' else AveragePooling
            return made(size=size, stride=stride, rounding=rounding)
    raise UserError(f'{name}: the operator {kind} is not supported; supported are {", ".join(_OPERATORS)}.')


def _rounding(side: int | None, size: int, stride: int, far: int, ceil: bool) -> Rounding | None:
    """The rounding that gives as many windows as the padding after the far edges; None if neither does."""
    if side is None:
        return None if far else ('up' if ceil else 'down')
    after = outputs_along(side, size, stride, 0, rounding='up' if ceil else 'down', far_pad=far)
    options: tuple[Rounding, ...] = ('up', 'down')
    return next((one for one in options if outputs_along(side, size, stride, rounding=one) == after), None)


def _with_bias(name: str, node: Node, constant: np.ndarray) -> Node:
    if node.weight is None or node.bias is not None or constant.size != len(node.weight):
        raise UserError(f'{name} adds a constant where there are no weights that lack a bias.')
    return dataclasses.replace(node, bias=constant.reshape(-1))


def _classes(constants: list[Any]) -> int:
    """The end of a slice of the logits, from the first on."""
    numbers = [int(one.reshape(-1)[0]) for one in constants if one.size == 1]
    if len(numbers) < 3 or numbers[0] != 0 or set(numbers[2:]) != {1} or not 0 < numbers[1] < 2**20:
        raise UserError('a slice takes something other than the first of the logits.')
    return numbers[1]
