"""What Figure 2 shows of a network: the image, the layers with parameters and what follows them, the softmax."""

import dataclasses
from collections.abc import Mapping

from alexnet_jax.model.layer_specs import (
    AveragePooling,
    Convolution,
    Dense,
    Dropout,
    Exchange,
    Flatten,
    Layer,
    LocallyConnected,
    LocalResponseNormalization,
    MaxPooling,
    SpatialNormalization,
    Table,
)
from alexnet_jax.model.summary import Line, column_exchanges, network_lines


@dataclasses.dataclass(frozen=True)
class Stage:
    """A layer with parameters, and the layers after it without any; or the image; or the softmax.

    Attributes:
      name: of the layer.
      shape: of its output in one column: [height, width, channels] or [units]; () for the softmax.
      kernels: description, all columns together.
      window: side of its kernels, as a fraction of its input's; 0 where it sees all of it.
      after: descriptions of the layers after it.
      meets: whether it sees all columns.
      received: values of an image that a column receives from the others here.
      parameters: all columns together.
    """

    name: str
    shape: tuple[int, ...]
    kernels: str = ''
    window: float = 0.0
    after: tuple[str, ...] = ()
    meets: bool = False
    received: int = 0
    parameters: int = 0


def stages_of(layers: Mapping[str, Layer] | Table, columns: int, crop_size: int) -> list[Stage]:
    """The image, the layers with parameters, and the softmax, with what is drawn of them."""
    table = tuple(layers.items()) if isinstance(layers, Mapping) else layers
    lines = network_lines(table, columns, crop_size)
    received = {one.into: one.values for one in column_exchanges(lines, columns, 4)}
    stages = [Stage('image', (crop_size, crop_size, 3))]
    side = crop_size
    for (name, layer), line in zip(table, lines, strict=True):
        if isinstance(layer, Convolution | LocallyConnected | Dense):
            stages.append(
                Stage(
                    name,
                    (*line.output[:-1], line.output[-1] // columns),
                    _crosses(line.kernel),
                    0.0 if isinstance(layer, Dense) else min(1.0, layer.size / side),
                    (),
                    name in received,
                    received.get(name, 0),
                    line.parameters,
                )
            )
        elif words := _words(layer, line, received.get(name, 0)):
            stages[-1] = dataclasses.replace(stages[-1], after=(*stages[-1].after, words))
        side = line.output[0]
    return [*stages, Stage('softmax', (), meets=columns > 1, received=received.get('softmax', 0))]


def _words(layer: Layer, line: Line, received: int) -> str:
    """A layer without parameters in a few words; '' if nothing is to be seen of it."""
    match layer:
        case Exchange() | Flatten():
            return ''
        case MaxPooling(size, stride) | AveragePooling(size, stride):
            kind = 'max' if isinstance(layer, MaxPooling) else 'average'
            to = f'to {line.output[0]}×{line.output[1]}'  # noqa: RUF001
            return f'{kind} pooling\n{size}×{size}, stride {stride}\n{to}'  # noqa: RUF001
        case LocalResponseNormalization():
            return f'LRN across\ncolumns: {received:,}' if received else 'LRN'
        case SpatialNormalization():
            return 'spatial normalization'
        case Dropout(rate):
            return f'dropout {rate:g}'
    return type(layer).__name__.replace('Tanh', 'tanh')


def _crosses(text: str) -> str:
    """'96 of 11x11x3, stride 4' with multiplication signs, in lines."""
    words = [word.replace('x', '×') if word[0].isdigit() else word for word in text.split()]  # noqa: RUF001
    return ' '.join(words).replace(' of ', ' of\n', 1) if 'x' in text else text
