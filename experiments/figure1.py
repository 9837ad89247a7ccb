"""Figure 1: a four-layer network reaches 25 % training error sooner with ReLUs than with tanh.

    python launch.py --mode=figure1 --workdir=runs/figure1 --config=experiments/figure1.py
    python launch.py --mode=figure1 --workdir=runs/figure1_cifar10 --config=experiments/figure1.py:cifar10
    python launch.py --mode=figure1 --workdir=runs/figure1_half --config=experiments/figure1.py:half
    python launch.py --workdir=runs/tanh --config=experiments/figure1.py:tanh

The first is on digits, the second on the paper's data, the third on these with half of the kernels; the last trains one
of the networks alone. The paper's data, CIFAR-10, are first prepared: --config=experiments/cifar10.py --mode=prepare
--config.data.download=True.

Reproduces: "A four-layer convolutional neural network with ReLUs (solid line) reaches a 25% training error rate on
CIFAR-10 six times faster than an equivalent network with tanh neurons (dashed line). The learning rates for each
network were chosen independently to make training as fast as possible. No regularization of any kind was employed."

Ours: not yet run on CIFAR-10. On digits it is the other way round: tanh needs 0.29 epochs, at the rate 0.03, and ReLUs
0.35, at 0.003; at higher rates they do not learn (one seed; 2026-11-30, two CPU cores; minutes; its curves are in
notebooks/figure1_digits.json). On 2026-11-20, with an earlier version, ReLUs needed 0.64.

The paper does not specify the network. This is that of experiments/cifar10.py without normalization, on whole images;
digits come as 16 x 16; figure1.py:half has half of its kernels, for machines without a GPU. No patches, mirror images,
color noise, dropout or weight decay. One rate throughout, the fastest of several for each network.
"""

from ml_collections import ConfigDict

from alexnet_jax.config import network_config
from alexnet_jax.model.layer_specs import ReLU, Tanh
from alexnet_jax.runtime.errors import UserError
from experiments import cifar10

NONLINEARITIES = {'relu': ReLU, 'tanh': Tanh}
VARIANTS = ('relu', 'tanh', 'cifar10', 'cifar10_relu', 'cifar10_tanh', 'half', 'half_relu', 'half_tanh')


def get_config(variant: str = 'relu') -> ConfigDict:
    if variant not in VARIANTS:
        raise UserError(f'experiments/figure1.py has no variant {variant!r}; it has: {", ".join(VARIANTS)}.')
    variant = f'{variant}_relu' if variant in ('cifar10', 'half') else variant
    config = cifar10.get_config('no_normalization')
    config.name = f'figure1:{variant}'
    config.network = network_config(cifar10.four_layers(NONLINEARITIES[variant.split('_')[-1]], normalization=False))
    config.weight_decay = 0.0
    config.layer_decays = ()
    config.learning_rate = 0.003
    config.rate_control.schedule = ()
    config.rate_control.layer_rates = ()
    config.rate_control.patience = 1_000_000  # epochs: never lowered
    config.data.crop_size = config.data.image_size
    config.data.mirror = False
    config.evaluation.views = ('center',)
    config.rate_control.end_at_training_error = 0.24  # where 25 % has been passed
    config.epochs = 40
    config.log_every_steps = 39  # a tenth of an epoch
    if variant.startswith('half'):
        _halve(config)
    elif not variant.startswith('cifar10'):
        _for_digits(config)
    return config


def _halve(config: ConfigDict) -> None:
    """Half the kernels, for machines without a GPU; weights have the same variance of a neuron's input."""
    for name in ('conv1', 'conv2', 'local3', 'local4'):
        config.network[name].kernels //= 2
    for name in ('conv2', 'local3', 'local4', 'fc10'):
        config.network[name].std = round(config.network[name].std * 2**0.5, 4)


def _for_digits(config: ConfigDict) -> None:
    """Digits are learned fast: small batches, many points of the curve in an epoch, few epochs."""
    config.batch_size = 16
    config.epochs = 4
    config.log_every_steps = 9  # a tenth of an epoch
    config.data.source = 'digits'
    config.data.directory = 'data/digits16'
    config.data.image_size = config.data.crop_size = 16


if __name__ == '__main__':  # python -m experiments.figure1 --workdir=... [--data=cifar10], as in earlier versions
    import argparse
    import os
    import shlex
    import sys

    parser = argparse.ArgumentParser(prog='python -m experiments.figure1')
    parser.add_argument('--workdir', required=True)
    parser.add_argument('--data', choices=('digits', 'cifar10'), default='digits')
    given = parser.parse_args()
    config_file = f'experiments/figure1.py{":cifar10" if given.data == "cifar10" else ""}'
    command = ['launch.py', '--mode=figure1', f'--workdir={given.workdir}', f'--config={config_file}']
    print(f'note: this is now python {shlex.join(command)}', file=sys.stderr)
    os.execv(sys.executable, [sys.executable, *command])
