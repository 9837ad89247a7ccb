"""Runs launch.py as a user does: in a process of its own, or in one that is forked from a process ready to run it."""

import dataclasses
import json
import os
import pathlib
import queue
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
# XLA's flags for tests, whose time goes into compiling: what is compiled is slower, and means the same.
COMPILE_QUICKLY = '--xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false'
# What tests set for JAX by `conftest.py`, so that each program is compiled once in a run of all tests.
_SHARED = ('JAX_COMPILATION_CACHE_DIR', 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', 'XLA_FLAGS')


def environment(**more: str) -> dict[str, str]:
    """A user's environment: nothing is set for JAX but where compiled programs are kept, and how they are compiled."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(('JAX_', 'XLA_'))}
    return kept | {name: os.environ[name] for name in _SHARED if name in os.environ} | more


def launch(*arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Runs it in the project's folder; compiled with all of XLA's effort, as a long run is quicker so."""
    return subprocess.run(
        [sys.executable, 'launch.py', *arguments],
        cwd=ROOT,
        env=environment(XLA_FLAGS=''),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


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


# Reads requests, one a line in JSON; for each forks a process that becomes `python launch.py ARGUMENTS...`, whose
# output goes where the command line says. Devices are not touched before, so each process chooses its own.
_FORKING = """
import json, os, runpy, sys, traceback
import alexnet_jax.commands.compare, alexnet_jax.commands.figures
import alexnet_jax.commands.inspect, alexnet_jax.commands.train
out, err = sys.argv[1:]
for line in sys.stdin:
    request = json.loads(line)
    if not os.fork():
        for name, number in ((out, 1), (err, 2)):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(request['environment'])
        if 'JAX_PLATFORMS' in request['environment']:  # which JAX reads when it is imported
            sys.modules['jax'].config.update('jax_platforms', request['environment']['JAX_PLATFORMS'])
        sys.argv, code = ['launch.py', *request['arguments']], 0
        try:
            runpy.run_path('launch.py', run_name='__main__')
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


class Forked:
    """Runs launch.py in processes that are forked from one that has imported everything, as many at once as wished."""

    def __init__(self, count: int = 2) -> None:
        """Starts `count` processes to fork from: so many runs can be under way at once."""
        self._directory = tempfile.TemporaryDirectory()
        self._idle: queue.Queue[tuple[subprocess.Popen[str], list[pathlib.Path]]] = queue.Queue()
        for number in range(count):
            outputs = [pathlib.Path(self._directory.name, f'{name}{number}') for name in ('out', 'err')]
            process = subprocess.Popen(
                [sys.executable, '-c', _FORKING, *map(str, outputs)],
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self._idle.put((process, outputs))

    def launch(self, *arguments: object, environment: dict[str, str] | None = None) -> Ended:
        """Runs it in the project's folder, `environment` added to the user's; waits for its turn, and for its end."""
        process, outputs = self._idle.get()
        request = {'arguments': list(map(str, arguments)), 'environment': environment or {}}
        try:
            process.stdin.write(json.dumps(request) + '\n')
            process.stdin.flush()
            code = int(process.stdout.readline())
            return Ended(code, *(output.read_text() for output in outputs))
        finally:
            self._idle.put((process, outputs))

    def close(self) -> None:
        """Ends the processes."""
        while not self._idle.empty():
            process, _ = self._idle.get()
            process.stdin.close()
            process.wait(timeout=60)
            process.stdout.close()
        self._directory.cleanup()
