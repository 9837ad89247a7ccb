"""A list of variants and seeds, trained and evaluated one after another, then compared: `--mode=study`."""

import contextlib
import functools
import pathlib
import signal
import subprocess
from collections.abc import Callable, Sequence

from rich.console import Console

from alexnet_jax.commands.compare import compare
from alexnet_jax.runs.eval_json import read_evaluation
from alexnet_jax.runs.metrics_log import last_line
from alexnet_jax.runs.workdir import CONFIG, make_workdir
from alexnet_jax.runtime.errors import StoppedError, UserError, say

BASE = 'base'  # the experiment's own config, among its variants
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK_EVERY = 0.2  # seconds, for a signal

Command = Callable[[str, int, str, str], Sequence[str]]  # variant, seed, workdir and mode to a command line


def study(
    variants: Sequence[str],
    seeds: Sequence[int],
    workdir: str,
    split: str,
    views: Sequence[str],
    command: Command,
    console: Console,
) -> None:
    """Trains and evaluates every variant with every seed, and compares them with the first variant.

    A run is a process of its own, in WORKDIR/VARIANT/seedN, and has the devices to itself. A finished one is left as it
    is, an interrupted one resumes; one that fails is named in the table, and the rest goes on.

    Args:
      variants: of the experiment, the base of the comparison first; 'base' is the experiment itself.
      seeds: for each.
      workdir: for the runs, comparison.json and figures/comparison.png.
      split: of the data set, for the evaluation.
      views: of its images that are to be measured, 'center' or 'ten'.
      command: the command line for a run.
      console: for output.

    Raises:
      UserError: variants or seeds are missing or given twice, `workdir` is that of a run, or no run finished; or some
        did not, after the others were compared.
      StoppedError: a signal stopped a run; the same command resumes.
    """
    _check(variants, seeds, workdir)
    make_workdir(workdir)
    ended, failed = [], []
    trials = [(variant, seed) for seed in seeds for variant in variants]  # so that there is soon something to compare
    for number, (variant, seed) in enumerate(trials, 1):
        run = str(pathlib.Path(workdir, variant, f'seed{seed}'))
        say(console, f'--- {variant}, seed {seed}: run {number} of {len(trials)}, {run}')
        why = _failure(run, functools.partial(command, variant, seed, run), split, views)
        if why:
            say(console, f'{run}: {why}. The study goes on without it.')
            failed.append(f'{run} is missing: {why}.')
        else:
            ended.append((variants.index(variant), run))
    if not ended:
        raise UserError(f'no run of {workdir} finished; their messages are above.')
    if min(ended)[0]:
        failed.append(f'there is no run of {variants[0]}: differences are from another variant.')
    compare([run for _, run in sorted(ended)], workdir, console, failed)
    if len(ended) < len(trials):
        missing = len(trials) - len(ended)
        raise UserError(
            f'{missing} of {len(trials)} runs did not finish: see above; the same command tries them again.'
        )


def _check(variants: Sequence[str], seeds: Sequence[int], workdir: str) -> None:
    for flag, given in (('variants', variants), ('seeds', seeds)):
        twice = [one for place, one in enumerate(given) if one in given[:place]]
        if not given or '' in given or twice:
            why = f'names {twice[0]} twice' if twice else 'is empty, or has an empty name'
            raise UserError(f'--{flag}={",".join(map(str, given))} {why}.')
    if (pathlib.Path(workdir) / CONFIG).exists():
        raise UserError(f'--workdir={workdir} is the directory of a run; name another one for the study.')


def _failure(run: str, command: Callable[[str], Sequence[str]], split: str, views: Sequence[str]) -> str:
    """Trains, which only checks a finished run, and evaluates; returns why that failed, or ''."""
    if code := _call(command('train')):
        return f'training failed (exit code {code})'
    try:
        found, last = read_evaluation(run), last_line(run)['step']
    except UserError as error:
        return str(error).rstrip('.')
    measured = found and (found.step, found.split) == (last, split) and {*views} <= {*found.views}
    if not measured and (code := _call(command('eval'))):
        return f'evaluation failed (exit code {code})'
    return ''


def _call(command: Sequence[str]) -> int:
    """Runs a command, passing signals on to it; returns its exit code.

    Raises:
      StoppedError: a signal was received.
    """
    received: list[int] = []
    heard = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # nohup ignores SIGHUP
    before = {number: signal.signal(number, lambda got, _: received.append(got)) for number in heard}
    try:
        # In a process group of its own, where a terminal's Ctrl-C does not reach it a second time.
        process, passed_on = subprocess.Popen(command, process_group=0), 0
        while True:
            for number in received[passed_on:]:
                process.send_signal(number)
                passed_on += 1
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(timeout=_LOOK_EVERY)
                break
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        raise StoppedError(received[0])
    return code
