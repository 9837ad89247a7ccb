"""The drawing of Figure 2: volumes, kernels, arrows and text of a row of layers."""

import dataclasses
import itertools
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon

from alexnet_jax.figures.network_stages import Stage
from alexnet_jax.figures.style import (
    BLACK,
    BLUE,
    GRAY,
    GREEN,
    ORANGE,
    PURPLE,
    SIZE,
    VERMILLION,
    fitted,
    text_width,
)

# In inches.
_PITCH, _MARGIN, _LABELS = 1.04, 0.12, 0.88
_LARGEST = 1.25  # height of the largest map
_LARGEST_IMAGE = 1.75
_DEPTH = (0.34, 0.24)  # of a map's side, drawn obliquely: to the right and up
_THICKEST, _THINNEST = 0.4, 0.03  # channels
_SMALLEST = 0.07
_LINE = 0.175
_PANEL, _NAME = '#F1F1EF', 11.0  # color; size of layers' names, in points
_NOTE = (
    'Maps, channels and kernels are to scale, units on a scale of their own. A kernel is drawn as its share of its '
    'input, which may have been pooled.'
)
_MEETING = ' Dark orange: where the columns meet; exchanged: values per image that each column receives.'


def _wrapped(text: str) -> list[str]:
    return [line for part in text.splitlines() for line in textwrap.wrap(part, 13)]


Point = tuple[float, float]
_COLORS = (BLUE, ORANGE, GREEN, PURPLE)  # of columns


class _Volume(NamedTuple):
    """A stage in one column, or in none: the image, the softmax."""

    stage: Stage
    column: int | None
    left: float
    bottom: float


