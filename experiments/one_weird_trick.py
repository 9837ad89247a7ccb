"""The single tower of 2014, which torchvision ships as "alexnet": what most people who say AlexNet mean today.

Krizhevsky, "One weird trick for parallelizing convolutional neural networks" (2014): one column, with fewer kernels in
conv1, conv2 and conv4. 61,100,840 parameters, as in torchvision.models.alexnet.

Ours: not yet run on ImageNet. torchvision's own pre-trained one has 56.52 % top-1 accuracy, which
is 43.48 % error, on one patch of ILSVRC-2012's validation images.

The paper, but: one column of 64, 192, 384, 256 and 256 kernels; no normalization, as in torchvision (the code of 2014,
cuda-convnet2, has it after conv1 and conv2); dropout before fc6 and fc7 rather than after them, again as in
torchvision. Dropout, initialization and all of learning stay the paper's.

conv1 has 55 x 55 outputs everywhere, from different windows. torchvision pads 2 all around and leaves out what is left
over: 1 + floor((224 + 4 - 11) / 4), as here. cuda-convnet2 pads nothing, and its last window runs past the far edge:
1 + ceil((224 - 11) / 4); one_weird_trick.py:cuda_convnet2 has that.

torchvision's own weights are read in by --mode=import: docs/weights.md.
"""

from ml_collections import ConfigDict

from alexnet_jax.config import network_config
from alexnet_jax.model.layer_specs import Convolution, Dense, Dropout, Flatten, MaxPooling, ReLU
from alexnet_jax.runtime.errors import UserError
from experiments import paper


def get_config(variant: str = '') -> ConfigDict:
    if variant not in ('', 'cuda_convnet2'):
        raise UserError(f'experiments/one_weird_trick.py has no variant {variant!r}; it has: cuda_convnet2.')
    config = paper.get_config()
    config.name = f'one_weird_trick:{variant}' if variant else 'one_weird_trick'
    windows = {} if variant else {'pad': 2, 'rounding': 'down'}
    config.network = network_config(
        dict(
            conv1=Convolution(kernels=64, size=11, stride=4, **windows),  # 55 x 55
            relu1=ReLU(),
            pool1=MaxPooling(),  # 27 x 27
            conv2=Convolution(kernels=192, size=5, pad=2, bias=1.0),
            relu2=ReLU(),
            pool2=MaxPooling(),  # 13 x 13
            conv3=Convolution(kernels=384, size=3, pad=1, std=0.03),
            relu3=ReLU(),
            conv4=Convolution(kernels=256, size=3, pad=1, std=0.03, bias=1.0),
            relu4=ReLU(),
            conv5=Convolution(kernels=256, size=3, pad=1, std=0.03, bias=1.0),
            relu5=ReLU(),
            pool5=MaxPooling(),  # 6 x 6
            flatten5=Flatten(),
            drop6=Dropout(),
            fc6=Dense(units=4096, bias=1.0),
            relu6=ReLU(),
            drop7=Dropout(),
            fc7=Dense(units=4096, bias=1.0),
            relu7=ReLU(),
            fc8=Dense(units=1000),
        )
    )
    config.columns = 1
    return config
