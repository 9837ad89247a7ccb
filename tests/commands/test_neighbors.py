"""The nearest training images of a run, and codes in their place: what is written, against NumPy."""

import functools
import json

import fakes
import numpy as np
import pytest
from configs import typed
from small_run import TRAINING, VALIDATION, copied

from alexnet_jax.commands import neighbors as retrieval
from alexnet_jax.commands.neighbors import retrieve
from alexnet_jax.evaluation.hamming import hamming_nearest

USUALLY_KEPT, KEPT = retrieval._KEPT, 64  # bits; fc7 has 64 values here


@pytest.fixture(scope='module', autouse=True)
def small_codes():
    """Fewer steps and bits than usual; how good codes are is guarded in test_binary_codes.py."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(retrieval, 'train_autoencoder', functools.partial(retrieval.train_autoencoder, steps=150))
        patched.setattr(retrieval, '_KEPT', KEPT)
        yield


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


def test_how_many_neighbors_are_of_the_same_class(retrieved):
    workdir, report, printed = retrieved
    (_, train, _, labels), (_, validation, _, own) = (opened(workdir, split) for split in ('train', 'validation'))
    distances = np.square(validation[:, None] - train).sum(axis=2)
    same = labels[np.argsort(distances, axis=1, kind='stable')[:, :6]] == own[:, None]
    assert report['same_class']['found'] == pytest.approx(same.mean(), abs=1e-12)
    assert report['same_class']['by_chance'] == pytest.approx((labels == own[:, None]).mean(), abs=1e-12)
    assert f'{same.mean():.1%} of whose six nearest are of their class' in ' '.join(printed.split())


def test_of_a_data_set_with_other_classes(trained, tmp_path):
    """Neighbors need no class of the network's: a trained network finds them in any images of its size."""
    config, workdir = copied(trained, tmp_path)
    manifest = json.loads((workdir / 'data_set' / 'manifest.json').read_text())
    manifest['class_ids'] = [f'other {name}' for name in manifest['class_ids']]
    (workdir / 'data_set' / 'manifest.json').write_text(json.dumps(manifest))
    assert retrieve(typed(config), str(workdir), 'newest', 'fc7', fakes.console())['images'] == TRAINING


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


def test_codes_of_one_length_are_kept_beside_the_values(retrieved):
    workdir, _, _ = retrieved
    directory, *_ = opened(workdir, 'train')
    assert [path.name for path in directory.glob('codes-*')] == [f'codes-{KEPT}.npy']
    codes = np.load(directory / f'codes-{KEPT}.npy')
    assert codes.shape == (TRAINING, KEPT // 32) and codes.dtype == np.uint32
    itself, distance = hamming_nearest(codes, codes[:50], 1)
    assert (distance == 0).all() and (itself[:, 0] <= np.arange(50)).all()


def test_256_bits_are_kept():
    assert USUALLY_KEPT == 256 and USUALLY_KEPT in retrieval._LENGTHS
