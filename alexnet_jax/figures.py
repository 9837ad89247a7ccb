"""Pictures of a run: its learning curves, and the first layer's kernels as in the paper's Figure 3."""

import itertools
import logging
import pathlib
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict
from rich.console import Console

from alexnet_jax.checkpoint import Checkpoints
from alexnet_jax.errors import UserError
from alexnet_jax.experiment import build, state_shapes
from alexnet_jax.logs import read_metrics

# Blue and orange: told apart by the colour-blind as well, and in grey.
_COLOURS = {'train': '#0072B2', 'validation': '#D55E00'}


def draw_figures(config: ConfigDict, workdir: str, which: str, console: Console) -> list[pathlib.Path]:
    """Draws WORKDIR/figures/learning_curves.png and kernels.png.

    Args:
      config: the experiment that the run was made with.
      workdir: of the run.
      which: the checkpoint whose kernels to draw: 'newest', 'best', or a step.
      console: where to say what was written.

    Raises:
      UserError: the run has no metrics or no such checkpoint.
    """
    logging.getLogger('matplotlib').setLevel(logging.WARNING)  # it tells of its font cache
    metrics = read_metrics(workdir)
    experiment = build(config)
    checkpoints = Checkpoints(workdir, read_only=True)
    step = checkpoints.find(which)
    state, _ = checkpoints.restore(step, state_shapes(experiment), experiment.mesh)
    name = experiment.table[0][0]
    kernels = np.asarray(state.parameters[name]['kernel'])
    directory = pathlib.Path(workdir) / 'figures'
    written = []
    for file, figure in {
        'learning_curves.png': learning_curves(metrics, config.name),
        'kernels.png': kernels_figure(kernels, f'{config.name}: {name} after step {step}'),
    }.items():
        path = directory / file
        try:
            directory.mkdir(exist_ok=True)
            figure.savefig(path, dpi=150, bbox_inches='tight')
        except OSError as error:
            raise UserError(f'{path} cannot be written: {error}.') from error
        console.print(f'wrote {path}', highlight=False, markup=False, soft_wrap=True)
        written.append(path)
    return written


def learning_curves(metrics: list[dict[str, Any]], title: str) -> Figure:
    """Loss and top-1 error against epochs, training and validation.

    Args:
      metrics: the lines of metrics.jsonl.
      title: of the figure.
    """
    figure = Figure(figsize=(9, 3.2), layout='constrained')
    axes = figure.subplots(1, 2)
    panels = [('loss', 'loss (nats)', 1), ('top1_error', 'top-1 error (%)', 100)]
    for axis, (field, label, scale) in zip(axes, panels, strict=True):
        for split, colour in _COLOURS.items():
            lines = [line for line in metrics if line['split'] == split]
            values = [scale * line[field] for line in lines]
            style = '-' if split == 'train' else 'o-'
            axis.plot([line['epoch'] for line in lines], values, style, color=colour, label=split, markersize=3)
        axis.set(xlabel='epoch', ylabel=label, ylim=(0, None))
        axis.spines[['top', 'right']].set_visible(False)
    rates = [line for line in metrics if 'learning_rate' in line]
    for before, after in itertools.pairwise(rates):
        if after['learning_rate'] != before['learning_rate']:
            for axis in axes:
                axis.axvline(before['epoch'], color='0.7', linestyle=':', linewidth=1)
            axes[0].annotate(
                f' rate {after["learning_rate"]:g}', (before['epoch'], axes[0].get_ylim()[1]), va='top', size=7
            )
    axes[0].legend(frameon=False, loc='center right')
    figure.suptitle(title)
    return figure


def kernels_figure(kernels: np.ndarray, title: str) -> Figure:
    """The first layer's kernels as small images, column 1 above column 2 (the paper's Figure 3).

    All share one scale: grey is 0, and the largest weight of all spans the range of values.

    Args:
      kernels: [columns, size, size, 3, kernels of a column].
      title: of the figure.
    """
    columns, size, _, _, count = kernels.shape
    across = min(16, count)
    down = -(-count // across)
    shades = np.clip(0.5 + kernels / (2 * np.abs(kernels).max()), 0, 1)
    figure = Figure(figsize=(0.5 * across + 0.8, 0.55 * down * columns + 0.5), layout='constrained')
    axes = figure.subplots(columns, 1)
    for column, axis in enumerate(np.atleast_1d(axes)):
        sheet = np.ones((down * (size + 1) - 1, across * (size + 1) - 1, 3))
        for number in range(count):
            top, left = number // across * (size + 1), number % across * (size + 1)
            sheet[top : top + size, left : left + size] = shades[column, ..., number]
        axis.imshow(sheet, interpolation='nearest')
        axis.set(xticks=[], yticks=[])
        axis.set_ylabel(f'column {column + 1}', rotation=0, ha='right', va='center')
        axis.spines[:].set_visible(False)
    figure.suptitle(title)
    return figure
