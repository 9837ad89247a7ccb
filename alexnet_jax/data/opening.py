"""The prepared data set that a config names: opened, checked, and prepared where its source is embedded."""

import os
from collections.abc import Collection

from rich.console import Console

from alexnet_jax.config import DataConfig
from alexnet_jax.data.dataset import PreparedDataSet, Settings, open_prepared
from alexnet_jax.data.missing import check_prepared, is_embedded, is_prepared
from alexnet_jax.data.reuse import changed_places
from alexnet_jax.data.sources import Source, open_source
from alexnet_jax.data.sources.published import MissingFilesError, fetch, images_of
from alexnet_jax.runtime.distributed import leader_first
from alexnet_jax.runtime.errors import UserError, say


def open_data(config: DataConfig, console: Console) -> PreparedDataSet:
    """Opens the prepared data set; one from an embedded source is prepared first where it is missing.

    Raises:
      UserError: it is missing, damaged, or was prepared with other settings or from another directory.
    """
    with leader_first('data'):
        check_prepared(config)
        try:
            data = open_prepared(config.directory)
        except FileNotFoundError:
            if not is_embedded(config):
                raise
            data = _prepare(config, _open_or_fetch(config, console), console, ())
    _check_settings(data, config)
    _check_source(data, config, console)
    return data


def prepare_data(config: DataConfig, console: Console) -> PreparedDataSet:
    """Prepares the data set: `--mode=prepare`.

    In one that is prepared already all files are compared with their checksums, and its images with the source's; what
    is damaged or has changed is prepared again.

    Raises:
      UserError: the source is missing or damaged, or the directory cannot be written.
    """
    from alexnet_jax.data.survey import show
    from alexnet_jax.data.verify import damaged_files

    if not is_prepared(config):
        data = _prepare(config, _open_or_fetch(config, console), console, ())
    else:
        before = open_prepared(config.directory, images=False)
        _check_settings(before, config)
        config = config.model_copy(update={'source': before.settings.source})  # of the same images, see `images_of`
        damaged = damaged_files(before, console)
        for name, reason in damaged.items():
            say(console, f'{before.directory / name} is prepared again: {reason}.')
        data = _update(before, damaged, config, console)
    if data.seen:
        show(data.seen, {split: data.examples(split) for split in data.shards}, console)
    return data


def _update(before: PreparedDataSet, damaged: dict[str, str], config: DataConfig, console: Console) -> PreparedDataSet:
    """Brings a data set up to date with its source, which may have changed unless it is embedded."""
    if not damaged and is_embedded(config):
        say(console, f'{before.directory} is prepared already, and whole.')
        return before
    try:
        source = _open_or_fetch(config, console)
    except UserError as error:
        if damaged:
            listed = ', '.join(f'{name} ({reason})' for name, reason in damaged.items())
            raise UserError(f'{before.directory} is damaged: {listed}. To prepare that again: {error}') from error
        say(console, f'{before.directory} is prepared already, and whole. Its source is not at hand: {error}')
        return before
    data = _prepare(config, source, console, damaged, before)
    if data == before and damaged:
        say(console, f'{data.directory} is whole again; its images are those of the source.')
    elif data == before and not before.checksums:
        say(
            console,
            f'{data.directory} is prepared already, and whole. It is of an earlier version, which did not note what '
            f'its images were made of; to prepare it anew, delete {data.directory}.',
        )
    elif data == before:
        say(console, f'{data.directory} is prepared already, and whole; its images are those of the source.')
    return data


def _prepare(
    config: DataConfig,
    source: Source,
    console: Console,
    damaged: Collection[str],
    before: PreparedDataSet | None = None,
) -> PreparedDataSet:
    from alexnet_jax.data.prepare import prepare

    for line in getattr(source, 'notes', ()):
        say(console, line)
    data = prepare(
        source,
        settings_of(config, before),
        config.directory,
        console,
        source_directory=_source_directory(config),
        damaged=damaged,
        skip_broken=config.skip_broken,
        max_megapixels=config.max_megapixels,
        wait=is_embedded(config),
    )
    if data != before:
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


def settings_of(config: DataConfig, before: PreparedDataSet | None = None) -> Settings:
    """The settings with which the data set is prepared; what does not change images stays as it was before."""
    shard = before.settings.images_per_shard if before else config.images_per_shard
    quality = before.settings.quality if before and config.storage == 'raw' else config.quality
    return Settings(config.source, config.image_size, config.storage, quality, shard)


def _source_directory(config: DataConfig) -> str:
    """Absolute path of the source's files; '' for an embedded source, and for a directory that the source knows."""
    return '' if is_embedded(config) or not config.source_directory else os.path.realpath(config.source_directory)


def _check_source(data: PreparedDataSet, config: DataConfig, console: Console) -> None:
    """Says where the source has changed since the data set was prepared.

    Raises:
      UserError: the config names another directory as its source.
    """
    before, now = data.source_directory, _source_directory(config)
    default = DataConfig.model_fields['source_directory'].default
    if not before or not now or data.settings.source != config.source:
        return
    if before != now and config.source_directory != default and (os.path.exists(before) or os.path.exists(now)):
        raise UserError(
            f'{data.directory} was prepared from {before}, and config.data.source_directory={now}. Name that '
            'directory, or another config.data.directory; or, if the images have only moved, run the same command with '
            '--mode=prepare.'
        )
    if before != now and not os.path.exists(before):
        say(console, f'{data.directory} was prepared from {before}, which is not here, and is used as it is.')
    places = data.places()
    changed = changed_places(places, before)
    if changed and os.path.isdir(before) and any(map(os.path.exists, changed)):
        more = f' and {len(changed) - 1:,} other places have' if len(changed) > 1 else ' has'
        say(
            console,
            f'warning: {changed[0]}{more} changed since {data.directory} was prepared; the images are used as they '
            'were then. To bring it up to date, run the same command with --mode=prepare.',
        )


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
