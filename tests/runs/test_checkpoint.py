"""Checkpoints: every bit and all progress come back, on any mesh; the newest and the best stay; others are refused."""

import dataclasses
import functools
import logging
import shutil
import sys
import threading
import types
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from configs import typed

from alexnet_jax.runs import checkpoint
from alexnet_jax.runs.build import build
from alexnet_jax.runs.checkpoint import Checkpoints, NotFiniteStateError
from alexnet_jax.runs.checksums import examine
from alexnet_jax.runs.progress import Progress
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.quiet import silence_checkpoint_libraries
from alexnet_jax.training.optimizer import RateControl
from alexnet_jax.training.step import state_sharding
from experiments import digits

CONTROL = RateControl(0.1 + 0.2, 1 / 3, 2 / 7, epochs_without_improvement=3, drops=2, finished=True)
MESHES = [(1, 1), (1, 2), (2, 1), (2, 2)]


@functools.cache
def experiment(data=1, column=1, without=(), **kernels):
    """Small, on a mesh of data x column; `kernels` by layer, and layers to leave out."""
    config = digits.get_config()
    config.mesh.data, config.mesh.column = data, column
    for name in ('conv1', 'conv2', 'conv3', 'conv4', 'conv5'):
        config.network[name].kernels = kernels.get(name, 16)
    config.network.fc6.units = config.network.fc7.units = 32
    for name in without:
        del config.network[name]
    return build(typed(config))


def made_up_state(on, seed=0):
    """A training state of random bits on the experiment's mesh, of all that is finite."""
    random = np.random.default_rng(seed)

    def bits(shape):
        words = random.integers(0, 2**32, shape.shape, np.uint32)
        words ^= np.where(words & 0x7F800000 == 0x7F800000, 0x800000, 0).astype(np.uint32)
        return words.view(np.float32) if shape.dtype == jnp.float32 else words.astype(shape.dtype)

    shapes = on.shapes
    return jax.tree.map(lambda x, where: jax.device_put(bits(x), where), shapes, state_sharding(shapes, on.mesh))


def leaves(state):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def assert_same_bits(one, other):
    one, other = leaves(one), leaves(other)
    assert one.keys() == other.keys() and len(one) == 33  # 16 parameters, 16 velocities, the step
    for name, leaf in one.items():
        assert other[name].dtype == leaf.dtype and other[name].shape == leaf.shape, name
        assert np.asarray(other[name]).tobytes() == np.asarray(leaf).tobytes(), name


def save(workdir, errors, keep=3):
    """Saves steps 1, 2, ...; yields the checkpoints after each, once it is on disk."""
    state = made_up_state(experiment())
    checkpoints = Checkpoints(workdir, keep=keep)
    for step, error in enumerate(errors, start=1):
        checkpoints.save(state, Progress(step, step, CONTROL), error)
        checkpoints.wait()
        yield checkpoints
    checkpoints.close()


