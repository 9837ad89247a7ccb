"""What a run may carry on with: what may change in its config, what may not, another data set, another mesh."""

import copy
import dataclasses
import json
import shutil

import fakes
import jax
import pytest
from configs import typed

from alexnet_jax.commands.train import restore_or_initialize, train
from alexnet_jax.config import resume_rule
from alexnet_jax.runs.build import build, first_state
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runs.metrics_log import read_metrics
from alexnet_jax.runs.progress import Progress
from alexnet_jax.runs.resume import check_resume, check_start, differences, is_asked_for
from alexnet_jax.runs.summary import summarize
from alexnet_jax.runs.workdir import mark_begun, mark_saved, read_config, remember_data, remembered_data, write_config
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training.optimizer import RateControl
from experiments import paper
from tests import three_layers

# What happens to each field of the paper's config when a run carries on with another value.
FREE = {
    'name',
    'epochs',
    'log_every_steps',
    'checkpoint_every_steps',
    'rate_control.end_at_training_error',
    'keep_checkpoints',
    'evaluation.views',
    'mesh.data',
    'mesh.column',
    'accumulation_steps',
    'data.threads',
    'data.directory',
    'data.source_directory',
    'data.skip_broken',
    'data.download',
    'data.download_from',
    'data.max_megapixels',
    'data.images_per_shard',
}
ASKED_FOR = {
    'seed',
    'precision',
    'momentum',
    'weight_decay',
    'decay_biases',
    'layer_decays',
    'learning_rate',
    'rate_control.divide_by',
    'rate_control.drops',
    'rate_control.patience',
    'rate_control.tolerance',
    'rate_control.schedule',
    'rate_control.layer_rates',
    'rate_control.layer_factors',
    'pretrained.workdir',
    'pretrained.checkpoint',
    'pretrained.mean',
    'pretrained.new_layers',
    'data.source',
    'data.storage',
    'data.quality',
    'data.image_size',
    'data.crop_size',
    'data.random_crop',
    'data.mirror',
    'data.mean_patch',
    'data.blend_probability',
    'data.blend_weight',
    'data.color_std',
    'data.color_scale',
    'data.color_epochs',
    'data.color_rescale',
}


def fields(config, path=''):
    """Every field by its path."""
    for name, value in config.items():
        if hasattr(value, 'items'):
            yield from fields(value, f'{path}{name}.')
        else:
            yield path + name


NEVER = {'batch_size', 'columns', *(field for field in fields(paper.get_config()) if field.startswith('network.'))}


# Two configs.


def test_equal_configs_do_not_differ():
    config = typed(paper.get_config())
    assert list(differences(config.fields(), copy.deepcopy(config.fields()))) == []
    read = typed(json.loads(json.dumps(config.fields())))  # tuples have become lists
    assert list(differences(read.fields(), config.fields())) == []


@pytest.mark.parametrize(
    'before, now, expected',
    [
        ({'a': 1}, {'a': 2}, [('a', 1, 2)]),
        ({'a': {'b': 1, 'c': 2}}, {'a': {'b': 3, 'c': 2}}, [('a.b', 1, 3)]),
        ({'a': {'b': 1}}, {'a': {'b': 1, 'c': 2}}, [('a.c', None, 2)]),
        ({'a': 1, 'b': 2}, {'b': 2}, [('a', 1, None)]),
        ({'a': {'b': 1}}, {'a': 1}, [('a', {'b': 1}, 1)]),
        ({'network': {'a': {}, 'b': {}}}, {'network': {'b': {}, 'a': {}}}, [('network', 'a, b', 'b, a')]),
    ],
    ids=str,
)
def test_differences(before, now, expected):
    assert list(differences(before, now)) == expected


def test_every_field_is_in_one_of_the_tables():
    assert sorted([*FREE, *ASKED_FOR, *NEVER]) == sorted(fields(paper.get_config()))
    rules = {'free': FREE, 'ask': ASKED_FOR, 'fixed': NEVER}
    assert all(resume_rule(field) == rule for rule, fields in rules.items() for field in fields)


# A run's workdir, made by hand.


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return fakes.prepared(fakes.tinted(), tmp_path_factory.mktemp('data') / 'fake')


@pytest.fixture
def workdir(data, tmp_path):
    """Of a run with the paper's config."""
    write_config(typed(paper.get_config()), tmp_path)
    remember_data(data, tmp_path, data.mean_image())
    return tmp_path


