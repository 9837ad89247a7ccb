"""A run on digits that takes a few seconds and learns something: for tests of what is done with a trained network."""

import shutil

import fakes
from configs import typed

from alexnet_jax.commands.train import train as train_run
from alexnet_jax.config import config_dict, network_config
from alexnet_jax.model.layer_specs import Convolution, Dense, Dropout, Exchange, Flatten, MaxPooling, ReLU
from alexnet_jax.runs.workdir import read_config
from experiments import digits

NETWORK = {
    'conv1': Convolution(kernels=16, size=5, stride=2, std=0.01),
    'relu1': ReLU(),
    'pool1': MaxPooling(),
    'flatten1': Flatten(),
    'exchange7': Exchange(),
    'fc7': Dense(units=64, std=0.05),
    'relu7': ReLU(),
    'drop7': Dropout(rate=0.25),
    'exchange8': Exchange(),
    'fc8': Dense(units=10, std=0.1),
}
FIELDS = {
    'batch_size': 32,
    'epochs': 3,
    'learning_rate': 0.0003,
    'checkpoint_every_steps': 1000,
    'rate_control.schedule': (),
    'data.image_size': 24,
    'data.crop_size': 21,
    'data.color_std': 0.0,
    'mesh.data': 1,
    'mesh.column': 1,
}
TRAINING, VALIDATION = 1437, 360


def get_config():
    """The config itself, for --config=tests/small_run.py."""
    config = digits.get_config()
    config.network = network_config(NETWORK)
    config.update_from_flattened_dict(FIELDS)
    return config


def trained_in(directory, train=False, **fields):
    """The config, with larger batches from now on, and the workdir of a run: directory/run, its data directory/data.

    Args:
      directory: of both.
      train: whether to train it now.
      fields: overrides what FIELDS says.
    """
    config = get_config()
    config.update_from_flattened_dict({'data.directory': str(directory / 'data')} | fields)
    if train:
        train_run(typed(config), str(directory / 'run'), fakes.console())
    config.batch_size = 64
    return config, directory / 'run'


def copied(trained, directory):
    """The same, in a copy of the run that has nothing but what training left."""
    _, workdir = trained
    shutil.copytree(workdir, directory / 'run', ignore=shutil.ignore_patterns('features', 'figures', '*.json.*'))
    config = config_dict(read_config(workdir).fields())
    config.batch_size = 64
    return config, directory / 'run'
