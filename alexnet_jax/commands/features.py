"""A layer's activations for many images, as an array on disk: `--mode=features`.

WORKDIR/features/NAME/, as in fc7-train-step1440, holds the files of runs/feature_store.py. Figure 4, right, compares
images by those of the "last, 4096-dimensional hidden layer".
"""

import hashlib
import itertools
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from rich.console import Console

from alexnet_jax.commands.evaluate import split_of
from alexnet_jax.commands.predict import class_of_folder, padded_batches
from alexnet_jax.config import Config
from alexnet_jax.data import pipeline
from alexnet_jax.data.dataset import PreparedDataSet
from alexnet_jax.data.device_feed import results_ahead, to_devices
from alexnet_jax.data.image_files import ImageFile, find_image_files
from alexnet_jax.data.own_images import read_as_prepared
from alexnet_jax.evaluation.activations import FeatureStep, activation_of, make_feature_step
from alexnet_jax.model.columns import DATA
from alexnet_jax.runs.feature_store import BROKEN, FeatureFiles, check_same
from alexnet_jax.runs.trained import Run, open_run
from alexnet_jax.runs.workdir import make_workdir
from alexnet_jax.runtime.errors import UserError, say, shown
from alexnet_jax.runtime.formatting import format_bytes
from alexnet_jax.runtime.progress_bar import Display


def extract(
    config: Config,
    workdir: str,
    which: str,
    layer: str,
    split: str | None,
    images: Sequence[str],
    console: Console,
    output: str | None = None,
) -> pathlib.Path:
    """Writes a layer's float16 activations for the central view of every image of a split, or of image files.

    An interrupted extraction resumes; with another batch size or mesh the last digit of what follows may change.

    Args:
      config: of the run; mesh, batch size and data directory may differ.
      workdir: of the run.
      which: 'newest', 'best', or a step.
      layer: of the network's table, see `activation_of`.
      split: of the prepared data set; None for 'train'.
      images: files and folders, which need no data set; empty for a split.
      console: for progress.
      output: directory in which features/ is made; None for the workdir.

    Returns:
      The directory, which may have been complete already.

    Raises:
      UserError: the run, the layer or the data set cannot be used, the disk is full, a value exceeds float16, or
        another process is extracting the same; or an image file cannot be read, after all others were written.
    """
    if jax.process_count() > 1:
        raise UserError('--mode=features runs in one process.')
    if images and split:
        raise UserError(f'--split={split} and --images: name one of them.')
    line = activation_of(config.network, layer)
    paths = find_image_files(images, lambda line: say(console, line)) if images else []
    run = open_run(config, workdir, which, lambda line: say(console, line))
    data = run.data if paths else split_of([run], split or 'train', console)
    about = about_features(run, layer, line, data, None if paths else split or 'train', paths)
    images_of = f'images-{about["pictures"][:8]}' if paths else about['split']
    if output:
        make_workdir(output, '--output')
    directory = pathlib.Path(output or workdir) / 'features' / f'{layer}-{images_of}-step{run.progress.step}'
    count = len(paths) or data.examples(about['split'])
    if directory.exists():
        check_same(directory, about)
        say(console, f'{directory} is complete already.')
    else:
        _write(directory, about, run, data, paths, count, console)
    broken = (directory / BROKEN).read_bytes().decode().splitlines()
    if broken:
        raise UserError(f'{len(broken)} of {count} images cannot be read, the first: {broken[0]}.')
    return directory


def about_features(
    run: Run, layer: str, line: str, data: PreparedDataSet, split: str | None, paths: list[str]
) -> dict[str, Any]:
    """The content of features.json, except for the number of images: equal for equal activations."""
    config = run.experiment.config
    image = jax.ShapeDtypeStruct((run.experiment.mesh.shape[DATA], *[data.image_size] * 2, 3), np.uint8)
    values = jax.eval_shape(_feature_step(run, line), run.parameters, {'image': image}, run.statistics)
    files = [_stamp(path) for path in paths]
    network = hashlib.sha256(repr(run.experiment.config.network).encode())
    for array in [*jax.tree.leaves(run.parameters), run.statistics.mean_image]:
        network.update(np.ascontiguousarray(array).data)
    return {
        'layer': layer,
        'line': line,
        'values': values.shape[1],
        'dtype': 'float16',
        'step': run.progress.step,
        'network': network.hexdigest(),
        'precision': config.precision,
        'crop_size': config.data.crop_size,
        'split': split,
        'pictures': hashlib.sha256(repr(files).encode(errors='backslashreplace')).hexdigest() if paths else None,
        'source': None if paths else data.settings.source,
        'image_size': data.image_size,
        'shards': [] if split is None else [shard['sha256'] for shard in data.shards[split]],
        'class_names': list(data.class_names),
        'class_ids': list(data.class_ids),
    }


