"""`--mode=eval`: eval.json and what is printed, of one run and of an ensemble, against NumPy."""

import errno
import json
import os
import shutil

import by_hand
import fakes
import numpy as np
import pytest
from configs import typed
from small_run import VALIDATION

from alexnet_jax.commands.evaluate import evaluate_ensemble, evaluate_run, results_table
from alexnet_jax.commands.features import extract
from alexnet_jax.data.dataset import MANIFEST
from alexnet_jax.evaluation.published import rows_for
from alexnet_jax.runs.eval_json import Evaluation, ViewErrors, read_evaluation
from alexnet_jax.runs.workdir import DATA_SET
from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import UserError


@pytest.fixture(scope='module')
def expected(trained):
    return by_hand.probabilities(trained[1])


def test_eval_json_holds_what_numpy_counts(run, expected):
    config, workdir = run
    on = fakes.console()
    evaluation = evaluate_run(typed(config), str(workdir), 'newest', 'validation', on)
    assert read_evaluation(workdir) == evaluation
    result = json.loads((workdir / 'eval.json').read_text())
    assert list(result) == ['step', 'epoch', 'source', 'split', 'examples', 'classes', 'views']
    assert (result['step'], result['classes']) == (135, 10)
    assert (result['source'], result['split'], result['examples']) == ('digits', 'validation', VALIDATION)
    for views in ('center', 'ten'):
        errors = by_hand.errors(expected[0][views], expected[1]) | {'patches': {'center': 1, 'ten': 5}[views]}
        assert result['views'][views] == pytest.approx(errors, rel=1e-5)
        assert f'{result["views"][views]["top1_error"]:.2%}' in on.file.getvalue()
    assert 'Nothing is published for these images of digits' in on.file.getvalue()


def test_errors_are_printed_where_they_cannot_be_written(run, expected, monkeypatch, tmp_path):
    config, workdir = run
    original = files.replace_file

    def read_only(path, content):
        if path.is_relative_to(workdir):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        original(path, content)

    monkeypatch.setattr(files, 'replace_file', read_only)
    config, on = typed(config).replace(**{'evaluation.views': ('center',)}), fakes.console()
    evaluate_run(config, str(workdir), 'newest', 'validation', on)
    top1 = f'{by_hand.errors(expected[0]["center"], expected[1])["top1_error"]:.2%}'
    assert top1 in on.file.getvalue() and '--output=DIRECTORY names another place' in on.file.getvalue()
    assert f'{workdir}/eval.json cannot be written: Read-only file system' in on.file.getvalue()
    elsewhere = evaluate_run(config, str(workdir), 'newest', 'validation', fakes.console(), str(tmp_path / 'a' / 'b'))
    assert read_evaluation(tmp_path / 'a' / 'b') == elsewhere and read_evaluation(workdir) is None


def test_on_a_full_disk_errors_are_printed_and_it_ends_with_a_message(run, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, 'replace_file', full)
    config, on = typed(run[0]).replace(**{'evaluation.views': ('center',)}), fakes.console()
    with pytest.raises(UserError, match=r'eval\.json cannot be written: No space left on device'):
        evaluate_run(config, str(run[1]), 'newest', 'validation', on)
    assert 'top-1 error' in on.file.getvalue()


def test_no_views_are_refused(run):
    config, workdir = typed(run[0]).replace(**{'evaluation.views': ()}), run[1]
    with pytest.raises(UserError, match=r"config\.evaluation\.views is empty; give 'center', 'ten' or both"):
        evaluate_run(config, str(workdir), 'newest', 'validation', fakes.console())
    assert read_evaluation(workdir) is None


@pytest.fixture(scope='module')
def ensemble(trained, another, tmp_path_factory):
    """eval.json of both runs averaged, and what was printed."""
    on, directory = fakes.console(), tmp_path_factory.mktemp('ensemble') / 'both'
    workdirs = [str(trained[1]), str(another[1])]
    evaluate_ensemble(None, workdirs, str(directory), 'newest', 'validation', on)
    return json.loads((directory / 'eval.json').read_text()), on.file.getvalue()


def test_an_ensemble_averages_probabilities(ensemble, trained, another, expected):
    result, printed = ensemble
    theirs, _ = by_hand.probabilities(another[1])
    for views in ('center', 'ten'):
        others = theirs[views]
        patches = {'patches': {'center': 1, 'ten': 5}[views]}
        average = by_hand.errors((expected[0][views] + others) / 2, expected[1])
        assert result['views'][views] == pytest.approx(average | patches, rel=1e-5)
        own = [one['views'][views] for one in result['runs']]
        assert own[0] == pytest.approx(by_hand.errors(expected[0][views], expected[1]) | patches, rel=1e-5)
        assert own[1] == pytest.approx(by_hand.errors(others, expected[1]) | patches, rel=1e-5)
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
        evaluate_run(typed(run[0]), str(workdir), 'newest', 'validation', fakes.console())


def test_mistakes_in_naming_runs(trained, another, tmp_path):
    one, other = str(trained[1]), str(another[1])

    def refused(workdirs, workdir, split, message):
        with pytest.raises(UserError, match=message):
            evaluate_ensemble(None, workdirs, str(workdir), 'newest', split, fakes.console())

    refused([one, other], trained[1], 'validation', 'is the directory of a run')
    refused([one, f'{one}/../run'], tmp_path / 'x', 'validation', 'names .*run twice')
    refused([one, str(tmp_path)], tmp_path / 'x', 'validation', 'is not the directory of a run')
    refused([one, other], tmp_path / 'x', 'test', '--split=test: .* has none; it has train, validation')
    assert not (tmp_path / 'x' / 'eval.json').exists()


