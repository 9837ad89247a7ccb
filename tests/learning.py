"""Whether a config's network learns at all: the loss of a few steps on one made batch."""

import jax
import numpy as np
from configs import typed

from alexnet_jax.data.augment import Statistics
from alexnet_jax.runs.build import build, training_step

# Widths at which the paper's layers learn on patches of 59 x 59.
TINY = {
    'conv1': {'kernels': 8, 'std': 0.02},
    'conv2': {'kernels': 16, 'std': 0.12},
    'conv3': {'kernels': 12, 'std': 0.12},
    'conv4': {'kernels': 12, 'std': 0.12},
    'conv5': {'kernels': 8, 'std': 0.12},
    'conv6': {'kernels': 8, 'std': 0.12},
    'fc6': {'units': 16, 'std': 0.3},
    'fc7': {'units': 16, 'std': 0.3},
    'fc8': {'units': 4, 'std': 0.2},
}


def drawn(experiment, generator):
    """The state before the first step: kernels normal, biases constant, as section 5 says, drawn by NumPy."""
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), experiment.shapes)
    for name, layer in experiment.config.network:
        if name in state.parameters:
            own = state.parameters[name]
            own['kernel'] = layer.std * generator.standard_normal(own['kernel'].shape, np.float32)
            own['bias'] += np.float32(layer.bias)
    return state


def losses(config, steps, batch_size=16, learning_rate=0.003):
    """The loss before each of `steps` updates: on the same images, made so that classes differ in brightness."""
    config.batch_size, config.mesh.data, config.mesh.column = batch_size, 1, 1
    experiment = build(typed(config))
    crop, generator = config.data.crop_size, np.random.default_rng(0)
    labels = np.arange(batch_size) % 4
    noise = generator.integers(0, 64, (batch_size, crop, crop, 3))
    batch = {
        'image': np.uint8(noise + 60 * labels[:, None, None, None]),
        'label': np.int32(labels),
        'top': np.zeros(batch_size, np.int32),
        'left': np.zeros(batch_size, np.int32),
        'mirror': np.zeros(batch_size, bool),
        'color': np.zeros((batch_size, 3), np.float32),
        'dropout_seed': np.arange(batch_size, dtype=np.uint32),
    }
    if config.data.blend_probability:  # of half of the images here
        batch |= {f'blend_{name}': batch[name][::-1] for name in ('image', 'top', 'left', 'mirror')}
        batch['blend_weight'] = np.where(labels < 2, config.data.blend_weight, 0).astype(np.float32)
    mean = np.full((config.data.image_size, config.data.image_size, 3), 120, np.float32)
    statistics = Statistics(mean, np.zeros((3, 3), np.float32))
    if config.data.mean_patch == 'center':
        statistics = statistics._replace(mean_patch=mean[:crop, :crop])
    state, rate, found = drawn(experiment, generator), np.float32(learning_rate), []
    step = training_step(experiment).lower(state, batch, statistics, rate).compile()
    for _ in range(steps):
        state, metrics = step(state, batch, statistics, rate)
        found.append(float(metrics['loss']))
    assert all(np.isfinite(loss) for loss in found) and jax.tree.all(
        jax.tree.map(lambda x: np.isfinite(x).all(), state.parameters)
    )
    return found
