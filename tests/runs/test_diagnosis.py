"""Only what is damaged is put aside: errors of the system, of permission, memory and programming touch nothing."""

import contextlib
import dataclasses
import errno
import json
import os
import pathlib
import shutil

import jax
import orbax.checkpoint as ocp
import pytest

import alexnet_jax as ax
from alexnet_jax.runs import checkpoint as checkpoint_module
from alexnet_jax.runs import diagnosis
from alexnet_jax.runs.build import build
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runs.diagnosis import DamagedError, GoneError
from alexnet_jax.runs.workdir import DAMAGED, read_config
from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import UserError

OLD = pathlib.Path(__file__).parent / 'old_run'  # with checkpoints of the steps 210 and 300


@pytest.fixture(scope='module')
def on():
    return build(read_config(OLD).replace(**{'mesh.data': 1, 'mesh.column': 1}))


@pytest.fixture
def workdir(tmp_path):
    return shutil.copytree(OLD, tmp_path / 'run')


def files_of(directory):
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(directory.rglob('*'))}


def restored(workdir, on, said=None, **how):
    with contextlib.closing(Checkpoints(workdir, **how)) as checkpoints:
        found = checkpoints.restore_newest(on.shapes, on.mesh, (said if said is not None else []).append)
        return found[1].step


def raiser(error):
    def fail(*_, **__):
        raise error

    return fail


TENSORSTORE = 'Error reading "parameters.conv1.bias/.zarray" in OCDBT database at local file "/run/": '
OF_THE_SYSTEM = {
    'EACCES': PermissionError(errno.EACCES, 'Permission denied', '/run/checkpoints/300/progress/metadata'),
    'EIO': OSError(errno.EIO, 'Input/output error'),
    'ESTALE': OSError(errno.ESTALE, 'Stale file handle', '/run'),
    'EMFILE': OSError(errno.EMFILE, 'Too many open files'),
    'TensorStore: may not': ValueError(f'PERMISSION_DENIED: {TENSORSTORE}Failed to open'),
    'TensorStore: EIO': ValueError(f'FAILED_PRECONDITION: {TENSORSTORE}[OS error 5: EIO Input/output error]'),
    'TensorStore: memory': ValueError(f'RESOURCE_EXHAUSTED: {TENSORSTORE}Out of memory'),
    'Orbax around it': Exception('Encountered error while reading array index: (0,). See full TensorStore details: {'),
}
OF_THE_SYSTEM['Orbax around it'].__cause__ = ValueError(f'UNAVAILABLE: {TENSORSTORE}Stale file handle')
OF_THE_SOFTWARE = {
    'memory of the device': jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 1000000 bytes.'),
    'memory': MemoryError(),
    'TypeError': TypeError("unsupported operand type(s) for +: 'int' and 'str'"),
    'ValueError': ValueError('Incompatible shapes for broadcasting'),
    'Orbax': KeyError('state'),
}


@pytest.mark.parametrize('entry', ['restore', 'metadata'])
@pytest.mark.parametrize('name', [*OF_THE_SYSTEM, *OF_THE_SOFTWARE])
def test_what_is_no_damage_touches_nothing(name, entry, workdir, on, monkeypatch):
    before, error = files_of(workdir), (OF_THE_SYSTEM | OF_THE_SOFTWARE)[name]
    where = ocp.CheckpointManager if entry == 'restore' else ocp.PyTreeCheckpointHandler
    with monkeypatch.context() as patched:
        patched.setattr(where, entry, raiser(error))
        expected = UserError if name in OF_THE_SYSTEM else type(error)
        with pytest.raises(expected) as caught:
            restored(workdir, on)
    if name in OF_THE_SYSTEM:
        assert not isinstance(caught.value, DamagedError)
        assert f'{workdir}/checkpoints/300 cannot be read (' in str(caught.value)
        assert 'Nothing has been changed' in str(caught.value)
    assert files_of(workdir) == before
    assert restored(workdir, on) == 300


@pytest.mark.parametrize('name', ['progress/metadata', 'state/_METADATA', 'state/manifest.ocdbt'])
def test_a_file_that_may_not_be_read_is_no_damage(name, workdir, on, monkeypatch):
    """Whatever Orbax makes of it: the files are read to see what the system says."""
    before, path, opened = files_of(workdir), workdir / 'checkpoints/300' / name, os.open

    def refuse(found, *arguments, **more):
        if str(found) == str(path):
            raise PermissionError(errno.EACCES, 'Permission denied', str(path))
        return opened(found, *arguments, **more)

    monkeypatch.setattr(ocp.CheckpointManager, 'restore', raiser(KeyError('odd')))
    monkeypatch.setattr(files.os, 'open', refuse)
    with pytest.raises(UserError, match=rf'{path.name}: Permission denied\)\. Nothing has been changed'):
        restored(workdir, on)
    monkeypatch.undo()
    assert files_of(workdir) == before


