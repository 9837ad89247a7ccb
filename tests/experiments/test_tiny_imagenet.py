"""Guards the experiment on Tiny ImageNet: the paper's network, smaller."""

import math

import pytest
from configs import typed

from alexnet_jax.commands.inspect import lines_of
from experiments import paper, tiny_imagenet
from experiments.ablations import ABLATIONS


def test_the_papers_layers_in_the_papers_order_at_other_sizes():
    small, large = (one.get_config().network for one in (tiny_imagenet, paper))
    sizes = {'kernels', 'units', 'std', 'size', 'stride'}
    for (name, layer), (original, other) in zip(small.items(), large.items(), strict=True):
        assert name == original
        assert {field for field in layer if layer[field] != other[field]} <= (
            sizes if name == 'conv1' else sizes - {'size', 'stride'}
        )


def test_maps_are_of_27_13_6_and_3():
    lines = {line.name: line.output for line in lines_of(typed(tiny_imagenet.get_config()))}
    assert [lines[name][0] for name in ('conv1', 'pool1', 'pool2', 'pool5')] == [27, 13, 6, 3]
    assert lines['fc8'] == (200,)


def test_weights_are_scaled_by_their_neurons_inputs():
    config = tiny_imagenet.get_config().network
    inputs = {  # of a neuron: in the paper, here
        'conv1': (11 * 11 * 3, 5 * 5 * 3),
        'conv2': (5 * 5 * 48, 5 * 5 * 32),
        'conv3': (3 * 3 * 256, 3 * 3 * 128),
        'conv4': (3 * 3 * 192, 3 * 3 * 96),
        'conv5': (3 * 3 * 192, 3 * 3 * 96),
        'fc6': (6 * 6 * 256, 3 * 3 * 128),
        'fc7': (4096, 1024),
        'fc8': (4096, 1024),
    }
    for name, (there, here) in inputs.items():
        assert config[name].std == pytest.approx(
            paper.get_config().network[name].std * math.sqrt(there / here), rel=0.03
        )


@pytest.mark.parametrize('variant', ABLATIONS)
def test_ablations_fit(variant):
    config = typed(tiny_imagenet.get_config(variant))
    assert config.name == f'tiny_imagenet:{variant}' and config.data.source == 'tiny_imagenet'
    assert lines_of(config)
