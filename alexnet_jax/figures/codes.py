"""Recall of short binary codes against their length (section 6.1)."""

import itertools
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from alexnet_jax.figures.style import LINES, legend, look, new_figure


def recall_curve(
    bits: Sequence[int], recalls: Mapping[str, Sequence[float]], speed_ups: Sequence[float] | None, title: str
) -> Figure:
    """Recall of the true nearest neighbors by code length.

    Args:
      bits: lengths of the codes.
      recalls: by method, for each length the recall of the six nearest by Euclidean distance, 0..1.
      speed_ups: for each length the search's speed relative to whole vectors, for an axis above; None for no axis.
      title: of the figure.
    """
    with look():
        figure = new_figure(6.4, 3.9, title, layout='constrained')
        axes = figure.subplots()
        drawn = [
            axes.plot(bits, values, color=color, linestyle=dashes, marker=marker)[0]
            for values, (color, dashes, marker) in zip(recalls.values(), itertools.cycle(LINES), strict=False)
        ]
        axes.set(xlabel='length of the code (bits)', ylabel='recall of the six nearest', ylim=(0, 1.02))
        axes.grid(axis='y', color='0.9', linewidth=0.8)
        axes.set_xscale('log', base=2)
        axes.set_xticks(bits, [str(count) for count in bits])
        axes.set_xticks([], minor=True)
        legend(axes, drawn, list(recalls), loc='best')
        if speed_ups is not None:
            above = axes.secondary_xaxis('top')
            above.set_xscale('log', base=2)
            above.set_xticks(bits, [f'{times:.3g}' for times in speed_ups])
            above.set_xticks([], minor=True)
            above.set_xlabel('times as fast as the search with whole vectors')
            above.tick_params(length=0)
            above.spines['top'].set_visible(False)
    return figure
