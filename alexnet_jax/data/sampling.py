"""Random draws: shuffling and augmentation.

Everything is computed from explicit keys, whole batches at a time, by the output function of SplitMix64 (Steele, Lea
and Flood 2014). There is no state, so nothing depends on threads, batch size or device count.
"""

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 4  # of the Feistel network; Luby and Rackoff (1988): four look random from either side
CHUNK, FILE = 32, 1024  # images that the 2012 code crops alike, and those of one of its data files
_BLENDING = np.int64(2**62)  # in place of a record's number: draws of their own
_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # SplitMix64's increment

Uint64s = NDArray[np.uint64]
Int64s = NDArray[np.int64]


def _mix(x: Uint64s) -> Uint64s:
    """SplitMix64's output function, a bijection of uint64."""
    with np.errstate(over='ignore'):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(x ^ (x >> np.uint64(31)))


def _keys(seed: int, *numbers: Int64s) -> Uint64s:
    """A key for each row of numbers, uint64 [batch]."""
    keys = _mix(np.asarray(seed, np.uint64))
    for number in numbers:
        with np.errstate(over='ignore'):
            keys = _mix(keys + number.astype(np.uint64))
    return keys


def epoch_permutation(seed: int, positions: Int64s, count: int) -> tuple[Int64s, Int64s]:
    """The record at each position of an infinite stream that is reshuffled every epoch.

    An epoch's permutation is a Feistel network, applied again to results outside the data set. So it takes no memory,
    and any position can be computed on its own.

    Args:
      seed: of the run, 0 .. 2**32 - 1.
      positions: int64 [batch], from 0.
      count: records in the data set.

    Returns:
      The epochs and the records, int64 [batch] each.
    """
    epochs, offsets = np.divmod(positions, count)
    keys = _keys(seed, epochs)
    round_keys = [_mix(keys ^ np.uint64(number + 1)) for number in range(_ROUNDS)]
    half_bits = np.uint64(max(1, ((count - 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half_bits) - np.uint64(1)
    records = offsets.astype(np.uint64)
    outside = np.arange(len(records))
    while len(outside):
        left, right = records[outside] >> half_bits, records[outside] & mask
        for key in round_keys:
            with np.errstate(over='ignore'):
                left, right = right, left ^ (_mix(right + key[outside]) & mask)
        records[outside] = (left << half_bits) | right
        outside = outside[records[outside] >= count]
    return epochs, records.astype(np.int64)


def random_draws(seed: int, epochs: Int64s, records: Int64s, offsets: int) -> dict[str, np.ndarray]:
    """The random draws of examples, each a function of (seed, epoch, record) alone.

    Args:
      seed: of the run, 0 .. 2**32 - 1.
      epochs, records: int64 [batch].
      offsets: possible offsets of a patch along each side: 33 for 224 of 256. (The paper counts 32.)

    Returns:
      'top' and 'left', int32 [batch], uniform in 0 .. offsets - 1; 'mirror', bool [batch], a fair coin; 'color',
      float32 [batch, 3], standard normal; 'dropout_seed', uint32 [batch].
    """
    keys = _keys(seed, epochs, records)
    with np.errstate(over='ignore'):
        bits = _mix(keys[:, None] + np.arange(1, 9, dtype=np.uint64) * _GOLDEN_GAMMA)
    uniform = (bits >> np.uint64(11)) * 2.0**-53  # [batch, 8], in [0, 1)
    radius = np.sqrt(-2 * np.log1p(-uniform[:, [4, 6]]))  # two normals from two uniforms (Box and Muller)
    angle = 2 * np.pi * uniform[:, [5, 7]]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return {
        'top': (uniform[:, 0] * offsets).astype(np.int32),
        'left': (uniform[:, 1] * offsets).astype(np.int32),
        'mirror': uniform[:, 2] < 0.5,
        'color': normal[:, :3].astype(np.float32),
        'dropout_seed': (bits[:, 3] >> np.uint64(32)).astype(np.uint32),
    }


def blended_with(seed: int, positions: Int64s, probability: float) -> Int64s:
    """The positions of the images with which those of a stream are blended; -1 for most, which are not.

    As in the 2012 code (convdata_jpeg.py, of which network 170-fade is). It goes through the images in files of 1024
    and, in these, in chunks of 32, all of whose images are blended or none; never those of a file's first chunk. The
    others are 32 consecutive images of the same file that end before the chunk; they may lie across two chunks.

    Args:
      seed: of the run, 0 .. 2**32 - 1.
      positions: int64 [batch], from 0, in the stream of `epoch_permutation`.
      probability: that a chunk is blended.

    Returns:
      int64 [batch], each a function of (seed, position) alone.
    """
    chunks = positions // CHUNK
    keys = _keys(seed, chunks, np.full_like(chunks, _BLENDING))
    with np.errstate(over='ignore'):
        bits = _mix(keys[:, None] + np.arange(1, 3, dtype=np.uint64) * _GOLDEN_GAMMA)
    uniform = (bits >> np.uint64(11)) * 2.0**-53  # [batch, 2], in [0, 1)
    file, within = positions - positions % FILE, positions % FILE
    before = within - within % CHUNK  # images of the file before the chunk
    starts = (uniform[:, 1] * (before - CHUNK + 1)).astype(np.int64)
    blended = (before > 0) & (uniform[:, 0] < probability)
    return np.where(blended, file + starts + within % CHUNK, -1)
