"""The nearest training images of a run, and codes in their place: what is written, against NumPy."""

import json

import fakes
import numpy as np
import pytest
from configs import typed
from small_run import TRAINING, VALIDATION, copied

from alexnet_jax.commands import neighbors as retrieval
from alexnet_jax.commands.neighbors import retrieve
from alexnet_jax.evaluation.hamming import hamming_nearest


@pytest.fixture(scope='module')
def retrieved(trained, tmp_path_factory):
    """Workdir, what was returned, and what was printed."""
    config, workdir = copied(trained, tmp_path_factory.mktemp('retrieved'))
    on = fakes.console()
    return workdir, retrieve(typed(config), str(workdir), 'newest', 'fc7', on), on.file.getvalue()


def opened(workdir, split):
    (directory,) = (workdir / 'features').glob(f'fc7-{split}-step*')
    names = (directory / 'files.txt').read_text().splitlines()
    return directory, np.load(directory / 'values.npy').astype(np.float64), names, np.load(directory / 'labels.npy')


def test_neighbors_are_the_nearest_of_all(retrieved):
    workdir, _, _ = retrieved
    _, train, names, labels = opened(workdir, 'train')
    _, validation, own_names, own_labels = opened(workdir, 'validation')
    found = json.loads((workdir / 'neighbors.json').read_text())
    assert found['layer'] == 'fc7' and len(found['queries']) == 5
    for query in found['queries']:
        place = own_names.index(query['image'])
        assert query['class'] == str(own_labels[place])
        distances = np.sqrt(np.square(train - validation[place]).sum(axis=1))
        nearest = np.argsort(distances, kind='stable')[:6]
        assert [one['image'] for one in query['nearest']] == [names[i] for i in nearest]
        assert [one['class'] for one in query['nearest']] == [str(labels[i]) for i in nearest]
        assert [one['distance'] for one in query['nearest']] == pytest.approx(distances[nearest].tolist(), rel=1e-9)
    same = [one['class'] == query['class'] for query in found['queries'] for one in query['nearest']]
    assert np.mean(same) > 0.5


def test_codes_are_judged_by_the_true_neighbors(retrieved):
    workdir, report, printed = retrieved
    assert json.loads((workdir / 'codes.json').read_text()) == report
    assert (report['images'], report['queries']) == (TRAINING, VALIDATION)
    assert [one['bits'] for one in report['codes']] == [32, 64]  # fc7 has 64 values here
    for one in report['codes']:
        assert 0.05 < one['recall']['autoencoder'] < one['recall_of_shortlist']['autoencoder'] <= 1
        assert one['speed_up'] == pytest.approx(report['exact_seconds'] / one['seconds'])
        assert f'{one["recall"]["autoencoder"]:.1%}' in printed
    assert report['codes'][1]['recall']['autoencoder'] > report['codes'][0]['recall']['autoencoder']


def test_pictures_are_there(retrieved):
    workdir, _, printed = retrieved
    for name in ('neighbors.png', 'codes.png', 'codes.svg'):
        assert (workdir / 'figures' / name).stat().st_size > 5000
        assert f'wrote {workdir / "figures" / name}' in printed


def test_a_second_time_takes_the_values_that_are_there(retrieved, trained, monkeypatch):
    workdir, report, _ = retrieved
    monkeypatch.setattr(retrieval, '_LENGTHS', (32,))
    on = fakes.console()
    again = retrieve(typed(trained[0]), str(workdir), 'newest', 'fc7', on)
    assert on.file.getvalue().count('is complete already') == 2
    assert [one['recall'] for one in again['codes']] == [report['codes'][0]['recall']]


def test_codes_of_256_bits_are_kept_beside_the_values(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(retrieval, '_LENGTHS', (256,))
    config, workdir = copied(trained, tmp_path)
    report = retrieve(typed(config), str(workdir), 'newest', 'pool1', fakes.console())
    assert [one['bits'] for one in report['codes']] == [256]
    (directory,) = (workdir / 'features').glob('pool1-train-step*')
    codes = np.load(directory / 'codes-256.npy')
    assert codes.shape == (TRAINING, 8) and codes.dtype == np.uint32
    itself, distance = hamming_nearest(codes, codes[:50], 1)
    assert (distance == 0).all() and (itself[:, 0] <= np.arange(50)).all()
