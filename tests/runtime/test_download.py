"""Guards downloads: from a server that cuts, lies, redirects, refuses or stalls, onto disks that fill up."""

import errno
import hashlib
import io
import os
import pathlib
import socket
import threading

import numpy as np
import pytest
import web_server
from fakes import console
from launching import wait_for

from alexnet_jax.runtime import download as module
from alexnet_jax.runtime.download import WebFile, download
from alexnet_jax.runtime.errors import UserError

CONTENT = np.random.default_rng(0).bytes(300_000)
FILE = WebFile('set.tar.gz', len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
OTHER = bytes(len(CONTENT))


@pytest.fixture(scope='module')
def running():
    with web_server.serving() as server:
        yield server


@pytest.fixture
def server(running, monkeypatch):
    for name in [name for name in os.environ if name.lower().endswith('_proxy')]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(module, '_WAIT', 0.0)
    running.files, running.misbehave, running.asked = {'set.tar.gz': CONTENT}, [], []
    return running


def get(server, directory, file=FILE, addresses=None, on=None):
    return download(file, addresses or [server.address + file.name], directory, on or console())


def names(directory):
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


def arrived(server, directory, **more):
    """Downloads; checks that the bytes are right and that nothing else is there; returns what was printed."""
    on = more.pop('on', None) or console()
    path = get(server, directory, on=on, **more)
    assert path.read_bytes() == CONTENT and names(directory) == [FILE.name]
    return on.file.getvalue()


def refused(server, directory, left=(), **more):
    """Downloads in vain; checks that nothing is there but `left`; returns the message."""
    with pytest.raises(UserError) as caught:
        get(server, directory, **more)
    assert names(directory) == sorted(left)
    return str(caught.value)


def test_a_file_is_downloaded_and_nothing_else_is_left(server, tmp_path):
    said = arrived(server, tmp_path / 'not' / 'there')
    assert f'downloading set.tar.gz, 0.3 MB, into {tmp_path}/not/there; ' in said and ' are free\n' in said
    assert server.asked == [('/set.tar.gz', None)]
    assert 'set.tar.gz: 0.3 MB of 0.3 MB, ' in said


def test_what_is_there_is_left_as_it_is(server, tmp_path):
    (tmp_path / FILE.name).write_bytes(b'mine')
    assert get(server, tmp_path).read_bytes() == b'mine'
    assert not server.asked and names(tmp_path) == [FILE.name]


def test_on_a_terminal_there_is_a_bar(server, tmp_path):
    from rich.console import Console

    on = Console(file=io.StringIO(), force_terminal=True, width=120)
    arrived(server, tmp_path, on=on)
    assert '300.0/300.0 kB' in on.file.getvalue() or '/300.0 kB' in on.file.getvalue()


def test_md5_sums_work_too(server, tmp_path):
    arrived(server, tmp_path / 'a', file=FILE._replace(checksum=hashlib.md5(CONTENT).hexdigest()))
    wrong = FILE._replace(checksum=hashlib.md5(OTHER).hexdigest())
    assert 'whose md5 sum is not the published one' in refused(server, tmp_path / 'b', file=wrong)


# --- cuts ---


def test_cut_connections_are_resumed_where_they_ended(server, tmp_path):
    server.misbehave = [web_server.cut(100_000), web_server.cut(50_000), web_server.cut(0)]
    said = arrived(server, tmp_path)
    ranges = [asked for _, asked in server.asked]
    starts = [int(asked.removeprefix('bytes=').rstrip('-')) for asked in ranges[1:]]
    assert ranges[0] is None and len(starts) == 3 and 0 < starts[0] <= 100_000
    assert starts[0] <= starts[1] == starts[2] <= 150_000
    assert said.count('trying again') == 3


def test_a_call_resumes_what_another_has_left(server, tmp_path):
    (tmp_path / 'set.tar.gz.partial').write_bytes(CONTENT[:123_456])
    assert '0.1 MB are there, ' in arrived(server, tmp_path)
    assert server.asked == [('/set.tar.gz', 'bytes=123456-')]


def test_an_interrupted_download_is_resumed(server, tmp_path, monkeypatch):
    def interrupted(display, done, status=''):
        if done > 200_000:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module.Display, 'update', interrupted)
        get(server, tmp_path)
    done = (tmp_path / 'set.tar.gz.partial').stat().st_size
    assert done > 200_000 and names(tmp_path) == ['set.tar.gz.partial']
    (tmp_path / 'set.tar.gz.lock').write_text('process 7 on a machine, killed')
    arrived(server, tmp_path)
    assert server.asked[1:] == [('/set.tar.gz', f'bytes={done}-')]


