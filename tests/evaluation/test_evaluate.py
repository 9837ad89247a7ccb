"""Errors from a network's outputs, one run or several, against direct computations in NumPy."""

import dataclasses
import json
import pathlib

import fakes
import jax
import numpy as np
import pytest
from small_run import VALIDATION

from alexnet_jax.data.dataset import MANIFEST, open_prepared
from alexnet_jax.data.pipeline import evaluation_batches
from alexnet_jax.evaluation.evaluate import (
    Tally,
    average,
    evaluate_ensemble,
    evaluate_run,
    predictions,
    results_table,
    wrong,
)
from alexnet_jax.evaluation.published import ROWS, rows_for
from alexnet_jax.model.alexnet import AlexNet
from alexnet_jax.model.columns import Columns, make_mesh
from alexnet_jax.runs.trained import open_run, predictor
from alexnet_jax.runs.workdir import DATA_SET
from alexnet_jax.runtime.errors import UserError


def wrong_by_sorting(scores, labels, top):
    found = []
    for row, label in zip(scores, labels, strict=True):
        order = sorted(range(len(row)), key=lambda place: (-row[place], place))
        found.append(label not in order[:top])
    return np.array(found)


@pytest.mark.parametrize('top', [1, 2, 5])
def test_wrong_is_what_sorting_says_ties_included(top):
    random = np.random.default_rng(top)
    scores = random.integers(0, 4, (200, 7)).astype(np.float32)
    labels = random.integers(0, 7, 200).astype(np.int32)
    expected = wrong_by_sorting(scores, labels, top)
    np.testing.assert_array_equal(wrong(scores, labels, top), expected)
    assert 0 < expected.mean() < 1


def test_what_is_no_number_is_wrong():
    scores = np.array([[np.nan, np.nan, np.nan], [0.0, np.nan, -1.0]], np.float32)
    assert wrong(scores, np.array([0, 1]), 1).tolist() == [True, True]


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
    for top in (1, 5):
        assert means[f'top{top}_error'] == wrong_by_sorting(scores, labels, top).mean()


def test_networks_are_averaged_by_their_probabilities():
    scores = [np.log([[0.5, 0.5, 1e-300]]), np.log([[0.1, 0.3, 0.6]])]
    np.testing.assert_allclose(np.exp(average(scores)), [[0.3, 0.4, 0.3]], rtol=1e-15)


