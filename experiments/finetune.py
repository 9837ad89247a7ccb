"""Fine-tuning on your own pictures: any run of ours, with a new last layer for your classes.

    python launch.py --config=experiments/finetune.py:runs/paper --mode=prepare \\
        --config.data.source_directory=my_pictures --config.network.fc8.units=5
    python launch.py --workdir=runs/mine --config=experiments/finetune.py:runs/paper \\
        --config.data.source_directory=my_pictures --config.network.fc8.units=5

finetune.py:DIRECTORY takes the network of the run in DIRECTORY and begins with the parameters of its best checkpoint.
Pictures lie in my_pictures/CLASS/*.jpg; every tenth is held out (see data/sources/folder.py for other ways).
The mean image that is subtracted stays the run's, as its layers expect it; --config.pretrained.mean=own takes that of
your pictures. The rates are those in the authors' log of fine-tuning on ILSVRC-2012, in its second phase: 0.001, conv1
a tenth of it, the new layer ten times; the paper gives none. Here they drop when the validation error stops improving.
To train nothing but the new layer, freeze the rest:

    --config.rate_control.layer_rates="((0, 'conv*', 0.0), (0, 'fc6', 0.0), (0, 'fc7', 0.0))"

Reproduces nothing: the paper's fine-tuning on ILSVRC-2012 is experiments/six_convolutions.py.
"""

from ml_collections import ConfigDict

from alexnet_jax.config import config_dict, default_config
from alexnet_jax.runs.workdir import read_config
from alexnet_jax.runtime.errors import UserError


def get_config(run: str = '') -> ConfigDict:
    if not run:
        raise UserError(
            'experiments/finetune.py needs a run to begin with, as in --config=experiments/finetune.py:runs/paper.'
        )
    config = config_dict(read_config(run).fields())
    config.name = f'finetune:{run}'
    first, last = (list(_with_parameters(config.network))[place] for place in (0, -1))

    config.pretrained.workdir, config.pretrained.checkpoint, config.pretrained.mean = run, 'best', 'run'
    config.pretrained.new_layers = (last,)
    config.epochs = 60
    config.learning_rate = 0.001
    config.rate_control = default_config().rate_control
    config.rate_control.drops = 2
    config.rate_control.layer_factors = ((0, first, 0.1), (0, last, 10.0))
    config.data.source, config.data.source_directory = 'folder', 'data/downloads/pictures'
    config.data.directory = 'data/pictures'
    config.data.color_epochs = 0
    return config


def _with_parameters(network: ConfigDict) -> list[str]:
    return [name for name, line in network.items() if 'std' in line]
