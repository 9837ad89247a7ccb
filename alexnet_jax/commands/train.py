"""The training loop: steps, a validation after each epoch, the learning rate's control, checkpoints, logs."""

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from rich.console import Console

from alexnet_jax.commands.reporting import Reporter
from alexnet_jax.config import Config, schema
from alexnet_jax.data import pipeline
from alexnet_jax.data.augment import statistics_of
from alexnet_jax.data.dataset import PreparedDataSet
from alexnet_jax.data.device_feed import local_positions, prefetch_to_devices, statistics_to_devices
from alexnet_jax.evaluation.color import color_shares
from alexnet_jax.evaluation.evaluate import evaluate
from alexnet_jax.evaluation.predictor import Predictor
from alexnet_jax.runs.build import Experiment, build, first_state, open_data, training_step
from alexnet_jax.runs.checkpoint import Checkpoints, NotFiniteStateError
from alexnet_jax.runs.metrics_log import MetricsLog, NoLog
from alexnet_jax.runs.parameters_file import check_trainable
from alexnet_jax.runs.pretrained import check_pretrained, mean_image_of, with_pretrained
from alexnet_jax.runs.progress import Progress
from alexnet_jax.runs.resume import check_resume, check_start, is_asked_for, rate_given
from alexnet_jax.runs.trained import first_kernels, prediction_step
from alexnet_jax.runs.workdir import locked, make_workdir, mark_begun, mark_saved, remember_data, write_config
from alexnet_jax.runtime.distributed import any_process, is_leader, leader_first, several
from alexnet_jax.runtime.errors import UserError, say
from alexnet_jax.runtime.interruption import Interruption
from alexnet_jax.runtime.progress_bar import Display
from alexnet_jax.training.dispatch import compile_first, finish, holds_memory
from alexnet_jax.training.metrics_window import NotFiniteLossError
from alexnet_jax.training.optimizer import RateControl, after_epoch, after_training, layer_rates
from alexnet_jax.training.step import TrainState

_FEW_UPDATES = 100  # below these even a small network has learned little
_AGREE_EVERY_STEPS = 20  # how often several processes ask each other whether one of them was told to stop


def train(
    config: Config,
    workdir: str,
    console: Console,
    allowed_changes: Sequence[str] = (),
    *,
    from_start: bool = False,
) -> Progress:
    """Trains to the end of the config's run, resuming from the latest checkpoint in `workdir` if there is one.

    Args:
      config: the experiment.
      workdir: where the run leaves its files.
      console: where it reports.
      allowed_changes: fields that may differ from those that the run began with; see `runs/resume.py`.
      from_start: whether to train from step 0 where a run has been of which no checkpoint is left.

    Returns:
      The run's progress at its end.

    Raises:
      UserError: the config, the data set or the workdir cannot be used; training diverged; the disk is full.
      StoppedError: a signal asked the run to stop, and it has been saved.
    """
    for field in allowed_changes:
        if not any(f'{name}.'.startswith(f'{field}.') for name, _ in schema()) and not field.startswith('network.'):
            raise UserError(f'--allow_changes={field}: the config has no such field.')
    with Interruption(console) as interruption:
        check_trainable(workdir)
        experiment = build(config)
        if config.pretrained.workdir and not pathlib.Path(workdir, 'checkpoints').is_dir():
            check_pretrained(experiment)
        data = open_data(experiment, console)
        with leader_first('workdir'):
            if is_leader():
                make_workdir(workdir)
        with locked(workdir) if is_leader() else contextlib.nullcontext():
            checkpoints = Checkpoints(workdir, keep=config.keep_checkpoints)
            with contextlib.closing(checkpoints):
                steps = checkpoints.steps()
                if steps and from_start:
                    raise UserError(
                        f'--from_start: {checkpoints.directory} holds a checkpoint of step {steps[-1]}; leave the flag '
                        'out to resume from there, or name another --workdir to train from the start.'
                    )
                if steps:
                    for line in check_resume(config, data, workdir, allowed_changes):
                        say(console, line)
                elif is_leader():
                    check_start(workdir, from_start, lambda line: say(console, line))
                state, progress = restore_or_initialize(experiment, checkpoints, console, workdir, allowed_changes)
                mean_image = mean_image_of(config, data, workdir)
                book = _Book(config, workdir, unsaved=not steps)
                if is_leader():
                    book.open()
                    remember_data(data, workdir, mean_image)
                log = MetricsLog(workdir, progress.step) if is_leader() else NoLog()
                with contextlib.closing(log):
                    say(console, _opening(experiment, data, progress))
                    if hint := _hint_on_updates(config, data):
                        say(console, hint)
                    loop = _Loop(experiment, data, mean_image, checkpoints, log, console, interruption, book)
                    progress, stopped = loop.run(state, progress)
            if stopped:
                say(console, f'Saved step {progress.step}; the same command resumes from there.')
                raise interruption.stopped()
        best = f'{progress.control.best_error:.2%}'
        say(console, f'Ended after step {progress.step}, epoch {progress.epoch}; best validation error {best}.')
    return progress


