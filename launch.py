"""python launch.py --workdir=runs/ --config=experiments/paper.py [--mode=...] [--config.FIELD=VALUE ...]"""

import sys

from absl import app, flags
from ml_collections import ConfigDict, config_flags
from rich.console import Console

from alexnet_jax import arguments
from alexnet_jax.errors import UserError

MODES = {
    'train': 'train; runs on where it stopped',
    'eval': 'top-1 and top-5 error of a checkpoint',
    'figures': 'learning curves and first-layer kernels of a run, as pictures',
    'prepare': 'images to a prepared data set; needs no --workdir; carries on where it stopped',
    'inspect': 'the network and what its devices exchange, as tables; needs no --workdir',
}
CONFIG = config_flags.DEFINE_config_file('config', None, 'The experiment: a file in experiments/, or one like them.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Where the run leaves its files.')
MODE = flags.DEFINE_enum('mode', 'train', list(MODES), '; '.join(f'{mode}: {what}' for mode, what in MODES.items()))
CHECKPOINT = flags.DEFINE_string('checkpoint', 'newest', 'For eval and figures: newest, best, or the number of a step.')


def main(argv: list[str]) -> None:
    """Checks what was given, and calls the mode."""
    arguments.check(argv, CONFIG.value, WORKDIR.value, needs_workdir=MODE.value not in ('inspect', 'prepare'))
    with arguments.complete_config():
        call(CONFIG.value, WORKDIR.value, arguments.start(CONFIG.value))


def call(config: ConfigDict, workdir: str, console: Console) -> None:
    """Calls the mode; each imports what it needs, and no more."""
    match MODE.value:
        case 'train':
            from alexnet_jax.train import train

            train(config, workdir, console)
        case 'eval':
            from alexnet_jax.evaluate import evaluate_run

            evaluate_run(config, workdir, CHECKPOINT.value, console)
        case 'figures':
            from alexnet_jax.figures import draw_figures

            draw_figures(config, workdir, CHECKPOINT.value, console)
        case 'prepare':
            from alexnet_jax.experiment import check, prepare_data

            check(config)
            prepare_data(config.data, console)
        case 'inspect':
            from alexnet_jax.inspection import inspect

            inspect(config, console)


if __name__ == '__main__':
    try:
        app.run(main, flags_parser=arguments.parse)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print('interrupted; the same command carries on from the newest checkpoint', file=sys.stderr)
        sys.exit(130)
