"""Runs hostile cases in processes of their own, watches what they do, and writes it down.

Many run one after another in a process that is forked from one that has imported everything; a parent watches their
time and memory. `python tests/hostile/runner.py DIRECTORY [NAME...]` runs some by hand and prints what they did.
"""

import contextlib
import faulthandler
import io
import json
import os
import pathlib
import re
import resource
import runpy
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import traceback

if __name__ == '__main__':
    sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[above]) for above in (2, 1)]

import hostile
from alexnet_jax.runtime.errors import UserError
from benchmarks.resident import peak, restart_peak
from hostile import modes
from hostile.ground import Case, Place

SECONDS, GIGABYTES = 30, 2  # that a case may take
ROOT = pathlib.Path(__file__).resolve().parents[2]
_MAY_CHANGE = ('run', 'data', 'data.partial', 'data.lock')  # in a case's place
_CHANGES = {
    'remove',
    'rename',
    'mkdir',
    'rmdir',
    'symlink',
    'link',
    'truncate',
    'chmod',
    'chown',
    'utime',
    'mkfifo',
    'mknod',
}
_CHANGES = {f'os.{name}' for name in _CHANGES}
_NEVER = {'pickle.find_class', 'os.system', 'os.exec', 'os.fork', 'os.posix_spawn', 'os.spawn', 'subprocess.Popen'}
_NEVER |= {'pty.spawn', 'os.startfile', 'urllib.Request', 'ftplib.connect', 'http.client.connect', 'smtplib.connect'}


