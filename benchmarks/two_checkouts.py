"""The same commands in two checkouts of this software, in turns, with the ratio of their speeds.

    python -m benchmarks.two_checkouts --before=../before

Each checkout runs with a compilation cache of its own, filled by a first round that does not count:

start     the embedded example, one epoch: from the command to the end of the process, mostly start-up
digits    the embedded example, all of its epochs
step      a training step of the paper's network, batches of 128 on made-up images (`--mode=profile`)

What bounds them: imports and the loading of compiled programs; the step and the pipeline; arithmetic. See
docs/performance.md.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

DIGITS = '--config=experiments/digits.py'
CASES = {
    'start': [DIGITS, '--config.epochs=1'],
    'digits': [DIGITS],
    'step': ['--config=experiments/paper.py', '--mode=profile', '--steps=4'],
}


def measure(case: str, checkout: pathlib.Path, place: pathlib.Path, number: int) -> float:
    """Seconds that a case takes in a checkout: of the whole process, or of a step."""
    workdir = place / f'{case}{number}'
    data = [] if case == 'step' else [f'--config.data.directory={place / "data"}']
    environment = os.environ | {'XDG_CACHE_HOME': str(place / 'cache'), 'JAX_PLATFORMS': 'cpu'}
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, 'launch.py', f'--workdir={workdir}', *CASES[case], *data],
        cwd=checkout,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    seconds = time.perf_counter() - began
    if case == 'step':
        return json.loads((workdir / 'profile' / 'profile.json').read_text())['ms_without_profiler'] / 1000
    return seconds


def main(argv: Sequence[str]) -> None:
    """Measures both checkouts and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--before', required=True, type=pathlib.Path, help='the other checkout')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--cases', default=','.join(CASES), help='some of them, separated by commas')
    given = parser.parse_args(argv)
    here = pathlib.Path(__file__).resolve().parents[1]
    table = Table(title=f'Seconds, median of {given.rounds} (least to most), and how many times as fast it is now')
    for column in ('case', 'before', 'now', 'ratio'):
        table.add_column(column, justify='right')
    with tempfile.TemporaryDirectory() as directory:
        sides = {'before': given.before.resolve(), 'now': here}
        for case in given.cases.split(','):
            found: dict[str, list[float]] = {side: [] for side in sides}
            for number in range(given.rounds + 1):
                for side, checkout in sides.items():
                    place = pathlib.Path(directory, side)
                    seconds = measure(case, checkout, place, number)
                    if number:
                        found[side].append(seconds)
            before, now = (statistics.median(found[side]) for side in sides)
            cells = [f'{statistics.median(one):.2f} ({min(one):.2f} to {max(one):.2f})' for one in found.values()]
            table.add_row(case, *cells, f'{before / now:.3f}')
    Console().print(table)


if __name__ == '__main__':
    main(sys.argv[1:])