OTHER_WORDS = {
    'own': 'run',
    'network': 'float16',
    'up': 'down',
    'float32': 'bfloat16',
    'jpeg': 'raw',
    'deviation': 'eigenvalue',
    'matching': 'center',
    'relu': 'tanh',
    'max_pooling': 'average_pooling',
    'exchange': 'flatten',
    'flatten': 'exchange',
}
OTHER_TUPLES = {
    'layer_decays': (('conv1', 0.0),),
    'views': ('ten',),
    'schedule': ((2, 0.1),),
    'layer_rates': ((0.0, 'conv1', 0.1),),
    'layer_factors': ((1.5, '*.bias', 2.0),),
    'new_layers': ('fc8',),
}


def changed(field):
    """The paper's config with another value of a field, and both values."""
    config = part = paper.get_config()
    *above, name = field.split('.')
    for one in above:
        part = part[one]
    match before := part[name]:
        case bool():
            part[name] = not before
        case str():
            part[name] = OTHER_WORDS.get(before, before + '?')
        case float():
            part[name] = before / 2 or 0.25
        case tuple():
            part[name] = OTHER_TUPLES[name]
        case _:
            part[name] = before + 1
    return config, before, part[name]


@pytest.mark.parametrize('field', sorted(FREE))
def test_what_does_no_harm_goes_through_and_is_told(field, workdir, data):
    config, before, now = changed(field)
    (line,) = check_resume(typed(config), data, workdir, [])
    assert line == f'Resuming with another value of config.{field}: {before!r} before, {now!r} now.'


@pytest.mark.parametrize('field', sorted(ASKED_FOR))
def test_what_touches_the_result_has_to_be_allowed(field, workdir, data):
    config, before, now = changed(field)
    with pytest.raises(UserError) as caught:
        check_resume(typed(config), data, workdir, ['name', field + '_', field[:-1]])
    values = f'config.{field}: {before!r} before, {now!r} now'
    assert str(caught.value) == (
        f'{workdir} holds a run with another config. {values}. Give the old value, or another --workdir to start a new '
        f'run, or --allow_changes={field} to resume with the new value all the same.'
    )
    (line,) = check_resume(typed(config), data, workdir, ['name', field])
    assert line == f'Resuming with another value of {values}.'


def test_another_source_of_the_same_images_does_no_harm(workdir, data):
    config = paper.get_config()
    config.data.source = 'tfds:imagenet2012'
    (line,) = check_resume(typed(config), data, workdir, [])
    assert "'imagenet2012' before, 'tfds:imagenet2012' now" in line
    assert not is_asked_for(typed(config), workdir)
    config.data.source = 'tfds:imagenet2012_subset'
    with pytest.raises(UserError, match=r'data\.source'):
        check_resume(typed(config), data, workdir, [])
    assert is_asked_for(typed(config), workdir)


ONE_OF_A_KIND = [
    f'network.{name}.type'
    for name in [
        *(f'conv{n}' for n in range(1, 6)),
        *('norm1', 'norm2', *(f'exchange{n}' for n in (3, 6, 7, 8)), 'drop6', 'drop7', 'fc6', 'fc7', 'fc8'),
    ]
]  # no other has its fields


@pytest.mark.parametrize('field', sorted(NEVER - set(ONE_OF_A_KIND)))
def test_what_the_arrays_and_the_order_are_made_for_never_changes(field, workdir, data):
    config, before, now = changed(field)
    for allowed in ([], [field], ['batch_size', 'columns', 'network']):
        with pytest.raises(UserError) as caught:
            check_resume(typed(config), data, workdir, allowed)
        message = str(caught.value)
        assert f'config.{field}: {before!r} before, {now!r} now; a run cannot resume with that' in message
        assert str(workdir) in message and '--allow_changes' not in message


def test_nothing_changed_nothing_told(workdir, data):
    assert check_resume(typed(paper.get_config()), data, workdir, []) == []


def test_several_changes_are_told_one_by_one(workdir, data):
    config = paper.get_config()
    config.epochs, config.mesh.column, config.rate_control.patience, config.rate_control.drops = 91, 2, 6, 4
    lines = check_resume(typed(config), data, workdir, ['rate_control'])
    assert [line.split(':')[0].split()[-1] for line in lines] == [
        'config.epochs',
        'config.rate_control.drops',
        'config.rate_control.patience',
        'config.mesh.column',
    ]
    with pytest.raises(UserError, match=r'config\.rate_control\.drops'):
        check_resume(typed(config), data, workdir, ['rate_control.patience'])


