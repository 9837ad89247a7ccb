"""Figure 1: training error over epochs, with ReLUs and with tanh."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from alexnet_jax.figures.style import BLACK, LINES, SMALL, legend, look, new_figure

Curve = Sequence[tuple[float, float]]  # pairs of epoch and training error (0..1)


def figure_1(curves: Mapping[str, Curve], target: float, title: str) -> Figure:
    """Training error by epoch for each network, and a dashed line at the target.

    Args:
      curves: by name in the legend; the first is solid, the second dashed, as in the paper.
      target: an error, 0..1; 0.25 in the paper.
      title: of the figure.
    """
    with look():
        figure = new_figure(5.4, 4.2, title, layout='constrained')
        axes = figure.subplots()
        handles = []
        for curve, (color, dashes, _) in zip(curves.values(), LINES, strict=False):
            epochs, errors = [epoch for epoch, _ in curve], [100 * error for _, error in curve]
            handles += axes.plot(epochs, errors, color=color, linestyle=dashes)
        axes.axhline(100 * target, color=BLACK, linestyle=(0, (6, 4)), linewidth=0.8, zorder=1)
        last = max((epoch for curve in curves.values() for epoch, _ in curve), default=1.0)
        axes.annotate(
            f'{100 * target:g} %',
            (last, 100 * target),
            xytext=(0, 3),
            textcoords='offset points',
            ha='right',
            size=SMALL,
        )
        highest = max((error for curve in curves.values() for _, error in curve), default=1.0)
        axes.set(
            xlabel='epoch',
            ylabel='training error (%)',
            xlim=(0, last),
            ylim=(0, min(100, 10 * math.ceil(10 * highest))),
        )
        legend(axes, handles, list(curves), loc='upper right')
    return figure
