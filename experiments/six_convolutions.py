"""The network with six convolutions: trained on a large release of ImageNet, then fine-tuned on ILSVRC-2012.

Reproduces: Table 2, "1 CNN*": 39.0 % top-1 and 16.6 % top-5 error on the validation set of ILSVRC-2012 (the code's log:
38.99 % and 16.62 %); and section 6, Fall 2009: 67.4 % and 40.9 %.
Ours: not yet run on ImageNet.

six_convolutions.py:fall2009    10,184 classes, from scratch
six_convolutions.py:fall2011    22 thousand classes, begins with the convolutions of the run before
six_convolutions.py             ILSVRC-2012, begins with all of the run before but the last layer

    python launch.py --workdir=runs/fall2009 --config=experiments/six_convolutions.py:fall2009
    python launch.py --workdir=runs/fall2011 --config=experiments/six_convolutions.py:fall2011
    python launch.py --workdir=runs/six --config=experiments/six_convolutions.py

Each stage names the run that it begins with in config.pretrained.workdir. Schedules are those of the logs in the
authors' 2012 code (its network 146); biases learn and decay as in paper.py. Its run on Fall 2009 began with the first
five convolutions of a network 145 trained on ILSVRC-2012; for that set config.pretrained as the other stages do.
"""

from ml_collections import ConfigDict

from alexnet_jax.config import network_config
from alexnet_jax.model.layer_specs import Convolution, Exchange, ReLU
from alexnet_jax.runtime.errors import UserError
from experiments import paper

STAGES = ('fall2009', 'fall2011')


def get_config(stage: str = '') -> ConfigDict:
    if stage not in ('', *STAGES):
        raise UserError(f'experiments/six_convolutions.py has no variant {stage!r}; it has: {", ".join(STAGES)}.')
    config = paper.get_config()
    config.name = f'six_convolutions:{stage}' if stage else 'six_convolutions'
    config.network = with_sixth_convolution(config.network)

    if stage:  # section 6: half of the images for training, half for testing, in folders named by WordNet ids
        config.network.fc8.units = {'fall2009': 10184, 'fall2011': 21841}[stage]
        config.data.source, config.data.source_directory = 'folder', f'data/downloads/{stage}'
        config.data.directory = f'data/{stage}'
    match stage:
        case 'fall2009':
            config.epochs = 7
            config.rate_control.schedule = ((2, 0.001),)
        case 'fall2011':
            config.pretrained.workdir, config.pretrained.new_layers = 'runs/fall2009', ('fc*',)
            config.epochs = 8
            config.rate_control.schedule = ((6, 0.001),)
            config.rate_control.layer_rates = ((0, 'conv*', 0.001),)
        case '':
            config.pretrained.workdir, config.pretrained.new_layers = 'runs/fall2011', ('fc8',)
            config.epochs = 54
            config.learning_rate = 0.001
            config.rate_control.schedule = ((22, 0.0001), (42, 0.00001))
            config.rate_control.layer_factors = (  # of the current learning rate
                (0, 'conv1', 0.1),
                (300 * 128 / 1281167, 'fc8', 10.0),  # once the new layer has warmed for 300 batches
                (5, 'conv1', 0.01),
                (7, 'conv1', 0.0),
                (9, 'fc8', 1.0),
            )
            config.data.color_epochs = 38
    return config


def with_sixth_convolution(network: ConfigDict) -> ConfigDict:
    """The network with 256 kernels of 3 x 3 x 256 over the last pooling layer, which see both columns."""
    lines = network.to_dict()
    sixth = {
        'exchange5': Exchange(),
        'conv6': Convolution(kernels=lines['conv5']['kernels'], size=3, pad=1, std=0.03, bias=1.0),
        'relu_conv6': ReLU(),
    }
    result = ConfigDict(sort_keys=False)
    for name, line in lines.items():
        result[name] = ConfigDict(line, sort_keys=False)
        if name == 'pool5':
            result.update(network_config(sixth))
    return result
