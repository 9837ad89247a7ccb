"""Four simulated devices in every process of the tests, so that meshes up to (2, 2) work anywhere, and shared runs.

The tests run in two processes (see pyproject.toml), which share a cache of compiled programs and the runs of the
session's fixtures: whoever needs one first makes it. They use the CPU; TESTS_ON=gpu leaves the choice to JAX.
"""

import fcntl
import os
import pathlib
import shutil
import tempfile

import launching
import pytest
import tiers

# To be set before JAX is imported; pytest-xdist's processes inherit what the first process has set.
if 'PYTEST_XDIST_WORKER' not in os.environ:
    _PROGRAMS = tempfile.TemporaryDirectory(prefix='alexnet-jax-programs-')
    os.environ |= launching.variables(_PROGRAMS.name)


def pytest_xdist_auto_num_workers(config):
    """A process a core, four at most; a few files are run by this one, sooner than others would have started."""
    few = len(config.args) <= 3 and all('.py' in argument for argument in config.args)
    return 0 if few else min(4, len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else 2)


def pytest_configure(config):
    """Devices are chosen where tests run: not in the process that only hands them out."""
    if hasattr(config, 'workerinput') or not config.option.numprocesses:
        from alexnet_jax.runtime.devices import choose_platform
        from alexnet_jax.runtime.quiet import silence_checkpoint_libraries

        choose_platform(simulated=4)
        silence_checkpoint_libraries()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Marks the quick tests, before any are deselected, and puts files that take long first; see `tiers.py`."""
    tests = pathlib.Path(__file__).parent
    single = any('::' in argument for argument in config.args)  # tests, of whose files the others are not collected
    if gone := [] if single else tiers.unknown(items, tests):
        raise pytest.UsageError(f'tests/tiers.py names tests that are not there: {", ".join(gone)}')
    places = {item: tiers.place(item, tests) for item in items}
    for item, (_, quick) in places.items():
        if quick:
            item.add_marker('quick')
    items.sort(key=lambda item: places[item][0])


@pytest.fixture(scope='session')
def once(tmp_path_factory):
    """once(name, make): a directory of that name, after make(directory), which one of all processes has called."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if 'PYTEST_XDIST_WORKER' in os.environ else base

    def once(name, make):
        directory, made = base / name, base / f'{name}.made'
        with (base / f'{name}.lock').open('w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                shutil.rmtree(directory, ignore_errors=True)
                directory.mkdir()
                make(directory)
                made.touch()
        return directory

    return once


@pytest.fixture
def parsed(monkeypatch):
    """The lines of metrics.jsonl that have been parsed, in their order."""
    from alexnet_jax.runs import metrics_log

    lines, parse = [], metrics_log._parsed
    monkeypatch.setattr(metrics_log, '_parsed', lambda *given: lines.append(parse(*given)) or lines[-1])
    return lines


@pytest.fixture(scope='session')
def trained(once):
    """Config and workdir of a short run on digits; see `small_run.py`. Whoever writes into it works on a copy."""
    from small_run import trained_in

    return trained_in(once('trained', lambda directory: trained_in(directory, train=True)))


@pytest.fixture(scope='session')
def another(trained, once):
    """A second run, on the same data, from another seed."""
    from small_run import trained_in

    fields = {'seed': 1, 'data.directory': trained[0].data.directory}
    return trained_in(once('another', lambda directory: trained_in(directory, train=True, **fields)), **fields)


@pytest.fixture
def run(trained, tmp_path):
    """Config, and a workdir to write into: a copy of the trained run's."""
    from small_run import copied

    return copied(trained, tmp_path)


@pytest.fixture(scope='session')
def forked(once):
    """Runs launch.py in processes that need not import anything."""
    return launching.Forked(once('forked', launching.serve))


@pytest.fixture(scope='module')
def browser():
    """A headless Chromium: the system's, or Playwright's own."""
    from playwright.sync_api import Error, sync_playwright

    found = [shutil.which(name) for name in ('chromium', 'chromium-browser', 'google-chrome')]
    path = next((path for path in found if path), None)
    with sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=path, args=['--no-sandbox'])
        except Error as error:
            words = f'no browser to open pages in (python -m playwright install chromium): {error}'
            if os.environ.get('CI'):
                pytest.fail(words)
            pytest.skip(words)
        yield started
        started.close()
