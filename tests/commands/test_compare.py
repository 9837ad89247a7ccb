"""Runs in one table: what is compared with what, what is refused, and what is drawn."""

import contextlib
import importlib
import io
import json
import math
import pathlib
import shutil

import jax
import numpy as np
import pytest
from configs import typed
from matplotlib.colors import to_hex
from rich.console import Console

from alexnet_jax.commands.compare import compare
from alexnet_jax.config import config_dict
from alexnet_jax.evaluation.logs_2012 import LOGGED, LOGGED_CHANGES, PAPERS_NETWORK, logged_for
from alexnet_jax.evaluation.published import DIFFERENCES, difference_between, difference_for
from alexnet_jax.figures import comparison
from alexnet_jax.figures.comparison import color_panels, difference_bars
from alexnet_jax.figures.style import BLUE, GRAY, ORANGE, VERMILLION
from alexnet_jax.runs.build import build
from alexnet_jax.runs.metrics_log import read_metrics
from alexnet_jax.runs.summary import summarize
from alexnet_jax.runs.variants import Spread, Variant, choose_measurement, group_by_variant
from alexnet_jax.runs.workdir import read_config
from alexnet_jax.runtime.errors import UserError
from experiments import networks_2012, paper, six_convolutions, source_2012
from experiments.ablations import ABLATIONS


def console():
    """One that writes into memory, wide enough for every table."""
    return Console(file=io.StringIO(), width=200)


def validation(epoch, top1, top5=0.1, **more):
    errors = {'loss': 1.0, 'top1_error': top1, 'top5_error': top5}
    return {'step': 45 * epoch, 'epoch': 1.002 * epoch, 'split': 'validation', **errors, **more}


def evaluated(top1, top5, split='validation', step=135, views=('center', 'ten'), **more):
    """eval.json; ten views are better than the center by 1.5 and 1 points."""
    kinds = {'center': (top1 + 0.015, top5 + 0.01), 'ten': (top1, top5)}
    found = {kind: {'loss': 1.0, 'top1_error': kinds[kind][0], 'top5_error': kinds[kind][1]} for kind in views}
    return {'step': step, 'epoch': 3, 'source': 'digits', 'split': split, 'examples': 360, 'views': found} | more


