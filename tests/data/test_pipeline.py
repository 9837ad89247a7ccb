"""Guards the pipeline: each image once an epoch, draws from (seed, epoch, record) alone, and damaged records."""

import dataclasses
import itertools
import os
import shutil

import numpy as np
import pytest
import simplejpeg
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter
from fakes import encoded, noise
from fakes import prepared as prepare

from alexnet_jax.config import DataConfig
from alexnet_jax.data import records
from alexnet_jax.data.augment import statistics_of, training_images
from alexnet_jax.data.dataset import open_prepared
from alexnet_jax.data.pipeline import evaluation_batches, training_batches
from alexnet_jax.data.sources import Item
from alexnet_jax.runtime.errors import UserError

SIZE, CROP = 12, 8
TRAIN, VALIDATION = 23, 7  # primes: no batch size of interest divides them


class Noise:
    """Images of noise whose label is their place in the split: a label tells which record it was."""

    def __init__(self, train, validation, size):
        self.splits = {'train': train, 'validation': validation}
        self.class_names = self.class_ids = tuple(str(i) for i in range(max(train, validation)))
        self._size = size

    def pixels(self, split, index):
        return noise(self._size, self._size, [list(self.splits).index(split), index])

    def item(self, split, index):
        return Item(f'{split} {index}', encoded(self.pixels(split, index)), index)


def prepared(directory, train, validation, size, **fields):
    prepare(Noise(train, validation, size), directory, image_size=size, **fields)
    return open_prepared(directory)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp('pipeline') / 'data', TRAIN, VALIDATION, SIZE)


@pytest.fixture(scope='module')
def raw(tmp_path_factory):
    """The same images as raw pixels, in several shards."""
    return prepared(tmp_path_factory.mktemp('raw') / 'data', TRAIN, VALIDATION, SIZE, storage='raw', images_per_shard=5)


@pytest.fixture(scope='module')
def sharded(tmp_path_factory):
    """The same images as JPEG in several shards."""
    return prepared(tmp_path_factory.mktemp('sharded') / 'data', TRAIN, VALIDATION, SIZE, images_per_shard=5)


def stored_records(data, split):
    source = ArrayRecordDataSource(data.files(split))
    return [records.decode(record) for record in source.__getitems__(list(range(len(source))))]


def stored_images(data, split):
    """The decoded images by record, [count, size, size, 3]."""
    if data.settings.storage == 'raw':
        content = np.concatenate([np.fromfile(file, np.uint8) for file in data.files(split)])
        rows = content.reshape(-1, 4 + 3 * data.image_size**2)
        return rows[:, 4:].reshape(-1, data.image_size, data.image_size, 3)
    images = [simplejpeg.decode_jpeg(record.image, colorspace='RGB') for record in stored_records(data, split)]
    return np.stack(images)


def train(data, count, **options):
    """The first batches."""
    given = {name: options.pop(name) for name in ('batch_size', 'seed', 'first_step', 'positions') if name in options}
    config = DataConfig(**({'crop_size': CROP} | options))
    return list(itertools.islice(training_batches(data, config, **({'batch_size': 8, 'seed': 0} | given)), count))


def evaluate(data, split='train', **options):
    return list(evaluation_batches(data, split, **options))


def joined(batches):
    """Batches after one another: a stream of examples."""
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name, strict=True)


# --- training: which images ---


def test_a_batch_has_these_fields(data):
    (batch,) = train(data, 1)
    assert {name: (value.dtype.name, value.shape) for name, value in batch.items()} == {
        'image': ('uint8', (8, CROP, CROP, 3)),
        'label': ('int32', (8,)),
        'top': ('int32', (8,)),
        'left': ('int32', (8,)),
        'mirror': ('bool', (8,)),
        'color': ('float32', (8, 3)),
        'dropout_seed': ('uint32', (8,)),
    }


