"""The first layer's kernels as small images (Figure 3)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from alexnet_jax.figures.style import SIZE, SMALL, axes_at, bare, look, new_figure

_ENLARGED, _GAP = 4, 2  # dots along a weight, and between two kernels
_DOT = 0.01  # inches; a whole number of pixels in the PNG, so that weights have sharp edges
_LABEL, _MARGIN, _BETWEEN = 1.05, 0.1, 0.14  # inches


def figure_3(kernels: np.ndarray, shares: Sequence[float], title: str) -> Figure:
    """The kernels in their order, column 1 above column 2, with each column's share of color.

    Every kernel has its own scale, the same for red, green and blue: gray is 0, and its largest weight is at the end
    of the range, so that weak kernels are visible too. The share of color weighs kernels by strength.

    Args:
      kernels: [columns, height, width, 3, kernels of a column].
      shares: of color, of each column.
      title: of the figure; '' for none.
    """
    sheets = [sheet(column) for column in kernels]
    height, width = (_DOT * length for length in sheets[0].shape[:2])
    top = 0.4 if title else _MARGIN
    with look():
        whole = top + len(sheets) * height + (len(sheets) - 1) * _BETWEEN + _MARGIN
        figure = new_figure(_LABEL + width + _MARGIN, whole, title)
        for number, (picture, share) in enumerate(zip(sheets, shares, strict=True)):
            axes = bare(axes_at(figure, _LABEL, top + number * (height + _BETWEEN), width, height))
            axes.imshow(picture, interpolation='none', aspect='auto')
            words = f'color {share:.2f}' if np.isfinite(share) else 'all zero'
            for text, side, size in ((f'column {number + 1}', 'bottom', SIZE), (words, 'top', SMALL)):
                axes.annotate(
                    text,
                    (0, 0.5),
                    xycoords='axes fraction',
                    xytext=(-8, 1 if side == 'bottom' else -2),
                    textcoords='offset points',
                    ha='right',
                    va=side,
                    size=size,
                )
    return figure


def sheet(kernels: np.ndarray) -> np.ndarray:
    """A column's kernels in rows.

    Args:
      kernels: [height, width, 3, kernels].

    Returns:
      float [dots, dots, 3], 0..1: 4 x 4 dots per weight, 2 white ones between kernels.
    """
    height, width, _, count = kernels.shape
    across = in_a_row(count)
    down = -(-count // across)
    strongest = np.abs(kernels).max(axis=(0, 1, 2))
    shades = 0.5 + kernels / (2 * np.where(strongest > 0, strongest, 1))
    shades = shades.repeat(_ENLARGED, axis=0).repeat(_ENLARGED, axis=1)
    step_down, step_across = (_ENLARGED * length + _GAP for length in (height, width))
    dots = np.ones((down * step_down - _GAP, across * step_across - _GAP, 3))
    for number in range(count):
        top, left = number // across * step_down, number % across * step_across
        dots[top : top + step_down - _GAP, left : left + step_across - _GAP] = shades[..., number]
    return dots


def in_a_row(count: int) -> int:
    """Kernels in a row: at most 16, and a divisor of `count` if there is a suitable one."""
    fewest = -(-count // 16)  # rows
    even = [across for across in range(min(8, count), 17) if count % across == 0]
    return max(even, default=-(-count // fewest))
