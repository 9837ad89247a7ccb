"""The figures of a run, and its report: `--mode=figures`."""

import contextlib
import pathlib

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from alexnet_jax.config import Config
from alexnet_jax.data.dataset import PreparedDataSet, open_prepared
from alexnet_jax.data.pipeline import open_shards, read
from alexnet_jax.evaluation.color import chance_of_gap, color_columns, color_shares
from alexnet_jax.figures import report
from alexnet_jax.figures.curves import color_curves, learning_curves
from alexnet_jax.figures.examples import Example, example_of, figure_4_left
from alexnet_jax.figures.figure2 import write_network
from alexnet_jax.figures.kernels import figure_3
from alexnet_jax.figures.style import write_figure
from alexnet_jax.model.alexnet import classes_of
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runs.metrics_log import METRICS_LOG, read_metrics
from alexnet_jax.runs.parameters_file import has_parameters_file
from alexnet_jax.runs.trained import Run, first_kernels, open_run
from alexnet_jax.runtime.errors import UserError, say

_EXAMPLES, _SEED = 8, 0  # of Figure 4, left


def draw_figures(
    config: Config, workdir: str, which: str, console: Console, output: str | None = None
) -> list[pathlib.Path]:
    """Draws a run's figures into WORKDIR/figures, and writes WORKDIR/report.html.

    learning_curves.png and .svg; color.png and .svg, if the metrics have shares of color; kernels.png (Figure 3), if
    the network sees three channels; predictions.png (Figure 4, left), if the data set is here; network.png and .svg
    (Figure 2), also for phones. Without a checkpoint there are only curves and the network; a network without its
    training's log has no curves.

    Args:
      config: of the run.
      workdir: of the run.
      which: checkpoint: 'newest', 'best', or a step.
      console: for output: what was written and what was left out.
      output: directory that takes the place of WORKDIR above; None for the workdir.

    Returns:
      The paths written.

    Raises:
      UserError: the run has no metrics or no such checkpoint, or a file cannot be written.
    """

    def tell(line: str) -> None:
        say(console, line)

    place = pathlib.Path(output or workdir)
    alone = has_parameters_file(workdir)  # without the log of its training, perhaps
    metrics = read_metrics(workdir) if not alone or (pathlib.Path(workdir) / METRICS_LOG).exists() else []
    run = open_run(config, workdir, which, tell) if which != 'newest' or _has_checkpoint(workdir) else None
    written: list[pathlib.Path] = []

    def write(name: str, figure: Figure, line_art: bool = False) -> None:
        written.extend(write_figure(figure, place / 'figures' / name, console, line_art))

    if metrics:
        write('learning_curves', learning_curves(metrics, config.name, classes_of(config.network)), line_art=True)
    if color_columns(metrics):
        write('color', color_curves(metrics, f'{config.name}: color in the first layer'), line_art=True)
    if run is None:
        tell(f'no kernels and no predictions: {workdir} has no checkpoint yet')
    else:
        title = f'{config.name}, after step {run.progress.step}'
        kernels = first_kernels(run.experiment, run.parameters)
        if kernels.ndim == 5 and kernels.shape[3] == 3:
            shares = color_shares(kernels)
            write('kernels', figure_3(kernels, shares, title))
            if len(shares) == 2 and np.isfinite(shares).all():
                tell(
                    f'share of color: column 1 {shares[0]:.2f}, column 2 {shares[1]:.2f}; of random halves of these '
                    f'kernels {chance_of_gap(kernels):.1%} differ as much'
                )
        else:
            tell(f'no kernels: those of the shape {list(kernels.shape)} do not see red, green and blue')
        images = _images(run)
        if isinstance(images, str):
            tell(f'no predictions: {images}')
        else:
            write('predictions', figure_4_left(_examples(run, images), f'{title}: random validation images'))
    written.extend(write_network(config, place / 'figures', console))
    written.append(report.write_report(config, workdir, console, output))
    return written


def _has_checkpoint(workdir: str) -> bool:
    if has_parameters_file(workdir):
        return True
    with contextlib.closing(Checkpoints(workdir, read_only=True)) as checkpoints:
        return bool(checkpoints.steps())


def _images(run: Run) -> PreparedDataSet | str:
    """The run's data set with its images, or why it cannot be used."""
    directory = run.config.data.directory
    try:
        data = open_prepared(directory)
    except FileNotFoundError:
        return f'there is no prepared data set in {directory!r} (config.data.directory)'
    except UserError as error:
        return str(error)
    if (data.class_ids, data.image_size) != (run.data.class_ids, run.data.image_size):
        return f'{directory!r} (config.data.directory) is another data set than the run was trained on'
    return data


def _examples(run: Run, data: PreparedDataSet) -> list[Example]:
    """Random validation images, the same each time, with their predictions by the views of --mode=predict."""
    shards = open_shards(data, 'validation')
    chosen = np.random.default_rng(_SEED).permutation(len(shards))[:_EXAMPLES].tolist()
    found = [read(shards, index, len(data.class_names)) for index in chosen]
    with np.errstate(divide='ignore'):
        scores = np.log(run.predict(np.stack([pixels for pixels, _ in found])))
    return [
        example_of(pixels, own, data.class_names, label) for (pixels, label), own in zip(found, scores, strict=True)
    ]
