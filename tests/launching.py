"""Runs launch.py as a user does: in a process of its own, or in one that is forked from a process ready to run it."""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import re
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Halves the time that compiling takes; what is compiled is slower, and means the same.
_XLA_FLAGS = '--xla_cpu_use_fusion_emitters=false'


@functools.cache
def quickly() -> dict[str, str]:
    """The variables that have JAX compile in haste; XLA's flag is left out where XLA, which aborts then, lacks it."""
    asked = [sys.executable, '-c', 'from jaxlib import xla_client; xla_client.CompileOptions()']
    known = subprocess.run(asked, env=os.environ | {'XLA_FLAGS': _XLA_FLAGS}, capture_output=True).returncode == 0
    return {'JAX_DISABLE_MOST_OPTIMIZATIONS': 'true'} | ({'XLA_FLAGS': _XLA_FLAGS} if known else {})


def variables(programs: str) -> dict[str, str]:
    """What the tests' environment gets: the CPU, and programs that are compiled in haste and kept in a directory."""
    on_gpu = os.environ.get('TESTS_ON') == 'gpu'
    # Two processes may write a program at a time; who reads it half written compiles it too, which nobody need know.
    kept = {
        'JAX_COMPILATION_CACHE_DIR': programs,
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
        'PYTHONWARNINGS': 'ignore:Error reading persistent compilation cache entry',
    }
    return quickly() | kept | ({} if on_gpu else {'JAX_PLATFORMS': 'cpu'})


def environment(**more: str) -> dict[str, str]:
    """A user's environment, and what `variables` has set but for the CPU, if there is no driver that asks for more."""
    ours = [*quickly(), 'JAX_COMPILATION_CACHE_DIR', 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS']
    if _has_driver():
        ours.append('JAX_PLATFORMS')
    # pytest-xdist gives its processes a terminal of 80 columns, which a real terminal's width would not override.
    others = ('JAX_', 'XLA_', 'COLUMNS', 'LINES')
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    return kept | {name: os.environ[name] for name in ours if name in os.environ} | more


def _has_driver() -> bool:
    from alexnet_jax.runtime import devices

    return devices._has_nvidia_driver()


def launch(*arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Runs it in the project's folder; compiled with all of XLA's effort, as a long run is quicker so."""
    variables = {name: value for name, value in environment().items() if name not in quickly()}
    given = [sys.executable, 'launch.py', *arguments]
    return subprocess.run(given, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=timeout)


def wait_for(
    condition: Callable[[], object], *processes: 'subprocess.Popen[Any] | Started', seconds: float = 240
) -> None:
    """Waits until a condition holds; fails where a process has ended before, or after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert all(process.poll() is None for process in processes), 'a process has ended before that'
        assert time.monotonic() < deadline, f'not within {seconds:g} seconds'
        time.sleep(0.01)


@dataclasses.dataclass
class Ended:
    """A process that has ended."""

    code: int
    out: str
    err: str

    def succeeded(self):
        assert self.code == 0, self.err + self.out
        assert 'Traceback' not in self.out + self.err
        assert 'error' not in self.err
        return self

    def failed(self, *words):
        """It ended as a user's mistake should: code 2, one message, no traceback; the message names `words`."""
        assert self.code == 2, self.err + self.out
        assert 'Traceback' not in self.out + self.err
        assert self.err.startswith('error: ') and len(re.findall('^error: ', self.err, re.M)) == 1, self.err
        for word in words:
            assert word in self.err
        return self


class Started:
    """A process that was forked, as subprocess.Popen has it; standard output and errors are in one pipe."""

    def __init__(self, connection: socket.socket, output: int) -> None:
        self._connection, self._answers = connection, connection.makefile()
        self.pid, self.returncode = int(self._answers.readline()), None
        self.stdout = os.fdopen(output)

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = int(self._answers.readline())
            self._connection.close()
        return self.returncode

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self) -> tuple[str, None]:
        out = self.stdout.read()
        self.wait()
        return out, None


class Forked:
    """Runs launch.py in processes that are forked from the one that `serve` has started, any number at once."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._address = str(directory / 'socket')

    def _request(self, arguments: Iterable[object], variables: dict[str, str] | None, code: str, *outputs: int):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._address)
        request = {'arguments': list(map(str, arguments)), 'variables': variables or {}, 'code': code}
        socket.send_fds(connection, [json.dumps(request).encode() + b'\n'], outputs)
        return connection

    def start(self, *arguments: object, variables: dict[str, str] | None = None, code: str = '') -> Started:
        """Starts it in the project's folder, `variables` added to the user's environment, after some Python code."""
        ours, theirs = os.pipe()
        connection = self._request(arguments, variables, code, theirs, theirs)
        os.close(theirs)
        return Started(connection, ours)

    def attached(self, *arguments: object, descriptor: int, code: str = '') -> Started:
        """Starts it as `start` does, its output led to a descriptor, such as a terminal's, instead of a pipe."""
        connection = self._request(arguments, None, code, descriptor, descriptor)
        return Started(connection, os.open(os.devnull, os.O_RDONLY))

    def launch(self, *arguments: object, environment: dict[str, str] | None = None) -> Ended:
        """Runs it in the project's folder, `environment` added to the user's; waits for its end."""
        with tempfile.TemporaryFile('w+') as out, tempfile.TemporaryFile('w+') as err:
            with self._request(arguments, environment, '', out.fileno(), err.fileno()) as connection:
                _, code = map(int, connection.makefile())
            out.seek(0), err.seek(0)
            return Ended(code, out.read(), err.read())


def serve(directory: pathlib.Path) -> None:
    """Starts the process to fork from, for all of this run of the tests, with which it ends."""
    tests = os.getppid() if 'PYTEST_XDIST_WORKER' in os.environ else os.getpid()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / 'socket'))
        listening.listen(16)
        number = listening.fileno()
        given = [sys.executable, __file__, str(number), str(tests)]
        subprocess.Popen(given, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, pass_fds=[number])


