"""Devices and settings of JAX's that the environment asks for, in processes of their own where JAX reads them once."""

import ctypes
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import types

import jax
import pytest

from alexnet_jax.runtime import devices
from alexnet_jax.runtime.compiler_options import known_options

SETTINGS = {
    'jax_enable_x64': (True, False),
    'jax_numpy_rank_promotion': ('raise', 'allow'),
    'jax_numpy_dtype_promotion': ('strict', 'standard'),
    'jax_disable_jit': (True, False),
}


@pytest.mark.parametrize('name', SETTINGS)
def test_settings_for_other_programs_are_undone(name):
    theirs, ours = SETTINGS[name]
    before = getattr(jax.config, name)
    try:
        jax.config.update(name, theirs)
        assert devices.settle_numerics() == [
            f'{name.upper()} is ignored: what is computed, and how precisely, the config alone says.'
        ]
        assert getattr(jax.config, name) == ours
        assert devices.settle_numerics() == []
    finally:
        jax.config.update(name, before)


def test_flags_that_xla_does_not_know_are_named():
    code = 'from alexnet_jax.runtime import devices; devices.choose_platform(); print("not reached")'
    variables = os.environ | {'XLA_FLAGS': '--xla_no_such_flag=1'}
    ended = subprocess.run([sys.executable, '-c', code], env=variables, capture_output=True, text=True)
    assert 'not reached' not in ended.stdout
    assert ended.stderr.splitlines()[-1].startswith(
        'alexnet_jax.runtime.errors.UserError: XLA_FLAGS=--xla_no_such_flag=1'
    )
    assert 'does not know --xla_no_such_flag=1; take it out.' in ended.stderr


def test_flags_that_xla_knows_are_left(monkeypatch):
    monkeypatch.setenv('XLA_FLAGS', '')
    assert devices._refused_xla_flags() == ''
    monkeypatch.setenv('XLA_FLAGS', '--xla_cpu_enable_fast_math=false')
    assert devices._refused_xla_flags() == ''


@pytest.fixture
def unchosen(monkeypatch):
    """A process in which nothing has been chosen; returns what is."""
    chosen = []
    monkeypatch.setattr(jax.config, 'update', lambda name, value: chosen.append((name, value)))
    monkeypatch.setattr(type(jax.config), 'jax_platforms', None, raising=False)
    monkeypatch.delenv('JAX_PLATFORMS', raising=False)
    monkeypatch.delenv('XLA_FLAGS', raising=False)
    monkeypatch.setattr(devices, '_has_nvidia_driver', lambda: False)
    monkeypatch.setattr(devices, 'keep_freed_memory', lambda: None)
    return chosen


def plugins(monkeypatch, *names):
    found = [types.SimpleNamespace(name=name) for name in names]
    monkeypatch.setattr(importlib.metadata, 'entry_points', lambda group: found if group == 'jax_plugins' else [])


def test_without_a_driver_and_a_plugin_it_is_the_cpu(unchosen, monkeypatch):
    plugins(monkeypatch, 'cuda12', 'xla_cuda13')
    assert devices.choose_platform().startswith('Running on the CPU (no NVIDIA driver found)')
    assert unchosen == [('jax_platforms', 'cpu')]


@pytest.mark.parametrize('plugin', ['rocm', 'METAL'])
def test_other_accelerators_are_left_to_jax(unchosen, monkeypatch, plugin):
    plugins(monkeypatch, plugin)
    assert devices.choose_platform().startswith(f'Running on the CPU (JAX finds no device for {plugin})')
    assert unchosen == []
    device = types.SimpleNamespace(platform=plugin.lower(), device_kind='One of theirs')
    monkeypatch.setattr(jax, 'devices', lambda: [device, device])
    line = devices.choose_platform()
    assert line == 'Running on 2 device(s): One of theirs; tested on CPUs and NVIDIA GPUs alone.'


def test_a_tpu_is_left_to_jax(unchosen, monkeypatch):
    plugins(monkeypatch)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: name if name == 'libtpu' else find(name))
    devices.choose_platform()
    assert unchosen == []


@pytest.mark.parametrize(
    'platform, capability, precision, expected',
    [
        ('gpu', '9.0', None, True),
        ('gpu', '8.0', 'tensorfloat32', True),
        ('gpu', '12.0', 'default', True),
        ('gpu', '9.0', 'float32', False),
        ('gpu', '9.0', 'highest', False),
        ('gpu', '7.5', None, False),
        ('cpu', None, None, False),
    ],
)
def test_gpus_that_multiply_in_tf32(platform, capability, precision, expected, monkeypatch):
    device = types.SimpleNamespace(platform=platform)
    if capability:
        device.compute_capability = capability
    monkeypatch.setattr(jax, 'local_devices', lambda: [device])
    with jax.default_matmul_precision(precision) if precision else jax.default_matmul_precision(None):
        assert devices.multiplies_in_tf32() == expected


def test_options_that_the_compiler_lacks_are_left_out():
    options = {'xla_backend_optimization_level': 1, 'xla_no_such_option': 2}
    assert known_options(options) == {'xla_backend_optimization_level': 1}
    with pytest.raises(jax.errors.JaxRuntimeError):
        known_options({'xla_backend_optimization_level': 'high'})


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), 'malloc_trim'), reason='glibc alone can give memory back')
def test_freed_memory_is_kept_until_it_is_released():
    code = """
import ctypes, resource
from alexnet_jax.runtime.devices import keep_freed_memory, release_freed_memory

def resident():
    return int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize()

keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
place = libc.malloc(2**28)
ctypes.memset(place, 1, 2**28)
libc.free(place)
kept = resident()
release_freed_memory()
print(kept - resident())
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 2**27


def test_on_a_cpu_plugins_of_jax_are_loaded_only_for_who_compiles_for_others():
    code = """
import sys
from alexnet_jax.runtime.devices import choose_platform
choose_platform(plugins=sys.argv[1] == 'True')
import jax
print(float(jax.numpy.arange(3.0).sum()), sorted(name for name in sys.modules if name.startswith('jax_plugins.')))
"""
    environment = os.environ | {'JAX_PLATFORMS': 'cpu'}
    said = []
    for plugins in (True, False):
        done = subprocess.run(
            [sys.executable, '-c', code, str(plugins)], env=environment, capture_output=True, text=True, check=True
        )
        said.append(done.stdout + done.stderr)
    assert said[1] == '3.0 []\n'
    if any('cuda' in point.name for point in importlib.metadata.entry_points(group='jax_plugins')):
        assert 'jax_plugins.xla_cuda' in said[0]
