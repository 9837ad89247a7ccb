"""Unpublished networks of the 2012 logs: their rates by the schedule's definition, their layers, that they learn."""

import bisect
import math
import re

import jax
import learning
import numpy as np
import pytest
from configs import typed

from alexnet_jax.commands.inspect import lowered_step
from alexnet_jax.runs.build import build
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training.optimizer import layer_rates
from experiments import networks_2012, source_2012


def rates(config, epochs):
    """Rates of conv2's kernel and bias."""
    found = layer_rates({'conv2': {'kernel': 0, 'bias': 0}}, config.learning_rate, epochs, config.rate_control)['conv2']
    return float(found['kernel']), float(found['bias'])


def in_steps(first, last, count, progress, jumps=False):
    """A rate by the definition: of `count` numbers in geometric progression, the one whose share of the run it is."""
    levels = np.geomspace(first, last, count)
    place = bisect.bisect_left(np.arange(1, count + 1) / count, progress)
    jump = jumps and place > 0 and 0.2 < progress < 0.9 and progress > (place + 0.5) / count
    return math.sqrt(levels[place] * levels[place - 1]) if jump else levels[place]


@pytest.mark.parametrize('name', networks_2012.SCHEDULES)
def test_rates_fall_in_steps(name):
    config = networks_2012.get_config(name)
    factor, steps, color_off, frozen = networks_2012.SCHEDULES[name]
    scale = 2 if name == '170_256_double' else 1
    for progress in (0.001, 0.19, 0.24, 0.26, 0.37, 0.38, 0.49, 0.51, 0.61, 0.63, 0.74, 0.76, 0.87, 0.88, 0.91, 0.999):
        weights, biases = rates(config, 95 * progress)
        expected = in_steps(0.01 * scale, 0.01 * scale / factor, steps, progress, jumps=name == '174')
        assert weights == pytest.approx(expected, rel=1e-6), progress
        assert biases == pytest.approx(in_steps(0.02 * scale, 0.002 * scale, 2, progress), rel=1e-6)
    names = {'conv1': {'kernel': 0, 'bias': 0}}
    assert layer_rates(names, 0.01, frozen + 0.01, config.rate_control)['conv1'] == {'kernel': 0, 'bias': 0}
    assert config.data.color_epochs == color_off and config.epochs == 95


def test_the_levels_of_170_are_those_of_its_notes():
    levels = [level for _, level in networks_2012.falling_rates(0.01, 250, 4)]
    assert levels == pytest.approx([0.01, 0.0015874011, 0.00025198421, 0.00004], rel=1e-7)


@pytest.mark.parametrize('name', networks_2012.SCHEDULES)
def test_the_layers_are_those_of_145_but_for_what_the_notes_say(name):
    base, network = source_2012.get_config('2012').network, networks_2012.get_config(name).network
    changed = {layer for layer in {*base, *network} if base.get(layer) != network.get(layer)}
    expected = {
        '167': {'norm2', 'spatial2'},
        '177': {'drop4'},
        '170_quant': {'exchange3', 'exchange6', 'exchange7', 'exchange8'},
    }
    assert changed == expected.get(name, set())
    order = [layer for layer in network if layer in base]
    if name == '166':
        assert order[4:9] == ['conv2', 'norm2', 'spatial2', 'pool2', 'relu2'] and order[9:] == list(base)[9:]
    else:
        assert order == [layer for layer in base if layer in network]
    shapes = build(typed(networks_2012.get_config(name))).shapes.parameters
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(shapes)) == 60_965_224


# The others have the layers of one of these, as the test above says.
@pytest.mark.parametrize('name', ['170', '166', '167', '177', '170_quant'])
def test_columns_meet_where_those_of_145_do_and_in_170_quant_with_half_the_bytes(name):
    config = networks_2012.get_config(name)
    config.mesh.data, config.mesh.column, config.batch_size = 1, 2, 2
    text = lowered_step(build(typed(config))).as_text()
    found = re.findall(r'stablehlo\.all_gather.*-> tensor<2x([\dx]+)x(f16|f32)>', text)
    kind, size = ('f16', 2) if name == '170_quant' else ('f32', 4)
    assert found == [(one, kind) for one in ('13x13x256', '9216', '4096', '4096')] + [('1000', 'f32')]
    received = sum(size * math.prod(map(int, shape.split('x'))) for shape, kind in found[:-1])
    assert received == 2 * size * (21_632 + 4_608 + 2_048 + 2_048)  # half of it is a column's own


def test_in_170_fade_five_percent_of_chunks_are_blended():
    base, config = (networks_2012.get_config(name).data.to_dict() for name in ('170', '170_fade'))
    assert {name: value for name, value in config.items() if base[name] != value} == {
        'blend_probability': 0.05,
        'color_epochs': 61,
    }
    assert config['blend_weight'] == 0.25 and config['mean_patch'] == 'center'


@pytest.mark.parametrize('name', ['166', '167', '177', '170_quant', '170_fade'])
def test_it_learns(name):
    config = networks_2012.get_config(name)
    for layer, fields in learning.TINY.items():
        if layer in config.network:
            config.network[layer].update(fields)
    config.data.crop_size = config.data.image_size = 59
    before, *_, after = learning.losses(config, steps=25)
    assert after < 0.8 * before


@pytest.mark.parametrize(
    'name, words',
    [
        ('131', 'network 131 has a branch of low resolution'),
        ('137_2010', 'network 137_2010 has a branch of low resolution'),
        ('146', r'take experiments/six_convolutions\.py'),
        ('146_2012_2009', r'take experiments/six_convolutions\.py:from_fall2009'),
        ('', "no variant ''; it has: 166, 167"),
    ],
)
def test_networks_that_are_elsewhere_or_nowhere(name, words):
    with pytest.raises(UserError, match=words):
        networks_2012.get_config(name)
