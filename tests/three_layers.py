"""Digits through a network of three layers: for runs that are started to be stopped. --config=tests/three_layers.py"""

from ml_collections import ConfigDict

from alexnet_jax.config import network_config
from alexnet_jax.model.figure_2 import figure_2
from experiments import digits

LAYERS = ('conv1', 'relu1', 'pool1', 'flatten5', 'exchange6', 'fc6', 'relu6', 'exchange8', 'fc8')


def get_config() -> ConfigDict:
    config, layers = digits.get_config(), figure_2(classes=10)
    config.network = network_config({name: layers[name] for name in LAYERS})
    config.network.conv1.kernels, config.network.conv1.std = 8, 0.005
    config.network.fc6.units, config.network.fc6.std, config.network.fc8.std = 16, 0.03, 0.1
    config.data.image_size, config.data.crop_size, config.data.threads = 36, 32, 2
    config.evaluation.views = ('center',)
    config.learning_rate, config.rate_control.schedule = 0.002, ((1, 0.001),)
    config.batch_size, config.epochs = 128, 2
    config.log_every_steps, config.checkpoint_every_steps, config.keep_checkpoints = 3, 5, 2
    return config
