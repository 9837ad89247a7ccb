"""A start imports what its mode uses and no more, and finds the programs that an earlier one has compiled."""

import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import zlib

import jax
import numpy as np
import pytest
from launching import ROOT, environment
from PIL import Image

from alexnet_jax.commands import start as starting
from alexnet_jax.runs.parameters_file import write_network
from alexnet_jax.runs.trained import load_run
from alexnet_jax.runtime import compilation_cache
from alexnet_jax.runtime.compilation_cache import default_directory, enable_compilation_cache, prune
from experiments import digits

# What is imported.

# Runs launch.py, and says which modules are there in the end.
IMPORTED = """
import json, runpy, sys
result, *sys.argv = sys.argv[1:]
try:
    runpy.run_path('launch.py', run_name='__main__')
finally:
    with open(result, 'w') as file:
        json.dump(sorted({name.split('.')[0] for name, module in sys.modules.items() if module}), file)
"""
SLOW = {'flax', 'grain', 'jax', 'jinja2', 'matplotlib', 'optax', 'orbax', 'scipy', 'skimage', 'sklearn', 'tensorboardX'}
SLOW |= {'tensorflow', 'tensorflow_datasets', 'torch', 'pydantic', 'rich'}
EVER = {'jax', 'pydantic', 'rich'}  # where there is a config
NETWORK = EVER | {'flax', 'optax'}
CONFIG = '--config=alexnet_jax/commands/run_config.py:{run}'
# By name: the arguments, the exit code, and the slow modules that are imported.
COMMANDS = {
    'help': (['--help'], 1, set()),
    'an unknown flag': (['--wrkdir=runs'], 2, set()),
    'no workdir': (['--mode=eval'], 2, set()),
    'no such image': (['--workdir={network}', '--mode=predict', '--images={tmp}/none.png'], 2, {'pydantic'}),
    'no run': (['--mode=compare', '--runs={tmp}/none'], 2, {'pydantic'}),
    'no such checkpoint': (['--workdir={run}', '--mode=eval', '--checkpoint=3'], 2, {'pydantic'}),
    'no such layer': (['--workdir={run}', '--mode=features', '--layer=fc9'], 2, {'pydantic'}),
    'no weights': (['--workdir={tmp}/new', '--mode=import'], 2, set()),
    'no such weights': (['--workdir={tmp}/new', '--mode=import', '--weights={tmp}/none'], 2, set()),
    'no format': (['--workdir={run}', '--mode=export'], 2, {'pydantic'}),
    'no such config': (['--workdir={tmp}/run', '--config=experiments/nothing.py'], 2, {'pydantic'}),
    'inspect': (['--mode=inspect', CONFIG], 0, NETWORK),
    'prepare': (['--mode=prepare', CONFIG], 0, EVER),
    'train': (['--workdir={run}', CONFIG], 0, NETWORK | {'orbax', 'grain', 'tensorboardX'}),
    'predict': (['--workdir={run}', '--mode=predict', '--json', '--images={tmp}/gray.png'], 0, NETWORK | {'orbax'}),
    'predict, without checkpoints': (
        ['--workdir={network}', '--mode=predict', '--json', '--images={tmp}/gray.png'],
        0,
        NETWORK,
    ),
    'compare': (['--mode=compare', '--runs={run}'], 0, NETWORK),
}


