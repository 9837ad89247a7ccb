"""Runs launch.py as a user does: in a process of its own, or in one that is forked from a process ready to run it."""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import re
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback

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
    kept = {name: value for name, value in os.environ.items() if not name.startswith(('JAX_', 'XLA_'))}
    return kept | {name: os.environ[name] for name in ours if name in os.environ} | more


def _has_driver() -> bool:
    from alexnet_jax.runtime import devices

    return devices._has_nvidia_driver()


def launch(*arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Runs it in the project's folder; compiled with all of XLA's effort, as a long run is quicker so."""
    variables = {name: value for name, value in environment().items() if name not in quickly()}
    given = [sys.executable, 'launch.py', *arguments]
    return subprocess.run(given, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=timeout)


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


class Forked:
    """Runs launch.py in processes that are forked from the one that `serve` has started, any number at once."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._address = str(directory / 'socket')

    def launch(self, *arguments: object, environment: dict[str, str] | None = None) -> Ended:
        """Runs it in the project's folder, `environment` added to the user's; waits for its end."""
        with socket.socket(socket.AF_UNIX) as connection, tempfile.TemporaryDirectory() as directory:
            connection.connect(self._address)
            outputs = [os.path.join(directory, name) for name in ('out', 'err')]
            request = [list(map(str, arguments)), environment or {}, *outputs]
            connection.sendall(json.dumps(request).encode() + b'\n')
            code = int(connection.makefile().readline())
            return Ended(code, *(pathlib.Path(output).read_text() for output in outputs))


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
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                connection.settimeout(None)
                request = json.loads(connection.makefile().readline())
                child = os.fork()
                if not child:
                    _become(*request)
                connection.sendall(b'%d\n' % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
                os._exit(0)
            connection.close()


def _become(arguments: list[str], variables: dict[str, str], out: str, err: str) -> None:
    """Becomes `python launch.py ARGUMENTS...`; does not return."""
    for name, descriptor in ((out, 1), (err, 2)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.environ.update(variables)
    if 'JAX_PLATFORMS' in variables:  # which JAX reads when it is imported
        sys.modules['jax'].config.update('jax_platforms', variables['JAX_PLATFORMS'])
    sys.argv, code = ['launch.py', *arguments], 0
    try:
        runpy.run_path('launch.py', run_name='__main__')
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(code)


if __name__ == '__main__':
    sys.path[0] = str(ROOT)
    _fork_on_request(*map(int, sys.argv[1:]))