def test_a_layer_more_a_layer_less_and_another_order(workdir, data):
    config = paper.get_config()
    del config.network.relu5
    with pytest.raises(UserError, match=r"config\.network\.relu5: \{'type': 'relu'\} before, None now"):
        check_resume(typed(config), data, workdir, [])
    write_config(typed(config), workdir)
    with pytest.raises(UserError, match=r'config\.network\.relu5: None before, '):
        check_resume(typed(paper.get_config()), data, workdir, [])
    config.network.relu5 = {'type': 'relu'}  # now the last one
    with pytest.raises(UserError, match=r"config\.network: 'conv1, .*, relu5' before, 'conv1, .*, fc8' now"):
        write_config(typed(config), workdir)
        check_resume(typed(paper.get_config()), data, workdir, [])


def test_a_run_that_began_before_a_field_existed(workdir, data):
    fields = typed(paper.get_config()).fields()
    del fields['data']['color_rescale'], fields['accumulation_steps']
    (workdir / 'config.json').write_text(json.dumps(fields))
    config = typed(paper.get_config())
    assert check_resume(typed(config), data, workdir, []) == []
    with pytest.raises(UserError, match=r'config\.data\.color_rescale: False before, True now\. .*=data.color_rescale'):
        check_resume(typed(config.replace(**{'data.color_rescale': True})), data, workdir, [])


@pytest.mark.parametrize(
    'field, value',
    [
        ('class_ids', ('n1', 'n0', 'n2')),
        ('rgb_mean', [1.0, 2.0, 3.0]),
        ('shards', {'train': [{'file': 'train', 'examples': 11, 'sha256': 'another'}], 'validation': []}),
    ],
)
def test_another_data_set_is_refused(field, value, workdir, data, tmp_path):
    other = dataclasses.replace(data, directory=tmp_path / 'elsewhere', **{field: value})
    with pytest.raises(UserError) as caught:
        check_resume(typed(paper.get_config()), other, workdir, ['data', field])
    for word in (str(tmp_path / 'elsewhere'), str(workdir), field, 'config.data.directory', '--workdir'):
        assert word in str(caught.value)


def test_the_same_data_set_may_lie_elsewhere(workdir, data, tmp_path):
    moved = dataclasses.replace(data, directory=tmp_path / 'elsewhere', class_names=('a', 'b', 'c'))
    assert check_resume(typed(paper.get_config()), moved, workdir, []) == []


# From the start.


def put_aside(workdir):
    (workdir / 'damaged_checkpoints/7').mkdir(parents=True)


def lines_to_step_20(workdir):
    lines = [{'step': step, 'epoch': 1.0, 'split': 'train', 'loss': 1.0} for step in (10, 20)]
    (workdir / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))


@pytest.mark.parametrize(
    'leave, word', [(put_aside, 'damaged_checkpoints holds'), (lines_to_step_20, 'metrics.jsonl goes to step 20')]
)
def test_where_a_run_has_been_nothing_starts_at_step_0_unless_a_flag_says_so(leave, word, tmp_path):
    said = []
    check_start(tmp_path, False, said.append)  # an empty directory
    leave(tmp_path)
    before = sorted(tmp_path.rglob('*'))
    with pytest.raises(UserError) as caught:
        check_start(tmp_path, False, said.append)
    assert word in str(caught.value) and '--from_start' in str(caught.value) and '--workdir' in str(caught.value)
    assert sorted(tmp_path.rglob('*')) == before and not said
    mark_begun(tmp_path)  # it was stopped before its first checkpoint
    check_start(tmp_path, False, said.append)
    assert sorted(tmp_path.rglob('*')) == sorted([*before, tmp_path / 'no_checkpoint_yet'])
    mark_saved(tmp_path)
    with pytest.raises(UserError, match='--from_start'):
        check_start(tmp_path, False, said.append)


def test_what_an_earlier_run_tells_of_itself_is_kept_under_other_names(tmp_path):
    said = []
    for _ in range(2):
        lines_to_step_20(tmp_path)
        for name in ('config.json', 'eval.json', 'data_set/manifest.json'):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text('{}')
        check_start(tmp_path, True, said.append)
    names = ('metrics.jsonl', 'eval.json', 'config.json', 'data_set')
    kept = [tmp_path / name.replace('.', '_before.', 1) for name in names[:3]] + [tmp_path / 'data_set_before']
    kept += [path.with_stem(f'{path.stem}-2') for path in kept]
    assert [path.read_text().count('\n') for path in (kept[0], kept[4])] == [2, 2]
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    assert said == [f'{name} of the earlier run is kept as {path}.' for name, path in zip(names * 2, kept, strict=True)]