@pytest.mark.parametrize('content', [b'', b'garbage', b'[]', b'{"top1_error": 1e999}', None, 'all of it'])
def test_metrics_that_are_lost_do_not_condemn_the_arrays(content, workdir, on):
    for path in workdir.glob('checkpoints/*/metrics/metrics'):
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.unlink() if content is None else shutil.rmtree(path.parent)
    said = []
    assert restored(workdir, on, said) == 300 and not said
    with contextlib.closing(Checkpoints(workdir, read_only=True)) as checkpoints:
        # The log has them: 19.72 % after step 210, 22.22 % after step 300.
        assert checkpoints.best() == (None if content == 'all of it' else 210)
    assert ax.load_run(workdir, column=1).progress.step == 300


def test_the_best_is_known_from_the_checkpoint_itself(workdir, on):
    with contextlib.closing(Checkpoints(workdir)) as checkpoints:
        state, progress = checkpoints.restore(300, on.shapes, on.mesh)
        shutil.rmtree(workdir / 'checkpoints/300')
        checkpoints.reload()
        checkpoints.save(state, progress, 0.125)
    for path in workdir.glob('checkpoints/*/metrics/metrics'):
        path.write_bytes(b'')
    (workdir / 'metrics.jsonl').unlink()
    with contextlib.closing(Checkpoints(workdir, read_only=True)) as checkpoints:
        assert (checkpoints.steps(), checkpoints.best()) == ([210, 300], 300)


def test_what_was_put_aside_stays(workdir, on):
    """A second damaged checkpoint of the same step gets another name."""
    whole = shutil.copytree(workdir / 'checkpoints/300', workdir.parent / 'whole')
    for _ in range(3):
        (workdir / 'checkpoints/300/progress/metadata').write_bytes(b'')
        assert restored(workdir, on, said := []) == 210
        assert 'is damaged: ' in said[0] and 'It was put aside. Taking the one before.' in said[0]
        shutil.copytree(whole, workdir / 'checkpoints/300')
    assert sorted(path.name for path in (workdir / DAMAGED).iterdir()) == ['300', '300-2', '300-3']
    assert restored(workdir, on) == 300


def test_a_checkpoint_that_training_deletes_meanwhile_is_gone_not_damaged(workdir, on, monkeypatch):
    """In the middle of reading: some of its files are there, then none."""
    metadata = ocp.PyTreeCheckpointHandler.metadata

    def deleted(self, directory):
        if '300' in str(directory):
            shutil.rmtree(workdir / 'checkpoints/300')
        return metadata(self, directory)

    monkeypatch.setattr(ocp.PyTreeCheckpointHandler, 'metadata', deleted)
    with (
        contextlib.closing(Checkpoints(workdir, read_only=True)) as checkpoints,
        pytest.raises(GoneError, match=r'checkpoints/300 was there and has been deleted'),
    ):
        checkpoints.restore(300, on.shapes, on.mesh)
    assert not (workdir / DAMAGED).exists()


def test_a_run_is_opened_at_the_checkpoint_that_is_there_when_it_is_read(workdir, monkeypatch):
    said, restore = [], ocp.CheckpointManager.restore

    def deleted(self, step, **more):
        if step == 300:
            shutil.rmtree(workdir / 'checkpoints/300', ignore_errors=True)
        return restore(self, step, **more)

    monkeypatch.setattr(ocp.CheckpointManager, 'restore', deleted)
    assert ax.load_run(workdir, column=1, say=said.append).progress.step == 210 and not said
    assert ax.load_run(workdir, 'best', column=1).progress.step == 210
    with pytest.raises(UserError, match=r'--checkpoint=300: .* has none'):
        ax.load_run(workdir, 300, column=1)


def test_other_types_of_numbers_are_another_network(workdir, on):
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, 'bfloat16'), on.shapes)
    before = files_of(workdir)
    with (
        contextlib.closing(Checkpoints(workdir)) as checkpoints,
        pytest.raises(UserError, match=r'conv1/bias is \[2, 6\] in the checkpoint and is bfloat16 \[2, 6\] in'),
    ):
        checkpoints.restore_newest(shapes, on.mesh, print)
    assert files_of(workdir) == before


def test_parameters_are_float32_whatever_jax_prefers(on):
    with jax.enable_x64(True):
        kinds = {x.dtype.name for x in jax.tree.leaves(on.shapes)}
    assert kinds == {'float32', 'int32'}


