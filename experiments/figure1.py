"""Figure 1: a four-layer network reaches 25 % training error sooner with ReLUs than with tanh.

    python -m experiments.figure1 --workdir=runs/figure1                   # handwritten digits, minutes on two cores
    python -m experiments.figure1 --workdir=runs/figure1 --data=cifar10    # the paper's own data set
    python launch.py --workdir=runs/tanh --config=experiments/figure1.py:tanh    # one curve alone

Reproduces: "A four-layer convolutional neural network with ReLUs (solid line) reaches a 25% training error rate on
CIFAR-10 six times faster than an equivalent network with tanh neurons (dashed line). The learning rates for each
network were chosen independently to make training as fast as possible. No regularization of any kind was employed."

Ours: CIFAR-10 awaits a run. On digits it is the other way round: tanh is there after 0.28 epochs, at the rate 0.03,
and ReLUs after 0.64, at 0.003; at higher rates they do not learn (one seed; 2026-11-20, two CPU cores).

The paper does not say which network. This is that of experiments/cifar10.py without normalization, on whole images;
digits come as 16 x 16. No patches, mirror images, color noise, dropout or weight decay. One rate throughout; each
network is trained with each of RATES, and the one that is there soonest counts.
"""

import argparse
import dataclasses
import itertools
import math
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from alexnet_jax.commands import flags as arguments
from alexnet_jax.commands.train import train
from alexnet_jax.config import network_config
from alexnet_jax.figures.figure1 import figure_1
from alexnet_jax.figures.style import save
from alexnet_jax.model.layer_specs import ReLU, Tanh
from alexnet_jax.runs.checkpoint import NotFiniteStateError
from alexnet_jax.runs.metrics_log import NotFiniteLossError, read_metrics
from alexnet_jax.runs.workdir import write_json
from alexnet_jax.runtime.errors import UserError, exit_codes, say
from experiments import cifar10

TARGET = 0.25  # training error
NONLINEARITIES = {'relu': ReLU, 'tanh': Tanh}
RATES = {
    'digits': (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1),
    'cifar10': (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03),
}
VARIANTS = ('relu', 'tanh', 'cifar10_relu', 'cifar10_tanh')


def get_config(variant: str = 'relu') -> ConfigDict:
    if variant not in VARIANTS:
        raise UserError(f'experiments/figure1.py has no variant {variant!r}; it has: {", ".join(VARIANTS)}.')
    config = cifar10.get_config('no_normalization')
    config.name = f'figure1:{variant}'
    config.network = network_config(cifar10.four_layers(NONLINEARITIES[variant.split('_')[-1]], normalization=False))
    config.weight_decay = 0.0
    config.learning_rate = 0.003
    config.rate_control.schedule = ()
    config.rate_control.layer_rates = ()
    config.rate_control.patience = 1_000_000  # epochs: never lowered
    config.data.crop_size = config.data.image_size
    config.data.mirror = False
    config.evaluation.views = ('center',)
    config.epochs = 40
    config.log_every_steps = 39  # a tenth of an epoch
    if not variant.startswith('cifar10'):
        _for_digits(config)
    return config


def _for_digits(config: ConfigDict) -> None:
    """Digits are soon learned: small batches, many points of the curve in an epoch, few epochs."""
    config.batch_size = 16
    config.epochs = 4
    config.log_every_steps = 9  # a tenth of an epoch
    config.data.source = 'digits'
    config.data.directory = 'data/digits16'
    config.data.image_size = config.data.crop_size = 16


@dataclasses.dataclass(frozen=True)
class Trial:
    """A network trained with one rate.

    Attributes:
      nonlinearity: 'relu' or 'tanh'.
      rate: the learning rate.
      curve: pairs of epoch and training error (0..1).
      diverged: whether the loss ceased to be finite.
    """

    nonlinearity: str
    rate: float
    curve: tuple[tuple[float, float], ...]
    diverged: bool = False

    @property
    def epochs_to_target(self) -> float | None:
        """Epochs until the error is down to TARGET; None where it never is, or the run diverged."""
        return None if self.diverged else epochs_to(self.curve, TARGET)


def training_errors(metrics: Sequence[Mapping[str, Any]]) -> tuple[tuple[float, float], ...]:
    """The training error of each 'train' line of a run's metrics, at the middle of the steps that it is the mean of."""
    lines = [line for line in metrics if line['split'] == 'train']
    starts = [0.0, *(line['epoch'] for line in lines)]
    return tuple(((start + line['epoch']) / 2, line['top1_error']) for start, line in zip(starts, lines, strict=False))


def epochs_to(curve: Sequence[tuple[float, float]], target: float) -> float | None:
    """The epoch at which a curve first is down to an error, on straight lines between its points; None if never."""
    if curve and curve[0][1] <= target:
        return curve[0][0]
    for (before, high), (after, low) in itertools.pairwise(curve):
        if low <= target:
            return before + (after - before) * (high - target) / (high - low)
    return None


