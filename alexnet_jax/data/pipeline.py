"""The Grain pipeline: records to batches of uint8 pixels and random draws; the arithmetic is `augment.py`'s.

A batch is a pure function of (data set, seed, step): the order of epoch e is a permutation computed from seed
and e without a list, and an example's draws come from (seed, epoch, record) alone. So nothing depends on
threads, batch size or device count, and the position in the data is the number of the step.
"""

from collections.abc import Iterator

import grain
import numpy as np

from alexnet_jax.data.dataset import PreparedDataSet
from alexnet_jax.data.records import Shards
from alexnet_jax.data.sampling import epoch_permutation, random_draws
from alexnet_jax.runtime.devices import available_cores
from alexnet_jax.runtime.errors import UserError

Batch = dict[str, np.ndarray]
_WITHOUT_END = 2**55  # steps; positions in the data stay below 2**63


def open_shards(data: PreparedDataSet, split: str) -> Shards:
    """Random access to the images of a split."""
    return Shards(data.files(split), data.counts(split), data.settings.storage, data.image_size)


def read(shards: Shards, index: int, classes: int) -> tuple[np.ndarray, int]:
    """An image's pixels, uint8 [size, size, 3], and its label.

    Raises:
      UserError: the record is damaged; names file and record.
    """
    try:
        pixels, label = shards.read(index)
        if label >= classes:
            raise ValueError(f'label {label} of {classes} classes')
    except (ValueError, OSError) as error:
        raise UserError(
            f'{shards.description(index)} is damaged: {error}. Prepare the data set again (--mode=prepare).'
        ) from error
    return pixels, label


def training_batches(
    data: PreparedDataSet,
    *,
    batch_size: int,
    crop_size: int,
    mirror: bool,
    color_std: float,
    seed: int,
    random_crop: bool = True,
    color_epochs: int = 0,
    color_rescale: bool = False,
    first_step: int = 0,
    threads: int = 0,
    positions: np.ndarray | None = None,
) -> Iterator[Batch]:
    """Batches for training, without end: shuffled anew each epoch, every image once an epoch.

    Batches run on over the end of an epoch, so that no image is left out.

    Args:
      data: the prepared data set.
      batch_size: examples in a batch.
      crop_size: height and width of the random patches, in pixels; 224 in the paper.
      mirror: whether half of the patches are reflected (section 4.1).
      color_std: standard deviation of the draws a_i of section 4.1; 0.1 in the paper, 0 for none.
      seed: of order and draws.
      random_crop: whether patches lie anywhere; else all are the center.
      color_epochs: the a_i are 0 after so many epochs; 0 for never.
      color_rescale: whether images are to be scaled by 1 / (1 + color_std) while there is color noise, as the
        2012 code does so that their variance stays.
      first_step: number of the first batch, from 0.
      threads: batches made at the same time; 0 for one a core, up to 16.
      positions: in a batch, ascending, that this process reads; None for all. The batches below are then as large.

    Yields:
      'image' uint8 [batch, crop, crop, 3]; 'label' int32 [batch]; 'top' and 'left' int32 [batch], the patch's
      place; 'mirror' bool [batch]; 'color' float32 [batch, 3], the a_i; 'dropout_seed' uint32 [batch];
      'scale' float32 [batch], only where `color_rescale` asks for it.
    """
    shards, classes = open_shards(data, 'train'), len(data.class_names)
    own = np.arange(batch_size) if positions is None else positions

    def load(step: int) -> Batch:
        epochs, indices = epoch_permutation(seed, step * batch_size + own, len(shards))
        draws = random_draws(seed, epochs, indices, data.image_size - crop_size + 1)
        if not random_crop:
            draws['top'][:] = draws['left'][:] = (data.image_size - crop_size) // 2
        images = np.empty((len(indices), crop_size, crop_size, 3), np.uint8)
        labels = np.empty(len(indices), np.int32)
        for i, (index, top, left) in enumerate(
            zip(indices.tolist(), draws['top'].tolist(), draws['left'].tolist(), strict=True)
        ):
            pixels, labels[i] = read(shards, index, classes)
            images[i] = pixels[top : top + crop_size, left : left + crop_size]
        draws['mirror'] &= mirror
        noise = np.where((epochs < color_epochs) | (color_epochs == 0), color_std, 0).astype(np.float32)
        draws['color'] *= noise[:, None]
        if color_rescale:
            draws['scale'] = 1 / (1 + noise)
        return {'image': images, 'label': labels, **draws}

    batches = grain.MapDataset.range(first_step, _WITHOUT_END).map(load)
    return _in_threads(batches, threads)


def evaluation_batches(
    data: PreparedDataSet,
    split: str,
    *,
    batch_size: int,
    threads: int = 0,
    first: int = 0,
    positions: np.ndarray | None = None,
) -> Iterator[Batch]:
    """Every image of a split from the first on once, in order; the last batch is filled up with examples of weight 0.

    Args:
      data: the prepared data set.
      split: 'train' or 'validation'.
      batch_size: examples in a batch.
      threads: batches made at the same time; 0 for one a core, up to 16.
      first: number of the first image.
      positions: as for `training_batches`.

    Yields:
      'image' uint8 [batch, size, size, 3], whole; 'label' int32 [batch]; 'weight' float32 [batch], 1 or 0.
    """
    shards, classes = open_shards(data, split), len(data.class_names)
    own = np.arange(batch_size) if positions is None else positions

    def load(number: int) -> Batch:
        batch = {
            'image': np.zeros((len(own), data.image_size, data.image_size, 3), np.uint8),
            'label': np.zeros(len(own), np.int32),
            'weight': np.zeros(len(own), np.float32),
        }
        indices = first + number * batch_size + own
        for i, index in enumerate(indices[indices < len(shards)].tolist()):
            batch['image'][i], batch['label'][i] = read(shards, index, classes)
            batch['weight'][i] = 1.0
        return batch

    batches = grain.MapDataset.range(max(0, -(-(len(shards) - first) // batch_size))).map(load)
    return _in_threads(batches, threads)


def _in_threads(batches: grain.MapDataset, threads: int) -> Iterator[Batch]:
    """Makes batches ahead of time, in threads: decoding and copying let go of the interpreter's lock."""
    threads = threads or min(16, available_cores())
    return iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 2)))