class Drawing:
    """The scales of a network's drawing, and its parts. Coordinates are inches, from the upper left corner."""

    def __init__(self, stages: Sequence[Stage], columns: int, devices: Sequence[str] | None) -> None:
        self.stages, self.columns, self.devices = stages, columns, devices
        self.shown = list(range(columns)) if columns <= 4 else [0, 1, columns - 1]
        learned = [stage for stage in stages if stage.parameters]
        maps = [stage for stage in learned if len(stage.shape) == 3]
        image = stages[0].shape[0]
        self.inch_per_pixel = _LARGEST / max((max(stage.shape[:2]) for stage in maps), default=image)
        self.image_scale = min(1.0, _LARGEST_IMAGE / (image * self.inch_per_pixel))
        thickest = max((stage.shape[2] for stage in maps), default=3)
        self.inch_per_channel = _THICKEST / max(3, thickest)
        self.inch_per_unit = _LARGEST / max((stage.shape[0] for stage in learned if len(stage.shape) == 1), default=1)
        self.own = sum(stage.parameters for stage in stages) // columns

    @property
    def note(self) -> str:
        """What the drawing shows."""
        words = _NOTE
        if self.columns > 1:
            words += _MEETING
        if self.image_scale < 1:
            words += f' The image is drawn {1 / self.image_scale:.2g} times smaller.'
        if len(self.shown) < self.columns:
            words += f' Of {self.columns} columns, which are all alike, {len(self.shown)} are drawn.'
        return words

    # Places.

    def _size(self, stage: Stage) -> tuple[float, float, float]:
        """Height, thickness and side of the volume; the side is 0 for units, which have no map."""
        if not stage.shape:
            return 0.0, 0.0, 0.0
        if len(stage.shape) == 1:
            return max(_SMALLEST, stage.shape[0] * self.inch_per_unit), 0.11, 0.0
        scale = self.inch_per_pixel * (self.image_scale if stage is self.stages[0] else 1)
        height, width = (max(_SMALLEST, pixels * scale) for pixels in stage.shape[:2])
        return height, max(_THINNEST, stage.shape[2] * self.inch_per_channel), width

    def _band(self, part: Sequence[Stage]) -> float:
        """Height of a column."""
        sizes = [self._size(stage) for stage in part if stage.parameters]
        return max((height + side * _DEPTH[1] for height, _, side in sizes), default=1.0) + 0.66

    def _text(self, part: Sequence[Stage]) -> dict[str, list[list[str]]]:
        """By their labels, rows of text: for each the lines of all stages. The first row is above the columns."""
        told = [
            dataclasses.replace(stage, kernels='', after=(), parameters=0, received=0)
            if self._again(part, number)
            else stage
            for number, stage in enumerate(part)
        ]
        return {
            'kernels': [_wrapped(stage.kernels) for stage in told],
            'then': [list(itertools.chain.from_iterable(map(_wrapped, stage.after))) for stage in told],
            'parameters': [[f'{stage.parameters:,}'] if stage.parameters else [] for stage in told],
            'exchanged': [[f'{stage.received:,}'] if stage.received else [] for stage in told],
        }

    def _again(self, part: Sequence[Stage], number: int) -> bool:
        """Whether a stage is the last one of the row above, shown again."""
        return number == 0 and part[0] is not self.stages[0]

    def width(self, beside: int) -> float:
        """Width of a row of so many layers."""
        return 2 * _MARGIN + _LABELS + beside * _PITCH

    def height(self, part: Sequence[Stage]) -> float:
        """Height of a row of layers, with its text."""
        lines = 1 + sum(max(map(len, row)) for row in self._text(part).values())
        return self._band(part) * len(self.shown) + _LINE * lines + 0.48

    # Drawing.

    def draw(self, axes: Axes, part: Sequence[Stage]) -> None:
        """Draws a row of layers. The first, where it is not the image, repeats the last of the row above."""
        text, band = self._text(part), self._band(part)
        top = _LINE * (1 + max(map(len, text['kernels']))) + 0.14
        self._draw_text(axes, part, text, top + band * len(self.shown))
        self._draw_panels(axes, part, top, band)
        volumes = [self._volumes(stage, number, top, band) for number, stage in enumerate(part)]
        for ones, others in itertools.pairwise(volumes):
            for one, other in itertools.product(ones, others):
                alone = one.column is None or other.column is None
                if alone or one.column == other.column or other.stage.meets:
                    self._draw_connection(axes, one, other)
        for number, ones in enumerate(volumes):
            for one in ones:
                self._draw_volume(axes, one, again=self._again(part, number))

    def _volumes(self, stage: Stage, number: int, top: float, band: float) -> list[_Volume]:
        left = _MARGIN + _LABELS + number * _PITCH
        height, _, side = self._size(stage)
        half = (height + side * _DEPTH[1]) / 2
        if stage.parameters:
            return [_Volume(stage, n, left, top + (i + 0.5) * band + half + 0.02) for i, n in enumerate(self.shown)]
        return [_Volume(stage, None, left, top + band * len(self.shown) / 2 + half + 0.02)]

    def _draw_text(self, axes: Axes, part: Sequence[Stage], text: dict[str, list[list[str]]], bottom: float) -> None:
        y, x = 0.1 + _LINE, [_MARGIN + _LABELS + number * _PITCH for number in range(len(part))]
        for number, stage in enumerate(part):
            name = fitted(stage.name, _PITCH - 0.06, _NAME, 'bold') if stage.shape else ''
            color = GRAY if self._again(part, number) else BLACK
            axes.text(x[number], 0.1, name, size=_NAME, weight='bold', color=color, parse_math=False)
        for label, cells in text.items():
            if any(cells):
                axes.text(_MARGIN, y, label, size=SIZE, color=GRAY)
            for left, lines in zip(x, cells, strict=True):
                for i, line in enumerate(lines):
                    color = VERMILLION if label == 'exchanged' else BLACK
                    axes.text(left, y + i * _LINE, fitted(line, _PITCH - 0.04, SIZE), size=SIZE, color=color)
            y = bottom + 0.2 if label == 'kernels' else y + _LINE * max(map(len, cells))

    def _draw_panels(self, axes: Axes, part: Sequence[Stage], top: float, band: float) -> None:
        """A panel for each device, behind its columns, and what it holds."""
        inside = [number for number, stage in enumerate(part) if stage.parameters]
        left = _MARGIN + _LABELS + inside[0] * _PITCH - 0.14
        right = _MARGIN + _LABELS + (inside[-1] + 1) * _PITCH - 0.1
        names = self.devices or [''] * self.columns
        for name, places in itertools.groupby(range(len(self.shown)), lambda place: names[self.shown[place]]):
            first, *_, last = [*places] * 2
            box = (left, top + first * band + 0.03), right - left, (last - first + 1) * band - 0.06
            style = 'round,pad=0,rounding_size=0.08'
            axes.add_patch(FancyBboxPatch(*box, boxstyle=style, facecolor=_PANEL, edgecolor='#C4C4C0', linewidth=0.8))
            for place in range(first, last + 1):
                column = self.shown[place]
                words = f'column {column + 1}' + (f' on {name}' if name else '')
                holds = f'{words}: {self.own:,} parameters'
                words = holds if text_width(holds, SIZE) < right - left - 0.2 else words
                _label(
                    axes, left + 0.1, top + place * band + 0.2, fitted(words, right - left - 0.2, SIZE), _PANEL, GRAY
                )

    def _draw_volume(self, axes: Axes, one: _Volume, again: bool) -> None:
        """A box whose right face is the map, with its shape below; or the word softmax."""
        stage, left, bottom = one.stage, one.left, one.bottom
        if not stage.shape:
            axes.text(left, bottom, 'softmax', size=_NAME, weight='bold', va='center')
            return
        height, thick, side = self._size(stage)
        right, up = side * _DEPTH[0], side * _DEPTH[1]
        color = GRAY if one.column is None else _COLORS[one.column % len(_COLORS)]
        edge = _tint(color, 0.3) if again else _tint(color, 1.0, darker=0.55)
        shades = (0.12, 0.2, 0.28) if again or one.column is None else (0.3, 0.5, 0.7)
        a, b = (left, bottom), (left + thick, bottom)
        c, d = (left + thick, bottom - height), (left, bottom - height)
        faces = [
            ((a, b, c, d), shades[1]),
            ((d, c, (c[0] + right, c[1] - up), (d[0] + right, d[1] - up)), shades[0]),
            ((b, (b[0] + right, b[1] - up), (c[0] + right, c[1] - up), c), shades[2]),
        ]
        for points, share in faces if side else faces[:1]:
            axes.add_patch(Polygon(points, facecolor=_tint(color, share), edgecolor=edge, linewidth=0.7, zorder=3))
        words = '×'.join(map(str, stage.shape))  # noqa: RUF001
        _label(axes, left, bottom + 0.17, words, 'white' if one.column is None else _PANEL)

    def _draw_connection(self, axes: Axes, one: _Volume, other: _Volume) -> None:
        """What a volume of the next layer sees: a kernel with its cone, or an arrow; dark orange between columns."""
        across = self.columns > 1 and other.stage.meets and one.column != other.column
        entry = self._entry(other)
        height, thick, side = self._size(one.stage)
        face = one.left + thick
        if across or not (other.stage.window and side):
            start = (face + side * _DEPTH[0] / 2 + 0.03, one.bottom - height / 2 - side * _DEPTH[1] / 2)
            color, width = (VERMILLION, 1.3) if across else (GRAY, 0.9)
            arrow = FancyArrowPatch(
                start, entry, arrowstyle='-|>', mutation_scale=8, color=color, linewidth=width, shrinkA=0, shrinkB=1
            )
            arrow.set_zorder(5 if across else 4)
            axes.add_patch(arrow)
            return
        # The kernel, on the map near its middle.
        part = other.stage.window
        near, far = (1 - part) / 2 * side, (1 + part) / 2 * side
        low, high = (1 - part) / 2 * height, (1 + part) / 2 * height
        corners = [
            (face + across_ * _DEPTH[0], one.bottom - along - across_ * _DEPTH[1])
            for across_, along in ((near, low), (far, low), (far, high), (near, high))
        ]
        axes.add_patch(Polygon(corners, facecolor='white', edgecolor=BLACK, linewidth=0.7, alpha=0.9, zorder=4))
        for corner in corners:
            axes.plot(*zip(corner, entry, strict=True), color=GRAY, linewidth=0.6, linestyle=(0, (3, 2)), zorder=4)

    def _entry(self, other: _Volume) -> Point:
        """The point of a volume at which what it sees arrives."""
        if not other.stage.shape:
            return other.left - 0.04, other.bottom
        height, _, _ = self._size(other.stage)
        return other.left, other.bottom - height / 2


def _label(axes: Axes, x: float, y: float, words: str, ground: str, color: str = BLACK) -> None:
    """A line of text, readable where arrows pass."""
    box = {'facecolor': ground, 'edgecolor': 'none', 'pad': 1.0}
    axes.text(x, y, words, size=SIZE, color=color, zorder=6, bbox=box, parse_math=False)


def _tint(color: str, share: float, darker: float = 1.0) -> tuple[float, ...]:
    """A color mixed with white, or made darker."""
    return tuple(darker * (1 - share + share * part) for part in to_rgb(color))
