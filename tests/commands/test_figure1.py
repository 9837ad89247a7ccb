"""`--mode=figure1`: how curves are read and the fastest chosen, and the whole on a small network; its configs."""

import json
import os
import re
import runpy
import shlex
import sys

import fakes
import numpy as np
import pytest
from configs import typed

from alexnet_jax.commands.figure1 import (
    NONLINEARITIES,
    Trial,
    draw_figure_1,
    epochs_to,
    fastest,
    ratio_of,
    run_trial,
    search,
    training_errors,
    with_nonlinearity,
)
from alexnet_jax.config import network_config
from alexnet_jax.model.layer_specs import Dense, Flatten
from alexnet_jax.runs.metrics_log import read_metrics
from alexnet_jax.runs.summary import summarize
from alexnet_jax.runtime.errors import UserError
from experiments import figure1


def line(epoch, error, split='train'):
    return {'step': int(10 * epoch), 'epoch': epoch, 'split': split, 'top1_error': error}


def test_errors_stand_in_the_middle_of_the_steps_that_they_are_means_of():
    metrics = [line(0.5, 0.9), line(1.0, 0.6), line(1.0, 0.05, 'validation'), line(2.0, 0.2)]
    assert training_errors(metrics) == ((0.25, 0.9), (0.75, 0.6), (1.5, 0.2))


def test_a_point_is_never_of_fewer_steps():
    metrics = [line(1.0, 0.9), line(1.1, 0.5), line(2.0, 0.3), line(3.0, 0.2), line(3.1, 0.0)]
    averaged = (2.0 - 1.0) / 2 + 1.0, (0.5 * 0.1 + 0.3 * 0.9) / 1.0
    assert training_errors(metrics, 10) == ((0.5, 0.9), pytest.approx(averaged), (2.5, 0.2))
    assert len(training_errors(metrics)) == 5


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


def searched(epochs_by_rate, first, epochs=40):
    """The rates that a search tries, each with the epochs that it is given, and the one that it finds."""
    tried = {}

    def run(rate, most):
        tried[rate] = most
        needed = epochs_by_rate[rate]
        return Trial(
            'relu', rate, ((0.0, 0.25 + 1e-9), (needed, 0.25)) if needed <= most else ((0.0, 0.9), (most, 0.5))
        )

    return tried, search(list(epochs_by_rate), first, epochs, run).rate


def test_a_search_ends_where_both_neighbors_are_slower():
    epochs = {0.001: 30, 0.003: 9.5, 0.01: 5.2, 0.03: 6.1, 0.1: 50}
    assert searched(epochs, 0.001) == ({0.001: 40, 0.003: 30, 0.01: 10, 0.03: 6}, 0.01)
    assert searched(epochs, 0.011) == ({0.01: 40, 0.003: 6, 0.03: 6}, 0.01)
    assert searched(epochs, 0.1) == ({0.1: 40, 0.03: 40, 0.01: 7, 0.003: 6}, 0.01)
    assert searched({0.001: 5, 0.01: 6}, 0.001) == ({0.001: 40, 0.01: 5}, 0.001)  # no neighbor below


def test_the_ratio_and_its_standard_error():
    def trials(*epochs):
        return [Trial('relu', 0.1, ((0.0, 0.5), (2 * one, 0.0))) for one in epochs]

    assert ratio_of({'relu': trials(4), 'tanh': trials(12)}) == (3.0, None)
    ratio, error = ratio_of({'relu': trials(4, 5, 6), 'tanh': trials(20, 24, 22)})
    relative = [np.std(one, ddof=1) / np.sqrt(3) / np.mean(one) for one in ([4, 5, 6], [20, 24, 22])]
    assert ratio == pytest.approx(22 / 5) and error == pytest.approx(22 / 5 * np.hypot(*relative))
    never = [Trial('relu', 0.1, ((0.0, 0.5),))]
    assert ratio_of({'relu': trials(4, 5), 'tanh': trials(5) + never}) == (None, None)


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    """Makes experiments that take a moment: the digits of Figure 1, through a network of two layers."""
    data = str(tmp_path_factory.mktemp('data'))

    def config(nonlinearity):
        made = figure1.get_config(nonlinearity)
        between = NONLINEARITIES[nonlinearity]()
        made.network = network_config(
            {'flatten': Flatten(), 'fc1': Dense(20, std=0.001), 'between': between, 'fc2': Dense(10, std=0.3)}
        )
        made.data.directory, made.data.image_size, made.data.crop_size = f'{data}/made', 8, 8
        made.batch_size, made.log_every_steps, made.epochs = 32, 5, 3
        made.mesh.data = made.mesh.column = 1
        return made

    return config


