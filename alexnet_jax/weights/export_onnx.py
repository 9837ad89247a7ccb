"""A trained network as an ONNX model, for evaluation.

The columns are drawn as in Figure 2: each has nodes of its own, and an exchange is a Concat of both. The model takes
RGB images as they are, float [batch, 3, crop_size, crop_size] in 0..255, subtracts the training images' mean, and gives
logits, [batch, classes].
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, assert_never

import numpy as np

from alexnet_jax.model.layer_specs import (
    AveragePooling,
    Convolution,
    Dense,
    Dropout,
    Exchange,
    Flatten,
    LocallyConnected,
    LocalResponseNormalization,
    MaxPooling,
    ReLU,
    SpatialNormalization,
    Tanh,
)
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights.channels_first import Step, across_columns, smallest_k

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise UserError('--to=onnx needs the package onnx: pip install onnx.') from error

_OPSET, _FORMAT = 13, 7  # of the year 2020, which every runtime reads
_LARGEST = 2**31 - 2**20  # bytes; protocol buffers end at 2 GiB


def onnx_model(
    steps: Sequence[Step], classes: int, mean_image: np.ndarray, facts: Mapping[str, Any]
) -> onnx.ModelProto:
    """The model of a network.

    Args:
      steps: of `channels_first`.
      classes: number of them.
      mean_image: float32 [3, crop_size, crop_size], 0..255.
      facts: texts, or what JSON can hold, that the model carries with it.

    Raises:
      UserError: the network is too large for a model in one file.
    """
    size = sum(x.nbytes for step in steps for x in (*step.weights, *step.biases))
    if size > _LARGEST:
        raise UserError(f'--to=onnx: {size / 1e9:.1f} GB of weights; an ONNX file holds at most 2.1 GB.')
    graph = _Graph()
    image = graph.add('Sub', 'mean', 'images', graph.constant('mean_image', mean_image))
    values = [image] * steps[-1].columns
    for step in steps:
        values = _layer(graph, step, values)
    joined = graph.add('Concat', 'joined', *values, axis=1)
    ends = [graph.constant(name, np.array([value])) for name, value in (('first', 0), ('end', classes), ('axis', 1))]
    graph.add('Slice', 'logits', joined, *ends)  # of no more than there are classes
    made = helper.make_graph(
        graph.nodes,
        'alexnet',
        [helper.make_tensor_value_info('images', TensorProto.FLOAT, ['batch', *mean_image.shape])],
        [helper.make_tensor_value_info('logits', TensorProto.FLOAT, ['batch', classes])],
        graph.constants,
    )
    opset = [helper.make_opsetid('', _OPSET)]
    model = helper.make_model(made, opset_imports=opset, ir_version=_FORMAT, producer_name='alexnet-jax')
    model.doc_string = 'images: RGB, 0..255, [batch, 3, height, width]; the mean is subtracted inside.'
    helper.set_model_props(model, {k: v if isinstance(v, str) else json.dumps(v) for k, v in facts.items()})
    return model


class _Graph:
    """Nodes and constants as they are added; every value has the name of its node."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name


def _layer(graph: _Graph, step: Step, xs: list[str]) -> list[str]:
    """The values of all columns after a layer."""
    if isinstance(step.layer, Exchange):
        return [_exchange(graph, step, step.layer.precision, xs)] * len(xs)
    if across_columns(step):
        return _of_all_columns(graph, step, xs)
    if step.joined and not step.weights:  # the same for all columns
        return [_of_column(graph, step, step.name, xs[0], 0)] * len(xs)
    names = [f'{step.name}_column{i + 1}' if len(xs) > 1 else step.name for i in range(len(xs))]
    return [_of_column(graph, step, name, x, i) for i, (name, x) in enumerate(zip(names, xs, strict=True))]


def _exchange(graph: _Graph, step: Step, precision: str, xs: list[str]) -> str:
    name = step.name
    if precision == 'network':
        return graph.add('Concat', name, *xs, axis=1)
    kind = {'float16': TensorProto.FLOAT16, 'bfloat16': TensorProto.BFLOAT16}[precision]
    x = graph.add('Concat', f'{name}_joined', *xs, axis=1)
    x = graph.add('Cast', f'{name}_{precision}', _scaled(graph, step, name, x), to=kind)
    return graph.add('Cast', name, x, to=TensorProto.FLOAT)


def _of_all_columns(graph: _Graph, step: Step, xs: list[str]) -> list[str]:
    """A normalization across columns: their values joined, normalized, and split again."""
    order = step.order
    if order is not None:
        order = np.concatenate([order + i * len(order) for i in range(len(xs))])
    whole = dataclasses.replace(step, inputs=(step.inputs[0] * len(xs), *step.inputs[1:]), order=order)
    x = graph.add('Concat', f'{step.name}_joined', *xs, axis=1)
    x = _of_column(graph, whole, f'{step.name}_all', x, 0)
    names = [f'{step.name}_column{i + 1}' for i in range(len(xs))]
    graph.nodes.append(helper.make_node('Split', [x], names, step.name, axis=1))  # evenly
    return names


