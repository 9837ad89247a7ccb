"""What chance decides about images: the order of an epoch, and each example's draws.

All of it is computed from explicit keys, whole batches at a time, by the output function of SplitMix64 (Steele, Lea
and Flood 2014). Nothing is remembered between calls, so nothing depends on threads, batch size or device count.
"""

import numpy as np

_ROUNDS = 4  # of the Feistel network; Luby and Rackoff (1988): four look random from either side


def mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's output function: a bijection of uint64 that scatters all bits."""
    with np.errstate(over='ignore'):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def _key(seed: int, *numbers: np.ndarray) -> np.ndarray:
    """A key for each row of numbers, uint64."""
    key = mix(np.uint64(seed))
    for number in numbers:
        with np.errstate(over='ignore'):
            key = mix(key + number.astype(np.uint64))
    return key


def epoch_permutation(seed: int, positions: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which record stands at each position of an endless stream in which every epoch is shuffled anew.

    An epoch's order is a permutation by a Feistel network, applied again to what falls outside the data set; so it
    takes no memory, and any place can be computed without those before it.

    Args:
      seed: of the run, 0 .. 2**32 - 1.
      positions: int64 [batch], places in the stream, from 0.
      count: records in the data set.

    Returns:
      The epochs and the records, int64 [batch] each.
    """
    epochs, places = np.divmod(positions, count)
    keys = _key(seed, epochs)
    rounds = [mix(keys ^ np.uint64(number + 1)) for number in range(_ROUNDS)]
    half = np.uint64(max(1, ((count - 1).bit_length() + 1) // 2))  # bits of either half
    mask = (np.uint64(1) << half) - np.uint64(1)
    records = places.astype(np.uint64)
    outside = np.arange(len(records))
    while len(outside):
        left, right = records[outside] >> half, records[outside] & mask
        for key in rounds:
            with np.errstate(over='ignore'):
                left, right = right, left ^ (mix(right + key[outside]) & mask)
        records[outside] = (left << half) | right
        outside = outside[records[outside] >= count]
    return epochs, records.astype(np.int64)


def random_draws(seed: int, epochs: np.ndarray, records: np.ndarray, offsets: int) -> dict[str, np.ndarray]:
    """The draws of examples, each a function of (seed, epoch, record) alone.

    Args:
      seed: of the run, 0 .. 2**32 - 1.
      epochs, records: int64 [batch], which use of which record.
      offsets: number of places for a patch along each side: 33 for 224 of 256. (The paper counts 32.)

    Returns:
      'top' and 'left', int32 [batch], uniform in 0 .. offsets - 1; 'mirror', bool [batch], a fair coin; 'color',
      float32 [batch, 3], standard normal; 'dropout_seed', uint32 [batch].
    """
    key = _key(seed, epochs, records)
    with np.errstate(over='ignore'):
        bits = mix(key[:, None] + np.arange(1, 9, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
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
