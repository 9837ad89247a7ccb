"""The vocabulary in which networks are written down: a table with one layer a line.

A table is an ordered mapping from a layer's name to a layer. Every column runs every line; `Exchange`
is the only line at which columns see each other's values. Kernel and unit counts are totals over all
columns, as in the paper. Nothing here computes; `model.py` says what each line means.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.runtime.errors import UserError


@dataclasses.dataclass(frozen=True)
class Convolution:
    """`kernels` filters of size x size; 1 + ceil((n + 2 pad - size) / stride) outputs along each side.

    Where the stride does not divide, the last window runs past the bottom and right edge and reads zeros
    there, as in the 2012 code: 224 pixels, size 11 and stride 4 give 55 outputs.
    """

    kernels: int
    size: int
    stride: int = 1
    pad: int = 0
    std: float = 0.01
    bias: float = 0.0


@dataclasses.dataclass(frozen=True)
class LocallyConnected:
    """A convolution whose kernels and biases differ from place to place: cuda-convnet's "local" layers.

    The outputs of a place are `kernels`, each of size x size; how many places there are is as with `Convolution`.
    """

    kernels: int
    size: int
    stride: int = 1
    pad: int = 0
    std: float = 0.01
    bias: float = 0.0


@dataclasses.dataclass(frozen=True)
class Dense:
    """`units` fully connected neurons (the paper's fully-connected layers)."""

    units: int
    std: float = 0.01
    bias: float = 0.0


@dataclasses.dataclass(frozen=True)
class ReLU:
    """max(0, x), section 3.1."""


@dataclasses.dataclass(frozen=True)
class Tanh:
    """tanh(x), the saturating nonlinearity that section 3.1 compares with."""


@dataclasses.dataclass(frozen=True)
class LocalResponseNormalization:
    """Section 3.3: x / (k + alpha * sum of squares over n adjacent channels) ** beta, within a column.

    The 2012 code divides alpha by n; write the quotient to follow it.
    """

    k: float = 2.0
    n: int = 5
    alpha: float = 1e-4
    beta: float = 0.75


@dataclasses.dataclass(frozen=True)
class SpatialNormalization:
    """The 2012 code's other normalization: the same formula over the size x size places around, within a map.

    The paper does not mention it. The code divides its scale by the places of the window; alpha is the quotient.
    """

    k: float = 1.0
    size: int = 5
    alpha: float = 0.001 / 25
    beta: float = 0.75


@dataclasses.dataclass(frozen=True)
class MaxPooling:
    """Section 3.4: windows of size x size, `stride` apart; they overlap where the stride is smaller."""

    size: int = 3
    stride: int = 2


@dataclasses.dataclass(frozen=True)
class AveragePooling:
    """The mean of each window of size x size, of what there is of it; LeNet-5's pooling, side by side."""

    size: int = 2
    stride: int = 2


@dataclasses.dataclass(frozen=True)
class Exchange:
    """Every column receives the values of all columns, column 1's before column 2's (last axis)."""


@dataclasses.dataclass(frozen=True)
class Flatten:
    """A map becomes a vector: height, then width, then channel."""


@dataclasses.dataclass(frozen=True)
class Dropout:
    """Section 4.2: in training an output is 0 with probability `rate`; at test time all count (1 - rate)."""

    rate: float = 0.5


Normalization = LocalResponseNormalization | SpatialNormalization
Pooling = MaxPooling | AveragePooling
Learned = Convolution | LocallyConnected | Dense  # layers that have parameters
Layer = Learned | ReLU | Tanh | Normalization | Pooling | Exchange | Flatten | Dropout
Table = tuple[tuple[str, Layer], ...]

_TYPES: dict[str, type] = {
    'convolution': Convolution,
    'locally_connected': LocallyConnected,
    'dense': Dense,
    'relu': ReLU,
    'tanh': Tanh,
    'local_response_normalization': LocalResponseNormalization,
    'spatial_normalization': SpatialNormalization,
    'max_pooling': MaxPooling,
    'average_pooling': AveragePooling,
    'exchange': Exchange,
    'flatten': Flatten,
    'dropout': Dropout,
}
_NAMES = {cls: name for name, cls in _TYPES.items()}


def to_config(layers: Mapping[str, Layer]) -> ConfigDict:
    """Writes a table as a config, so that `--config.network.conv1.kernels=48` and the like work."""
    config = ConfigDict(sort_keys=False)
    for name, layer in layers.items():
        config[name] = ConfigDict({'type': _NAMES[type(layer)], **dataclasses.asdict(layer)}, sort_keys=False)
    return config


def from_config(config: Mapping[str, Any]) -> Table:
    """Reads a table back from a config.

    Raises:
      UserError: a line has an unknown type, or a field that its type does not have.
    """
    table = []
    for name, line in config.items():
        if not isinstance(line, Mapping | ConfigDict):
            raise UserError(f"config.network.{name}={line!r} is no layer: it must have a type and that type's fields.")
        fields = dict(line)
        kind = fields.pop('type', None)
        if not isinstance(kind, str) or kind not in _TYPES:
            raise UserError(
                f'config.network.{name}: unknown type of layer {kind!r}; known are {", ".join(sorted(_TYPES))}.'
            )
        known = [field.name for field in dataclasses.fields(_TYPES[kind])]
        for field, value in fields.items():
            if field not in known:
                raise UserError(
                    f'config.network.{name}.{field}: a layer of type {kind!r} has no such field; '
                    f'it has {", ".join(known) or "none"}.'
                )
            _check_value(f'config.network.{name}.{field}', field, value)
        try:
            table.append((name, _TYPES[kind](**fields)))
        except TypeError as error:
            raise UserError(f'config.network.{name} (type {kind!r}) is incomplete: {error}.') from error
        layer = table[-1][1]
        if isinstance(layer, Pooling) and layer.stride > layer.size:
            raise UserError(f'config.network.{name}: pooling windows of {layer.size} must not lie further apart.')
    return tuple(table)


def _check_value(path: str, field: str, value: Any) -> None:
    whole = {'kernels': 1, 'units': 1, 'size': 1, 'stride': 1, 'n': 1, 'pad': 0}  # the least that makes sense
    if field in whole:
        most = 2**20 if field in ('kernels', 'units') else 2**14
        if type(value) is not int or not whole[field] <= value <= most:
            raise UserError(
                f'{path}={value!r:.100} must be a whole number, at least {whole[field]} and at most {most:,}.'
            )
    elif (
        type(value) not in (int, float)
        or abs(value) > 2**1000
        or not math.isfinite(value)
        or (value < 0 and field != 'bias')
    ):
        raise UserError(
            f'{path}={value!r:.100} must be a finite number' + ('.' if field == 'bias' else ', at least 0.')
        )
    if field == 'rate' and value >= 1:
        raise UserError(f'{path}={value!r} must be below 1.')
