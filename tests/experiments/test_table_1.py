"""The other methods of Table 1, against scikit-image and scikit-learn, and on images that they can tell apart."""

import json

import numpy as np
import pytest
from fakes import console
from PIL import Image
from skimage.feature import fisher_vector
from sklearn.decomposition import sparse_encode
from sklearn.mixture import GaussianMixture

from alexnet_jax.config import Config
from alexnet_jax.data.opening import prepare_data
from alexnet_jax.runtime.errors import UserError
from experiments.table_1 import linear, sift_fisher, sparse_coding
from experiments.table_1.baseline import measure
from experiments.table_1.descriptors import CELLS, color_statistics, dense_sift, grid, in_cells


def test_fisher_vectors_are_those_of_scikit_image():
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 6)).astype(np.float32)
    mixture = GaussianMixture(5, covariance_type='diag', random_state=0).fit(x + random.normal(size=x.shape))
    inside = np.zeros((2, 300), np.float32)
    inside[0], inside[1, 100:180] = 1, 1
    found = sift_fisher.fisher_vectors(
        x, inside, *(a.astype(np.float32) for a in (mixture.weights_, mixture.means_, mixture.covariances_))
    )
    expected = [fisher_vector(some, mixture, improved=True) for some in (x, x[100:180])]
    np.testing.assert_allclose(found, np.concatenate(expected) / np.sqrt(2), atol=2e-4)


def test_codes_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    x, atoms = random.normal(size=(40, 16)).astype(np.float32), random.normal(size=(30, 16)).astype(np.float32)
    expected = sparse_encode(x, atoms, algorithm='threshold', alpha=sparse_coding.PENALTY)
    found = np.asarray(sparse_coding.codes(x, atoms))
    np.testing.assert_allclose(found[:, :30] - found[:, 30:], expected, atol=1e-5)
    assert found.min() == 0


def test_largest_codes_are_of_their_cell():
    inside = np.array([[True, True], [False, True]])
    atoms = np.eye(2, dtype=np.float32)
    found = np.asarray(sparse_coding.largest_codes(np.array([[1.15, 0], [0, 0.65]], np.float32), inside, atoms))
    np.testing.assert_allclose(found * np.sqrt(1.5), [1, 0.5, 0, 0, 0, 0.5, 0, 0], atol=1e-6)


def test_patches_lie_in_the_image_and_each_in_its_cells():
    patches = grid(64)
    assert len(patches) == 13**2 + 11**2 + 9**2
    assert (patches[:, :2] - patches[:, 2:] / 2).min() == 0 and (patches[:, :2] + patches[:, 2:] / 2).max() == 64
    inside = in_cells(patches, 64)
    assert inside.shape == (len(CELLS), len(patches)) and inside[0].all() and inside[1:].any(axis=0).all()
    assert (patches[inside[1]][:, :2] <= 32).all()  # top left


def test_descriptors_see_the_direction_of_edges():
    pytest.importorskip('cv2')
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None] * 3, (64, 64))
    down, right = (np.repeat(one[..., None], 3, axis=2) for one in (ramp, ramp.T))
    patches = grid(64)[:1]
    for image, direction in ((down, (2, 6)), (right, (0, 4))):  # of eight directions in each of 4 x 4 cells
        found = dense_sift(image, patches).reshape(16, 8) ** 2
        assert found.sum() == pytest.approx(1, abs=1e-3)
        assert found[:, direction].sum() > 0.99


def test_the_classifier_separates_what_can_be_separated():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 2000).astype(np.int32)
    features = random.normal(size=(3, 20))[labels] + 0.3 * random.normal(size=(2000, 20))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    weights = linear.fit(features[:1500], labels[:1500], 3, weight_decay=0.01, epochs=20, seed=0)
    assert linear.errors(weights, features[1500:], labels[1500:])[0] < 0.01


def test_fewer_images_than_a_batch_are_learned_from():
    features, labels = np.eye(4, dtype=np.float32).repeat(10, axis=0), np.arange(4).repeat(10)
    weights = linear.fit(features, labels, 4, weight_decay=0.01, epochs=20, seed=0)
    assert linear.errors(weights, features, labels)[0] == 0


