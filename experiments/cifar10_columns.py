"""The paper's two columns on CIFAR-10, small enough that a whole table of ablations takes an afternoon on two cores.

The paper, but: images of 32 x 32, patches of 28 x 28 (as 224 is of 256, seven eighths), a first layer of 7 x 7 without
stride, half the kernels or less, an eighth of the neurons, and 6 epochs in which the paper's rate falls along a cosine.
Weights have the standard deviations of the 2012 code, times the square root of (inputs of a neuron there / inputs
here), to within 15 %.

    python launch.py --config=experiments/cifar10_columns.py --mode=prepare --config.data.download=True
    python launch.py --workdir=runs/cifar10_columns --config=experiments/cifar10_columns.py

The rate was chosen on a held-out tenth of the training images, in 2 epochs: 50.1, 48.1, 49.6, 53.3 % error with 0.005,
0.01, 0.02, 0.04.

The paper has no such experiment: its network for CIFAR-10 is experiments/cifar10.py. cifar10_columns.py:NAME is that
without one of its parts, or with another in its place: see experiments/ablations.py and docs/ablations.md.
"""

from ml_collections import ConfigDict

from experiments import ablations, cifar10, paper
from experiments.tiny_imagenet import falling_rates

_KERNELS = {'conv1': 48, 'conv2': 96, 'conv3': 128, 'conv4': 128, 'conv5': 96}
_STDS = {'conv1': 0.016, 'conv2': 0.014, 'conv3': 0.049, 'conv4': 0.052, 'conv5': 0.052}
_STDS |= {'fc6': 0.049, 'fc7': 0.028, 'fc8': 0.028}
RATE, EPOCHS = 0.01, 6


def get_config(variant: str = '') -> ConfigDict:
    if variant:
        return ablations.ablated(get_config(), variant)
    config = paper.get_config()
    config.name = 'cifar10_columns'
    network = config.network
    for name, kernels in _KERNELS.items():
        network[name].kernels = kernels
    network.conv1.size, network.conv1.stride = 7, 1
    network.fc6.units = network.fc7.units = 512
    network.fc8.units = 10
    for name, std in _STDS.items():
        network[name].std = std

    config.learning_rate = RATE
    config.epochs = EPOCHS
    config.rate_control.schedule = falling_rates(RATE, EPOCHS)

    config.data = cifar10.get_config().data
    config.data.crop_size = 28
    config.data.color_std = 0.1
    return config
