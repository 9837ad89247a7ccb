"""A run of the first version, kept in old_run/ as it was written, still evaluates, predicts and resumes.

Its config has fields of earlier names; its metrics have `colour_column1`; beside it, what that version computed.
"""

import dataclasses
import json
import pathlib
import shutil

import fakes
import numpy as np
import pytest

import alexnet_jax as ax
from alexnet_jax.commands.evaluate import evaluate_run
from alexnet_jax.commands.train import train
from alexnet_jax.data.images import normalized
from alexnet_jax.runs.summary import summarize
from alexnet_jax.runs.workdir import read_config

HERE = pathlib.Path(__file__).parent
EXPECTED = json.loads((HERE / 'old_run_expected.json').read_text())


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    return shutil.copytree(HERE / 'old_run', tmp_path_factory.mktemp('old') / 'run')


def config_of(workdir, **changes):
    return read_config(workdir).replace(**{'data.directory': str(workdir.parent / 'data')} | changes)


def test_fields_of_earlier_names_are_read(workdir):
    config = read_config(workdir)
    assert (config.data.color_std, config.data.color_epochs, config.data.color_scale) == (0.05, 2, 'deviation')
    assert config.rate_control.layer_factors == ((0, '*.bias', 2.0),)


def test_evaluation_gives_the_same_errors(workdir):
    written = json.loads((HERE / 'old_run' / 'eval.json').read_text())
    mirrored = config_of(workdir, **{'data.mirror': True})  # that version always averaged mirror images too
    evaluate_run(mirrored, str(workdir), 'newest', 'validation', fakes.console())
    found = json.loads((workdir / 'eval.json').read_text())
    for views, errors in written['views'].items():
        for name in ('top1_error', 'top5_error'):
            assert abs(found['views'][views][name] - errors[name]) <= 1 / 360  # rounding may turn one image
        np.testing.assert_allclose(found['views'][views]['loss'], errors['loss'], rtol=1e-4)


def test_predictions_are_the_same(workdir):
    run = ax.load_run(workdir)
    config = run.config.replace(**{'data.mirror': True})  # as above; and images were not read as preparation reads them
    run = dataclasses.replace(run, experiment=dataclasses.replace(run.experiment, config=config))
    paths = [HERE / 'old_run_images' / name for name in EXPECTED['predictions']]
    pixels = np.stack([normalized(path.read_bytes(), run.data.image_size) for path in paths])
    for probabilities, expected in zip(run.predict(pixels), EXPECTED['predictions'].values(), strict=True):
        for one in expected:
            np.testing.assert_allclose(probabilities[one['label']], one['probability'], rtol=1e-4)


def test_the_summary_reads_shares_of_color_of_earlier_names(workdir):
    last = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()][-1]
    assert summarize(str(workdir)).colors == (last['colour_column1'], last['colour_column2'])


def test_it_resumes_with_the_same_losses(workdir):
    copy = shutil.copytree(workdir, workdir.parent / 'resumed')
    on = fakes.console()
    assert train(config_of(copy, epochs=11), str(copy), on).step == 330
    assert 'from step 300, epoch 10' in on.file.getvalue()
    lines = [json.loads(line) for line in (copy / 'metrics.jsonl').read_text().splitlines()]
    lines = [line for line in lines if line['step'] > 300]
    assert len(lines) == len(EXPECTED['resumed'])
    for line, expected in zip(lines, EXPECTED['resumed'], strict=True):
        assert (line['step'], line['split']) == (expected['step'], expected['split'])
        np.testing.assert_allclose(line['loss'], expected['loss'], rtol=1e-3)


def test_fields_of_another_version_are_ignored_with_a_warning(workdir):
    copy = shutil.copytree(workdir, workdir.parent / 'other_version')
    fields = json.loads((copy / 'config.json').read_text())
    fields['notes'], fields['data']['blend'] = {'by': 'me'}, 0.05
    (copy / 'config.json').write_text(json.dumps(fields))
    with pytest.warns(UserWarning, match='no field') as told:
        assert read_config(copy) == read_config(workdir)
    assert sorted(str(one.message).split("'")[1] for one in told) == ['data.blend', 'notes']
