"""Guards Figure 1: how curves are read and the fastest chosen, the drawing, and the whole on a small network."""

import json
import re

import fakes
import pytest
from matplotlib.colors import to_hex

from alexnet_jax.config import network_config
from alexnet_jax.figures.figure1 import figure_1
from alexnet_jax.model.layer_specs import Dense, Flatten
from alexnet_jax.runs.metrics_log import read_metrics
from alexnet_jax.runtime.errors import UserError
from experiments import figure1
from experiments.figure1 import Trial, epochs_to, fastest, training_errors


def line(epoch, error, split='train'):
    return {'step': int(10 * epoch), 'epoch': epoch, 'split': split, 'top1_error': error}


def test_errors_stand_in_the_middle_of_the_steps_that_they_are_means_of():
    metrics = [line(0.5, 0.9), line(1.0, 0.6), line(1.0, 0.05, 'validation'), line(2.0, 0.2)]
    assert training_errors(metrics) == ((0.25, 0.9), (0.75, 0.6), (1.5, 0.2))


@pytest.mark.parametrize(
    'curve, epochs',
    [
        ([(1.0, 0.75), (2.0, 0.375), (4.0, 0.125)], 3.0),  # halfway between the last two
        ([(1.0, 0.75), (2.0, 0.25), (3.0, 0.1)], 2.0),
        ([(1.0, 0.5), (2.0, 0.2), (3.0, 0.4), (4.0, 0.1)], 1 + 0.25 / 0.3),  # the first time counts
        ([(0.5, 0.1), (1.5, 0.0)], 0.5),  # there from the first point on
        ([(1.0, 0.75), (2.0, 0.251)], None),
        ([], None),
    ],
)
def test_epochs_to_a_quarter(curve, epochs):
    assert epochs_to(curve, 0.25) == (epochs if epochs is None else pytest.approx(epochs))


def test_the_fastest_is_there_soonest():
    slow = Trial('relu', 0.001, ((0.0, 0.5), (4.0, 0.0)))
    fast = Trial('relu', 0.01, ((0.0, 0.5), (2.0, 0.0)))
    diverged = Trial('relu', 0.1, ((0.0, 0.1), (1.0, 0.0)), diverged=True)
    near, far = Trial('relu', 0.002, ((1.0, 0.3),)), Trial('relu', 0.003, ((1.0, 0.9),))
    nothing = Trial('relu', 1.0, (), diverged=True)
    assert fast.epochs_to_target == 1.0 and diverged.epochs_to_target is None
    assert fastest([slow, fast, near, nothing]) is fast
    assert fastest([far, near, nothing]) is near  # none is there


def test_the_drawing_holds_the_curves_and_the_line_they_race_to():
    curves = {'ReLU, rate 1': [(0.1, 0.8), (0.5, 0.25)], 'tanh, rate 2': [(0.2, 0.84), (2.0, 0.3)]}
    axes = figure_1(curves, 0.25, 'a title').axes[0]
    solid, dashed, target = axes.lines
    assert [tuple(point) for point in solid.get_xydata()] == [(0.1, 80.0), (0.5, 25.0)]
    assert [tuple(point) for point in dashed.get_xydata()] == [(0.2, 84.0), (2.0, 30.0)]
    assert (solid.get_linestyle(), dashed.get_linestyle(), target.get_linestyle()) == ('-', '--', '--')
    assert list(target.get_ydata()) == [25.0, 25.0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(curves)
    assert to_hex(solid.get_color()) != to_hex(dashed.get_color())
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 2.0), (0, 90))


def test_the_drawing_of_nothing_is_empty():
    assert len(figure_1({'ReLU: diverged': (), 'tanh: diverged': ()}, 0.25, '').axes[0].lines) == 3


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    """Makes experiments that take a moment: the digits of Figure 1, through a network of two layers."""
    data = str(tmp_path_factory.mktemp('data'))

    def config(nonlinearity):
        made = figure1.get_config(nonlinearity)
        between = figure1.NONLINEARITIES[nonlinearity]()
        made.network = network_config(
            {'flatten': Flatten(), 'fc1': Dense(20, std=0.001), 'between': between, 'fc2': Dense(10, std=0.3)}
        )
        made.data.directory, made.data.image_size, made.data.crop_size = f'{data}/made', 8, 8
        made.batch_size, made.log_every_steps, made.epochs = 32, 5, 1
        made.mesh.data = made.mesh.column = 1
        return made

    return config


