"""Networks that nobody here made: what is published of them must come out.

The files are not ours to pass on; `real_files.py` says where they are. ALEXNET_JAX_REAL_FILES names their directory.
"""

import importlib.util
import os
import pathlib

import pytest
import real_files

from alexnet_jax.commands.import_weights import import_weights
from alexnet_jax.model.summary import network_lines
from alexnet_jax.runs.trained import load_run
from alexnet_jax.weights.files import read_weights
from alexnet_jax.weights.networks import arranged


def directory(kind):
    given = os.environ.get('ALEXNET_JAX_REAL_FILES')
    if not given or not (pathlib.Path(given) / kind).is_dir():
        pytest.skip(f'needs {kind}/ in ALEXNET_JAX_REAL_FILES, which see in tests/weights/real_files.py')
    return pathlib.Path(given) / kind


def test_torchvisions_convolutions_see_as_lpips_does(tmp_path):
    found = real_files.lpips_distances(directory('lpips'), tmp_path / 'run')
    assert found == pytest.approx(real_files.PUBLISHED_DISTANCES, abs=0.0005)


def test_caffes_cifar10_network_classifies(tmp_path):
    """JPEGs of CIFAR-10's images are classified a little worse than the images were."""
    error, count = real_files.cifar10_error(directory('cifar10'), tmp_path / 'run', most=50)
    assert count == 500 and error < real_files.PUBLISHED_ERROR + 0.08


@pytest.mark.parametrize('version', ['v1', 'v2'])
def test_lenet(version, tmp_path):
    weights = directory('lenet') / f'{version}.caffemodel'
    import_weights(str(weights), str(tmp_path / 'run'), real_files.console())
    run = load_run(tmp_path / 'run')
    assert [name for name, _ in run.config.network] == [
        'conv1',
        'pool1',
        'conv2',
        'pool2',
        'flatten2',
        'fc3',
        'relu3',
        'fc4',
    ]
    assert sum(x.size for layer in run.parameters.values() for x in layer.values()) == 430_500 + 1_580  # 20 x 25 x 3


def test_the_model_zoos_alexnet(tmp_path):
    """Its numbers are constants: the structure alone can be seen."""
    package = importlib.util.find_spec('onnx')
    if package is None or not package.origin:
        pytest.skip('needs the package onnx, which has light_bvlc_alexnet.onnx')
    path = pathlib.Path(package.origin).parent / 'backend/test/data/light/light_bvlc_alexnet.onnx'
    network = read_weights(str(path))
    table, columns, _ = arranged(network, network.crop_size)
    lines = {line.name: line for line in network_lines(table, columns, network.crop_size)}
    assert columns == 2 and sum(line.parameters for line in lines.values()) == 60_965_224
    sizes = [lines[name].output[0] for name in ('conv1', 'pool1', 'conv2', 'pool2', 'conv5', 'pool5')]
    assert sizes == [54, 26, 26, 12, 12, 6]


def test_caffenets_cat_has_the_published_probabilities(tmp_path):
    found = real_files.caffenet_probabilities(directory('caffenet'), tmp_path / 'run')
    assert found == pytest.approx(real_files.PUBLISHED_PROBABILITIES, abs=0.01)