def test_the_whole_on_a_small_network(small, tmp_path):
    on = fakes.console()
    ratio = draw_figure_1(typed(small('relu')), str(tmp_path), on, [0, 1], (0.001, 1e30))
    said = on.file.getvalue()
    found = json.loads((tmp_path / 'figure1.json').read_text())
    assert [(trial['nonlinearity'], trial['rate'], trial['seed'], trial['diverged']) for trial in found['trials']] == [
        ('relu', 0.001, 0, False),
        ('relu', 1e30, 0, True),
        ('tanh', 0.001, 0, False),
        ('tanh', 1e30, 0, False),  # it saturates
        ('relu', 0.001, 1, False),
        ('tanh', 0.001, 1, False),
    ]
    assert found['fastest'] == {'relu': 0.001, 'tanh': 0.001}
    epochs = {0: {}, 1: {}}
    for trial in found['trials']:
        if trial['rate'] == 0.001:
            name = f'{trial["nonlinearity"]}-0.001{"-seed1" if trial["seed"] else ""}'
            metrics = read_metrics(tmp_path / name)
            assert trial['curve'] == [list(point) for point in training_errors(metrics, 5)]
            assert min(error for _, error in trial['curve']) == trial['curve'][-1][1] <= 0.24  # there it ends
            assert metrics[-1]['split'] == 'validation' and metrics[-1]['step'] < 135
            assert trial['epochs_to_target'] == epochs_to(trial['curve'], 0.25)
            epochs[trial['seed']][trial['nonlinearity']] = trial['epochs_to_target']
            assert summarize(str(tmp_path / name)).ended
    assert all(0 < one < 3 for of_seed in epochs.values() for one in of_seed.values())
    relu, tanh = (epochs[0][name] + epochs[1][name] for name in ('relu', 'tanh'))
    assert found['ratio'] == ratio == pytest.approx(tanh / relu)
    assert 'training has diverged' in said
    assert found['trials'][1]['epochs_to_target'] is None and re.search(r'1e\+30 .* diverged ', said)
    assert (
        f'tanh needs {ratio:.2f} times as many epochs as ReLU (standard error {found["ratio_standard_error"]:.2f})'
        in (' '.join(said.split()))
    )
    assert 'relu is fastest at the last rate tried, 0.001' in said
    assert (tmp_path / 'figures' / 'figure1.png').stat().st_size > 10_000
    assert (tmp_path / 'figures' / 'figure1.svg').exists()

    before = (tmp_path / 'relu-0.001' / 'metrics.jsonl').read_text()
    again = fakes.console()
    config = typed(small('relu')).replace(learning_rate=0.001)
    trial = run_trial(config, 'relu', tmp_path / 'relu-0.001', again)
    assert [list(point) for point in trial.curve] == found['trials'][0]['curve']
    assert re.search(r'from step \d\d', again.file.getvalue())  # what is trained is not trained again
    assert (tmp_path / 'relu-0.001' / 'metrics.jsonl').read_text() == before


def test_other_errors_are_not_taken_for_divergence(small, tmp_path):
    config = small('relu')
    config.data.crop_size = 9
    with pytest.raises(UserError, match='crop_size=9 is larger'):
        run_trial(typed(config), 'relu', tmp_path / 'run', fakes.console())