def try_rate(config: ConfigDict, nonlinearity: str, directory: pathlib.Path, console: Console) -> Trial:
    """Trains at the config's rate, or carries on, and reads the curve.

    Raises:
      UserError: the run cannot be had, for any other reason than that it diverged.
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
    told = (directory / 'metrics.jsonl').stat().st_size > 0  # a run may diverge before its first line
    return Trial(nonlinearity, config.learning_rate, training_errors(read_metrics(directory)) if told else (), diverged)


def fastest(trials: Sequence[Trial]) -> Trial:
    """The trial that reached the target soonest; if none did, the one with the lowest error on its way."""

    def how_good(trial: Trial) -> tuple[float, float]:
        epochs = trial.epochs_to_target
        return math.inf if epochs is None else epochs, min((error for _, error in trial.curve), default=math.inf)

    return min(trials, key=how_good)


def compare(
    configs: Callable[[str], ConfigDict], rates: Sequence[float], workdir: str, console: Console
) -> float | None:
    """Trains every network with every rate, and leaves WORKDIR/figure1.json and WORKDIR/figures/figure1.png and .svg.

    Args:
      configs: makes the experiment for a nonlinearity, whose learning rate is then set; it runs in
        WORKDIR/NONLINEARITY-RATE.
      rates: learning rates to try with each.
      workdir: of the comparison.
      console: where it reports.

    Returns:
      How many times as many epochs tanh needs as ReLUs do, each with its fastest rate; None where one of them never
      is there.

    Raises:
      UserError, StoppedError: as `try_rate`.
    """
    trials, directory = [], pathlib.Path(workdir)
    for nonlinearity, rate in itertools.product(NONLINEARITIES, rates):
        say(console, f'--- {nonlinearity}, rate {rate:g}: run {len(trials) + 1} of {len(NONLINEARITIES) * len(rates)}')
        config = configs(nonlinearity)
        config.learning_rate = rate
        trials.append(try_rate(config, nonlinearity, directory / f'{nonlinearity}-{rate:g}', console))
    best = {name: fastest([trial for trial in trials if trial.nonlinearity == name]) for name in NONLINEARITIES}
    needed = {name: trial.epochs_to_target for name, trial in best.items()}
    ratio = needed['tanh'] / needed['relu'] if None not in needed.values() else None
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
    title = f'{configs("relu").data.source.removeprefix("tfds:")}: training error, each at its fastest rate'
    for path in save(figure_1(curves, TARGET, title), directory / 'figures' / 'figure1', line_art=True):
        say(console, f'wrote {path}')
    console.print(_table(trials, best))
    for line in _conclusion(best, rates, ratio):
        say(console, line)
    return ratio


def _result(trial: Trial) -> str:
    epochs = trial.epochs_to_target
    return 'diverged' if trial.diverged else 'never' if epochs is None else f'{epochs:.2f}'


def _label(trial: Trial) -> str:
    name = {'relu': 'ReLU'}.get(trial.nonlinearity, trial.nonlinearity)
    epochs = trial.epochs_to_target
    when = 'diverged' if trial.diverged else 'not there' if epochs is None else f'{epochs:.2f} epochs'
    return f'{name}, rate {trial.rate:g}: {when}'


def _table(trials: Sequence[Trial], best: Mapping[str, Trial]) -> Table:
    table = Table(title=f'Epochs to {TARGET:.0%} training error')
    table.add_column('rate', justify='right')
    for name in best:
        table.add_column(name, justify='right')
    found = {(trial.rate, trial.nonlinearity): trial for trial in trials}
    for rate in dict.fromkeys(trial.rate for trial in trials):
        cells = [_result(found[rate, name]) + (' *' if found[rate, name] is best[name] else '') for name in best]
        table.add_row(f'{rate:g}', *cells)
    return table


def _conclusion(best: Mapping[str, Trial], rates: Sequence[float], ratio: float | None) -> list[str]:
    lines = []
    for name, trial in best.items():
        if trial.epochs_to_target is None:
            lines.append(f'{name} does not reach {TARGET:.0%} at any of these rates.')
        elif trial.rate in (min(rates), max(rates)):
            lines.append(
                f'{name} is fastest at the last rate that was tried, {trial.rate:g}; beyond may be a faster one.'
            )
    if ratio is not None:
        lines.append(f'tanh needs {ratio:.2f} times as many epochs as ReLU. (The paper, on CIFAR-10: six times.)')
    return lines


def main(argv: Sequence[str]) -> None:
    """Reads the command line and compares."""
    parser = argparse.ArgumentParser(prog='python -m experiments.figure1', description=__doc__.splitlines()[0])
    parser.add_argument('--workdir', required=True, help='where the runs and the figure go')
    parser.add_argument('--data', choices=sorted(RATES), default='digits', help='what to learn; digits by default')
    given = parser.parse_args(argv)
    prefix = '' if given.data == 'digits' else f'{given.data}_'
    console = arguments.start(get_config(f'{prefix}relu'))
    with arguments.complete_config():
        compare(lambda name: get_config(prefix + name), RATES[given.data], given.workdir, console)


if __name__ == '__main__':
    with exit_codes():
        main(sys.argv[1:])