@pytest.fixture(scope='module')
def by_hand(trained):
    """The trained run's probabilities for the validation images: views cut out in NumPy, no mesh; and the labels."""
    config, workdir = trained
    run = open_run(config, str(workdir), 'newest')
    network = AlexNet(run.experiment.table, Columns(2, 2))
    softmax = jax.jit(lambda x: jax.nn.softmax(network.apply({'params': run.parameters}, x)))
    data = open_prepared(config.data.directory)
    images, labels, mean, crop = [], [], data.mean_image(), config.data.crop_size
    for batch in evaluation_batches(data, 'validation', batch_size=60):
        images.append(batch['image'].astype(np.float32) - mean)
        labels.append(batch['label'])
    images, far = np.concatenate(images), data.image_size - crop
    views = []
    for top, left in [(far // 2, far // 2), (0, 0), (0, far), (far, 0), (far, far)]:
        patch = images[:, top : top + crop, left : left + crop]
        views += [patch, patch[:, :, ::-1]]
    each = np.stack([np.asarray(softmax(patch), np.float64) for patch in views])
    return {'center': each[0], 'ten': each.mean(axis=0)}, np.concatenate(labels)


@pytest.mark.parametrize('mesh', [(1, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize('views', ['center', 'ten'])
def test_predictions_are_the_averaged_softmax_of_the_views(trained, by_hand, views, mesh):
    config, workdir = trained
    config = config.copy_and_resolve_references()
    config.network = trained[0].network
    config.mesh.data, config.mesh.column = mesh
    run = open_run(config, str(workdir), 'newest')
    assert run.experiment.mesh.devices.shape == make_mesh(2, *mesh).devices.shape
    data, batch_size = open_prepared(config.data.directory), 50
    outputs = list(predictions([predictor(run, views)], data, 'validation', batch_size=batch_size, threads=1))
    assert [len(labels) for _, labels in outputs] == [50] * 7 + [10]
    found = np.exp(np.concatenate([scores for (scores,), _ in outputs]))
    np.testing.assert_allclose(found, by_hand[0][views], atol=2e-6)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in outputs]), by_hand[1])
    assert found.std() > 0.1


def errors(probabilities, labels):
    found = {f'top{top}_error': wrong_by_sorting(probabilities, labels, top).mean() for top in (1, 5)}
    return found | {'loss': -np.log(probabilities[np.arange(len(labels)), labels]).mean()}


def test_eval_json_holds_what_numpy_counts(run, by_hand):
    config, workdir = run
    on = fakes.console()
    result = evaluate_run(config, str(workdir), 'newest', 'validation', on)
    assert json.loads((workdir / 'eval.json').read_text()) == result
    assert (result['source'], result['split'], result['examples']) == ('digits', 'validation', VALIDATION)
    for views in ('center', 'ten'):
        assert result['views'][views] == pytest.approx(errors(by_hand[0][views], by_hand[1]), rel=1e-5)
        assert f'{result["views"][views]["top1_error"]:.2%}' in on.file.getvalue()
    assert 'Nothing is published for digits' in on.file.getvalue()


@pytest.fixture(scope='module')
def ensemble(trained, another, tmp_path_factory):
    """eval.json of both runs averaged, and what was printed."""
    on, directory = fakes.console(), tmp_path_factory.mktemp('ensemble') / 'both'
    workdirs = [str(trained[1]), str(another[1])]
    evaluate_ensemble(None, workdirs, str(directory), 'newest', 'validation', on)
    return json.loads((directory / 'eval.json').read_text()), on.file.getvalue()


def test_an_ensemble_averages_probabilities(ensemble, trained, another, by_hand):
    result, printed = ensemble
    config, workdir = another
    run, data = open_run(config, str(workdir), 'newest'), open_prepared(config.data.directory)
    for views in ('center', 'ten'):
        outputs = predictions([predictor(run, views)], data, 'validation', batch_size=64, threads=1)
        others = np.concatenate([np.exp(scores.astype(np.float64)) for (scores,), _ in outputs])
        expected = errors((by_hand[0][views] + others) / 2, by_hand[1])
        assert result['views'][views] == pytest.approx(expected, rel=1e-5)
        own = [one['views'][views] for one in result['runs']]
        assert own[0] == pytest.approx(errors(by_hand[0][views], by_hand[1]), rel=1e-5)
        assert own[1] == pytest.approx(errors(others, by_hand[1]), rel=1e-5)
        assert own[0] != own[1] != result['views'][views]
    assert [one['workdir'] for one in result['runs']] == [str(trained[1]), str(another[1])]
    assert result['examples'] == VALIDATION and '2 runs averaged' in printed


def test_runs_on_other_classes_are_not_averaged(trained, run, tmp_path):
    _, workdir = run
    manifest = workdir / DATA_SET / MANIFEST
    fields = json.loads(manifest.read_text())
    fields['class_ids'][0] = 'zero'
    manifest.write_text(json.dumps(fields))
    both = [str(trained[1]), str(workdir)]
    with pytest.raises(UserError, match=r'do not share a data set: class_ids is 10 classes, 0, 1, 2, .* zero, 1, 2'):
        evaluate_ensemble(None, both, str(tmp_path / 'both'), 'newest', 'validation', fakes.console())
    with pytest.raises(UserError, match=f'other classes than those that {workdir} was trained on'):
        evaluate_run(run[0], str(workdir), 'newest', 'validation', fakes.console())


def test_mistakes_in_naming_runs(trained, another, tmp_path):
    one, other = str(trained[1]), str(another[1])

    def refused(workdirs, workdir, split, message):
        with pytest.raises(UserError, match=message):
            evaluate_ensemble(None, workdirs, str(workdir), 'newest', split, fakes.console())

    refused([one, other], trained[1], 'validation', 'is the directory of a run')
    refused([one, f'{one}/../run'], tmp_path / 'x', 'validation', 'names a run twice')
    refused([one, str(tmp_path)], tmp_path / 'x', 'validation', 'is not the directory of a run')
    refused([one, other], tmp_path / 'x', 'test', '--split=test: .* has none; it has train, validation')
    assert not pathlib.Path(tmp_path / 'x' / 'eval.json').exists()


@pytest.mark.parametrize(
    'source, split, models',
    [
        ('imagenet2010', 'test', {'sparse coding', 'SIFT + FVs', 'CNN'}),
        ('imagenet2012', 'validation', {'1 CNN', '5 CNNs', '7 CNNs*', 'bvlc_alexnet'}),
        ('tfds:imagenet2012', 'validation', {'1 CNN', '5 CNNs', '7 CNNs*', 'bvlc_alexnet'}),
        ('imagenet2010', 'validation', set()),
        ('digits', 'validation', set()),
    ],
)
def test_the_papers_rows_stand_beside_results_on_the_same_images(source, split, models):
    assert models <= {row.model for row in rows_for(source, split)}
    assert bool(models) == bool(rows_for(source, split))
    result = {'source': source, 'split': split, 'examples': 5, 'views': {'ten': {'top1_error': 0.4, 'top5_error': 0.2}}}
    on = fakes.console()
    on.print(results_table(result, 'ours'))
    for row in rows_for(source, split):
        (line,) = [line for line in on.file.getvalue().splitlines() if f'{row.model} ({row.where})' in line]
        errors = [error for error in (row.top1_error, row.top5_error) if error is not None]
        assert all(f'{error:.2%}' in line for error in errors)
    assert ' 40.00%' in on.file.getvalue()


def test_the_published_errors_are_fractions():
    for row in (row for rows in ROWS.values() for row in rows):
        assert 0 < (row.top5_error or 0.1) < (row.top1_error or 0.5) < 1
        assert dataclasses.asdict(row)['views'] in ('center', 'ten', '')