@pytest.mark.parametrize('batch_size', [1, 8, 23, 24, 46, 100])
def test_every_image_once_an_epoch_and_batches_run_over_its_end(data, batch_size):
    epochs = 6
    batches = train(data, -(-epochs * TRAIN // batch_size), batch_size=batch_size)
    assert all(len(batch['label']) == batch_size for batch in batches)
    order = joined(batches)['label'][: epochs * TRAIN].reshape(epochs, TRAIN)
    np.testing.assert_array_equal(np.sort(order, axis=1), np.broadcast_to(np.arange(TRAIN), order.shape))


def test_every_epoch_has_an_order_of_its_own(data):
    epochs = 8
    order = joined(train(data, epochs, batch_size=TRAIN))['label'].reshape(epochs, TRAIN)
    assert len({tuple(epoch) for epoch in order} | {tuple(range(TRAIN))}) == epochs + 1
    # A good shuffle leaves one record in its place on average; a rotation or a few swaps do not look like this.
    fixed = [(a == b).sum() for a, b in itertools.combinations(order, 2)]
    assert np.mean(fixed) < 2 and max(fixed) < 8


def test_the_same_seed_gives_the_same_batches_and_another_seed_others(data):
    first = joined(train(data, 9, seed=5))
    assert_same(first, joined(train(data, 9, seed=5)))
    other = joined(train(data, 9, seed=6))
    for name in first:
        assert (first[name] != other[name]).any(), name


def test_another_seed_gives_other_draws_for_the_same_image(data):
    draws = []
    for seed in range(4):
        stream = joined(train(data, 1, batch_size=TRAIN, seed=seed))
        draws.append(stream['color'][np.argsort(stream['label'])])
    for a, b in itertools.combinations(draws, 2):
        assert (a != b).all()


@pytest.mark.parametrize('first_step', [1, 2, 3, 23, 40])
def test_a_later_first_step_gives_exactly_the_batches_from_there(data, first_step):
    whole = train(data, first_step + 5)
    for expected, batch in zip(whole[first_step:], train(data, 5, first_step=first_step), strict=True):
        assert_same(expected, batch)


def test_far_into_training_is_as_near_as_the_start(data):
    batch = joined(train(data, TRAIN, first_step=10**8 * TRAIN))  # 8 * 10**8 epochs in, to 8 epochs later
    np.testing.assert_array_equal(np.sort(batch['label'].reshape(8, TRAIN)), np.broadcast_to(np.arange(TRAIN), (8, 23)))
    assert len(np.unique(batch['dropout_seed'])) == 8 * TRAIN


# --- training: the draws ---


@pytest.mark.parametrize('options', [{'batch_size': 32}, {'batch_size': 1}, {'threads': 1}, {'threads': 4}], ids=str)
def test_batch_size_and_threads_change_nothing(data, options):
    examples = 96
    default = joined(train(data, examples // 8))
    assert_same(default, joined(train(data, examples // options.get('batch_size', 8), **options)))


def draws_by_record(batches):
    """{(epoch, record): the draws}; a record's n-th appearance is in epoch n."""
    stream, seen, draws = joined(batches), {}, {}
    for i, record in enumerate(stream['label'].tolist()):
        epoch = seen.get(record, 0)
        seen[record] = epoch + 1
        draws[epoch, record] = tuple(
            stream[name][i].tolist() for name in sorted(stream) if name not in ('image', 'label')
        )
    return draws


def test_draws_do_not_depend_on_the_other_records(data, tmp_path):
    # With fewer records the order is another one, but record r in epoch e draws what it drew.
    all_records = draws_by_record(train(data, 4, batch_size=TRAIN))
    fewer = draws_by_record(train(prepared(tmp_path / 'fewer', 9, 2, SIZE), 4, batch_size=9))
    assert set(fewer) == set(itertools.product(range(4), range(9)))
    assert fewer == {key: all_records[key] for key in fewer}


PLACES = [[np.arange(4), np.arange(4, 8)], [np.array([0, 3, 6]), np.array([1, 2, 4, 5, 7])], [np.arange(8)] * 2]


@pytest.mark.parametrize('shares', PLACES, ids=['halves', 'scattered', 'both all'])
def test_processes_read_their_places_of_the_very_batches(data, shares):
    for first_step in (0, 5):
        whole = train(data, 6, first_step=first_step)
        for places in shares:
            for expected, batch in zip(whole, train(data, 6, first_step=first_step, positions=places), strict=True):
                assert_same({name: value[places] for name, value in expected.items()}, batch)


@pytest.mark.parametrize('storage', ['data', 'raw', 'sharded'])
def test_a_patch_is_the_image_at_its_place(request, storage):
    data = request.getfixturevalue(storage)
    images = stored_images(data, 'train')
    stream = joined(train(data, 12))
    for i, label in enumerate(stream['label']):
        top, left = stream['top'][i], stream['left'][i]
        np.testing.assert_array_equal(stream['image'][i], images[label, top : top + CROP, left : left + CROP])
    assert len(set(zip(stream['top'].tolist(), stream['left'].tolist(), strict=True))) > 10


# --- storage ---


def test_raw_patches_are_those_of_the_very_source(raw):
    source = Noise(TRAIN, VALIDATION, SIZE)
    stream = joined(train(raw, 12))
    for i, label in enumerate(stream['label'].tolist()):
        top, left = stream['top'][i], stream['left'][i]
        expected = source.pixels('train', label)[top : top + CROP, left : left + CROP]
        np.testing.assert_array_equal(stream['image'][i], expected)
    for split, count in source.splits.items():
        stream = joined(evaluate(raw, split, batch_size=4))
        expected = np.stack([source.pixels(split, i) for i in range(count)])
        np.testing.assert_array_equal(stream['image'][:count], expected)
        np.testing.assert_array_equal(stream['label'][:count], np.arange(count))


def test_storage_changes_nothing_but_the_pixels_and_shards_nothing_at_all(data, raw, sharded):
    assert len(data.files('train')) == 1 and len(raw.files('train')) == len(sharded.files('train')) == 5
    expected = joined(train(data, 12))
    assert_same(expected, joined(train(sharded, 12)))
    found = joined(train(raw, 12))
    assert (expected['image'] != found['image']).any()
    del expected['image'], found['image']
    assert_same(expected, found)
    for split in ('train', 'validation'):
        expected = joined(evaluate(data, split, batch_size=4))
        assert_same(expected, joined(evaluate(sharded, split, batch_size=4)))
        found = joined(evaluate(raw, split, batch_size=4))
        del expected['image'], found['image']
        assert_same(expected, found)


def test_batches_of_raw_pixels_are_copies(raw):
    # A batch may be written to, and must not hold on to a file.
    for batch in (train(raw, 1)[0], evaluate(raw, batch_size=4)[0]):
        assert batch['image'].flags.writeable and type(batch['image']) is np.ndarray
        batch['image'][:] = 0
    assert stored_images(raw, 'train').any()
    assert joined(evaluate(raw, batch_size=4))['image'][:4].any()


@pytest.mark.parametrize('seed', [0, 2**31, 2**32 - 1])
def test_every_seed_that_a_config_may_have(data, seed):
    stream = joined(train(data, 3, seed=seed))
    assert len(np.unique(stream['dropout_seed'])) == 24 and np.isfinite(stream['color']).all()


def test_patches_as_large_as_the_image_have_one_place(data):
    images = stored_images(data, 'train')
    stream = joined(train(data, 6, crop_size=SIZE))
    assert not stream['top'].any() and not stream['left'].any()
    np.testing.assert_array_equal(stream['image'], images[stream['label']])


def test_mirror_and_color_can_be_switched_off_alone(data):
    on, no_mirror, no_color = (joined(train(data, 6, **o)) for o in ({}, {'mirror': False}, {'color_std': 0.0}))
    assert on['mirror'].any() and not no_mirror['mirror'].any()
    assert on['color'].all() and not no_color['color'].any()
    assert_same(on | {'mirror': no_mirror['mirror']}, no_mirror)
    assert_same(on | {'color': no_color['color']}, no_color)


def test_without_random_crops_every_patch_is_the_center_and_nothing_else_changes(data):
    on, off = joined(train(data, 6)), joined(train(data, 6, random_crop=False))
    far = SIZE - CROP
    assert far > 0 and set(off['top']) == set(off['left']) == {far // 2} and len(set(on['top'])) > 1
    images = stored_images(data, 'train')[off['label']]
    np.testing.assert_array_equal(
        off['image'], images[:, far // 2 : far // 2 + CROP, far // 2 : far // 2 + CROP], strict=True
    )
    for name in ('label', 'mirror', 'color', 'dropout_seed'):
        np.testing.assert_array_equal(on[name], off[name])


def test_color_noise_ends_after_its_epochs_and_the_scale_with_it(data):
    always = joined(train(data, 6))
    limited = joined(train(data, 6, color_epochs=1, color_rescale=True))
    first = np.arange(48) < data.examples('train')
    assert first.any() and not first.all() and 'scale' not in always
    np.testing.assert_array_equal(limited['color'], np.where(first[:, None], always['color'], 0))
    np.testing.assert_allclose(limited.pop('scale'), np.where(first, 1 / 1.1, 1), rtol=1e-6)
    assert_same(always | {'color': limited['color']}, limited)


def test_color_draws_scale_with_their_deviation(data):
    one, other = (joined(train(data, 6, color_std=std))['color'] for std in (1.0, 0.25))
    np.testing.assert_array_equal(one * np.float32(0.25), other)


@pytest.fixture(scope='module')
def many_draws(tmp_path_factory):
    """Draws of 100 epochs of 200 images, as the paper's: 33 places along each side."""
    many = prepared(tmp_path_factory.mktemp('draws') / 'data', 200, 1, 40, storage='raw')
    draws = joined(train(many, 50, batch_size=400, crop_size=8, seed=1, threads=1))
    del draws['image']
    return draws


def assert_even(counts):
    """Chi-square against equal chances, at four standard deviations of the statistic either way."""
    expected = counts.sum() / counts.size
    assert expected >= 5
    freedom = counts.size - 1
    assert abs(((counts - expected) ** 2 / expected).sum() - freedom) < 4 * np.sqrt(2 * freedom)


def test_places_are_uniform_over_all_33_by_33(many_draws):
    top, left = many_draws['top'], many_draws['left']
    assert (top.min(), top.max(), left.min(), left.max()) == (0, 32, 0, 32)
    for offsets in (top, left):
        assert_even(np.bincount(offsets, minlength=33))
    assert_even(np.bincount(top * 33 + left, minlength=33 * 33))  # and so top does not tell left


def test_mirror_is_a_fair_coin_whatever_the_place(many_draws):
    mirror = many_draws['mirror']
    assert_even(np.bincount(mirror, minlength=2))
    assert_even(np.bincount(mirror * 33 + many_draws['top'], minlength=66))
    assert_even(np.bincount(mirror * 33 + many_draws['left'], minlength=66))


def test_color_draws_are_normal_and_uncorrelated(many_draws):
    color = many_draws['color'].astype(np.float64) / 0.1
    n = len(color)
    assert n == 20_000
    np.testing.assert_allclose(color.mean(0), 0, atol=4 / np.sqrt(n))
    np.testing.assert_allclose(color.std(0), 1, atol=4 / np.sqrt(2 * n))
    np.testing.assert_allclose((color**4).mean(0), 3, atol=4 * np.sqrt(96 / n))  # a normal's, not a uniform's
    others = [many_draws[name] for name in ('top', 'left', 'mirror', 'dropout_seed')]
    correlation = np.corrcoef(np.column_stack([color, np.abs(color), *others]).T)
    correlation[range(3), range(3, 6)] = correlation[range(3, 6), range(3)] = 0  # a draw and its size
    np.testing.assert_allclose(correlation, np.eye(len(correlation)), atol=4 / np.sqrt(n))
    # Within +-1 standard deviation in all three at once: independent, not only uncorrelated.
    inside = (np.abs(color) < 1).all(1).mean()
    assert abs(inside - 0.6827**3) < 4 * np.sqrt(0.25 / n)


def test_draws_of_neighboring_records_and_epochs_are_unrelated(many_draws):
    # In the order of the stream 200 examples are an epoch; sort each by record.
    order = many_draws['label'].reshape(100, 200).argsort(1)
    for name in ('top', 'left', 'mirror', 'dropout_seed'):
        table = np.take_along_axis(many_draws[name].reshape(100, 200), order, 1).astype(np.float64)
        table = (table - table.mean()) / table.std()
        for epochs, records_ in [(1, 0), (0, 1), (1, 1)]:
            moved = np.roll(table, (epochs, records_), axis=(0, 1))
            assert abs((table * moved).mean()) < 4 / np.sqrt(table.size), (name, epochs, records_)


def test_dropout_seeds_are_distinct(many_draws, data):
    seeds = joined(train(data, 4 * TRAIN))['dropout_seed']  # 32 epochs
    assert len(np.unique(seeds)) == len(seeds)
    # 20,000 draws of 2**32 have 0.05 pairs in common on average.
    assert len(np.unique(many_draws['dropout_seed'])) >= 20_000 - 1
    assert_even(np.bincount(many_draws['dropout_seed'] >> 26, minlength=64))
    assert_even(np.bincount(many_draws['dropout_seed'] & 63, minlength=64))


@pytest.mark.parametrize('storage', ['jpeg', 'raw'])
def test_an_image_that_is_the_mean_becomes_nothing_at_any_place(tmp_path, storage):
    # One training image: the mean is that image. Preparation, pipeline and augmentation must agree on every pixel.
    one = prepared(tmp_path / 'one', 1, 1, SIZE, storage=storage)
    stream = joined(train(one, 10, color_std=0.0))
    assert stream['mirror'].any() and len(np.unique(stream['top'])) > 3
    assert stream['image'].any()
    np.testing.assert_array_equal(training_images(stream, statistics_of(one, DataConfig(crop_size=CROP))), 0)


# --- evaluation ---


@pytest.mark.parametrize('split, count', [('train', TRAIN), ('validation', VALIDATION)])
@pytest.mark.parametrize('batch_size', [1, 7, 23, 100])
def test_every_image_once_in_order_then_weight_0(data, split, count, batch_size):
    batches = evaluate(data, split, batch_size=batch_size)
    assert len(batches) == -(-count // batch_size)
    for batch in batches:
        assert {name: (value.dtype.name, value.shape) for name, value in batch.items()} == {
            'image': ('uint8', (batch_size, SIZE, SIZE, 3)),
            'label': ('int32', (batch_size,)),
            'weight': ('float32', (batch_size,)),
        }
    stream = joined(batches)
    np.testing.assert_array_equal(stream['weight'], np.arange(len(stream['weight'])) < count)
    np.testing.assert_array_equal(stream['label'][:count], np.arange(count))
    np.testing.assert_array_equal(stream['image'][:count], stored_images(data, split))
    assert stream['label'].min() >= 0 and stream['label'].max() < len(data.class_names)  # of the filling, too


@pytest.mark.parametrize('threads', [1, 4])
@pytest.mark.parametrize('storage', ['data', 'raw', 'sharded'])
def test_threads_do_not_change_the_order(request, storage, threads):
    data = request.getfixturevalue(storage)
    for expected, batch in zip(
        evaluate(data, batch_size=2), evaluate(data, batch_size=2, threads=threads), strict=True
    ):
        assert_same(expected, batch)


@pytest.mark.parametrize('first', [0, 1, 4, 8, 20, TRAIN - 1, TRAIN])
def test_evaluation_from_a_later_image_on(raw, first):
    whole = joined(evaluate(raw, batch_size=1))
    batches = evaluate(raw, batch_size=4, first=first)
    assert len(batches) == -(-(TRAIN - first) // 4)
    if batches:
        found = joined(batches)
        real = found['weight'] > 0
        assert real.sum() == TRAIN - first and real[: TRAIN - first].all()
        assert_same({name: values[real] for name, values in found.items()}, {n: v[first:] for n, v in whole.items()})


@pytest.mark.parametrize('shares', PLACES, ids=['halves', 'scattered', 'both all'])
@pytest.mark.parametrize('first', [0, 3])
def test_processes_evaluate_their_places_of_the_very_batches(data, shares, first):
    whole = evaluate(data, batch_size=8, first=first)
    for places in shares:  # each process has as many batches, even if empty ones
        for expected, batch in zip(whole, evaluate(data, batch_size=8, first=first, positions=places), strict=True):
            assert_same({name: value[places] for name, value in expected.items()}, batch)


@pytest.mark.parametrize('storage', ['jpeg', 'raw'])
def test_colors_come_back_as_red_green_blue(tmp_path, storage):
    colors = [(250, 10, 20), (10, 240, 30), (20, 30, 230)]

    class Plain(Noise):
        def pixels(self, split, index):
            return np.broadcast_to(np.uint8(colors[index]), (SIZE, SIZE, 3))

    prepare(Plain(3, 3, SIZE), tmp_path / 'plain', image_size=SIZE, quality=95, storage=storage)
    plain = open_prepared(tmp_path / 'plain')
    for stream in (joined(train(plain, 3)), evaluate(plain, batch_size=3)[0]):
        means = stream['image'].mean((1, 2))
        np.testing.assert_allclose(means, np.array(colors)[stream['label']], atol=4)


# --- damage ---


@pytest.fixture
def copy(data, tmp_path):
    """The prepared data set, to be damaged."""
    shutil.copytree(data.directory, tmp_path / 'copy')
    return open_prepared(tmp_path / 'copy')


def write_shard(path, encoded):
    writer = ArrayRecordWriter(str(path), 'group_size:1,uncompressed')
    for record in encoded:
        writer.write(record)
    writer.close()


def jpeg(height, width):
    return simplejpeg.encode_jpeg(np.zeros((height, width, 3), np.uint8), 90)


def cut(record):
    """Without the last tenth, as a full disk leaves it: many a JPEG reader fills it in with gray and says nothing."""
    return records.encode(record)[: -len(record.image) // 10]


DAMAGE = {
    'empty': lambda record: b'',
    'garbage': lambda record: b'\x00\x01\x02\x03\x00\x00garbage that is no JPEG',
    'name that is no text': lambda record: b'\x00\x00\x00\x00\x02\x00\xff\xfe' + record.image,
    'cut off': cut,
    'wrong size': lambda record: records.encode(record._replace(image=jpeg(SIZE + 1, SIZE))),
    'label too large': lambda record: records.encode(record._replace(label=TRAIN)),
    'label far too large': lambda record: records.encode(record._replace(label=2**32 - 1)),
}


def damaged(copy, index, damage, split='train'):
    encoded = [records.encode(record) for record in stored_records(copy, split)]
    encoded[index] = DAMAGE[damage](stored_records(copy, split)[index])
    (path,) = copy.files(split)
    write_shard(path, encoded)
    return path


def assert_user_error(read, *parts):
    """That it is a UserError itself, through Grain's threads, and says where."""
    with pytest.raises(UserError) as caught:
        read()
    assert type(caught.value) is UserError
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize('threads', [1, 2])
@pytest.mark.parametrize('damage', DAMAGE)
def test_damaged_record_is_named_in_training(copy, damage, threads):
    path = damaged(copy, 17, damage)
    assert_user_error(lambda: train(copy, 3, threads=threads), path, 'record 17,')


@pytest.mark.parametrize('split', ['train', 'validation'])
@pytest.mark.parametrize('damage', DAMAGE)
def test_damaged_record_is_named_in_evaluation(copy, damage, split):
    path = damaged(copy, 5, 'label far too large' if damage == 'label too large' else damage, split)
    assert_user_error(lambda: evaluate(copy, split, batch_size=4), path, 'record 5,')


def test_damaged_record_does_not_hide_the_batches_before_it(copy):
    path = damaged(copy, 9, 'garbage')
    batches = evaluation_batches(copy, 'train', batch_size=4)
    assert next(batches)['label'].tolist() == [0, 1, 2, 3]
    assert next(batches)['label'].tolist() == [4, 5, 6, 7]
    assert_user_error(lambda: next(batches), path, 'record 9,')


def test_record_is_counted_within_its_shard(copy):
    encoded = [records.encode(record) for record in stored_records(copy, 'train')]
    encoded[14] = b''
    shards = []
    for number, (first, last) in enumerate([(0, 6), (6, 11), (11, TRAIN)]):
        write_shard(copy.directory / f'part-{number}', encoded[first:last])
        shards.append({'file': f'part-{number}', 'examples': last - first, 'sha256': ''})
    split = dataclasses.replace(copy, shards=copy.shards | {'train': shards})
    assert_user_error(lambda: evaluate(split, batch_size=4), str(copy.directory / 'part-2'), 'record 3,')
    write_shard(copy.directory / 'part-2', [records.encode(record) for record in stored_records(copy, 'train')[11:]])
    np.testing.assert_array_equal(joined(evaluate(split, batch_size=TRAIN))['label'], np.arange(TRAIN))


@pytest.mark.parametrize('read', [lambda data: train(data, 3), lambda data: evaluate(data, batch_size=4)])
def test_flipped_byte_in_a_shard_is_the_users_error(copy, read):
    (path,) = copy.files('train')
    record = records.encode(stored_records(copy, 'train')[17])
    with open(path, 'r+b') as file:
        at = file.read().index(record) + len(record) // 2
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0xFF]))
    assert_user_error(lambda: read(copy), path, 'record 17,')


@pytest.mark.parametrize('length', [0, 1000, 65536, -1])
def test_truncated_shard_is_the_users_error(copy, length):
    (path,) = copy.files('train')
    with open(path, 'r+b') as file:
        file.truncate(length if length >= 0 else len(file.read()) + length)
    assert_user_error(lambda: train(copy, 3), path)


@pytest.mark.parametrize('claimed', [TRAIN - 1, TRAIN + 1])
def test_manifest_that_counts_otherwise_than_the_shard(copy, claimed):
    shards = copy.shards | {'train': [copy.shards['train'][0] | {'examples': claimed}]}
    other = dataclasses.replace(copy, shards=shards)
    for read in (lambda: train(other, 1), lambda: evaluate(other, batch_size=4)):
        assert_user_error(read, str(copy.directory), str(TRAIN), str(claimed), '--mode=prepare')
    evaluate(other, 'validation', batch_size=4)  # the other split is as good as ever


# --- damage to raw shards ---


@pytest.fixture
def raw_copy(raw, tmp_path):
    shutil.copytree(raw.directory, tmp_path / 'copy')
    return open_prepared(tmp_path / 'copy')


READS = [lambda data: train(data, 3), lambda data: evaluate(data, batch_size=4)]


@pytest.mark.parametrize('read', READS)
def test_damaged_label_in_a_raw_shard_is_the_users_error(raw_copy, read):
    path = raw_copy.files('train')[3]
    with open(path, 'r+b') as file:
        file.seek(2 * (4 + 3 * SIZE**2) + 3)
        file.write(b'\x80')
    assert_user_error(lambda: read(raw_copy), path, 'record 2,', 'checksum differs', '--mode=prepare')


@pytest.mark.parametrize('length', [0, 1000, -1, 1])
@pytest.mark.parametrize('read', READS)
def test_raw_shard_of_a_wrong_length_is_the_users_error(raw_copy, read, length):
    path = raw_copy.files('train')[3]
    whole = 5 * (4 + 3 * SIZE**2)
    with open(path, 'r+b') as file:
        file.truncate(length if length in (0, 1000) else whole + length)
    assert_user_error(lambda: read(raw_copy), path, '--mode=prepare')


@pytest.mark.parametrize('read', READS)
def test_shard_that_vanishes_is_the_users_error(raw_copy, sharded, tmp_path, read):
    shutil.copytree(sharded.directory, tmp_path / 'other copy')
    for data in (raw_copy, open_prepared(tmp_path / 'other copy')):
        path = data.files('train')[4]
        os.unlink(path)
        assert_user_error(lambda data=data: read(data), path, '--mode=prepare')
