"""Common style of all figures: colors and sizes; writing to disk."""

import contextlib
import io
import logging
import pathlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.textpath import TextToPath
from rich.console import Console

from alexnet_jax.runtime.errors import say, writing
from alexnet_jax.runtime.files import write_bytes

# Okabe and Ito's palette, safe for color-blind readers.
BLACK, ORANGE, SKY_BLUE, GREEN = '#000000', '#E69F00', '#56B4E9', '#009E73'
BLUE, VERMILLION, PURPLE, GRAY = '#0072B2', '#D55E00', '#CC79A7', '#6B6B6B'

# Color, dashes, marker.
LINES: tuple[tuple[str, str, str], ...] = (
    (BLUE, '-', 'o'),
    (VERMILLION, '--', 's'),
    (GREEN, '-.', '^'),
    (PURPLE, '--', 'D'),
    (BLACK, '-', 'v'),
    (ORANGE, '--', 'P'),
    (SKY_BLUE, '-.', 'X'),
)

SIZE, SMALL = 10.0, 9.0  # of letters, in points
_TITLE = 11.0
_DOTS_PER_INCH = 200
_LOOK: Any = {
    'font.size': SIZE,
    'axes.titlesize': SIZE,
    'axes.labelsize': SIZE,
    'xtick.labelsize': SMALL,
    'ytick.labelsize': SMALL,
    'legend.fontsize': SMALL,
    'figure.titlesize': _TITLE,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.linewidth': 0.8,
    'lines.linewidth': 1.5,
    'lines.markersize': 4,
}
# The first comes with Matplotlib; the others, if installed, supply letters that it lacks.
_FONTS = ('DejaVu Sans', 'Noto Sans', 'Noto Sans CJK JP', 'Noto Sans Devanagari', 'WenQuanYi Zen Hei')


@contextlib.contextmanager
def look() -> Iterator[None]:
    """Within, Matplotlib uses the common style, without messages about fonts."""
    logging.getLogger('matplotlib').setLevel(logging.WARNING)  # not of its font cache
    known = set(font_manager.get_font_names())
    fonts = [name for name in _FONTS if name in known]
    with matplotlib.rc_context(_LOOK | {'font.family': fonts}), warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Glyph .* missing')  # drawn as a box
        yield


def new_figure(width: float, height: float, title: str = '', **options: Any) -> Figure:
    """A figure without display or global state.

    Args:
      width, height: in inches.
      title: of the whole, cut to the figure's width; '' for none.
      **options: for `matplotlib.figure.Figure`.
    """
    figure = Figure(figsize=(width, height), **options)
    if title:
        figure.suptitle(fitted(title, width - 0.2, _TITLE), parse_math=False)
    return figure


def axes_at(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a position in inches from the figure's upper left corner."""
    whole_width, whole_height = figure.get_size_inches()
    bottom = whole_height - top - height
    return figure.add_axes((left / whole_width, bottom / whole_height, width / whole_width, height / whole_height))


def bare(axes: Axes) -> Axes:
    """Removes ticks and frame."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return axes


def legend(axes: Axes, handles: Sequence[Any], labels: Sequence[str], **options: Any) -> Legend:
    """A legend whose labels are plain text."""
    made = axes.legend(handles, [' '] * len(handles), frameon=False, **options)
    for text, label in zip(made.get_texts(), labels, strict=True):
        text.set(text=printable(label), parse_math=False)
    return made


def printable(text: str) -> str:
    """One drawable line: white space joined, unprintable characters replaced."""
    return ''.join(sign if sign.isprintable() else '\N{REPLACEMENT CHARACTER}' for sign in ' '.join(text.split()))


def fitted(text: str, width: float, size: float, weight: str = 'normal') -> str:
    """The text, cut with an ellipsis to `width` inches at `size` points."""
    text = printable(text)
    if text_width(text, size, weight) <= width:
        return text
    fitting, long = 0, len(text)  # numbers of characters that fit and do not
    while long - fitting > 1:
        middle = (fitting + long) // 2
        if text_width(f'{text[:middle].rstrip()}…', size, weight) <= width:
            fitting = middle
        else:
            long = middle
    return f'{text[:fitting].rstrip()}…'


def text_width(text: str, size: float, weight: str = 'normal') -> float:
    """Width of a line of text, in inches."""
    with look():
        font = FontProperties(size=size, weight=weight)
        return TextToPath().get_text_width_height_descent(text, font, ismath=False)[0] / 72


def save(figure: Figure, path_without_ending: pathlib.Path, line_art: bool = False) -> list[pathlib.Path]:
    """Writes a figure as PNG, and line art also as SVG with letters as paths; the same bytes each time.

    Args:
      figure: one of this package's.
      path_without_ending: path without '.png'; directories are created.
      line_art: whether it consists of lines rather than pixels.

    Returns:
      The paths written, the PNG first.

    Raises:
      UserError: a file cannot be written.
    """
    kinds: dict[str, dict[str, Any]] = {'png': {'dpi': _DOTS_PER_INCH}}
    if line_art:
        kinds['svg'] = {'metadata': {'Date': None}}
    written = []
    for kind, options in kinds.items():
        drawn = io.BytesIO()
        with look(), matplotlib.rc_context({'svg.hashsalt': 'alexnet-jax', 'svg.fonttype': 'path'}):
            figure.savefig(drawn, format=kind, **options)
        path = path_without_ending.with_name(f'{path_without_ending.name}.{kind}')
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, drawn.getvalue())
        written.append(path)
    return written


def write_figure(
    figure: Figure, path_without_ending: pathlib.Path, console: Console, line_art: bool = False
) -> list[pathlib.Path]:
    """Saves a figure as `save` does, and says where."""
    written = save(figure, path_without_ending, line_art)
    for path in written:
        say(console, f'wrote {path}')
    return written
