"""Figure 1: epochs to 25 % training error, ReLU against tanh, each at its fastest learning rate: `--mode=figure1`."""

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from alexnet_jax.commands.tables import Table, add_row, new_table
from alexnet_jax.commands.train import train
from alexnet_jax.config import Config
from alexnet_jax.figures.figure1 import figure_1
from alexnet_jax.figures.style import write_figure
from alexnet_jax.model.layer_specs import ReLU, Tanh
from alexnet_jax.runs.checkpoint import NotFiniteStateError
from alexnet_jax.runs.metrics_log import read_metrics
from alexnet_jax.runtime.errors import UserError, say
from alexnet_jax.runtime.files import write_json
from alexnet_jax.training.metrics_window import NotFiniteLossError

TARGET = 0.25  # training error
NONLINEARITIES = {'relu': ReLU, 'tanh': Tanh}
CIFAR10_RATES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03)
RATES = {'digits': (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)}  # by source; others take those of CIFAR-10


@dataclasses.dataclass(frozen=True)
class Trial:
    """A network trained at one learning rate.

    Attributes:
      nonlinearity: 'relu' or 'tanh'.
      rate: the learning rate.
      curve: pairs of epoch and training error (0..1).
      diverged: whether the loss became NaN or infinite.
    """

    nonlinearity: str
    rate: float
    curve: tuple[tuple[float, float], ...]
    diverged: bool = False

    @property
    def epochs_to_target(self) -> float | None:
        """Epochs until the error is TARGET; None if it never is, or the run diverged."""
        return None if self.diverged else epochs_to(self.curve, TARGET)


def training_errors(metrics: Sequence[Mapping[str, Any]]) -> tuple[tuple[float, float], ...]:
    """The training errors in a run's metrics, each at the middle of the steps that it is the mean of."""
    lines = [line for line in metrics if line['split'] == 'train']
    starts = [0.0, *(line['epoch'] for line in lines)]
    return tuple(((start + line['epoch']) / 2, line['top1_error']) for start, line in zip(starts, lines, strict=False))


def epochs_to(curve: Sequence[tuple[float, float]], target: float) -> float | None:
    """The epoch at which a curve first reaches an error, interpolated linearly; None if never."""
    if curve and curve[0][1] <= target:
        return curve[0][0]
    for (before, high), (after, low) in itertools.pairwise(curve):
        if low <= target:
            return before + (after - before) * (high - target) / (high - low)
    return None


def fastest(trials: Sequence[Trial]) -> Trial:
    """The trial that reached the target first; if none did, the one with the lowest error."""

    def key(trial: Trial) -> tuple[float, float]:
        epochs = trial.epochs_to_target
        return math.inf if epochs is None else epochs, min((error for _, error in trial.curve), default=math.inf)

    return min(trials, key=key)


def draw_figure_1(config: Config, workdir: str, console: Console, rates: Sequence[float] | None = None) -> float | None:
    """Trains a network with ReLUs and with tanh at every rate, and draws the fastest of each.

    Leaves WORKDIR/figure1.json, WORKDIR/figures/figure1.png and .svg, and the runs in WORKDIR/NONLINEARITY-RATE, which
    are resumed if interrupted.

    Args:
      config: of the experiment, with either nonlinearity.
      workdir: of the comparison.
      console: for output.
      rates: learning rates to try; None for those of the data set.

    Returns:
      Epochs that tanh needs, as a multiple of ReLU's; None if one of them never reaches the target.

    Raises:
      UserError: the network has no nonlinearity, or a run fails for another reason than divergence.
      StoppedError: a signal asked it to stop.
    """
    if not any(isinstance(layer, ReLU | Tanh) for _, layer in config.network):
        raise UserError('config.network has neither ReLU nor tanh layers to exchange; take experiments/figure1.py.')
    rates = rates or RATES.get(config.data.source, CIFAR10_RATES)
    directory = pathlib.Path(workdir)
    trials: list[Trial] = []
    for nonlinearity, rate in itertools.product(NONLINEARITIES, rates):
        say(console, f'--- {nonlinearity}, rate {rate:g}: run {len(trials) + 1} of {len(NONLINEARITIES) * len(rates)}')
        trial_config = with_nonlinearity(config, nonlinearity).replace(learning_rate=rate)
        trials.append(run_trial(trial_config, nonlinearity, directory / f'{nonlinearity}-{rate:g}', console))
    best = {name: fastest([trial for trial in trials if trial.nonlinearity == name]) for name in NONLINEARITIES}
    relu, tanh = best['relu'].epochs_to_target, best['tanh'].epochs_to_target
    ratio = None if relu is None or tanh is None else tanh / relu
    write_json(
        directory / 'figure1.json',
        {
            'target': TARGET,
            'trials': [dataclasses.asdict(trial) | {'epochs_to_target': trial.epochs_to_target} for trial in trials],
            'fastest': {name: trial.rate for name, trial in best.items()},
            'ratio': ratio,
        },
    )
    curves = {_label(trial): trial.curve for trial in best.values()}
    title = f'{config.data.source.removeprefix("tfds:")}: training error, each at its fastest rate'
    write_figure(figure_1(curves, TARGET, title), directory / 'figures' / 'figure1', console, line_art=True)
    console.print(_table(trials, best))
    for line in _conclusion(best, rates, ratio):
        say(console, line)
    return ratio


