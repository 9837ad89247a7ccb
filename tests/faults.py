"""Makes the calls of a small run fail, one after another, and looks whether anything of it is lost.

python tests/faults.py [--scenario=train,...] [--first=0] [--every=1] [--round=0] [--rounds=1] [--directory=DIRECTORY]

A place is the n-th call of a kind (of the file system, Orbax and TensorStore, JAX, or the input pipeline) from one line
of code. A run without faults finds the places; then at each of them a fault is raised in a run of its own: an error of
the system, of memory, Ctrl-C, or a TypeError, as of a defect. Afterwards there must be one plain message (for a defect
a traceback) and an exit code other than 0, no checkpoint may be gone, and the same command must end with what the
undisturbed run left, to the last bit. A fault that does no harm may end well. Round r takes the r-th next fault at each
place; nine rounds take them all. Ends with code 0 where nothing was violated.
"""

import argparse
import builtins
import collections
import contextlib
import dataclasses
import errno
import io
import json
import os
import pathlib
import re
import runpy
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

TESTS = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

import launching  # noqa: E402

MOST = 2  # calls from one line that are places of their own
SECONDS = 120  # that a run may take
KEPT = 2  # checkpoints, as tests/three_layers.py says
OURS = str(TESTS.parent / 'alexnet_jax')
# Lines of these are not where a call comes from: who called them is.
_BETWEEN = ('/os.py', '/pathlib.py', '/shutil.py', '/genericpath.py', '/posixpath.py', '/tempfile.py', '/contextlib.py')
_BETWEEN += ('/epath/', '/asyncio/', '/threading.py', '/concurrent/', '/faults.py', 'importlib', '/json/', '<frozen')


def of_system(name: str) -> Callable[[str], BaseException]:
    number = getattr(errno, name)
    return lambda path: OSError(number, os.strerror(number), *([path] if path else []))


def exhausted(path: str) -> BaseException:
    import jax

    return jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 1000000 bytes.')


FAULTS: dict[str, Callable[[str], BaseException]] = {
    **{name: of_system(name) for name in ('EACCES', 'EIO', 'ENOSPC', 'ENOENT', 'EROFS')},
    'RESOURCE_EXHAUSTED': exhausted,
    'MemoryError': lambda path: MemoryError(),
    'KeyboardInterrupt': lambda path: KeyboardInterrupt(),
    'TypeError': lambda path: TypeError('a defect of the software'),
}
_OF_JAX = ('RESOURCE_EXHAUSTED', 'MemoryError', 'KeyboardInterrupt', 'TypeError')
_OF_FILES = tuple(name for name in FAULTS if name != 'RESOURCE_EXHAUSTED')
_OF_KIND = {'jax': _OF_JAX, 'file': _OF_FILES, 'orbax': tuple(FAULTS), 'data': _OF_FILES}


# Where calls are counted, and fail.


