"""Rates for single layers, biases that do not decay, layers that are frozen: against sequences worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from configs import typed

from alexnet_jax.config import Config, RateControlConfig
from alexnet_jax.runs.build import build
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training.optimizer import check_layer_rules, layer_rates, update_rule
from experiments import paper, six_convolutions, source_2012

PARAMETERS = {name: {'kernel': 0, 'bias': 0} for name in ('conv1', 'conv2', 'fc8')}


def control(rates=(), factors=()):
    return RateControlConfig(layer_rates=rates, layer_factors=factors)


def rates(rate=0.01, epochs=0.0, **rules):
    return layer_rates(PARAMETERS, rate, epochs, control(**rules))


def test_without_rules_there_is_one_rate():
    assert rates() == np.float32(0.01) and rates().shape == ()


def test_patterns_name_layers_arrays_and_groups_of_them():
    found = rates(rates=((0, 'conv*', 0.1), (0, 'conv2.kernel', 0.2), (0, '*.bias', 0.3), (0, 'fc8', 0.4)))
    assert found == {
        'conv1': {'kernel': np.float32(0.1), 'bias': np.float32(0.3)},
        'conv2': {'kernel': np.float32(0.2), 'bias': np.float32(0.3)},
        'fc8': {'kernel': np.float32(0.4), 'bias': np.float32(0.4)},  # the last line that fits holds
    }


def test_rules_hold_from_their_epoch_on_and_fractions_of_it_count():
    rules = ((0, 'conv1', 0.5), (1.5, 'conv1', 0.25))
    assert [rates(epochs=e, rates=rules)['conv1']['bias'] for e in (0, 1.49, 1.5, 9)] == [0.5, 0.5, 0.25, 0.25]


def test_factors_follow_the_rate_in_force_and_give_way_to_rates():
    rules = {'factors': ((0, 'conv1', 0.1), (0, 'fc8', 10.0)), 'rates': ((5, 'conv1.bias', 0.0),)}
    early, late = rates(0.02, 0, **rules), rates(0.002, 5, **rules)
    np.testing.assert_allclose([early['conv1']['bias'], early['fc8']['kernel']], [0.002, 0.2], rtol=1e-6)
    np.testing.assert_allclose([late['conv1']['kernel'], late['fc8']['kernel']], [0.0002, 0.02], rtol=1e-6)
    assert late['conv1']['bias'] == 0 and late['conv2']['kernel'] == np.float32(0.002)


@pytest.mark.parametrize(
    'rule, words',
    [
        ((0, 'conv9', 0.1), "'conv9' matches no layer with parameters; there are conv1, conv2"),
        ((0, 'relu1', 0.1), "'relu1' matches no layer"),
    ],
)
@pytest.mark.parametrize('field', ['rates', 'factors'])
def test_a_rule_that_is_none_or_names_nothing_is_told(field, rule, words):
    config = Config().replace(**{f'rate_control.layer_{field}': (rule,)})
    with pytest.raises(UserError, match=rf'config\.rate_control\.layer_{field}: .*{words}'):
        check_layer_rules(config, PARAMETERS)


def test_a_decay_of_no_layer_is_told():
    with pytest.raises(UserError, match=r"config\.layer_decays: 'conv7' matches no layer"):
        check_layer_rules(Config().replace(layer_decays=(('conv1', 0.0), ('conv7', 0.1))), PARAMETERS)


@pytest.mark.parametrize('decay_biases', [True, False])
def test_each_layer_decays_by_the_last_rule_that_matches_it(decay_biases):
    names = ('conv1', 'conv2', 'local3', 'fc10')
    parameters = {name: {'kernel': jnp.float32(2.0 + i), 'bias': jnp.float32(1.0)} for i, name in enumerate(names)}
    rules = (('conv*', 0.0), ('fc10', 0.5), ('conv2.kernel', 0.25))
    rule = update_rule(0.125, momentum=0.0, weight_decay=0.1, decay_biases=decay_biases, layer_decays=rules)
    updates, _ = rule.update(jax.tree.map(jnp.zeros_like, parameters), rule.init(parameters), parameters)
    kernels = {'conv1': 0.0, 'conv2': 0.25 * 3, 'local3': 0.1 * 4, 'fc10': 0.5 * 5}
    biases = {'conv1': 0.0, 'conv2': 0.0, 'local3': 0.1, 'fc10': 0.5} if decay_biases else dict.fromkeys(names, 0.0)
    for name in names:
        np.testing.assert_allclose(updates[name]['kernel'], -0.125 * kernels[name], rtol=1e-6)
        np.testing.assert_allclose(updates[name]['bias'], -0.125 * biases[name], rtol=1e-6)


def test_rules_of_a_config_are_checked_against_its_network():
    config = paper.get_config()
    config.rate_control.layer_rates = ((0, 'conv7', 0.0),)
    with pytest.raises(UserError, match="'conv7' matches no layer"):
        build(typed(config))


def test_each_array_follows_the_papers_rule_at_its_own_rate():
    momentum, decay, gradient = 0.9, 0.1, 3.0
    by_epoch = {'kernel': [0.5, 0.5, 0.05, 0.0, 0.0], 'bias': [0.2, 0.2, 0.2, 0.2, 0.0]}
    parameters = {'conv1': {'kernel': jnp.float32(2.0), 'bias': jnp.float32(1.0)}}
    state = update_rule(0.0, momentum=0.0, weight_decay=0.0).init(parameters)

    @jax.jit
    def step(rates, state, parameters):
        rule = update_rule(rates, momentum=momentum, weight_decay=decay, decay_biases=False)
        updates, state = rule.update(jax.tree.map(lambda x: jnp.full_like(x, gradient), parameters), state, parameters)
        return optax.apply_updates(parameters, updates), state

    weights = {'kernel': (2.0, 0.0), 'bias': (1.0, 0.0)}  # by hand: value and velocity
    for number in range(5):
        rates = {'conv1': {name: np.float32(by_epoch[name][number]) for name in by_epoch}}
        parameters, state = step(rates, state, parameters)
        for name, (w, v) in weights.items():
            rate = by_epoch[name][number]
            if rate:  # frozen where it is 0: velocity and all
                v = momentum * v - (decay * rate * w if name == 'kernel' else 0.0) - rate * gradient
                w = w + v
            weights[name] = (w, v)
            np.testing.assert_allclose(parameters['conv1'][name], w, rtol=1e-5)
            np.testing.assert_allclose(-state[-1].trace['conv1'][name], -v, rtol=1e-5)
    assert step._cache_size() == 1  # nothing is compiled anew when a rate changes


def test_with_rates_all_alike_the_step_is_that_of_one_rate():
    parameters = {'fc8': {'kernel': jnp.arange(6.0).reshape(2, 3), 'bias': jnp.ones(3)}}
    gradients = jax.tree.map(lambda x: jnp.sin(x + 1), parameters)
    state = update_rule(0.0, momentum=0.9, weight_decay=0.0).init(parameters)
    each = jax.tree.map(lambda _: jnp.float32(0.25), parameters)
    (one, _), (other, _) = (
        update_rule(rate, momentum=0.9, weight_decay=0.5).update(gradients, state, parameters)
        for rate in (jnp.float32(0.25), each)
    )
    jax.tree.map(np.testing.assert_array_equal, one, other)


def logged(config, epochs):
    """Rates of kernels and biases of conv1 and of fc6 after so many epochs, with the schedule's rate in force."""
    rate = ([config.learning_rate] + [rate for first, rate in config.rate_control.schedule if first <= epochs])[-1]
    names = {'conv1': {'kernel': 0, 'bias': 0}, 'fc6': {'kernel': 0, 'bias': 0}, 'fc8': {'kernel': 0, 'bias': 0}}
    found = layer_rates(names, rate, epochs, config.rate_control)
    return [round(float(found[layer][array]), 9) for layer in ('conv1', 'fc6') for array in ('kernel', 'bias')]