def test_a_split_without_images_is_none(run, tmp_path):
    config, workdir = run
    shutil.copytree(config.data.directory, tmp_path / 'data')
    fields = json.loads((tmp_path / 'data' / MANIFEST).read_text())
    fields['shards']['test'] = []
    (tmp_path / 'data' / MANIFEST).write_text(json.dumps(fields))
    config.data.directory = str(tmp_path / 'data')
    message = '--split=test: .*/data has none; it has train, validation. Images without labels can be'
    with pytest.raises(UserError, match=message):
        evaluate_run(typed(config), str(workdir), 'newest', 'test', fakes.console())
    with pytest.raises(UserError, match=message):
        extract(typed(config), str(workdir), 'newest', 'fc7', 'test', [], fakes.console())


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
    whole = {'imagenet2010': 150_000, 'digits': 360}.get(source, 49_990)  # of 50,000, ten of them damaged
    published = rows_for(source, split, 1000, whole)
    assert models <= {row.model for row in published}
    assert bool(models) == bool(published)
    on, views = fakes.console(), {'ten': ViewErrors(top1_error=0.4, top5_error=0.2)}
    result = Evaluation(step=1, epoch=1, source=source, split=split, examples=whole, classes=1000, views=views)
    on.print(results_table(result, 'ours'))
    for row in published:
        (line,) = [line for line in on.file.getvalue().splitlines() if f'{row.model} ({row.where})' in line]
        errors = [error for error in (row.top1_error, row.top5_error) if error is not None]
        assert all(f'{error:.2%}' in line for error in errors)
    assert ' 40.00%' in on.file.getvalue()


@pytest.mark.parametrize('classes, examples', [(100, 5_000), (1000, 10_000), (100, 50_000)])
def test_a_part_of_the_images_is_not_compared_with_the_paper(classes, examples):
    on, views = fakes.console(), {'ten': ViewErrors(top1_error=0.4, top5_error=0.2)}
    fields = {'source': 'imagenet2012', 'split': 'validation', 'examples': examples, 'classes': classes}
    on.print(results_table(Evaluation(step=1, epoch=1, views=views, **fields), 'ours'))
    assert '1 CNN' not in on.file.getvalue() and 'Nothing is published for these images' in on.file.getvalue()


@pytest.mark.parametrize(
    'change, why',
    [
        ({'views': []}, 'should be an object'),
        ({'views': {'ten': {}}}, 'Field required'),
        ({'views': {'ten': {'top1_error': 1.5, 'top5_error': 0.1}}}, 'less than or equal to 1'),
        ({'views': {'ten': {'top1_error': float('nan'), 'top5_error': 0.1}}}, 'less than or equal to 1'),
        ({'step': True}, 'valid integer'),
        ({'examples': 10**4000}, 'less than'),
        ({'source': None}, 'valid string'),
        ({'runs': [{'workdir': 'a'}]}, 'Field required'),
    ],
)
def test_damaged_eval_json(change, why, tmp_path):
    whole = {'step': 3, 'epoch': 1, 'source': 'digits', 'split': 'validation', 'examples': 9, 'views': {}}
    (tmp_path / 'eval.json').write_text(json.dumps(whole))
    assert read_evaluation(tmp_path).step == 3
    (tmp_path / 'eval.json').write_text(json.dumps(whole | change))
    with pytest.raises(UserError, match=rf'eval\.json is damaged \(.*{why}.*--mode=eval'):
        read_evaluation(tmp_path)


def test_an_eval_json_that_cannot_be_read_is_not_called_damaged(tmp_path):
    assert read_evaluation(tmp_path) is None
    (tmp_path / 'eval.json').mkdir()
    with pytest.raises(UserError, match=r'eval\.json cannot be read: Is a directory'):
        read_evaluation(tmp_path)


@pytest.mark.parametrize('text', ['', '{', '[]', '[' * 100_000, '{"views": {}}', '\udcff'])
def test_what_is_no_evaluation(text, tmp_path):
    (tmp_path / 'eval.json').write_bytes(text.encode(errors='surrogateescape'))
    with pytest.raises(UserError, match=r'eval\.json is damaged'):
        read_evaluation(tmp_path)


def test_a_loss_that_is_not_finite_is_read(tmp_path):
    views = {'ten': {'loss': float('nan'), 'top1_error': 1, 'top5_error': 1}}
    whole = {'step': 3, 'epoch': 1, 'source': 'digits', 'split': 'validation', 'examples': 9, 'views': views}
    (tmp_path / 'eval.json').write_text(json.dumps(whole))
    assert np.isnan(read_evaluation(tmp_path).views['ten'].loss)


def test_brackets_in_names_are_printed_as_they_are():
    on, views = fakes.console(), {'ten': ViewErrors(top1_error=0.4, top5_error=0.2)}
    on.print(results_table(Evaluation(step=1, epoch=1, source='[b]', split='x', examples=5, views=views), 'lr[a] [/b]'))
    assert 'lr[a] [/b], step 1 (epoch 1)' in on.file.getvalue() and '[b], x: 5 images' in on.file.getvalue()
