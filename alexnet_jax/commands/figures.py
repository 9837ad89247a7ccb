"""The pictures of a run, and its report: `--mode=figures`."""

import contextlib
import pathlib

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from alexnet_jax.config import Config
from alexnet_jax.data.dataset import PreparedDataSet, open_prepared
from alexnet_jax.data.pipeline import open_shards, read
from alexnet_jax.evaluation.color import color_shares
from alexnet_jax.figures import report
from alexnet_jax.figures.curves import color_columns, color_curves, learning_curves
from alexnet_jax.figures.examples import Example, example_of, figure_4_left
from alexnet_jax.figures.kernels import figure_3
from alexnet_jax.figures.style import save
from alexnet_jax.model.columns import DATA
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runs.metrics_log import read_metrics
from alexnet_jax.runs.trained import Run, first_kernels, open_run, predictor
from alexnet_jax.runtime.errors import UserError, say

_EXAMPLES, _SEED = 8, 0  # of Figure 4, left


def draw_figures(config: Config, workdir: str, which: str, console: Console) -> list[pathlib.Path]:
    """Draws what there is to see of a run into WORKDIR/figures, and writes WORKDIR/report.html.

    learning_curves.png and .svg; color.png and .svg, where the metrics tell of color; kernels.png (Figure 3), where
    the network sees three channels; predictions.png (Figure 4, left), where the data set's images are here. A run
    that has no checkpoint yet gets its curves alone.

    Args:
      config: the experiment that the run was made with.
      workdir: of the run.
      which: the checkpoint to look at: 'newest', 'best', or a step.
      console: where to say what was written and what was left out.

    Returns:
      The paths written.

    Raises:
      UserError: the run has no metrics or no such checkpoint, or a file cannot be written.
    """

    def tell(line: str) -> None:
        say(console, line)

    metrics = read_metrics(workdir)
    run = open_run(config, workdir, which, tell) if which != 'newest' or _has_checkpoint(workdir) else None
    directory = pathlib.Path(workdir) / 'figures'
    written = []

    def write(name: str, figure: Figure, line_art: bool = False) -> None:
        for path in save(figure, directory / name, line_art):
            tell(f'wrote {path}')
            written.append(path)

    write('learning_curves', learning_curves(metrics, config.name), line_art=True)
    if color_columns(metrics):
        write('color', color_curves(metrics, f'{config.name}: color in the first layer'), line_art=True)
    if run is None:
        tell(f'no kernels and no predictions: {workdir} holds no checkpoint yet')
    else:
        after = f'after step {run.progress.step}'
        kernels = first_kernels(run.experiment, run.parameters)
        if kernels.ndim == 5 and kernels.shape[3] == 3:
            write('kernels', figure_3(kernels, color_shares(kernels), f'{config.name}, {after}'))
        else:
            tell(f'no kernels: those of the shape {list(kernels.shape)} are no pictures in red, green and blue')
        images = _images(run)
        if isinstance(images, str):
            tell(f'no predictions: {images}')
        else:
            title = f'{config.name}, {after}: validation images drawn at random'
            write('predictions', figure_4_left(_examples(run, images), title))
    written.append(report.write_report(config, workdir, console))
    return written


def _has_checkpoint(workdir: str) -> bool:
    with contextlib.closing(Checkpoints(workdir, read_only=True)) as checkpoints:
        return bool(checkpoints.steps())


def _images(run: Run) -> PreparedDataSet | str:
    """The data set with its images, or why there is none to be had here."""
    directory = run.experiment.config.data.directory
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
    """Validation images, drawn with a fixed seed, with what the network says of their central patches."""
    shards = open_shards(data, 'validation')
    chosen = np.random.default_rng(_SEED).permutation(len(shards))[:_EXAMPLES].tolist()
    found = [read(shards, index, len(data.class_names)) for index in chosen]
    copies = run.experiment.mesh.shape[DATA]
    images = np.zeros((-(-len(found) // copies) * copies, data.image_size, data.image_size, 3), np.uint8)
    for image, (pixels, _) in zip(images, found, strict=False):
        image[:] = pixels
    scores = np.asarray(predictor(run, 'center')({'image': images})['log_probabilities'])
    return [
        example_of(pixels, of_image, data.class_names, label)
        for (pixels, label), of_image in zip(found, scores, strict=False)
    ]
