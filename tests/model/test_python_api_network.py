"""The network as a user of Flax and Optax would use it: init and apply, transformations, dropout, a training loop."""

import dataclasses

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alexnet_jax.model.alexnet import AlexNet
from alexnet_jax.model.columns import Columns
from alexnet_jax.model.figure_2 import figure_2
from alexnet_jax.model.layer_specs import Dense, Dropout, Flatten, ReLU

SMALL = {
    'conv1': {'kernels': 8, 'std': 0.05},
    'conv2': {'kernels': 16, 'std': 0.1},
    'conv3': {'kernels': 12, 'std': 0.1},
    'conv4': {'kernels': 12, 'std': 0.1},
    'conv5': {'kernels': 8, 'std': 0.1},
    'fc6': {'units': 128, 'std': 0.1},
    'fc7': {'units': 128, 'std': 0.1},
}


@pytest.fixture(autouse=True, scope='module')
def compile_quickly():
    """Everything here runs only a few times."""
    jax.config.update('jax_disable_most_optimizations', True)
    yield
    jax.config.update('jax_disable_most_optimizations', False)


def layers(classes=10):
    """Figure 2 with few kernels and units."""
    table = figure_2(classes)
    return table | {name: dataclasses.replace(table[name], **fields) for name, fields in SMALL.items()}


@pytest.fixture(scope='module')
def images():
    return np.float32(50 * np.random.default_rng(0).standard_normal((4, 67, 67, 3)))


@pytest.fixture(scope='module')
def network():
    return AlexNet(layers())


@pytest.fixture(scope='module')
def variables(network, images):
    return jax.jit(network.init)(jax.random.key(0), images)


@pytest.fixture(scope='module')
def apply(network):
    return jax.jit(network.apply, static_argnames=['train', 'mutable'])


def test_the_papers_network_has_its_parameters():
    network = AlexNet(figure_2(classes=1000))
    images = jax.ShapeDtypeStruct((128, 224, 224, 3), jnp.float32)
    logits, variables = jax.eval_shape(lambda x: network.init_with_output(jax.random.key(0), x), images)
    assert logits.shape == (128, 1000)
    assert sum(x.size for x in jax.tree.leaves(variables['params'])) == 60_965_224
    assert variables['params']['conv1']['kernel'].shape == (2, 11, 11, 3, 48)
    assert variables['params']['conv1']['bias'].shape == (2, 48)


def test_layers_and_columns_in_every_form_are_one_network(network):
    for other in (AlexNet(layers(), columns=2), AlexNet(layers(), Columns(2, 2)), AlexNet(tuple(layers().items()))):
        assert other == network and hash(other) == hash(network)
    assert AlexNet(layers(), columns=1) != network


def test_apply_without_rngs_is_evaluation(apply, variables, images):
    logits = apply(variables, images)
    assert logits.shape == (4, 10) and logits.dtype == jnp.float32
    np.testing.assert_array_equal(logits, apply(variables, images, train=False))
    np.testing.assert_array_equal(logits, apply(variables, images, train=False, rngs={'dropout': jax.random.key(1)}))
    assert np.ptp(logits, axis=0).max() > 1e-3  # images are told apart


def test_training_without_an_rng_is_an_error(network, variables, images):
    with pytest.raises(flax.errors.InvalidRngError, match='dropout'):
        network.apply(variables, images, train=True)


def test_training_without_dropout_layers_needs_no_rng(images):
    network = AlexNet({'flatten': Flatten(), 'relu': ReLU(), 'fc': Dense(2)}, columns=1)
    variables = network.init(jax.random.key(0), images)
    assert network.apply(variables, images, train=True).shape == (4, 2)


def test_dropout_drops_half_of_fc6_and_fc7(apply, variables, images):
    def run(key, **options):
        logits, state = apply(variables, images, rngs={'dropout': key}, mutable='intermediates', **options)
        return logits, {name: np.stack(values) for name, (values,) in state['intermediates'].items()}

    logits, values = run(jax.random.key(1), train=True)
    for drop, relu in (('after_drop6', 'after_relu6'), ('after_drop7', 'after_relu7')):
        active = values[relu] != 0
        assert active.sum() > 200
        kept = values[drop] != 0
        assert abs(kept[active].mean() - 0.5) < 0.12
        np.testing.assert_array_equal(values[drop][kept], values[relu][kept])  # not scaled
    assert not np.array_equal(logits, apply(variables, images))
    np.testing.assert_array_equal(logits, run(jax.random.key(1))[0])  # an rng alone says that it is training
    np.testing.assert_array_equal(logits, run(jax.random.key(1), train=True)[0])  # the same key, the same draws
    assert not np.array_equal(logits, run(jax.random.key(2), train=True)[0])


def test_images_and_columns_are_dropped_independently(images):
    network = AlexNet({'flatten': Flatten(), 'drop': Dropout(), 'fc': Dense(2)})
    same = np.ones_like(images)
    variables = network.init(jax.random.key(0), same)
    _, state = network.apply(
        variables, same, rngs={'dropout': jax.random.key(1)}, mutable='intermediates', capture_intermediates=False
    )
    masks = np.stack(state['intermediates']['after_drop'][0]).reshape(8, -1)
    assert len(np.unique(masks, axis=0)) == 8


def loss_of(network, **options):
    def loss(params, images, labels):
        logits = network.apply({'params': params}, images, **options)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return loss


def test_vmap_over_images_and_over_parameters(network, apply, variables, images):
    logits = apply(variables, images)
    stacks = images.reshape(2, 2, *images.shape[1:])
    found = jax.jit(jax.vmap(lambda x: network.apply(variables, x)))(stacks)
    np.testing.assert_allclose(found.reshape(4, 10), logits, rtol=1e-5, atol=1e-5)

    ensemble = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), variables)
    first, second = jax.jit(jax.vmap(network.apply, (0, None)))(ensemble, images)
    np.testing.assert_allclose(first, logits, rtol=1e-5, atol=1e-5)
    doubled = apply(jax.tree.map(lambda x: 2 * x, variables), images)
    np.testing.assert_allclose(second, doubled, rtol=1e-5, atol=1e-5 * np.abs(doubled).max())


def test_gradients_of_single_images_by_vmap_are_those_of_the_batch(network, variables, images):
    labels = np.array([3, 1, 4, 1])
    gradient = jax.grad(loss_of(network))
    whole = jax.jit(gradient)(variables['params'], images, labels)
    each = jax.jit(jax.vmap(gradient, (None, 0, 0)))(variables['params'], images[:, None], labels[:, None])
    for one, all_of_them in zip(jax.tree.leaves(whole), jax.tree.leaves(each), strict=True):
        assert np.abs(one).max() > 0
        np.testing.assert_allclose(all_of_them.mean(0), one, rtol=1e-4, atol=1e-5 * np.abs(one).max())


def test_a_training_loop_with_optax(network, variables, images):
    labels, optimizer = np.array([3, 1, 4, 1]), optax.adam(1e-3)

    @jax.jit
    def step(params, state, key):
        value, gradients = jax.value_and_grad(loss_of(network, train=True, rngs={'dropout': key}))(
            params, images, labels
        )
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    params, state, losses = variables['params'], optimizer.init(variables['params']), []
    for key in jax.random.split(jax.random.key(2), 30):
        params, state, loss = step(params, state, key)
        losses.append(loss)
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
