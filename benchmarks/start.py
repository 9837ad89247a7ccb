"""Seconds from the command to the first training step, by stage; and seconds of the other modes.

    python -m benchmarks.start

Each start is a process of its own. The first of a turn finds nothing: no prepared data set, and no compiled program;
the second finds both; the third finds the data set, and JAX keeps no programs. The operating system has read all files
before. What is measured is launch.py itself, with a clock put around what it calls, which costs a user nothing.
"""

import builtins
import contextlib
import json
import os
import pathlib
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
EXAMPLE = '--config=experiments/digits.py'
FIRST, SECOND, NOTHING_KEPT = 'first start', 'second start', 'second start, nothing kept'
STAGES = {
    'interpreter': "Python's own start",
    'imports': 'imports',
    'data': 'preparing and opening the data set',
    'trace': 'tracing and lowering',
    'compile': 'compiling, or loading what was compiled',
    'state': 'the first state, without its compilation',
    'step': 'the first step, without its compilation',
    'rest': 'the rest: flags, config, checks, log, first batch',
}
_COMPILATION = {  # JAX's events
    '/jax/core/compile/jaxpr_trace_duration': 'trace',
    '/jax/core/compile/jaxpr_to_mlir_module_duration': 'trace',
    '/jax/core/compile/backend_compile_duration': 'compile',  # with the search in the cache
}


class Clock:
    """Seconds by stage; time in a nested stage counts for the inner one alone."""

    def __init__(self, began: float) -> None:
        """Counts the time since `began`, of `time.time`, as the interpreter's start."""
        self.seconds = dict.fromkeys(STAGES, 0.0) | {'interpreter': time.time() - began}
        self._stages, self._since = ['rest'], time.perf_counter()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the time of a block for a stage."""
        self._count()
        self._stages.append(name)
        try:
            yield
        finally:
            self._count()
            self._stages.pop()

    def within(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time counted for a stage."""

        def timed(*arguments: Any, **more: Any) -> Any:
            with self.stage(name):
                return function(*arguments, **more)

        return timed

    def told(self, event: str, seconds: float, **_: Any) -> None:
        """For `jax.monitoring`: moves the time of JAX's compilations out of the stage in which they happened."""
        if name := _COMPILATION.get(event):
            self.seconds[self._stages[-1]] -= seconds
            self.seconds[name] += seconds

    def _count(self) -> None:
        now = time.perf_counter()
        self.seconds[self._stages[-1]] += now - self._since
        self._since = now


def first_step(began: str, output: str, *arguments: str) -> None:
    """Runs `launch.py ARGUMENTS...` up to the first step; writes seconds by stage to `output`."""
    clock = Clock(float(began))
    builtins.__import__ = clock.within('imports', builtins.__import__)
    import jax

    import alexnet_jax.commands.train as train

    jax.monitoring.register_event_duration_secs_listener(clock.told)
    make_step = train.training_step

    def training_step(*given: Any) -> Callable[..., Any]:
        step = make_step(*given)

        def once(*given: Any) -> None:
            with clock.stage('step'):
                jax.block_until_ready(step(*given))
            pathlib.Path(output).write_text(json.dumps(clock.seconds))
            sys.stdout.flush()
            os._exit(0)

        once.lower = step.lower
        return once

    def initialize(*given: Any) -> Any:
        return jax.block_until_ready(restore_or_initialize(*given))

    restore_or_initialize = train.restore_or_initialize
    train.open_data = clock.within('data', train.open_data)
    train.restore_or_initialize = clock.within('state', initialize)
    train.training_step = training_step
    sys.argv = ['launch.py', *arguments]
    runpy.run_path('launch.py', run_name='__main__')


def start(place: pathlib.Path, command: list[str], keep: bool = True) -> float:
    """Seconds of a process; compiled programs are cached in `place` if `keep`."""
    own = {'XDG_CACHE_HOME': str(place / 'caches'), 'MPLCONFIGDIR': str(place.parent / 'matplotlib')}
    own |= {} if keep else {'JAX_ENABLE_COMPILATION_CACHE': 'false'}
    kept = {name: value for name, value in os.environ.items() if not name.startswith('JAX_COMPILATION_CACHE')}
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=kept | own, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if 'Traceback' in done.stderr:
        raise RuntimeError(done.stdout + done.stderr)
    return seconds