def _fork_on_request(number: int, tests: int) -> None:
    """Answers requests by processes of their own, as long as the tests' process is there.

    Devices are not touched here, so that each process chooses its own.
    """
    import alexnet_jax.commands.compare
    import alexnet_jax.commands.figures
    import alexnet_jax.commands.inspect
    import alexnet_jax.commands.train  # noqa: F401

    listening = socket.socket(fileno=number)
    listening.settimeout(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while pathlib.Path(f'/proc/{tests}').exists():
        with contextlib.suppress(TimeoutError):
            connection, _ = listening.accept()
            if not os.fork():
                listening.close()
                _answer(connection)
            connection.close()


def _answer(connection: socket.socket) -> NoReturn:
    """Forks the process that was asked for; says its number, and in the end its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    connection.settimeout(None)
    request, outputs, *_ = socket.recv_fds(connection, 1 << 20, 2)
    while not request.endswith(b'\n'):
        request += connection.recv(1 << 20)
    child = os.fork()
    if not child:
        connection.close()
        for output, descriptor in zip(outputs, (1, 2), strict=True):
            os.dup2(output, descriptor)
        os.closerange(3, max(outputs) + 1)
        _become(**json.loads(request))
    for output in outputs:
        os.close(output)
    connection.sendall(b'%d\n' % child)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(BrokenPipeError):  # nobody waits for it
        connection.sendall(b'%d\n' % code)
    os._exit(0)


def _become(arguments: list[str], variables: dict[str, str], code: str) -> NoReturn:
    """Becomes `python launch.py ARGUMENTS...`."""
    os.environ.update(variables)
    if 'JAX_PLATFORMS' in variables:  # which JAX reads when it is imported
        sys.modules['jax'].config.update('jax_platforms', variables['JAX_PLATFORMS'])
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which is ignored where the tests were started by nohup
    sys.argv, status = ['launch.py', *arguments], 0
    try:
        exec(code, {})
        runpy.run_path('launch.py', run_name='__main__')
    except SystemExit as ended:
        status = ended.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(status)


if __name__ == '__main__':
    sys.path[0] = str(ROOT)
    _fork_on_request(*map(int, sys.argv[1:]))