def test_the_whole_on_a_small_network(small, tmp_path):
    on = fakes.console()
    ratio = figure1.compare(small, (0.001, 1e30), str(tmp_path), on)
    said = on.file.getvalue()
    found = json.loads((tmp_path / 'figure1.json').read_text())
    assert [(trial['nonlinearity'], trial['rate'], trial['diverged']) for trial in found['trials']] == [
        ('relu', 0.001, False),
        ('relu', 1e30, True),
        ('tanh', 0.001, False),
        ('tanh', 1e30, False),  # it saturates, and learns no more
    ]
    assert found['fastest'] == {'relu': 0.001, 'tanh': 0.001}
    for trial in found['trials'][::2]:
        metrics = read_metrics(tmp_path / f'{trial["nonlinearity"]}-0.001')
        assert trial['curve'] == [list(point) for point in training_errors(metrics)]
        assert len(trial['curve']) == 9  # 45 steps, five a line: the last one is where the epoch ends
        assert trial['epochs_to_target'] == epochs_to(trial['curve'], 0.25)
    relu, tanh = (trial['epochs_to_target'] for trial in found['trials'][::2])
    assert 0 < relu < 1 and 0 < tanh < 1
    assert found['ratio'] == ratio == tanh / relu
    assert [trial['epochs_to_target'] for trial in found['trials'][1::2]] == [None, None]
    assert 'the training has diverged' in said
    assert re.search(r'1e\+30 .* diverged .* never', said)
    assert f'tanh needs {ratio:.2f} times as many epochs' in said
    assert 'relu is fastest at the last rate that was tried, 0.001' in said
    assert (tmp_path / 'figures' / 'figure1.png').stat().st_size > 10_000
    assert (tmp_path / 'figures' / 'figure1.svg').exists()

    before = (tmp_path / 'relu-0.001' / 'metrics.jsonl').read_text()
    again = fakes.console()
    trial = figure1.try_rate(with_rate(small('relu'), 0.001), 'relu', tmp_path / 'relu-0.001', again)
    assert [list(point) for point in trial.curve] == found['trials'][0]['curve']
    assert 'from step 45' in again.file.getvalue()  # what is trained is not trained again
    assert (tmp_path / 'relu-0.001' / 'metrics.jsonl').read_text() == before


def with_rate(config, rate):
    config.learning_rate = rate
    return config


def test_other_errors_are_not_taken_for_divergence(small, tmp_path):
    config = small('relu')
    config.data.crop_size = 9
    with pytest.raises(UserError, match='crop_size=9 is larger'):
        figure1.try_rate(config, 'relu', tmp_path / 'run', fakes.console())


@pytest.mark.parametrize('variant', figure1.VARIANTS)
def test_no_regularization_of_any_kind(variant):
    config = figure1.get_config(variant)
    assert config.weight_decay == 0 and config.data.color_std == 0 and not config.data.mirror
    assert config.data.crop_size == config.data.image_size  # no patches
    kinds = {line.type for line in config.network.values()}
    assert kinds.isdisjoint({'dropout', 'local_response_normalization'})
    assert ('tanh' in kinds, 'relu' in kinds) == (variant.endswith('tanh'), variant.endswith('relu'))
    assert config.data.source == ('tfds:cifar10' if 'cifar10' in variant else 'digits')
    assert not config.rate_control.schedule and config.rate_control.patience > config.epochs


def test_only_the_nonlinearity_differs():
    relu, tanh = (figure1.get_config(name).to_dict() for name in ('relu', 'tanh'))
    for name, fields in relu['network'].items():
        assert tanh['network'][name] == ({'type': 'tanh'} if fields['type'] == 'relu' else fields)
    assert {key for key in relu if relu[key] != tanh[key]} == {'name', 'network'}


def test_what_the_command_line_cannot_mean(tmp_path, capsys):
    with pytest.raises(UserError, match="no variant 'sigmoid'; it has: relu, tanh, cifar10_relu, cifar10_tanh"):
        figure1.get_config('sigmoid')
    with pytest.raises(SystemExit) as ended:
        figure1.main([f'--workdir={tmp_path}', '--data=mnist'])
    assert ended.value.code == 2 and "invalid choice: 'mnist'" in capsys.readouterr().err