def everything(directory):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in sorted([directory, *directory.rglob('*')])
    }


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    """A workdir with the steps 10 and 20, and the states saved in them."""
    workdir = tmp_path_factory.mktemp('saved')
    checkpoints = Checkpoints(workdir)
    states = {step: made_up_state(experiment(), seed=step) for step in (10, 20)}
    for step, state in states.items():
        checkpoints.save(state, Progress(step, step // 7, dataclasses.replace(CONTROL, drops=step)), 1 / step)
    checkpoints.close()
    return workdir, states


@pytest.mark.parametrize('step', [10, 20])
def test_restored_bit_for_bit(saved, step):
    workdir, states = saved
    on = experiment()
    state, progress = Checkpoints(workdir).restore(step, on.shapes, on.mesh)
    assert_same_bits(states[step], state)
    assert progress == Progress(step, step // 7, dataclasses.replace(CONTROL, drops=step))
    assert type(progress.control) is RateControl and progress.control.finished is True


def test_the_made_up_states_are_hard_to_keep(saved):
    _, states = saved
    kernel = np.asarray(states[10].parameters['fc6']['kernel'])
    assert np.isfinite(kernel).all() and (np.abs(kernel[kernel != 0]) < np.finfo(np.float32).tiny).any()
    assert (np.asarray(states[20].parameters['fc6']['kernel']) != kernel).any()


def test_changes_after_the_call_do_not_reach_the_checkpoint(tmp_path):
    on, checkpoints = experiment(), Checkpoints(tmp_path)
    state = made_up_state(on)
    expected = jax.tree.map(lambda x: np.array(x, copy=True), state)
    checkpoints.save(state, Progress(1, 0, CONTROL), None)
    for leaf in jax.tree.leaves(state):
        leaf.delete()  # as the next training step consumes it
    checkpoints.close()
    assert_same_bits(expected, Checkpoints(tmp_path).restore(1, on.shapes, on.mesh)[0])


@pytest.mark.parametrize('mesh', MESHES)
def test_restored_on_another_mesh(saved, mesh):
    workdir, states = saved
    on = experiment(*mesh)
    state, _ = Checkpoints(workdir).restore(20, on.shapes, on.mesh)
    assert_same_bits(states[20], state)
    for leaf, where in zip(jax.tree.leaves(state), jax.tree.leaves(state_sharding(state, on.mesh)), strict=True):
        assert leaf.sharding.is_equivalent_to(where, leaf.ndim)
        assert len(leaf.devices()) == mesh[0] * mesh[1]
    for name, part in (('kernel', (11, 11, 3, 8)), ('bias', (8,))):
        pieces = state.parameters['conv1'][name].addressable_shards
        assert {piece.data.shape for piece in pieces} == {(2 // mesh[1], *part)}


def test_written_on_four_devices_read_on_one(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    state = made_up_state(experiment(2, 2))
    checkpoints.save(state, Progress(3, 1, CONTROL), 0.5)
    checkpoints.close()
    on = experiment()
    restored, _ = Checkpoints(tmp_path).restore(3, on.shapes, on.mesh)
    assert_same_bits(state, restored)
    assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(restored))


def test_the_newest_and_the_best_stay(tmp_path):
    errors = [0.9, 0.2, None, 0.5, None, 0.4, 0.1, 0.3, None]
    expected = [
        ([1], 1),
        ([1, 2], 2),
        ([2, 3], 2),
        ([2, 3, 4], 2),
        ([2, 4, 5], 2),
        ([2, 5, 6], 2),
        ([6, 7], 7),  # a new best
        ([7, 8], 7),
        ([7, 8, 9], 7),
    ]
    for (steps, best), checkpoints in zip(expected, save(tmp_path, errors, keep=2), strict=True):
        again = Checkpoints(tmp_path, read_only=True)  # what is on disk, rather than what this object remembers
        for view in (checkpoints, again):
            assert (view.steps(), view.best()) == (steps, best)
            assert (view.find('newest'), view.find('best'), view.find(str(steps[0]))) == (steps[-1], best, steps[0])
        assert sorted(int(path.name) for path in (tmp_path / 'checkpoints').iterdir()) == steps


def test_as_many_as_asked_for_stay(tmp_path):
    *_, checkpoints = save(tmp_path, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], keep=4)
    assert checkpoints.steps() == [1, 3, 4, 5, 6]


def test_of_equally_good_ones_the_latest_is_the_best(tmp_path):
    seen = [(view.steps(), view.best()) for view in save(tmp_path, [0.25, 0.5, 0.25, 0.5, 0.5], keep=1)]
    assert seen == [([1], 1), ([1, 2], 1), ([3], 3), ([3, 4], 3), ([3, 5], 3)]


def test_none_is_best_where_none_was_validated(tmp_path):
    *_, checkpoints = save(tmp_path, [None, None, None], keep=2)
    assert (checkpoints.steps(), checkpoints.best()) == ([2, 3], None)
    with pytest.raises(UserError, match=r'--checkpoint=best: .* take newest, best, or one of 2, 3'):
        checkpoints.find('best')


@pytest.mark.parametrize('which', ['15', '1', '010', 'last', '', '-1', 'None'])
def test_unknown_checkpoints_are_refused(saved, which):
    with pytest.raises(UserError, match=f'^--checkpoint={which}: .* newest, best, or one of 10, 20'):
        Checkpoints(saved[0], read_only=True).find(which)


@pytest.mark.parametrize(
    'other, name, there, here',
    [
        ({'conv1': 32}, 'conv1/bias', 'is [2, 8]', 'is [2, 16]'),
        ({'conv3': 32, 'conv4': 32}, 'conv3/bias', 'is [2, 8]', 'is [2, 16]'),
        ({'without': ('conv4', 'relu4')}, 'conv4/bias', 'is [2, 8]', 'does not exist'),
        # conv3 has half the kernels, hence conv4 sees half as many: its bias is the same, its kernel is not.
        ({'without': ('conv5', 'relu5'), 'conv4': 16}, 'conv5/bias', 'is [2, 8]', 'does not exist'),
    ],
    ids=str,
)
def test_another_network_is_refused(saved, other, name, there, here):
    workdir, _ = saved
    on = experiment(**other)
    before = everything(workdir)
    with pytest.raises(UserError) as caught:
        Checkpoints(workdir, read_only=True).restore(20, on.shapes, on.mesh)
    message = str(caught.value)
    assert f'the parameter {name} {there} in the checkpoint and {here} in the config' in message
    assert str(workdir / 'checkpoints' / '20') in message and 'config.json' in message
    assert everything(workdir) == before


def test_a_network_with_one_layer_more_is_refused(tmp_path):
    smaller, on = experiment(without=('conv4', 'relu4')), experiment()
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(made_up_state(smaller), Progress(1, 0, CONTROL), None)
    checkpoints.close()
    with pytest.raises(UserError, match=r'parameter conv4/bias does not exist in the checkpoint and is \[2, 8\] in'):
        Checkpoints(tmp_path).restore(1, on.shapes, on.mesh)


def test_only_the_kernel_differs(tmp_path):
    """Its bias is named first where both differ; here the bias is alike."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(made_up_state(experiment()), Progress(1, 0, CONTROL), None)
    checkpoints.close()
    on = experiment(without=('exchange3',))  # conv3 then sees half as many channels
    with pytest.raises(UserError, match=r'conv3/kernel is \[2, 3, 3, 16, 8\] in the checkpoint and is \[2, 3, 3, 8, 8'):
        Checkpoints(tmp_path).restore(1, on.shapes, on.mesh)


@pytest.fixture
def interrupted(saved, tmp_path):
    """A workdir in whose checkpoints a save was cut off."""
    shutil.copytree(saved[0], tmp_path / 'run')
    directory = tmp_path / 'run' / 'checkpoints'
    shutil.copytree(directory / '20', directory / '30.orbax-checkpoint-tmp')
    (directory / '30.orbax-checkpoint-tmp' / 'commit_success.txt').unlink()
    return tmp_path / 'run'


def test_read_only_touches_nothing(interrupted, saved):
    before = everything(interrupted)
    on, checkpoints = experiment(), Checkpoints(interrupted, keep=1, read_only=True)
    assert (checkpoints.steps(), checkpoints.best(), checkpoints.find('newest')) == ([10, 20], 20, 20)
    state, _ = checkpoints.restore(10, on.shapes, on.mesh)
    assert_same_bits(saved[1][10], state)
    checkpoints.close()
    assert everything(interrupted) == before


def test_what_a_cut_off_save_left_is_no_checkpoint_and_goes_away(interrupted):
    checkpoints = Checkpoints(interrupted)
    assert checkpoints.steps() == [10, 20]
    checkpoints.save(made_up_state(experiment()), Progress(30, 1, CONTROL), None)  # the very step that was cut off
    checkpoints.close()
    assert sorted(path.name for path in (interrupted / 'checkpoints').iterdir()) == ['10', '20', '30']
    on = experiment()
    assert_same_bits(made_up_state(on), Checkpoints(interrupted).restore(30, on.shapes, on.mesh)[0])


def test_read_only_works_without_a_directory(tmp_path):
    workdir = tmp_path / 'not' / 'there'
    checkpoints = Checkpoints(workdir, read_only=True)
    assert (checkpoints.steps(), checkpoints.best()) == ([], None)
    with pytest.raises(UserError, match='holds no checkpoint; train first, or name another --workdir') as caught:
        checkpoints.find('newest')
    assert str(workdir / 'checkpoints') in str(caught.value)
    checkpoints.close()
    assert list(tmp_path.iterdir()) == []


def test_the_directory_is_made_unless_read_only(tmp_path):
    Checkpoints(tmp_path / 'run').close()
    assert (tmp_path / 'run' / 'checkpoints').is_dir()


# Damage.


def flipped(content, random):
    place = random.integers(len(content))
    return content[:place] + bytes([content[place] ^ 1 << random.integers(8)]) + content[place + 1 :]


DAMAGES = {
    'emptied': lambda content, random: b'',
    'cut': lambda content, random: content[: len(content) // 2],
    'a bit flipped': flipped,
    'overwritten': lambda content, random: random.bytes(len(content)),
    'missing': lambda content, random: None,
}


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')  # Orbax leaves tasks of its own behind
@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_taken(damage, saved, tmp_path):
    """Whatever file of it is damaged; what is restored is never anything but what was saved."""
    on, random = experiment(), np.random.default_rng(list(DAMAGES).index(damage))
    shapes = on.shapes
    files = [path.relative_to(saved[0]) for path in (saved[0] / 'checkpoints' / '20').rglob('*') if path.is_file()]
    noticed = 0
    for number, file in enumerate(sorted(files)):
        workdir = tmp_path / str(number)
        shutil.copytree(saved[0], workdir)
        content = DAMAGES[damage]((workdir / file).read_bytes() or b'0', random)
        (workdir / file).unlink()
        if content is not None:
            (workdir / file).write_bytes(content)
        said = []
        checkpoints = Checkpoints(workdir)
        state, progress = checkpoints.restore_newest(shapes, on.mesh, said.append)
        assert_same_bits(saved[1][progress.step], state)
        if progress.step == 10:
            noticed += 1
            (line,) = said
            assert f'{workdir}/checkpoints/20 is damaged: ' in line
            assert checkpoints.steps() == [10]
            assert not (workdir / 'checkpoints' / '20').exists()
            checkpoints.save(made_up_state(on), Progress(20, 1, CONTROL), None)  # there is room for it again
        else:
            assert not said
        checkpoints.close()
        shutil.rmtree(workdir)
    assert noticed >= 4, f'{noticed} of {len(files)} files'


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_where_all_are_damaged_the_run_does_not_begin_anew_by_itself(saved, tmp_path):
    workdir = tmp_path / 'run'
    shutil.copytree(saved[0], workdir)
    for file in workdir.glob('checkpoints/*/state/d/*'):
        file.write_bytes(b'')
    on, said = experiment(), []
    with pytest.raises(UserError, match=r'no checkpoint in .* is whole\. To train from the start, give --from_start'):
        Checkpoints(workdir).restore_newest(on.shapes, on.mesh, said.append)
    assert len(said) == 2


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
@pytest.mark.parametrize(
    'error, heard',
    [
        (RuntimeError('Event loop is closed'), False),
        (Exception('Encountered error while reading array index: (0,). See full TensorStore details: {\n'), False),
        (RuntimeError('something else'), True),
    ],
    ids=str,
)
def test_what_reading_a_damaged_checkpoint_leaves_behind_is_not_told(error, heard, saved, tmp_path, monkeypatch):
    """Arrays that are still being read when the first one fails: Python would print a traceback of each."""
    told = []
    monkeypatch.setattr(sys, 'unraisablehook', told.append)
    silence_checkpoint_libraries()
    workdir = shutil.copytree(saved[0], tmp_path / 'run')
    for file in workdir.glob('checkpoints/20/state/ocdbt.process_0/d/*'):
        file.write_bytes(b'')
    on, checkpoints = experiment(), Checkpoints(workdir, read_only=True)
    assert checkpoints.restore_newest(on.shapes, on.mesh, lambda line: None)[1].step == 10
    told.clear()
    sys.unraisablehook(types.SimpleNamespace(exc_value=error))
    assert bool(told) is heard
    checkpoints.close()


def test_opening_checkpoints_changes_nothing_in_the_process(saved, monkeypatch):
    monkeypatch.setattr(sys, 'unraisablehook', print)
    names = ('absl', 'orbax', 'asyncio')
    for name in names:
        monkeypatch.setattr(logging.getLogger(name), 'level', logging.INFO)
    filters = list(warnings.filters)
    Checkpoints(saved[0], read_only=True).close()
    assert sys.unraisablehook is print and warnings.filters == filters
    assert [logging.getLogger(name).level for name in names] == [logging.INFO] * 3


@pytest.mark.parametrize('what', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('place', ['parameters', 'velocity'])
def test_what_is_not_finite_is_not_saved(tmp_path, place, what):
    state = made_up_state(experiment())
    part = getattr(state, place)
    leaves_, tree = jax.tree.flatten(part)
    leaves_[3] = leaves_[3].at[(0,) * leaves_[3].ndim].set(what)
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(NotFiniteStateError, match='not finite after step 7'):
        checkpoints.save(dataclasses.replace(state, **{place: tree.unflatten(leaves_)}), Progress(7, 0, CONTROL), None)
    checkpoints.close()
    assert checkpoints.steps() == []


# Marks.


@pytest.fixture(scope='module')
def marked():
    """A small tree of arrays, and its marks."""
    random = np.random.default_rng(0)
    tree = {
        'kernel': random.standard_normal((2, 3, 5), np.float32),
        'bias': random.standard_normal(7, np.float32),
        'other': random.standard_normal(7, np.float32),
        'step': np.int32(3),
    }
    return tree, marks_of(tree)


def marks_of(tree):
    where = jax.sharding.NamedSharding(experiment().mesh, jax.sharding.PartitionSpec())
    return examine(jax.device_put(tree, where))[0]


def changed(tree, name, change):
    words = np.array(tree[name], ndmin=1).view(np.uint32).copy()
    change(words.reshape(-1))
    array = words.view(np.asarray(tree[name]).dtype).reshape(np.shape(tree[name]))
    return {**tree, name: array}


@pytest.mark.parametrize('bit', [0, 1, 15, 30, 31])
def test_a_mark_sees_any_bit(bit, marked):
    tree, marks = marked
    assert marks.keys() == tree.keys() and all(0 <= mark < 2**32 for mark in marks.values())
    for name, array in tree.items():
        for place in range(np.size(array)):
            flipped_one = changed(tree, name, lambda words: words.__setitem__(place, words[place] ^ 1 << bit))  # noqa: B023
            found = marks_of(flipped_one)
            assert [other for other in marks if found[other] != marks[other]] == [name], (name, place)


def test_a_mark_sees_elements_that_changed_places(marked):
    tree, marks = marked
    for one in range(30):
        for other in range(one):
            swap = [one, other]
            swapped = changed(tree, 'kernel', lambda words: words.__setitem__(swap, words[swap[::-1]]))  # noqa: B023
            assert marks_of(swapped)['kernel'] != marks['kernel'], swap


def test_marks_see_arrays_that_changed_places(marked):
    tree, marks = marked
    found = marks_of({**tree, 'bias': tree['other'], 'other': tree['bias']})
    assert found['bias'] == marks['other'] != marks['bias'] == found['other']


@pytest.mark.parametrize('mesh', MESHES[1:])
def test_marks_are_the_same_on_any_mesh(mesh):
    assert examine(made_up_state(experiment(*mesh))) == examine(made_up_state(experiment()))


def test_marks_are_named_as_messages_name_arrays():
    marks, finite = examine(made_up_state(experiment()))
    assert finite and len(marks) == 33
    assert {'step', 'parameters/conv1/kernel', 'parameters/fc8/bias'} < marks.keys()
    assert sum(name.startswith('velocity/') for name in marks) == 16


@pytest.mark.parametrize('mesh', MESHES[::3])
def test_whether_all_is_finite(mesh):
    arrays, tree = jax.tree.flatten(made_up_state(experiment(*mesh)))
    for number, array in enumerate(arrays):
        if array.ndim:
            what = [np.nan, np.inf, -np.inf][number % 3]
            spoilt = [*arrays[:number], array.at[(-1,) * array.ndim].set(what), *arrays[number + 1 :]]
            assert examine(tree.unflatten(spoilt))[1] is False
    assert examine(tree.unflatten(arrays))[1] is True


# Progress.


def test_the_window_comes_back_to_the_last_bit(tmp_path):
    window = {'steps': 3, 'loss': 0.1 + 0.2, 'top1_error': 1 / 3, 'top5_error': 5e-324}
    on, checkpoints = experiment(), Checkpoints(tmp_path)
    checkpoints.save(made_up_state(on), Progress(3, 0, CONTROL, window), None)
    checkpoints.wait()
    assert checkpoints.restore(3, on.shapes, on.mesh)[1].window == window
    checkpoints.close()


def test_room_is_looked_for_when_the_save_before_has_ended(tmp_path, monkeypatch):
    on, checkpoints = experiment(), Checkpoints(tmp_path)
    state = made_up_state(on)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    ended, written = threading.Event(), checkpoint.sync_tree
    monkeypatch.setattr(checkpoint, 'sync_tree', lambda path: (ended.wait(60), written(path)))

    def free(path):
        """A save that is being written takes room twice: its parts, and what it will replace."""
        return shutil._ntuple_diskusage(2**40, 2**40, size - any(checkpoints.directory.glob('*tmp*')))

    checkpoints.save(state, Progress(1, 0, CONTROL), None)
    monkeypatch.setattr(shutil, 'disk_usage', free)
    threading.Timer(0.5, ended.set).start()
    checkpoints.save(state, Progress(2, 0, CONTROL), None)
    checkpoints.close()
    again = Checkpoints(tmp_path)
    assert [again.restore(step, on.shapes, on.mesh)[1].step for step in again.steps()] == [1, 2]
    again.close()


def test_where_the_disk_is_too_small_nothing_is_begun(tmp_path, monkeypatch):
    on, checkpoints = experiment(), Checkpoints(tmp_path)
    state = made_up_state(on)
    checkpoints.save(state, Progress(1, 0, CONTROL), None)
    checkpoints.wait()
    before, size = everything(tmp_path), sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: shutil._ntuple_diskusage(2**40, 2**40, size - 1))
    with pytest.raises(UserError, match=r'checkpoints: .* MB are free\. It takes .* The checkpoint of step 1 is kept'):
        checkpoints.save(state, Progress(2, 0, CONTROL), None)
    assert everything(tmp_path) == before
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: shutil._ntuple_diskusage(2**40, 2**40, size))
    checkpoints.save(state, Progress(2, 0, CONTROL), None)
    checkpoints.close()
    assert checkpoints.steps() == [1, 2]
