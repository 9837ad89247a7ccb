"""Every mode in every environment that a shell may have: the same numbers, or one plain message; never a lost run.

    python tests/environments.py [ENVIRONMENT ...] [--modes=train,eval]

For each environment and mode it starts launch.py anew and compares what it leaves and prints with what a plain
environment left. A run that could not be trained is trained in the plain environment afterwards, and must end alike.
It takes about 25 minutes on two cores, and prints the number of processes and what was not right.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
_CONFIG = f"""import sys
sys.path.append({str(ROOT / 'tests')!r})
from small_run import get_config
"""
MODES = ('train', 'resume', 'eval', 'predict', 'features', 'figures', 'inspect', 'prepare')
_TIMINGS = ('images_per_second', 'input_wait', 'time')  # of metrics.jsonl, which no two runs share


@dataclasses.dataclass(frozen=True)
class Environment:
    """What differs from a plain shell.

    Attributes:
      variables: set, or unset where None; {place} is a scratch directory with `full`, `readonly` and `missing`.
      redirect: of the shell, as '>&-'.
      cwd: current directory: 'elsewhere', 'deleted', or a name of a new one.
      may_refuse: whether a plain message is right as well.
    """

    variables: dict[str, str | None] = dataclasses.field(default_factory=dict)
    redirect: str = ''
    cwd: str = ''
    may_refuse: bool = False


def _variables(*pairs: str, **more) -> Environment:
    return Environment(dict(pair.split('=', 1) for pair in pairs), **more)


ENVIRONMENTS = {
    **{
        pair: _variables(pair)
        for pair in (
            'JAX_ENABLE_X64=1',
            'JAX_DEFAULT_MATMUL_PRECISION=bfloat16',
            'JAX_DEFAULT_MATMUL_PRECISION=float32',
            'JAX_DEFAULT_MATMUL_PRECISION=tensorfloat32',
            'JAX_NUMPY_RANK_PROMOTION=raise',
            'JAX_NUMPY_DTYPE_PROMOTION=strict',
            'JAX_DEBUG_NANS=1',
            'JAX_DISABLE_JIT=1',
            'JAX_TRACEBACK_FILTERING=off',
            'JAX_CHECK_TRACER_LEAKS=1',
            'XLA_FLAGS=--xla_cpu_enable_fast_math=false',
            'OMP_NUM_THREADS=1',
            'MKL_NUM_THREADS=1',
            'LC_ALL=C',
            'LC_ALL=tr_TR.UTF-8',
            'PYTHONUTF8=0',
            'PYTHONIOENCODING=ascii',
            'NO_COLOR=1',
            'FORCE_COLOR=1',
            'TERM=dumb',
            'COLUMNS=1',
            'COLUMNS=30',
            'COLUMNS=50',
            'COLUMNS=80',
            'COLUMNS=300',
            'COLUMNS=many',
            'HOME={place}/readonly',
            'HOME={place}/missing',
            'TMPDIR={place}/full',
            'TMPDIR={place}/missing',
            'TMPDIR={place}/readonly',
            'PYTHONWARNINGS=error',
            'PYTHONOPTIMIZE=2',
            'PYTHONUNBUFFERED=1',
            'PYTHONHASHSEED=1',
        )
    },
    'JAX_PLATFORMS=cuda': _variables('JAX_PLATFORMS=cuda', may_refuse=True),
    'JAX_PLATFORMS=tpu': _variables('JAX_PLATFORMS=tpu', may_refuse=True),
    'XLA_FLAGS=--xla_no_such_flag=1': _variables('XLA_FLAGS=--xla_no_such_flag=1', may_refuse=True),
    'HOME unset': Environment({'HOME': None}),
    'PATH unset': Environment({'PATH': None}),
    'stdin closed': Environment(redirect='<&-'),
    'stdout closed': Environment(redirect='>&-'),
    'stderr closed': Environment(redirect='2>&-'),
    'all closed': Environment(redirect='<&- >&- 2>&-'),
    'stdout full': Environment(redirect='>/dev/full', may_refuse=True),
    'a reader that leaves': Environment(redirect='| head -1'),
    'another directory': Environment(cwd='elsewhere'),
    'a deleted directory': Environment(cwd='deleted', may_refuse=True),
    'names with spaces': Environment(cwd='with two  spaces'),
    'names with Unicode': Environment(cwd='ünïcode 画像'),
    'names with Unicode, ASCII': Environment({'PYTHONIOENCODING': 'ascii'}, cwd='ünïcode 画像'),
    'names with new lines': Environment(cwd='two\nlines'),
    'names with commas, colons and brackets': Environment(cwd='a,b:c[d]=e'),
    'all of it': _variables(
        *('JAX_ENABLE_X64=1', 'JAX_NUMPY_RANK_PROMOTION=raise', 'JAX_NUMPY_DTYPE_PROMOTION=strict', 'TERM=dumb'),
        *('JAX_DISABLE_JIT=1', 'PYTHONWARNINGS=error', 'PYTHONOPTIMIZE=2', 'PYTHONIOENCODING=ascii', 'LC_ALL=C'),
        *('COLUMNS=30', 'HOME={place}/readonly', 'TMPDIR={place}/missing', 'OMP_NUM_THREADS=1', 'FORCE_COLOR=1'),
        cwd='ünïcode 画像',
        redirect='<&-',
    ),
}


class Ground:
    """A scratch directory with what a plain environment leaves, to compare with."""

    def __init__(self, place: pathlib.Path) -> None:
        self.place = place
        (place / 'small.py').write_text(_CONFIG)
        self.plain = place / 'plain'
        self.plain.mkdir()
        self.expected = {}
        for mode in MODES:
            code, out, err = self.launch(mode, self.plain, Environment())
            assert code == 0, (mode, out, err)
            self.expected[mode] = self.result(mode, self.plain, out)

    def arguments(self, mode: str, where: pathlib.Path) -> list[str]:
        """The command line of a mode, on what lies in a directory."""
        config = f'--config={self.place}/small.py'
        run = [f'--workdir={where}/run', f'--config.data.directory={where}/data']
        match mode:
            case 'train':
                return [*run, config, '--config.epochs=1']
            case 'resume':
                return [*run, config, '--config.epochs=2']
            case 'predict':
                return [*run, '--mode=predict', '--json', f'--images={ROOT}/tests/runs/old_run_images']
            case 'features':
                return [*run, '--mode=features', '--split=validation']
            case 'inspect':
                return ['--mode=inspect', config]
            case 'prepare':
                return ['--mode=prepare', config, f'--config.data.directory={where}/prepared']
        return [*run, f'--mode={mode}']

    def before(self, mode: str, where: pathlib.Path) -> None:
        """Puts into a directory what the mode begins with."""
        if mode not in ('train', 'inspect', 'prepare'):
            shutil.copytree(self.plain / ('run-1' if mode == 'resume' else 'run-2'), where / 'run')
        if mode not in ('inspect', 'prepare'):
            shutil.copytree(self.plain / 'data', where / 'data') if (self.plain / 'data').exists() else None

    def launch(self, mode: str, where: pathlib.Path, environment: Environment) -> tuple[int, str, str]:
        """Runs a mode; returns the exit code and what was printed."""
        variables = {name: value for name, value in os.environ.items() if not name.startswith(('JAX_', 'XLA_'))}
        for name, value in environment.variables.items():
            variables.pop(name, None)
            if value is not None:
                variables[name] = value.format(place=self.place)
        command = [sys.executable, str(ROOT / 'launch.py'), *self.arguments(mode, where)]
        odd = environment.cwd not in ('', 'elsewhere')
        cwd = where if odd else self.place if environment.cwd else ROOT
        script = f'"$@" {environment.redirect}'
        if environment.cwd == 'deleted':
            cwd, script = self.place / 'deleted', f'rmdir {self.place}/deleted; {script}'
            cwd.mkdir()
        ended = subprocess.run(
            ['/bin/bash', '-o', 'pipefail', '-c', script, 'bash', *command],
            cwd=cwd,
            env=variables,
            capture_output=True,
            timeout=600,
        )
        if mode in ('train', 'resume') and where == self.plain and ended.returncode == 0:
            shutil.copytree(where / 'run', where / ('run-1' if mode == 'train' else 'run-2'))
        return ended.returncode, ended.stdout.decode(errors='replace'), ended.stderr.decode(errors='replace')

    def result(self, mode: str, where: pathlib.Path, out: str) -> object:
        """What must be equal in all environments."""
        run = where / 'run'
        match mode:
            case 'train' | 'resume':
                lines = [json.loads(line) for line in (run / 'metrics.jsonl').read_text().splitlines()]
                lines = [{k: v for k, v in line.items() if not k.startswith(_TIMINGS)} for line in lines]
                files = sorted((run / 'checkpoints').rglob('metrics'))
                return lines, [path.parent.name for path in files], [_checksums(path) for path in files]
            case 'eval':
                return json.loads((run / 'eval.json').read_text())
            case 'predict':
                return [json.loads(line)['predictions'] for line in out.splitlines()]
            case 'features':
                (values,) = (run / 'features').glob('*/values.npy')
                return np.load(values).tobytes()
            case 'figures':
                names = ('learning_curves.png', 'kernels.png', 'predictions.png')
                return [hashlib.sha256((run / 'figures' / name).read_bytes()).hexdigest() for name in names]
            case 'inspect':
                return set(re.findall(r'\d[\d,]*\d', out))
        return json.loads((where / 'prepared' / 'manifest.json').read_text())

    def judge(self, mode: str, name: str, environment: Environment) -> str:
        """Runs a mode in an environment; returns what is wrong with it, '' if nothing."""
        odd = environment.cwd not in ('', 'elsewhere', 'deleted')
        where = self.place / 'tried' / (environment.cwd if odd else 'here')
        where.mkdir(parents=True)
        try:
            self.before(mode, where)
            code, out, err = self.launch(mode, where, environment)
            if 'Traceback' in out + err:
                return f'a traceback: {err[-600:]}'
            printed = not environment.redirect.startswith(('>', '|')) and 'all' not in name.split(' closed')[0]
            if code == 2 and environment.may_refuse and err.count('error: ') == 1:
                if mode not in ('train', 'resume'):
                    return ''
                self.launch(mode, where, Environment())  # what was refused can be done afterwards
            elif code and not (environment.redirect == '| head -1' and mode == 'predict' and code == 141):
                return f'exit code {code}: {err[-600:]}'
            if mode in ('predict', 'inspect') and not (printed and '>&-' not in environment.redirect):
                return ''  # it went nowhere, as was asked for
            found = self.result(mode, where, out)
            return '' if found == self.expected[mode] else f'another result: {str(found)[:300]} ... {err[-300:]}'
        except Exception as error:
            return f'{type(error).__name__}: {error}'
        finally:
            shutil.rmtree(self.place / 'tried')


def _checksums(path: pathlib.Path) -> object:
    """The arrays' checksums in the progress that a checkpoint holds."""
    files = [path] if path.is_file() else [one for one in path.rglob('*') if one.is_file()]
    texts = [json.loads(file.read_text()) for file in files if file.read_bytes()[:1] == b'{']
    return [text.get('marks') for text in texts if isinstance(text, dict) and 'marks' in text]