@pytest.fixture
def made(trained, tmp_path):
    """Makes a run up, of three epochs unless its lines say otherwise."""

    def make(directory, name='digits', seed=0, top1=0.2, lines=None, evaluation=None, manifest=None, **fields):
        workdir = tmp_path / directory
        workdir.mkdir()
        config = config_dict(read_config(trained[1]).fields())
        config.update_from_flattened_dict({'name': name, 'seed': seed} | fields)
        (workdir / 'config.json').write_text(json.dumps(config.to_dict()))
        shutil.copytree(trained[1] / 'data_set', workdir / 'data_set')
        if manifest:
            path = workdir / 'data_set' / 'manifest.json'
            path.write_text(json.dumps(manifest(json.loads(path.read_text()))))
        if lines is None:
            lines = [validation(1, 0.5), validation(2, top1 - 0.01), validation(3, top1, top1 / 4)]
        (workdir / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
        if evaluation:
            (workdir / 'eval.json').write_text(json.dumps(evaluation))
        return str(workdir)

    return make


def lines_of(on):
    """What was printed, a list of words a line."""
    return [line.split() for line in on.file.getvalue().splitlines()]


# Variants.


def _of(top1):
    return {'loss': 1.0, 'top1_error': top1, 'top5_error': 0.1}


def test_two_measurements_of_the_same_networks_are_compared_run_by_run(made):
    ten, center = (0.20, 0.24, 0.31), (0.22, 0.27, 0.33)
    runs = [
        made(f'seed{seed}', seed=seed, evaluation=evaluated(a, 0.1) | {'views': {'ten': _of(a), 'center': _of(b)}})
        for seed, (a, b) in enumerate(zip(ten, center, strict=True))
    ]
    found = compare(runs, None, console())['variants'][1]
    differences = 100 * (np.array(center) - ten)
    assert found['name'].endswith('center patch alone')
    assert found['top1_difference'] == pytest.approx(differences.mean())
    assert found['top1_standard_error'] == pytest.approx(differences.std(ddof=1) / np.sqrt(3))


@pytest.mark.parametrize(
    'fields, variants',
    [({'data.source': 'tfds:cifar10'}, 1), ({'rate_control.end_at_training_error': 0.5}, 2), ({'epochs': 4}, 2)],
    ids=str,
)
def test_what_makes_another_variant(fields, variants, made):
    base = {'data.source': 'cifar10'} if 'data.source' in fields else {}
    runs = [made('a', seed=0, **base), made('b', seed=1, **base | fields)]
    found = [summarize(run) for run in runs]
    assert len(group_by_variant(found, choose_measurement(found)[0])) == variants


# What is read of a run.


def test_real_runs(trained, another, tmp_path):
    on = console()
    result = compare([str(trained[1]), str(another[1])], str(tmp_path / 'result'), on)
    (variant,) = result['variants']
    last = [[line for line in read_metrics(run[1]) if line['split'] == 'validation'][-1] for run in (trained, another)]
    for top in (1, 5):
        errors = [line[f'top{top}_error'] for line in last]
        assert variant[f'top{top}_error']['mean'] == pytest.approx(np.mean(errors), abs=1e-15)
        assert (variant[f'top{top}_error']['least'], variant[f'top{top}_error']['most']) == (min(errors), max(errors))
    shapes = jax.tree.leaves(build(typed(trained[0])).shapes.parameters)
    for run, line, (config, workdir) in zip(result['runs'], last, (trained, another), strict=True):
        assert run['workdir'] == str(workdir) and run['seed'] == config.seed and run['ended'] and run['step'] == 135
        assert run['parameters'] == sum(math.prod(x.shape) for x in shapes)
        assert run['color'] == [line['color_column1'], line['color_column2']]
        validated = [line for line in read_metrics(workdir) if line['split'] == 'validation']
        for column in (1, 2):
            curve = [(line['epoch'], line[f'color_column{column}']) for line in validated]
            assert run['color_curves'][column] == curve and len(curve) == 3
    more = [1 + int(line['color_column2'] > line['color_column1']) for line in last]
    assert variant['more_color'] == {column: more.count(column) for column in set(more)}
    left = json.loads((tmp_path / 'result' / 'comparison.json').read_text())
    assert left['runs'] == json.loads(json.dumps(result['runs'])) and left['base'] == 'digits' and left['notes'] == []
    for name in ('comparison', 'color'):
        assert (tmp_path / 'result' / 'figures' / f'{name}.png').stat().st_size > 1000
    assert sorted(path.name for path in (tmp_path / 'result').iterdir()) == ['comparison.json', 'figures']


def test_nothing_is_left_without_a_workdir(made, tmp_path):
    base = made('base')
    before = sorted(tmp_path.rglob('*'))
    compare([base], None, console())
    assert sorted(tmp_path.rglob('*')) == before


def test_the_best_validation_is_not_the_last(made):
    standing = summarize(made('base', top1=0.2))
    assert (standing.last.top1_error, standing.last.top5_error, standing.last.step) == (0.2, 0.05, 135)
    assert (standing.best.top1_error, standing.best.step) == (0.19, 90)


@pytest.mark.parametrize(
    'lines, ended',
    [
        ([(20, 0.4), (40, 0.2)], True),
        ([(20, 0.4), (38, 0.4), (40, 0.2)], False),  # of two steps
        ([(20, 0.4), (38, 0.22), (40, 0.4)], True),  # 18 * 0.22 + 2 * 0.4 are 20 * 0.238
        ([(18, 0.1), (20, 0.4), (38, 0.28), (40, 0.2)], False),
        ([(10, 0.1), (20, 0.3)], True),
        ([(20, 0.4), (38, 0.2)], False),  # where no interval ends
    ],
)
def test_whether_the_training_error_has_ended_a_run(made, lines, ended):
    training = [{'step': step, 'epoch': step / 45, 'split': 'train', 'top1_error': error} for step, error in lines]
    fields = {'log_every_steps': 20, 'epochs': 9, 'rate_control.end_at_training_error': 0.24}
    assert summarize(made('run', lines=[*training, validation(1, 0.5)], **fields)).ended == ended


@pytest.mark.parametrize(
    'errors, fields, ended',
    [
        ([0.5, 0.4], {}, False),
        ([0.5, 0.4, 0.3], {}, True),
        ([0.5, 0.4, 0.3], {'epochs': 4}, False),
        # On a plateau: two drops, each after one epoch without improvement, then the end.
        ([0.5, 0.5, 0.5, 0.5], {'epochs': 9, 'rate_control.patience': 1, 'rate_control.drops': 2}, True),
        ([0.5, 0.5, 0.4, 0.4], {'epochs': 9, 'rate_control.patience': 1, 'rate_control.drops': 2}, False),
    ],
)
def test_whether_a_run_has_ended(made, errors, fields, ended):
    run = made('run', lines=[validation(epoch, error) for epoch, error in enumerate(errors, 1)], **fields)
    assert summarize(run).ended == ended
    on = console()
    notes = compare([run], None, on)['notes']
    assert [f'{run} has not ended' in note for note in notes] == [True] * (not ended)
    assert ('epoch' in on.file.getvalue()) == (not ended)  # it stands there


# Seeds and variants.


def test_seeds_of_a_variant_are_put_together(made):
    runs = [made('a', seed=0, top1=0.2), made('b', 'digits:deeper', top1=0.12), made('c', seed=5, top1=0.3)]
    runs += [made('d', 'digits:deeper', seed=1, top1=0.13), made('e', seed=2, top1=0.16)]
    on = console()
    base, deeper = compare(runs, None, on)['variants']
    assert base['workdirs'] == (runs[0], runs[2], runs[4]) and deeper['workdirs'] == (runs[1], runs[3])
    error = np.std([0.2, 0.3, 0.16], ddof=1) / np.sqrt(3)
    assert base['top1_error'] == pytest.approx({'mean': 0.22, 'least': 0.16, 'most': 0.3, 'standard_error': error})
    assert deeper['top1_difference'] == pytest.approx(12.5 - 22)
    assert deeper['top5_difference'] == pytest.approx((12.5 - 22) / 4)
    assert deeper['top1_standard_error'] == pytest.approx(100 * np.hypot(error, 0.005))  # |0.12 - 0.13| / 2
    assert base['top1_difference'] == base['top5_difference'] == base['top1_standard_error'] == 0
    words = lines_of(on)
    assert ['digits', '3', '22.00%', '5.50%', 'base'] in words
    assert ['(16.00', 'to', '30.00)', '(4.00', 'to', '7.50)'] in words
    assert ['digits:deeper', '2', '12.50%', '3.12%', '-9.50', '±', '4.19'] in words


def test_of_one_seed_the_standard_error_is_over_the_images(made):
    runs = [made('a', evaluation=evaluated(0.1, 0.02)), made('b', 'digits:deeper', evaluation=evaluated(0.25, 0.03))]
    base, _, deeper = compare(runs, None, console())['variants']
    over_images = [np.std([1.0] * round(360 * p) + [0.0] * round(360 * (1 - p))) / np.sqrt(360) for p in (0.1, 0.25)]
    assert base['top1_error']['standard_error'] == pytest.approx(over_images[0])
    assert deeper['top1_standard_error'] == pytest.approx(100 * np.hypot(*over_images))


def test_runs_that_differ_in_more_than_the_seed_are_apart(made):
    runs = [made('a'), made('b', seed=1, **{'mesh.data': 2, 'data.threads': 3, 'data.directory': 'elsewhere'})]
    runs += [made('c', seed=1, learning_rate=0.5), made('d', seed=1, epochs=4), made('e', **{'network.fc7.units': 32})]
    variants = compare(runs, None, console())['variants']
    assert [one['name'] for one in variants] == [
        'digits',
        'digits, learning_rate=0.5',
        'digits, epochs=4',
        'digits, network.fc7.units=32',
    ]
    assert [len(one['workdirs']) for one in variants] == [2, 1, 1, 1]


def test_which_column_turned_to_color(made):
    shares = [(0.2, 0.7), (0.8, 0.1), (0.3, 0.6), (float('nan'), 0.5)]
    runs = [
        made(
            f'run{seed}',
            seed=seed,
            lines=[
                validation(1, 0.5, color_column1=two, color_column2=one),
                validation(3, 0.2, **{f'color_column{n}': x for n, x in ((1, one), (2, two)) if x == x}),
            ],
        )
        for seed, (one, two) in enumerate(shares)
    ]
    on = console()
    result = compare([*runs, made('none', 'digits:deeper')], None, on)
    assert result['variants'][0]['more_color'] == {1: 1, 2: 2} and result['variants'][1]['more_color'] == {}
    assert [run['color'] for run in result['runs']] == [[0.2, 0.7], [0.8, 0.1], [0.3, 0.6], [None, 0.5], []]
    assert '0.80 / 0.10' in on.file.getvalue() and 'column 2: 2' in on.file.getvalue()
    json.loads(json.dumps(result['runs'], allow_nan=False))


# Which errors.


def test_ten_views_without_mirror_images_are_told_from_those_with_them(made):
    evaluations = [evaluated(0.1, 0.02), evaluated(0.1, 0.02), evaluated(0.1, 0.02)]
    evaluations[0]['views']['ten']['patches'], evaluations[1]['views']['ten']['patches'] = 5, 10
    runs = [made(name, f'digits:{name}', evaluation=one) for name, one in zip('abc', evaluations, strict=True)]
    notes = compare(runs, None, console())['notes']
    assert notes == [
        f'the ten views of {runs[0]} are five: its training images were not mirrored.',
        f'the ten views of {runs[2]} hold mirror images, as earlier versions had it for every run; --mode=eval '
        'evaluates it again.',
    ]
    assert compare(runs[1:], None, console())['notes'] == []


def test_errors_of_ten_views_where_all_runs_have_them(made):
    runs = [made('a', evaluation=evaluated(0.1, 0.02)), made('b', 'digits:deeper', evaluation=evaluated(0.13, 0.03))]
    on = console()
    result = compare(runs, None, on)
    expected = {'file': 'eval.json', 'views': 'ten', 'source': 'digits', 'split': 'validation', 'examples': 360}
    expected['classes'] = 10
    assert result['measurement'] == expected and result['notes'] == []
    assert 'digits, validation images, ten views: 360 images (eval.json)' in on.file.getvalue()
    base, center, deeper = result['variants']
    assert base['top1_error']['mean'] == 0.1 and deeper['top1_difference'] == pytest.approx(3)
    assert center['name'] == 'digits, center patch alone'
    assert (center['top1_difference'], center['top5_difference']) == pytest.approx((1.5, 1))
    assert center['published']['top1'] == 1.55 and center['published']['top5'] == 1.3


@pytest.mark.parametrize(
    'evaluations, words',
    [
        ([evaluated(0.1, 0.02), None], 'has none'),
        ([evaluated(0.1, 0.02), evaluated(0.1, 0.02, split='train')], 'digits, train, 360 images'),
        ([evaluated(0.1, 0.02), evaluated(0.1, 0.02, examples=50)], 'validation, 50 images'),
        ([evaluated(0.1, 0.02), evaluated(0.1, 0.02, source='folder')], 'folder, validation'),
        ([evaluated(0.1, 0.02, views=['ten']), evaluated(0.1, 0.02, views=['center'])], 'no kind of view'),
    ],
)
def test_measurements_are_never_mixed(made, evaluations, words):
    runs = [made(str(seed), seed=seed, top1=0.3, evaluation=one) for seed, one in enumerate(evaluations)]
    on = console()
    result = compare(runs, None, on)
    assert result['measurement']['file'] == 'metrics.jsonl' and result['measurement']['views'] == 'center'
    assert [run['errors']['top1_error'] for run in result['runs']] == [0.3, 0.3]
    (note,) = result['notes']
    assert words in note and note in on.file.getvalue()
    assert 'center view, last validation' in on.file.getvalue()


def test_the_center_view_where_not_all_have_ten(made):
    runs = [
        made('a', evaluation=evaluated(0.1, 0.02)),
        made('b', seed=1, evaluation=evaluated(0.2, 0.02, views=['center'])),
    ]
    measurement, notes = choose_measurement([summarize(run) for run in runs])
    assert (measurement.file, measurement.views, notes) == ('eval.json', 'center', [])
    result = compare(runs, None, console())
    assert [run['errors']['top1_error'] for run in result['runs']] == pytest.approx([0.115, 0.215])
    assert len(result['variants']) == 1


def test_an_evaluation_of_an_earlier_step_is_told(made):
    run = made('a', evaluation=evaluated(0.1, 0.02, step=90))
    assert compare([run], None, console())['notes'] == [f'{run} was evaluated at step 90, and has trained to step 135.']


# What is published.

# Top-1 and top-5 errors in percent, from the 2012 logs: of a changed network, and of network 145 on the same images.
_TEST_2010, _VALIDATION_2012 = (37.4727, 16.9987), (40.6640, 18.2100)
_NETWORK_170 = (40.5280, 18.0480)
IN_THE_LOGS = {
    'one_gpu': ((39.1680, 18.2287), _TEST_2010, '145-half'),
    'no_normalization': ((42.0340, 19.3620), _VALIDATION_2012, '148'),
    'pooling_2': ((41.0580, 18.5100), _VALIDATION_2012, '147'),
    'no_exchange': ((41.8280, 19.3300), _VALIDATION_2012, '150'),
    'no_normalization_2': ((40.4880, 18.1180), (40.5960, 18.1120), '167'),  # beside 169
    'float16_exchange': ((40.5240, 18.4160), _NETWORK_170, '170-quant'),
    'blending': ((40.2500, 18.1160), _NETWORK_170, '170-fade'),
    'dropout_4': ((40.6900, 18.3040), _NETWORK_170, '177'),
    'center_patch': ((39.0247, 18.2953), _TEST_2010, '145'),
}


@pytest.mark.parametrize('change', DIFFERENCES)
def test_published_differences(change):
    found = DIFFERENCES[change]
    if change in IN_THE_LOGS:
        errors, base, network = IN_THE_LOGS[change]
        assert (found.top1, found.top5) == pytest.approx(tuple(np.subtract(errors, base)), abs=0.0051)
        assert f'network {network},' in found.where and ('2010' in found.where) == (base == _TEST_2010)
        assert found.bound == ''
        logged = LOGGED_CHANGES[change]
        assert (logged.top1, logged.top5) == pytest.approx(errors, abs=0.0006)
        assert logged.network.removesuffix('-2010') == network and ('2010' in logged.images) == (base == _TEST_2010)
        assert ('against 170' in found.where) == (base == _NETWORK_170)
    else:
        assert (found.bound, found.top1) == (('over', 1) if change == 'no_color' else ('about', 2))
        assert found.top5 is None and 'no log' in found.where


def test_what_is_published_is_of_variants_that_there_are():
    assert set(DIFFERENCES) - {'center_patch'} <= set(ABLATIONS)
    assert set(LOGGED_CHANGES) - {'', 'small', 'center_patch'} <= set(ABLATIONS)
    modules = {'source_2012': source_2012, 'six_convolutions': six_convolutions, 'networks_2012': networks_2012}
    for name in LOGGED:
        family, _, variant = name.partition(':')
        assert modules[family].get_config(variant).name == name


def test_published_differences_are_of_the_papers_network():
    assert difference_for('paper', 'pooling_2') is difference_for('digits', 'pooling_2') is DIFFERENCES['pooling_2']
    for base, change in (('paper', 'deeper'), ('paper:no_color', 'pooling_2'), ('lenet5', 'center_patch')):
        assert difference_for(base, change) is None
    cifar10 = difference_for('cifar10', 'no_normalization')
    assert (cifar10.top1, cifar10.top5, cifar10.images) == (2, None, 'CIFAR-10')
    assert difference_for('cifar10', 'pooling_2') is None


@pytest.mark.parametrize(
    ('base', 'name', 'expected'),
    [
        ('networks_2012:170', 'networks_2012:170_fade', (-0.28, 0.07)),
        ('source_2012:2012', 'networks_2012:171', (-0.24, -0.07)),
        ('source_2012:2012', 'six_convolutions:from_fall2009', (-1.56, -1.33)),
        ('source_2012', 'networks_2012:170', None),  # of other images
        ('paper', 'networks_2012:170', None),
        ('fashion_mnist', 'fashion_mnist:one_gpu', (1.70, 1.23)),
    ],
)
def test_networks_of_the_logs_are_compared_with_each_other(base, name, expected):
    found = difference_between(base, name)
    assert (found and (found.top1, found.top5)) == expected


def test_every_experiment_with_the_papers_ablations_is_compared_with_them():
    families = set()
    for path in sorted(pathlib.Path(paper.__file__).parent.glob('*.py')):
        module = importlib.import_module(f'experiments.{path.stem}')
        with contextlib.suppress(UserError, AttributeError, TypeError):  # has no such variant, or none at all
            families.add(module.get_config('one_gpu').name.split(':')[0])
    assert {'paper', 'digits', 'cifar10_columns'} <= families <= set(PAPERS_NETWORK)


def test_what_the_logs_have_of_a_network_is_found_on_any_images():
    assert logged_for('paper').network == logged_for('photographs:small').network == '145'
    assert logged_for('digits:one_gpu') == logged_for('paper:one_gpu') == LOGGED_CHANGES['one_gpu']
    assert logged_for('networks_2012:170_quant').network == '170-quant' and logged_for('source_2012').top5 == 16.999
    for name in ('cifar10', 'lenet5', 'paper:deeper', 'paper:one_gpu:blending', 'mine', 'finetune:runs/paper'):
        assert logged_for(name) is None


def test_published_differences_stand_beside_ours(made):
    names = ['digits', 'digits:no_normalization', 'digits:no_color', 'digits:no_conv4', 'digits:deeper', 'no_color']
    names += ['paper:no_color']
    runs = [made(f'run{number}', name, top1=0.2 + number / 100) for number, name in enumerate(names)]
    on = console()
    variants = compare(runs, None, on)['variants']
    known = {one['name']: one['published'] for one in variants if one['published']}
    assert list(known) == names[1:4]
    words = lines_of(on)
    joined = [' '.join(line) for line in words]
    assert 'digits:no_normalization 1 21.00% 5.25% +1.00 ± 3.01 +1.37 / +1.15' in joined
    assert 'digits:no_color 1 22.00% 5.50% +2.00 ± 3.03 over +1' in joined
    assert 'digits:no_conv4 1 23.00% 5.75% +3.00 ± 3.06 about +2' in joined
    assert any(line[:4] == ['digits:no_color', 'ImageNet,', 'ten', 'views'] for line in words)
    text = ' '.join(on.file.getvalue().split())
    assert 'What is published about these networks' in text and 'log of network 148' in text
    assert 'Ours are on digits, validation images, center view, last validation. Where these are other images' in text
    assert '148, ILSVRC-2012 validation, ten views' in text and '42.03% / 19.36% +1.37 / +1.15' in text
    assert {one['name']: one['logged']['network'] for one in variants if one['logged']} == {
        'digits': '145',
        'digits:no_normalization': '148',
    }


def test_no_difference_is_published_for_a_base_that_was_changed(made):
    runs = [made('a', 'digits:pooling_2', top1=0.2), made('b', 'digits:no_color'), made('c', 'digits')]
    on = console()
    assert not any(one['published'] for one in compare(runs, None, on)['variants'])
    assert '+' not in on.file.getvalue().split('What is published')[1].split('The runs')[0]


# The figure.


def variant(name, top1, top5, base=(0.2, 0.05), runs=1, change=None):
    spreads = [Spread(error, error - 0.01 * (runs > 1), error + 0.02 * (runs > 1), 0.01) for error in (top1, top5)]
    points = [100 * (error - other) for error, other in zip((top1, top5), base, strict=True)]
    return Variant(name, tuple(map(str, range(runs))), *spreads, *points, 1.5, 0.5, DIFFERENCES.get(change), {})


def test_bars_are_the_differences():
    variants = [
        variant('digits', 0.2, 0.05, runs=2),
        variant('better $x_', 0.17, 0.06),
        variant('pooling', 0.25, 0.03, runs=3, change='pooling_2'),
        variant('color', 0.22, 0.05, change='no_color'),
    ]
    figure = difference_bars(variants, 'title')
    figure.draw_without_rendering()
    assert figure.get_suptitle() == 'title'
    published = [{'pooling': 0.39, 'color': 1.0}, {'pooling': 0.30}]
    for axes, ours, theirs, top in zip(figure.axes, ((0, -3, 5, 2), (0, 1, -2, 0)), published, (1, 5), strict=True):
        assert f'top-{top} error (percentage points)' in axes.get_xlabel()
        names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
        assert names == ['digits', 'better $x_', 'pooling', 'color']
        bars, hatched = axes.containers
        np.testing.assert_allclose([bar.get_width() for bar in bars], ours, atol=1e-12)
        assert [bar.get_y() < place < bar.get_y() + 2 * bar.get_height() for place, bar in enumerate(bars)] == [
            True
        ] * 4
        assert {to_hex(bar.get_facecolor()) for bar in bars} == {BLUE.lower()}
        assert {to_hex(bar.get_facecolor()) for bar in hatched} == {ORANGE.lower()}
        found = {names[round(bar.get_y() + bar.get_height() / 2)]: bar.get_width() for bar in hatched}
        assert found == theirs
        spread = {round(line.get_ydata()[0]): list(line.get_xdata()) for line in axes.lines if line.get_marker() == '|'}
        assert list(spread) == [1, 2, 3]  # the base differs from itself by nothing
        error = 1.5 if top == 1 else 0.5
        np.testing.assert_allclose(spread[2], [ours[2] - error, ours[2] + error])
        bottom, above = axes.get_ylim()
        assert bottom > 3.4 and above < -0.4  # the base on top
    words = [text.get_text() for text in figure.axes[0].texts]
    assert words == ['-3.00', '+5.00', '+2.00', '+0.39', 'over +1']
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        'here; black: one standard error',
        'published: ImageNet, ten views',
    ]