def test_it_gives_up_where_nothing_more_comes(server, tmp_path):
    server.misbehave = [web_server.cut(70_000), *[web_server.cut(0)] * 9]
    message = refused(server, tmp_path, left=['set.tar.gz.partial'])
    assert (
        'set.tar.gz.partial; the same command resumes.' in message
        and 'was cut off after 70,000 of 300,000 bytes' in message
    )
    assert len(server.asked) == 5
    server.misbehave = []
    arrived(server, tmp_path)


def test_a_server_without_ranges_sends_it_all_again(server, tmp_path):
    server.misbehave = [web_server.cut(100_000), web_server.without_ranges]
    arrived(server, tmp_path)


@pytest.mark.parametrize('place', ['bytes 7-299999/300000', 'bytes 100-299999/300001', 'nonsense', ''])
def test_a_range_that_was_not_asked_for_is_not_used(server, tmp_path, place):
    (tmp_path / 'set.tar.gz.partial').write_bytes(CONTENT[:100])

    def answer(handler):
        handler.start(206, Content_Range=place, Content_Length=len(CONTENT) - 100)
        handler.wfile.write(CONTENT[100:])

    server.misbehave = [answer]
    arrived(server, tmp_path)
    assert server.asked[1][1] is None


def test_a_range_of_an_unknown_whole_is_used(server, tmp_path):
    (tmp_path / 'set.tar.gz.partial').write_bytes(CONTENT[:100])

    def answer(handler):
        handler.start(206, Content_Range='bytes 100-299999/*', Content_Length=len(CONTENT) - 100)
        handler.wfile.write(CONTENT[100:])

    server.misbehave = [answer]
    arrived(server, tmp_path)
    assert len(server.asked) == 1


def test_a_server_that_says_the_range_is_beyond_the_end(server, tmp_path):
    (tmp_path / 'set.tar.gz.partial').write_bytes(CONTENT[:100])
    server.misbehave = [web_server.status(416)]
    arrived(server, tmp_path)


@pytest.mark.parametrize('total', ['*', '100', '299000'])
@pytest.mark.parametrize('status', [206, 416])
def test_a_server_with_another_file_leaves_what_another_server_gave(server, tmp_path, status, total):
    (tmp_path / 'set.tar.gz.partial').write_bytes(CONTENT[:100])

    def answer(handler):
        given = '*' if status == 416 else '50-99'
        handler.start(status, Content_Range=f'bytes {given}/{total}', Content_Length=0)

    server.misbehave = [answer, web_server.giving(OTHER[:1000])]
    message = refused(server, tmp_path, left=['set.tar.gz.partial'])
    assert 'gives 1,000 bytes, where the file has 300,000' in message
    assert (tmp_path / 'set.tar.gz.partial').read_bytes() == CONTENT[:100]
    server.misbehave = []
    arrived(server, tmp_path)


def test_an_endless_mix_of_restarts_ends(server, tmp_path):
    short = web_server.giving(CONTENT[:1000], length=False)
    server.misbehave = [short, web_server.status(416)] * 50
    assert 'set.tar.gz cannot be downloaded' in refused(server, tmp_path, left=['set.tar.gz.partial'])
    assert len(server.asked) < 10


# --- wrong bytes ---


@pytest.mark.parametrize('length', [True, False])
def test_other_bytes_are_not_kept(server, tmp_path, length):
    server.misbehave = [web_server.giving(OTHER, length)]
    message = refused(server, tmp_path)
    assert f'{server.address}set.tar.gz gives another file, whose sha256 sum is not the published one' in message
    assert f'set.tar.gz (0.3 MB, sha256 {FILE.checksum})' in message