class _Book:
    """What a run's files say of it, which must not be ahead of its checkpoints."""

    def __init__(self, config: Config, workdir: str, unsaved: bool) -> None:
        """For a run with that config; `unsaved` where it has no checkpoint yet."""
        self._config, self._workdir = config, workdir
        self._unsaved = unsaved
        self._adopts = not unsaved and is_asked_for(config, workdir)

    def open(self) -> None:
        """Writes config.json, unless that is to wait for the first checkpoint that was trained with it."""
        if self._unsaved:
            mark_begun(self._workdir)
        else:
            mark_saved(self._workdir)
        if not self._adopts:
            write_config(self._config, self._workdir)

    def saving(self, checkpoints: Checkpoints) -> None:
        """A checkpoint was given to be saved; the first one is waited for where something depends on it."""
        if not self._unsaved and not self._adopts:
            return
        checkpoints.wait()
        if is_leader():
            if self._adopts:
                write_config(self._config, self._workdir)
            mark_saved(self._workdir)
        self._unsaved = self._adopts = False


@dataclasses.dataclass(frozen=True)
class _Loop:
    """The loop over steps and epochs, with all that it reads from and writes to."""

    experiment: Experiment
    data: PreparedDataSet
    mean_image: np.ndarray  # that is subtracted
    checkpoints: Checkpoints
    log: MetricsLog | NoLog
    console: Console
    interruption: Interruption
    book: _Book

    def run(self, state: TrainState, progress: Progress) -> tuple[Progress, bool]:
        """Trains to the end, or to the step at which a signal asks to stop; returns whether it was stopped."""
        config, mesh = self.experiment.config, self.experiment.mesh
        statistics = statistics_to_devices(statistics_of(self.data, config.data, self.mean_image), mesh)
        train_step, validation_step = training_step(self.experiment), prediction_step(self.experiment, 'center')
        examples = self.data.examples('train')
        last_step = math.ceil(config.epochs * examples / config.batch_size)
        step, epoch, control = progress.step, progress.epoch, progress.control
        batches = prefetch_to_devices(batches_of(self.experiment, self.data, step), mesh)

        with Display(self.console, last_step, step) as display, _divergence(self.checkpoints):
            classes = len(self.data.class_names)
            report = Reporter(self.log, display, config.batch_size, examples, progress.window, classes)
            stopping = in_turn = False
            while step < last_step and not control.finished and not stopping:
                rate = control.learning_rate
                with report.waiting():
                    batch = next(batches)
                rates = layer_rates(state.parameters, rate, step * config.batch_size / examples, config.rate_control)
                if step == progress.step:
                    in_turn = holds_memory(compile_first(train_step, state, batch, statistics, rates))
                if in_turn:
                    finish(state)
                state, metrics = train_step(state, batch, statistics, rates)
                self.interruption.something_to_save()
                step += 1
                report.stepped(step, metrics, rate)

                epochs_seen = step * config.batch_size // examples
                due = epochs_seen > epoch or step % config.checkpoint_every_steps == 0
                if due or step % config.log_every_steps == 0:
                    report.training(step, rate)
                    if step % config.log_every_steps == 0:  # one line may be of a few steps
                        control = after_training(control, report.interval_error(), config.rate_control)
                        due = due or control.finished
                errors = None
                if epochs_seen > epoch or control.finished:
                    epoch = epochs_seen
                    report.validating(step)
                    errors = self._validate(Predictor(validation_step, state.parameters, statistics, mesh))
                    if not math.isfinite(errors['loss']):
                        raise NotFiniteLossError(step, errors['loss'], rate)
                    control = after_epoch(control, errors['top1_error'], epoch, config.rate_control)
                    colors = self._colors(state)
                    report.validated(step, epoch, errors, colors, rate, control.learning_rate)
                stopping = should_stop(self.interruption.asked, step)
                if due or stopping:
                    window = report.saving()
                    saved = Progress(step, epoch, control, window, config.learning_rate)
                    self.checkpoints.save(state, saved, errors['top1_error'] if errors else None)
                    self.book.saving(self.checkpoints)
                    report.saved()
            if step > progress.step:
                say(self.console, f'Checkpointing blocked training for {report.checkpoint_share()} of the time.')
        return Progress(step, epoch, control), stopping and step < last_step and not control.finished

    def _validate(self, predict: Predictor) -> dict[str, float]:
        config = self.experiment.config
        threads = config.data.threads
        return evaluate(predict, self.data, 'validation', batch_size=config.batch_size, threads=threads)

    def _colors(self, state: TrainState) -> list[float]:
        """The columns' shares of color in the first layer; none where its kernels do not see an image."""
        kernels: np.ndarray = first_kernels(self.experiment, state.parameters)
        return color_shares(kernels) if kernels.ndim == 5 else []