@pytest.fixture(scope='module')
def imported(trained, tmp_path_factory):
    """By command, the modules there at its end; where PyTorch is installed, or what looks like it."""
    from small_run import copied

    tmp = tmp_path_factory.mktemp('imported')
    _, workdir = copied(trained, tmp)
    Image.new('RGB', (32, 32)).save(tmp / 'gray.png')
    (tmp / 'torch').mkdir()
    (tmp / 'torch' / '__init__.py').write_text('Tensor = object\n')
    run = load_run(workdir)
    write_network(str(tmp / 'network'), run.config, run.data, run.data.mean_image(), run.parameters)
    places = {'tmp': tmp, 'run': workdir, 'network': tmp / 'network'}

    def imports(name):
        result = tmp / f'{name}.json'
        given = [argument.format(**places) for argument in COMMANDS[name][0]]
        done = subprocess.run(
            [sys.executable, '-c', IMPORTED, str(result), 'launch.py', *given],
            cwd=ROOT,
            env=environment(PYTHONPATH=f'{ROOT}{os.pathsep}{tmp}'),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert 'Traceback' not in done.stderr, done.stderr
        return done, set(json.loads(result.read_text()))

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return dict(zip(COMMANDS, pool.map(imports, COMMANDS), strict=True))


@pytest.mark.parametrize('name', COMMANDS)
def test_a_mode_imports_what_it_uses_and_no_more(name, imported):
    (done, modules), (_, code, slow) = imported[name], COMMANDS[name]
    assert done.returncode == code, done.stderr
    assert modules & SLOW == slow


# What is compiled.


def raising(error):
    def raise_it(*_, **__):
        raise error

    return raise_it


@pytest.fixture
def unsettled(monkeypatch, tmp_path):
    """As if nobody had said anything of JAX's cache; the directory where caches are."""
    names = ('jax_compilation_cache_dir', 'jax_enable_compilation_cache', 'jax_persistent_cache_min_compile_time_secs')
    before = {name: getattr(jax.config, name) for name in names}
    for name in ('JAX_COMPILATION_CACHE_DIR', 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'caches'))
    jax.config.update('jax_compilation_cache_dir', None)
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 1.0)
    yield tmp_path / 'caches'
    for name, value in before.items():
        jax.config.update(name, value)


def test_programs_are_kept_where_the_system_wants_it(unsettled):
    assert enable_compilation_cache() is None
    directory = default_directory()
    assert directory.is_relative_to(unsettled / 'alexnet_jax') and directory.is_dir()
    assert directory.stat().st_mode & 0o077 == 0  # what others could write there would be run
    assert jax.config.jax_compilation_cache_dir == str(directory)
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0


@pytest.mark.parametrize('above', [0, 1, 2])
@pytest.mark.parametrize('whose', ['of everybody', 'of somebody else'])
def test_programs_that_others_may_have_written_are_not_run(whose, above, unsettled, monkeypatch):
    directory = default_directory()
    directory.mkdir(parents=True, mode=0o700)
    place = [directory, *directory.parents][above]
    if whose == 'of everybody':
        place.chmod(0o777)
    else:
        stat, there = pathlib.Path.stat, place.stat()
        fields = list(there)
        fields[4] = os.geteuid() + 1  # st_uid
        of_others = lambda path, **more: os.stat_result(fields) if path == place else stat(path, **more)  # noqa: E731
        monkeypatch.setattr(pathlib.Path, 'stat', of_others)
    line = enable_compilation_cache()
    assert str(place) in line and 'somebody else' in line and 'JAX_COMPILATION_CACHE_DIR' in line
    assert jax.config.jax_compilation_cache_dir is None


def test_processors_do_not_share_programs(unsettled, monkeypatch):
    one = default_directory()
    monkeypatch.setattr(compilation_cache, '_processor', lambda: 'another')
    assert default_directory() != one and default_directory().parent == one.parent


@pytest.mark.parametrize('how', ['variable', 'empty variable', 'configuration', 'switched off'])
def test_what_the_user_has_settled_stays(how, unsettled, monkeypatch, tmp_path):
    if 'variable' in how:
        monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', '' if 'empty' in how else str(tmp_path))
    elif how == 'configuration':
        jax.config.update('jax_compilation_cache_dir', str(tmp_path))
    else:
        jax.config.update('jax_enable_compilation_cache', False)
    before = jax.config.jax_compilation_cache_dir
    assert enable_compilation_cache() is None
    assert jax.config.jax_compilation_cache_dir == before
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 1
    assert not unsettled.exists()


def test_the_least_time_that_the_user_has_settled_stays(unsettled, monkeypatch):
    monkeypatch.setenv('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '5')
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 5.0)
    assert enable_compilation_cache() is None
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 5


def test_without_a_place_one_line_says_so(unsettled):
    unsettled.write_text('a file')
    line = enable_compilation_cache()
    assert 'Not a directory' in line and 'JAX_COMPILATION_CACHE_DIR' in line and '\n' not in line
    assert jax.config.jax_compilation_cache_dir is None


