"""Everything about a GPU in one command: it checks and measures, and writes docs/gpu.md.

    pip install torch            # for the comparison; without it only our side is measured
    python -m benchmarks.gpu
    python -m benchmarks.gpu --small --output=/tmp/gpu.md     # minutes, on any machine: to see that all parts run
    python -m benchmarks.gpu --parts=numerics,ours --timeout=300

PyTorch and JAX must be built for the same version of CUDA, as their packages share libraries: torch of CUDA 12 beside
jax[cuda12], torch of CUDA 13 beside jax[cuda13].

Each part is a process of its own, so that it finds the memory free, and so that one that fails is reported and the rest
goes on. The exit code is 1 where one has failed. What takes longest, PyTorch's compilation, comes last.

numerics      logits and gradients beside the CPU's; see gpu_numerics.py
ours          images per second, batches of 128 and 1,024, float32 and bfloat16; memory at most
digits        experiments/digits.py from the command to its end
end to end    whole runs beside their step and their pipeline
profile       the time of a step by layer
two columns   the step on two devices, one column on each, where there are two
step          as ours, beside PyTorch
"""

import argparse
import dataclasses
import datetime
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from importlib import metadata

from alexnet_jax.runtime.errors import UserError, exit_codes

ROOT = pathlib.Path(__file__).resolve().parents[1]
SHIPPED = ROOT / 'docs' / 'gpu.md'
_PACKAGES = ('jax', 'jaxlib', 'jax-cuda13-plugin', 'jax-cuda12-plugin', 'flax', 'torch')
_TAIL = 25  # lines of what a part that failed has printed
_COLORS = re.compile(r'\x1b\[[0-9;?]*[A-Za-z]')


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a part: its command, exit code, seconds, and what it printed."""

    name: str
    command: tuple[str, ...]
    code: int
    seconds: float
    printed: str


def parts(small: bool, devices: int, directory: str) -> dict[str, tuple[str, ...]]:
    """The commands of all parts by name, in order, as arguments of Python.

    Args:
      small: for a trial of the parts themselves.
      devices: how many there are.
      directory: for what the parts write.
    """
    example = '--config=experiments/digits.py' if small else '--config=experiments/paper.py'
    step = ('-m', 'benchmarks.train_step', example, '--batch=4' if small else '--batch=128,1024')
    step += ('--seconds=0.1', '--rounds=1') if small else ()
    runs = ('--cases=digits', '--steps=2', '--rounds=1', '--nooverhead') if small else ('--precision=bfloat16',)
    digits = ('launch.py', f'--workdir={directory}/digits', '--config=experiments/digits.py')
    profile = ('launch.py', f'--workdir={directory}/profile', '--mode=profile', example)
    found = {
        'numerics': ('-m', 'benchmarks.gpu_numerics', example),
        'ours, float32': (*step, '--sides=ours'),
        'ours, bfloat16': (*step, '--sides=ours', '--precision=bfloat16'),
        'digits': (*digits, '--config.epochs=1') if small else digits,
        'end to end': ('-m', 'benchmarks.end_to_end', *runs),
        'profile': profile if small else (*profile, '--config.precision=bfloat16'),
    }
    if devices > 1:
        columns = (*step, '--sides=ours', '--column=2')
        found |= {'two columns, float32': columns, 'two columns, bfloat16': (*columns, '--precision=bfloat16')}
    return found | {'step, bfloat16': (*step, '--precision=bfloat16'), 'step, float32': step}


def outcome_of(name: str, arguments: tuple[str, ...], timeout: float = 0) -> Outcome:
    """Runs a part in a process of its own, which prints as it goes; it is killed after `timeout` seconds, if not 0."""
    command = (sys.executable, *arguments)
    environment = os.environ | {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false', 'COLUMNS': '120', 'PYTHONUNBUFFERED': '1'}
    lines, began = [], time.monotonic()
    try:
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
        ) as process:
            assert process.stdout is not None
            if timeout:
                deadline = threading.Timer(timeout, process.kill)
                deadline.daemon = True
                deadline.start()
            for line in process.stdout:
                print(line, end='')
                lines.append(_COLORS.sub('', line.rstrip()))
        code = process.returncode
        if timeout:
            deadline.cancel()
    except OSError as error:
        code, lines = 1, [str(error)]
    return Outcome(name, ('python', *arguments), code, time.monotonic() - began, '\n'.join(lines))


def page(outcomes: list[Outcome], device: str, devices: int) -> str:
    """The document: where and when, a table of the parts, and what each printed."""
    versions = ', '.join(f'{name} {version}' for name in _PACKAGES if (version := _version(name)))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    rows = [
        f'| {one.name} | {"done" if one.code == 0 else f"**failed, exit code {one.code}**"} | {one.seconds:,.0f} s |'
        for one in outcomes
    ]
    sections = []
    for one in outcomes:
        printed = one.printed if one.code == 0 else '\n'.join(one.printed.splitlines()[-_TAIL:])
        sections += ['', f'## {one.name.capitalize()}', '', f'`{" ".join(one.command)}`', '', '```', printed, '```']
    return '\n'.join(
        [
            f'# Measured on {devices} x {device}',
            '',
            f'`python -m benchmarks.gpu`, {datetime.date.today()}, {cores} cores, Python {platform.python_version()}, '
            f'{versions}.',
            '',
            '| part | | time |',
            '|---|---|---|',
            *rows,
            *sections,
            '',
        ]
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ''


def devices_here() -> tuple[str, int]:
    """Kind and number of JAX's devices, from a process of its own, which gives their memory back."""
    code = 'from alexnet_jax.runtime.devices import choose_platform; choose_platform(); import jax; '
    code += 'print(jax.devices()[0].device_kind, jax.device_count(), sep="|")'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f'JAX does not start here: {done.stderr.strip().splitlines()[-1]}')
    kind, count = done.stdout.strip().splitlines()[-1].split('|')
    return kind, int(count)


def main() -> int:
    """Runs all parts and writes the document; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--small', action='store_true', help='small networks, a few steps: a trial of the parts')
    parser.add_argument('--output', type=pathlib.Path, help='the document; by default docs/gpu.md')
    parser.add_argument('--parts', help='some of them alone, by the beginnings of their names, as in numerics,ours')
    parser.add_argument('--timeout', type=float, default=0, help='seconds after which a part is ended; 0 for never')
    given = parser.parse_args()
    device, devices = devices_here()
    if given.output is None and (given.small or device == 'cpu'):
        raise UserError(f'docs/gpu.md is for a GPU; on {device}, or with --small, name another file with --output.')
    output, outcomes = given.output or SHIPPED, []
    wanted = tuple(given.parts.split(',')) if given.parts else ('',)
    with tempfile.TemporaryDirectory() as directory:
        chosen = {name: one for name, one in parts(given.small, devices, directory).items() if name.startswith(wanted)}
        if not chosen:
            raise UserError(f'--parts={given.parts} names no part.')
        for name, arguments in chosen.items():
            print(f'\n=== {name}: python {" ".join(arguments)}', flush=True)
            outcomes.append(outcome_of(name, arguments, given.timeout))
            output.write_text(page(outcomes, device, devices))  # what has been measured is kept, whatever comes
    failed = [one.name for one in outcomes if one.code]
    print(f'\nWrote {output}. Failed: {", ".join(failed) or "none"}.')
    return bool(failed)


if __name__ == '__main__':
    with exit_codes():
        sys.exit(main())