# Runs.


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    return tmp_path_factory.mktemp('runs')


def run(place, name, allowed=(), from_start=False, **changes):
    """Trains the run of a name, or carries it on."""
    config = three_layers.get_config()
    config.update_from_flattened_dict(
        {'data.directory': str(place / 'data'), 'mesh.data': 1, 'mesh.column': 1} | changes
    )
    return train(typed(config), str(place / name), fakes.console(), allowed, from_start=from_start)


@pytest.mark.parametrize(
    'allowed, kept, written, expected',
    [
        ([], 0.01, 0.01, 0.005),
        (['momentum'], 0.01, 0.01, 0.005),
        (['learning_rate'], 0.01, 0.01, 0.02),
        (['learning_rate'], 0.02, 0.02, 0.005),  # the same command again: what has become of the rate holds
        (['learning_rate'], 0.02, 0.01, 0.005),  # likewise where config.json was not written any more
        (['learning_rate'], 0.01, 0.02, 0.02),  # an older checkpoint, as the newest is damaged
        (['learning_rate'], None, 0.01, 0.02),  # of an early run
        (['learning_rate'], None, 0.02, 0.005),
    ],
)
def test_a_new_learning_rate_counts_once_where_it_is_allowed(allowed, kept, written, expected, tmp_path):
    config = three_layers.get_config()
    config.mesh.data = config.mesh.column = 1
    config.learning_rate = written
    write_config(typed(config), tmp_path)
    config.learning_rate = 0.02
    on, before = build(typed(config)), RateControl(0.005, 1 / 3, 2 / 7, epochs_without_improvement=3, drops=2)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(first_state(on), Progress(7, 1, before, {}, kept), None)
    checkpoints.wait()
    _, progress = restore_or_initialize(on, checkpoints, fakes.console(), tmp_path, allowed)
    assert progress == Progress(7, 1, dataclasses.replace(before, learning_rate=expected), {}, kept)
    checkpoints.close()


def test_a_line_of_few_steps_does_not_end_a_run(place):
    """Of the lines at 3, 5 and 6 the last is of one step; wherever the run is stopped, it ends at the same step."""
    run(place, 'to_the_end', epochs=2)
    lines = [line for line in read_metrics(place / 'to_the_end') if line['split'] == 'train']
    errors = {line['step']: line['top1_error'] for line in lines}
    intervals = {6: (2 * errors[5] + errors[6]) / 3, 12: (errors[10] + 2 * errors[12]) / 3}
    intervals |= {step: errors[step] for step in (3, 9)}
    goal = min(intervals.values()) + 1e-6
    expected = next(step for step, error in intervals.items() if error <= goal)
    ended = {'epochs': 2, 'log_every_steps': 3, 'rate_control.end_at_training_error': goal}
    assert run(place, 'ended', **ended).step == expected
    assert summarize(str(place / 'ended')).ended


def test_a_run_without_its_checkpoints_waits_for_the_flag(place):
    whole = run(place, 'lost', epochs=1)
    log = (place / 'lost/metrics.jsonl').read_text()
    with pytest.raises(UserError, match=r'--from_start: .* holds a checkpoint of step 12; leave the flag out'):
        run(place, 'lost', from_start=True, epochs=2)
    shutil.rmtree(place / 'lost/checkpoints')
    with pytest.raises(UserError, match=r'holds no checkpoint to resume from, .* goes to step 12'):
        run(place, 'lost', epochs=1)
    assert (place / 'lost/metrics.jsonl').read_text() == log
    assert run(place, 'lost', from_start=True, epochs=1) == whole
    assert (place / 'lost/metrics_before.jsonl').read_text() == log
    assert (place / 'lost/config_before.json').exists() and (place / 'lost/config.json').exists()
    assert [line['step'] for line in read_metrics(place / 'lost')] == [3, 5, 6, 9, 10, 12, 12]


