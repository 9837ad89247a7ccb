"""Guards blended images: which ones by the 2012 code's rule, the same for any batch size, process and first step."""

import itertools

import numpy as np
import pytest
from fakes import encoded, noise
from fakes import prepared as prepare

from alexnet_jax.config import DataConfig
from alexnet_jax.data.dataset import open_prepared
from alexnet_jax.data.pipeline import training_batches
from alexnet_jax.data.sampling import blended_with
from alexnet_jax.data.sources import Item

SIZE, CROP, IMAGES = 12, 8, 23
CHUNK, FILE = 32, 1024  # of the 2012 code: its crop_chunk, and the images in a data file


class Noise:
    def __init__(self):
        self.splits = {'train': IMAGES, 'validation': 1}
        self.class_names = self.class_ids = tuple(map(str, range(IMAGES)))

    def item(self, split, index):
        return Item(f'{split} {index}', encoded(noise(SIZE, SIZE, [index])), index)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp('blending') / 'data'
    prepare(Noise(), directory, image_size=SIZE)
    return open_prepared(directory)


def train(data, examples, batch_size=64, first_step=0, positions=None, **fields):
    """A stream of examples from the first step on."""
    config = DataConfig(crop_size=CROP, **fields)
    batches = training_batches(data, config, batch_size=batch_size, seed=3, first_step=first_step, positions=positions)
    taken = list(itertools.islice(batches, examples // batch_size))
    return {name: np.concatenate([batch[name] for batch in taken]) for name in taken[0]}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name, strict=True)


def own(stream, positions):
    return [stream[name][positions] for name in ('image', 'top', 'left', 'mirror')]


def test_a_chunk_is_blended_with_32_images_in_a_row_from_before_it_in_its_file(data):
    plain, stream = train(data, 2 * FILE), train(data, 2 * FILE, blend_probability=0.4)
    places = []
    for chunk in range(0, 2 * FILE, CHUNK):
        here = np.arange(chunk, chunk + CHUNK)
        (weight,) = set(stream['blend_weight'][here].tolist())  # all of a chunk or none
        others = [stream[f'blend_{name}'][here] for name in ('image', 'top', 'left', 'mirror')]
        if not weight:
            assert not any(one.any() for one in others)
            continue
        assert weight == 0.25 and chunk % FILE
        file = chunk - chunk % FILE
        starts = [
            start
            for start in range(file, chunk - CHUNK + 1)
            if all(map(np.array_equal, own(plain, np.arange(start, start + CHUNK)), others))
        ]
        assert len(starts) == 1  # the very patches that were seen there, mirrored alike
        places.append(starts[0] % CHUNK)
    assert 10 < len(places) < 40 and len(set(places)) > 5  # of 62 chunks, two files' first ones apart
    assert_same(plain, {name: value for name, value in stream.items() if not name.startswith('blend_')})


@pytest.mark.parametrize('options', [{'batch_size': 32}, {'batch_size': 256}, {'threads': 1}], ids=str)
def test_batch_size_and_threads_change_nothing(data, options):
    fields = {'blend_probability': 0.4, 'blend_weight': 0.5}
    assert_same(train(data, 512, **fields), train(data, 512, **(fields | options)))


def test_a_later_first_step_and_a_processs_share_are_of_the_same_stream(data):
    whole = train(data, 1024, blend_probability=0.4)
    later = train(data, 512, blend_probability=0.4, first_step=8)
    assert_same({name: value[512:] for name, value in whole.items()}, later)
    share = train(data, 1024, blend_probability=0.4, positions=np.array([1, 40, 63]))
    mine = np.isin(np.arange(1024) % 64, [1, 40, 63])
    assert_same({name: value[mine] for name, value in whole.items()}, share)


def test_chunks_are_blended_as_often_as_asked_and_with_any_images_before_them():
    first = np.arange(0, 400 * FILE, CHUNK)  # of each chunk
    others = blended_with(7, first, 0.05)
    before, blended = first % FILE, others >= 0
    assert not blended[before == 0].any()
    trials = (before > 0).sum()
    assert abs(blended.sum() - 0.05 * trials) < 4 * np.sqrt(0.05 * 0.95 * trials)
    distance = first[blended] - others[blended]
    assert distance.min() >= CHUNK and (distance <= before[blended]).all()
    share = (others[blended] % FILE) / (before[blended] - CHUNK + 1)  # of all starts, evenly
    assert abs(share.mean() - 0.5) < 4 * np.sqrt(1 / 12 / blended.sum()) + 0.02
    assert (blended_with(7, first, 0.15) >= 0)[blended].all() and (blended_with(8, first, 0.05) != others).any()


def test_certainty_and_impossibility(data):
    positions = np.arange(2 * FILE)
    assert (blended_with(0, positions, 0.0) == -1).all()
    np.testing.assert_array_equal(blended_with(0, positions, 1.0) < 0, positions % FILE < CHUNK)
    assert not any(name.startswith('blend_') for name in train(data, 64))
