"""What is wrong with the flags of a mode, found before JAX is imported, which takes half a second."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alexnet_jax.commands.flags import WITH_CONFIG, WITHOUT_CONFIG
from alexnet_jax.runtime.errors import UserError

if TYPE_CHECKING:  # --help does not need it
    from alexnet_jax.config import Config

_OF_CHECKPOINT = ('eval', 'predict', 'features', 'neighbors', 'figures', 'export', 'demo')
_OF_DATA = ('train', 'eval', 'neighbors')  # and features without --images
_WITHOUT_WORKDIR = ('prepare', 'inspect', 'compare')


def check_directory() -> None:
    """Raises UserError where the current directory has been deleted, from which libraries could start nothing."""
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(f'the current directory cannot be used ({error.strerror}); change to another one.') from error


def check(
    argv: list[str],
    config: 'Config | None',
    workdir: str | None,
    mode: str,
    ensemble: bool = False,
    images: Sequence[str] = (),
) -> None:
    """Checks the flags other than the fields of the config.

    Args:
      argv: arguments that are not flags.
      config: as --config names it.
      workdir: as --workdir names it.
      mode: of launch.py.
      ensemble: whether --ensemble names runs, which have their own configs.
      images: as --images names them.

    Raises:
      UserError: an argument is missing or not a flag, or an image does not exist.
    """
    if len(argv) > 1:
        raise UserError(f'unexpected argument {argv[1]!r}; flags are written --name=value.')
    if config is None and not ensemble and mode not in WITHOUT_CONFIG and (workdir or mode in WITH_CONFIG):
        raise UserError('--config is missing, for example --config=experiments/digits.py.')
    if not workdir and mode not in _WITHOUT_WORKDIR:
        raise UserError(
            '--workdir is missing: the directory where the run leaves its files, for example --workdir=runs/.'
        )
    if mode == 'predict' or (mode == 'features' and images):
        from alexnet_jax.data.image_files import check_named  # brings NumPy and Pillow

        check_named(images)


def check_values(config: 'Config | None', workdir: str | None, mode: str, values: Mapping[str, Any]) -> None:
    """Finds what a mode would find wrong in its own flags.

    Args:
      config: of the run or the experiment, if the mode takes one.
      workdir, mode: of launch.py.
      values: of its flags, by name.

    Raises:
      UserError: a flag is missing, or names a run, checkpoint, layer, data set or file that there is not.
    """
    if mode == 'compare':
        from alexnet_jax.runs.workdir import check_runs

        check_runs(values['runs'], workdir)
    elif values['ensemble']:
        from alexnet_jax.runs.workdir import ENSEMBLE, check_runs

        check_runs(values['ensemble'], workdir, *ENSEMBLE)
    elif mode == 'study' and (values['output'] or values['checkpoint'] != 'newest'):
        flag = '--output' if values['output'] else '--checkpoint'
        raise UserError(
            f'{flag} is for single runs; a study evaluates each in its own directory, at its last checkpoint.'
        )
    elif mode == 'import':
        weights = values['weights']
        if weights is None:
            raise UserError('--weights is missing: the file of a trained network.')
        if not pathlib.Path(weights).exists():
            raise UserError(f'--weights={weights}: there is no such file.')
    elif mode == 'export' and values['to'] is None:
        raise UserError('--to is missing: torch, onnx, safetensors or huggingface.')
    elif mode == 'export' and values['half'] and values['to'] in ('torch', 'onnx'):
        raise UserError(f'--half is for --to=safetensors and --to=huggingface; --to={values["to"]} is in float32.')
    if mode in _OF_CHECKPOINT and workdir and not values['ensemble']:
        from alexnet_jax.runs.workdir import check_checkpoint

        check_checkpoint(workdir, values['checkpoint'])
    if mode in ('features', 'neighbors') and config:
        from alexnet_jax.model.layer_specs import check_layer

        check_layer(config.network, values['layer'])
    if config and not values['ensemble'] and (mode in _OF_DATA or (mode == 'features' and not values['images'])):
        from alexnet_jax.data.missing import check_prepared

        check_prepared(config.data)
