"""Whether the prepared data set that a config names is there, and how to get it; without JAX, so quickly."""

import pathlib

from alexnet_jax.config import DataConfig
from alexnet_jax.data.dataset import MANIFEST
from alexnet_jax.data.sources import EMBEDDED, how_to_get
from alexnet_jax.runtime.errors import UserError


def is_embedded(config: DataConfig) -> bool:
    """Whether its images come with a package, so that it is prepared where it is needed."""
    return config.source.split(':')[0] in EMBEDDED


def is_prepared(config: DataConfig) -> bool:
    """Whether the data set is there, whole or not.

    Raises:
      UserError: its directory cannot be used.
    """
    try:
        return pathlib.Path(config.directory, MANIFEST).exists()
    except (OSError, ValueError) as error:
        raise UserError(f'config.data.directory={config.directory!r} cannot be used: {error}.') from error


def check_prepared(config: DataConfig) -> None:
    """Raises UserError, which says how to prepare it, where it is missing and cannot be made on the way."""
    if is_embedded(config) or is_prepared(config):
        return
    raise UserError(
        f'there is no prepared data set in {config.directory!r} (config.data.directory).\n'
        f'To prepare it: {how_to_get(config.source, config.source_directory)} (config.data.source_directory), and run '
        'the same command with --mode=prepare.\n'
        'To train right now, on images that come with scikit-learn:\n'
        '  python launch.py --workdir=runs/digits --config=experiments/digits.py'
    )