def _stamp(path: str) -> tuple[str, int, int]:
    """Path, size and time of change of an image file; -1 for a broken link."""
    try:
        status = os.stat(path)
    except OSError:
        return os.path.abspath(path), -1, -1
    return os.path.abspath(path), status.st_size, status.st_mtime_ns


def _feature_step(run: Run, line: str) -> FeatureStep:
    experiment = run.experiment
    crop_size = experiment.config.data.crop_size
    return make_feature_step(experiment.network, experiment.mesh, layer=line, crop_size=crop_size)


class _Batch(NamedTuple):
    """A batch of images.

    Attributes:
      images: uint8 [batch, size, size, 3].
      real: bool [batch], the images that could be read.
      names, labels: of these.
      broken: a line for each file that could not be read.
    """

    images: np.ndarray
    real: np.ndarray
    names: list[str]
    labels: list[int]
    broken: list[str]


def _of_split(data: PreparedDataSet, split: str, batch_size: int, threads: int, first: int) -> Iterator[_Batch]:
    names = _names(data, split, first)
    for batch in pipeline.evaluation_batches(data, split, batch_size=batch_size, threads=threads, first=first):
        real = batch['weight'] > 0
        own = list(itertools.islice(names, int(real.sum())))
        yield _Batch(batch['image'], real, own, batch['label'][real].tolist(), [])


def _names(data: PreparedDataSet, split: str, first: int) -> Iterator[str]:
    """The names of a split's images, in order."""
    shards = pipeline.open_shards(data, split)
    for index in range(first, len(shards)):
        with pipeline.reading(shards, index):
            name = shards.name(index)
        yield name


def _of_image_files(data: PreparedDataSet, found: Iterator[ImageFile], batch_size: int) -> Iterator[_Batch]:
    for images, files in padded_batches(found, data.image_size, batch_size):
        read = [file for file in files if file.pixels is not None]
        labels = [class_of_folder(file.path, data) for file in read]
        real = np.array([file.pixels is not None for file in files] + [False] * (batch_size - len(files)))
        yield _Batch(
            images,
            real,
            [shown(file.path) for file in read],
            [-1 if label is None else label for label in labels],
            [f'{shown(file.path)}: {file.error}' for file in files if file.pixels is None],
        )


def _computed(run: Run, line: str, batches: Iterator[_Batch]) -> Iterator[tuple[_Batch, np.ndarray]]:
    """Batches and the activations of their images, float16 [images, values]."""
    step, mesh = _feature_step(run, line), run.experiment.mesh

    def compute(batch: _Batch) -> tuple[_Batch, Array]:
        return batch, step(run.parameters, to_devices({'image': batch.images}, mesh), run.statistics)

    computed = results_ahead(compute, batches, mesh)
    return ((batch, np.asarray(values)[batch.real]) for batch, values in computed)


def _write(
    directory: pathlib.Path,
    about: dict[str, Any],
    run: Run,
    data: PreparedDataSet,
    paths: list[str],
    count: int,
    console: Console,
) -> None:
    """Computes and writes everything that is missing."""
    config, copies = run.experiment.config, run.experiment.mesh.shape[DATA]
    batch_size = min(config.batch_size, -(-count // copies) * copies)  # a few images need not wait for 127 others
    threads, layer = config.data.threads, about['layer']
    with FeatureFiles(directory.with_name(directory.name + '.partial'), about, count) as files:
        with Display(console, count, files.read, name=f'computing {layer}', unit='images') as display:
            if files.read:
                display.line(f'{files.read:,} of {count:,} images are done already.')
            if paths:
                found = read_as_prepared(paths[files.read :], data, threads, config.data.max_megapixels)
                batches = _of_image_files(data, found, batch_size)
            else:
                batches = _of_split(data, about['split'], batch_size, threads, files.read)
            for batch, values in _computed(run, about['line'], batches):
                finite = np.isfinite(values).all(axis=1)
                if not finite.all():
                    raise UserError(
                        f'{batch.names[finite.argmin()]}: {layer} has a value that is NaN, or beyond 65,504, the '
                        'largest of float16; take another --layer.'
                    )
                for line in batch.broken:
                    display.line(f'cannot be read: {line}')
                tenths = files.read * 10 // count
                files.add(values, batch.labels, batch.names, batch.broken)
                display.update(files.read)
                if files.read * 10 // count > tenths:
                    display.plain(files.read, f'{files.read / count:.0%}')
        files.finish(directory)
    size = format_bytes(2 * files.kept * about['values'])
    say(console, f'{directory}: {files.kept:,} images, {about["values"]:,} values each ({about["line"]}), {size}.')
