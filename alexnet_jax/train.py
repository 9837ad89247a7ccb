"""The loop: steps, a validation after each epoch, the rate's control, checkpoints, logs."""

import collections
import json
import math
import pathlib
import time
from collections.abc import Iterator

import jax
import numpy as np
from rich.console import Console

from alexnet_jax.checkpoint import Checkpoints, Progress
from alexnet_jax.data import pipeline
from alexnet_jax.data.augment import statistics_of
from alexnet_jax.data.prepared import PreparedDataSet
from alexnet_jax.errors import UserError
from alexnet_jax.evaluate import evaluate, make_evaluation_step
from alexnet_jax.experiment import Experiment, build, first_state, open_data, state_shapes
from alexnet_jax.logs import Display, MetricsLog
from alexnet_jax.optimizer import RateControl, after_epoch
from alexnet_jax.step import (
    Metrics,
    TrainState,
    make_train_step,
    statistics_to_devices,
    to_devices,
)


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
    data = open_data(experiment)
    make_workdir(workdir)
    checkpoints = Checkpoints(workdir, keep=config.keep_checkpoints)
    state, progress = restore_or_initialize(experiment, checkpoints)
    write_config(config, workdir)
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
    statistics = statistics_to_devices(statistics_of(data), mesh)
    train_step = make_train_step(
        experiment.network,
        mesh,
        batch_size=config.batch_size,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )
    evaluation_step = make_evaluation_step(experiment.network, mesh, crop_size=config.data.crop_size, views='center')
    examples = data.examples('train')
    last_step = math.ceil(config.epochs * examples / config.batch_size)
    step, epoch, control = progress.step, progress.epoch, progress.control
    window = Window(config.batch_size)

    with Display(console, last_step, step) as display:
        batches = _batches(experiment, data, step)
        while step < last_step and not control.finished:
            batch = to_devices(next(batches), mesh)
            state, metrics = train_step(state, batch, statistics, np.float32(control.learning_rate))
            step += 1
            window.add(metrics)
            display.update(step, window.status(control))

            epoch_ended = step * config.batch_size // examples > epoch
            save_now = epoch_ended or step % config.checkpoint_every_steps == 0
            if save_now or step % config.log_every_steps == 0:
                values = window.close() | {'learning_rate': control.learning_rate}
                log.write(step, step * config.batch_size / examples, 'train', values)
                display.plain(step, describe(values))
            top1_error = None
            if epoch_ended:
                epoch = step * config.batch_size // examples
                display.update(step, 'validating')
                errors = evaluate(
                    evaluation_step,
                    state.parameters,
                    statistics,
                    data,
                    mesh,
                    split='validation',
                    batch_size=config.batch_size,
                    threads=config.data.threads,
                )
                top1_error = errors['top1_error']
                del errors['examples']
                log.write(step, step * config.batch_size / examples, 'validation', errors)
                display.line(f'epoch {epoch}, validation: {describe(errors)}')
                before = control.learning_rate
                control = after_epoch(control, top1_error, epoch, config.rate_control)
                if control.learning_rate != before:
                    display.line(f'epoch {epoch}: learning rate {before:g} -> {control.learning_rate:g}')
            if save_now:
                log.flush()
                checkpoints.save(state, Progress(step, epoch, control), top1_error)
                window.restart()
    return Progress(step, epoch, control)


class Window:
    """Means over the steps since the last line of the log, fetched from the device two steps late.

    So the host never waits for the step it has just sent off, and never runs further ahead than two.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._pending: collections.deque[Metrics] = collections.deque()
        self._sums: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self.restart()

    def restart(self) -> None:
        """Begins to measure time anew, after something that is not training."""
        self._start, self._steps = time.perf_counter(), 0

    def add(self, metrics: Metrics) -> None:
        """Takes the metrics of a step, which may not have been computed yet."""
        self._pending.append(metrics)
        self._steps += 1
        while len(self._pending) > 2:
            self._fetch()

    def _fetch(self) -> None:
        self._last = {name: float(value) for name, value in self._pending.popleft().items()}
        for name, value in self._last.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._sums['steps'] = self._sums.get('steps', 0) + 1

    def _images_per_second(self) -> float:
        return self._steps * self._batch_size / (time.perf_counter() - self._start)

    def status(self, control: RateControl) -> str:
        """For the progress bar: loss, rate, speed."""
        loss = f'loss {self._last["loss"]:.3f}, ' if self._last else ''
        return f'{loss}rate {control.learning_rate:g}, {self._images_per_second():.0f} images/s'

    def close(self) -> dict[str, float]:
        """Means over the window, which then begins anew."""
        while self._pending:
            self._fetch()
        steps = self._sums.pop('steps')
        means = {name: value / steps for name, value in self._sums.items()}
        means['images_per_second'] = round(self._images_per_second(), 1)
        self._sums = {}
        self.restart()
        return means


def describe(values: dict[str, float]) -> str:
    """Metrics as a person reads them: errors in per cent."""
    words = []
    for name, value in values.items():
        if name.endswith('_error'):
            words.append(f'{name.removesuffix("_error").replace("top", "top-")} error {value:.2%}')
        elif name == 'images_per_second':
            words.append(f'{value:.0f} images/s')
        else:
            words.append(f'{name.replace("_", " ")} {value:.4g}')
    return ', '.join(words)


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


def make_workdir(workdir: str) -> None:
    """Makes the directory of a run.

    Raises:
      UserError: it cannot be made or written to.
    """
    path = pathlib.Path(workdir)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / '.writable'
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f'--workdir={workdir} cannot be written: {error}. Name another one.') from error


def write_config(config, workdir: str) -> None:
    """Writes config.json: every field that the run uses."""
    path = pathlib.Path(workdir) / 'config.json'
    replacement = path.with_suffix('.json.new')
    replacement.write_text(json.dumps(config.to_dict(), indent=1) + '\n')
    replacement.replace(path)


def _opening(experiment: Experiment, data: PreparedDataSet, progress: Progress) -> str:
    config, mesh = experiment.config, experiment.mesh
    parameters = sum(math.prod(x.shape) for x in jax.tree.leaves(state_shapes(experiment).parameters))
    origin = f'from step {progress.step}, epoch {progress.epoch}' if progress.step else 'from the start'
    return (
        f'{config.name}: {parameters:,} parameters in {config.columns} column(s) on a mesh of '
        f'{mesh.shape["data"]} (data) x {mesh.shape["column"]} (column); {data.examples("train"):,} training and '
        f'{data.examples("validation"):,} validation images of {len(data.class_names)} classes; {origin}.'
    )