class Watch:
    """Notes what must not happen: writes elsewhere, unpickling, programs, code from the case's files."""

    def __init__(self):
        self.place, self.seen = None, []
        sys.addaudithook(self._hook)

    @contextlib.contextmanager
    def on(self, place):
        self.place, self.seen = os.path.realpath(place), []
        try:
            yield self.seen
        finally:
            self.place = None

    def _hook(self, event, arguments):
        if self.place is None:
            return
        if event == 'open':
            path, mode, flags = arguments
            writes = (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            if (writes or any(letter in (mode or '') for letter in 'wax+')) and not isinstance(path, int):
                self._written(event, path)
        elif event in _CHANGES:
            paths = arguments[: 2 if event in ('os.rename', 'os.link') else 1]
            folder = next((one for one in arguments[len(paths) :] if isinstance(one, int) and one > 2), None)
            folder = os.readlink(f'/proc/self/fd/{folder}') if event in ('os.remove', 'os.rmdir') and folder else ''
            for path in paths:
                if not isinstance(path, int):
                    self._written(event, os.path.join(folder, os.fsdecode(path)))
        elif event in _NEVER:
            self.seen.append(f'{event} {arguments!r}'[:300])
        elif event in ('compile', 'exec', 'import'):
            code = arguments[1] if event == 'compile' else arguments[0]
            name = getattr(code, 'co_filename', None) or (arguments[1] if event != 'exec' else None) or ''
            own = os.path.join(self.place, 'here')  # where a case has the config that it names
            if os.fsdecode(name).startswith(self.place) and not os.fsdecode(name).startswith(own):
                self.seen.append(f'{event} {name}')

    def _written(self, event, path):
        path = os.fsdecode(path)
        real = os.path.join(os.path.realpath(os.path.dirname(path) or '.'), os.path.basename(path))
        real = os.path.realpath(real) if event in ('open', 'os.truncate', 'os.chmod') else real
        fine = [os.path.join(self.place, name) for name in _MAY_CHANGE]
        fine.append(os.path.realpath(os.environ['JAX_COMPILATION_CACHE_DIR']))
        if real not in (os.devnull, f'/proc/{os.getpid()}/comm') and not any(
            real == one or real.startswith(one + os.sep) for one in fine
        ):
            self.seen.append(f'{event} {real}')


def tree(place):
    """Names, kinds, sizes and times of all that lies in a case's place and must stay as it is."""
    found = {}
    for where, folders, files in os.walk(place):
        if where == str(place):
            folders[:] = [name for name in folders if name not in _MAY_CHANGE]
        for name in [*folders, *files]:
            status = os.lstat(os.path.join(where, name))
            times = status.st_mtime_ns if stat.S_ISREG(status.st_mode) else 0
            found[os.path.join(where, name)] = (stat.S_IFMT(status.st_mode), status.st_size * bool(times), times)
    return found


class Worker:
    """A forked process that runs cases one after another, and writes down what they did."""

    def __init__(self, work, cases, directory, report):
        self._cases, self._directory, self._report, self._work = list(cases), directory, report, work
        self._child = None
        self._go_on()

    def _go_on(self):
        self._child, self._read, self._begun = None, os.path.getsize(self._report), time.monotonic()
        if not self._cases:
            return
        self.log = self._directory / f'log-{self._work.__name__}-{len(self._cases)}.txt'
        self.log.touch()
        self._child = os.fork()
        if not self._child:
            code = 1
            try:
                os.setsid()
                for number, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY | os.O_APPEND), (2, os.O_WRONLY | os.O_APPEND)):
                    os.dup2(os.open(os.devnull if number == 0 else self.log, flags), number)
                faulthandler.enable()
                self._work(self._cases, self._directory, self._report, self.log)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                with contextlib.suppress(Exception):
                    sys.stdout.flush()
                os._exit(code)

    def poll(self):
        """Looks after the process; returns whether there is more to wait for."""
        if not self._child:
            return False
        lines = self._new_lines()
        ended, status = os.waitpid(self._child, os.WNOHANG)
        lines += self._new_lines() if ended else []
        for line in lines:
            self._begun = time.monotonic()
            if 'name' in line:
                self._cases = [case for case in self._cases if case.name != line['name']]
        why = ''
        if ended:
            if not self._cases:
                self._child = None
                return False
            why = f'the process ended with {os.waitstatus_to_exitcode(status)}'
        elif time.monotonic() - self._begun > SECONDS:
            why = f'it took more than {SECONDS} seconds'
        elif (memory := self._memory()) > GIGABYTES:
            why = f'it took {memory:.1f} GB'
        if why:
            if not ended:
                os.kill(self._child, signal.SIGUSR1)  # for where it is
                time.sleep(0.3)
                os.killpg(self._child, signal.SIGKILL)
                os.waitpid(self._child, 0)
            case = self._cases.pop(0)
            record = {'name': case.name, 'outcome': why, 'message': self.log.read_text(errors='replace')[-3000:]}
            write(self._report, record)
            self._go_on()
        return True

    def _memory(self):
        with contextlib.suppress(OSError, StopIteration):
            text = pathlib.Path(f'/proc/{self._child}/status').read_text()
            return next(int(line.split()[1]) / 1e6 for line in text.splitlines() if line.startswith('VmRSS'))
        return 0

    def _new_lines(self):
        with self._report.open('rb') as file:
            file.seek(self._read)
            lines = file.read().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b'\n')]
        self._read += sum(map(len, whole))
        mine = {case.name for case in self._cases}
        found = [json.loads(line) for line in whole]
        return [line for line in found if line.get('name', line.get('begun')) in mine]


def write(report, record):
    with report.open('ab', buffering=0) as file:
        file.write(json.dumps(record).encode() + b'\n')


def make_base(cases, directory, report, log):
    modes.make_base(directory / 'base')
    write(report, {'name': cases[0].name})


def in_process(cases, directory, report, log):
    """Runs cases through the functions that launch.py calls."""
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    modes.reuse_programs()
    watch = Watch()
    for case in cases:
        write(report, {'begun': case.name})
        place = Place(directory / 'places' / case.file_name, directory / 'base')
        arguments = case.make(place)
        before, said = tree(place.path), log.stat().st_size
        os.chdir(place.path / 'here')
        restart_peak()
        start = time.perf_counter()
        console, message = modes.console(), ''
        with watch.on(place.path) as seen, contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), 'utf-8')) as out:
            try:
                modes.MODES[case.mode](place, console, **arguments)
                outcome = 'fine'
            except UserError as error:
                outcome, message = 'UserError', str(error)
            except BaseException as error:
                outcome = f'{type(error).__name__}: {error}'
                message = traceback.format_exc()[-3000:]
        sys.stdout.flush()
        os.chdir(ROOT)
        after = tree(place.path)
        with log.open(errors='replace') as file:
            file.seek(said)
            logged = file.read()
        record = {
            'outcome': outcome,
            'message': message,
            'seconds': time.perf_counter() - start,
            'gigabytes': peak() / 1e9,
            'seen': list(seen)
            + [f'changed: {name}' for name in {*before, *after} if before.get(name) != after.get(name)],
            'printed': modes.text_of(console) + out_text(out),
            'logged': logged,
            'place': str(place.path),
        }
        place.remove()
        write(report, {'name': case.name, **record})


