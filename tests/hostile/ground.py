"""What a hostile input is, where it has its files, and the modes, called as launch.py calls them."""

import dataclasses
import functools
import io
import json
import pathlib
import re
import shutil
import zlib
from collections.abc import Callable
from typing import Any

from configs import typed
from made_imagenet import picture, write_imagenet2010, write_imagenet2012
from ml_collections import ConfigDict
from rich.console import Console

SIZE, CROP = 16, 12
CLASSES = ('ant', 'bee', 'cat')


@dataclasses.dataclass(frozen=True)
class Case:
    """A hostile input.

    Attributes:
      name: unique, in plain letters.
      mode: one of `MODES`, or 'command' for a whole command line.
      make: given a `Place`, writes the files there and returns what the mode takes.
      says: words that the message must hold, `{place}` standing for the case's directory; None where the input is
        in fact fine and must work.
      either: whether it may just as well work, as with a flipped bit somewhere.
      real: of a command: whether it is given to an interpreter of its own.
      after: given the place after the run, returns what is wrong there, or None.
    """

    name: str
    mode: str
    make: Callable[['Place'], dict[str, Any]] | None
    says: tuple[str, ...] | None
    either: bool = False
    real: bool = False
    after: Callable[['Place'], str | None] | None = None

    @property
    def file_name(self):
        return f'{re.sub("[^a-z0-9]+", "-", self.name.lower())[:60]}-{zlib.crc32(self.name.encode()):08x}'


class Place:
    """Where a case has its files.

    Attributes:
      path: all of it; nothing may change in it but in these two:
      data: of the prepared data set.
      run: the workdir.
      source, images, outside: for a source's files, for pictures, and for what must be left alone.
    """

    def __init__(self, path, base):
        self.path, self.base = pathlib.Path(path), pathlib.Path(base)
        self.remove()
        for name in ('here', 'outside', 'source', 'images'):
            (self.path / name).mkdir(parents=True)
        self.data, self.run = self.path / 'data', self.path / 'run'
        self.source, self.images, self.outside = (self.path / name for name in ('source', 'images', 'outside'))
        (self.outside / 'secret.txt').write_text('years of work')

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)

    def copy_data(self, kind='jpeg'):
        """A whole prepared data set, to be damaged."""
        shutil.copytree(self.base / kind, self.data)
        return self.data

    def copy_run(self):
        """A whole run, to be damaged; its data set is where `copy_data` puts it, else the base's."""
        shutil.copytree(self.base / 'run', self.run)
        if self.data.exists():
            self.edit(self.run / 'config.json', lambda fields: fields['data'].update(directory=str(self.data)))
        return self.run

    def folder(self):
        """A source of a few good pictures, in two classes."""
        for name in ('train/a/1.png', 'train/b/1.png', 'validation/a/1.png', 'validation/b/1.png'):
            path = self.source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(GOOD)
        return self.source

    def config(self, **fields):
        """The base's config; `__` in a name stands for a dot."""
        config = small_config()
        config.data.directory = str(self.data if self.data.exists() else self.base / 'jpeg')
        config.update_from_flattened_dict({name.replace('__', '.'): value for name, value in fields.items()})
        return config

    def prepare_config(self, source='folder', **fields):
        config = self.config(data__source=source, data__source_directory=str(self.source), **fields)
        config.data.directory = str(self.data)
        return config

    @staticmethod
    def edit(path, change):
        """Changes a JSON file."""
        fields = json.loads(path.read_text())
        found = change(fields)
        path.write_text(json.dumps(fields if not isinstance(found, dict | list) else found))


def small_config():
    from experiments import paper

    config = paper.get_config()
    config.network = ConfigDict(
        {
            'conv1': {'type': 'convolution', 'kernels': 4, 'size': 3, 'stride': 2, 'std': 0.02},
            'relu1': {'type': 'relu'},
            'pool1': {'type': 'max_pooling', 'size': 3, 'stride': 2},
            'flatten1': {'type': 'flatten'},
            'exchange7': {'type': 'exchange'},
            'fc7': {'type': 'dense', 'units': 8, 'std': 0.1},
            'relu7': {'type': 'relu'},
            'fc8': {'type': 'dense', 'units': len(CLASSES), 'std': 0.1},
        },
        sort_keys=False,
    )
    for name in config.network:
        config.network[name] = ConfigDict(dict(config.network[name]), sort_keys=False)
    config.update_from_flattened_dict(
        {
            'name': 'small',
            'batch_size': 4,
            'epochs': 2,
            'data.source': 'folder',
            'data.image_size': SIZE,
            'data.crop_size': CROP,
            'data.threads': 2,
            'evaluation.views': ('center',),
            'mesh.data': 1,
            'mesh.column': 1,
        }
    )
    return config


def import_everything():
    """What the modes import, so that forked processes have it."""
    import PIL.Image
    import scipy.io  # noqa: F401

    PIL.Image.init()


