"""Layer specifications. A network is a table of them: an ordered mapping from names to specifications.

Every column runs every layer; `Exchange` is the only one at which columns see each other's activations. Numbers of
kernels and units are totals over all columns, as in the paper. `alexnet.py` runs a table, with the functions of
`layers.py`.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from alexnet_jax.runtime.errors import UserError

Count = Annotated[int, Field(ge=1, le=2**20)]  # of kernels or units
Size = Annotated[int, Field(ge=1, le=2**14)]  # pixels, or channels
Padding = Annotated[int, Field(ge=0, le=2**14)]  # pixels
NotNegative = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Rounding = Literal['up', 'down']

_STRICT = ConfigDict(extra='forbid', strict=True, allow_inf_nan=False)


def outputs_along(
    length: int, size: int, stride: int, pad: int = 0, *, rounding: Rounding = 'up', far_pad: int | None = None
) -> int:
    """Number of windows along a side of `length` pixels, by the 2012 code's rule: below 1 where none fits.

    It is 1 + ceil((length + pad + far_pad - size) / stride), where far_pad is as pad if not given; the last window may
    run past the far edge. Rounded down, every window ends within the padding.
    """
    steps = length + pad + (pad if far_pad is None else far_pad) - size
    return 1 + (steps // stride if rounding == 'down' else -(steps // -stride))


def _no_gaps(pooling: Any) -> Any:
    if pooling.stride > pooling.size:
        raise ValueError(
            f'pooling windows of {pooling.size} must not be {pooling.stride} apart; the stride is at most the size'
        )
    return pooling


@dataclass(frozen=True, config=_STRICT)
class Convolution:
    """`kernels` filters of size x size; 1 + ceil((n + 2 pad - size) / stride) outputs along each side.

    The last window may run past the bottom and right edges, where it reads zeros, as in the 2012 code: 224 pixels with
    size 11 and stride 4 give 55 outputs. `rounding='down'` leaves such a window out, as Caffe and PyTorch do. There are
    `pad` zeros before the top and left edges, and `far_pad` after the bottom and right ones; -1 for as many.
    """

    kernels: Count
    size: Size
    stride: Size = 1
    pad: Padding = 0
    std: NotNegative = 0.01
    bias: float = 0.0
    rounding: Rounding = 'up'
    far_pad: Annotated[int, Field(ge=-1, le=2**14)] = -1


@dataclass(frozen=True, config=_STRICT)
class LocallyConnected:
    """A convolution with other kernels and biases at each position of its output: cuda-convnet's "local" layers."""

    kernels: Count
    size: Size
    stride: Size = 1
    pad: Padding = 0
    std: NotNegative = 0.01
    bias: float = 0.0


@dataclass(frozen=True, config=_STRICT)
class Dense:
    """`units` fully connected units."""

    units: Count
    std: NotNegative = 0.01
    bias: float = 0.0


@dataclass(frozen=True, config=_STRICT)
class ReLU:
    """max(0, x), section 3.1."""


@dataclass(frozen=True, config=_STRICT)
class Tanh:
    """tanh(x), the saturating nonlinearity that section 3.1 compares with."""


@dataclass(frozen=True, config=_STRICT)
class LocalResponseNormalization:
    """Section 3.3: x / (k + alpha * sum of squares over n adjacent channels) ** beta, within a column.

    The 2012 code divides its alpha by n. With `across_columns` the channels at a column's edges see those of the
    neighboring column too, as in Caffe, whose groups share one normalization.
    """

    k: NotNegative = 2.0
    n: Size = 5
    alpha: NotNegative = 1e-4
    beta: NotNegative = 0.75
    across_columns: bool = False


@dataclass(frozen=True, config=_STRICT)
class SpatialNormalization:
    """The 2012 code's other normalization, not in the paper: the same formula over a size x size window of a map.

    The code divides its alpha by size * size; here alpha is the quotient.
    """

    k: NotNegative = 1.0
    size: Size = 5
    alpha: NotNegative = 0.001 / 25
    beta: NotNegative = 0.75


@dataclass(frozen=True, config=_STRICT)
class MaxPooling:
    """Section 3.4: the largest value of each size x size window, `stride` apart; they overlap if stride < size.

    The last window may run past the bottom and right edges; `rounding='down'` leaves it out.
    """

    size: Size = 3
    stride: Size = 2
    rounding: Rounding = 'up'

    _check = model_validator(mode='after')(_no_gaps)


@dataclass(frozen=True, config=_STRICT)
class AveragePooling:
    """The mean of each size x size window, without what is past the edge; LeNet-5's pooling."""

    size: Size = 2
    stride: Size = 2
    rounding: Rounding = 'up'

    _check = model_validator(mode='after')(_no_gaps)


@dataclass(frozen=True, config=_STRICT)
class Exchange:
    """Gives every column the activations of all columns, concatenated along the last axis, column 1 first.

    `precision` is the type in which they are passed, and their gradients back: 'network' for the type that they have.
    """

    precision: Literal['network', 'float16', 'bfloat16'] = 'network'


@dataclass(frozen=True, config=_STRICT)
class Flatten:
    """Makes a vector of a map, in the order height, width, channel."""


@dataclass(frozen=True, config=_STRICT)
class Dropout:
    """Section 4.2: zeros outputs with probability `rate` in training; multiplies all by (1 - rate) at test time."""

    rate: Probability = 0.5


Normalization = LocalResponseNormalization | SpatialNormalization
Pooling = MaxPooling | AveragePooling
Learned = Convolution | LocallyConnected | Dense  # layers with parameters
Layer = Learned | ReLU | Tanh | Normalization | Pooling | Exchange | Flatten | Dropout
Table = tuple[tuple[str, Layer], ...]


def check_layer(table: Table, layer: str) -> None:
    """Raises UserError where --layer names none of a table's layers."""
    names = [name for name, _ in table]
    if layer not in names:
        raise UserError(f'--layer={layer}: the network has no such layer; it has {", ".join(names)}.')


# By their names in configs, the classes' in snake case.
TYPES: dict[str, type[Layer]] = {
    re.sub('(?<=[a-z])(?=[A-Z][a-z])', '_', cls.__name__).lower(): cls for cls in get_args(Layer)
}


def layer_fields(layers: Mapping[str, Layer] | Table) -> dict[str, dict[str, Any]]:
    """A table as the plain fields that configs hold: {name: {'type': ..., field: value, ...}}, in order."""
    names = {cls: name for name, cls in TYPES.items()}
    return {name: {'type': names[type(layer)], **vars(layer)} for name, layer in dict(layers).items()}
