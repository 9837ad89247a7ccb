"""Figure 2: a network's maps to scale, its columns above each other, its kernels, and where columns meet."""

import pathlib
import textwrap
from collections.abc import Mapping, Sequence

from jax.sharding import Mesh
from matplotlib.figure import Figure
from rich.console import Console

from alexnet_jax.config import Config
from alexnet_jax.figures.network_drawing import Drawing
from alexnet_jax.figures.network_stages import stages_of
from alexnet_jax.figures.style import GRAY, SIZE, axes_at, bare, fitted, look, new_figure, text_width, write_figure
from alexnet_jax.model.columns import COLUMN, DATA
from alexnet_jax.model.layer_specs import Layer, Table

WIDE, NARROW = 10, 3  # layers beside each other: on a slide, on a phone

_TITLE, _LETTERS = 12.0, 12.5  # size in points; letters of a line in an inch
_TOP, _LINE, _EDGE = 0.45, 0.175, 0.12  # inches


def network_figure(
    layers: Mapping[str, Layer] | Table,
    columns: int = 2,
    crop_size: int = 224,
    *,
    name: str = '',
    devices: Sequence[str] | None = None,
    beside: int = WIDE,
) -> Figure:
    """Draws a network as the paper's Figure 2 does.

    Args:
      layers: of the network, as `AlexNet` takes them.
      columns: number of columns. Of more than four, three are drawn.
      crop_size: height and width of the images, in pixels.
      name: of the network, for the title.
      devices: what each column is on, as in 'device 0'; None to leave it out.
      beside: layers beside each other, before the next row: `WIDE` for a slide, `NARROW` for a phone.

    Raises:
      UserError: the layers do not fit the images or the number of columns.
    """
    stages = stages_of(layers, columns, crop_size)
    parts = [stages[first : first + beside + 1] for first in range(0, len(stages) - 1, beside)]
    total = sum(stage.parameters for stage in stages)
    counted = f'{"1 column" if columns == 1 else f"{columns} columns"}, {total:,} parameters'
    drawing = Drawing(stages, columns, devices)
    width, heights = drawing.width(max(map(len, parts))), [drawing.height(part) for part in parts]
    note = textwrap.wrap(drawing.note, int(width * _LETTERS))
    height = _TOP + sum(heights) + _LINE * len(note) + _EDGE
    with look():
        figure = new_figure(width, height)
        room = width - 3 * _EDGE - text_width(f': {counted}', _TITLE, 'bold')
        title = f'{fitted(name, room, _TITLE, "bold")}: {counted}' if name else counted
        figure.text(_EDGE / width, 1 - 0.28 / height, title, size=_TITLE, weight='bold', parse_math=False)
        top = _TOP
        for part, own in zip(parts, heights, strict=True):
            axes = bare(axes_at(figure, 0, top, width, own))
            axes.set(xlim=(0, width), ylim=(own, 0))
            drawing.draw(axes, part)
            top += own
        bottom = (_LINE * len(note) + _EDGE / 2) / height
        figure.text(_EDGE / width, bottom, '\n'.join(note), size=SIZE, color=GRAY, va='top')
    return figure


def write_network(
    config: Config, directory: pathlib.Path, console: Console, devices: Sequence[str] | None = None
) -> list[pathlib.Path]:
    """Draws a config's network into network.png and .svg, and, for phones, network_narrow.png and .svg.

    Args:
      config: of the network.
      directory: where the pictures go.
      console: for output: what was written.
      devices: as for `network_figure`.

    Returns:
      The paths written.

    Raises:
      UserError: the layers do not fit the images or the number of columns, or a file cannot be written.
    """
    written = []
    for name, beside in (('network', WIDE), ('network_narrow', NARROW)):
        figure = network_figure(
            config.network, config.columns, config.data.crop_size, name=config.name, devices=devices, beside=beside
        )
        written += write_figure(figure, directory / name, console, line_art=True)
    return written


def devices_of(mesh: Mesh, columns: int) -> list[str]:
    """What each column is on, for `network_figure`."""
    copies = mesh.shape[DATA]
    also = '' if copies == 1 else f' and {copies - 1} {"copy" if copies == 2 else "copies"}'
    local = columns // mesh.shape[COLUMN]
    return [f'device {mesh.devices[0, column // local].id}{also}' for column in range(columns)]
