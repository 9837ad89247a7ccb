"""Runs beside each other: effects of changes to the network as bars, and the specialization of their columns."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet_jax.evaluation.color import OF_RANDOM_KERNELS
from alexnet_jax.figures.style import BLUE, GRAY, ORANGE, SMALL, VERMILLION, fitted, look, new_figure
from alexnet_jax.runs.variants import Variant

_WIDTH, _NAMES = 9.6, 2.4  # inches; of the figure, and of the widest name
_BAR = 0.38  # height, as a fraction of a variant's
_PANELS = 3  # beside each other, of shares of color
_PANEL_WIDTH, _PANEL_HEIGHT = 3.2, 2.4  # inches

Curves = Mapping[int, Sequence[tuple[float, float]]]  # of one run: for each column pairs of epoch and share of color


def difference_bars(variants: Sequence[Variant], title: str, classes: int = 1000) -> Figure:
    """Differences of top-1 and top-5 error from the base, in percentage points, a row for each variant.

    A black line shows plus and minus one standard error: over seeds, or over the images where there is one seed.

    Args:
      variants: the base first.
      title: of the figure.
      classes: of the data set; of five or fewer there is no top-5 error.
    """
    tops = (1, 5) if classes > 5 else (1,)
    with look():
        figure = new_figure(_WIDTH, 1.5 + 0.5 * len(variants), title, layout='constrained')
        panels = figure.subplots(1, len(tops), sharey=True, squeeze=False)[0]
        for top, axes in zip(tops, panels, strict=True):
            _panel(axes, variants, top)
        panels[0].set_yticks(
            range(len(variants)), [fitted(one.name, _NAMES, SMALL) for one in variants], parse_math=False
        )
        panels[0].set_ylim(len(variants) - 0.4, -0.6)  # the base on top
        labels = ['here; black: one standard error']
        labels += [f'published: {"; ".join(sorted({one.published.images for one in variants if one.published}))}']
        figure.legend(
            panels[0].containers,
            labels[: len(panels[0].containers)],
            loc='outside lower center',
            ncols=2,
            frameon=False,
        )
    return figure


def _panel(axes: Axes, variants: Sequence[Variant], top: int) -> None:
    """Draws top-1 or top-5."""
    axes.axvline(0, color=GRAY, linewidth=0.8)
    axes.set_xlabel(f'difference in top-{top} error (percentage points)')
    axes.grid(axis='x', color='0.9', linewidth=0.8)
    axes.set_axisbelow(True)
    ours = [getattr(one, f'top{top}_difference') for one in variants]
    axes.barh([place - _BAR / 2 for place in range(len(variants))], ours, _BAR, color=BLUE, label='here')
    for place, (one, points) in enumerate(zip(variants, ours, strict=True)):
        error: float = getattr(one, f'top{top}_standard_error')
        if place:
            axes.plot(
                [points - error, points + error], [place - _BAR / 2] * 2, color='black', linewidth=1.2, marker='|'
            )
            _label_bar(axes, max(points + error, 0), place - _BAR / 2, f'{points:+.2f}')
    published = {place: one.published for place, one in enumerate(variants) if one.published}
    known = {place: getattr(one, f'top{top}') for place, one in published.items()}
    known = {place: points for place, points in known.items() if points is not None}
    if known:
        heights = [place + _BAR / 2 for place in known]
        axes.barh(heights, list(known.values()), _BAR, color=ORANGE, hatch='///', edgecolor='white', label='published')
    for place, points in known.items():
        bound = published[place].bound
        _label_bar(axes, max(points, 0), place + _BAR / 2, f'{bound} {points:+g}' if bound else f'{points:+.2f}')
    axes.margins(x=0.18)


def _label_bar(axes: Axes, end: float, height: float, words: str) -> None:
    axes.annotate(
        words, (end, height), xytext=(4, 0), textcoords='offset points', va='center', size=SMALL - 1, color=GRAY
    )


def color_panels(variants: Mapping[str, Sequence[Curves]]) -> Figure:
    """Share of color in the columns' first layers over training (section 6.1, Figure 3), a panel for each variant.

    In each run the column that ends with the larger share is drawn in red, the others dashed and in blue: which of them
    turns to color differs "modulo a renumbering of the GPUs". A single column is gray.

    Args:
      variants: by name, the curves of each of its runs.
    """
    rows = math.ceil(len(variants) / _PANELS)
    across = min(len(variants), _PANELS)
    with look():
        figure = new_figure(
            max(2, across) * _PANEL_WIDTH,
            0.7 + rows * _PANEL_HEIGHT,
            "Share of color in each column's first layer",
            layout='constrained',
        )
        panels = list(figure.subplots(rows, across, sharex=True, sharey=True, squeeze=False).flat)
        for axes, (name, runs) in zip(panels, variants.items(), strict=False):
            axes.set_title(fitted(name, _PANEL_WIDTH - 0.6, SMALL), parse_math=False, size=SMALL)
            axes.axhline(OF_RANDOM_KERNELS, color=GRAY, linestyle=':', linewidth=1.2, label='random kernels')
            for run in runs:
                _draw_run(axes, run)
            axes.set(ylim=(0, 1), xlim=(0, None))
        for axes in panels[len(variants) :]:
            axes.set_axis_off()
        for place, axes in enumerate(panels[: len(variants)]):
            if place + across >= len(variants):
                axes.set_xlabel('epoch')
                axes.tick_params(labelbottom=True)
        handles = {line.get_label(): line for axes in panels for line in axes.lines if line.get_label()[0] != '_'}
        figure.legend(handles.values(), handles, loc='outside lower center', ncols=4, frameon=False)
    return figure


def _draw_run(axes: Axes, run: Curves) -> None:
    most = max(run, key=lambda column: run[column][-1][1])
    for column, points in run.items():
        style = (VERMILLION, '-', "more color of a run's columns") if column == most else (BLUE, '--', 'less color')
        color, dashes, label = style if len(run) > 1 else (GRAY, '-', 'one column')
        axes.plot(*zip(*points, strict=True), color=color, linestyle=dashes, linewidth=1.2, label=label)
