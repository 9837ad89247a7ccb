"""Guards CIFAR-10's network: the counts of cuda-convnet's files, what inspection says of it, and that it learns."""

import jax
import numpy as np
import pytest
import reference
from configs import table_of, typed
from learning import losses
from ml_collections import ConfigDict

from alexnet_jax.commands.inspect import lines_of
from alexnet_jax.model.alexnet import AlexNet, initial_parameters
from alexnet_jax.model.columns import Columns
from alexnet_jax.runs.build import build
from alexnet_jax.runtime.errors import UserError
from experiments import cifar10

CONVOLUTIONS = (5 * 5 * 3 * 64 + 64) + (5 * 5 * 64 * 64 + 64)
PLACES = 6 * 6
LAST = PLACES * 32 * 10 + 10
PARAMETERS = {
    '': CONVOLUTIONS + PLACES * (3 * 3 * 64 * 64 + 64) + PLACES * (3 * 3 * 64 * 32 + 32) + LAST,
    'no_normalization': CONVOLUTIONS + PLACES * (3 * 3 * 64 * 32 + 32) + PLACES * (3 * 3 * 32 * 32 + 32) + LAST,
}
PARAMETERS['tanh'] = PARAMETERS['no_normalization']


@pytest.mark.parametrize('variant', PARAMETERS)
def test_parameters_and_multiply_adds(variant):
    found = {line.name: line for line in lines_of(typed(cifar10.get_config(variant)))}
    assert sum(line.parameters for line in found.values()) == PARAMETERS[variant]
    sizes = {name: line.output for name, line in found.items()}
    kernels3 = 32 if variant else 64
    assert (sizes['pool1'], sizes['pool2']) == ((12, 12, 64), (6, 6, 64))
    assert (sizes['local3'], sizes['local4']) == ((6, 6, kernels3), (6, 6, 32))
    assert found['conv1'].multiply_adds == 24 * 24 * 5 * 5 * 3 * 64
    assert found['local3'].multiply_adds == PLACES * 3 * 3 * 64 * kernels3
    assert found['local3'].kernel == f'{kernels3} of 3x3x64 at each of 6x6 positions'
    nonlinearities = {line.kind for name, line in found.items() if name.startswith('nonlinearity')}
    assert nonlinearities == ({'Tanh'} if variant == 'tanh' else {'ReLU'})


def test_normalization_stands_where_the_file_has_it():
    network = cifar10.get_config().network
    names = list(network)
    assert names[names.index('pool1') + 1] == 'norm1' and names[names.index('pool2') - 1] == 'norm2'
    for name in ('norm1', 'norm2'):
        norm = network[name]
        assert (norm.k, norm.n, norm.beta) == (1, 9, 0.75) and norm.alpha == pytest.approx(0.001 / 9)
    assert not any('norm' in name for name in cifar10.get_config('no_normalization').network)


def test_rates_are_lowered_twice_and_those_of_biases_never():
    config = cifar10.get_config()
    assert config.rate_control.schedule == ((500, 0.0001), (510, 0.00001)) and config.epochs == 520
    assert config.rate_control.layer_rates == ((0, '*.bias', 0.002),)
    assert config.learning_rate == 0.001 and not config.decay_biases


@pytest.mark.parametrize('variant, last', [('', 0.01), ('no_normalization', 0.004), ('tanh', 0.01)])
def test_weights_decay_as_the_files_say(variant, last):
    config = cifar10.get_config(variant)
    assert config.weight_decay == 0.004 and config.layer_decays == (('conv*', 0.0), ('fc10', last))


def test_unknown_variants_are_named():
    with pytest.raises(UserError, match=r"no variant 'relu'; it has: no_normalization, tanh"):
        cifar10.get_config('relu')


def test_local_layers_in_two_columns_against_the_reference():
    """Each column has kernels of its own, at every place, and sees its own values alone."""
    config = cifar10.get_config('no_normalization')
    network, config.network = config.network, ConfigDict(sort_keys=False)
    for name in ('local3', 'flatten4', 'fc10'):
        config.network[name] = network[name]
    config.network.local3.kernels, config.network.local3.stride, config.network.local3.bias = 4, 2, 0.5
    table = table_of(config.network)
    parameters = jax.jit(lambda: initial_parameters(table, 2, 6, seed=0))()
    assert parameters['local3']['kernel'].shape == (2, 4, 4, 27, 2)
    assert parameters['local3']['bias'].shape == (2, 4, 4, 2)
    images = np.random.default_rng(0).standard_normal((3, 6, 6, 3)).astype(np.float32)
    with jax.default_matmul_precision('highest'):
        logits = jax.jit(AlexNet(table, Columns(2, 2)).apply)({'params': parameters}, images)
    right = []
    for column in range(2):
        of_local, of_fc = (
            {name: np.asarray(x[column], float) for name, x in parameters[layer].items()}
            for layer in ('local3', 'fc10')
        )
        y, _ = reference.locally_connected(images.astype(float), **of_local, size=3, stride=2, pad=1)
        right.append(y.reshape(3, -1) @ of_fc['kernel'] + of_fc['bias'])
    assert reference.relative_error(logits, np.concatenate(right, axis=1)) < 1e-5


def test_kernels_that_cannot_be_dealt_to_the_columns_are_named():
    config = cifar10.get_config('no_normalization')
    config.columns, config.mesh.data, config.mesh.column, config.network.local4.kernels = 2, 1, 1, 33
    with pytest.raises(UserError, match=r'network\.local4\.kernels=33 must be divisible by the number of columns, 2'):
        build(typed(config))


def test_a_few_steps_lower_the_loss():
    config = cifar10.get_config()
    config.data.image_size = config.data.crop_size = 8
    for name in ('conv1', 'conv2', 'local3', 'local4'):
        config.network[name].kernels, config.network[name].std = 8, 0.1
    config.network.conv1.std = 0.005
    before, *_, after = losses(config, steps=12)
    assert after < 0.8 * before
