"""The network with six convolutions: trained on a large release of ImageNet, then fine-tuned on ILSVRC-2012.

Reproduces: Table 2, "1 CNN*": 39.0 % top-1 and 16.6 % top-5 error on the validation set of ILSVRC-2012 (the code's log:
38.99 % and 16.62 %); and section 6, Fall 2009: 67.4 % and 40.9 %.
Ours: not yet run on ImageNet.

six_convolutions.py:fall2009_half  section 6's test on 10,184 classes: half of the images to train, half to test
six_convolutions.py:fall2009       the first of the three stages: 10,184 classes, nearly all of the images; begins with
                                   conv1 to conv5 of a network trained on ILSVRC-2012
six_convolutions.py:fall2011       22 thousand classes; begins with the convolutions of the run before
six_convolutions.py                ILSVRC-2012; begins with all of the run before but the last layer
six_convolutions.py:from_fall2009  ILSVRC-2012, without Fall 2011: begins with all of runs/fall2009 but the last layer.
                                   Not in the paper; its log (146-2012-2009) has 39.10 % and 16.88 %

    python launch.py --workdir=runs/fall2009 --config=experiments/six_convolutions.py:fall2009
    python launch.py --workdir=runs/fall2011 --config=experiments/six_convolutions.py:fall2011
    python launch.py --workdir=runs/six --config=experiments/six_convolutions.py

The releases of 2009 and 2011 are read as folders of images (docs/data.md), train/ and validation/: for fall2009_half
the other half of the images is in validation/; for the other stages a few are, as without it every tenth is held out.

Each stage names the run that it begins with in config.pretrained.workdir. Schedules are those of the logs in the
authors' 2012 code (its network 146); biases learn and decay as in paper.py. Those logs count epochs from 1, and within
an epoch the data files of 1,024 images each: "2.1600" is after 1.18 passes over Fall 2009. Where a log
has the epoch alone, as 22, here 22 passes are made, though it may have been up to one less. No log holds the 67.4 % and
40.9 %. The schedule of fall2009_half is that of a network with a branch of low resolution besides (141-2009-half),
until its first end; the code's network for Fall 2011 has 21,843 outputs, where the release has 21,841 classes.
"""

from ml_collections import ConfigDict

from alexnet_jax.config import network_config
from alexnet_jax.model.layer_specs import Convolution, Dense, Exchange, Layer, ReLU
from alexnet_jax.runtime.errors import UserError
from experiments import paper

STAGES = ('fall2009_half', 'fall2009', 'fall2011', 'from_fall2009')
_FILE = 1024  # images in a data file of the 2012 code
_FALL_2009 = 8_900_000  # images, about
_ILSVRC_2012 = 1_281_167


def passes(epoch: int, file: int, images: int) -> float:
    """Passes over the training set when a log of the 2012 code says 'EPOCH.FILE'."""
    return epoch - 1 + file * _FILE / images


def get_config(stage: str = '') -> ConfigDict:
    if stage not in ('', *STAGES):
        raise UserError(f'experiments/six_convolutions.py has no variant {stage!r}; it has: {", ".join(STAGES)}.')
    config = paper.get_config()
    config.name = f'six_convolutions:{stage}' if stage else 'six_convolutions'
    config.network = with_sixth_convolution(config.network)

    if stage.startswith('fall'):  # images in folders named by WordNet ids
        config.network.fc8.units = 21841 if stage == 'fall2011' else 10184
        config.data.source, config.data.source_directory = 'folder', f'data/downloads/{stage}'
        config.data.directory = f'data/{stage}'
    match stage:
        case 'fall2009_half':
            at = [
                passes(*where, _FALL_2009 // 2) for where in ((6, 2600), (13, 3361), (18, 2396), (21, 1949), (25, 3718))
            ]
            config.epochs = 28  # the log: 28.3271
            config.rate_control.layer_rates = (
                (at[0], '*', 0.001),
                (at[1], '*', 0.0001),
                (at[2], 'conv[12]', 0.00001),
                (at[3], 'conv[12]', 0.0),
                (at[4], 'conv[3-6]', 0.00001),
                (at[4], 'fc*', 0.00001),
            )
            config.data.color_epochs = round(at[2])
        case 'fall2009':
            config.pretrained.workdir, config.pretrained.new_layers = 'runs/paper', ('conv6', 'fc*')
            config.epochs = 6  # the log: 6.6491, after 5.75 passes
            config.rate_control.layer_rates = ((0, 'conv[1-5]', 0.001), (passes(2, 1600, _FALL_2009), '*', 0.001))
        case 'fall2011':
            config.network = with_bottleneck(config.network)
            config.pretrained.workdir, config.pretrained.new_layers = 'runs/fall2009', ('fc*', 'bottleneck')
            config.epochs = 8
            config.rate_control.schedule = ((6, 0.001),)
            config.rate_control.layer_rates = ((0, 'conv*', 0.001),)
        case 'from_fall2009':
            config.pretrained.workdir, config.pretrained.new_layers = 'runs/fall2009', ('fc8',)
            config.epochs = 52
            config.learning_rate = 0.001
            config.rate_control.schedule = ((22, 0.0001), (42, 0.00001))
            config.rate_control.layer_factors = ((0, 'conv1', 0.1), (3, 'conv1', 0.01), (4, 'conv1', 0.0))
            config.data.color_epochs = 38
        case '':
            config.pretrained.workdir, config.pretrained.new_layers = 'runs/fall2011', ('fc8',)
            config.epochs = 54
            config.learning_rate = 0.001
            config.rate_control.schedule = ((22, 0.0001), (42, 0.00001))
            config.rate_control.layer_factors = (  # of the current learning rate
                (0, 'conv1', 0.1),
                (passes(1, 300, _ILSVRC_2012), 'fc8', 10.0),  # once the new layer has warmed for 300 data files
                (5, 'conv1', 0.01),
                (7, 'conv1', 0.0),
                (9, 'fc8', 1.0),
            )
            config.data.color_epochs = 38
    return config


def with_sixth_convolution(network: ConfigDict) -> ConfigDict:
    """The network with 256 kernels of 3 x 3 x 256 over the last pooling layer, which see both columns."""
    kernels = network.conv5.kernels
    sixth = {
        'exchange5': Exchange(),
        'conv6': Convolution(kernels=kernels, size=3, pad=1, std=0.03, bias=1.0),
        'relu_conv6': ReLU(),
    }
    return _inserted(network, 'pool5', sixth)


def with_bottleneck(network: ConfigDict) -> ConfigDict:
    """The network with 2,048 linear units before the last layer, half in each column, all of which see both columns."""
    return _inserted(network, 'exchange8', {'bottleneck': Dense(units=2048), 'exchange9': Exchange()})


def _inserted(network: ConfigDict, after: str, layers: dict[str, Layer]) -> ConfigDict:
    result = ConfigDict(sort_keys=False)
    for name, line in network.to_dict().items():
        result[name] = ConfigDict(line, sort_keys=False)
        if name == after:
            result.update(network_config(layers))
    return result
