"""`benchmarks/inference.py`: the network that it writes, and that PyTorch's side computes the same features."""

import numpy as np
import pytest
from configs import typed

from alexnet_jax.runs.trained import load_run
from benchmarks.inference import correlation, write_untrained
from benchmarks.photographs import write_photographs
from experiments import digits


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    """A workdir, the paths of photographs, and their features."""
    root = tmp_path_factory.mktemp('inference')
    workdir, folder = str(root / 'network'), root / 'photographs'
    folder.mkdir()
    write_untrained(workdir, typed(digits.get_config()).replace(**{'data.storage': 'raw'}))
    paths = [str(path) for path in write_photographs(folder, 5)]
    return workdir, paths, load_run(workdir).features(paths)


def test_photographs_have_features_of_their_own(network):
    _, paths, features = network
    assert len(features) == len(paths) == 5 and features.dtype == np.float16
    assert correlation(features, features) == pytest.approx(1)
    assert correlation(features, np.roll(features, 1, axis=0)) < 0.9


@pytest.mark.parametrize('draft', [False, True])
def test_both_sides_compute_the_same_features(network, draft):
    pytest.importorskip('torch')
    from benchmarks import torch_features

    workdir, paths, features = network
    found = torch_features.features(workdir, paths, compiled=False, draft=draft, workers=0)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, features, rtol=0.02, atol=0.02 * float(np.abs(features).max()))
