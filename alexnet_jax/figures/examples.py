"""Images with their predictions, and with their nearest neighbors (Figure 4)."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet_jax.evaluation.predictor import most_probable
from alexnet_jax.figures.style import SMALL, axes_at, bare, fitted, look, new_figure, text_width

_ACROSS = 4
_CELL, _MARGIN, _BETWEEN = 2.1, 0.12, 0.25  # inches
_BOX, _BAR, _GAP = 0.27, 0.2, 0.07  # heights in inches
_BAR_COLOR, _RIGHT_COLOR, _RIGHT_EDGE = '#C3D9EC', '#F0776C', '#7F0000'


@dataclasses.dataclass(frozen=True)
class Example:
    """An image and the most probable of its classes.

    Attributes:
      pixels: uint8 [size, size, 3], RGB.
      names: of the most probable classes, the most probable first; up to five.
      probabilities: of these classes, 0..1.
      truth: the right class's name, if known.
      right: index of the right class in `names`, if it is there.
    """

    pixels: np.ndarray
    names: list[str]
    probabilities: list[float]
    truth: str | None
    right: int | None


def example_of(
    pixels: np.ndarray, log_probabilities: np.ndarray, class_names: Sequence[str], truth: int | None
) -> Example:
    """The five most probable classes of an image.

    Args:
      pixels: uint8 [size, size, 3], RGB.
      log_probabilities: [classes].
      class_names: of all classes.
      truth: the right class, if known.
    """
    classes, probabilities = zip(*most_probable(log_probabilities), strict=True)
    return Example(
        pixels,
        [class_names[label] for label in classes],
        list(probabilities),
        None if truth is None else class_names[truth],
        classes.index(truth) if truth in classes else None,
    )


def figure_4_left(examples: Sequence[Example], title: str = '') -> Figure:
    """Images, their right labels, and "the five labels considered most probable", the right one in red.

    A bar of the whole width is the probability 1. The right label is bold, and its bar has a dark edge.

    Args:
      examples: one or more, four to a row.
      title: of the figure.
    """
    across = min(_ACROSS, len(examples))
    down = -(-len(examples) // _ACROSS)
    bars = max(len(example.names) for example in examples)
    box = (_BOX + _GAP) * any(example.truth is not None for example in examples)
    cell = _CELL + _GAP + box + bars * _BAR
    top = 0.42 if title else _MARGIN
    with look():
        figure = new_figure(
            2 * _MARGIN + across * (_CELL + _BETWEEN) - _BETWEEN,
            top + down * (cell + _BETWEEN) - _BETWEEN + _MARGIN,
            title,
        )
        for number, example in enumerate(examples):
            left = _MARGIN + number % _ACROSS * (_CELL + _BETWEEN)
            above = top + number // _ACROSS * (cell + _BETWEEN)
            _show(axes_at(figure, left, above, _CELL, _CELL), example.pixels)
            if example.truth is not None:
                _label(axes_at(figure, left, above + _CELL + _GAP, _CELL, _BOX), example.truth)
            height = len(example.names) * _BAR
            _bars(axes_at(figure, left, above + _CELL + _GAP + box, _CELL, height), example)
    return figure


def short_name(name: str) -> str:
    """The first of a class's names: ImageNet's are lists of synonyms, such as 'tench, Tinca tinca'."""
    return re.split(r', (?![^(]*\))', name)[0].strip() or name  # but not 'coffee at (261, 123)'


def _show(axes: Axes, pixels: np.ndarray) -> None:
    bare(axes).imshow(pixels, aspect='auto')


def _label(axes: Axes, truth: str) -> None:
    bare(axes).spines[:].set(visible=True, color='0.2', linewidth=0.9)
    words = fitted(short_name(truth), _CELL - 0.12, SMALL)
    axes.text(0.5, 0.48, words, ha='center', va='center', size=SMALL, parse_math=False, transform=axes.transAxes)


def _bars(axes: Axes, example: Example) -> None:
    bare(axes).set(xlim=(0, 1), ylim=(len(example.names) - 0.5, -0.5))
    for place, (name, probability) in enumerate(zip(example.names, example.probabilities, strict=True)):
        right = place == example.right
        edge: dict[str, Any] = {'edgecolor': _RIGHT_EDGE, 'linewidth': 1.1} if right else {}
        axes.barh(place, probability, height=0.84, facecolor=_RIGHT_COLOR if right else _BAR_COLOR, **edge)
        weight, number = 'bold' if right else 'normal', whole_percent(probability)
        width = _CELL - text_width(number, SMALL - 1, weight) - 0.14
        words = fitted(short_name(name), width, SMALL, weight)
        for text, where, side, size in ((words, 0.02, 'left', SMALL), (number, 0.99, 'right', SMALL - 1)):
            axes.text(where, place, text, ha=side, va='center_baseline', size=size, weight=weight, parse_math=False)


def whole_percent(probability: float) -> str:
    """A probability as a whole percentage: '83 %', and '<1 %' or '>99 %' near 0 or 1."""
    if 0 < probability < 0.01:
        return '<1 %'
    if 0.99 < probability < 1:
        return '>99 %'
    return f'{100 * probability:.0f} %'


def figure_4_right(
    queries: Sequence[np.ndarray], neighbors: Sequence[Sequence[np.ndarray]], titles: Sequence[str] | None = None
) -> Figure:
    """Images in the first column, their nearest training images in the others, nearest first.

    Args:
      queries: uint8 [size, size, 3] each.
      neighbors: for each query its nearest images, six in the paper; uint8 [size, size, 3] each.
      titles: for each query a line above it, such as its class.
    """
    side, gap, apart, line = 1.15, 0.06, 0.22, 0.24 if titles else 0.0  # inches
    most = max(len(row) for row in neighbors)
    width = 2 * _MARGIN + side + apart + most * (side + gap) - gap
    with look():
        figure = new_figure(width, 2 * _MARGIN + len(queries) * (side + gap + line) - gap)
        for number, (query, row) in enumerate(zip(queries, neighbors, strict=True)):
            top = _MARGIN + number * (side + gap + line) + line
            first = axes_at(figure, _MARGIN, top, side, side)
            _show(first, query)
            if titles:
                words = fitted(short_name(titles[number]), width - 2 * _MARGIN, SMALL)
                first.set_title(words, loc='left', size=SMALL, pad=3, parse_math=False)
            for place, image in enumerate(row):
                _show(axes_at(figure, _MARGIN + side + apart + place * (side + gap), top, side, side), image)
    return figure
