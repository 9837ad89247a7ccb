"""The paper's two columns on Tiny ImageNet: 200 classes of ImageNet in 64 x 64 pixels, without registration.

The paper, but: images of 64 x 64, patches of 56 x 56 (as 224 is of 256, seven eighths), half the kernels (two thirds
in conv1), a quarter of the neurons, and 30 epochs with a fixed list of rates. A first layer of 11 x 11 with stride 4
would leave 13 x 13 of such a patch, where the paper has 55 x 55; with 5 x 5 and stride 2 it is 27 x 27, and pooling
leaves 13, 6 and 3. Weights have the standard deviations of the 2012 code, times the square root of (inputs of a neuron
there / inputs here).

The paper has no such experiment. Others reached, from random weights, 68.2 and 67.1 % top-1 error on the 10,000
validation images with AlexNet (a blog, 2024; a course project at KTH, 2018) and 58.2 % with five convolutions (Yao and
Miller, a course project at Stanford, 2015). Ours: not yet run.

    python launch.py --config=experiments/tiny_imagenet.py --mode=prepare --config.data.download=True
    python launch.py --workdir=runs/tiny_imagenet --config=experiments/tiny_imagenet.py

The first command downloads tiny-imagenet-200.zip (248 MB); without the last flag, it reads it in data/downloads.
tiny_imagenet.py:NAME is that without one of its parts, or with another in its place: see experiments/ablations.py.
"""

from ml_collections import ConfigDict

from experiments import ablations, paper


def get_config(variant: str = '') -> ConfigDict:
    if variant:
        return ablations.ablated(get_config(), variant)
    config = paper.get_config()
    config.name = 'tiny_imagenet'
    network = config.network
    network.conv1.kernels, network.conv1.size, network.conv1.stride = 64, 5, 2
    for name in ('conv2', 'conv3', 'conv4', 'conv5'):
        network[name].kernels //= 2
    network.fc6.units = network.fc7.units = 1024
    network.fc8.units = 200
    for name, std in (('conv1', 0.022), ('conv2', 0.012), ('conv3', 0.042), ('conv4', 0.042), ('conv5', 0.042)):
        network[name].std = std
    network.fc6.std, network.fc7.std, network.fc8.std = 0.028, 0.02, 0.02

    config.epochs = 30
    config.rate_control.schedule = ((20, 0.001), (26, 0.0001))

    config.data.source = 'tiny_imagenet'
    config.data.directory = 'data/tiny_imagenet'
    config.data.storage = 'raw'  # 1.4 GB; so small images would lose much as JPEGs
    config.data.image_size = 64
    config.data.crop_size = 56
    return config
