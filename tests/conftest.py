"""Four simulated devices for every test, so that meshes up to (2, 2) can be tried on any machine; one trained run."""

import tempfile

import jax
import pytest

from alexnet_jax.devices import choose_platform

choose_platform(simulated=4)
# Most of the tests' time goes into compiling: what several of them need is compiled once.
_COMPILED = tempfile.TemporaryDirectory()
jax.config.update('jax_compilation_cache_dir', _COMPILED.name)
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)


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