class Injector:
    """Counts calls by place, and raises a fault at one of them."""

    def __init__(self, root: pathlib.Path, at: str = '', fault: str = '') -> None:
        self.root, self.at, self.fault, self.hit = str(root), at, fault, False
        self.places: dict[str, None] = {}
        self._counts: collections.Counter[str] = collections.Counter()
        self._lock, self._inside = threading.Lock(), threading.local()

    def call(self, kind: str, name: str, path: str = '') -> None:
        """To be called before each call of a kind."""
        if getattr(self._inside, 'busy', False):
            return
        self._inside.busy = True
        try:
            site = self._site()
            with self._lock:
                self._counts[f'{kind}:{name} {site}'] += 1
                count = self._counts[f'{kind}:{name} {site}']
            if count > MOST:
                return
            place = f'{kind}:{name} {site} #{count}'
            self.places[place] = None
        finally:
            self._inside.busy = False
        if place == self.at and not self.hit:
            self.hit = True
            fault = self.fault
            if fault == 'KeyboardInterrupt' and threading.current_thread() is not threading.main_thread():
                fault = 'EIO'  # Python raises it in the main thread alone
            raise FAULTS[fault](path)

    def _site(self) -> str:
        frame, lines = sys._getframe(2), []
        while frame is not None and len(lines) < 2:
            file = frame.f_code.co_filename
            if not any(part in file for part in _BETWEEN):
                if not lines or file.startswith(OURS):
                    lines.append(f'{"/".join(pathlib.PurePath(file).parts[-2:])}:{frame.f_lineno}')
                if file.startswith(OURS):
                    break
            frame = frame.f_back
        return ' < '.join(lines) or 'a thread'

    def path_of(self, arguments: tuple[Any, ...], more: dict[str, Any]) -> str | None:
        """The path below the root that a call is about; None where it is about something else."""
        first = arguments[0] if arguments else '.'
        try:
            if isinstance(first, int):
                path = os.readlink(f'/proc/self/fd/{first}')
            else:
                path = os.fsdecode(os.fspath(first))
                if more.get('dir_fd') is not None:
                    path = os.path.join(os.readlink(f'/proc/self/fd/{more["dir_fd"]}'), path)
        except (OSError, TypeError):
            return None
        return path if path.startswith(self.root) else None

    def wrapped(self, kind: str, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            self.call(kind, name)
            return function(*arguments, **more)

        return call

    def of_path(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            if not getattr(self._inside, 'busy', False):
                path = self.path_of(arguments, more)
                if path:
                    self.call('file', name, path)
            return function(*arguments, **more)

        return call

    def opening(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            path = self.path_of(arguments, more)
            if not path or getattr(self._inside, 'busy', False):
                return function(*arguments, **more)
            self.call('file', 'open', path)
            return _File(function(*arguments, **more), self, path)

        return call


class _File:
    """A file whose reads and writes are calls too."""

    def __init__(self, file: Any, injector: Injector, path: str) -> None:
        self.__dict__.update(_file=file, _injector=injector, _path=path)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._file, name)
        if name in ('read', 'readinto', 'readline', 'write', 'writelines', 'truncate', 'flush', 'close'):

            def call(*arguments: Any) -> Any:
                if name == 'close':
                    return value(*arguments)
                self._injector.call('file', name, self._path)
                return value(*arguments)

            return call
        return value

    def __enter__(self) -> Any:
        self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        return self._file.__exit__(*error)

    def __iter__(self) -> Any:
        return iter(self._file)


def install(injector: Injector) -> None:
    """Replaces the functions whose calls are counted."""
    import fcntl

    import jax
    import orbax.checkpoint as ocp
    import simplejpeg
    import tensorstore

    from alexnet_jax.commands import train
    from alexnet_jax.data import making, pipeline, records
    from alexnet_jax.runs import checkpoint, trained

    builtins.open = io.open = injector.opening(io.open)
    for name in (
        'open',
        'fsync',
        'rename',
        'replace',
        'mkdir',
        'unlink',
        'remove',
        'rmdir',
        'listdir',
        'scandir',
        'stat',
    ):
        setattr(os, name, injector.of_path(name, getattr(os, name)))
    os.truncate, os.write, os.read = (
        injector.of_path(name, getattr(os, name)) for name in ('truncate', 'write', 'read')
    )
    shutil.disk_usage = injector.of_path('disk_usage', shutil.disk_usage)
    shutil.rmtree = injector.of_path('rmtree', shutil.rmtree)
    flock = fcntl.flock
    fcntl.flock = lambda file, how: (
        injector.call('file', 'flock', getattr(file, 'name', '')),
        flock(_bare(file), how),
    )[1]

    def patch(kind: str, owner: Any, *names: str) -> None:
        for name in names:
            setattr(
                owner, name, injector.wrapped(kind, f'{getattr(owner, "__name__", owner)}.{name}', getattr(owner, name))
            )

    manager = ('__init__', 'save', 'restore', 'wait_until_finished', 'check_for_errors', 'close', 'all_steps')
    patch('orbax', ocp.CheckpointManager, *manager)
    patch('orbax', ocp.PyTreeCheckpointHandler, 'async_save', 'restore', 'metadata')
    patch('orbax', ocp.JsonCheckpointHandler, 'async_save', 'restore')
    patch('orbax', tensorstore, 'open')
    patch('jax', jax, 'device_put', 'make_array_from_process_local_data', 'make_array_from_callback')
    patch('jax', checkpoint, 'examine')
    patch('jax', train, 'first_state')
    for owner, name in ((train, 'training_step'), (train, 'prediction_step'), (trained, 'prediction_step')):
        setattr(owner, name, _compiled(injector, name, getattr(owner, name)))
    patch('data', records.Shards, 'read', '_open_shard')
    patch('data', simplejpeg, 'decode_jpeg', 'encode_jpeg', 'decode_jpeg_header')
    patch('data', records, 'ArrayRecordReader', 'ArrayRecordWriter')
    patch('data', making, 'normalized')
    batches = pipeline._in_threads
    pipeline._in_threads = lambda *given: _items(injector, batches(*given))


def _bare(file: Any) -> Any:
    return file._file if isinstance(file, _File) else file


def _compiled(injector: Injector, name: str, make: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*given: Any, **more: Any) -> Callable[..., Any]:
        step = make(*given, **more)
        call = injector.wrapped('jax', name, step)
        call.lower = step.lower
        return call

    return wrapped


def _items(injector: Injector, items: Iterator[Any]) -> Iterator[Any]:
    while True:
        injector.call('data', 'next')
        try:
            item = next(items)
        except StopIteration:
            return
        yield item


# Runs in processes of their own.


@dataclasses.dataclass
class Ended:
    """How a run ended; `places` in their order, `hit` whether the fault was raised."""

    code: int
    text: str
    places: list[str]
    hit: bool
    seconds: float


def run(arguments: list[str], place: pathlib.Path, at: str = '', fault: str = '') -> Ended:
    """Runs launch.py in a process that is forked from this one."""
    report, output, began = place / 'report.json', place / 'output.txt', time.monotonic()
    report.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        _become(arguments, place, output, report, at, fault)
    status, until = None, began + SECONDS
    while status is None:
        found, waited = os.waitpid(child, os.WNOHANG)
        if found:
            status = os.waitstatus_to_exitcode(waited)
        elif time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            status = -signal.SIGKILL
        else:
            time.sleep(0.005)
    told = json.loads(report.read_text()) if report.exists() else {'places': [], 'hit': False}
    return Ended(status, output.read_text(errors='replace'), seconds=time.monotonic() - began, **told)


def _become(
    arguments: list[str], place: pathlib.Path, output: pathlib.Path, report: pathlib.Path, at: str, fault: str
) -> NoReturn:
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(written, 1), os.dup2(written, 2)
    sys.stdout, sys.stderr = (open(number, 'w', closefd=False) for number in (1, 2))  # noqa: SIM115
    code, injector = 0, Injector(place / 'of', at, fault)
    keep, exists = os._exit, os.write
    try:
        install(injector)
        sys.argv = ['launch.py', *arguments]
        runpy.run_path(str(TESTS.parent / 'launch.py'), run_name='__main__')
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    injector._inside.busy = True
    with contextlib.suppress(OSError):
        sys.stdout.flush(), sys.stderr.flush()
    descriptor = os.open(report, os.O_WRONLY | os.O_CREAT, 0o666)
    exists(descriptor, json.dumps({'places': list(injector.places), 'hit': injector.hit}).encode())
    keep(code)


# What is run, and what it leaves.

SMALL = ('--config=tests/three_layers.py', '--config.batch_size=720', '--config.checkpoint_every_steps=1')
SMALL += ('--config.log_every_steps=1', '--config.mesh.data=1', '--config.mesh.column=1', '--config.data.threads=1')


@dataclasses.dataclass(frozen=True)
class Scenario:
    """What is run: its arguments, the folder that it begins with, and what of its result counts."""

    name: str
    arguments: tuple[str, ...]
    begin: str  # a folder of the ground, or ''
    result: Callable[[pathlib.Path], Any]


def _json_if_there(path: pathlib.Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None


def of_run(workdir: pathlib.Path) -> Any:
    """All that a run leaves: the checksums of the last checkpoint's arrays, its progress, and the log."""
    steps = steps_of(workdir)
    progress = _json_if_there(workdir / f'checkpoints/{steps[-1]}/progress/metadata') if steps else None
    log = workdir / 'metrics.jsonl'
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    for line in lines:
        line.pop('images_per_second', None)
    left = sorted(path.name for path in workdir.iterdir())
    # An old checkpoint may be left too many, where it could not be deleted.
    return steps[-1:], progress, lines, _json_if_there(workdir / 'config.json'), left


def of_eval(workdir: pathlib.Path) -> Any:
    return of_run(workdir), _json_if_there(workdir / 'eval.json')


def of_data(directory: pathlib.Path) -> Any:
    prepared = directory / 'prepared'
    if not prepared.is_dir():
        return None
    files = {path.name: path.read_bytes() for path in prepared.iterdir()}
    # The times of folders only tell where nothing needs to be looked at again; 0 where that is not known.
    places = {path: value for path, value in json.loads(files.pop('source_files.json')).items() if len(value) > 1}
    return files, places, sorted(os.listdir(directory))


def steps_of(workdir: pathlib.Path) -> list[int]:
    folder = workdir / 'checkpoints'
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.is_dir() else []


def scenarios(ground: pathlib.Path) -> dict[str, Scenario]:
    data = f'--config.data.directory={ground / "data"}'
    prepared = ('--config=tests/three_layers.py', '--mode=prepare', '--config.data.source=folder')
    prepared += ('--config.data.source_directory={of}/pictures', '--config.data.directory={of}/prepared')
    prepared += ('--config.data.threads=1', '--config.data.images_per_shard=3')
    every = [
        Scenario('train', ('--workdir={of}', *SMALL, data, '--config.epochs=2'), '', of_run),
        Scenario('resume', ('--workdir={of}', *SMALL, data, '--config.epochs=2'), 'half', of_run),
        Scenario('eval', ('--workdir={of}', '--mode=eval', *SMALL, data), 'whole', of_eval),
        Scenario('prepare', prepared, 'source', of_data),
        Scenario('prepare_raw', (*prepared, '--config.data.storage=raw'), 'source', of_data),
    ]
    return {one.name: one for one in every}


def prepare_ground(ground: pathlib.Path, folders: set[str]) -> None:
    """The data set, a run that has ended, one that was stopped half-way, and a folder of pictures; or some of them."""
    import fakes

    fixed = ['--workdir={of}', *SMALL, f'--config.data.directory={ground / "data"}']
    for name, epochs in (('half', 1), ('whole', 2)):
        if name not in folders or (ground / name).is_dir():
            continue
        place = ground / f'making-{name}'
        (place / 'of').mkdir(parents=True)
        arguments = [one.format(of=place / 'of') for one in [*fixed, f'--config.epochs={epochs}']]
        ended = run(arguments, place)
        assert ended.code == 0, ended.text
        (place / 'of').rename(ground / name)
    if 'source' not in folders or (ground / 'source').is_dir():
        return
    for split in ('train', 'val'):
        for label in range(2):
            folder = ground / 'source.new/pictures' / split / f'class{label}'
            folder.mkdir(parents=True)
            for number in range(3 if split == 'train' else 2):
                seed = 100 * (split == 'val') + 10 * label + number
                (folder / f'{number}.png').write_bytes(fakes.encoded(fakes.noise(40, 44, seed)))
    (ground / 'source.new').rename(ground / 'source')


# Trials.


def one_at_a_time(ground: pathlib.Path, scenario: Scenario, at: str = '', fault: str = '') -> tuple[Ended, list[str]]:
    """Runs a scenario with a fault at a place, and again without; what was violated."""
    place = ground / 'trial'
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    of = place / 'of'
    if scenario.begin:
        shutil.copytree(ground / scenario.begin, of)
        # As a run names its own workdir nowhere, a copy is as good.
    arguments = [one.format(of=of) for one in scenario.arguments]
    before, files = steps_of(of), files_below(of)
    ended = run(arguments, place, at, fault)
    if not at:
        return ended, []
    wrong = complaints(ended, fault) if ended.hit else []
    after = steps_of(of)
    if (of / 'damaged_checkpoints').exists():
        wrong.append('a checkpoint was put aside')
    if before and (not after or after[-1] < before[-1]):
        wrong.append(f'checkpoints {before} before, {after} afterwards')
    wrong += [f'{name} was changed' for name in changed(files, files_below(of))]
    expected = EXPECTED[scenario.name]
    same = ended.code == 0 and scenario.result(of) == expected
    only_printed = fault in ('EACCES', 'EROFS') and 'names another place' in ended.text  # in a read-only workdir
    if ended.code == 0 and not same and not only_printed:
        wrong.append(f'exit code 0, but {different(scenario.result(of), expected)}')
    if not same:
        again = run(arguments, place)
        if again.code != 0:
            wrong.append(f'the same command again ended with code {again.code}: {again.text[-600:]}')
        elif scenario.result(of) != expected:
            wrong.append(f'the same command again left something else: {different(scenario.result(of), expected)}')
    return ended, wrong


EXPECTED: dict[str, Any] = {}


def files_below(directory: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob('*') if path.is_file()}


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    """What was there and has another content, or is gone: nothing may be but logs, the lock, and old checkpoints."""
    may = ('metrics.jsonl', 'tensorboard/', 'lock', 'config.json', 'data_set/', 'eval.json')
    wrong = [name for name, content in before.items() if not name.startswith(may) and after.get(name) != content]
    steps = {name.split('/')[1] for name in after if name.startswith('checkpoints/')}
    kept = sorted((step for step in steps if step.isdigit()), key=int)[
        -KEPT:
    ]  # older ones may be deleted, or half of one
    wrong = [name for name in wrong if not name.startswith('checkpoints/') or name.split('/')[1] in kept]
    wrong += [name for name in ('config.json', 'metrics.jsonl') if name in before and name not in after]
    return wrong


def different(found: Any, expected: Any) -> str:
    if isinstance(found, tuple) and isinstance(expected, tuple):
        return '; '.join(
            f'{str(one)[:300]} for {str(other)[:300]}'
            for one, other in zip(found, expected, strict=True)
            if one != other
        )
    return f'{str(found)[:300]} for {str(expected)[:300]}'


def complaints(ended: Ended, fault: str) -> list[str]:
    """What is wrong with how a run ended that met a fault."""
    wrong = []
    if ended.code == -signal.SIGKILL:
        return [f'it took more than {SECONDS} seconds: {ended.text[-300:]}']
    if ended.code == 0:
        return []
    traced, messages = 'Traceback' in ended.text, len(re.findall('^(?:error: |interrupted; )', ended.text, re.M))
    if fault == 'TypeError':
        if not traced or ended.code != 1:
            wrong.append(f'a defect ended with code {ended.code}, {ended.text[-600:]}')
    elif traced:
        wrong.append(f'a traceback: {ended.text[-1500:]}')
    elif messages != 1:
        wrong.append(f'{messages} messages: {ended.text[-600:]}')
    elif ended.code not in (2, 130):
        wrong.append(f'exit code {ended.code}')
    return wrong


def trials(ground: pathlib.Path, names: list[str], rounds: range) -> Iterator[tuple[Scenario, str, str]]:
    """Every place of the scenarios with the faults of the rounds."""
    for scenario in (scenarios(ground)[name] for name in names):
        ended, _ = one_at_a_time(ground, scenario)
        assert ended.code == 0, ended.text
        EXPECTED[scenario.name] = scenario.result(ground / 'trial/of')
        for turn in rounds:
            for number, place in enumerate(ended.places):
                faults = _OF_KIND[place.partition(':')[0]]
                yield scenario, place, faults[(number + turn) % len(faults)]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--scenario', default='train,resume,eval,prepare,prepare_raw')
    parser.add_argument('--first', type=int, default=0, help='trial to begin with')
    parser.add_argument('--every', type=int, default=1, help='takes every so many-th trial')
    parser.add_argument('--most', type=int, default=10**9, help='trials at most')
    parser.add_argument('--round', type=int, default=0)
    parser.add_argument('--rounds', type=int, default=1)
    parser.add_argument('--directory', type=pathlib.Path, default=None)
    parser.add_argument('--verbose', action='store_true')
    options = parser.parse_args(arguments)
    ground = options.directory or pathlib.Path(tempfile.mkdtemp(prefix='alexnet-jax-faults-'))
    ground.mkdir(exist_ok=True)
    os.chdir(TESTS.parent)
    os.environ |= launching.variables(str(ground / 'programs')) | {'JAX_PLATFORMS': 'cpu'}
    _preload()
    names = options.scenario.split(',')
    prepare_ground(ground, {scenarios(ground)[name].begin for name in names})

    tally, chosen = Tally(), trials(ground, names, range(options.round, options.round + options.rounds))
    try:
        for number, (scenario, place, fault) in enumerate(chosen):
            if number < options.first or (number - options.first) % options.every or tally.trials >= options.most:
                continue
            ended, wrong = one_at_a_time(ground, scenario, place, fault)
            tally.add(scenario, place, ended, wrong)
            if wrong or options.verbose:
                last = (ended.text.strip().splitlines() or [''])[-1][:160]
                print(
                    f'{number}: {scenario.name}, {fault} at {place}: code {ended.code}, {ended.seconds:.1f} s, {last}'
                )
                print(*(f'    {one}' for one in wrong), sep='\n')
            elif tally.trials % 50 == 0:
                print(tally)
            sys.stdout.flush()
    finally:  # after Ctrl-C too
        print(tally, flush=True)
    if options.directory is None:
        shutil.rmtree(ground, ignore_errors=True)
    return bool(tally.violations)


@dataclasses.dataclass
class Tally:
    """What the trials have come to."""

    trials: int = 0
    places: set[tuple[str, str]] = dataclasses.field(default_factory=set)
    faults: int = 0
    survived: int = 0
    violations: int = 0

    def add(self, scenario: Scenario, place: str, ended: Ended, wrong: list[str]) -> None:
        self.trials += 1
        self.faults += ended.hit
        self.survived += ended.hit and ended.code == 0
        self.violations += bool(wrong)
        if ended.hit:
            self.places.add((scenario.name, place))

    def __str__(self) -> str:
        missed = self.trials - self.faults
        return (
            f'{len(self.places)} places, {self.faults} faults, {self.survived} survived, {missed} not reached, '
            f'{self.violations} violations'
        )


def _preload() -> None:
    """Imports what the runs need; devices are not touched, as a process that has them cannot be forked."""
    import tensorboardX.event_file_writer  # noqa: F401

    import alexnet_jax.commands.evaluate
    import alexnet_jax.commands.train
    import alexnet_jax.data.opening  # noqa: F401


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
