"""The Python API as somebody else would use it: importing it changes nothing, a run is opened, predicts, and agrees."""

import json
import logging
import os
import pathlib
import subprocess
import sys
import warnings

import jax
import numpy as np
import pytest
from launching import environment
from PIL import Image

import alexnet_jax as ax
from alexnet_jax.runs import trained
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runtime.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]
RUN, IMAGES = ROOT / 'tests/runs/old_run', ROOT / 'tests/runs/old_run_images'
STATE = """
import logging, os, signal, sys, threading, warnings
def state():
    loggers = {name: (one.level, one.disabled) for name, one in logging.root.manager.loggerDict.items()
               if isinstance(one, logging.Logger)}
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    return (loggers, logging.root.level, dict(os.environ), list(warnings.filters), sys.unraisablehook, sys.excepthook,
            threading.active_count(), handlers, sys.path)
"""


def test_importing_changes_nothing_and_loads_nothing():
    code = (
        STATE
        + """
before, modules = state(), set(sys.modules)
import alexnet_jax
assert state() == before
heavy = {'jax', 'numpy', 'flax', 'pydantic', 'orbax', 'ml_collections', 'absl'} & (set(sys.modules) - modules)
assert not heavy, heavy
alexnet_jax.UserError  # a name is loaded when it is used
"""
    )
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True)


def test_every_public_name_is_there():
    for name in ax.__all__:
        assert getattr(ax, name).__doc__, name
    assert set(dir(ax)) == set(ax.__all__)
    with pytest.raises(AttributeError, match='no attribute'):
        ax.resnet  # noqa: B018  # it must fail


@pytest.fixture(scope='module')
def run():
    return ax.load_run(RUN)


def test_opening_a_run_changes_nothing_in_the_process():
    def state():
        names = ('absl', 'orbax', 'asyncio')
        levels = {name: (logging.getLogger(name).level, list(logging.getLogger(name).filters)) for name in names}
        return levels, sys.unraisablehook, list(warnings.filters), dict(os.environ)

    before = state()
    ax.load_run(RUN).predict(IMAGES / '0.png', views='center')
    assert state() == before