def should_stop(asked: bool, step: int) -> bool:
    """Whether to stop after this step; several processes decide so together, at the same step."""
    return any_process(asked) if several() and step % _AGREE_EVERY_STEPS == 0 else asked and not several()


@contextlib.contextmanager
def _divergence(checkpoints: Checkpoints) -> Iterator[None]:
    """Turns a loss or a state that is not finite into a message."""
    try:
        yield
    except (NotFiniteLossError, NotFiniteStateError) as error:
        steps = checkpoints.steps()
        kept = (
            f'The checkpoint of step {steps[-1]} is kept; to resume from there at another learning rate, give '
            '--config.learning_rate and --allow_changes=learning_rate.'
            if steps
            else 'There is no checkpoint yet; start again with a lower config.learning_rate.'
        )
        raise UserError(f'training has diverged: {error}. {kept}') from error


def batches_of(experiment: Experiment, data: PreparedDataSet, first_step: int) -> Iterator[pipeline.Batch]:
    """The batches of training from a step on."""
    config = experiment.config
    return pipeline.training_batches(
        data,
        config.data,
        batch_size=config.batch_size,
        seed=config.seed,
        first_step=first_step,
        positions=local_positions(experiment.mesh, config.batch_size),
    )


def restore_or_initialize(
    experiment: Experiment,
    checkpoints: Checkpoints,
    console: Console,
    workdir: str,
    allowed_changes: Sequence[str] = (),
) -> tuple[TrainState, Progress]:
    """The newest intact checkpoint, or the state before the first step, on the experiment's mesh.

    A learning rate that is allowed to change counts once: afterwards the checkpoint's control holds.
    """
    found = checkpoints.restore_newest(experiment.shapes, experiment.mesh, lambda line: say(console, line))
    rate = experiment.config.learning_rate
    if found is None:
        state = first_state(experiment)
        if experiment.config.pretrained.workdir:
            state = with_pretrained(experiment, state, lambda line: say(console, line))
        return state, Progress(0, 0, RateControl(rate))
    state, progress = found
    if 'learning_rate' in allowed_changes and rate_given(experiment.config, workdir, progress.configured_rate):
        control = dataclasses.replace(progress.control, learning_rate=rate)
        progress = dataclasses.replace(progress, control=control)
    return state, progress


def _hint_on_updates(config: Config, data: PreparedDataSet) -> str:
    """A hint where a run makes too few updates to learn much; '' where it does not."""
    examples = data.examples('train')
    updates = math.ceil(config.epochs * examples / config.batch_size)
    if updates >= _FEW_UPDATES and config.batch_size <= examples:
        return ''
    return (
        f'Hint: {config.epochs} epochs of {examples:,} training images in batches of {config.batch_size} are '
        f'{updates:,} updates of the network; a smaller --config.batch_size makes more of them, and so do more '
        '--config.epochs.'
    )


def _opening(experiment: Experiment, data: PreparedDataSet, progress: Progress) -> str:
    config, mesh = experiment.config, experiment.mesh
    parameters = sum(math.prod(x.shape) for x in jax.tree.leaves(experiment.shapes.parameters))
    origin = f'from step {progress.step}, epoch {progress.epoch}' if progress.step else 'from the start'
    return (
        f'{config.name}: {parameters:,} parameters in {config.columns} column(s) on a mesh of '
        f'{mesh.shape["data"]} (data) x {mesh.shape["column"]} (column); {data.examples("train"):,} training and '
        f'{data.examples("validation"):,} validation images of {len(data.class_names)} classes; {origin}.'
    )