def test_of_five_classes_no_top5_error_is_drawn():
    (axes,) = difference_bars([variant('pets', 0.2, 0.0), variant('other', 0.25, 0.0)], '', classes=5).axes
    assert 'top-1' in axes.get_xlabel()


def test_a_figure_of_the_base_alone():
    figure = difference_bars([variant('digits', 0.2, 0.05)], '')
    figure.draw_without_rendering()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['here; black: one standard error']


# What is refused.


def damaged_lines(**changes):
    return [{name: value for name, value in (validation(1, 0.2) | changes).items() if value is not None}]


def other_data(manifest):
    manifest['shards']['validation'][0]['sha256'] = '0' * 64
    return manifest


def more_validation(manifest):
    manifest['shards']['validation'][0]['examples'] += 1
    return manifest


def other_classes(manifest):
    return manifest | {'class_ids': [f'other {name}' for name in manifest['class_ids']]}


def other_source(manifest):
    return manifest | {'settings': manifest['settings'] | {'source': 'folder'}}


@pytest.mark.parametrize(
    'manifest, words',
    [
        (other_source, 'images differ: digits and folder'),
        (other_classes, 'their classes differ'),
        (more_validation, 'numbers of validation images differ: 360 and 361'),
        (other_data, 'their validation images differ'),
    ],
)
def test_runs_on_other_data_are_not_compared(made, manifest, words):
    runs = [made('a'), made('b', seed=1, manifest=manifest)]
    with pytest.raises(UserError, match=words) as caught:
        compare(runs, None, console())
    assert all(run in str(caught.value) for run in runs)