def test_all_of_a_checkpoint_is_on_disk_before_it_gets_its_name(workdir, on, monkeypatch):
    synced, fsync = set(), os.fsync

    def record(descriptor):
        path = pathlib.Path(os.readlink(f'/proc/self/fd/{descriptor}'))
        if '.orbax-checkpoint-tmp' in str(path):
            synced.add('/'.join(path.parts[path.parts.index('checkpoints') + 2 :]))
        fsync(descriptor)

    monkeypatch.setattr(files.os, 'fsync', record)
    with contextlib.closing(Checkpoints(workdir)) as checkpoints:
        state, progress = checkpoints.restore(300, on.shapes, on.mesh)
        shutil.rmtree(workdir / 'checkpoints/300')
        checkpoints.reload()
        checkpoints.save(state, progress, 0.125)
    made = workdir / 'checkpoints/300'
    found = {str(path.relative_to(made)) for path in made.rglob('*')}
    assert found - {'commit_success.txt'} <= synced  # that one comes last, and nothing reads it
    assert {'progress/metadata', 'metrics/metrics', '_CHECKPOINT_METADATA', ''} <= synced


@pytest.mark.parametrize(
    'error, told',
    [
        (OSError(errno.ENOSPC, 'No space left on device'), 'cannot be written to .*: the disk is full'),
        (ValueError('DATA_LOSS: Error writing: Read-only file system'), 'cannot be written to .*Read-only file system'),
        (TypeError('a defect'), 'a defect'),
    ],
    ids=['full', 'read-only', 'a defect'],
)
def test_a_save_that_fails_leaves_what_was_there(error, told, workdir, on, monkeypatch):
    before = files_of(workdir / 'checkpoints')
    with contextlib.closing(Checkpoints(workdir)) as checkpoints:
        state, progress = checkpoints.restore(300, on.shapes, on.mesh)
        monkeypatch.setattr(checkpoint_module, 'sync_tree', raiser(error))
        (workdir / 'checkpoints/300').rename(workdir / 'whole')
        checkpoints.reload()
        with pytest.raises(TypeError if isinstance(error, TypeError) else UserError, match=told):
            checkpoints.save(state, progress, 0.125)
            checkpoints.wait()
    (workdir / 'whole').rename(workdir / 'checkpoints/300')
    assert files_of(workdir / 'checkpoints') == before


BROKEN = {
    'no progress': lambda of: shutil.rmtree(of / 'progress'),
    'no arrays': lambda of: (of / 'state/manifest.ocdbt').unlink(),
    'no tree': lambda of: (of / 'state/_METADATA').write_text('{"tree_metadata": {}}'),
    'a list': lambda of: (of / '_CHECKPOINT_METADATA').write_text('[]'),
    'a pipe': lambda of: os.mkfifo(of / 'pipe'),
    'other progress': lambda of: (of / 'progress/metadata').write_text(
        json.dumps(json.loads((of / 'progress/metadata').read_text()) | {'step': 1})
    ),
}


@pytest.mark.parametrize('name', BROKEN)
def test_what_is_broken_is_found_without_orbax(name, workdir):
    assert diagnosis.what_is_broken(workdir / 'checkpoints/300') is None
    BROKEN[name](workdir / 'checkpoints/300')
    assert diagnosis.what_is_broken(workdir / 'checkpoints/300')


def test_a_defect_in_a_save_is_not_hidden_by_what_follows_from_it(workdir, on, monkeypatch):
    """Other parts of the checkpoint are being written meanwhile, and what there is of it goes away."""
    monkeypatch.setattr(ocp.JsonCheckpointHandler, 'async_save', raiser(TypeError('a defect')))
    with pytest.raises(TypeError, match='a defect'), contextlib.closing(Checkpoints(workdir)) as checkpoints:
        state, progress = checkpoints.restore(300, on.shapes, on.mesh)
        checkpoints.save(state, dataclasses.replace(progress, step=301), None)
    assert sorted(path.name for path in (workdir / 'checkpoints').iterdir()) == ['210', '300']


def test_a_file_that_was_not_there_for_a_moment_is_no_damage(workdir, on, monkeypatch):
    before, looked, stat = files_of(workdir), [], pathlib.Path.stat

    def missing_once(path, **more):
        if path.name == 'commit_success.txt' and not looked:
            looked.append(path)
            raise FileNotFoundError(errno.ENOENT, 'No such file or directory', str(path))
        return stat(path, **more)

    monkeypatch.setattr(pathlib.Path, 'stat', missing_once)
    with pytest.raises(FileNotFoundError, match='commit_success'):
        restored(workdir, on)
    monkeypatch.undo()
    assert looked and files_of(workdir) == before