@pytest.mark.parametrize(
    ('content', 'says'),
    [(CONTENT[:-1], 'gives 299,999 bytes, where the file has 300,000'), (CONTENT + b'x', 'gives 300,001 bytes')],
)
def test_a_file_of_another_size_is_refused_before_it_comes(server, tmp_path, content, says):
    server.files['set.tar.gz'] = content
    assert says in refused(server, tmp_path)


def test_a_file_without_end_is_left_after_its_size(server, tmp_path):
    server.misbehave = [web_server.giving(CONTENT + bytes(5 << 20), length=False)]
    assert 'gives another file' in refused(server, tmp_path)


def test_a_short_file_of_unsaid_length_is_refused(server, tmp_path):
    server.misbehave = [web_server.giving(CONTENT[:1000], length=False)] * 9
    assert 'ended after 1,000 of 300,000 bytes' in refused(server, tmp_path, left=['set.tar.gz.partial'])


def test_a_page_that_asks_for_a_login_destroys_nothing(server, tmp_path):
    (tmp_path / 'set.tar.gz.partial').write_bytes(CONTENT[:100])
    server.misbehave = [web_server.giving(b'<html>', length=False, Content_Type='text/html; charset=utf-8')]
    assert 'gives a web page' in refused(server, tmp_path, left=['set.tar.gz.partial'])
    arrived(server, tmp_path)


def test_a_partial_file_of_other_bytes_is_replaced(server, tmp_path):
    (tmp_path / 'set.tar.gz.partial').write_bytes(b'x' * 1000)
    assert 'set.tar.gz is damaged; it is downloaded from the beginning.' in arrived(server, tmp_path)


@pytest.mark.parametrize('extra', [b'', b'x' * 10])
def test_a_partial_file_that_is_complete_is_checked(server, tmp_path, extra):
    (tmp_path / 'set.tar.gz.partial').write_bytes(CONTENT + extra)
    arrived(server, tmp_path)
    assert len(server.asked) == (1 if extra else 0)


def test_a_compression_on_the_way_is_not_undone(server, tmp_path):
    server.misbehave = [web_server.giving(CONTENT, Content_Encoding='gzip')]
    arrived(server, tmp_path)


# --- servers that refuse ---


def test_redirects_are_followed(server, tmp_path):
    server.misbehave = [web_server.to('/elsewhere'), web_server.to(server.address + 'set.tar.gz')]
    arrived(server, tmp_path)
    assert [path for path, _ in server.asked] == ['/set.tar.gz', '/elsewhere', '/set.tar.gz']


def test_redirects_without_end_and_to_files_are_refused(server, tmp_path):
    server.misbehave = [web_server.to('/set.tar.gz')] * 99
    assert 'redirects' in refused(server, tmp_path)
    server.misbehave = [web_server.to('file:///etc/passwd')]
    assert 'cannot be used' in refused(server, tmp_path)


@pytest.mark.parametrize('code', [403, 404, 410])
def test_a_file_that_is_not_there_is_not_asked_for_again(server, tmp_path, code):
    server.misbehave = [web_server.status(code)]
    assert f'{server.address}set.tar.gz answers {code}' in refused(server, tmp_path)
    assert len(server.asked) == 1


@pytest.mark.parametrize('code', [429, 500, 503])
def test_a_server_in_trouble_is_asked_again(server, tmp_path, code):
    server.misbehave = [web_server.status(code)] * 2
    arrived(server, tmp_path / 'a')
    server.asked, server.misbehave = [], [web_server.status(code)] * 99
    assert f'answers {code}' in refused(server, tmp_path / 'b')
    assert len(server.asked) == 5


def test_the_next_address_is_tried_and_goes_on_with_what_is_there(server, tmp_path):
    server.misbehave = [web_server.cut(100_000), *[web_server.cut(0)] * 4]
    arrived(server, tmp_path, addresses=[server.address + name for name in ('first', 'nothing', 'set.tar.gz')])
    assert server.asked[-1][0] == '/set.tar.gz'


def test_silent_servers_are_given_up(server, tmp_path, monkeypatch):
    event = threading.Event()
    monkeypatch.setattr(module, '_TIMEOUTS', (0.05, 0.05))
    server.misbehave = [web_server.silent(event)] * 9
    assert 'cannot be reached (' in (message := refused(server, tmp_path)) and 'timed out' in message
    server.misbehave = [web_server.stalling(event, 100_000)]
    arrived(server, tmp_path)
    event.set()


