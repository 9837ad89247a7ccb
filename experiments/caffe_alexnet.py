"""AlexNet as Caffe has it: BVLC's bvlc_alexnet, whose weights most of the work of 2014 began with.

Reproduces: models/bvlc_alexnet of BVLC/caffe: 57.1 % top-1 and 80.2 % top-5 accuracy on ILSVRC-2012's validation
images, center patch; 42.9 % and 19.8 % error. Its weights are read in by --mode=import: docs/weights.md.

Ours: not yet run on ImageNet.

The paper, but: patches of 227 x 227, so that conv1's windows end at the edge; normalization with k = 1 and an alpha
that is divided by its 5 channels, over the channels of both columns; biases of 0.1 in place of 1, and a standard
deviation of 0.005 in fc6 and fc7; batches of 256, a rate that is divided by ten every 100,000 of 450,000 iterations,
biases that learn at twice the rate and do not decay; no color noise.

Two things are not Caffe's: dropout is the paper's, where Caffe scales up what is kept in training (after training the
same, with kernels twice as large in fc7 and fc8); and images are cut to their central square, where Caffe's were
warped.
"""

from ml_collections import ConfigDict

from alexnet_jax.config import network_config
from alexnet_jax.model.figure_2 import figure_2
from alexnet_jax.model.layer_specs import LocalResponseNormalization
from experiments import paper

ITERATIONS_PER_EPOCH = 1_281_167 / 256


def get_config() -> ConfigDict:
    config = paper.get_config()
    config.name = 'caffe_alexnet'
    normalization = LocalResponseNormalization(k=1.0, n=5, alpha=0.0001 / 5, beta=0.75, across_columns=True)
    layers = figure_2(classes=1000) | {'norm1': normalization, 'norm2': normalization}
    config.network = network_config(layers)
    for name in ('conv2', 'conv4', 'conv5', 'fc6', 'fc7'):
        config.network[name].bias = 0.1
    config.network.fc6.std = config.network.fc7.std = 0.005
    for name in ('conv1', 'conv2', 'conv3', 'conv4', 'conv5'):
        config.network[name].rounding = 'down'  # Caffe rounds up in pooling alone; at 227 nothing is left over

    config.batch_size = 256
    config.epochs = round(450_000 / ITERATIONS_PER_EPOCH)
    drops = ((round(step * 100_000 / ITERATIONS_PER_EPOCH), 0.1**step * 0.01) for step in range(1, 5))
    config.rate_control.schedule = tuple(drops)
    config.rate_control.layer_factors = ((0, '*.bias', 2.0),)
    config.decay_biases = False
    config.data.crop_size = 227
    config.data.color_std = 0.0
    return config
