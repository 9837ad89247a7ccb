"""Atomic writes and advisory locks; numbers for people."""

import errno
import fcntl
import importlib.util
import os
import socket
import sys
import threading
import time

import pytest

from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.files import locked, read_file, read_json, replace_file, write_bytes, write_json
from alexnet_jax.runtime.formatting import format_bytes, format_count, format_percent


def test_json_comes_back(tmp_path):
    write_json(tmp_path / 'a.json', {'b': [1, None]})
    assert read_json(tmp_path / 'a.json') == {'b': [1, None]}
    assert [path.name for path in tmp_path.iterdir()] == ['a.json']


LEFT_BEHIND = {
    'nothing': lambda path: None,
    'a file': lambda path: path.write_text('the beginning of'),
    'a pipe': os.mkfifo,
    'a link elsewhere': lambda path: path.symlink_to(path.with_name('elsewhere')),
    'a link to itself': lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize('leave', LEFT_BEHIND.values(), ids=LEFT_BEHIND)
def test_whatever_a_crash_left_behind_is_replaced(tmp_path, leave):
    (tmp_path / 'elsewhere').write_text('of somebody else')
    leave(tmp_path / 'a.new')
    write_bytes(tmp_path / 'a', b'new')
    assert (tmp_path / 'a').read_bytes() == b'new' and not (tmp_path / 'a').is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a', 'elsewhere']
    assert (tmp_path / 'elsewhere').read_text() == 'of somebody else'


def test_a_failed_write_leaves_the_old_content_and_is_told(tmp_path, monkeypatch):
    write_bytes(tmp_path / 'a', b'old')

    def fail(descriptor):
        raise OSError(errno.ENOSPC, 'No space left on device')

    with monkeypatch.context() as patched:
        patched.setattr(files.os, 'fsync', fail)
        with pytest.raises(UserError, match=r'/a cannot be written: No space left on device\.$'):
            write_bytes(tmp_path / 'a', b'new')
        with pytest.raises(OSError, match='No space left'):
            replace_file(tmp_path / 'a', b'new')
    assert (tmp_path / 'a').read_bytes() == b'old'
    with pytest.raises(UserError, match=r'b cannot be written: No such file or directory'):
        write_json(tmp_path / 'absent' / 'b', 1)


def test_file_and_directory_reach_the_disk_before_and_after_the_rename(tmp_path, monkeypatch):
    events, fsync = [], os.fsync

    def record(descriptor):
        events.append((os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}')), (tmp_path / 'a').exists()))
        fsync(descriptor)

    monkeypatch.setattr(files.os, 'fsync', record)
    write_bytes(tmp_path / 'a', b'new')
    assert events == [('a.new', False), (tmp_path.name, True)]


def test_pipes_devices_and_endless_nesting_are_errors_instead_of_waits(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    (tmp_path / 'deep').write_text('[' * 100_000)
    for path, use, message in (
        (tmp_path / 'pipe', read_file, 'not a regular file'),
        ('/dev/zero', read_file, 'not a regular file'),
        (tmp_path / 'deep', read_json, 'nested too deeply'),
    ):
        with pytest.raises(ValueError, match=message):
            use(path)


def test_a_system_without_these_locks_is_told_so(monkeypatch):
    monkeypatch.setitem(sys.modules, 'fcntl', None)
    specification = importlib.util.spec_from_file_location('files_again', files.__file__)
    with pytest.raises(UserError, match=r'^Linux and macOS are supported; on Windows, run this in WSL'):
        specification.loader.exec_module(importlib.util.module_from_spec(specification))


def hold(path):
    return locked(path, lambda holder: f'held by {holder}.')


def test_a_second_holder_is_refused_and_told_of_the_first(tmp_path):
    path = tmp_path / 'lock'
    path.write_text('process 1 on elsewhere')  # left behind by a process that is gone
    with hold(path):
        pattern = rf'^held by process {os.getpid()} on {socket.gethostname()}, since 20\d\d-.*\.$'
        with pytest.raises(UserError, match=pattern), hold(path):
            pass
    assert path.read_text() == ''
    with hold(path), pytest.raises(UserError, match='absent'), hold(tmp_path / 'absent' / 'lock'):
        pass


def test_a_lock_that_is_removed_in_the_end_lets_one_in_at_a_time(tmp_path):
    # Whoever waits for it gets the lock of a file that is gone, and must not take that for the lock of the next file.
    path, inside, most, told = tmp_path / 'lock', [], [], []
    barrier = threading.Barrier(4)

    def work(number):
        barrier.wait()
        for _ in range(25):
            with locked(path, str, waiting=told.append, remove=True):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.0005)
                inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(most) == 100 and set(most) == {1} and not path.exists()
    assert all(line.startswith(f'process {os.getpid()} on ') or line == 'another process' for line in told) and told


@pytest.mark.parametrize('number', [errno.EIO, errno.ENOMEM, errno.ESTALE])
def test_a_lock_that_fails_is_neither_in_use_nor_none(tmp_path, monkeypatch, number):
    def fail(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, 'flock', fail)
    with pytest.raises(UserError, match=rf'lock cannot be locked: {os.strerror(number)}\.$'), hold(tmp_path / 'lock'):
        pass


@pytest.mark.parametrize('number', [errno.EACCES, errno.ENOLCK, errno.ENOTSUP])
def test_only_a_held_lock_is_in_use(tmp_path, monkeypatch, capsys, number):
    def fail(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, 'flock', fail)
    if number == errno.EACCES:
        with pytest.raises(UserError, match='held by another process'), hold(tmp_path / 'lock'):
            pass
    else:  # a file system without locks
        with hold(tmp_path / 'lock'):
            assert f'process {os.getpid()} ' in (tmp_path / 'lock').read_text()
        assert f'lock cannot be locked ({os.strerror(number)})' in capsys.readouterr().err


def test_numbers_for_people():
    percents = [format_percent(value) for value in (None, 0.12345, float('nan'), 0)]
    assert [*percents, format_percent(0.5, 0)] == ['', '12.35%', 'NaN', '0.00%', '50%']
    assert [format_bytes(n) for n in (-5, 243_900_000, 6.34e9, 1.5e13)] == [
        '0.0 MB',
        '243.9 MB',
        '6.3 GB',
        '15,000.0 GB',
    ]
    assert [format_count(n) for n in (None, 0, 60_965_224)] == ['', '', '60,965,224']


@pytest.mark.parametrize(
    'put', [os.mkdir, os.mkfifo, lambda path: path.symlink_to(path.name)], ids=['folder', 'pipe', 'link']
)
def test_what_is_not_a_file_cannot_be_a_lock(tmp_path, put):
    put(tmp_path / 'lock')
    with pytest.raises(UserError, match='lock cannot be written: '), hold(tmp_path / 'lock'):
        pass