def _scaled(graph: _Graph, step: Step, name: str, x: str) -> str:
    if step.scale == 1.0:
        return x
    return graph.add('Mul', f'{name}_scaled', x, graph.constant(f'{name}.scale', np.float32(step.scale)))


def _of_column(graph: _Graph, step: Step, name: str, x: str, column: int) -> str:
    """One column's values after a layer."""
    pads = [step.padding[0]] * 2 + [step.padding[1]] * 2
    x = _scaled(graph, step, name, x)
    if step.weights:
        weight = graph.constant(f'{name}.weight', step.weights[column])
        bias = graph.constant(f'{name}.bias', step.biases[column])
    match step.layer:
        case Convolution(stride=stride):
            return graph.add('Conv', name, x, weight, bias, pads=pads, strides=[stride, stride])
        case LocallyConnected(size=size, stride=stride):
            # Each channel's windows, by kernels of a single one, and their products with the position's own kernels.
            channels, area = step.inputs[0], size * size
            ones = np.tile(np.eye(area, dtype=np.float32).reshape(area, 1, size, size), (channels, 1, 1, 1))
            ones_of = graph.constant(f'{name}.ones', ones)
            options = {'group': channels, 'pads': pads, 'strides': [stride, stride]}
            parts = graph.add('Conv', f'{name}_windows', x, ones_of, **options)
            products = graph.add('Einsum', f'{name}_products', parts, weight, equation='nirc,rcki->nkrc')
            return graph.add('Add', name, products, bias)
        case Dense():
            return graph.add('Gemm', name, x, weight, bias, transB=1)
        case ReLU():
            return graph.add('Relu', name, x)
        case Tanh():
            return graph.add('Tanh', name, x)
        case LocalResponseNormalization():
            if step.order is not None:
                x = graph.add('Gather', f'{name}_ordered', x, graph.constant(f'{name}.order', step.order), axis=1)
            if len(step.inputs) == 3:
                return _local_response_normalization(graph, step.layer, step.inputs, name, x)
            x = _reshaped(graph, f'{name}_map', x, (*step.inputs, 1, 1))
            x = _local_response_normalization(graph, step.layer, (*step.inputs, 1, 1), f'{name}_normalized', x)
            return graph.add('Flatten', name, x)
        case SpatialNormalization(size=size):
            near, size = size // 2, size // 2 * 2 + 1
            windows = {'kernel_shape': [size, size], 'pads': [near] * 4, 'count_include_pad': 1}
            mean = graph.add('AveragePool', f'{name}_mean', graph.add('Mul', f'{name}_squares', x, x), **windows)
            return _divided(graph, step.layer, name, x, mean, size * size)
        case MaxPooling(size, stride):
            return graph.add('MaxPool', name, x, kernel_shape=[size, size], strides=[stride, stride], pads=pads)
        case AveragePooling(size, stride):
            return graph.add('AveragePool', name, x, kernel_shape=[size, size], strides=[stride, stride], pads=pads)
        case Flatten():
            return graph.add('Flatten', name, x)
        case Dropout():
            return x  # in the next weights
        case Exchange():
            raise AssertionError('an exchange is of all columns')
        case _:
            assert_never(step.layer)


def _local_response_normalization(
    graph: _Graph, layer: LocalResponseNormalization, shape: tuple[int, ...], name: str, x: str
) -> str:
    near, size = layer.n // 2, layer.n // 2 * 2 + 1
    if layer.k:
        return graph.add('LRN', name, x, size=size, alpha=layer.alpha * size, beta=layer.beta, bias=layer.k)
    # Without k a runtime that subtracts from a running sum may get below zero.
    squares = _reshaped(graph, f'{name}_rows', graph.add('Mul', f'{name}_squares', x, x), (1, shape[0], -1))
    windows = {'kernel_shape': [size, 1], 'pads': [near, 0, near, 0], 'count_include_pad': 1}
    mean = _reshaped(graph, f'{name}_mean', graph.add('AveragePool', f'{name}_pooled', squares, **windows), shape)
    return _divided(graph, layer, name, x, mean, size)


def _divided(
    graph: _Graph, layer: LocalResponseNormalization | SpatialNormalization, name: str, x: str, mean: str, count: int
) -> str:
    """x / (k + alpha * count * mean) ** beta."""
    factor, least = np.float32(layer.alpha * count), np.float32(smallest_k(layer.k, layer.beta))
    base = graph.add('Mul', f'{name}_sum', mean, graph.constant(f'{name}.alpha', factor))
    base = graph.add('Add', f'{name}_base', base, graph.constant(f'{name}.k', least))
    base = graph.add('Pow', f'{name}_power', base, graph.constant(f'{name}.beta', np.float32(layer.beta)))
    return graph.add('Div', name, x, base)


def _reshaped(graph: _Graph, name: str, x: str, shape: tuple[int, ...]) -> str:
    return graph.add('Reshape', name, x, graph.constant(f'{name}.shape', np.array([0, *shape])))