def test_without_a_home_one_line_says_so(unsettled, monkeypatch):
    monkeypatch.setattr(compilation_cache, 'default_directory', raising(RuntimeError('no home directory')))
    assert 'no home directory' in enable_compilation_cache()


def test_several_processes_keep_nothing(monkeypatch):
    asked = []
    monkeypatch.setattr(starting, 'choose_platform', lambda **_: 'on the CPU')
    monkeypatch.setattr(starting, 'enable_compilation_cache', lambda: asked.append(1))
    starting.start(digits.get_config(), processes=2)
    assert not asked
    starting.start(digits.get_config())
    assert asked


def entry(directory, name, size, age):
    """An entry as JAX writes them, last used `age` seconds ago."""
    path = directory / f'{name}-cache'
    path.write_bytes(zlib.compress(np.random.default_rng(size).bytes(size), 0))
    used = path.stat().st_mtime - age
    os.utime(path, (used, used))
    return path


def test_the_oldest_go_first(tmp_path):
    paths = [entry(tmp_path, name, 1000, age) for name, age in (('old', 300), ('older', 400), ('new', 100))]
    size = sum(path.stat().st_size for path in paths)
    prune(tmp_path, max_bytes=size - 1)
    assert [path.exists() for path in paths] == [True, False, True]
    prune(tmp_path, max_bytes=size)
    assert [path.exists() for path in paths] == [True, False, True]
    prune(tmp_path, max_bytes=0)
    assert [path.name for path in tmp_path.iterdir()] == ['checked']


@pytest.mark.parametrize('left', [0, 1, 500])
def test_what_was_cut_short_goes(left, tmp_path):
    (tmp_path / 'processor').mkdir()
    paths = [entry(tmp_path / 'processor', name, 1000, 0) for name in ('whole', 'cut')]
    paths[1].write_bytes(paths[1].read_bytes()[:left])
    prune(tmp_path, max_bytes=2**20)
    assert [path.exists() for path in paths] == [True, False]


def test_what_was_looked_at_is_not_read_again(tmp_path, monkeypatch):
    entry(tmp_path, 'one', 1000, 60)
    prune(tmp_path, max_bytes=2**20)
    monkeypatch.setattr(compilation_cache, '_is_whole', raising(AssertionError))
    prune(tmp_path, max_bytes=2**20)


def test_a_second_start_loads_what_the_first_has_compiled(trained, tmp_path):
    """And it comes to the very same bits; an entry that was cut short in between is compiled and written anew."""
    variables = environment(XDG_CACHE_HOME=str(tmp_path / 'caches'))
    del variables['JAX_COMPILATION_CACHE_DIR']
    entries, lines = [], []
    for name in ('first', 'second'):
        given = [f'--workdir={tmp_path / name}', CONFIG.format(run=trained[1]), '--config.epochs=1']
        done = subprocess.run(
            [sys.executable, 'launch.py', *given],
            cwd=ROOT,
            env=variables,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0 and not done.stderr, done.stderr
        entries.append({path: path.stat().st_mtime_ns for path in (tmp_path / 'caches').rglob('*-cache')})
        lines.append((tmp_path / name / 'metrics.jsonl').read_text().splitlines())
        if name == 'first':
            assert len(entries[0]) >= 3  # the first state, the step, the validation
            cut = next(path for path in entries[0] if 'train_step' in path.name)
            cut.write_bytes(cut.read_bytes()[:100])
    assert entries[0].keys() == entries[1].keys()
    assert [path for path in entries[0] if entries[0][path] != entries[1][path]] == [cut]
    assert len(cut.read_bytes()) > 1000
    speed = 'images_per_second'
    values = [[{k: v for k, v in json.loads(one).items() if k != speed} for one in run] for run in lines]
    assert values[0] == values[1]
    progress = [(tmp_path / name / 'checkpoints' / '45' / 'progress' / 'metadata') for name in ('first', 'second')]
    assert progress[0].read_bytes() == progress[1].read_bytes()  # with a mark of every array
