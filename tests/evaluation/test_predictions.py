"""Predictions of a split, on any mesh, against views cut out in NumPy; the published errors."""

import dataclasses

import by_hand
import numpy as np
import pytest
from configs import typed

from alexnet_jax.data.dataset import open_prepared
from alexnet_jax.evaluation.evaluate import predictions
from alexnet_jax.evaluation.published import ROWS
from alexnet_jax.model.columns import make_mesh
from alexnet_jax.runs.trained import open_run, predictor

CASES = [(views, mesh, 'matching') for views in ('center', 'ten', 'ten, mirrored') for mesh in [(1, 1), (1, 2), (2, 2)]]


@pytest.mark.parametrize(('views', 'mesh', 'mean_patch'), [*CASES, ('ten, mirrored', (2, 2), 'center')])
def test_predictions_are_the_averaged_softmax_of_the_views(trained, views, mesh, mean_patch):
    config, workdir = trained
    config = config.copy_and_resolve_references()
    config.network = trained[0].network
    config.mesh.data, config.mesh.column = mesh
    config.data.mirror, config.data.mean_patch = views == 'ten, mirrored', mean_patch
    run = open_run(typed(config), str(workdir), 'newest', print)
    assert run.experiment.mesh.devices.shape == make_mesh(2, *mesh).devices.shape
    data, batch_size = open_prepared(config.data.directory), 50
    outputs = list(
        predictions([predictor(run, views.split(',')[0])], data, 'validation', batch_size=batch_size, threads=1)
    )
    assert [len(labels) for _, labels in outputs] == [50] * 7 + [10]
    found = np.exp(np.concatenate([scores for (scores,), _ in outputs]))
    expected, all_labels = by_hand.probabilities(workdir, mean_patch)
    np.testing.assert_allclose(found, expected[views], atol=2e-6)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in outputs]), all_labels)
    assert found.std() > 0.1


def test_the_published_errors_are_fractions():
    for row in (row for rows in ROWS.values() for row in rows):
        assert 0 < (row.top5_error or 0.1) < (row.top1_error or 0.5) < 1
        assert dataclasses.asdict(row)['views'] in ('center', 'ten', '')
