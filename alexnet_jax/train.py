"""The loop: steps, a validation after each epoch, the rate's control, checkpoints, logs."""

import math
from collections.abc import Iterator

import jax
import numpy as np
from rich.console import Console

from alexnet_jax.checkpoint import Checkpoints, Progress
from alexnet_jax.colour import colour_shares
from alexnet_jax.data import pipeline
from alexnet_jax.data.augment import statistics_of
from alexnet_jax.data.prepared import PreparedDataSet
from alexnet_jax.evaluate import evaluate
from alexnet_jax.experiment import Experiment, build, first_state, open_data, state_shapes, training_step
from alexnet_jax.logs import Display, MetricsLog, Reporter
from alexnet_jax.optimizer import RateControl, after_epoch
from alexnet_jax.prediction import Predictor, first_kernels, prediction_step
from alexnet_jax.step import TrainState, ahead, statistics_to_devices
from alexnet_jax.workdir import make_workdir, remember_data, write_config


def train(config, workdir: str, console: Console) -> Progress:
    """Trains, from the newest checkpoint in `workdir` or from the start, to the end of the config's run.

    Args:
      config: the experiment.
      workdir: where the run leaves its files.
      console: where it reports.

    Returns:
      Where the run stands at its end.

    Raises:
      UserError: the config, the data set or the workdir cannot be used.
    """
    experiment = build(config)
    data = open_data(experiment, console)
    make_workdir(workdir)
    checkpoints = Checkpoints(workdir, keep=config.keep_checkpoints)
    state, progress = restore_or_initialize(experiment, checkpoints)
    write_config(config, workdir)
    remember_data(data, workdir)
    log = MetricsLog(workdir, progress.step)
    console.print(_opening(experiment, data, progress), highlight=False, markup=False, soft_wrap=True)
    try:
        progress = _run(experiment, data, state, progress, checkpoints, log, console)
    finally:
        log.close()
        checkpoints.close()
    best = f'{progress.control.best_error:.2%}'
    console.print(
        f'Ended after step {progress.step}, epoch {progress.epoch}; best validation error {best}.', highlight=False
    )
    return progress


def _run(
    experiment: Experiment,
    data: PreparedDataSet,
    state: TrainState,
    progress: Progress,
    checkpoints: Checkpoints,
    log: MetricsLog,
    console: Console,
) -> Progress:
    config, mesh = experiment.config, experiment.mesh
    statistics = statistics_to_devices(statistics_of(data, config.data.colour_scale), mesh)
    train_step, validation_step = training_step(experiment), prediction_step(experiment, 'center')
    examples = data.examples('train')
    last_step = math.ceil(config.epochs * examples / config.batch_size)
    step, epoch, control = progress.step, progress.epoch, progress.control
    batches = ahead(_batches(experiment, data, step), mesh)

    with Display(console, last_step, step) as display:
        report = Reporter(log, display, config.batch_size, examples)
        while step < last_step and not control.finished:
            rate = control.learning_rate
            with report.waiting():
                batch = next(batches)
            state, metrics = train_step(state, batch, statistics, np.float32(rate))
            step += 1
            report.stepped(step, metrics, rate)

            epochs_seen = step * config.batch_size // examples
            save = epochs_seen > epoch or step % config.checkpoint_every_steps == 0
            if save or step % config.log_every_steps == 0:
                report.training(step, rate)
            errors = None
            if epochs_seen > epoch:
                epoch = epochs_seen
                report.validating(step)
                predict = Predictor(validation_step, state.parameters, statistics, mesh)
                errors = evaluate(
                    predict, data, 'validation', batch_size=config.batch_size, threads=config.data.threads
                )
                control = after_epoch(control, errors['top1_error'], epoch, config.rate_control)
                colours = colour_shares(first_kernels(experiment, state.parameters))
                report.validated(step, epoch, errors, colours, rate, control.learning_rate)
            if save:
                report.saving()
                checkpoints.save(state, Progress(step, epoch, control), errors and errors['top1_error'])
                report.resumed()
    return Progress(step, epoch, control)


def _batches(experiment: Experiment, data: PreparedDataSet, first_step: int) -> Iterator[pipeline.Batch]:
    config = experiment.config
    return pipeline.training_batches(
        data,
        batch_size=config.batch_size,
        crop_size=config.data.crop_size,
        mirror=config.data.mirror,
        colour_std=config.data.colour_std,
        seed=config.seed,
        first_step=first_step,
        threads=config.data.threads,
    )


def restore_or_initialize(experiment: Experiment, checkpoints: Checkpoints) -> tuple[TrainState, Progress]:
    """The newest checkpoint, or the state before the first step, on the experiment's mesh."""
    shapes = state_shapes(experiment)
    steps = checkpoints.steps()
    if steps:
        return checkpoints.restore(steps[-1], shapes, experiment.mesh)
    return first_state(experiment), Progress(0, 0, RateControl(experiment.config.learning_rate))


def _opening(experiment: Experiment, data: PreparedDataSet, progress: Progress) -> str:
    config, mesh = experiment.config, experiment.mesh
    parameters = sum(math.prod(x.shape) for x in jax.tree.leaves(state_shapes(experiment).parameters))
    origin = f'from step {progress.step}, epoch {progress.epoch}' if progress.step else 'from the start'
    return (
        f'{config.name}: {parameters:,} parameters in {config.columns} column(s) on a mesh of '
        f'{mesh.shape["data"]} (data) x {mesh.shape["column"]} (column); {data.examples("train"):,} training and '
        f'{data.examples("validation"):,} validation images of {len(data.class_names)} classes; {origin}.'
    )