def with_nonlinearity(config: Config, nonlinearity: str) -> Config:
    """The same experiment with 'relu' or 'tanh' in all layers that are either."""
    layer = NONLINEARITIES[nonlinearity]()
    network = {name: layer if isinstance(spec, ReLU | Tanh) else spec for name, spec in config.network}
    family = config.name.removesuffix('relu').removesuffix('tanh')
    return config.replace(network=network, name=f'{family}{nonlinearity}')


def run_trial(config: Config, nonlinearity: str, directory: pathlib.Path, console: Console) -> Trial:
    """Trains at the config's rate, resuming if interrupted, and reads the curve.

    Raises:
      UserError: the run fails for another reason than divergence.
      StoppedError: a signal asked it to stop.
    """
    diverged = False
    try:
        train(config, str(directory), console)
    except UserError as error:
        if not isinstance(error.__cause__, NotFiniteLossError | NotFiniteStateError):
            raise
        say(console, str(error))
        diverged = True
    has_lines = (directory / 'metrics.jsonl').stat().st_size > 0  # a run may diverge before its first line
    curve = training_errors(read_metrics(directory)) if has_lines else ()
    return Trial(nonlinearity, config.learning_rate, curve, diverged)


def _result(trial: Trial, never: str, unit: str = '') -> str:
    epochs = trial.epochs_to_target
    return 'diverged' if trial.diverged else never if epochs is None else f'{epochs:.2f}{unit}'


def _label(trial: Trial) -> str:
    name = {'relu': 'ReLU'}.get(trial.nonlinearity, trial.nonlinearity)
    return f'{name}, rate {trial.rate:g}: {_result(trial, "not reached", " epochs")}'


def _table(trials: Sequence[Trial], best: Mapping[str, Trial]) -> Table:
    table = new_table(f'Epochs to {TARGET:.0%} training error', right=['rate', *best])
    found = {(trial.rate, trial.nonlinearity): trial for trial in trials}
    for rate in dict.fromkeys(trial.rate for trial in trials):
        row = {name: found[rate, name] for name in best}
        cells = [_result(trial, 'never') + (' *' if trial is best[name] else '') for name, trial in row.items()]
        add_row(table, f'{rate:g}', *cells)
    return table


def _conclusion(best: Mapping[str, Trial], rates: Sequence[float], ratio: float | None) -> list[str]:
    lines = []
    for name, trial in best.items():
        if trial.epochs_to_target is None:
            lines.append(f'{name} does not reach {TARGET:.0%} at any of these rates.')
        elif trial.rate in (min(rates), max(rates)):
            lines.append(f'{name} is fastest at the last rate tried, {trial.rate:g}; beyond may be a faster one.')
    if ratio is not None:
        lines.append(f'tanh needs {ratio:.2f} times as many epochs as ReLU. (The paper, on CIFAR-10: six times.)')
    return lines
