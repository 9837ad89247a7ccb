"""How steps are given to the devices: compiled once, and in turn where each takes much memory."""

import fakes
import jax
import jax.numpy as jnp
import pytest
from configs import typed

from alexnet_jax.commands import train as train_module
from alexnet_jax.training import dispatch
from alexnet_jax.training.dispatch import compile_first, holds_memory


def test_a_step_is_compiled_once_and_memory_is_released_before_it_is_made(caplog, monkeypatch):
    released = []
    monkeypatch.setattr(dispatch, 'release_freed_memory', lambda: released.append(len(caplog.records)))
    step, x = jax.jit(lambda x: 3 * x + 1), jnp.arange(7.0)
    with jax.log_compiles():
        compile_first(step, x)
        assert 'Finished XLA compilation' in caplog.text and released == [len(caplog.records)]
        assert step(x).tolist()[2] == 7 and released == [len(caplog.records)]


@pytest.mark.parametrize('values, much', [(2**10, False), (2**27, True)])
def test_temporary_values_count(values, much):
    x = jax.ShapeDtypeStruct((values,), jnp.float32)
    compiled = jax.jit(lambda x: jnp.sort(2 * x)[::7].sum()).lower(x).compile()
    assert holds_memory(compiled) == (much and jax.devices()[0].platform == 'cpu')


@pytest.mark.parametrize('much', [False, True])
def test_a_step_that_takes_much_memory_waits_for_the_last(much, trained, tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(train_module, 'finish', lambda state: waited.append(int(state.step)))
    monkeypatch.setattr(train_module, 'holds_memory', lambda compiled: much)
    config = typed(trained[0]).replace(batch_size=500, epochs=1)
    assert train_module.train(config, str(tmp_path / 'run'), fakes.console()).step == 3
    assert waited == ([0, 1, 2] if much else [])