def out_text(out):
    out.flush()
    return out.buffer.getvalue().decode(errors='replace')


def on_command_line(cases, directory, report, log):
    """Runs cases as `python launch.py ...`; but for the real ones, in a process that has imported everything."""
    children = []
    signal.signal(signal.SIGUSR1, lambda *_: [os.kill(child, signal.SIGUSR1) for child in children[-1:]])
    for case in cases:
        write(report, {'begun': case.name})
        place = Place(directory / 'places' / case.file_name, directory / 'base')
        arguments = case.make(place)['arguments']
        before = tree(place.path)
        files = [(directory / f'{name}-command.txt').open('w+b') for name in ('out', 'err')]
        pipe = os.pipe()  # a terminal at which nobody types
        start = time.perf_counter()
        environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
        if case.real:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / 'launch.py'), *arguments],
                cwd=ROOT,
                stdin=pipe[0],
                stdout=files[0],
                stderr=files[1],
                env=environment,
            )
            children.append(process.pid)
            seen = []
        else:
            children.append(os.fork())
            if not children[-1]:
                signal.signal(signal.SIGUSR1, signal.SIG_DFL)
                as_launch(arguments, [pipe[0], *(file.fileno() for file in files)], place, directory)
        _, status, usage = os.wait4(children.pop(), 0)
        code = os.waitstatus_to_exitcode(status)
        after = tree(place.path)
        out, err = ((file.seek(0), file.read().decode(errors='replace'))[1] for file in files)
        if not case.real:
            seen = json.loads((directory / 'seen.json').read_text() or '["it did not end"]')
        if code == 0:
            outcome, message = 'fine', ''
        elif match := re.search(r'(?:\A|\n)error: (.*)\Z', err, re.S):
            outcome, message = 'UserError' if code == 2 else f'exit code {code}', match[1].rstrip('\n')
        else:
            outcome, message = f'exit code {code}, no message', err[-3000:]
        record = {
            'outcome': outcome,
            'message': message,
            'seconds': time.perf_counter() - start,
            'gigabytes': usage.ru_maxrss / 1e6,
            'seen': seen + [f'changed: {name}' for name in {*before, *after} if before.get(name) != after.get(name)],
            'printed': out + err,
            'logged': err,
            'place': str(place.path),
        }
        for one in [*pipe, *files]:
            os.close(one) if isinstance(one, int) else one.close()
        place.remove()
        write(report, {'name': case.name, **record})


def as_launch(arguments, descriptors, place, directory):
    """Becomes `python launch.py ...`; does not return."""
    (directory / 'seen.json').write_text('')
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    os.chdir(ROOT)
    sys.argv, code, seen = ['launch.py', *arguments], 0, []
    os.environ.pop('XLA_FLAGS', None)  # the tests' own, which a copy of the process would read first
    try:
        with Watch().on(place.path) as seen:
            runpy.run_path('launch.py', run_name='__main__')
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    (directory / 'seen.json').write_text(json.dumps(list(seen)))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run(directory, names):
    """Runs the cases of these names, or all; returns what each did, by name."""
    os.environ |= {
        'JAX_PLATFORMS': 'cpu',
        'MPLCONFIGDIR': str(directory / 'matplotlib'),
        'PYTHONDONTWRITEBYTECODE': '1',
    }
    # Where programs are compiled to, which is otherwise below the home directory.
    os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(directory / 'compiled'))
    sys.dont_write_bytecode = True
    tempfile.gettempdir()  # which writes a file to see whether it can: not in a case
    modes.import_everything()
    cases = [case for case in hostile.cases().values() if not names or case.name in names]
    report = directory / 'report.jsonl'
    report.touch()
    first = Worker(make_base, [Case('base', '', None, ())], directory, report)
    while first.poll():
        time.sleep(0.02)
    if not (directory / 'base' / 'done').exists():
        raise RuntimeError(report.read_text() + first.log.read_text())
    workers = [
        Worker(in_process, [case for case in cases if case.mode != 'command'], directory, report),
        Worker(on_command_line, [case for case in cases if case.mode == 'command'], directory, report),
    ]
    while any([worker.poll() for worker in workers]):
        time.sleep(0.02)
    lines = map(json.loads, report.read_text().splitlines())
    return {line['name']: line for line in lines if 'name' in line}


