"""Guards the experiments on small images: the paper's network, smaller."""

import math

import pytest
from configs import typed

from alexnet_jax.commands.inspect import lines_of
from experiments import cifar10_columns, fashion_mnist, paper, tiny_imagenet
from experiments.ablations import ABLATIONS

# Sizes of maps after conv1, pool1, pool2, pool5.
MAPS = {tiny_imagenet: [26, 13, 6, 3], cifar10_columns: [22, 11, 5, 2], fashion_mnist: [20, 10, 5, 2]}
CLASSES = {tiny_imagenet: 200, cifar10_columns: 10, fashion_mnist: 10}
EACH = pytest.mark.parametrize('experiment', MAPS, ids=lambda module: module.__name__.rpartition('.')[2])


@EACH
def test_the_papers_layers_in_the_papers_order_at_other_sizes(experiment):
    small, large = (one.get_config().network for one in (experiment, paper))
    for (name, layer), (original, other) in zip(small.items(), large.items(), strict=True):
        assert name == original
        may = {'kernels', 'units', 'std', *({'size', 'stride'} if name == 'conv1' else ())}
        assert {field for field in layer if layer[field] != other[field]} <= may


@EACH
def test_sizes_of_the_maps(experiment):
    lines = {line.name: line.output for line in lines_of(typed(experiment.get_config()))}
    assert [lines[name][0] for name in ('conv1', 'pool1', 'pool2', 'pool5')] == MAPS[experiment]
    assert lines['fc8'] == (CLASSES[experiment],)


@EACH
def test_weights_are_scaled_by_their_neurons_inputs(experiment):
    def inputs(network, side):
        """Inputs of a neuron of each layer; fc6 sees maps of `side` x `side`."""
        conv = {name: network[name].kernels for name in ('conv1', 'conv2', 'conv3', 'conv4', 'conv5')}
        return {
            'conv1': 3 * network.conv1.size**2,
            'conv2': 25 * conv['conv1'] // 2,
            'conv3': 9 * conv['conv2'],
            'conv4': 9 * conv['conv3'] // 2,
            'conv5': 9 * conv['conv4'] // 2,
            'fc6': side**2 * conv['conv5'],
            'fc7': network.fc6.units,
            'fc8': network.fc7.units,
        }

    here, there = experiment.get_config().network, paper.get_config().network
    ours, theirs = inputs(here, MAPS[experiment][-1]), inputs(there, 6)
    assert theirs['conv2'] == 1200 and theirs['fc6'] == 9216
    for name, count in ours.items():
        assert here[name].std == pytest.approx(there[name].std * math.sqrt(theirs[name] / count), rel=0.15)


@pytest.mark.parametrize('variant', ABLATIONS)
@pytest.mark.parametrize('experiment, source', [(tiny_imagenet, 'tiny_imagenet'), (cifar10_columns, 'cifar10')])
def test_ablations_fit(experiment, source, variant):
    config = typed(experiment.get_config(variant))
    assert config.name == f'{experiment.get_config().name}:{variant}' and config.data.source == source
    assert lines_of(config)
