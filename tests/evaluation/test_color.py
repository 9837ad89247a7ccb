"""Shares of color in the first layer, and the control: how often random halves of its kernels differ as much."""

import itertools

import numpy as np
import pytest

from alexnet_jax.evaluation.color import OF_RANDOM_KERNELS, chance_of_gap, color_shares


def kernels(gray, colored, size=3):
    """A column of kernels, [size, size, 3, gray + colored], of which some are gray and some without brightness."""
    generator = np.random.default_rng(gray + 100 * colored)
    shades = generator.standard_normal((size, size, 1, gray)) * np.ones((3, 1))
    colors = generator.standard_normal((size, size, 3, colored))
    return np.concatenate([shades, colors - colors.mean(axis=2, keepdims=True)], axis=-1)


def test_shares():
    random = np.random.default_rng(0).standard_normal((2, 11, 11, 3, 200))
    assert color_shares(random) == pytest.approx([OF_RANDOM_KERNELS] * 2, abs=0.01)
    assert color_shares(np.stack([kernels(8, 0), kernels(0, 8)])) == pytest.approx([0, 1], abs=1e-12)
    assert np.isnan(color_shares(np.zeros((1, 2, 2, 3, 4)))).all()


def test_the_chance_is_that_of_all_divisions():
    """Of three kernels a column, against all twenty divisions of the six."""
    both = np.random.default_rng(3).standard_normal((2, 5, 5, 3, 3))
    every = np.moveaxis(both, 0, 3).reshape(5, 5, 3, 6)  # in another order, which is the same to a division
    gaps = []
    for half in itertools.combinations(range(6), 3):
        rest = sorted(set(range(6)) - set(half))
        one, other = color_shares(np.stack([every[..., list(half)], every[..., rest]]))
        gaps.append(abs(one - other))
    own = abs(np.subtract(*color_shares(both)))
    assert 0.05 < (expected := np.mean(np.array(gaps) >= own - 1e-12)) < 1
    assert chance_of_gap(both, 20_000) == pytest.approx(expected, abs=0.015)


def test_columns_of_their_own_kind_are_no_chance_and_alike_ones_are():
    apart = np.stack([kernels(8, 0), kernels(0, 8)])
    assert chance_of_gap(apart, 2000) == pytest.approx(1 / 2001, abs=1 / 2000)
    alike = np.stack([kernels(4, 4), kernels(4, 4)])
    assert chance_of_gap(alike, 200) == 1


def test_what_cannot_be_measured():
    with pytest.raises(ValueError, match='do not see red, green and blue'):
        color_shares(np.ones((2, 3, 3, 1, 4)))
    with pytest.raises(ValueError, match='1 columns have no gap'):
        chance_of_gap(np.ones((1, 3, 3, 3, 4)))