def test_the_run_of_2012_has_the_rates_of_its_log():
    config = source_2012.get_config()
    assert {epoch: logged(config, epoch) for epoch in (0, 22.9, 23, 51, 68, 72, 78, 92.9)} == {
        0: [0.01, 0.02, 0.01, 0.02],
        22.9: [0.01, 0.02, 0.01, 0.02],
        23: [0.001, 0.02, 0.001, 0.02],
        51: [0.0001, 0.02, 0.0001, 0.02],
        68: [0.00001, 0.02, 0.0001, 0.02],  # a thousandth of its first rate
        72: [0, 0, 0.0001, 0.02],
        78: [0, 0, 0.00001, 0.002],
        92.9: [0, 0, 0.00001, 0.002],
    }
    assert (config.epochs, config.data.color_epochs, config.decay_biases) == (93, 68, False)


@pytest.mark.parametrize('variant', ['', 'from_fall2009'])
def test_fine_tuning_on_2012_has_the_rates_of_its_log(variant):
    config = six_convolutions.get_config(variant)
    assert (config.pretrained.workdir, config.pretrained.new_layers) == (
        'runs/fall2009' if variant else 'runs/fall2011',
        ('fc8',),
    )
    assert (config.epochs, config.data.color_epochs, config.data.source) == (52 if variant else 54, 38, 'imagenet2012')

    def rates(epochs):
        rate = ([config.learning_rate] + [rate for first, rate in config.rate_control.schedule if first <= epochs])[-1]
        names = {name: {'kernel': 0} for name in ('conv1', 'conv6', 'fc8')}
        found = layer_rates(names, rate, epochs, config.rate_control)
        return [round(float(found[name]['kernel']), 9) for name in names]

    if variant:
        assert rates(0) == [0.0001, 0.001, 0.001] and rates(3) == [0.00001, 0.001, 0.001]
        assert rates(4) == [0, 0.001, 0.001] and rates(22) == [0, 0.0001, 0.0001] and rates(42) == [0, 1e-5, 1e-5]
        return
    files = 1024 / 1281167  # the log's batches are data files of 1,024 images
    assert rates(0) == rates(299 * files) == [0.0001, 0.001, 0.001]
    assert rates(0.2399) == rates(300.01 * files) == [0.0001, 0.001, 0.01]
    assert rates(5) == [0.00001, 0.001, 0.01] and rates(7) == [0, 0.001, 0.01]
    assert rates(9) == [0, 0.001, 0.001] and rates(22) == [0, 0.0001, 0.0001] and rates(42) == [0, 0.00001, 0.00001]


