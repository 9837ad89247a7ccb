"""CaffeNet, Caffe's other AlexNet: bvlc_reference_caffenet, which pools before it normalizes.

Reproduces: models/bvlc_reference_caffenet of BVLC/caffe: 57.4 % top-1 and 80.4 % top-5 accuracy on ILSVRC-2012's
validation images, center patch. Its weights are read in by --mode=import: docs/weights.md.

Ours: not yet run on ImageNet.

experiments/caffe_alexnet.py, but: normalization after pooling, in conv1 and conv2; biases of 1, as in the paper.
"""

from ml_collections import ConfigDict

from alexnet_jax.config import config_dict
from experiments import caffe_alexnet


def get_config() -> ConfigDict:
    config = caffe_alexnet.get_config()
    config.name = 'caffenet'
    names = list(config.network)
    for number in ('1', '2'):
        norm, pool = names.index(f'norm{number}'), names.index(f'pool{number}')
        names[norm], names[pool] = names[pool], names[norm]
    config.network = config_dict({name: config.network[name] for name in names})
    for name in ('conv2', 'conv4', 'conv5', 'fc6', 'fc7'):
        config.network[name].bias = 1.0
    return config
