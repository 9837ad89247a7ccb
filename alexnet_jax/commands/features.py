"""A layer's values for many images, as an array on disk: `--mode=features`.

WORKDIR/features/NAME/, NAME being as in fc7-train-step1440, holds what `feature_files.py` describes. Such values of the
"last, 4096-dimensional hidden layer" are what Figure 4, right, compares images by.
"""

import collections
import hashlib
import itertools
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from alexnet_jax.commands.evaluate import split_of
from alexnet_jax.commands.predict import truth_of
from alexnet_jax.config import Config
from alexnet_jax.data import pipeline
from alexnet_jax.data.dataset import PreparedDataSet
from alexnet_jax.data.device_feed import to_devices
from alexnet_jax.data.images import find_image_files, read_image_files
from alexnet_jax.data.records import names_file
from alexnet_jax.evaluation.activations import FeatureStep, line_of, make_feature_step
from alexnet_jax.model.columns import DATA
from alexnet_jax.runs.feature_store import BROKEN, FeatureFiles, check_same
from alexnet_jax.runs.trained import Run, open_run
from alexnet_jax.runtime.errors import UserError, say
from alexnet_jax.runtime.files import read_file
from alexnet_jax.runtime.progress_bar import Display

_IN_FLIGHT = 2  # batches that the devices work on while the host writes


def extract(
    config: Config,
    workdir: str,
    which: str,
    layer: str,
    split: str | None,
    images: Sequence[str],
    console: Console,
) -> pathlib.Path:
    """Writes a layer's values for the central view of every image of a split, or of a user's pictures.

    They are float16; one that is too large for it (beyond 65,504) is an error. Batch size and mesh may change
    between a start and the next, which may change the last digit of what follows.

    Args:
      config: the experiment that the run was made with; mesh, batch size and data directory may differ.
      workdir: of the run.
      which: 'newest', 'best', or the number of a step.
      layer: a line of the network's table, see `line_of`.
      split: of the prepared data set; None for 'train'.
      images: files and folders; where there are any, the data set is not needed.
      console: where to show progress.

    Returns:
      The directory. It may have been there already.

    Raises:
      UserError: the run, the layer or the data set cannot be used, the disk is full, a value does not fit into
        float16, another process is at it, or there are several processes. Or a picture cannot be read; all others
        were written all the same.
    """
    if jax.process_count() > 1:
        raise UserError('--mode=features runs in one process.')
    if images and split:
        raise UserError(f'--split={split} and --images: name one of them.')
    line = line_of(config.network, layer)
    paths = find_image_files(images) if images else []
    run = open_run(config, workdir, which)
    data = run.data if paths else split_of([run], split or 'train', console)
    about = _about(run, layer, line, data, None if paths else split or 'train', paths)
    of_what = f'images-{about["pictures"][:8]}' if paths else about['split']
    directory = pathlib.Path(workdir) / 'features' / f'{layer}-{of_what}-step{run.progress.step}'
    count = len(paths) or data.examples(about['split'])
    if directory.exists():
        check_same(directory, about)
        say(console, f'{directory} is there already.')
    else:
        _write(directory, about, run, data, paths, count, console)
    broken = (directory / BROKEN).read_bytes().decode().splitlines()
    if broken:
        raise UserError(f'{len(broken)} of {count} images cannot be read, the first: {broken[0]}.')
    return directory


def _about(
    run: Run, layer: str, line: str, data: PreparedDataSet, split: str | None, paths: list[str]
) -> dict[str, Any]:
    """What features.json says, but for how many images there are; two that agree in it are the same."""
    config = run.experiment.config
    image = jax.ShapeDtypeStruct((run.experiment.mesh.shape[DATA], *[data.image_size] * 2, 3), np.uint8)
    values = jax.eval_shape(_step(run, line), run.parameters, {'image': image}, run.statistics)
    files = [_stamp(path) for path in paths]
    return {
        'layer': layer,
        'line': line,
        'values': values.shape[1],
        'dtype': 'float16',
        'step': run.progress.step,
        'network': _digest(run),
        'precision': config.precision,
        'crop_size': config.data.crop_size,
        'split': split,
        'pictures': hashlib.sha256(repr(files).encode(errors='backslashreplace')).hexdigest() if paths else None,
        'source': None if paths else data.settings.source,
        'image_size': data.image_size,
        'shards': [] if paths else [shard['sha256'] for shard in data.shards[split]],
        'class_names': list(data.class_names),
        'class_ids': list(data.class_ids),
    }


def _stamp(path: str) -> tuple[str, int, int]:
    """By what a picture is told from another: its path, size, and time of change; a link may lead nowhere."""
    try:
        status = os.stat(path)
    except OSError:
        return os.path.abspath(path), -1, -1
    return os.path.abspath(path), status.st_size, status.st_mtime_ns


def _step(run: Run, line: str) -> FeatureStep:
    experiment = run.experiment
    crop_size = experiment.config.data.crop_size
    return make_feature_step(experiment.network, experiment.mesh, line=line, crop_size=crop_size)


