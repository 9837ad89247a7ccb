"""Importing any module of runtime and data changes nothing in the process."""

import subprocess
import sys

CODE = """
import importlib, logging, os, pkgutil, signal, sys, threading, warnings
import absl.logging, array_record.python.array_record_module, grain, jax.experimental.multihost_utils, matplotlib
import numpy, PIL.Image, pydantic, rich.progress, scipy.io, simplejpeg, sklearn.datasets  # may change what they like

def state():
    names = ('', 'absl', 'orbax', 'asyncio', 'jax._src.xla_bridge')
    levels = [logging.getLogger(name).level for name in names]
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    return [
        levels, handlers, list(warnings.filters), sys.unraisablehook, sys.excepthook, dict(os.environ),
        dict(jax.config.values), threading.active_count(), os.getcwd(),
    ]

before = state()
import alexnet_jax.data, alexnet_jax.runtime
for package in (alexnet_jax.runtime, alexnet_jax.data):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):
        importlib.import_module(module.name)
after = state()
assert before == after, [pair for pair in zip(before, after) if pair[0] != pair[1]]
assert not jax._src.xla_bridge._backends, 'devices were looked for'
print('the same')
"""


def test_importing_changes_nothing_in_the_process():
    done = subprocess.run([sys.executable, '-c', CODE], capture_output=True, text=True)
    assert done.stdout == 'the same\n', done.stdout + done.stderr
