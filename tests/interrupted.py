"""Preparations that end before they are complete, in processes of their own, for test_prepare.py to look at.

python interrupted.py kill STORAGE DIRECTORY    killed before every single thing that they do, then run again
python interrupted.py clock STORAGE DIRECTORY   killed by the clock, again and again, until one is complete
python interrupted.py fill STORAGE DIRECTORY    on disks of all sizes, which fill up; then made larger. May mount.
python interrupted.py hold STORAGE DIRECTORY    begins, says so, and stays

Each prints what it found as lines of JSON.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import fakes

from alexnet_jax.data.records import STORAGE
from alexnet_jax.runtime.errors import UserError

TRAIN, VALIDATION, IMAGES_PER_SHARD = 5, 2, 3
PLAIN = fakes.tinted(TRAIN, VALIDATION)


class Counted(fakes.Images):
    """Calls `before` before it gives an image."""

    def __init__(self, before=lambda: None):
        super().__init__(PLAIN._images['train'], PLAIN._images['validation'])
        self._before = before

    def item(self, split, index):
        self._before()
        return super().item(split, index)


def run(directory, storage, source=None):
    return fakes.prepared(
        source or Counted(), directory, image_size=8, storage=storage, images_per_shard=IMAGES_PER_SHARD, threads=1
    )


def in_child(work):
    """Runs it in a process of its own; returns the child's exit status, or minus the signal that ended it."""
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(directory, storage, moment):
    """Prepares, but is killed before the given access to a file below the directory, or to an image."""
    left = moment

    def count():
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    def audit(event, arguments):
        if event in ('open', 'os.rename', 'os.remove', 'os.mkdir') and str(arguments[0]).startswith(str(directory)):
            count()

    sys.addaudithook(audit)
    run(directory, storage, Counted(count))


def complete_shards(partial, ending):
    """Name: identity and time of change, of the shards that have their sums beside them."""
    shards = [path for path in partial.glob(f'*{ending}') if path.with_suffix('.sums').exists()]
    return {path.name: [path.stat().st_ino, path.stat().st_mtime_ns] for path in shards}


def kill(directory, storage):
    moment = 0
    while True:
        where = directory / str(moment) / 'data'
        where.parent.mkdir()
        status = in_child(lambda: killed_at(where, storage, moment))  # noqa: B023
        if status == 0:
            break
        early = where.exists()
        done = complete_shards(where.with_name('data.partial'), STORAGE[storage]) if not early else {}
        again = in_child(lambda: run(where, storage))  # noqa: B023
        kept = {name: [(where / name).stat().st_ino, (where / name).stat().st_mtime_ns] for name in done}
        print(json.dumps({'status': status, 'early': early, 'again': again, 'done': done, 'kept': kept}))
        moment += 1
    shutil.rmtree(where.parent)


def clock(directory, storage):
    def slow():
        time.sleep(0.003)

    kills, status = 0, None
    while status != 0:
        child = os.fork()
        if not child:
            try:
                run(directory / 'data', storage, Counted(slow))
                os._exit(0)
            finally:
                os._exit(1)
        time.sleep(0.01 + 0.007 * kills)
        os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        kills += status != 0
    print(json.dumps({'kills': kills}))


def fill(directory, storage):
    real = shutil.disk_usage
    for size in range(28, 1 << 20, {'jpeg': 12, 'raw': 4}[storage]):
        disk = directory / str(size)
        disk.mkdir()
        if subprocess.run(
            ['mount', '-t', 'tmpfs', '-o', f'size={size}k', 'none', disk], capture_output=True
        ).returncode:
            print(json.dumps({'cannot': 'mount'}))
            return
        shutil.disk_usage = lambda _: real('/')  # as if the images were smaller than it looked from the sample
        try:
            run(disk / 'data', storage)
            complete = True
        except UserError as error:
            complete = False
            print(json.dumps({'size': size, 'error': str(error), 'there': (disk / 'data').exists()}), flush=True)
        subprocess.run(['mount', '-o', 'remount,size=64m', disk], check=True)
        if not complete:
            run(disk / 'data', storage)
        shutil.copytree(disk / 'data', directory / f'result-{size}')
        subprocess.run(['umount', disk], check=True)
        if complete:
            return


def hold(directory, storage):
    def stay():
        print(json.dumps('begun'), flush=True)
        time.sleep(60)

    run(directory / 'data', storage, Counted(stay))


if __name__ == '__main__':
    _, what, storage, directory = sys.argv
    {'kill': kill, 'clock': clock, 'fill': fill, 'hold': hold}[what](pathlib.Path(directory), storage)
