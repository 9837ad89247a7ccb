"""The whole network on Imagenette: ten classes of ImageNet, 9,469 training images, no registration.

For an hour on one free GPU (see notebooks/imagenette.ipynb). The paper, but: ten classes, a validation set of 3,925
images, and 60 epochs with a fixed list of rates.

The paper has no such experiment. Ours: not yet run. By calculation, 60 epochs are 568,140 images of 4.14 GFLOP in
training, 2.4 PFLOP in all, 20 minutes at 2 TFLOP/s.

    python launch.py --config=experiments/imagenette.py --mode=prepare --config.data.download=True
    python launch.py --workdir=runs/imagenette --config=experiments/imagenette.py

The first command downloads imagenette2.tgz (1.6 GB) from fast.ai; without the last flag, it reads it in data/downloads.
"""

from ml_collections import ConfigDict

from experiments import paper


def get_config() -> ConfigDict:
    config = paper.get_config()
    config.name = 'imagenette'
    config.network.fc8.units = 10

    config.epochs = 60
    config.rate_control.schedule = ((40, 0.001), (52, 0.0001))

    config.data.source = 'imagenette'  # also imagenette2-320, imagenette2-160; or tfds:imagenette/full-size-v2
    config.data.directory = 'data/imagenette'
    return config
