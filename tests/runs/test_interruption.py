"""What stops a run, and that it does no harm: signals, a second run, divergence, a full disk, damage, a kill."""

import concurrent.futures
import contextlib
import dataclasses
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import jax
import killing
import pytest
from configs import typed
from fakes import console
from launching import wait_for

from alexnet_jax.commands.train import _divergence as divergence_explained
from alexnet_jax.commands.train import train
from alexnet_jax.runs.build import build
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runs.metrics_log import read_metrics
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.interruption import Interruption
from alexnet_jax.training.metrics_window import NotFiniteLossError
from tests import three_layers

STEPS = 23  # of three_layers.py, with a checkpoint every five, and after steps 12 and 23, which end an epoch


class Run:
    """A process that trains, what it has said so far, and how it ended."""

    def __init__(self, *arguments, **more):
        self.process, self.out = killing.start(*arguments, **more), ''
        self._deadline = threading.Timer(120, self.process.kill)
        self._deadline.start()

    def until(self, text):
        for line in self.process.stdout:
            self.out += line
            if text in line:
                return self
        raise AssertionError(f'it never said {text!r}:\n{self.out}')

    def signal(self, number):
        self._signalled = time.monotonic()
        self.process.send_signal(number)
        return self

    def end(self):
        self.out += self.process.stdout.read()
        self.code = self.process.wait()
        self.seconds = time.monotonic() - getattr(self, '_signalled', 0)
        self._deadline.cancel()
        assert 'Traceback' not in self.out
        return self


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    return tmp_path_factory.mktemp('runs')


@pytest.fixture(scope='module')
def begin(place, forked):
    """Starts a run of a name; `hold` is the step in which it stays until `go` is called."""

    def begin(name, *more, hold=None):
        gate = place / f'{name}-{hold}'
        code = killing.HELD.format(step=hold, file=str(gate)) if hold else ''
        started = Run(place / name, place / 'data', *more, code=code, forked=forked)
        started.go = gate.touch
        return started.until('held') if hold else started

    return begin


@pytest.fixture(scope='module')
def undisturbed(begin, place):
    ended = begin('undisturbed').end()
    assert ended.code == 0, ended.out
    return place / 'undisturbed'


@pytest.fixture
def copied(undisturbed, tmp_path):
    """A copy of the run that has ended, to do something to."""
    return shutil.copytree(undisturbed, tmp_path / 'run')


def carry_on(workdir, place, allowed=(), **fields):
    """Carries a run on in this process: what it said, and where it stood at its end."""
    config, said = three_layers.get_config(), console()
    config.update_from_flattened_dict(
        {'data.directory': str(place / 'data'), 'mesh.data': 1, 'mesh.column': 1} | fields
    )
    said.width = 1000
    return train(typed(config), str(workdir), said, allowed), said.file.getvalue()


# Signals.


@pytest.fixture(scope='module')
def twice(begin, undisturbed):
    """Told to stop in the middle of its seventh step, and once more before that step ends."""
    started, workdir = begin('stopped', hold=7), undisturbed.parent / 'stopped'
    wait_for(lambda: killing.steps_saved(workdir))
    started.signal(signal.SIGTERM).until('SIGTERM: finishing').signal(signal.SIGTERM)
    return started.end(), killing.steps_saved(workdir)


@pytest.fixture(scope='module')
def terminated(begin, twice):
    """Then carried on and told to stop in its eighth step; before that step ends, another run wants its workdir."""
    started = begin('stopped', hold=8).signal(signal.SIGTERM).until('SIGTERM: finishing')
    other = begin('stopped').end()
    started.go()
    return started.end(), other


@pytest.fixture(scope='module')
def interrupted(begin, terminated):
    """Then carried on and interrupted in its fourteenth step."""
    started = begin('stopped', hold=14).signal(signal.SIGINT).until('SIGINT: finishing')
    started.go()
    return started.end()


def test_a_second_signal_stops_at_once(twice):
    ended, saved = twice
    assert ended.code == 128 + signal.SIGTERM and ended.seconds < 5
    assert 'SIGTERM: stopped; the same command resumes from the latest checkpoint.' in ended.out
    assert 'Saved' not in ended.out
    assert saved == [5]


def test_sigterm_saves_the_step_and_stops(terminated):
    ended, _ = terminated
    assert 'from step 5,' in ended.out and 'Saved step 8; the same command resumes from there.' in ended.out
    assert ended.code == 128 + signal.SIGTERM
    assert ended.seconds < 10  # most of them for the other run, which came in between


def test_ctrl_c_does_so_too(interrupted):
    assert 'from step 8,' in interrupted.out and 'Saved step 14; ' in interrupted.out
    assert interrupted.code == 130 and interrupted.seconds < 5