def test_what_jax_prefers_as_a_type_changes_nothing(place):
    """JAX_ENABLE_X64=1: the same bits, and no checkpoint of the one is damaged for the other."""
    run(place, 'single', epochs=1)
    with jax.enable_x64(True):
        run(place, 'double', epochs=1)
    kept = [
        json.loads((place / name / 'checkpoints/12/progress/metadata').read_text()) for name in ('single', 'double')
    ]
    assert kept[0] == kept[1]
    run(place, 'double', epochs=2)
    with jax.enable_x64(True):
        run(place, 'single', epochs=2)
    kept = [
        json.loads((place / name / 'checkpoints/23/progress/metadata').read_text()) for name in ('single', 'double')
    ]
    assert kept[0] == kept[1]
    assert not list(place.glob('*/damaged_checkpoints'))


def test_a_run_that_was_stopped_before_its_first_checkpoint_begins_again(place, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, 'save', lambda *_: exec('raise UserError("the disk is full")'))
        with pytest.raises(UserError, match='the disk is full'):
            run(place, 'early', epochs=1)
    assert read_metrics(place / 'early')[-1]['step'] == 5 and (place / 'early/no_checkpoint_yet').exists()
    assert run(place, 'early', epochs=1).step == 12 and not (place / 'early/no_checkpoint_yet').exists()


def test_the_config_follows_a_change_once_a_checkpoint_was_made_with_it(place, monkeypatch):
    """So a wrong --allow_changes that is stopped at once leaves the right command as it was."""
    run(place, 'changed', epochs=1)
    change = {'epochs': 2, 'weight_decay': 0.1, 'allowed': ['weight_decay']}
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, 'save', lambda *_: exec('raise UserError("the disk is full")'))
        with pytest.raises(UserError, match='the disk is full'):
            run(place, 'changed', **change)
    assert read_config(place / 'changed').weight_decay == 0.0005 and read_config(place / 'changed').epochs == 1
    run(place, 'changed', epochs=1, log_every_steps=4)  # what does not touch the result is taken over at once
    assert read_config(place / 'changed').log_every_steps == 4
    assert run(place, 'changed', **change).step == 23
    assert read_config(place / 'changed').weight_decay == 0.1
    with pytest.raises(UserError, match=r'config\.weight_decay: 0\.1 before, 0\.0005 now'):
        run(place, 'changed', epochs=2)


MESHES = [(1, 1), (1, 2), (2, 1), (2, 2), (1, 1)]


@pytest.fixture(scope='module')
def on_one_device(place):
    return run(place, 'one', epochs=len(MESHES))


@pytest.fixture(scope='module')
def on_all_meshes(place):
    """An epoch on each mesh."""
    for epochs, (data, column) in enumerate(MESHES, start=1):
        progress = run(place, 'all', epochs=epochs, **{'mesh.data': data, 'mesh.column': column})
    return progress


def test_a_run_carries_on_on_any_mesh(on_one_device, on_all_meshes, place):
    """What differs is the rounding of sums over devices, in float32; measured: 7e-8 of the losses, and no error."""
    assert on_all_meshes.step == on_one_device.step == 57
    for one, other in zip(read_metrics(place / 'one'), read_metrics(place / 'all'), strict=True):
        for line in (one, other):
            line.pop('images_per_second', None)
        for name in ('step', 'epoch', 'split'):
            assert one.pop(name) == other.pop(name)
        assert other == pytest.approx(one, rel=1e-5, abs=0.5 / 360)  # less than an image
        assert other['loss'] == pytest.approx(one['loss'], rel=1e-6)


def test_a_run_that_has_lost_the_description_of_its_data_resumes_and_has_it_again(place):
    run(place, 'without', epochs=1)
    description = {path.name: path.read_bytes() for path in (place / 'without/data_set').iterdir()}
    shutil.rmtree(place / 'without/data_set')
    with pytest.raises(UserError, match=r'data_set is missing: .* To have it back, train with the same command'):
        remembered_data(place / 'without')
    assert run(place, 'without', epochs=1).step == 12
    assert {path.name: path.read_bytes() for path in (place / 'without/data_set').iterdir()} == description
    for name, words in (('manifest.json', 'delete .*data_set, and train with'), ('mean_image.npy', '; train with the')):
        (place / 'without/data_set' / name).write_bytes(b'damaged')
        with pytest.raises(UserError, match=words):
            remembered_data(place / 'without').mean_image()
        shutil.rmtree(place / 'without/data_set')
        run(place, 'without', epochs=1)
    assert remembered_data(place / 'without').mean_image().shape == (36, 36, 3)
