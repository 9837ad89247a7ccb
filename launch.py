"""python launch.py --workdir=runs/ --config=experiments/paper.py [--mode=...] [--config.FIELD=VALUE ...]"""

import atexit
import gc
from typing import TYPE_CHECKING

from absl import app, flags
from ml_collections import config_flags

from alexnet_jax.commands import checks
from alexnet_jax.commands import flags as arguments
from alexnet_jax.runtime.errors import UserError, exit_codes
from alexnet_jax.runtime.streams import check_printed, lasting_streams, tolerate_warnings

if TYPE_CHECKING:  # --help needs neither
    from rich.console import Console

    from alexnet_jax.config import Config

MODES = {
    'train': 'train, resuming from the latest checkpoint',
    'eval': 'top-1 and top-5 error of a checkpoint, or of several runs averaged',
    'predict': 'the five most probable classes of your own images',
    'features': 'activations of a layer for a data set or for your own images, as an array on disk',
    'neighbors': 'the training images nearest in feature space, and binary codes to find them faster',
    'figures': 'figures of a run, and report.html',
    'figure1': 'epochs to 25 % training error, ReLU against tanh (Figure 1); --config=experiments/figure1.py',
    'import': 'a trained network of Caffe, torchvision, ONNX or cuda-convnet, as a workdir',
    'export': 'the trained network for PyTorch, ONNX or a model hub, or as a workdir of its own',
    'demo': 'a page on this machine: what the network makes of a photograph, layer by layer',
    'prepare': 'prepare a data set, resuming where it stopped; needs no --workdir',
    'inspect': 'tables of the network and of the exchanges between devices; with --workdir, the network drawn too',
    'profile': 'the time of a training step by layer and by kind of operation; a trace in WORKDIR/profile',
    'study': 'variants and seeds of an experiment trained one after another, then compared',
    'compare': 'runs beside each other and the paper; with --workdir, comparison.json and a figure too',
}
_PRINTING = ('predict', 'inspect', 'compare')  # modes whose result is what they print
CONFIG = config_flags.DEFINE_config_file(
    'config',
    None,
    'The experiment: a file in experiments/, or one like them; for modes that open a run, by default its own.',
)
WORKDIR = arguments.define_path('workdir', 'Where the run leaves its files.')
OUTPUT = arguments.define_path(
    'output',
    'For eval, predict, features, neighbors, figures and export: where the results go, by default the workdir.',
)
MODE = flags.DEFINE_enum('mode', 'train', list(MODES), '; '.join(f'{mode}: {what}' for mode, what in MODES.items()))
CHECKPOINT = flags.DEFINE_string('checkpoint', 'newest', 'Of an existing run: newest, best, or a step.')
SPLIT = flags.DEFINE_string('split', None, 'For eval and features: of the data set; by default validation and train.')
BESIDE = config_flags.DEFINE_config_file(
    'beside', None, 'For inspect: a second experiment, a file like --config; both networks in one table.'
)
RUNS = arguments.define_list('runs', 'For compare: directories of runs; differences are from the first.')
VARIANTS = arguments.define_list(
    'variants',
    'For study: variants of --config, as in base,no_dropout; differences are from the first.',
    ['base'],
)
SEEDS = arguments.define_list(
    'seeds', 'For study: seeds for each variant, as in 0,1,2; for figure1: of its runs.', ['0']
)
ENSEMBLE = arguments.define_list('ensemble', 'For eval: directories of runs, whose predictions are averaged.')
IMAGES = arguments.define_list('images', 'For predict and features: image files, or folders of them.')
JSON = flags.DEFINE_bool('json', False, 'For predict: print one JSON object a line and draw nothing.')
STEPS = flags.DEFINE_integer('steps', 10, 'For profile: number of steps to measure.', lower_bound=1)
TO = flags.DEFINE_enum('to', None, ['torch', 'onnx', 'safetensors', 'huggingface'], 'For export: what is written.')
HALF = flags.DEFINE_bool('half', False, 'For export to safetensors and huggingface: numbers in half precision.')
WEIGHTS = arguments.define_path('weights', 'For import: the file of a trained network.')
MEAN = arguments.define_path('mean', 'For import: the mean of its images, a file, or numbers as in 104,117,123.')
STD = flags.DEFINE_string(
    'std', None, 'For import: what images are divided by after their mean is subtracted, as in 58.4,57.1,57.4.'
)
CLASS_NAMES = arguments.define_path('class_names', 'For import: a file with the names of its classes, one per line.')
CHANNELS = flags.DEFINE_enum('channels', None, ['rgb', 'bgr'], "For import: the order of its images' channels.")
CROP_SIZE = flags.DEFINE_integer('crop_size', None, 'For import: height and width of its images.', lower_bound=1)
HOST = flags.DEFINE_string(
    'host', '127.0.0.1', 'For demo: address to listen on; by default no other machine can reach it.'
)
PORT = flags.DEFINE_integer('port', 8012, 'For demo: 0 for any that is free.', lower_bound=0, upper_bound=65535)
LAYER = flags.DEFINE_string('layer', 'fc7', 'For features and neighbors: a layer of config.network.')

ALLOW_CHANGES = arguments.define_list(
    'allow_changes', 'For train: fields that may change on resume, as in learning_rate,weight_decay.'
)
FROM_START = flags.DEFINE_bool(
    'from_start',
    False,
    'For train, study and figure1: start at step 0 where a run has been of which no checkpoint is left.',
)

