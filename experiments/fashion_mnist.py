"""The paper's two columns on Fashion-MNIST: 70,000 gray pictures of clothes, the quickest real data set here.

The paper, but: images of 28 x 28, patches of 24 x 24, a first layer of 5 x 5 with stride 1 (maps of 20, 10, 5, 2), a
quarter of the kernels (a third in conv1), a sixteenth of the neurons, and 12 epochs with a fixed list of rates. Weights
have the standard deviations of the 2012 code, times the square root of (inputs of a neuron there / inputs here).

The paper has no such experiment. Ours, seed 0: 11.2 % top-1 error of the 10,000 test images (center), 10.2 % with ten
views (2026-11-25, two CPU cores, JAX 0.10.2).

    python launch.py --config=experiments/fashion_mnist.py --mode=prepare --config.data.download=True
    python launch.py --workdir=runs/fashion_mnist --config=experiments/fashion_mnist.py

The first command downloads four files (31 MB); without the last flag, it reads them in data/downloads/fashion_mnist.
"""

from ml_collections import ConfigDict

from experiments import paper


def get_config() -> ConfigDict:
    config = paper.get_config()
    config.name = 'fashion_mnist'
    network = config.network
    network.conv1.size, network.conv1.stride = 5, 1
    for name, kernels in (('conv1', 32), ('conv2', 64), ('conv3', 96), ('conv4', 96), ('conv5', 64)):
        network[name].kernels = kernels
    network.fc6.units = network.fc7.units = 256
    network.fc8.units = 10
    for name, std in (('conv1', 0.022), ('conv2', 0.017), ('conv3', 0.06), ('conv4', 0.06), ('conv5', 0.06)):
        network[name].std = std
    network.fc6.std, network.fc7.std, network.fc8.std = 0.06, 0.04, 0.04

    config.epochs = 12
    config.rate_control.schedule = ((8, 0.001), (11, 0.0001))

    config.data.source = 'fashion_mnist'
    config.data.directory = 'data/fashion_mnist'
    config.data.storage = 'raw'  # so small images would lose much as JPEGs
    config.data.image_size = 28
    config.data.crop_size = 24
    return config