def test_fall_2009_has_the_rates_of_its_logs():
    def rates(variant, epochs):
        config = six_convolutions.get_config(variant)
        names = {name: {'kernel': 0} for name in ('conv1', 'conv5', 'conv6', 'fc7')}
        found = layer_rates(names, config.learning_rate, epochs, config.rate_control)
        return [round(float(found[name]['kernel']), 9) for name in names]

    assert six_convolutions.passes(2, 1600, 8_900_000) == pytest.approx(1.18, abs=0.005)
    assert six_convolutions.passes(6, 6491, 8_900_000) == pytest.approx(5.75, abs=0.005)
    assert rates('fall2009', 0) == rates('fall2009', 1.17) == [0.001, 0.001, 0.01, 0.01]
    assert rates('fall2009', 1.2) == [0.001] * 4
    assert rates('fall2009_half', 5.5) == [0.01] * 4 and rates('fall2009_half', 5.7) == [0.001] * 4
    assert rates('fall2009_half', 17.6) == [0.00001, 0.0001, 0.0001, 0.0001]
    assert rates('fall2009_half', 20.5) == [0, 0.0001, 0.0001, 0.0001]
    assert rates('fall2009_half', 25) == [0, 0.00001, 0.00001, 0.00001]


@pytest.mark.parametrize(
    'config, parameters',
    [
        (source_2012.get_config(), 60_965_224),
        (source_2012.get_config('2012'), 60_965_224),
        # a sixth convolution of 256 kernels of 3 x 3 x 256 with their biases; other last layers
        (six_convolutions.get_config(), 60_965_224 + 256 * (9 * 256 + 1)),
        (six_convolutions.get_config('from_fall2009'), 60_965_224 + 256 * (9 * 256 + 1)),
        (six_convolutions.get_config('fall2009'), 60_965_224 + 256 * (9 * 256 + 1) + 9_184 * 4097),
        (six_convolutions.get_config('fall2009_half'), 60_965_224 + 256 * (9 * 256 + 1) + 9_184 * 4097),
        # a linear bottleneck of 2,048 in place of fc8; 21,841 classes are dealt to two columns as 21,842
        (six_convolutions.get_config('fall2011'), 60_965_224 + 256 * (9 * 256 + 1) + 1_048 * 4097 + 21_842 * 2049),
    ],
)
def test_networks_have_as_many_parameters_as_arithmetic_says(config, parameters):
    shapes = build(typed(config)).shapes.parameters
    assert sum(np.prod(x.shape) for x in jax.tree.leaves(shapes)) == parameters


@pytest.mark.parametrize(
    'module, variants', [(source_2012, '2012'), (six_convolutions, 'fall2009_half, fall2009, fall2011, from_fall2009')]
)
def test_unknown_variants_are_told(module, variants):
    with pytest.raises(UserError, match=f"no variant 'other'; it has: {variants}"):
        module.get_config('other')
