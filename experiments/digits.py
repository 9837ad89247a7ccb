"""The embedded example: the paper's two columns on handwritten digits, in a minute on a laptop.

1,797 real scans that come with scikit-learn, 360 of them held out, on the same path as ImageNet.
The paper, but: half the kernels (a third in conv1) and an eighth of the neurons, larger standard deviations of the
initial weights from conv2 to fc7, patches of 64 x 64 from images of 72 x 72, no mirror images (a mirrored digit is no
digit), 24 epochs with a fixed list of rates.

digits.py:NAME is that without one of its parts, or with another in its place: see experiments/ablations.py.
"""

from ml_collections import ConfigDict

from experiments import ablations, paper


def get_config(variant: str = '') -> ConfigDict:
    if variant:
        return ablations.ablated(get_config(), variant)
    config = paper.get_config()
    config.name = 'digits'
    network = config.network
    network.conv1.kernels = 32
    for name in ('conv2', 'conv3', 'conv4', 'conv5'):
        network[name].kernels //= 2
    network.fc6.units = network.fc7.units = 512
    network.fc8.units = 10
    for name, std in (('conv2', 0.02), ('conv3', 0.04), ('conv4', 0.04), ('conv5', 0.04), ('fc6', 0.08), ('fc7', 0.03)):
        network[name].std = std

    config.epochs = 24
    config.rate_control.schedule = ((16, 0.001), (21, 0.0001))

    config.data.source = 'digits'
    config.data.directory = 'data/digits'
    config.data.image_size = 72
    config.data.crop_size = 64
    config.data.mirror = False
    return config
