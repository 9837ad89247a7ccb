"""Figure 1: epochs to 25 % training error, ReLU against tanh, each at its fastest learning rate: `--mode=figure1`."""

import dataclasses
import itertools
import math
import pathlib
import statistics
from collections.abc import Callable, Mapping, Sequence
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
from alexnet_jax.runs.workdir import has_checkpoint
from alexnet_jax.runtime.errors import UserError, say
from alexnet_jax.runtime.files import write_json
from alexnet_jax.training.metrics_window import NotFiniteLossError

TARGET = 0.25  # training error
NONLINEARITIES = {'relu': ReLU, 'tanh': Tanh}
RATES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)


@dataclasses.dataclass(frozen=True)
class Trial:
    """A network trained at one learning rate.

    Attributes:
      nonlinearity: 'relu' or 'tanh'.
      rate: the learning rate.
      curve: pairs of epoch and training error (0..1).
      diverged: whether the loss became NaN or infinite.
      seed: of the run.
    """

    nonlinearity: str
    rate: float
    curve: tuple[tuple[float, float], ...]
    diverged: bool = False
    seed: int = 0

    @property
    def epochs_to_target(self) -> float | None:
        """Epochs until the error is TARGET; None if it never is, or the run diverged."""
        return None if self.diverged else epochs_to(self.curve, TARGET)


def training_errors(metrics: Sequence[Mapping[str, Any]], steps: int = 1) -> tuple[tuple[float, float], ...]:
    """The training errors in a run's metrics, each at the middle of the steps that it is the mean of.

    Args:
      metrics: lines of metrics.jsonl.
      steps: of a point, at least; lines that are means of fewer, as where an epoch ends, are averaged with the next.
    """
    points, start, begun, wrong = [], 0.0, 0, 0.0
    before = 0
    for line in (line for line in metrics if line['split'] == 'train'):
        wrong += line['top1_error'] * (line['step'] - before)
        before = line['step']
        if before - begun >= steps:
            points.append(((start + line['epoch']) / 2, wrong / (before - begun)))
            start, begun, wrong = line['epoch'], before, 0.0
    return tuple(points)


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


def draw_figure_1(
    config: Config,
    workdir: str,
    console: Console,
    seeds: Sequence[int] = (0,),
    rates: Sequence[float] = RATES,
    from_start: bool = False,
) -> float | None:
    """Trains a network with ReLUs and with tanh, each at its fastest rate, and draws the two.

    The rates are searched with the first seed, from the config's own (see `search`); the others train at the fastest
    alone. A run ends where its error is low enough, or has taken longer than at a rate tried before.

    Leaves WORKDIR/figure1.json, WORKDIR/figures/figure1.png and .svg, and the runs in WORKDIR/NONLINEARITY-RATE and
    WORKDIR/NONLINEARITY-RATE-seedN, which are resumed if interrupted.

    Args:
      config: of the experiment, with either nonlinearity.
      workdir: of the comparison.
      console: for output.
      seeds: one or more; curves are the first's, epochs to the target the mean.
      rates: learning rates to try.
      from_start: as for `train`, for the runs of which no checkpoint is left.

    Returns:
      Epochs that tanh needs, as a multiple of ReLU's; None if one of them never reaches the target.

    Raises:
      UserError: the network has no nonlinearity, or a run fails for another reason than divergence.
      StoppedError: a signal asked it to stop.
    """
    if not any(isinstance(layer, ReLU | Tanh) for _, layer in config.network):
        raise UserError('config.network has neither ReLU nor tanh layers to exchange; take experiments/figure1.py.')
    directory, trials = pathlib.Path(workdir), list[Trial]()

    def run(nonlinearity: str, seed: int, rate: float, epochs: int) -> Trial:
        name = f'{nonlinearity}-{rate:g}' + (f'-seed{seed}' if seed != seeds[0] else '')
        say(console, f'--- {nonlinearity}, rate {rate:g}, seed {seed}: {directory / name}')
        of_trial = with_nonlinearity(config, nonlinearity).replace(learning_rate=rate, seed=seed, epochs=epochs)
        trials.append(run_trial(of_trial, nonlinearity, directory / name, console, from_start))
        return trials[-1]

    best: dict[str, list[Trial]] = {}
    for name in NONLINEARITIES:

        def run_first(rate: float, epochs: int, name: str = name) -> Trial:
            return run(name, seeds[0], rate, epochs)

        best[name] = [search(rates, config.learning_rate, config.epochs, run_first)]
    for name, found in best.items():
        found += [run(name, seed, found[0].rate, config.epochs) for seed in seeds[1:]]
    ratio, error = ratio_of(best)
    write_json(
        directory / 'figure1.json',
        {
            'target': TARGET,
            'trials': [dataclasses.asdict(trial) | {'epochs_to_target': trial.epochs_to_target} for trial in trials],
            'fastest': {name: found[0].rate for name, found in best.items()},
            'ratio': ratio,
            'ratio_standard_error': error,
        },
    )
    curves = {_label(found): found[0].curve for found in best.values()}
    title = f'{config.data.source.removeprefix("tfds:")}: training error, each at its fastest rate'
    write_figure(figure_1(curves, TARGET, title), directory / 'figures' / 'figure1', console, line_art=True)
    console.print(_table(trials, best))
    for line in _conclusion(best, rates, ratio, error):
        say(console, line)
    return ratio


