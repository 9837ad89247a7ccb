"""A network as the files of other software have it: nodes that take each other's values, channels first.

Software without columns expresses them in one of three ways, all of which are read: as groups of a convolution; as a
node for each column, joined by a concatenation; or as such nodes that take several others at once.
"""

import dataclasses
import re
import reprlib
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import pydantic

from alexnet_jax.model.layer_specs import Dense, Layer, Learned, LocalResponseNormalization
from alexnet_jax.runtime.errors import UserError

_MOST_NODES = 1000


@dataclasses.dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
      name: as the file has it, for messages.
      inputs: names of the values that it takes; that of the image is ''.
      output: name of the values that it computes.
      layer: what it does; of a node for one column, that column's part. None for a concatenation of its inputs.
      weight: [kernels, inputs / groups, height, width] or [units, inputs], the inputs in the order of `inputs`, a map's
        in the order channel, height, width.
      bias: [kernels] or [units]; None for zeros.
      groups: of a convolution.
    """

    name: str
    inputs: tuple[str, ...]
    output: str
    layer: Layer | None
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None
    groups: int = 1


@dataclasses.dataclass(frozen=True)
class Step:
    """A layer of all columns: a `Node` with totals, and `groups` the number of columns that are computed separately."""

    name: str
    layer: Layer
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None
    groups: int = 1


@dataclasses.dataclass(frozen=True)
class ForeignNetwork:
    """What a file says about a network; None where it says nothing.

    Attributes:
      kind: of the file, such as 'Caffe'.
      steps: the layers, in order.
      crop_size: height and width of the images, in pixels.
      channels: 'rgb' or 'bgr', the order in which it takes an image's channels.
      mean: to be subtracted, [channels] or [channels, side, side], in 0..255, in that order.
      scale: by which an image's channels, from 0 to 255 and less the mean, are multiplied, in that order.
      inverted_dropout: whether dropout scales up what is kept in training, and so does nothing afterwards.
      class_names: of the classes.
      image_size: height and width of whole images, of which patches are taken.
    """

    kind: str
    steps: tuple[Step, ...]
    crop_size: int | None = None
    channels: str | None = None
    mean: np.ndarray | None = None
    scale: tuple[float, ...] = (1.0,)
    inverted_dropout: bool = True
    class_names: tuple[str, ...] | None = None
    image_size: int | None = None


def described(error: ValueError) -> str:
    """An error in one line; for an invalid field of a layer, the field with its value."""
    if not isinstance(error, pydantic.ValidationError):
        return str(error)
    first = error.errors()[0]
    field = f'{".".join(map(str, first["loc"]))}={reprlib.repr(first["input"])}'
    return f'{re.sub("(?<=[a-z])(?=[A-Z])", " ", error.title).lower()} of {field}: {first["msg"].lower()}'


def steps_of(nodes: Sequence[Node]) -> tuple[Step, ...]:
    """The layers of a graph, the nodes of its columns together.

    Raises:
      UserError: it branches other than into equal columns, or has too many nodes.
    """
    if len(nodes) > _MOST_NODES:
        raise UserError(f'it has {len(nodes):,} layers; the limit is {_MOST_NODES:,}.')
    rest, front, steps = list(nodes), [''], []
    while rest:
        taken = [node for node in rest if set(node.inputs) <= set(front)]
        if not taken:
            raise UserError(f'{rest[0].name} takes {_inputs(rest[0])}, which is not the output of the layer before it.')
        rest = [node for node in rest if not any(node is one for one in taken)]
        if len(taken) == 1 and taken[0].layer is None:
            if list(taken[0].inputs) != front:
                _refuse(taken[0])
            front = [taken[0].output]
            continue
        if len(front) > 1 and sorted(node.inputs for node in taken) == sorted((one,) for one in front):
            taken.sort(key=lambda node: front.index(node.inputs[0]))
            steps.append(_together(taken, len(front)))
        elif all(sorted(node.inputs) == sorted(front) for node in taken):
            steps.append(_together([_in_order(node, front) for node in taken], 1))
        else:
            _refuse(taken[0])
        front = [node.output for node in taken]
    return tuple(steps)


def _together(nodes: Sequence[Node], groups: int) -> Step:
    """The nodes of all columns as one layer; each sees its own column alone if there are as many groups."""
    first = nodes[0]
    layer = first.layer
    if layer is None or any(node.layer != layer or node.groups not in (1, groups) for node in nodes[1:]):
        _refuse(first)
    if not isinstance(layer, Learned):
        if len(nodes) != groups:
            _refuse(nodes[-1])
        if isinstance(layer, LocalResponseNormalization):
            layer = dataclasses.replace(layer, across_columns=groups == 1)
        return Step(first.name, layer, groups=groups)
    if len(nodes) == 1:
        return Step(first.name, layer, first.weight, first.bias, first.groups)
    if first.groups != 1 or first.weight is None or any(node.weight is None for node in nodes):
        _refuse(first)
    shapes = [node.weight.shape for node in nodes if node.weight is not None]
    if len(set(shapes)) > 1:
        raise UserError(f'{nodes[-1].name} has weights of {list(shapes[-1])}, {first.name} of {list(shapes[0])}.')
    field = 'units' if isinstance(layer, Dense) else 'kernels'
    count = getattr(layer, field)
    biases = [np.zeros(count, np.float32) if node.bias is None else node.bias for node in nodes]
    weights = [node.weight for node in nodes if node.weight is not None]
    layer = dataclasses.replace(layer, **{field: count * len(nodes)})
    return Step(first.name, layer, np.concatenate(weights), np.concatenate(biases), groups)


def _in_order(node: Node, front: Sequence[str]) -> Node:
    """With the inputs of a weight in the order of the columns, if it takes several."""
    if node.weight is None or list(node.inputs) == list(front):
        return node
    parts = dict(zip(node.inputs, np.split(node.weight, len(front), axis=1), strict=True))
    return dataclasses.replace(node, inputs=tuple(front), weight=np.concatenate([parts[one] for one in front], axis=1))


def _inputs(node: Node) -> str:
    return ' and '.join(repr(one)[:100] for one in node.inputs[:3]) or 'nothing'


def _refuse(node: Node) -> NoReturn:
    raise UserError(
        f'{node.name}, on {_inputs(node)}: the network branches there other than into equal columns, which a table of '
        'layers cannot express.'
    )
