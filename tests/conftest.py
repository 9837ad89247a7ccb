"""Four simulated devices for every test, so that meshes up to (2, 2) can be tried on any machine; one trained run."""

import contextlib
import os
import tempfile

import pytest
from launching import COMPILE_QUICKLY, Forked

# Most of the tests' time goes into compiling: it is done in haste, and what several of them need is compiled once, for
# the processes too that tests start. To be set before JAX is imported.
_COMPILED = tempfile.TemporaryDirectory()
os.environ['JAX_COMPILATION_CACHE_DIR'] = _COMPILED.name
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
os.environ.setdefault('XLA_FLAGS', COMPILE_QUICKLY)

from alexnet_jax.runtime.devices import choose_platform  # noqa: E402
from alexnet_jax.runtime.quiet import silence_checkpoint_libraries  # noqa: E402

choose_platform(simulated=4)
silence_checkpoint_libraries()


@pytest.fixture(scope='session')
def trained(tmp_path_factory):
    """Config and workdir of a short run on digits; see `small_run.py`. Whoever writes into it, works on a copy."""
    from small_run import trained_in

    return trained_in(tmp_path_factory.mktemp('trained'))


@pytest.fixture(scope='session')
def another(trained, tmp_path_factory):
    """A second run, on the same data, from another seed."""
    from small_run import trained_in

    return trained_in(tmp_path_factory.mktemp('another'), seed=1, **{'data.directory': trained[0].data.directory})


@pytest.fixture
def run(trained, tmp_path):
    """Config, and a workdir to write into: a copy of the trained run's."""
    from small_run import copied

    return copied(trained, tmp_path)


@pytest.fixture(scope='session')
def forked():
    """Runs launch.py in processes that need not import anything."""
    with contextlib.closing(Forked()) as forked:
        yield forked