COORDINATOR = flags.DEFINE_string(
    'coordinator', None, 'For several processes: HOST:PORT of process 0. Under SLURM and Open MPI none is needed.'
)
PROCESSES = flags.DEFINE_integer('processes', None, 'Number of processes.')
PROCESS = flags.DEFINE_integer('process', None, 'Number of this process, from 0.')


def main(argv: list[str]) -> None:
    """Checks the flags and calls the mode."""
    checks.check(argv, CONFIG.value, WORKDIR.value, MODE.value, bool(ENSEMBLE.value), IMAGES.value)
    config = None
    if CONFIG.value:
        from alexnet_jax.config import Config

        config = Config.from_fields(CONFIG.value, arguments.note)
    checks.check_values(config, WORKDIR.value, MODE.value, flags.FLAGS.flag_values_dict())
    from alexnet_jax.commands.start import enough_memory, start
    from alexnet_jax.runtime import distributed  # imports JAX, which takes a while: the flags are checked by now

    processes = distributed.join(COORDINATOR.value, PROCESSES.value, PROCESS.value)
    if processes > 1 and MODE.value not in ('train', 'eval'):
        raise UserError(f'--mode={MODE.value} runs in one process; train and eval may have several.')
    with distributed.leaving_together(), enough_memory():
        call(config, WORKDIR.value, start(config, to_stderr=JSON.value, processes=processes))
    if MODE.value in _PRINTING:
        check_printed()


def call(config: 'Config | None', workdir: str | None, console: 'Console') -> None:
    """Calls the mode; each imports only what it needs."""
    match MODE.value:
        case 'train':
            from alexnet_jax.commands.train import train

            train(config, workdir, console, ALLOW_CHANGES.value, from_start=FROM_START.value)
        case 'eval' if ENSEMBLE.value:
            from alexnet_jax.commands.evaluate import evaluate_ensemble

            split = SPLIT.value or 'validation'
            evaluate_ensemble(config, ENSEMBLE.value, OUTPUT.value or workdir, CHECKPOINT.value, split, console)
        case 'eval':
            from alexnet_jax.commands.evaluate import evaluate_run

            evaluate_run(config, workdir, CHECKPOINT.value, SPLIT.value or 'validation', console, OUTPUT.value)
        case 'predict':
            from alexnet_jax.commands.predict import predict

            predict(config, workdir, CHECKPOINT.value, IMAGES.value, JSON.value, console, OUTPUT.value)
        case 'features':
            from alexnet_jax.commands.features import extract

            extract(config, workdir, CHECKPOINT.value, LAYER.value, SPLIT.value, IMAGES.value, console, OUTPUT.value)
        case 'neighbors':
            from alexnet_jax.commands.neighbors import retrieve

            retrieve(config, workdir, CHECKPOINT.value, LAYER.value, console, OUTPUT.value)
        case 'figures':
            from alexnet_jax.commands.figures import draw_figures

            draw_figures(config, workdir, CHECKPOINT.value, console, OUTPUT.value)
        case 'figure1':
            from alexnet_jax.commands.figure1 import draw_figure_1

            draw_figure_1(config, workdir, console, arguments.seeds(SEEDS.value), from_start=FROM_START.value)
        case 'import':
            from alexnet_jax.commands.import_weights import import_weights

            import_weights(
                WEIGHTS.value,
                workdir,
                console,
                mean=MEAN.value,
                std=STD.value,
                class_names=CLASS_NAMES.value,
                channels=CHANNELS.value,
                crop_size=CROP_SIZE.value,
            )
        case 'export':
            from alexnet_jax.commands.export import export

            export(config, workdir, CHECKPOINT.value, TO.value, HALF.value, console, OUTPUT.value)
        case 'demo':
            from alexnet_jax.commands.demo import demo

            demo(config, workdir, CHECKPOINT.value, HOST.value, PORT.value, console)
        case 'prepare':
            from alexnet_jax.data.opening import prepare_data

            prepare_data(config.data, console)
        case 'inspect' if BESIDE.value is not None:
            from alexnet_jax.commands.inspect import inspect_beside
            from alexnet_jax.config import Config

            inspect_beside(config, Config.from_fields(BESIDE.value, arguments.note), console)
        case 'inspect':
            from alexnet_jax.commands.inspect import inspect

            inspect(config, console, workdir)
        case 'profile':
            from alexnet_jax.commands.profile import profile

            profile(config, workdir, STEPS.value, console)
        case 'study':
            from alexnet_jax.commands.study import study

            split = SPLIT.value or 'validation'
            views = config.evaluation.views
            study(
                VARIANTS.value, arguments.seeds(SEEDS.value), workdir, split, views, arguments.command_of_run, console
            )
        case 'compare':
            from alexnet_jax.commands.compare import compare

            compare(RUNS.value, workdir, console)


if __name__ == '__main__':
    gc.set_threshold(100_000)  # objects; by default imports and tracing are searched for garbage hundreds of times
    atexit.register(gc.freeze)  # nor is all of it searched once more when the process ends
    with lasting_streams(), exit_codes():
        tolerate_warnings()
        checks.check_directory()
        app.run(main, flags_parser=arguments.parse)