@pytest.mark.parametrize('variant', figure1.VARIANTS)
def test_no_regularization_of_any_kind(variant):
    config = figure1.get_config(variant)
    assert config.weight_decay == 0 and config.data.color_std == 0 and not config.data.mirror
    assert config.data.crop_size == config.data.image_size  # no patches
    kinds = {line.type for line in config.network.values()}
    assert kinds.isdisjoint({'dropout', 'local_response_normalization'})
    assert ('tanh' in kinds, 'relu' in kinds) == (variant.endswith('tanh'), not variant.endswith('tanh'))
    assert config.data.source == ('digits' if variant in ('relu', 'tanh') else 'cifar10')
    assert not config.rate_control.schedule and config.rate_control.patience > config.epochs


def test_only_the_nonlinearity_differs():
    relu, tanh = (figure1.get_config(name).to_dict() for name in ('relu', 'tanh'))
    for name, fields in relu['network'].items():
        assert tanh['network'][name] == ({'type': 'tanh'} if fields['type'] == 'relu' else fields)
    assert {key for key in relu if relu[key] != tanh[key]} == {'name', 'network'}


@pytest.mark.parametrize('data', ['', 'cifar10_', 'half_'])
def test_the_command_exchanges_the_nonlinearity_alone(data):
    relu, tanh = (typed(figure1.get_config(f'{data}{name}')) for name in ('relu', 'tanh'))
    assert with_nonlinearity(relu, 'tanh') == tanh == with_nonlinearity(tanh, 'tanh')
    assert with_nonlinearity(tanh, 'relu') == relu
    assert not data or typed(figure1.get_config(data.removesuffix('_'))) == relu


def test_half_the_kernels_and_weights_of_the_same_effect():
    whole, half = (figure1.get_config(name).network for name in ('cifar10', 'half'))
    learned = [name for name, line in whole.items() if 'std' in line]
    assert learned == ['conv1', 'conv2', 'local3', 'local4', 'fc10']
    for name, share in zip(learned, (1, 2, 2, 2, 2), strict=True):  # of the inputs of a neuron
        assert half[name].std ** 2 / share == pytest.approx(whole[name].std ** 2, rel=0.01), name
        assert name == 'fc10' or half[name].kernels * 2 == whole[name].kernels, name


def test_a_network_without_nonlinearity_is_refused(small, tmp_path):
    config = typed(small('relu'))
    config = config.replace(network={name: layer for name, layer in config.network if name != 'between'})
    with pytest.raises(UserError, match='neither ReLU nor tanh'):
        draw_figure_1(config, str(tmp_path), fakes.console())


def test_a_variant_that_there_is_not():
    with pytest.raises(UserError, match="no variant 'sigmoid'; it has: relu, tanh, cifar10, cifar10_relu"):
        figure1.get_config('sigmoid')


@pytest.mark.parametrize('given, config', [('', 'figure1.py'), ('--data=cifar10', 'figure1.py:cifar10')])
def test_the_old_command_line_is_forwarded(given, config, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(os, 'execv', lambda path, argv: asked.append((path, argv)))
    monkeypatch.setattr(sys, 'argv', ['figure1', '--workdir=runs/a b', *given.split()])
    runpy.run_path(figure1.__file__, run_name='__main__')
    words = ['launch.py', '--mode=figure1', '--workdir=runs/a b', f'--config=experiments/{config}']
    assert asked == [(sys.executable, [sys.executable, *words])]
    assert capsys.readouterr().err == f'note: this is now python {shlex.join(words)}\n'


def test_other_data_are_not_forwarded(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['figure1', '--workdir=x', '--data=mnist'])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(figure1.__file__, run_name='__main__')
    assert ended.value.code == 2 and "invalid choice: 'mnist'" in capsys.readouterr().err
