"""Layer specifications: the vocabulary in which networks are written down.

A network is a table, an ordered mapping from a layer's name to its specification. Every column runs every layer;
`Exchange` is the only one at which columns see each other's activations. Numbers of kernels and units are totals over
all columns, as in the paper. Nothing is computed here; `alexnet.py` runs a table, `layers.py` holds the arithmetic.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

Count = Annotated[int, Field(ge=1, le=2**20)]  # of kernels or units
Size = Annotated[int, Field(ge=1, le=2**14)]  # pixels, or channels
Padding = Annotated[int, Field(ge=0, le=2**14)]  # pixels
NotNegative = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, lt=1)]

_STRICT = ConfigDict(extra='forbid', strict=True, allow_inf_nan=False)


def _no_gaps(pooling: Any) -> Any:
    if pooling.stride > pooling.size:
        raise ValueError(
            f'pooling windows of {pooling.size} must not be {pooling.stride} apart; the stride is at most the size'
        )
    return pooling


@dataclass(frozen=True, config=_STRICT)
class Convolution:
    """`kernels` filters of size x size; 1 + ceil((n + 2 pad - size) / stride) outputs along each side.

    Where the stride does not divide, the last window runs past the bottom and right edge and reads zeros
    there, as in the 2012 code: 224 pixels, size 11 and stride 4 give 55 outputs.
    """

    kernels: Count
    size: Size
    stride: Size = 1
    pad: Padding = 0
    std: NotNegative = 0.01
    bias: float = 0.0


@dataclass(frozen=True, config=_STRICT)
class LocallyConnected:
    """A convolution whose kernels and biases differ from place to place: cuda-convnet's "local" layers.

    The outputs of a place are `kernels`, each of size x size; how many places there are is as with `Convolution`.
    """

    kernels: Count
    size: Size
    stride: Size = 1
    pad: Padding = 0
    std: NotNegative = 0.01
    bias: float = 0.0


@dataclass(frozen=True, config=_STRICT)
class Dense:
    """`units` fully connected neurons (the paper's fully-connected layers)."""

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

    The 2012 code divides alpha by n; write the quotient to follow it.
    """

    k: NotNegative = 2.0
    n: Size = 5
    alpha: NotNegative = 1e-4
    beta: NotNegative = 0.75


@dataclass(frozen=True, config=_STRICT)
class SpatialNormalization:
    """The 2012 code's other normalization: the same formula over the size x size places around, within a map.

    The paper does not mention it. The code divides its scale by the places of the window; alpha is the quotient.
    """

    k: NotNegative = 1.0
    size: Size = 5
    alpha: NotNegative = 0.001 / 25
    beta: NotNegative = 0.75


@dataclass(frozen=True, config=_STRICT)
class MaxPooling:
    """Section 3.4: windows of size x size, `stride` apart; they overlap where the stride is smaller."""

    size: Size = 3
    stride: Size = 2

    _check = model_validator(mode='after')(_no_gaps)


@dataclass(frozen=True, config=_STRICT)
class AveragePooling:
    """The mean of each window of size x size, of what there is of it; LeNet-5's pooling, side by side."""

    size: Size = 2
    stride: Size = 2

    _check = model_validator(mode='after')(_no_gaps)


@dataclass(frozen=True, config=_STRICT)
class Exchange:
    """Every column receives the values of all columns, column 1's before column 2's (last axis)."""


@dataclass(frozen=True, config=_STRICT)
class Flatten:
    """A map becomes a vector: height, then width, then channel."""


@dataclass(frozen=True, config=_STRICT)
class Dropout:
    """Section 4.2: in training an output is 0 with probability `rate`; at test time all count (1 - rate)."""

    rate: Probability = 0.5


Normalization = LocalResponseNormalization | SpatialNormalization
Pooling = MaxPooling | AveragePooling
Learned = Convolution | LocallyConnected | Dense  # layers with parameters
Layer = Learned | ReLU | Tanh | Normalization | Pooling | Exchange | Flatten | Dropout
Table = tuple[tuple[str, Layer], ...]

TYPES: dict[str, type[Layer]] = {  # as configs name them
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


def layer_fields(layers: Mapping[str, Layer] | Table) -> dict[str, dict[str, Any]]:
    """A table as plain fields, {name: {'type': ..., field: value, ...}}, in its order: what configs hold."""
    names = {cls: name for name, cls in TYPES.items()}
    return {name: {'type': names[type(layer)], **vars(layer)} for name, layer in dict(layers).items()}
