"""The run of 2012 and the network of six convolutions: their lines, where columns meet, that they learn."""

import re

import learning
import numpy as np
import pytest
from configs import typed

from alexnet_jax.commands.inspect import lowered_step
from alexnet_jax.model.layer_specs import LocalResponseNormalization, MaxPooling, SpatialNormalization
from alexnet_jax.model.layers import outputs_along
from alexnet_jax.runs.build import build
from experiments import paper, six_convolutions, source_2012

PAPER = [
    '13x13x256',
    '9216',
    '4096',
    '4096',
    '1000',
]  # what each column receives and its own: conv3, fc6, fc7, fc8, loss
SIX = ['13x13x256', '6x6x256', '9216', '4096', '4096', '1000']


@pytest.mark.parametrize('module, received', [(source_2012, PAPER), (six_convolutions, SIX)])
def test_columns_meet_before_the_layers_that_see_both_and_nowhere_else(module, received):
    config = module.get_config()
    config.mesh.data, config.mesh.column, config.batch_size = 1, 2, 2
    text = lowered_step(build(typed(config))).as_text()
    assert re.findall(r'stablehlo\.all_gather.*-> tensor<2x([\dx]+)xf32>', text) == received
    assert text.count('stablehlo.reduce_scatter') == len(received) - 1


@pytest.mark.parametrize('module', [source_2012, six_convolutions])
def test_it_learns(module):
    config = module.get_config()
    for name, fields in learning.TINY.items():
        if name in config.network:
            config.network[name].update(fields)
    config.data.crop_size = config.data.image_size = 59
    before, *_, after = learning.losses(config, steps=25)
    assert after < 0.8 * before


def test_the_first_normalization_is_of_the_linear_output_and_a_spatial_one_follows_the_second():
    network = dict(build(typed(source_2012.get_config())).config.network)
    assert list(network)[:9] == ['conv1', 'norm1', 'pool1', 'relu1', 'conv2', 'relu2', 'norm2', 'spatial2', 'pool2']
    assert network['norm1'] == network['norm2'] == LocalResponseNormalization(k=2.0, n=5, alpha=0.00002, beta=0.75)
    assert network['spatial2'] == SpatialNormalization(k=1.0, size=5, alpha=0.00004, beta=0.75)
    assert [network[f'conv{i}'].std for i in range(1, 6)] == [0.01, 0.01, 0.03, 0.03, 0.03]


def test_it_is_the_papers_network_otherwise():
    ours, base = (
        dict(build(typed(source_2012.get_config())).config.network),
        dict(build(typed(paper.get_config())).config.network),
    )
    assert set(ours) - set(base) == {'spatial2'} and set(base) <= set(ours)
    assert {name for name in base if ours[name] != base[name]} == {'norm1', 'norm2'}


def test_the_sixth_convolution_sees_both_columns_over_the_last_pooling_and_keeps_its_size():
    table = build(typed(six_convolutions.get_config())).config.network
    names = [name for name, _ in table]
    place = names.index('pool5')
    assert names[place + 1 : place + 5] == ['exchange5', 'conv6', 'relu_conv6', 'flatten5']
    sixth = dict(table)['conv6']
    assert (sixth.kernels, sixth.size, sixth.pad, sixth.std, sixth.bias) == (256, 3, 1, 0.03, 1.0)
    assert outputs_along(6, sixth.size, sixth.stride, sixth.pad) == 6


def test_noise_is_scaled_back_so_that_variance_stays_and_ends_with_its_epochs():
    config = source_2012.get_config()
    assert config.data.color_rescale and config.data.color_std == 0.1 and config.data.color_epochs == 68
    assert config.data.source == 'imagenet2010' and source_2012.get_config('2012').data.source == 'imagenet2012'
    assert [layer for _, layer in build(typed(config)).config.network if isinstance(layer, MaxPooling)] == [
        MaxPooling(3, 2)
    ] * 3
    assert np.isclose(config.rate_control.schedule[-1][1], 1e-5)