def make_base(base):
    """Prepared data sets, and a run with two checkpoints."""
    from alexnet_jax.commands.train import train
    from alexnet_jax.runs.build import prepare_data
    from alexnet_jax.runtime.devices import choose_platform

    choose_platform()
    for split, count in (('train', 4), ('validation', 2)):
        for label, name in enumerate(CLASSES):
            (base / 'source' / split / name).mkdir(parents=True)
            for number in range(count):
                content = picture(label, number, SIZE, 'PNG')
                (base / 'source' / split / name / f'{number}.png').write_bytes(content)
    for kind in ('jpeg', 'raw'):
        config = small_config()
        config.data.update(storage=kind, directory=str(base / kind), source_directory=str(base / 'source'))
        config.data.images_per_shard = 6
        prepare_data(typed(config).data, console())
    write_imagenet2012(base / 'imagenet2012', classes=2, per_class=2, validation=2, size=SIZE)
    write_imagenet2010(base / 'imagenet2010', per_class=3, validation=6, test=2, size=SIZE)
    config = small_config()
    config.data.directory = str(base / 'jpeg')
    train(typed(config), str(base / 'run'), console())
    (base / 'done').touch()


def console():
    """One that is as strict about characters as standard output is."""
    return Console(file=io.TextIOWrapper(io.BytesIO(), 'utf-8', errors='strict', write_through=True), width=120)


def text_of(console):
    return console.file.buffer.getvalue().decode()


def reuse_programs():
    """Lets cases share compiled programs, and takes the devices as they are."""
    import jax

    import alexnet_jax.commands.train as train_module
    from alexnet_jax.commands import features
    from alexnet_jax.commands import flags as arguments
    from alexnet_jax.runs import trained
    from alexnet_jax.runs.build import state_shapes
    from alexnet_jax.runtime import devices
    from alexnet_jax.training.step import state_sharding

    devices.choose_platform()
    arguments.choose_platform = lambda **_: 'on the CPU'
    trained.make_prediction_step = functools.lru_cache(trained.make_prediction_step)
    features.make_feature_step = functools.lru_cache(features.make_feature_step)
    first_state, training_step, programs = train_module.first_state, train_module.training_step, {}

    def kept(experiment, name, make):
        config = experiment.config
        key = repr(
            (name, experiment.config.network, experiment.mesh, config.seed, config.batch_size, config.data.crop_size)
        )
        if key not in programs:
            programs[key] = make(experiment)
        return programs[key]

    def on_host(experiment):
        return jax.device_get(first_state(experiment)), state_sharding(state_shapes(experiment), experiment.mesh)

    train_module.first_state = lambda experiment: jax.device_put(*kept(experiment, 'state', on_host))
    train_module.training_step = lambda experiment: kept(experiment, 'step', training_step)


# --- the modes, as launch.py calls them ---


def launched(mode, place, console, config, call, ensemble=False):
    from alexnet_jax.commands import flags as arguments
    from alexnet_jax.runs.workdir import read_config

    if config is None and not ensemble:
        config = read_config(place.run)
    arguments.check(['launch.py'], config, str(place.run), mode, ensemble)
    with arguments.enough_memory():
        arguments.start(config)
        call(config, str(place.run))


def prepare(place, console, config):
    from alexnet_jax.runs.build import check, prepare_data

    def call(config, workdir):
        check(config)
        prepare_data(typed(config).data, console)

    launched('prepare', place, console, config, call)


def train(place, console, config=None, allow=()):
    from alexnet_jax.commands import train

    launched('train', place, console, config, lambda config, run: train.train(config, run, console, allow))


def evaluate(place, console, config=None, which='newest', split='validation'):
    from alexnet_jax.commands.evaluate import evaluate_run

    launched(
        'eval', place, console, config, lambda config, run: evaluate_run(typed(config), run, which, split, console)
    )


def ensemble(place, console, workdirs, config=None, which='newest'):
    from alexnet_jax.commands.evaluate import evaluate_ensemble

    def call(config, run):
        evaluate_ensemble(typed(config), workdirs, run, which, 'validation', console)

    launched('eval', place, console, config, call, ensemble=True)


def predict(place, console, images, config=None, which='newest', as_json=True):
    from alexnet_jax.commands import predict

    def call(config, run):
        predict.predict(config, run, which, images, as_json, console)

    launched('predict', place, console, config, call)


def features(place, console, images=(), config=None, which='newest', layer='fc7', split=None):
    from alexnet_jax.commands.features import extract

    def call(config, run):
        extract(typed(config), run, which, layer, split, images, console)

    launched('features', place, console, config, call)


def neighbors(place, console, config=None, layer='fc7'):
    from alexnet_jax.commands.neighbors import retrieve

    launched(
        'neighbors', place, console, config, lambda config, run: retrieve(typed(config), run, 'newest', layer, console)
    )


def figures(place, console, config=None):
    from alexnet_jax.commands.figures import draw_figures

    launched('figures', place, console, config, lambda config, run: draw_figures(typed(config), run, 'newest', console))


MODES = {
    'prepare': prepare,
    'train': train,
    'eval': evaluate,
    'ensemble': ensemble,
    'predict': predict,
    'features': features,
    'neighbors': neighbors,
    'figures': figures,
}
GOOD = picture(0, 0, SIZE, 'PNG')
_CASES: list[Case] = []


def case(name, mode, make, says=(), **more):
    """Lists a case; `says` may be a single word, and None for what must work."""
    says = (says,) if isinstance(says, str) else says
    assert name not in {one.name for one in _CASES}, name
    _CASES.append(Case(name, mode, make, says, **more))
