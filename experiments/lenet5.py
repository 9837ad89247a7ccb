"""LeNet-5 as teachers draw it, on handwritten digits: AlexNet's ancestor in the same vocabulary.

LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition" (1998): two convolutions
with tanh and pooling in turn, then 120, 84 and 10 neurons. For gray images that makes 61,706 parameters. Ours see
three channels, as all images here are RGB: 75 weights instead of 25 in each of the six first kernels, 62,006 in all.

Reproduces: the network, not the error: ours learns from 1,437 digits of 8 x 8, theirs from 60,000 of MNIST (0.95 %).
Ours: 3.06 % of 360 held-out digits (2026-11-20, two CPU cores).

Where it departs from 1998: every kernel of conv2 sees all six maps (there, a table says which); pooling averages, and
has no weights; softmax and cross-entropy in place of radial basis functions; plain tanh; the paper's momentum and
batches in place of second derivatives and single images.

The paper, but: this network, one column, images of 32 x 32 as they are (no patches, mirror images or color), and a
fixed list of rates.
"""

from ml_collections import ConfigDict

from alexnet_jax.config import network_config
from alexnet_jax.model.layer_specs import AveragePooling, Convolution, Dense, Flatten, Tanh
from experiments import paper


def get_config() -> ConfigDict:
    config = paper.get_config()
    config.name = 'lenet5'
    config.network = network_config(
        dict(
            conv1=Convolution(kernels=6, size=5, std=0.002),  # 28 x 28
            tanh1=Tanh(),
            pool1=AveragePooling(),  # 14 x 14
            conv2=Convolution(kernels=16, size=5, std=0.1),  # 10 x 10
            tanh2=Tanh(),
            pool2=AveragePooling(),  # 5 x 5
            flatten2=Flatten(),
            fc3=Dense(units=120, std=0.06),
            tanh3=Tanh(),
            fc4=Dense(units=84, std=0.1),
            tanh4=Tanh(),
            fc5=Dense(units=10, std=0.1),
        )
    )
    config.columns = 1

    config.batch_size = 32
    config.epochs = 30
    config.rate_control.schedule = ((20, 0.001), (26, 0.0001))

    config.data.source = 'digits'
    config.data.directory = 'data/digits32'
    config.data.storage = 'raw'
    config.data.image_size = 32
    config.data.crop_size = 32
    config.data.mirror = False
    config.data.color_std = 0.0
    config.evaluation.views = ('center',)
    return config