def search(rates: Sequence[float], first: float, epochs: int, run: Callable[[float, int], Trial]) -> Trial:
    """The fastest trial of rates, from the one next to `first` on until both neighbors of the fastest are slower.

    Farther rates are not tried: it is taken for granted that they are slower still.

    Args:
      rates: to try.
      first: where to begin.
      epochs: of a trial, at most; one at another rate than the first ends where it is slower than the fastest so far.
      run: trains at a rate for so many epochs at most.
    """
    rates = sorted(rates)
    places = {min(range(len(rates)), key=lambda place: abs(math.log(rates[place] / first)))}
    trials: dict[int, Trial] = {}
    while places:
        for place in sorted(places):
            soonest = fastest(list(trials.values())).epochs_to_target if trials else None
            trials[place] = run(rates[place], epochs if soonest is None else min(epochs, math.ceil(soonest)))
        at = next(place for place, trial in trials.items() if trial is fastest(list(trials.values())))
        places = {place for place in (at - 1, at + 1) if 0 <= place < len(rates)} - trials.keys()
    return fastest(list(trials.values()))


def ratio_of(best: Mapping[str, Sequence[Trial]]) -> tuple[float | None, float | None]:
    """tanh's mean epochs to the target over ReLU's, and its standard error over seeds.

    The ratio is None where a run does not reach the target; the error where there is one seed.
    """
    means, variances = [], []
    for name in ('tanh', 'relu'):
        epochs = [trial.epochs_to_target for trial in best[name]]
        reached = [one for one in epochs if one is not None]
        if len(reached) < len(epochs):
            return None, None
        means.append(statistics.mean(reached))
        if len(reached) > 1:
            variances.append(statistics.variance(reached) / len(reached) / means[-1] ** 2)
    ratio = means[0] / means[1]
    return ratio, ratio * math.sqrt(sum(variances)) if variances else None


def with_nonlinearity(config: Config, nonlinearity: str) -> Config:
    """The same experiment with 'relu' or 'tanh' in all layers that are either."""
    layer = NONLINEARITIES[nonlinearity]()
    network = {name: layer if isinstance(spec, ReLU | Tanh) else spec for name, spec in config.network}
    family = config.name.removesuffix('relu').removesuffix('tanh')
    return config.replace(network=network, name=f'{family}{nonlinearity}')


def run_trial(
    config: Config, nonlinearity: str, directory: pathlib.Path, console: Console, from_start: bool = False
) -> Trial:
    """Trains at the config's rate, resuming if interrupted, and reads the curve.

    `from_start` is as for `train`, where no checkpoint is left.

    Raises:
      UserError: the run fails for another reason than divergence.
      StoppedError: a signal asked it to stop.
    """
    diverged = False
    try:
        train(config, str(directory), console, from_start=from_start and not has_checkpoint(directory))
    except UserError as error:
        if not isinstance(error.__cause__, NotFiniteLossError | NotFiniteStateError):
            raise
        say(console, str(error))
        diverged = True
    has_lines = (directory / 'metrics.jsonl').stat().st_size > 0  # a run may diverge before its first line
    curve = training_errors(read_metrics(directory), config.log_every_steps) if has_lines else ()
    return Trial(nonlinearity, config.learning_rate, curve, diverged, config.seed)


def _result(trial: Trial) -> str:
    epochs = trial.epochs_to_target
    if epochs is not None:
        return f'{epochs:.2f}'
    return 'diverged' if trial.diverged else f'not in {math.ceil(trial.curve[-1][0]) if trial.curve else 0}'


def _label(trials: Sequence[Trial]) -> str:
    name = {'relu': 'ReLU'}.get(trials[0].nonlinearity, trials[0].nonlinearity)
    return f'{name}, rate {trials[0].rate:g}: {", ".join(map(_result, trials))} epochs'


def _table(trials: Sequence[Trial], best: Mapping[str, Sequence[Trial]]) -> Table:
    table = new_table(f'Epochs to {TARGET:.0%} training error', right=['rate', *best])
    for rate in sorted({trial.rate for trial in trials}):
        cells = [
            ', '.join(
                _result(trial) + (' *' if trial in best[name] else '')
                for trial in trials
                if (trial.rate, trial.nonlinearity) == (rate, name)
            )
            for name in best
        ]
        add_row(table, f'{rate:g}', *cells)
    return table


def _conclusion(
    best: Mapping[str, Sequence[Trial]], rates: Sequence[float], ratio: float | None, error: float | None
) -> list[str]:
    lines = []
    for name, (trial, *_) in best.items():
        if trial.epochs_to_target is None:
            lines.append(f'{name} does not reach {TARGET:.0%} at any of these rates.')
        elif trial.rate in (min(rates), max(rates)):
            lines.append(f'{name} is fastest at the last rate tried, {trial.rate:g}; beyond may be a faster one.')
    if ratio is not None:
        spread = f' (standard error {error:.2f})' if error is not None else ''
        lines.append(
            f'tanh needs {ratio:.2f} times as many epochs as ReLU{spread}. (The paper, on CIFAR-10: six times.)'
        )
    return lines
