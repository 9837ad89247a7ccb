"""Errors from scores, in NumPy and in JAX, against sorting; sums over batches; the average of an ensemble."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.evaluation.metrics import Tally, average_log_probabilities, top_k_errors


def errors_by_sorting(scores, labels, k):
    found = []
    for row, label in zip(scores, labels, strict=True):
        order = sorted(range(len(row)), key=lambda place: (-row[place], place))
        found.append(label not in order[:k])
    return np.array(found)


LIBRARIES = {'NumPy': np.asarray, 'JAX': jnp.asarray}


@pytest.mark.parametrize('library', LIBRARIES)
@pytest.mark.parametrize('k', [1, 2, 5])
def test_errors_are_what_sorting_says_ties_included(library, k):
    random = np.random.default_rng(k)
    scores = random.integers(0, 4, (200, 7)).astype(np.float32)
    labels = random.integers(0, 7, 200).astype(np.int32)
    expected = errors_by_sorting(scores, labels, k)
    found = top_k_errors(LIBRARIES[library](scores), LIBRARIES[library](labels), k)
    assert isinstance(found, jax.Array) == (library == 'JAX') and found.dtype == bool
    np.testing.assert_array_equal(found, expected)
    assert 0 < expected.mean() < 1


@pytest.mark.parametrize('library', LIBRARIES)
def test_nan_is_an_error_and_ties_go_to_the_earlier_class(library):
    scores = np.array([[1, 1, 0], [1, 1, 0], [np.nan] * 3, [0, np.nan, 1], [0, np.nan, -1]], np.float32)
    labels = np.array([0, 1, 0, 1, 1])
    for k, expected in ((1, [0, 1, 1, 1, 1]), (2, [0, 0, 1, 1, 1])):
        found = top_k_errors(LIBRARIES[library](scores), LIBRARIES[library](labels), k)
        np.testing.assert_array_equal(found, np.array(expected, bool))


@pytest.mark.parametrize('library', LIBRARIES)
@pytest.mark.parametrize('classes', [1, 2, 5])
def test_nan_is_an_error_with_as_many_guesses_as_classes(library, classes):
    scores = np.full((2, classes), np.nan, np.float32)
    scores[1] = 0
    found = top_k_errors(LIBRARIES[library](scores), LIBRARIES[library](np.array([0, classes - 1])), 5)
    np.testing.assert_array_equal(found, [True, False])


@pytest.mark.parametrize('sizes', [[60], [7, 50, 3], [1] * 60])
def test_a_tally_does_not_depend_on_batches(sizes):
    random = np.random.default_rng(0)
    logits = random.normal(size=(60, 10)) * 3
    scores = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    labels = random.integers(0, 10, 60)
    tally, start = Tally(), 0
    for size in sizes:
        tally.add(scores[start : start + size], labels[start : start + size])
        start += size
    means = tally.means()
    assert means['loss'] == pytest.approx(-scores[np.arange(60), labels].astype(np.float64).mean(), rel=1e-12)
    for k in (1, 5):
        assert means[f'top{k}_error'] == errors_by_sorting(scores, labels, k).mean()


def test_an_ensemble_averages_probabilities():
    scores = [np.log([[0.5, 0.5, 1e-300]]), np.log([[0.1, 0.3, 0.6]])]
    np.testing.assert_allclose(np.exp(average_log_probabilities(scores)), [[0.3, 0.4, 0.3]], rtol=1e-14)


def test_tiny_probabilities_do_not_underflow():
    scores = [np.float32([[-5000.0, 0.0]]), np.float32([[-5001.0, 0.0]])]
    expected = -5000 + np.log1p(np.exp(-1)) - np.log(2)
    np.testing.assert_allclose(average_log_probabilities(scores), [[expected, 0]], rtol=1e-12)
    tally = Tally()
    tally.add(average_log_probabilities(scores), np.array([0]))
    assert tally.means() == {'loss': pytest.approx(-expected), 'top1_error': 1, 'top5_error': 0}