_DISKS = {'full': 'size=4k,nr_inodes=1', 'readonly': 'ro'}


def _mounted(place: pathlib.Path, options: str) -> bool:
    """Mounts a small disk, where that is allowed; otherwise there is an empty directory."""
    place.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', str(place)]
    return subprocess.run(mount, capture_output=True).returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('environments', nargs='*', default=list(ENVIRONMENTS), metavar='ENVIRONMENT')
    parser.add_argument('--modes', default=','.join(MODES))
    given = parser.parse_args()
    wrong, processes = 0, 0
    with tempfile.TemporaryDirectory(prefix='environments-') as place:
        try:
            mounted = [_mounted(pathlib.Path(place, name), how) for name, how in _DISKS.items()]
            ground = Ground(pathlib.Path(place))
            for name in given.environments:
                for mode in given.modes.split(','):
                    processes += 1
                    if problem := ground.judge(mode, name, ENVIRONMENTS[name]):
                        wrong += 1
                        print(f'{name!r}, {mode}: {problem}', flush=True)
                print(f'{name!r} is done', flush=True)
        finally:
            for name in _DISKS:
                subprocess.run(['umount', f'{place}/{name}'], capture_output=True)
    disks = 'full and read-only disks were mounted' if all(mounted) else 'no right to mount full and read-only disks'
    print(f'{processes} processes, {wrong} wrong; {disks}')
    sys.exit(bool(wrong))


if __name__ == '__main__':
    main()