def to_first_step(place: pathlib.Path, name: str, keep: bool = True) -> dict[str, float]:
    """Seconds by stage of the start of a run `name` in `place`."""
    output = place / f'{name}.json'
    code = 'import sys; from benchmarks.start import first_step; first_step(*sys.argv[1:])'
    arguments = [f'--workdir={place / name}', EXAMPLE, f'--config.data.directory={place / "data"}']
    start(place, ['-c', code, str(time.time()), str(output), *arguments], keep)
    return json.loads(output.read_text())


def modes(place: pathlib.Path, kind: str) -> dict[str, list[str]]:
    """Command lines of a kind of start, by description; the first trains the run that the others use."""
    data, workdir = f'--config.data.directory={place / "data"}', place / kind.replace(' ', '_')
    run, picture = ['launch.py', f'--workdir={workdir}'], place / 'picture.png'
    from PIL import Image

    Image.effect_mandelbrot((256, 256), (-2.0, -1.5, 1.0, 1.5), 100).convert('RGB').save(picture)
    return {
        'train, one epoch, with validation and checkpoint': [*run, EXAMPLE, data, '--config.epochs=1'],
        '--help': ['launch.py', '--help'],
        'a mistake in a flag': ['launch.py', '--wrkdir=runs', EXAMPLE],
        'a mistake in a field': [*run, EXAMPLE, '--config.lerning_rate=1'],
        'prepare (it is prepared)': ['launch.py', EXAMPLE, data, '--mode=prepare'],
        'inspect': ['launch.py', EXAMPLE, '--mode=inspect'],
        'eval, center and ten views': [*run, '--mode=eval'],
        'predict, one image': [*run, '--mode=predict', f'--images={picture}', '--json'],
        'features of 360 images': [*run, '--mode=features', '--split=validation'],
        'figures and report': [*run, '--mode=figures'],
        'compare': ['launch.py', '--mode=compare', f'--runs={workdir}'],
    }


def _shown(values: list[float]) -> str:
    return f'{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})'


def main(argv: list[str]) -> None:
    """Measures in turns, and prints two tables."""
    import jax
    from absl import flags
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from alexnet_jax.runtime.devices import available_cores

    console, turns = Console(width=120), flags.FLAGS.turns
    found: dict[str, list[dict[str, float]]] = {FIRST: [], SECOND: [], NOTHING_KEPT: []}
    others: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as directory:
        base = pathlib.Path(directory)
        (base / 'before').mkdir()
        to_first_step(base / 'before', 'run')  # so that all files have been read once
        for turn in track(range(turns), console=console, disable=not console.is_terminal):
            place = base / str(turn)
            place.mkdir()
            for number, kind in enumerate(found):
                found[kind].append(to_first_step(place, f'started{number}', keep=kind != NOTHING_KEPT))
            for kind in (FIRST, SECOND):
                for name, command in modes(place, kind).items():
                    others.setdefault(name, {FIRST: [], SECOND: []})[kind].append(start(place, command))

    table = Table(title=f'Seconds to the first step of the embedded example; median of {turns} (least to most)')
    for column in ('', *found):
        table.add_column(column, justify='right' if column else 'left')
    for stage, name in STAGES.items():
        table.add_row(name, *(_shown([one[stage] for one in values]) for values in found.values()))
    table.add_section()
    table.add_row('sum', *(_shown([sum(one.values()) for one in values]) for values in found.values()))
    console.print(table)
    table = Table(title='Seconds to the end of a command: when it first compiles its programs, and again')
    for column in ('', FIRST, SECOND):
        table.add_column(column, justify='right' if column else 'left')
    for name, kinds in others.items():
        table.add_row(name, *map(_shown, kinds.values()))
    console.print(table)
    versions = f'Python {sys.version.split()[0]}, JAX {jax.__version__}'
    console.print(f'{available_cores()} cores, {versions}.', highlight=False)


if __name__ == '__main__':
    from absl import app, flags

    flags.DEFINE_integer('turns', 5, 'How often each start is measured.', lower_bound=1)
    app.run(main)
