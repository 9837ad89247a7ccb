"""The modes, as launch.py calls them, and the data sets and the run that cases take copies of."""

import functools
import io

from configs import typed
from made_imagenet import picture, write_imagenet2010, write_imagenet2012
from rich.console import Console

from alexnet_jax.runtime.errors import UserError
from hostile.ground import CLASSES, SIZE, small_config


def import_everything():
    """What the modes import, so that forked processes have it."""
    import matplotlib.font_manager  # noqa: F401
    import PIL.Image
    import pyarrow.parquet  # noqa: F401
    import scipy.io  # noqa: F401

    PIL.Image.init()


def make_base(base):
    """Prepared data sets, and a run with two checkpoints."""
    from alexnet_jax.commands.train import train
    from alexnet_jax.data.opening import prepare_data
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
    from alexnet_jax.commands import features, start
    from alexnet_jax.runs import trained
    from alexnet_jax.runtime import devices
    from alexnet_jax.training.step import state_sharding

    devices.choose_platform()
    start.choose_platform = lambda **_: 'on the CPU'
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
        return jax.device_get(first_state(experiment)), state_sharding(experiment.shapes, experiment.mesh)

    train_module.first_state = lambda experiment: jax.device_put(*kept(experiment, 'state', on_host))
    train_module.training_step = lambda experiment: kept(experiment, 'step', training_step)


def launched(mode, place, config, call, ensemble=False, images=()):
    """Calls call(config, workdir) as launch.py does."""
    from alexnet_jax.commands import checks
    from alexnet_jax.commands.start import enough_memory, start
    from alexnet_jax.runs.workdir import read_config

    if config is None and not ensemble:
        config = read_config(place.run)
    workdir = str(place.run)
    checks.check(['launch.py'], config, workdir, mode, ensemble, images)
    config = config and typed(config)
    with enough_memory():
        start(config)
        call(config, workdir)


def prepare(place, console, config):
    from alexnet_jax.data.opening import prepare_data

    launched('prepare', place, config, lambda config, run: prepare_data(config.data, console))


def train(place, console, config=None, allow=()):
    from alexnet_jax.commands import train

    launched('train', place, config, lambda config, run: train.train(config, run, console, allow))


def evaluate(place, console, config=None, which='newest', split='validation'):
    from alexnet_jax.commands.evaluate import evaluate_run

    launched('eval', place, config, lambda config, run: evaluate_run(config, run, which, split, console))


def ensemble(place, console, workdirs, config=None, which='newest'):
    from alexnet_jax.commands.evaluate import evaluate_ensemble

    def call(config, run):
        evaluate_ensemble(config, workdirs, run, which, 'validation', console)

    launched('eval', place, config, call, ensemble=True)


def predict(place, console, images, config=None, which='newest', as_json=True):
    from alexnet_jax.commands.predict import predict

    def call(config, run):
        predict(config, run, which, images, as_json, console)

    launched('predict', place, config, call, images=images)


def features(place, console, images=(), config=None, which='newest', layer='fc7', split=None):
    from alexnet_jax.commands.features import extract

    def call(config, run):
        extract(config, run, which, layer, split, images, console)

    launched('features', place, config, call, images=images)


def neighbors(place, console, config=None, layer='fc7'):
    from alexnet_jax.commands.neighbors import retrieve

    launched('neighbors', place, config, lambda config, run: retrieve(config, run, 'newest', layer, console))


def figures(place, console, config=None):
    from alexnet_jax.commands.figures import draw_figures

    launched('figures', place, config, lambda config, run: draw_figures(config, run, 'newest', console))


def import_weights(place, console, **given):
    from alexnet_jax.commands.import_weights import import_weights

    try:
        import_weights(given.pop('weights'), str(place.run), console, **given)
    except UserError:
        assert not place.run.exists(), 'nothing may be written'
        raise


MODES = {
    'import': import_weights,
    'prepare': prepare,
    'train': train,
    'eval': evaluate,
    'ensemble': ensemble,
    'predict': predict,
    'features': features,
    'neighbors': neighbors,
    'figures': figures,
}
