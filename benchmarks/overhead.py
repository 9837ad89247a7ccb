"""Costs of a run besides training, each measured alone: checkpoints, logs, validation."""

import contextlib
import dataclasses
import os
import pathlib
import statistics
import time

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from alexnet_jax.commands.inspect import lines_of
from alexnet_jax.commands.reporting import Reporter
from alexnet_jax.data.augment import statistics_of
from alexnet_jax.data.dataset import PreparedDataSet
from alexnet_jax.data.device_feed import statistics_to_devices
from alexnet_jax.evaluation.evaluate import evaluate
from alexnet_jax.evaluation.predictor import Predictor
from alexnet_jax.runs.build import Experiment, first_state
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runs.metrics_log import MetricsLog
from alexnet_jax.runs.progress import Progress
from alexnet_jax.runs.trained import prediction_step
from alexnet_jax.runtime.devices import available_cores
from alexnet_jax.runtime.progress_bar import Display
from alexnet_jax.training.optimizer import RateControl
from benchmarks.limits import flops

IMAGENET, VALIDATION = 1_281_167, 50_000


@dataclasses.dataclass(frozen=True)
class Overhead:
    """Seconds, each the median of several.

    Attributes:
      blocked: for which saving a checkpoint blocks training.
      written: from the call to save until the checkpoint is on disk, with nothing else going on.
      processor: of processor time that a checkpoint takes, by all threads.
      step: of the host's time that reporting a step takes.
      line: that a line of the log takes, TensorBoard included.
      image: that the validation of an image takes.
    """

    blocked: float
    written: float
    processor: float
    step: float
    line: float
    image: float


def measure(experiment: Experiment, data: PreparedDataSet, directory: pathlib.Path, rounds: int) -> Overhead:
    """Measures all of them with one state of the experiment's network; files go to `directory`."""
    state = first_state(experiment)
    saves = _checkpoints(state, directory / 'run', rounds)
    step, line = _reports(directory / 'logs', experiment.config.batch_size)
    image = _validation(experiment, state.parameters, data, rounds)
    return Overhead(*(statistics.median(each) for each in zip(*saves, strict=True)), step, line, image)


def _checkpoints(state, workdir: pathlib.Path, rounds: int) -> list[tuple[float, float, float]]:
    """For each save after the first, which compiles: blocked time, time until it is written, processor time."""
    found = []
    workdir.mkdir()
    with contextlib.closing(Checkpoints(workdir, keep=1)) as checkpoints:
        for number in range(1, rounds + 2):
            start, before = time.perf_counter(), sum(os.times()[:2])
            checkpoints.save(state, Progress(number, 0, RateControl(0.01), {}), None)
            blocked = time.perf_counter() - start
            checkpoints.wait()
            found.append((blocked, time.perf_counter() - start, sum(os.times()[:2]) - before))
    return found[1:]


def _reports(workdir: pathlib.Path, batch_size: int, count: int = 500) -> tuple[float, float]:
    """Seconds to report a step whose metrics are computed, and to write a line."""
    workdir.mkdir()
    metrics = {name: jnp.float32(1) for name in ('loss', 'top1_error', 'top5_error')}
    with contextlib.closing(MetricsLog(workdir, 0)) as log, Display(Console(quiet=True), count, 0) as display:
        report = Reporter(log, display, batch_size, IMAGENET, {})
        start = time.perf_counter()
        for step in range(1, count + 1):
            report.stepped(step, metrics, 0.01)
        stepped = time.perf_counter() - start
        start = time.perf_counter()
        for step in range(1, count + 1):
            report.stepped(step, metrics, 0.01)
            report.training(step, 0.01)
        return stepped / count, (time.perf_counter() - start - stepped) / count


def _validation(experiment: Experiment, parameters, data: PreparedDataSet, rounds: int) -> float:
    """Seconds an image of the validation split, including reading it."""
    constants = statistics_to_devices(statistics_of(data, experiment.config.data), experiment.mesh)
    predict = Predictor(prediction_step(experiment, 'center'), parameters, constants, experiment.mesh)
    taken = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        evaluate(predict, data, 'validation', batch_size=experiment.config.batch_size, threads=0)
        taken.append((time.perf_counter() - start) / data.examples('validation'))
    return statistics.median(taken[1:])


def table(overhead: Overhead, experiment: Experiment, seconds_a_step: float) -> Table:
    """Their shares of a run on ImageNet at the config's intervals, for a given time of a step."""
    config = experiment.config
    steps = IMAGENET / config.batch_size  # of an epoch
    training = steps * seconds_a_step
    saves = steps / config.checkpoint_every_steps + 1
    on_cpu = jax.devices()[0].platform == 'cpu'
    # At worst what is written in the background takes its processor time from the step, where that runs on the cores.
    behind = max(overhead.written - overhead.blocked, overhead.processor / available_cores()) if on_cpu else 0
    shares = {
        f'{saves:.1f} checkpoints: blocking training': saves * overhead.blocked,
        f'{saves:.1f} checkpoints: at worst, in the background': saves * behind,
        f'{steps:,.0f} steps reported': steps * overhead.step,
        f'{steps / config.log_every_steps:,.0f} lines of the log': steps / config.log_every_steps * overhead.line,
        f'{VALIDATION:,} images validated': VALIDATION * overhead.image,
    }
    result = Table(title=f'an epoch of {IMAGENET:,} images, of {training:,.0f} s at {seconds_a_step:.3f} s a step')
    for column in ('', 'seconds an epoch', 'of the training'):
        result.add_column(column, justify='right' if column else 'left')
    for name, seconds in shares.items():
        result.add_row(name, f'{seconds:,.2f}', f'{seconds / training:.3%}')
    forward = 2 * sum(line.multiply_adds for line in lines_of(experiment.config))
    share = VALIDATION * forward / (IMAGENET * flops(experiment))
    result.add_row('validation, by its arithmetic alone', '', f'{share:.3%}')
    return result