def test_a_terminal_that_is_closed_saves_the_step_too(begin, undisturbed):
    """SIGHUP, after which nothing can be printed any more."""
    workdir = undisturbed.parent / 'closed'
    started = begin('closed', hold=8).signal(signal.SIGHUP).until('SIGHUP: finishing the step and saving')
    started.go()
    ended = started.end()
    assert ended.code == 128 + signal.SIGHUP and 'Saved step 8;' in ended.out
    assert killing.steps_saved(workdir)[-1] == 8


def test_on_a_terminal_that_is_gone_the_step_is_saved_too(place, undisturbed, forked):
    ours, theirs = pty.openpty()
    gate, workdir = place / 'gate', place / 'gone'
    code = killing.HELD.format(step=8, file=str(gate))
    given = [f'--workdir={workdir}', '--config=tests/three_layers.py', f'--config.data.directory={place / "data"}']
    process = forked.attached(*given, code=code, descriptor=theirs)
    os.close(theirs)
    said = b''
    while b'held' not in said:
        said += os.read(ours, 4096)
    os.close(ours)  # the terminal's window
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    gate.touch()
    assert process.wait() == 128 + signal.SIGHUP
    assert killing.steps_saved(workdir)[-1] == 8


def test_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption(console()):
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, signal.SIG_IGN)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_a_run_goes_on_without_signals(copied, place):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        progress, _ = pool.submit(carry_on, copied, place, epochs=3).result()
    assert progress.step == 34
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.parametrize('lacks', ['pipe2', 'set_blocking'])
def test_what_a_system_lacks_does_not_leave_signals_changed(lacks, monkeypatch):
    """macOS has no pipe2."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.delattr(os, lacks)
    refused = pytest.raises(AttributeError) if lacks == 'set_blocking' else contextlib.nullcontext()
    with refused, Interruption(console()):
        assert signal.getsignal(signal.SIGINT) != before[signal.SIGINT]
    assert {number: signal.getsignal(number) for number in before} == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_second_run_in_the_same_workdir_is_refused(terminated):
    first, second = terminated
    assert second.code == 2 and second.out.count('error: ') == 1
    assert f'is in use by process {first.process.pid} on {socket.gethostname()}, since 20' in second.out
    assert 'Wait for its end, stop it, or name another --workdir' in second.out


def test_a_run_that_was_stopped_leaves_what_the_undisturbed_one_leaves(interrupted, begin, undisturbed):
    ended = begin('stopped').end()
    assert ended.code == 0 and 'from step 14,' in ended.out, ended.out
    assert killing.left(undisturbed.parent / 'stopped') == killing.left(undisturbed)
    assert (undisturbed.parent / 'stopped' / 'lock').read_text() == ''


def test_a_signal_before_the_first_step_stops_at_once(begin):
    ended = begin('early', '--config.batch_size=96').until('from the start.').signal(signal.SIGINT).end()
    assert ended.code == 130 and ended.seconds < 5
    assert 'SIGINT: stopped; the same command resumes' in ended.out and 'training: ' not in ended.out


def test_signals_mean_afterwards_what_they_meant_before(copied, place):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    carry_on(copied, place)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_lock_that_a_dead_process_left_is_none(copied, place):
    (copied / 'lock').write_text('process 1 on elsewhere, since 2012-12-03 09:00:00\n')
    progress, _ = carry_on(copied, place)
    assert progress.step == STEPS and (copied / 'lock').read_text() == ''


def test_a_workdir_in_use_is_left_as_it_is(copied, place):
    names = sorted(copied.rglob('*'))
    with (copied / 'lock').open('w') as lock:
        lock.write('process 7 on a-host')
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match='is in use by process 7 on a-host'):
            carry_on(copied, place, epochs=3)
    assert sorted(copied.rglob('*')) == names and json.loads((copied / 'config.json').read_text())['epochs'] == 2


# Divergence.


@pytest.mark.parametrize('rate', [1e6, 1e30])
def test_a_run_that_diverges_can_be_carried_on_at_a_lower_rate(rate, copied, place):
    diverging = {'epochs': 3, 'checkpoint_every_steps': 100, 'rate_control.schedule': ()}
    allowed = ['learning_rate', 'rate_control.schedule']
    with pytest.raises(UserError) as caught:
        carry_on(copied, place, allowed, learning_rate=rate, **diverging)
    found = re.fullmatch(
        r'training has diverged: .* step (\d+), at the learning rate (\S+)\. The checkpoint of step 23 is kept; .*'
        r'--config\.learning_rate and --allow_changes=learning_rate\.',
        str(caught.value),
    )
    assert STEPS < int(found[1]) <= STEPS + 12 and float(found[2]) == rate
    assert killing.steps_saved(copied)[-1] == STEPS
    assert not re.search('NaN|Infinity', (copied / 'metrics.jsonl').read_text())
    progress, said = carry_on(copied, place, allowed, learning_rate=1e-4, **diverging)
    assert (progress.step, progress.control.learning_rate) == (34, 1e-4)
    assert 'config.learning_rate: 0.002 before, 0.0001 now' in said  # no checkpoint was made at the other
    lines = [(line['step'], line['split']) for line in read_metrics(copied)]
    assert lines == sorted(set(lines)) and lines[-1] == (34, 'validation')


def test_where_there_is_no_checkpoint_yet_a_run_that_diverges_begins_again(tmp_path):
    with (
        pytest.raises(UserError, match='There is no checkpoint yet; start again with a lower'),
        divergence_explained(Checkpoints(tmp_path)),
    ):
        raise NotFiniteLossError(1, float('nan'), 1e30)


# A full disk.


@pytest.fixture
def disk(tmp_path):
    """A small disk with the run that has ended, and what sets the kB that are free on it."""
    disk = tmp_path / 'disk'
    disk.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=64m', 'none', str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip('nothing may be mounted here')

    def leave(kilobytes):
        used = shutil.disk_usage(disk).used // 1024
        subprocess.run(['mount', '-o', f'remount,size={used + kilobytes}k', str(disk)], check=True)

    yield disk, leave
    subprocess.run(['umount', str(disk)], check=True)


def but_lines(left):
    """The log tells of steps that were made and could not be saved, until the run carries on."""
    return {name: value for name, value in left.items() if name != 'metrics.jsonl'}


FULL = (
    r'a checkpoint cannot be written to .*: {why}\. It takes [\d.]+ MB\. The checkpoint of step 23 is kept; make room'
)


def test_on_a_full_disk_the_run_stops_and_carries_on_when_there_is_room(disk, place, begin, undisturbed, capfd):
    disk, leave = disk
    workdir = shutil.copytree(undisturbed, disk / 'run')
    before = but_lines(killing.left(workdir))

    leave(28)  # kB: less than the arrays take
    with pytest.raises(UserError, match=FULL.format(why=r'[\d.]+ MB are free')):
        carry_on(workdir, place, epochs=3)
    assert but_lines(killing.left(workdir)) == before

    leave(72)  # enough for the arrays, not for the files that they become
    ended = begin(workdir, '--config.epochs=3').end()
    assert ended.code == 2 and ended.out.count('error: ') == 1, ended.out
    assert re.search(FULL.format(why='the disk is full'), ended.out), ended.out
    assert but_lines(killing.left(workdir)) == before and not list(workdir.glob('checkpoints/*tmp*'))

    leave(60_000)
    assert carry_on(workdir, place, epochs=3)[0].step == 34
    assert 'Traceback' not in ''.join(capfd.readouterr())
    shutil.copytree(undisturbed, disk / 'roomy')
    carry_on(disk / 'roomy', place, epochs=3)
    assert killing.left(workdir) == killing.left(disk / 'roomy')


# Damage, and kills.


@pytest.fixture
def damaged(copied):
    """The files of the newest checkpoint's arrays are cut: which of them holds which array is left to chance."""
    for path in (copied / 'checkpoints' / str(STEPS) / 'state').rglob('d/*'):
        os.truncate(path, path.stat().st_size // 2)
    return copied


def test_a_damaged_checkpoint_is_not_used(damaged, begin, undisturbed):
    said = f'the checkpoint {damaged}/checkpoints/{STEPS} is damaged: '
    evaluated = begin(damaged, '--mode=eval').end()
    assert evaluated.code == 0 and said in evaluated.out and 'Taking the one before.' in evaluated.out, evaluated.out
    assert 'bound method' not in evaluated.out and 'tensorstore' not in evaluated.out.lower()
    assert json.loads((damaged / 'eval.json').read_text())['step'] == 20
    assert killing.steps_saved(damaged) == [20, 23]
    ended = begin(damaged).end()
    assert ended.code == 0 and said in ended.out and 'from step 20, epoch 1' in ended.out, ended.out
    assert (damaged / 'damaged_checkpoints' / str(STEPS)).is_dir()
    assert killing.left(damaged) == killing.left(undisturbed)


def test_what_was_killed_leaves_what_the_undisturbed_run_leaves(undisturbed, capsys, forked):
    assert killing.main(['--kills=2', f'--directory={undisturbed.parent}', '--seconds=4'], forked) == 0
    out = capsys.readouterr().out
    assert '2 kills, ' in out and 'different from the undisturbed run: nothing' in out


def test_the_comparison_sees_a_single_bit(copied, undisturbed, place):
    config = three_layers.get_config()
    config.mesh.data = config.mesh.column = 1
    on = build(typed(config))
    checkpoints = Checkpoints(copied)
    state, progress = checkpoints.restore(STEPS, on.shapes, on.mesh)
    shutil.rmtree(copied / 'checkpoints' / str(STEPS))
    velocity = jax.tree.map(lambda x: x.at[(0,) * x.ndim].multiply(1 + 2**-23), state.velocity)
    checkpoints = Checkpoints(copied)
    checkpoints.save(dataclasses.replace(state, velocity=velocity), progress, progress.control.best_error)
    checkpoints.close()
    one, other = killing.left(copied), killing.left(undisturbed)
    assert {name.split('/')[0] for name in one if one[name] != other[name]} == {'velocity'}
