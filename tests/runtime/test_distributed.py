"""Several processes: how they join, what each reads, that they train as one does, and what happens when one is lost."""

import json
import re
import signal
import socket
import threading
import time

import jax
import killing
import numpy as np
import pytest
from configs import typed
from fakes import console
from jax.sharding import NamedSharding, PartitionSpec
from launching import wait_for

from alexnet_jax.commands.train import train
from alexnet_jax.data.device_feed import local_positions, to_devices
from alexnet_jax.model.columns import make_mesh
from alexnet_jax.runs.metrics_log import read_metrics
from alexnet_jax.runtime import distributed
from alexnet_jax.runtime.errors import UserError
from tests import three_layers

MESHES = [(1, 1), (1, 2), (2, 1), (2, 2), (4, 1)]


# What a process holds.


@pytest.mark.parametrize('data, column', MESHES)
def test_one_process_holds_every_place(data, column):
    mesh = make_mesh(2, data, column)
    assert local_positions(mesh, 12).tolist() == list(range(12))


@pytest.mark.parametrize('data, column', MESHES)
def test_a_batch_is_dealt_along_the_data_axis(data, column):
    mesh = make_mesh(2, data, column)
    batch = {'image': np.arange(8 * 3).reshape(8, 3), 'label': np.arange(8)}
    sent = to_devices(batch, mesh)
    for name, array in sent.items():
        assert array.sharding.is_equivalent_to(NamedSharding(mesh, PartitionSpec('data')), array.ndim)
        assert (np.asarray(array) == batch[name]).all()
        assert {piece.data.shape[0] for piece in array.addressable_shards} == {8 // data}


class Part:
    """Stands for a batch's sharding where this process has some of the mesh's rows."""

    def __init__(self, rows, of):
        self._rows, self._of = rows, of

    def addressable_devices_indices_map(self, shape):
        share = shape[0] // self._of
        return {(row, column): (slice(row * share, (row + 1) * share),) for row in self._rows for column in (0, 1)}


@pytest.mark.parametrize(
    'rows, of, expected',
    [([1], 2, [6, 7, 8, 9, 10, 11]), ([0], 2, [0, 1, 2, 3, 4, 5]), ([3, 1], 4, [3, 4, 5, 9, 10, 11])],
)
def test_a_process_holds_the_places_of_its_devices_once(rows, of, expected, monkeypatch):
    monkeypatch.setattr('alexnet_jax.data.device_feed.batch_sharding', lambda mesh: Part(rows, of))
    assert local_positions(None, 12).tolist() == expected


# How processes join.

SLURM = {'SLURM_STEP_NUM_TASKS': '4', 'SLURM_PROCID': '3', 'SLURM_STEP_NODELIST': 'node[1-4]'}
OPEN_MPI_5 = {'OMPI_COMM_WORLD_SIZE': '4', 'OMPI_COMM_WORLD_RANK': '3'}
OPEN_MPI_4 = OPEN_MPI_5 | {'OMPI_MCA_orte_hnp_uri': '1531576320.0;tcp://10.96.0.1:34911'}


@pytest.fixture
def joined(monkeypatch):
    """Joins with the given environment; what JAX would have been told, and how many processes it takes there to be."""
    for name in {*SLURM, *OPEN_MPI_4}:
        monkeypatch.delenv(name, raising=False)
    told = []
    monkeypatch.setattr(jax.distributed, 'initialize', lambda *given, **more: told.append((given, more)))
    monkeypatch.setattr(distributed.faulthandler, 'disable', lambda: None)

    def joined(environment, *given):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return distributed.join(*given), told

    return joined


@pytest.mark.parametrize(
    'environment',
    [{}, {'SLURM_STEP_NUM_TASKS': '1', 'SLURM_PROCID': '0'}, {'SLURM_PROCID': '0'}, {'OMPI_COMM_WORLD_SIZE': '1'}],
    ids=str,
)
def test_a_single_process_joins_nothing(environment, joined):
    assert joined(environment) == (1, [])


@pytest.mark.parametrize(
    'environment, given, expected',
    [
        ({}, ('here:1234', 2, 0), ('here:1234', 2, 0)),
        (SLURM, (), (None, None, None)),
        (OPEN_MPI_4, (), (None, None, None)),
        (OPEN_MPI_5, ('here:1234',), ('here:1234', 4, 3)),
        (SLURM, ('here:1234',), ('here:1234', 4, 3)),
        (SLURM, ('here:1234', 2, 1), ('here:1234', 2, 1)),  # what is typed counts more
    ],
    ids=['all three', 'SLURM', 'Open MPI 4', 'Open MPI 5', 'SLURM and an address', 'SLURM and all three'],
)
def test_processes_join(environment, given, expected, joined):
    count, ((arguments, more),) = joined(environment, *given)
    assert arguments == expected and count == (given[1] if len(given) == 3 else 4)
    assert 10 <= more['heartbeat_timeout_seconds'] <= 60 <= more['initialization_timeout']


@pytest.mark.parametrize(
    'address, right',
    [
        *((f'here:{port}', True) for port in (1, 80, 9999, 64999, 65000, 65535)),
        *((f'here:{port}', False) for port in ('0', '65536', '99999', '123456', '01', '', 'x')),
        ('[::1]:65000', True),
        ('10.0.0.1:65001', True),
        ('here', False),
    ],
)
def test_ports_of_the_coordinator(address, right, joined):
    if right:
        assert joined({}, address, 2, 0)[1][0][0] == (address, 2, 0)
    else:
        with pytest.raises(UserError, match=re.escape(f'--coordinator={address}: give HOST:PORT')):
            joined({}, address, 2, 0)


@pytest.mark.parametrize(
    'environment, given, message',
    [
        ({}, ('here:1234', None, None), '--coordinator=HOST:PORT, --processes=COUNT and --process=NUMBER belong'),
        ({}, (None, 2, 0), 'belong together; give all three, or none under SLURM'),
        ({}, ('here:1234', 2, None), 'belong together'),
        (SLURM, (None, None, 1), 'belong together'),
        (SLURM, (None, 4, 3), 'belong together'),
        (OPEN_MPI_5, (), 'Open MPI does not say where process 0 is; give --coordinator=HOST:PORT'),
        ({}, ('here:1234', 2, 2), '--process=2 must be from 0 to 1, as --processes=2'),
        ({}, ('here:1234', 2, -1), '--process=-1 must be from 0 to 1'),
        ({}, ('here:1234', 0, 0), '--process=0 must be'),
    ],
)
def test_what_cannot_join_is_told_what_is_missing(environment, given, message, joined):
    with pytest.raises(UserError, match=re.escape(message)):
        joined(environment, *given)


@pytest.mark.parametrize('error', [RuntimeError('DEADLINE_EXCEEDED: nobody\nthere'), ValueError('no address')])
def test_others_that_cannot_be_reached(error, joined, monkeypatch):
    def unreachable(*given, **more):
        raise error

    monkeypatch.setattr(jax.distributed, 'initialize', unreachable)
    first = str(error).splitlines()[0]
    with pytest.raises(UserError, match=f'^process 1 of 2 cannot join the others at here:1234: {first}. Are all of'):
        joined({}, 'here:1234', 2, 1)


# What a process that fails says, here of one that takes itself for one of several.
FAILS = """import jax
from alexnet_jax.commands import inspect


def fail(*_):
    raise {error}


jax.distributed.is_initialized, inspect.inspect = lambda: True, fail
"""


@pytest.mark.parametrize(
    'error, code, words',
    [
        ("jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory')", 2, 'the devices have not enough memory'),
        ("jax.errors.JaxRuntimeError('INTERNAL: closed by peer')", 2, 'another process of this run has been lost'),
        ("FloatingPointError('invalid value (nan) in jit')", 2, 'JAX_DEBUG_NANS stops where'),
        ("MemoryError('')", 2, 'the memory of this machine is used up'),
        ("KeyError('x')", 1, 'this is a defect of the program'),
    ],
)
def test_a_process_that_fails_says_why(error, code, words, forked):
    process = forked.start('--mode=inspect', '--config=experiments/digits.py', code=FAILS.format(error=error))
    out, _ = process.communicate()
    assert process.returncode == code and f'error: process 0 of 1: {words}' in out, out


# Two processes of two devices each.

STEPS = 23  # of three_layers.py; a checkpoint after 5, 10, 12, 15, 20 and 23
# JAX lets only process 0 keep what it compiled; here all do.
KEEPING = """import types
from jax._src import compiler

compiler.distributed = types.SimpleNamespace(global_state=types.SimpleNamespace(process_id=0))
"""


# The last one leaves late, when the service of process 0 is long gone.
LINGERING = """import os, time

leave = os._exit


def late(code):
    time.sleep(2)
    leave(code)


os._exit = late
"""


class Pair:
    """Two processes of one run; `hold` is the step in which the first stays until `go` is called."""

    def __init__(self, place, forked, *more, hold=None):
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            port = probe.getsockname()[1]
        together = ['--config.mesh.data=2', '--config.mesh.column=2', f'--coordinator=127.0.0.1:{port}']
        gate = place / f'gate-{port}'
        held = killing.HELD.format(step=hold, file=str(gate)) if hold else ''
        self.go, self.out = gate.touch, ['', '']
        self.both = [
            killing.start(
                place / 'together',
                place / 'data',
                *[*together, '--processes=2', f'--process={number}', *more],
                code=KEEPING + (LINGERING if number else held),
                forked=forked,
            )
            for number in (0, 1)
        ]
        self._deadlines = [threading.Timer(120, process.kill) for process in self.both]
        for deadline in self._deadlines:
            deadline.start()
        self._readers = [threading.Thread(target=self._read, args=(number,)) for number in (0, 1)]
        for reader in self._readers:
            reader.start()
        wait_for(lambda: not hold or 'held' in self.out[0], *self.both)

    def _read(self, number):
        for line in self.both[number].stdout:
            self.out[number] += line

    def end(self):
        self.codes = [process.wait() for process in self.both]
        for thread in [*self._readers, *self._deadlines]:
            (thread.cancel if isinstance(thread, threading.Timer) else thread.join)()
        return self


LOST = 'another process of this run has been lost|JAX distributed service detected fatal errors'


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    return tmp_path_factory.mktemp('runs')


def lose(place, forked, number, hold, saved):
    """One process is killed, when a step is saved; returns both, and the seconds until the other had ended."""
    pair = Pair(place, forked, hold=hold)
    wait_for(lambda: saved in killing.steps_saved(place / 'together'), *pair.both)
    pair.both[number].kill()
    began = time.monotonic()
    pair.go()
    pair.both[1 - number].wait()
    return pair.end(), time.monotonic() - began


@pytest.fixture(scope='module')
def without_the_leader(place, forked):
    return lose(place, forked, 0, hold=7, saved=5)


@pytest.fixture(scope='module')
def without_the_other(place, forked, without_the_leader):
    return lose(place, forked, 1, hold=13, saved=12)


@pytest.fixture(scope='module')
def terminated(place, forked, without_the_other):
    """Carried on; then the process that does not lead is told to stop."""
    pair = Pair(place, forked, hold=14)
    pair.both[1].send_signal(signal.SIGTERM)
    time.sleep(0.5)
    pair.go()
    return pair.end()


@pytest.fixture(scope='module')
def ended(place, forked, terminated):
    """Carried on to the end."""
    return Pair(place, forked).end()


@pytest.mark.parametrize('number, which', [(0, 'without_the_leader'), (1, 'without_the_other')])
def test_where_a_process_is_lost_the_other_ends_and_says_so(number, which, request):
    pair, seconds = request.getfixturevalue(which)
    assert pair.codes[number] == -signal.SIGKILL
    assert pair.codes[1 - number] not in (0, None) and seconds < 60
    assert re.search(LOST, pair.out[1 - number]), pair.out


def test_they_carry_on_from_the_newest_checkpoint(without_the_other, terminated, ended):
    for pair, step in ((without_the_other[0], 5), (terminated, 12), (ended, 20)):
        assert f'; from step {step}, epoch' in pair.out[0]


def test_a_signal_to_one_stops_both_at_the_same_step(terminated):
    assert terminated.codes == [128 + signal.SIGTERM] * 2, terminated.out
    assert 'Saved step 20; the same command resumes from there.' in terminated.out[0]


def test_only_the_first_prints(ended):
    assert ended.codes == [0, 0], ended.out
    assert f'Ended after step {STEPS}, epoch 2' in ended.out[0] and 'in 2 processes' in ended.out[0]
    assert not re.search('training: |epoch|Ended|Running', ended.out[1])


def test_they_leave_what_one_process_leaves(ended, place):
    config = three_layers.get_config()
    config.update_from_flattened_dict({'data.directory': str(place / 'data'), 'mesh.data': 2, 'mesh.column': 2})
    train(typed(config), str(place / 'alone'), console())
    together, alone = killing.left(place / 'together'), killing.left(place / 'alone')
    assert (together['progress'], together['best']) == (alone['progress'], alone['best'])
    for one, other in zip(together.pop('metrics.jsonl'), alone.pop('metrics.jsonl'), strict=True):
        assert one.pop('split') == other.pop('split') and one == pytest.approx(other, rel=1e-5)
    for name, bits in alone.items():
        if isinstance(bits, bytes) and name != 'step':
            one, other = (np.frombuffer(x, np.float32) for x in (together[name], bits))
            assert np.abs(one - other).max() <= 5e-6 * np.abs(other).max(), name  # measured: 5e-7
    lines = [(line['step'], line['split']) for line in read_metrics(place / 'together')]
    assert lines == sorted(set(lines)) and lines[-1] == (STEPS, 'validation')


def test_they_evaluate_every_image_once(ended, place, forked):
    pair = Pair(place, forked, '--mode=eval', '--config.batch_size=100').end()  # the last batch is not full
    assert pair.codes == [0, 0], pair.out
    result, line = json.loads((place / 'together' / 'eval.json').read_text()), read_metrics(place / 'together')[-1]
    assert (result['examples'], result['step']) == (360, STEPS)
    for name in ('top1_error', 'top5_error'):
        assert result['views']['center'][name] == line[name]
    assert result['views']['center']['loss'] == pytest.approx(line['loss'], rel=1e-6)
    assert 'each counted once' in pair.out[0] and 'counted' not in pair.out[1]


def test_other_modes_run_in_one_process(tmp_path, forked):
    two = 'from alexnet_jax.runtime import distributed\n\ndistributed.join = lambda *given: 2\n'
    process = killing.start(tmp_path, tmp_path, '--mode=neighbors', '--layer=fc6', code=two, forked=forked)
    out = process.communicate()[0]
    assert process.returncode == 2 and 'error: --mode=neighbors runs in one process; train and eval may' in out
