"""Validation and test (section 4.1): one view or ten, top-1 and top-5 error, every example counted once."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from alexnet_jax.checkpoint import Checkpoints
from alexnet_jax.columns import DATA, EVERYWHERE, PER_COLUMN, PER_EXAMPLE
from alexnet_jax.data import pipeline
from alexnet_jax.data.augment import VIEWS, Statistics, statistics_of, view
from alexnet_jax.data.prepared import PreparedDataSet
from alexnet_jax.errors import UserError
from alexnet_jax.experiment import Experiment, build, open_data, state_shapes
from alexnet_jax.logs import Display
from alexnet_jax.model import AlexNet
from alexnet_jax.step import Batch, statistics_to_devices, to_devices, wrong

EvaluationStep = Callable[[Any, Batch, Statistics], dict[str, Array]]


def make_evaluation_step(network: AlexNet, mesh: Mesh, *, crop_size: int, views: str) -> EvaluationStep:
    """Builds the jitted evaluation of one batch.

    "The network makes a prediction by extracting five 224 x 224 patches (the four corner patches and the
    center patch) as well as their horizontal reflections, and averaging the predictions made by the network's
    softmax layer on the ten patches."

    Args:
      network: with the columns as they live on a device of the mesh.
      mesh: of axes 'data' and 'column'.
      crop_size: height and width of a view, in pixels.
      views: 'center' or 'ten'.

    Returns:
      A function of (parameters, batch, statistics) that returns sums over the examples of weight 1: 'loss'
      (minus the log of the averaged probability), 'top1_error', 'top5_error' and their number, 'examples'.
    """

    def on_device(parameters: Any, batch: Batch, statistics: Statistics) -> dict[str, Array]:
        def log_probabilities(number: Array) -> Array:
            images = view(batch['image'], statistics, number, crop_size)
            return jax.nn.log_softmax(network.apply({'params': parameters}, images))

        each = lax.map(log_probabilities, jnp.arange(VIEWS[views]))
        averaged = jax.nn.logsumexp(each, axis=0) - np.log(VIEWS[views])
        loss = -jnp.take_along_axis(averaged, batch['label'][:, None], axis=1)[:, 0]
        sums = {'loss': loss, 'examples': jnp.ones_like(loss)}
        sums |= {f'top{top}_error': wrong(averaged, batch['label'], top) for top in (1, 5)}
        return lax.psum(jax.tree.map(lambda x: jnp.sum(jnp.where(batch['weight'] > 0, x, 0)), sums), DATA)

    sums = jax.shard_map(on_device, mesh=mesh, in_specs=(PER_COLUMN, PER_EXAMPLE, EVERYWHERE), out_specs=EVERYWHERE)
    return jax.jit(sums)


def evaluation_step(experiment: Experiment, views: str) -> EvaluationStep:
    """The jitted evaluation of one batch, as `make_evaluation_step` describes it."""
    crop_size = experiment.config.data.crop_size
    return make_evaluation_step(experiment.network, experiment.mesh, crop_size=crop_size, views=views)


def evaluate(
    step: EvaluationStep,
    experiment: Experiment,
    parameters: Any,
    statistics: Statistics,
    data: PreparedDataSet,
    *,
    split: str = 'validation',
    on_batch: Callable[[int], None] = lambda examples: None,
) -> dict[str, float]:
    """Runs an evaluation step over a whole split; no example is left out, whatever the batch size.

    Args:
      step: as `evaluation_step` makes it.
      experiment: the mesh, the batch size, the number of threads.
      parameters, statistics: on the devices of the mesh.
      data: the prepared data set.
      split: 'train' or 'validation'.
      on_batch: called with the number of examples that each batch has put behind.

    Returns:
      The means 'loss', 'top1_error' and 'top5_error' (errors 0..1), and the number of 'examples'.
    """
    config = experiment.config
    totals: dict[str, float] = {}
    batches = pipeline.evaluation_batches(data, split, batch_size=config.batch_size, threads=config.data.threads)
    for batch in batches:
        sums = step(parameters, to_devices(batch, experiment.mesh), statistics)
        for name, value in sums.items():
            totals[name] = totals.get(name, 0.0) + float(value)
        on_batch(int(sums['examples']))
    examples = int(totals.pop('examples'))
    return {**{name: total / examples for name, total in totals.items()}, 'examples': examples}


def evaluate_run(config: ConfigDict, workdir: str, which: str, console: Console) -> dict[str, Any]:
    """Evaluates a checkpoint of a run on the validation images, prints the errors and writes eval.json.

    Args:
      config: the experiment that the run was made with; mesh, batch size and views may differ.
      workdir: of the run.
      which: 'newest', 'best' (by validation error), or the number of a step.
      console: where to print.

    Returns:
      What eval.json holds: 'step', 'split', 'examples', and under 'views' for each kind of view its errors (0..1).

    Raises:
      UserError: the config, the data set or the checkpoint cannot be used.
    """
    experiment = build(config)
    checkpoints = Checkpoints(workdir, read_only=True)
    step = checkpoints.find(which)
    data = open_data(experiment, console)
    state, progress = checkpoints.restore(step, state_shapes(experiment), experiment.mesh)
    statistics = statistics_to_devices(statistics_of(data), experiment.mesh)

    split, examples = 'validation', data.examples('validation')
    table = Table(title=f'{config.name}, step {step} (epoch {progress.epoch}), {examples:,} {split} images')
    for column in ('views', 'top-1 error', 'top-5 error'):
        table.add_column(column, justify='left' if column == 'views' else 'right')
    results = {}
    for views in config.evaluation.views:
        with Display(console, examples, 0, name=f'evaluating, views: {views}', unit='images') as display:
            done = 0

            def advance(count: int, display: Display = display) -> None:
                nonlocal done
                done += count
                display.update(done)

            step_function = evaluation_step(experiment, views)
            errors = evaluate(step_function, experiment, state.parameters, statistics, data, on_batch=advance)
        results[views] = {name: errors[name] for name in ('top1_error', 'top5_error', 'loss')}
        table.add_row(views, *(f'{errors[name]:.2%}' for name in ('top1_error', 'top5_error')))
    console.print(table)

    result = {'step': step, 'split': split, 'examples': examples, 'views': results}
    path = pathlib.Path(workdir) / 'eval.json'
    try:
        path.write_text(json.dumps(result, indent=1) + '\n')
    except OSError as error:
        raise UserError(f'{path} cannot be written: {error}.') from error
    return result