def test_errors_count_the_places_of_labels():
    labels = np.arange(7)
    scores = np.array([[n if n < label else -n for n in range(7)] for label in labels], np.float32)
    assert [int((row > row[label]).sum()) for row, label in zip(scores, labels, strict=True)] == [*range(7)]
    biases = np.zeros(7, np.float32)
    assert linear.errors((scores, biases), np.eye(7, dtype=np.float32), labels) == pytest.approx((6 / 7, 2 / 7))
    assert linear.errors((0 * scores, biases), np.eye(7, dtype=np.float32), labels) == pytest.approx((6 / 7, 2 / 7))


def test_colors_are_means_and_deviations_of_parts():
    pytest.importorskip('cv2')
    image = np.random.default_rng(0).integers(0, 256, (70, 70, 3), np.uint8)
    patches = grid(70)
    found = color_statistics(image, patches).reshape(-1, 4, 4, 6)
    for patch in (0, 5, 200, len(patches) - 1):
        y, x, size = patches[patch].astype(int)
        part = size // 4
        top, left = y - size // 2 + part, x - size // 2 + 2 * part  # of the part in row 1 and column 2
        pixels = image[top : top + part, left : left + part].astype(np.float64) / 255
        expected = [*pixels.mean((0, 1)), *pixels.std((0, 1))]
        np.testing.assert_allclose(found[patch, 1, 2], expected, atol=1e-5)
    small = color_statistics(np.full((32, 32, 3), (10, 20, 200), np.uint8), grid(64))
    np.testing.assert_allclose(
        small.reshape(-1, 6) * 255, np.tile([10, 20, 200, 0, 0, 0], (len(small) * 16, 1)), atol=1e-3
    )


SIFT, BOTH = {'SIFT': dense_sift}, {'SIFT': dense_sift, 'color': color_statistics}


@pytest.mark.parametrize('method, kinds', [(sift_fisher, BOTH), (sparse_coding, SIFT)])
def test_a_method_learns(method, kinds, gratings, tmp_path, monkeypatch):
    pytest.importorskip('cv2')
    monkeypatch.setattr('experiments.table_1.baseline.SAMPLES', 2000)
    monkeypatch.setattr(sift_fisher, 'GAUSSIANS', 4)
    monkeypatch.setattr(sparse_coding, 'ATOMS', 32)
    on = console()
    result = measure('a method', method.learn, kinds, str(gratings), str(tmp_path), None, 0, on)
    assert [f'a method: {kind}, ' in on.file.getvalue() for kind in BOTH] == [kind in kinds for kind in BOTH]
    assert ('SIFT and color, averaged' in on.file.getvalue()) == (kinds is BOTH)
    assert result.examples == 60 and result.views['center'].top1_error < 0.1
    assert json.loads((tmp_path / 'eval.json').read_text())['split'] == 'validation'


@pytest.mark.parametrize('split', ['test', 'train'])
def test_a_split_that_cannot_be_measured(split, gratings, tmp_path):
    pytest.importorskip('cv2')
    with pytest.raises(UserError, match=f'--split={split}: .* has these to measure: validation'):
        measure('a method', None, SIFT, str(gratings), str(tmp_path / 'new'), split, 0, console())
    assert not (tmp_path / 'new').exists()


@pytest.fixture(scope='module')
def gratings(tmp_path_factory):
    """Prepared images of gratings of two directions, of any color and phase."""
    place, random = tmp_path_factory.mktemp('gratings'), np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    for split, count in (('train', 300), ('validation', 30)):
        for name, ramp in (('down', y), ('right', x)):
            (place / 'source' / split / name).mkdir(parents=True)
            for number in range(count):
                wave = np.sin(ramp * random.uniform(0.5, 1.2) + random.uniform(0, 6)) * 60
                pixels = wave[..., None] * random.uniform(0.5, 1, 3) + 128 + random.normal(0, 8, (32, 32, 3))
                image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                image.save(place / 'source' / split / name / f'{number}.png')
    fields = {'source': 'folder', 'source_directory': str(place / 'source'), 'directory': str(place / 'data')}
    prepare_data(Config().data.model_copy(update={**fields, 'image_size': 32, 'storage': 'raw'}), console())
    return place / 'data'
