"""The paper's two columns on Tiny ImageNet: 200 classes of ImageNet in 64 x 64 pixels, without registration.

The paper, but: images of 64 x 64, patches of 56 x 56 (as 224 is of 256, seven eighths), some 0.6 of the kernels, a
quarter of the neurons, and 38 epochs, in which the rate falls from 0.02 along a cosine twice, in 12 and then in 26. A
first layer of 11 x 11 with stride 4 would leave 13 x 13 of such a patch, where the paper has 55 x 55; with 7 x 7 and
stride 2 it is 26 x 26, and pooling leaves 13, 6 and 3. Weights have the standard deviations of the 2012 code, times the
square root of (inputs of a neuron there / inputs here), to within 15 %.

    python launch.py --config=experiments/tiny_imagenet.py --mode=prepare --config.data.download=True
    python launch.py --workdir=runs/tiny_imagenet --config=experiments/tiny_imagenet.py

The first command downloads tiny-imagenet-200.zip (248 MB); without the last flag, it reads it in data/downloads. The
network that the second trains comes with the software: trained/tiny_imagenet, whose README.md has its errors and what
was tried. The paper has no such experiment. Others reached, from random weights, 68.2 and 67.1 % top-1 error on the
10,000 validation images with AlexNet (a blog, 2024; a course project at KTH, 2018) and 58.2 % with five convolutions
(Yao and Miller, a course project at Stanford, 2015).

tiny_imagenet.py:NAME is that without one of its parts, or with another in its place: see experiments/ablations.py.
"""

import math

from ml_collections import ConfigDict

from experiments import ablations, paper

_KERNELS = {'conv1': 64, 'conv2': 160, 'conv3': 224, 'conv4': 224, 'conv5': 160}
_STDS = {'conv1': 0.016, 'conv2': 0.0125, 'conv3': 0.038, 'conv4': 0.045, 'conv5': 0.045}
_STDS |= {'fc6': 0.026, 'fc7': 0.02, 'fc8': 0.02}
RATE, EPOCHS = 0.02, (12, 26)


def get_config(variant: str = '') -> ConfigDict:
    if variant:
        return ablations.ablated(get_config(), variant)
    config = paper.get_config()
    config.name = 'tiny_imagenet'
    network = config.network
    for name, kernels in _KERNELS.items():
        network[name].kernels = kernels
    network.conv1.size, network.conv1.stride = 7, 2
    network.fc6.units = network.fc7.units = 1024
    network.fc8.units = 200
    for name, std in _STDS.items():
        network[name].std = std

    config.learning_rate = RATE
    config.epochs = sum(EPOCHS)
    config.rate_control.schedule = falling_rates(RATE, *EPOCHS)

    config.data.source = 'tiny_imagenet'
    config.data.directory = 'data/tiny_imagenet'
    config.data.storage = 'raw'  # 1.4 GB; so small images would lose much as JPEGs
    config.data.image_size = 64
    config.data.crop_size = 56
    return config


def falling_rates(rate: float, *epochs: int) -> tuple[tuple[int, float], ...]:
    """A schedule along half a cosine from `rate` to nearly 0, in so many epochs; along one after another if several.

    A cosine's first epoch has `rate`, each other one the rate of its middle.
    """
    rates = [
        rate / 2 * (1 + math.cos(math.pi * (at + 0.5 * (at > 0)) / count)) for count in epochs for at in range(count)
    ]
    return tuple((epoch, round(at, 6)) for epoch, at in enumerate(rates) if epoch)