def complaints(case, report):
    """What is wrong with how a case ended, as lines; none where nothing is."""
    wrong, message = [], report['message']
    outcome = report['outcome']
    allowed = {'fine': case.says is None or case.either, 'UserError': case.says is not None}
    if not allowed.get(outcome, False):
        return [f'ended with: {outcome}\n{message}']
    base = str(pathlib.Path(report['place']).parents[1] / 'base')
    if outcome == 'UserError':
        if not message.strip() or '\n\n' in message:
            wrong.append(f'not one paragraph: {message!r}')
        if 'Traceback' in message or len(message) > 4000:
            wrong.append(f'not a message: {message[:300]!r}... ({len(message)} characters)')
        for word in case.says:
            if word.replace('{place}', report['place']).replace('{base}', base) not in message:
                wrong.append(f'does not say {word!r}: {message!r}')
    if strange := re.findall(r'[\x00-\x09\x0b-\x1f\x7f-\x9f]', message):
        wrong.append(f'control characters {sorted(set(strange))} in the message: {message!r}')
    printed = report['printed'].replace('\r\n', '\n')
    if strange := re.findall(r'[\x00-\x08\x0b-\x1f\x7f-\x9f]', printed):
        wrong.append(f'control characters {sorted(set(strange))} in what is printed: {printed!r}')
    if 'Traceback' in report['logged'] + report['printed']:
        wrong.append(f'a traceback: {report["logged"] + report["printed"]}')
    if report['seconds'] > SECONDS:
        wrong.append(f'took {report["seconds"]:.1f} seconds')
    if report['gigabytes'] > GIGABYTES:
        wrong.append(f'took {report["gigabytes"]:.1f} GB')
    wrong += report['seen']
    return wrong


def by_hand():
    directory, names = pathlib.Path(sys.argv[1]), sys.argv[2:]
    if (directory / 'names.txt').exists():
        names = (directory / 'names.txt').read_text().split('\n')
        run(directory, names)
        return
    directory = pathlib.Path(tempfile.mkdtemp(dir=directory))
    start = time.perf_counter()
    names = [name for name in hostile.cases() if any(re.search(one, name) for one in names)] if names else []
    found = run(directory, names)
    bad = {name: complaints(hostile.cases()[name], report) for name, report in found.items() if name in hostile.cases()}
    for name, lines in bad.items():
        report = found[name]
        taken = f'{report.get("seconds", -1):.2f} s, {report.get("gigabytes", -1):.2f} GB'
        print(
            f'{"BAD " if lines else "ok  "} {hostile.cases()[name].mode:8} {name}: {report["outcome"][:150]!r} {taken}'
        )
        print('     ', repr(report['message'][:300]) if report['outcome'] == 'UserError' else '')
        for line in lines:
            own = [part.strip() for part in line.splitlines() if 'alexnet_jax/' in part or 'launch.py' in part]
            print(
                '     >>', *(own[-2:] if 'Traceback' in line else [line[:300]]), line.splitlines()[-1][:300], sep=' | '
            )
    print(f'{len(bad)} cases, {sum(map(bool, bad.values()))} bad, {time.perf_counter() - start:.1f} s')
    cpu = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print('CPU', sum(one.ru_utime + one.ru_stime for one in cpu))
    shutil.rmtree(directory)


if __name__ == '__main__':
    by_hand()