def test_opening_a_run_prints_nothing():
    done = subprocess.run(
        [sys.executable, '-c', f'import alexnet_jax as ax; ax.load_run({str(RUN)!r})'],
        cwd=ROOT,
        env=environment(JAX_PLATFORMS='cpu'),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_a_run_says_what_it_is(run):
    assert run.class_names == tuple('0123456789')
    assert (run.config.name, run.config.columns, run.progress.step) == ('digits', 2, 300)
    assert run.parameters['conv1']['kernel'].shape == (2, 11, 11, 3, 6)


@pytest.mark.parametrize('views', ['center', 'ten'])
def test_predictions_of_arrays_and_of_files_are_the_same(run, views):
    pixels = np.stack([np.asarray(Image.open(IMAGES / name).convert('RGB')) for name in ('0.png', '1500.png')])
    found = run.predict(pixels, views)
    assert found.dtype == np.float32 and found.shape == (2, 10)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(found, run.predict(IMAGES, views))
    np.testing.assert_array_equal(found, run.predict([IMAGES / '0.png', str(IMAGES / '1500.png')], views))


def test_predictions_and_features_are_those_of_the_command_line(forked, tmp_path):
    """To the last bit, in processes that begin alike."""
    code = f"""import json, sys
import alexnet_jax as ax, numpy as np
run = ax.load_run({str(RUN)!r})
np.save({str(tmp_path / 'features.npy')!r}, run.features({str(IMAGES)!r}, 'fc7'))
print(json.dumps([run.predict({str(IMAGES)!r}).tolist(), run.top_classes({str(IMAGES)!r})]))
"""
    command = [sys.executable, '-c', code]
    ours = subprocess.run(command, cwd=ROOT, env=environment(), check=True, capture_output=True, text=True).stdout
    for name in ('config.json', 'checkpoints', 'data_set'):
        (tmp_path / name).symlink_to(RUN / name)
    told = forked.launch(f'--workdir={tmp_path}', '--mode=predict', '--json', f'--images={IMAGES}').succeeded().out
    for line, probabilities, top in zip(told.splitlines(), *json.loads(ours), strict=True):
        predictions = json.loads(line)['predictions']
        assert [one['probability'] for one in predictions] == [probabilities[one['label']] for one in predictions]
        assert [name for name, _ in top] == [one['name'] for one in predictions]
    forked.launch(f'--workdir={tmp_path}', '--mode=features', f'--images={IMAGES}').succeeded()
    (values,) = (tmp_path / 'features').glob('*/values.npy')
    np.testing.assert_array_equal(np.load(values), np.load(tmp_path / 'features.npy'))


def test_on_several_devices(run):
    apart = ax.load_run(RUN, 'best', data=2, column=2)
    assert apart.progress.step == 210 and dict(apart.experiment.mesh.shape) == {'data': 2, 'column': 2}
    together = ax.load_run(RUN, 210, data=1, column=1)
    np.testing.assert_allclose(apart.predict(IMAGES), together.predict(IMAGES), rtol=1e-5)


def test_the_network_of_a_run_is_an_ordinary_module(run):
    images = np.random.default_rng(0).normal(0, 50, (4, 64, 64, 3)).astype(np.float32)
    logits = jax.jit(run.network.apply)(run.variables, images)
    assert logits.shape == (4, 10)
    dropped = run.network.apply(run.variables, images, train=True, rngs={'dropout': jax.random.key(0)})
    assert not np.allclose(logits, dropped)
    gradient = jax.grad(lambda v: run.network.apply(v, images).sum())(run.variables)
    assert jax.tree.structure(gradient) == jax.tree.structure(run.variables)


def test_no_images_give_no_rows(run):
    for none in ([], np.empty((0, 72, 72, 3), np.uint8)):
        assert run.predict(none).shape == (0, 10) and run.predict(none).dtype == np.float32
        assert run.features(none, 'fc7').shape == (0, run.features(IMAGES, 'fc7').shape[1])
        assert run.features(none, 'fc7').dtype == np.float16
    with pytest.raises(UserError, match="views='Ten' must be one of 'center', 'ten'"):
        run.predict(IMAGES, views='Ten')


def test_opening_a_run_reads_no_velocity(run):
    """Half of the bytes that resuming reads."""

    def bytes_read(shapes):
        counts = []
        for _ in range(10):  # of which the least counts: the process reads other things too
            checkpoints = Checkpoints(RUN, read_only=True)
            before = int(pathlib.Path('/proc/self/io').read_text().split()[1])
            checkpoints.restore(300, shapes, run.experiment.mesh)
            counts.append(int(pathlib.Path('/proc/self/io').read_text().split()[1]) - before)
            checkpoints.close()
        return min(counts)

    shapes = run.experiment.shapes
    # Of so small a run a third of what is read is not arrays: 85,235 of 130,701 bytes. Of the embedded example's it is
    # half: 3,360,318 of 6,714,158.
    assert bytes_read({'parameters': shapes.parameters}) < 0.75 * bytes_read(shapes)


WRONG = [
    (np.zeros((2, 8, 8), np.uint8), 'uint8'),
    (np.zeros((2, 8, 8, 3), np.float32), 'float32'),
    ('nowhere.png', 'there is no file nowhere.png'),
    (__file__, 'cannot be read'),
]


@pytest.mark.parametrize('images, words', WRONG, ids=str)
def test_what_is_no_image_is_told(run, images, words):
    with pytest.raises(ax.UserError, match=words):
        run.predict(images)


def test_unknown_runs_checkpoints_and_layers(run, tmp_path):
    with pytest.raises(ax.UserError, match='is not the directory of a run'):
        ax.load_run(tmp_path)
    with pytest.raises(ax.UserError, match='take newest, best, or one of 210, 300'):
        ax.load_run(RUN, 7)
    with pytest.raises(ax.UserError, match='no such layer'):
        run.features(IMAGES, 'fc9')


def test_no_images(run):
    assert run.predict(np.zeros((0, 8, 8, 3), np.uint8)).shape == (0, 10)
    assert trained.in_batches(run, [], 0) is not None
