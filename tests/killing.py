"""Kills a small run again and again, and compares what it leaves with what an undisturbed run leaves.

python tests/killing.py --kills=20 [--seed=0] [--directory=DIRECTORY] [--config.epochs=8 ...]

Every other kill waits until a checkpoint is being written; the others come at a random moment, the start of the
program included. The kill is SIGKILL, which nothing can catch. Prints a line a kill and ends with code 0 where
parameters, velocity, progress (rate, epoch, position in the data) and metrics.jsonl are the same to the last bit;
only the images per second, which no two runs share, are left out. An undisturbed run that is in the directory
already is not made again.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from configs import typed
from launching import ROOT, Forked, Started, environment, variables

# A run that stays in one step, and says so, until a file is there.
HELD = """import os, time
from alexnet_jax.commands.reporting import Reporter

stepped = Reporter.stepped


def stay(self, step, *rest):
    stepped(self, step, *rest)
    if step == {step}:
        print('held', flush=True)
        while not os.path.exists({file!r}):
            time.sleep(0.01)


Reporter.stepped = stay
"""


def start(workdir: pathlib.Path, data: pathlib.Path, *more: str, code: str = '', forked: Forked | None = None):
    """Starts the run of three_layers.py, or carries it on, in a process of its own.

    Args:
      workdir: of the run.
      data: where its prepared data set is, or will be.
      more: further arguments of launch.py.
      code: runs before launch.py, in the same process.
      forked: makes the process.
    """
    arguments = [f'--workdir={workdir}', '--config=tests/three_layers.py', f'--config.data.directory={data}', *more]
    if forked:
        return forked.start(*arguments, variables={'JAX_PLATFORMS': 'cpu'}, code=code)
    return subprocess.Popen(
        [sys.executable, 'launch.py', *arguments],
        cwd=ROOT,
        env=environment(JAX_PLATFORMS='cpu'),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def being_written(workdir: pathlib.Path) -> bool:
    """Whether a checkpoint is on its way to the disk."""
    return any('tmp' in path.name for path in (workdir / 'checkpoints').glob('*'))


def steps_saved(workdir: pathlib.Path) -> list[int]:
    """The checkpoints that are there."""
    return sorted(int(path.name) for path in (workdir / 'checkpoints').glob('*') if path.name.isdigit())


def killed(process: subprocess.Popen | Started, workdir: pathlib.Path, wait: float, writing: bool) -> str:
    """Kills a run after `wait` seconds, or then at the next checkpoint; says when; '' where it had ended before."""
    until = time.monotonic() + wait
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    while process.poll() is None and writing and not being_written(workdir):
        time.sleep(0.0005)
    if process.poll() is not None:
        return ''
    during = being_written(workdir)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return 'while a checkpoint was written' if during else 'between checkpoints'


def left(workdir: pathlib.Path) -> dict[str, object]:
    """What a run leaves: its last checkpoint's arrays and progress, which one was the best, and its log.

    Of the older checkpoints one may be left too many, where the kill came just before it was to be removed.
    """
    import jax
    import numpy as np

    from alexnet_jax.runs.build import build
    from alexnet_jax.runs.checkpoint import Checkpoints
    from alexnet_jax.runs.checksums import name_of
    from alexnet_jax.runs.workdir import read_config

    experiment = build(typed(read_config(workdir)))
    checkpoints = Checkpoints(workdir, read_only=True)
    state, progress = checkpoints.restore(checkpoints.steps()[-1], experiment.shapes, experiment.mesh)
    lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    for line in lines:
        line.pop('images_per_second', None)
    arrays = {name_of(path): np.asarray(x).tobytes() for path, x in jax.tree_util.tree_leaves_with_path(state)}
    return {**arrays, 'progress': progress, 'best': checkpoints.best(), 'metrics.jsonl': lines}


def main(arguments: list[str], forked: Forked | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kills', type=int, default=20)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--directory', type=pathlib.Path, default=None)
    parser.add_argument('--seconds', type=float, default=None, help='that a run takes; measured by default')
    options, fields = parser.parse_known_args(arguments)
    place = options.directory or pathlib.Path(tempfile.mkdtemp())
    chance = random.Random(options.seed)
    if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
        os.environ |= variables(str(place / 'programs'))

    def begin(name: str) -> subprocess.Popen | Started:
        return start(place / name, place / 'data', *fields, forked=forked)

    length = options.seconds
    if not steps_saved(place / 'undisturbed'):
        print(begin('undisturbed').communicate()[0], flush=True)
    if length is None:  # with programs that are compiled already
        began = time.monotonic()
        begin('warm').communicate()
        length = time.monotonic() - began

    workdir, kills, during, run = place / 'killed', 0, 0, 0
    while True:
        process = begin('killed')
        moment = ''
        if kills < options.kills:
            # The last steps shall be there for the last kills as well, so most come soon after the start.
            moment = killed(process, workdir, chance.uniform(0, 0.9) * length, writing=run % 2 == 1)
        if moment:
            kills += 1
            during += 'while' in moment
            print(f'kill {kills}: {moment}, checkpoints {steps_saved(workdir)}', flush=True)
        else:
            out = process.communicate()[0]
            assert process.returncode == 0, out
            if kills >= options.kills:
                break
            workdir.rename(place / f'ended-{run}')
        run += 1
    finished = [workdir, *place.glob('ended-*')]
    expected = left(place / 'undisturbed')
    different = [
        f'{one.name}: {name}' for one in finished for name, value in left(one).items() if value != expected[name]
    ]
    print(f'{kills} kills, {during} of them while a checkpoint was written; {len(finished)} run(s) that were killed')
    print(f'different from the undisturbed run: {", ".join(different) or "nothing"}')
    return bool(different)


if __name__ == '__main__':
    from alexnet_jax.runtime.devices import choose_platform

    choose_platform()
    sys.exit(main(sys.argv[1:]))