def test_without_a_network_it_says_what_to_put_where(server, tmp_path, monkeypatch):
    def unknown(host, *_):
        raise socket.gaierror(socket.EAI_NONAME, 'Name or service not known')

    with monkeypatch.context() as patch:
        patch.setattr(socket, 'getaddrinfo', unknown)
        message = refused(server, tmp_path, addresses=['http://host.invalid/set.tar.gz'])
    assert 'http://host.invalid/set.tar.gz cannot be reached (' in message and 'Name or service not known' in message
    message = refused(server, tmp_path, addresses=['http://127.0.0.1:9/x'])
    assert 'http://127.0.0.1:9/x cannot be reached (' in message and 'Connection refused' in message
    assert f'get set.tar.gz (0.3 MB, sha256 {FILE.checksum}) elsewhere' in message
    assert f'into {tmp_path}' in message and '--config.data.download_from=' in message


@pytest.mark.parametrize('address', ['http://', 'http://[::1', 'http://a..b/x', 'gopher://x/y', 'http://x:99999/', 'x'])
def test_addresses_that_make_no_sense(server, tmp_path, address):
    assert 'set.tar.gz cannot be downloaded' in refused(server, tmp_path, addresses=[address])


def test_settings_of_certificates_that_make_no_sense(server, tmp_path, monkeypatch):
    monkeypatch.setenv('REQUESTS_CA_BUNDLE', '/nowhere')
    message = refused(server, tmp_path, addresses=['https://127.0.0.1:9/x'])
    assert 'cannot be used' in message and '/nowhere' in message


# --- disks ---


def full_after(monkeypatch, size):
    """Lets a partial file take so many bytes."""
    real = pathlib.Path.open

    class Disk(io.FileIO):
        def write(self, content):
            if self.tell() + len(content) > size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(content)

    def opened(path, mode='r', **more):
        return Disk(path, mode) if path.suffix == '.partial' and mode == 'ab' else real(path, mode, **more)

    monkeypatch.setattr(pathlib.Path, 'open', opened)


def test_a_disk_that_fills_up_on_the_way(server, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        full_after(patch, 200_000)
        message = refused(server, tmp_path, left=['set.tar.gz.partial'])
        assert f'{tmp_path}/set.tar.gz cannot be downloaded: No space left on device.' in message
    arrived(server, tmp_path)
    assert server.asked[-1][1] is not None


def test_a_disk_that_is_too_small_is_told_beforehand(server, tmp_path, monkeypatch):
    usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, 'disk_usage', lambda _: usage._replace(free=299_999))
    message = refused(server, tmp_path)
    assert 'has 0.3 MB free, and set.tar.gz needs 0.3 MB; free some' in message and not server.asked
    (tmp_path / 'set.tar.gz.partial').write_bytes(CONTENT[:1])
    arrived(server, tmp_path)


def test_directories_that_cannot_be_written(server, tmp_path):
    (tmp_path / 'file').write_bytes(b'')
    for directory in (tmp_path / 'file', tmp_path / 'file' / 'below'):
        with pytest.raises(UserError, match='cannot be'):
            get(server, directory)
    (tmp_path / 'set.tar.gz.partial').mkdir()
    with pytest.raises(UserError, match=r'set\.tar\.gz\.partial is not a regular file'):
        get(server, tmp_path)
    (tmp_path / 'set.tar.gz.partial').rmdir()
    os.mkfifo(tmp_path / 'set.tar.gz.partial')
    with pytest.raises(UserError, match=r'set\.tar\.gz\.partial is not a regular file'):
        get(server, tmp_path)


def test_two_processes_do_not_download_the_same(server, tmp_path):
    event = threading.Event()
    server.misbehave = [web_server.stalling(event, 100_000)]
    first = threading.Thread(target=get, args=(server, tmp_path), daemon=True)
    first.start()
    wait_for(lambda: server.asked, seconds=60)
    with pytest.raises(UserError, match=r'set\.tar\.gz is being downloaded by process \d+ on .*; wait for it'):
        get(server, tmp_path)
    event.set()
    first.join()
    assert names(tmp_path) == [FILE.name]
