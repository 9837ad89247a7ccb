"""Curves of metrics.jsonl: loss, errors, learning rate, and the specialization of the columns."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet_jax.evaluation.color import OF_RANDOM_KERNELS, color_columns
from alexnet_jax.figures.style import BLUE, GRAY, LINES, SMALL, VERMILLION, legend, look, new_figure

_COLORS = {'train': BLUE, 'validation': VERMILLION}
_POINTS = 400  # of a curve, at most
_CHANGES = 8  # of the learning rate that have a line each, at most
_NAMED = 12  # columns whose curves are named, at most


def learning_curves(metrics: Sequence[dict[str, Any]], title: str, classes: int = 1000) -> Figure:
    """Loss, and top-1 and top-5 error, by epoch, in training and validation, with changes of the learning rate.

    Curves of more than 400 points show means of neighboring ones.

    Args:
      metrics: the lines of metrics.jsonl.
      title: of the figure.
      classes: of the data set; of five or fewer there is no top-5 error.
    """
    with look():
        figure = new_figure(9.6, 4.1, title, layout='constrained')
        panels = figure.subplots(1, 2)
        _loss(panels[0], metrics)
        _errors(panels[1], metrics, top5=classes > 5)
        for axes in panels:
            axes.set(xlabel='epoch', xlim=(0, max(line['epoch'] for line in metrics)), ylim=(0, None))
            axes.grid(axis='y', color='0.9', linewidth=0.8)
            _mark_rates(axes, metrics)
    return figure


def _loss(axes: Axes, metrics: Sequence[dict[str, Any]]) -> None:
    axes.set(ylabel='loss (nats)')
    for split in _COLORS:
        _draw(axes, metrics, split, ('loss', 1), split, '-')
    _legend_below(axes)


def _errors(axes: Axes, metrics: Sequence[dict[str, Any]], top5: bool) -> None:
    axes.set(ylabel='error (%)')
    for name, field, dashes in (('top-1', 'top1_error', '-'), ('top-5', 'top5_error', '--'))[: 1 + top5]:
        for split in _COLORS:
            _draw(axes, metrics, split, (field, 100), f'{name}, {split}', dashes)
    _legend_below(axes)


def _legend_below(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    legend(axes, handles, labels, loc='upper center', bbox_to_anchor=(0.5, -0.15), ncols=2)


def _draw(
    axes: Axes, metrics: Sequence[dict[str, Any]], split: str, what: tuple[str, float], label: str, dashes: str
) -> None:
    """Draws a field of the metrics times a factor, if they have it."""
    field, factor = what
    epochs, values = _points([line for line in metrics if line['split'] == split and field in line], field)
    if not len(epochs):
        return
    options: dict[str, Any] = {'linewidth': 1.2} if split == 'train' and len(epochs) > 1 else _marked(len(epochs))
    options |= {'color': _COLORS[split], 'linestyle': dashes, 'label': label}
    axes.plot(epochs, factor * values, **options)


def _marked(points: int, marker: str = 'o') -> dict[str, Any]:
    """Options for about twenty markers along a line, not clipped at the axes."""
    return {'clip_on': False, 'marker': marker, 'markevery': max(1, points // 20), 'zorder': 3}


def _points(lines: Sequence[dict[str, Any]], field: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and values, averaged over equally many neighbors if there are too many."""
    pairs = np.array([[line['epoch'], line[field]] for line in lines], np.float64).reshape(-1, 2)
    together = -(-len(pairs) // _POINTS)
    if together > 1:
        pairs = np.array([pairs[first : first + together].mean(axis=0) for first in range(0, len(pairs), together)])
    return pairs[:, 0], pairs[:, 1]


def _mark_rates(axes: Axes, metrics: Sequence[dict[str, Any]]) -> None:
    """Draws a dotted line at each change of the learning rate, with the new rate; of many changes the rate's course."""
    lines = [line for line in metrics if 'learning_rate' in line]
    changes = [(one, two) for one, two in itertools.pairwise(lines) if one['learning_rate'] != two['learning_rate']]
    if len(changes) > _CHANGES:
        _draw_rates(axes, lines)
        return
    for before, after in changes:
        axes.axvline(before['epoch'], color=GRAY, linestyle=':', linewidth=1, zorder=1)
        axes.annotate(
            f'rate {after["learning_rate"]:g}',
            (before['epoch'], 1),
            xycoords=('data', 'axes fraction'),
            xytext=(-2, 0),
            textcoords='offset points',
            rotation=90,
            ha='right',
            va='top',
            size=SMALL - 1,
            color=GRAY,
        )


def _draw_rates(axes: Axes, lines: Sequence[dict[str, Any]]) -> None:
    """Draws the learning rate as a dotted curve of its own, which reaches the top where it is largest."""
    epochs, rates = (np.array([line[name] for line in lines]) for name in ('epoch', 'learning_rate'))
    axes.plot(epochs, rates / rates.max(), color=GRAY, linestyle=':', linewidth=1, transform=axes.get_xaxis_transform())
    axes.annotate(
        f'dotted: learning rate, at most {rates.max():g}',
        (1, 1),
        xycoords='axes fraction',
        xytext=(-2, -2),
        textcoords='offset points',
        ha='right',
        va='top',
        size=SMALL - 1,
        color=GRAY,
    )


def color_curves(metrics: Sequence[dict[str, Any]], title: str) -> Figure:
    """Share of color in each column's first-layer kernels over training: the specialization of section 6.1.

    Args:
      metrics: the lines of metrics.jsonl.
      title: of the figure.

    Raises:
      ValueError: no line has a share of color.
    """
    columns = color_columns(metrics)
    if not columns:
        raise ValueError('no line of the metrics has a share of color')
    with look():
        figure = new_figure(6.4, 3.5, title, layout='constrained')
        axes = figure.subplots()
        last = max(line['epoch'] for line in metrics)
        axes.set(xlabel='epoch', ylabel='share of color', xlim=(0, last), ylim=(0, 1))
        axes.axhline(OF_RANDOM_KERNELS, color=GRAY, linestyle=':', linewidth=1.2)
        ends = [(OF_RANDOM_KERNELS, 'random kernels', GRAY)]
        for (number, points), (color, dashes, marker) in zip(columns.items(), itertools.cycle(LINES), strict=False):
            epochs, shares = np.array(points).T
            axes.plot(epochs, shares, color=color, linestyle=dashes, **_marked(len(epochs), marker))
            ends.append((shares[-1], f'column {number}', color))
        _label_ends(axes, ends)
    return figure


def _label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Writes names to the right of lines ending at heights 0..1, moved apart if they would touch."""
    apart = 0.075
    heights: list[float] = []
    ends = sorted((end for end in ends if np.isfinite(end[0])), key=lambda end: end[0])
    if len(ends) > _NAMED + 1:
        ends = [end for end in ends if end[1] == 'random kernels' or end in (ends[0], ends[-1])]
    for height, *_ in ends:
        heights.append(max(height, heights[-1] + apart) if heights else height)
    excess = max(0.0, heights[-1] - 1)
    for (_, name, color), height in zip(ends, heights, strict=True):
        axes.annotate(
            name,
            (1, height - excess),
            xycoords='axes fraction',
            xytext=(6, 0),
            textcoords='offset points',
            va='center',
            color=color,
            size=SMALL,
            annotation_clip=False,
        )
