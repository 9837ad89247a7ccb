"""The prepared data set that a config names: opened, checked, and prepared where its source is embedded."""

import pathlib

from rich.console import Console

from alexnet_jax.config import DataConfig
from alexnet_jax.data.dataset import MANIFEST, PreparedDataSet, Settings, open_prepared
from alexnet_jax.data.sources import EMBEDDED, Source, how_to_get, open_source
from alexnet_jax.data.sources.published import MissingFilesError, fetch, images_of
from alexnet_jax.runtime.distributed import leader_first
from alexnet_jax.runtime.errors import UserError, say


def open_data(config: DataConfig, console: Console) -> PreparedDataSet:
    """Opens the prepared data set; one from an embedded source is prepared first where it is missing.

    Raises:
      UserError: it is missing, damaged, or was prepared with other settings.
    """
    with leader_first('data'):
        try:
            data = open_prepared(config.directory)
        except FileNotFoundError as error:
            if config.source.split(':')[0] not in EMBEDDED:
                raise UserError(_how_to_prepare(config)) from error
            data = prepare_data(config, console)
    _check_settings(data, config)
    return data


def prepare_data(config: DataConfig, console: Console) -> PreparedDataSet:
    """Prepares the data set: `--mode=prepare`. One that is prepared already is left as it is.

    Raises:
      UserError: the source is missing or damaged, or the directory cannot be written.
    """
    from alexnet_jax.data.prepare import prepare

    try:
        prepared = (pathlib.Path(config.directory) / MANIFEST).exists()
    except (OSError, ValueError) as error:
        raise UserError(f'config.data.directory={config.directory!r} cannot be used: {error}.') from error
    if prepared:
        data = open_prepared(config.directory)
        _check_settings(data, config)
        say(console, f'{data.directory} is prepared already.')
        return data
    source = _open_or_fetch(config, console)
    for line in getattr(source, 'notes', ()):
        say(console, line)
    data = prepare(
        source,
        settings_of(config),
        config.directory,
        console,
        skip_broken=config.skip_broken,
        max_megapixels=config.max_megapixels,
    )
    counts = ', '.join(f'{data.examples(split):,} {split}' for split in data.shards)
    left_out = f'; {data.left_out:,} broken ones left out' if data.left_out else ''
    say(console, f'Prepared {data.directory}: {counts} images{left_out}.')
    return data


def _open_or_fetch(config: DataConfig, console: Console) -> Source:
    """Opens the source; where its files are missing and config.data.download says so, they are downloaded first."""
    try:
        return open_source(config.source, config.source_directory)
    except MissingFilesError as missing:
        if not config.download:
            raise
        fetch(missing.name, config.source_directory, config.download_from, console)
    return open_source(config.source, config.source_directory)


def settings_of(config: DataConfig) -> Settings:
    """The settings with which the data set is prepared."""
    return Settings(config.source, config.image_size, config.storage, config.quality, config.images_per_shard)


def _check_settings(data: PreparedDataSet, config: DataConfig) -> None:
    """Raises UserError where a data set was prepared with other settings than the config's."""
    wanted = settings_of(config)
    for field in ('source', 'image_size', 'storage') + (('quality',) if config.storage == 'jpeg' else ()):
        found = getattr(data.settings, field)
        if field == 'source' and images_of(found) == images_of(wanted.source):
            continue
        if found != getattr(wanted, field):
            raise UserError(
                f'{data.directory} was prepared with {field}={found!r}, the config says '
                f'config.data.{field}={getattr(wanted, field)!r}; name another config.data.directory, or delete it and '
                'prepare it again (--mode=prepare).'
            )


def _how_to_prepare(config: DataConfig) -> str:
    return (
        f'there is no prepared data set in {config.directory!r} (config.data.directory).\n'
        f'To prepare it: {how_to_get(config.source, config.source_directory)} (config.data.source_directory), and run '
        'the same command with --mode=prepare.\n'
        'To train right now, on images that come with scikit-learn:\n'
        '  python launch.py --workdir=runs/digits --config=experiments/digits.py'
    )
