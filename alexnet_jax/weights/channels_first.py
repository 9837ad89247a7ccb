"""A trained network as other libraries have it: channels before height and width, nothing left to do for dropout.

Here a map is [batch, height, width, channels] and a kernel [size, size, channels, kernels]; there a map is [batch,
channels, height, width], a kernel [kernels, channels, size, size], and the weights of dense units [units, inputs].
Flattening then puts a map's values in another order, which the rows of the next dense layer follow. The factor that
dropout applies at test time (section 4.2) is multiplied into the next weights, as libraries with inverted dropout have
it: in training, their dropout before these weights is exactly the paper's.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.model.alexnet import AlexNet
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
    Table,
)


@dataclasses.dataclass(frozen=True)
class Step:
    """One layer, and what must be done to its input first.

    Attributes:
      name, layer: of the table.
      columns: number of columns.
      joined: whether they all have the same input, the image or what an exchange has given them.
      inputs, outputs: shapes of one column, [channels, height, width] or [values]. Those of the last layer are rounded
        up where the columns do not divide the classes.
      padding: zeros before and after each side, of layers with windows.
      weights: for each column float32 [kernels, channels, size, size], or [units, inputs]; of a locally connected layer
        [rows, columns, kernels, channels * size * size].
      biases: for each column float32 [kernels]; of a locally connected layer [kernels, rows, columns].
      scale: by which the input is to be multiplied first.
      order: places of the input's values in the order in which the layer needs them; None if that is theirs.
    """

    name: str
    layer: Layer
    columns: int
    joined: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    padding: tuple[int, int] = (0, 0)
    weights: tuple[np.ndarray, ...] = ()
    biases: tuple[np.ndarray, ...] = ()
    scale: float = 1.0
    order: np.ndarray | None = None


def channels_first(
    table: Table, columns: int, crop_size: int, parameters: Mapping[str, Mapping[str, Any]]
) -> Iterator[Step]:
    """The layers of a network in order, with their weights.

    Args:
      table: of the network.
      columns: number of columns.
      crop_size: height and width of the images, in pixels.
      parameters: {layer: {'kernel', 'bias'}}, the leading axis being the column.
    """
    joined, scale, order = True, 1.0, None
    shape: tuple[int, ...] = (3, crop_size, crop_size)
    for (name, layer), outputs in zip(table, _shapes(table, columns, crop_size), strict=True):
        step = Step(name, layer, columns, joined, shape, outputs)
        match layer:
            case Convolution() | LocallyConnected() | Dense():
                weights, biases = _arrays(layer, parameters[name], outputs, order)
                weights = [x * np.float32(scale) for x in weights]
                padding = (0, 0) if isinstance(layer, Dense) else _padding(layer, shape, outputs)
                step = dataclasses.replace(step, padding=padding, weights=tuple(weights), biases=tuple(biases))
                joined, scale, order = False, 1.0, None
            case MaxPooling() | AveragePooling():
                step = dataclasses.replace(step, padding=_padding(layer, shape, outputs))
            case Dropout(rate):
                scale *= 1.0 - rate
            case Flatten():
                order = np.arange(np.prod(shape)).reshape(shape).transpose(1, 2, 0).reshape(-1)
            case Exchange():
                if layer.precision != 'network':  # what is rounded must have its right size
                    step, scale = dataclasses.replace(step, scale=scale), 1.0
                if order is not None:
                    order = np.concatenate([order + column * len(order) for column in range(columns)])
                joined = True
            case ReLU():  # as good before a factor as after it
                pass
            case _:
                if isinstance(layer, LocalResponseNormalization) and order is not None:
                    step, order = dataclasses.replace(step, order=order), None
                step, scale = dataclasses.replace(step, scale=scale), 1.0
                joined = joined and not across_columns(step)
        yield step
        shape = outputs


def across_columns(step: Step) -> bool:
    """Whether a layer is a normalization that sees all columns at once, and leaves each its own part."""
    layer = step.layer
    return isinstance(layer, LocalResponseNormalization) and layer.across_columns and step.columns > 1


def _shapes(table: Table, columns: int, crop_size: int) -> list[tuple[int, ...]]:
    """Each layer's output, of one column: [channels, height, width] or [values]."""
    network = AlexNet(table, columns)
    image = jax.ShapeDtypeStruct((1, crop_size, crop_size, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, mutable=True), image)
    shapes = [variables['intermediates'][f'after_{name}'][0][0].shape[1:] for name, _ in table]
    return [(*shape[-1:], *shape[:-1]) for shape in shapes]


def _arrays(
    layer: Learned, arrays: Mapping[str, Any], outputs: tuple[int, ...], order: np.ndarray | None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights and biases of each column, as `Step` has them."""
    kernel, bias = (np.asarray(arrays[part], np.float32) for part in ('kernel', 'bias'))
    match layer:
        case Convolution():
            return [*kernel.transpose(0, 4, 3, 1, 2)], [*bias]
        case LocallyConnected(kernels=_, size=size):
            windows = kernel.reshape(*kernel.shape[:3], size * size, -1, outputs[0])  # of height and width, channel
            weights = windows.transpose(0, 1, 2, 5, 4, 3).reshape(*kernel.shape[:3], outputs[0], -1)
            return [*weights], [*bias.transpose(0, 3, 1, 2)]
        case Dense():
            rows = kernel if order is None else kernel[:, np.argsort(order)]
            return [*rows.transpose(0, 2, 1)], [*bias]


def _padding(
    layer: Convolution | LocallyConnected | MaxPooling | AveragePooling,
    inputs: tuple[int, ...],
    outputs: tuple[int, ...],
) -> tuple[int, int]:
    """Zeros before and after each side: after it as many as the last window reads."""
    before = layer.pad if isinstance(layer, Convolution | LocallyConnected) else 0
    return before, max(0, (outputs[1] - 1) * layer.stride + layer.size - before - inputs[1])


def smallest_k(k: float, beta: float) -> float:
    """A normalization's constant, tiny where it is 0: here zeros stay zeros then, and others would divide by zero.

    It is far below any sum of squares of activations, and its power is still within float32's range.
    """
    return k or 10.0 ** (-30 / max(beta, 1.0))
