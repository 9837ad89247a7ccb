"""The input pipeline, on Grain: records to batches of uint8 pixels and random draws, for `augment.py`.

A batch is a pure function of (data set, seed, step): an epoch's permutation is computed from seed and epoch, an
example's draws from (seed, epoch, record). So nothing depends on threads, batch size or device count, and the position
in the data is the step number.
"""

import contextlib
import errno
from collections.abc import Iterator

import grain
import numpy as np

from alexnet_jax.config import DataConfig
from alexnet_jax.data.dataset import PreparedDataSet
from alexnet_jax.data.records import Shards
from alexnet_jax.data.sampling import blended_with, epoch_permutation, random_draws
from alexnet_jax.runtime.devices import available_cores
from alexnet_jax.runtime.errors import UserError

Batch = dict[str, np.ndarray]
_INFINITY = 2**55  # steps; positions in the stream stay below 2**63


def open_shards(data: PreparedDataSet, split: str) -> Shards:
    """Random access to the images of a split."""
    checked = bool(data.checksums)
    return Shards(data.files(split), data.counts(split), data.settings.storage, data.image_size, checked)


def read(shards: Shards, index: int, classes: int) -> tuple[np.ndarray, int]:
    """Pixels (uint8 [size, size, 3]) and label of an image; UserError, which names file and record, if unreadable."""
    with reading(shards, index):
        pixels, label = shards.read(index)
        if label >= classes:
            raise ValueError(f'label {label} of {classes} classes')
    return pixels, label


@contextlib.contextmanager
def reading(shards: Shards, index: int) -> Iterator[None]:
    """Turns what is raised while an image is read into a UserError that names file and record.

    What the system refuses is not called damage: the same files may be readable tomorrow, or elsewhere.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f'{error.filename} is missing. Prepare the data set again (--mode=prepare).') from error
    except OSError as error:
        hint = ' Raise the limit of open files (ulimit -n).' if error.errno == errno.EMFILE else ''
        raise UserError(
            f'{shards.description(index)} cannot be read: {error.strerror or error}. This is not damage of the data '
            f'set, but of the system or the disk; the same command goes on when they work again.{hint}'
        ) from error
    except ValueError as error:
        raise UserError(
            f'{shards.description(index)} is damaged: {error}. Prepare the data set again (--mode=prepare).'
        ) from error


def training_batches(
    data: PreparedDataSet,
    config: DataConfig,
    *,
    batch_size: int,
    seed: int,
    first_step: int = 0,
    positions: np.ndarray | None = None,
) -> Iterator[Batch]:
    """Batches for training (section 4.1): an infinite stream, reshuffled every epoch, every image once an epoch.

    Batches continue across epochs, so that no image is left out.

    Args:
      data, batch_size: the prepared data set and the examples in a batch.
      config: crop, mirroring, color noise and threads.
      seed: of shuffling and draws, 0 .. 2**32 - 1.
      first_step: number of the first batch, from 0.
      positions: in a batch, ascending, that this process reads; None for all. The batches below are then as large.

    Yields:
      'image' uint8 [batch, crop, crop, 3]; 'label' int32 [batch]; 'top' and 'left' int32 [batch], offsets of the
      patch; 'mirror' bool [batch]; 'color' float32 [batch, 3], the a_i; 'dropout_seed' uint32 [batch]; with
      `config.color_rescale` also 'scale' float32 [batch], 1 / (1 + color_std) where there is color noise; with
      `config.blend_probability` also 'blend_weight' float32 [batch], 0 for most, and of the images with which the
      others are blended 'blend_image', 'blend_top', 'blend_left' and 'blend_mirror', as in their own place.
    """
    shards, classes, crop = open_shards(data, 'train'), len(data.class_names), config.crop_size
    local = np.arange(batch_size) if positions is None else positions

    def patches(epochs: np.ndarray, indices: np.ndarray) -> Batch:
        draws = random_draws(seed, epochs, indices, data.image_size - crop + 1)
        if not config.random_crop:
            draws['top'][:] = draws['left'][:] = (data.image_size - crop) // 2
        images = np.empty((len(indices), crop, crop, 3), np.uint8)
        labels = np.empty(len(indices), np.int32)
        offsets = zip(draws['top'].tolist(), draws['left'].tolist(), strict=True)
        for i, (index, (top, left)) in enumerate(zip(indices.tolist(), offsets, strict=True)):
            pixels, labels[i] = read(shards, index, classes)
            images[i] = pixels[top : top + crop, left : left + crop]
        draws['mirror'] &= config.mirror
        return {'image': images, 'label': labels, **draws}

    def others(positions: np.ndarray) -> Batch:
        """What images are blended with; zeros where an image stays as it is."""
        places = blended_with(seed, positions, config.blend_probability)
        blended = places >= 0
        found = patches(*epoch_permutation(seed, places[blended], len(shards)))
        result = {'blend_weight': np.where(blended, config.blend_weight, 0).astype(np.float32)}
        for name in ('image', 'top', 'left', 'mirror'):
            result[f'blend_{name}'] = np.zeros((len(places), *found[name].shape[1:]), found[name].dtype)
            result[f'blend_{name}'][blended] = found[name]
        return result

    def load(step: int) -> Batch:
        positions = step * batch_size + local
        epochs, indices = epoch_permutation(seed, positions, len(shards))
        batch = patches(epochs, indices)
        noisy = (epochs < config.color_epochs) | (config.color_epochs == 0)
        noise = np.where(noisy, config.color_std, 0).astype(np.float32)
        batch['color'] *= noise[:, None]
        if config.color_rescale:
            batch['scale'] = 1 / (1 + noise)
        return batch | (others(positions) if config.blend_probability else {})

    return _in_threads(grain.MapDataset.range(first_step, _INFINITY).map(load), config.threads)


def evaluation_batches(
    data: PreparedDataSet,
    split: str,
    *,
    batch_size: int,
    threads: int = 0,
    first: int = 0,
    positions: np.ndarray | None = None,
) -> Iterator[Batch]:
    """The images of a split from index `first`, once and in order; the last batch is padded with examples of weight 0.

    Args:
      data, split, batch_size: what to read; a split is 'train' or 'validation'.
      threads: batches made at the same time; 0 for one a core, up to 16.
      first: index of the first image.
      positions: as for `training_batches`.

    Yields:
      'image' uint8 [batch, size, size, 3], whole; 'label' int32 [batch]; 'weight' float32 [batch], 1 or 0.
    """
    shards, classes = open_shards(data, split), len(data.class_names)
    local = np.arange(batch_size) if positions is None else positions

    def load(number: int) -> Batch:
        images = np.zeros((len(local), data.image_size, data.image_size, 3), np.uint8)
        labels, weights = np.zeros(len(local), np.int32), np.zeros(len(local), np.float32)
        indices = first + number * batch_size + local
        for i, index in enumerate(indices[indices < len(shards)].tolist()):
            images[i], labels[i] = read(shards, index, classes)
            weights[i] = 1.0
        return {'image': images, 'label': labels, 'weight': weights}

    return _in_threads(grain.MapDataset.range(max(0, -(-(len(shards) - first) // batch_size))).map(load), threads)


def _in_threads(batches: grain.MapDataset, threads: int) -> Iterator[Batch]:
    """Makes batches ahead of time, in threads: decoding and copying release the interpreter's lock."""
    threads = threads or min(16, available_cores())
    return iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 2)))