def _digest(run: Run) -> str:
    """Of all that the values depend on beside the image: the table, the parameters, the mean image."""
    digest = hashlib.sha256(repr(run.experiment.config.network).encode())
    for array in [*jax.tree.leaves(run.parameters), run.statistics.mean_image]:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


class _Part(NamedTuple):
    """A batch of images.

    Attributes:
      images: uint8 [batch, size, size, 3].
      real: bool [batch], which of them are images that could be read.
      names, labels: of these.
      broken: a line for each that could not.
    """

    images: np.ndarray
    real: np.ndarray
    names: list[str]
    labels: list[int]
    broken: list[str]


def _of_split(data: PreparedDataSet, split: str, batch_size: int, threads: int, first: int) -> Iterator[_Part]:
    names = _names(data, split, first)
    for batch in pipeline.evaluation_batches(data, split, batch_size=batch_size, threads=threads, first=first):
        real = batch['weight'] > 0
        yield _Part(
            batch['image'], real, list(itertools.islice(names, int(real.sum()))), batch['label'][real].tolist(), []
        )


def _names(data: PreparedDataSet, split: str, first: int) -> Iterator[str]:
    """What the images of a split are called, in order; a raw shard's names are read at once."""
    shards = pipeline.open_shards(data, split)
    for index in range(first, len(shards)):
        shard, place = shards.locate(index)
        try:
            if data.settings.storage != 'raw':
                yield shards.name(index)
                continue
            if index == first or place == 0:
                lines = read_file(names_file(pathlib.Path(data.files(split)[shard]))).decode().split('\n')
            if place >= len(lines) - 1:
                raise ValueError('its name is missing')
            yield lines[place]
        except (OSError, ValueError) as error:
            raise UserError(
                f'{shards.description(index)} is damaged: {error}. Prepare the data set again (--mode=prepare).'
            ) from error


def _of_pictures(data: PreparedDataSet, paths: list[str], batch_size: int, threads: int, first: int) -> Iterator[_Part]:
    pictures = read_image_files(paths[first:], data.image_size, threads)
    while batch := list(itertools.islice(pictures, batch_size)):
        part = _Part(
            np.zeros((batch_size, data.image_size, data.image_size, 3), np.uint8),
            np.zeros(batch_size, bool),
            [],
            [],
            [],
        )
        for place, picture in enumerate(batch):
            if picture.pixels is None:
                part.broken.append(f'{picture.path}: {picture.error}')
                continue
            part.images[place], part.real[place] = picture.pixels, True
            part.names.append(picture.path)
            truth = truth_of(picture.path, data)
            part.labels.append(-1 if truth is None else truth)
        yield part


def _computed(run: Run, line: str, parts: Iterator[_Part]) -> Iterator[tuple[_Part, np.ndarray]]:
    """Parts and the values of their images, float16 [images, values]."""
    step, pending = _step(run, line), collections.deque()
    for part in parts:
        pending.append(
            (part, step(run.parameters, to_devices({'image': part.images}, run.experiment.mesh), run.statistics))
        )
        if len(pending) > _IN_FLIGHT:
            part, values = pending.popleft()
            yield part, np.asarray(values)[part.real]
    for part, values in pending:
        yield part, np.asarray(values)[part.real]


def _write(
    directory: pathlib.Path,
    about: dict[str, Any],
    run: Run,
    data: PreparedDataSet,
    paths: list[str],
    count: int,
    console: Console,
) -> None:
    """Computes and writes everything that is not there yet."""
    config, copies = run.experiment.config, run.experiment.mesh.shape[DATA]
    batch_size = min(config.batch_size, -(-count // copies) * copies)  # a few pictures shall not wait for 127 others
    partial = directory.with_name(directory.name + '.partial')
    with FeatureFiles(partial, about, count) as files:
        with Display(console, count, files.read, name=f'computing {about["layer"]}', unit='images') as display:
            if files.read:
                display.line(f'{files.read:,} of {count:,} images are done already.')
            rest = (batch_size, config.data.threads, files.read)
            parts = _of_pictures(data, paths, *rest) if paths else _of_split(data, about['split'], *rest)
            for part, values in _computed(run, about['line'], parts):
                _check_fits(part, values, about['layer'])
                for line in part.broken:
                    display.line(f'cannot be read: {line}')
                tenths = files.read * 10 // count
                files.add(values, part.labels, part.names, part.broken)
                display.update(files.read)
                if files.read * 10 // count > tenths:
                    display.plain(files.read, f'{files.read / count:.0%}')
        files.finish(directory)
    size = 2e-6 * files.kept * about['values']
    text = f'{directory}: {files.kept:,} images, {about["values"]:,} values each ({about["line"]}), {size:,.1f} MB.'
    say(console, text)


def _check_fits(part: _Part, values: np.ndarray, layer: str) -> None:
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise UserError(
            f'{part.names[finite.argmin()]}: {layer} has a value that is not a number, or beyond 65,504, the largest '
            'of float16; take another --layer.'
        )