def test_other_sizes_of_the_same_images_are_told(made):
    def smaller(manifest):
        return manifest | {'settings': manifest['settings'] | {'image_size': 20, 'storage': 'raw'}}

    run = made('b', 'digits:small', manifest=lambda manifest: smaller(other_data(manifest)))
    notes = compare([made('a'), run], None, console())['notes']
    assert [note.startswith(f'{run} was trained on 20 (data.image_size)') for note in notes] == [True, False]
    assert 'raw (data.storage)' in notes[1]


@pytest.mark.parametrize(
    'more, words',
    [
        ({'lines': []}, 'no metrics.jsonl with a line'),
        ({'lines': [validation(1, 0.2) | {'split': 'train'}]}, 'not been validated yet'),
        ({'lines': damaged_lines(top5_error=None)}, 'metrics.jsonl is damaged'),
        ({'lines': damaged_lines(top1_error=float('nan'))}, 'metrics.jsonl is damaged'),
        ({'lines': damaged_lines(top1_error=1.5)}, 'metrics.jsonl is damaged'),
        ({'lines': damaged_lines(epoch=None)}, 'metrics.jsonl is damaged'),
        ({'lines': damaged_lines(step='x')}, 'line 1 is damaged'),
        ({'evaluation': evaluated(0.1, 0.02, step=None)}, 'eval.json is damaged'),
        ({'evaluation': evaluated(2, 0.02)}, 'eval.json is damaged'),
        ({'evaluation': {'views': []}}, 'eval.json is damaged'),
        ({'columns': 3}, 'divisible by the number of columns, 3'),
        ({'rate_control.patience': 0}, 'rate_control.patience'),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_run_that_cannot_be_read_is_named(made, more, words):
    with pytest.raises(UserError, match=words) as caught:
        compare([made('sound'), made('bad one', 'digits:bad', **more)], None, console())
    assert 'bad one' in str(caught.value) and 'sound' not in str(caught.value)


def test_of_a_run_of_any_length_the_validations_and_the_end_are_read(made, parsed):
    lines = [validation(1, 0.5) | {'step': step, 'split': 'train'} for step in range(3000)]
    lines[1000:1000], lines[2000:2000] = [validation(1, 0.5)], [validation(2, 0.2)]
    compare([made('long', lines=lines)], None, console())
    assert len(parsed) < 10


def test_names_that_make_no_sense(made, tmp_path):
    base, other = made('base'), made('other')
    for runs, workdir, words in (
        ([], None, '--runs is missing'),
        ([''], None, '--runs is missing'),
        ([base, ''], None, 'has an empty name'),
        ([base, base], None, 'twice'),
        ([base, f'{tmp_path}/other/../base/'], None, 'twice'),
        ([base, other], None, 'the same run: digits with seed 0'),
        ([base], other, 'is the directory of a run'),
        ([base], base, 'is the directory of a run'),
        ([base, str(tmp_path)], None, 'is not the directory of a run'),
        ([base, str(tmp_path / 'nowhere')], None, 'nowhere is not the directory of a run'),
        ([base], f'{base}/config.json', 'cannot be written'),
    ):
        with pytest.raises(UserError, match=words):
            compare(runs, workdir, console())
    assert sorted(path.name for path in tmp_path.iterdir()) == ['base', 'other']


def test_names_are_no_markup(made):
    run = made('a', '[red]$x_[/nothing]')
    on = console()
    compare([run], None, on)
    assert '[red]$x_[/nothing]' in on.file.getvalue()
    assert group_by_variant([summarize(run)], choose_measurement([summarize(run)])[0])[0].name == '[red]$x_[/nothing]'


def test_the_column_that_ends_with_more_color_is_red():
    falling, rising = [(1.0, 0.6), (2.0, 0.2)], [(1.0, 0.5), (2.0, 0.7)]
    two = [{1: falling, 2: rising}, {1: rising, 2: falling}]
    figure = color_panels({'both $x_': two, 'one': [{1: falling}], 'c': two[:1], 'd': two[1:]})
    figure.draw_without_rendering()
    panels = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in panels] == ['both $x_', 'one', 'c', 'd']
    drawn = [
        [
            (line.get_color(), list(map(tuple, line.get_xydata())))
            for line in axes.lines
            if len(set(line.get_ydata())) > 1
        ]
        for axes in panels
    ]
    assert drawn[0] == [(BLUE, falling), (VERMILLION, rising), (VERMILLION, rising), (BLUE, falling)]
    assert drawn[1] == [(GRAY, falling)]
    assert all(axes.get_xlim()[1] >= 2 for axes in panels)
    (legend,) = figure.legends
    assert len({text.get_text() for text in legend.get_texts()}) == len(legend.get_texts()) == 4


def test_no_shares_of_color_no_panels(made, tmp_path):
    compare([made('a')], str(tmp_path / 'result'), console())
    assert [path.stem for path in sorted((tmp_path / 'result' / 'figures').iterdir())] == ['comparison', 'comparison']


def test_a_panel_for_each_variant_the_base_first_and_its_center_view_not_again(made, tmp_path, monkeypatch):
    lines = [validation(3, 0.2, color_column1=0.3, color_column2=0.4)]
    runs = [made('a', evaluation=evaluated(0.1, 0.02), lines=lines)]
    runs += [made('b', 'digits:deeper', evaluation=evaluated(0.13, 0.03), lines=lines)]
    drawn = []
    monkeypatch.setattr(comparison, 'color_panels', lambda found: drawn.append(found) or color_panels(found))
    assert len(compare(runs, str(tmp_path / 'result'), console())['variants']) == 3
    epoch = lines[0]['epoch']
    curves = [{1: [(epoch, 0.3)], 2: [(epoch, 0.4)]}]
    assert [list(found.items()) for found in drawn] == [[('digits', curves), ('digits:deeper', curves)]]
