"""Kills a small run again and again, and compares what it leaves with what an undisturbed run leaves.

python tests/killing.py --kills=20 --seed=0 [--directory=DIRECTORY]

Every other kill waits until a checkpoint is being written; the others come at a random moment, the start of the
program included. The kill is SIGKILL, which nothing can catch. Prints a line a kill and ends with code 0 where
parameters, velocity, progress (rate, epoch, position in the data) and metrics.jsonl are the same to the last bit;
only the images per second, which no two runs share, are left out.
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

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SMALL = {
    'epochs': 4,
    'batch_size': 64,
    'checkpoint_every_steps': 3,
    'log_every_steps': 5,
    'keep_checkpoints': 2,
    'rate_control.schedule': ((2, 0.003),),
    **{f'network.conv{layer}.kernels': 16 for layer in range(1, 6)},
    'network.fc6.units': 64,
    'network.fc7.units': 64,
}


def start(workdir: pathlib.Path, data: pathlib.Path, cache: pathlib.Path) -> subprocess.Popen:
    """Starts the run, or carries it on."""
    arguments = [f'--config.{name}={value}' for name, value in SMALL.items()]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(('JAX_', 'XLA_'))}
    cached = {'JAX_COMPILATION_CACHE_DIR': str(cache), 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
    return subprocess.Popen(
        [
            sys.executable,
            'launch.py',
            f'--workdir={workdir}',
            '--config=experiments/digits.py',
            f'--config.data.directory={data}',
            *arguments,
        ],
        cwd=ROOT,
        env=kept | cached | {'JAX_PLATFORMS': 'cpu'},
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


def killed(process: subprocess.Popen, workdir: pathlib.Path, wait: float, writing: bool) -> str:
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
    """What a run leaves: its last checkpoint's arrays and progress, and its log."""
    import jax
    import numpy as np

    from alexnet_jax.checkpoint import Checkpoints
    from alexnet_jax.experiment import build, state_shapes
    from alexnet_jax.integrity import path_of
    from alexnet_jax.workdir import read_config

    experiment = build(read_config(workdir))
    checkpoints = Checkpoints(workdir, read_only=True)
    state, progress = checkpoints.restore(checkpoints.steps()[-1], state_shapes(experiment), experiment.mesh)
    lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    for line in lines:
        line.pop('images_per_second', None)
    arrays = {path_of(path): np.asarray(x).tobytes() for path, x in jax.tree_util.tree_leaves_with_path(state)}
    return {**arrays, 'progress': progress, 'checkpoints': steps_saved(workdir), 'metrics.jsonl': lines}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kills', type=int, default=20)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--directory', type=pathlib.Path, default=None)
    options = parser.parse_args()
    place = options.directory or pathlib.Path(tempfile.mkdtemp())
    data, cache, chance = place / 'data', place / 'cache', random.Random(options.seed)

    started = time.monotonic()
    process = start(place / 'undisturbed', data, cache)
    out = process.communicate()[0]
    assert process.returncode == 0, out
    start(place / 'warm', data, cache).communicate()  # so that the times below are those with a warm cache
    began = time.monotonic()
    start(place / 'warm2', data, cache).communicate()
    length = time.monotonic() - began
    print(f'undisturbed: {began - started:.0f} s cold, {length:.1f} s warm', flush=True)

    workdir, kills, during, run = place / 'killed', 0, 0, 0
    while True:
        process = start(workdir, data, cache)
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
    sys.exit(main())
