"""Guards preparation (section 2: what is stored, and its statistics) and the prepared data set that it leaves on disk.

Above all: however it was interrupted, on however many threads it ran, the bytes are the same.
"""

import dataclasses
import errno
import gc
import hashlib
import io
import json
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import namedtuple

import interrupted
import numpy as np
import pytest
import simplejpeg
from array_record.python.array_record_data_source import ArrayRecordDataSource
from fakes import Images, console, contents, encoded, noise, prepared, ramp, settings, tinted
from PIL import Image

from alexnet_jax.data import records
from alexnet_jax.data.dataset import (
    BROKEN_IMAGES,
    MANIFEST,
    MEAN_IMAGE,
    PLACES,
    PreparedDataSet,
    Settings,
    open_prepared,
    write_description,
)
from alexnet_jax.data.images import normalized
from alexnet_jax.runtime.errors import UserError

SIZE = 24
ROOT = pathlib.Path(__file__).parents[2]
CHUNK = 16  # images that a thread takes at a time


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
    where = tmp_path_factory.mktemp('prepare') / 'some' / 'place'
    prepared(tinted(), where)
    return where


@pytest.fixture
def copy(directory, tmp_path):
    """The prepared data set, to be damaged."""
    where = tmp_path / 'copy'
    where.mkdir()
    for name, content in contents(directory).items():
        (where / name).write_bytes(content)
    return where


@pytest.fixture(params=['jpeg', 'raw'])
def storage(request):
    return request.param


@pytest.fixture
def tmp_path():
    """A directory in memory, where there is one: much is written, and synced."""
    with tempfile.TemporaryDirectory(dir='/dev/shm' if os.access('/dev/shm', os.W_OK) else None) as where:
        yield pathlib.Path(where)


def items(source, split):
    return [source.item(split, i) for i in range(source.splits[split])]


def stored(directory, split):
    """The records of a split, read without the code under test's reader."""
    source = ArrayRecordDataSource(sorted(str(path) for path in directory.glob(f'{split}-*.array_record')))
    return [records.decode(data) for data in source.__getitems__(list(range(len(source))))]


def decoded(directory, split):
    return np.stack([simplejpeg.decode_jpeg(record.image, colorspace='RGB') for record in stored(directory, split)])


def stored_raw(directory, split, size):
    """Labels and pixels of a split in raw storage, likewise."""
    data = b''.join(path.read_bytes() for path in sorted(directory.glob(f'{split}-*.raw')))
    rows = np.frombuffer(data, np.uint8).reshape(-1, 4 + 3 * size * size)
    return rows[:, :4].copy().view('<u4')[:, 0], rows[:, 4:].reshape(-1, size, size, 3)


def names_raw(directory, split):
    text = ''.join(path.read_text() for path in sorted(directory.glob(f'{split}-*.names')))
    return text.split('\n')[:-1]


# --- what is stored ---


def test_records_hold_the_images_in_order_as_jpeg(directory):
    for split in ('train', 'validation'):
        expected = items(tinted(), split)
        records_ = stored(directory, split)
        assert [(record.name, record.label) for record in records_] == [(item.name, item.label) for item in expected]
        for record, item in zip(records_, expected, strict=True):
            picture = Image.open(io.BytesIO(record.image))
            assert (picture.format, picture.mode, picture.size) == ('JPEG', 'RGB', (SIZE, SIZE))
            difference = np.asarray(picture).mean((0, 1)) - normalized(item.image, SIZE).mean((0, 1))
            assert np.abs(difference).max() < 3  # red is red, and blue is blue


@pytest.mark.parametrize('images_per_shard', [4, 11, 8192])
def test_raw_shards_hold_the_very_pixels(tmp_path, images_per_shard):
    prepared(tinted(), tmp_path / 'data', storage='raw', images_per_shard=images_per_shard)
    for split in ('train', 'validation'):
        expected = items(tinted(), split)
        labels, pixels = stored_raw(tmp_path / 'data', split, SIZE)
        assert labels.tolist() == [item.label for item in expected]
        assert names_raw(tmp_path / 'data', split) == [item.name for item in expected]
        np.testing.assert_array_equal(pixels, np.stack([normalized(item.image, SIZE) for item in expected]))


def test_jpeg_of_a_smooth_image_stays_close(tmp_path):
    source = Images([('ramp', encoded(ramp(64, 64)))], [('ramp', encoded(ramp(64, 64)))])
    prepared(source, tmp_path / 'data', image_size=64, quality=95)
    assert np.abs(decoded(tmp_path / 'data', 'train')[0].astype(int) - ramp(64, 64)).max() <= 8


def test_quality_is_the_jpegs(directory, tmp_path):
    prepared(tinted(), tmp_path / 'coarse', quality=20)
    fine, coarse = (
        sum(len(record.image) for record in stored(path, 'train')) for path in (directory, tmp_path / 'coarse')
    )
    assert coarse < 0.7 * fine
    assert open_prepared(tmp_path / 'coarse').settings.quality == 20


def test_manifest(directory):
    data = open_prepared(directory)
    assert data.directory == directory and data.image_size == SIZE
    assert data.settings == Settings('fake', SIZE, 'jpeg', 90, 8192) == settings()
    assert data.class_names == ('class 0', 'class 1', 'class 2')
    assert data.class_ids == ('n00000000', 'n00000001', 'n00000002')
    assert (data.examples('train'), data.examples('validation'), data.left_out) == (11, 4, 0)
    assert_manifest_tells_the_files(data)
    assert (directory / BROKEN_IMAGES).read_text() == ''


def test_class_names_of_earlier_manifests_that_are_no_text(directory, tmp_path):
    copied = shutil.copytree(directory, tmp_path / 'copied')
    fields = json.loads((copied / MANIFEST).read_text())
    fields['class_names'][0] = fields['class_ids'][0] = os.fsdecode(b'caf\xe9')
    (copied / MANIFEST).write_text(json.dumps(fields))
    data = open_prepared(copied)
    assert data.class_names[0] == data.class_ids[0] == r'caf\xe9' and data.class_names[1:] == ('class 1', 'class 2')


def assert_manifest_tells_the_files(data):
    files = [MANIFEST, MEAN_IMAGE, BROKEN_IMAGES, PLACES]
    for split in ('train', 'validation'):
        assert data.counts(split) == [shard['examples'] for shard in data.shards[split]]
        for shard, path in zip(data.shards[split], data.files(split), strict=True):
            assert path == str(data.directory / shard['file'])
            assert shard['sha256'] == hashlib.sha256((data.directory / shard['file']).read_bytes()).hexdigest()
            files.append(shard['file'])
            files.append(shard['file'].split('.')[0] + '.sums')
            if data.settings.storage == 'raw':
                files.append(shard['file'].replace('.raw', '.names'))
    assert sorted(data.checksums) == sorted({*files} - {MANIFEST, PLACES})
    for file, (size, digest) in data.checksums.items():
        content = (data.directory / file).read_bytes()
        assert (size, digest) == (len(content), hashlib.sha256(content).hexdigest())
    assert sorted(path.name for path in data.directory.iterdir()) == sorted(files)


@pytest.mark.parametrize('images_per_shard, train, validation', [(4, [4, 4, 3], [4]), (11, [11], [4]), (1, 11, 4)])
def test_several_shards(directory, tmp_path, storage, images_per_shard, train, validation):
    prepared(tinted(), tmp_path / 'data', storage=storage, images_per_shard=images_per_shard)
    data = open_prepared(tmp_path / 'data')
    assert data.counts('train') == (train if isinstance(train, list) else [1] * train)
    assert data.counts('validation') == (validation if isinstance(validation, list) else [1] * validation)
    assert_manifest_tells_the_files(data)
    if storage == 'jpeg':  # however they are cut
        whole = open_prepared(directory)
        for split in ('train', 'validation'):
            assert stored(tmp_path / 'data', split) == stored(directory, split)
        np.testing.assert_array_equal(data.mean_image(), whole.mean_image())
        assert (data.rgb_mean, data.rgb_covariance) == (whole.rgb_mean, whole.rgb_covariance)


def test_the_same_images_give_the_same_bytes(directory, tmp_path):
    prepared(tinted(), tmp_path / 'again')
    assert contents(tmp_path / 'again') == contents(directory)


def test_what_it_tells(directory, tmp_path):
    on = console()
    data = prepared(tinted(), tmp_path / '[red]data[/x]', on=on, images_per_shard=6)
    assert data == open_prepared(tmp_path / '[red]data[/x]')
    text = on.file.getvalue()
    assert f'15 images of 3 classes need about 1.1 MB in {tmp_path}/[red]data[/x].partial; ' in text
    for line in ('image 6/15, train-00000.array_record', '11/15, train-00001', '15/15, validation-00000'):
        assert line in text


# --- statistics ---


def test_mean_image_of_the_decoded_training_pixels(directory):
    mean = open_prepared(directory).mean_image()
    assert mean.dtype == np.float32
    pixels = decoded(directory, 'train').astype(np.float64)
    np.testing.assert_array_equal(mean, pixels.mean(0).astype(np.float32))


def test_rgb_statistics_of_the_decoded_training_pixels(directory):
    data = open_prepared(directory)
    pixels = decoded(directory, 'train').reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(data.rgb_mean, pixels.mean(0), rtol=1e-14)
    np.testing.assert_allclose(data.rgb_covariance, np.cov(pixels.T, bias=True), rtol=1e-12)


def test_statistics_of_raw_pixels(tmp_path):
    data = prepared(tinted(), tmp_path / 'data', storage='raw', images_per_shard=4)
    pixels = stored_raw(tmp_path / 'data', 'train', SIZE)[1].astype(np.float64)
    np.testing.assert_array_equal(data.mean_image(), pixels.mean(0).astype(np.float32))
    np.testing.assert_allclose(data.rgb_mean, pixels.mean((0, 1, 2)), rtol=1e-14)
    np.testing.assert_allclose(data.rgb_covariance, np.cov(pixels.reshape(-1, 3).T, bias=True), rtol=1e-12)


def test_statistics_of_white_images_are_exact(tmp_path):
    # The largest sums there are.
    source = Images([('white', encoded(np.full((SIZE, SIZE, 3), 255)))] * 40, [('a', encoded(noise(9, 9)))])
    data = prepared(source, tmp_path / 'data', storage='raw')
    assert (data.mean_image() == 255).all() and data.rgb_mean == [255.0] * 3
    assert data.rgb_covariance == [[0.0] * 3] * 3


# --- threads ---


class Slow(Images):
    """Images that take their time, each another; counts how many are read at once."""

    at_once, most = 0, 0

    def item(self, split, index):
        with self._lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        time.sleep(0.004 * ((7 * index) % 5 == 0))
        item = super().item(split, index)
        with self._lock:
            self.at_once -= 1
        return item


def many(kind=Images, train=150, validation=21):
    return kind(*([(f'{name} {i}', encoded(noise(9, 9, i))) for i in range(n)] for name, n in
                  (('train', train), ('held out', validation))))  # fmt: skip


def test_threads_change_no_byte(tmp_path, storage):
    results = []
    for threads in (1, 4):
        source = many(Slow)
        where = tmp_path / str(threads)
        prepared(source, where, threads=threads, storage=storage, image_size=8, images_per_shard=100)
        assert source.most == threads
        results.append(contents(where))
    assert results[0] == results[1]
    names = names_raw(where, 'train') if storage == 'raw' else [record.name for record in stored(where, 'train')]
    assert names == [f'train {i}' for i in range(150)]


@pytest.mark.parametrize('threads', [1, 3])
def test_no_more_is_under_way_than_keeps_the_threads_busy(tmp_path, monkeypatch, threads):
    # Where the disk is slower than the threads, images must not pile up in memory.
    source, written, ahead, really_write = many(train=600), 0, [], records.RawWriter.write

    def write(writer, name, payload):
        nonlocal written
        written += 1
        really_write(writer, name, payload)
        ahead.append(len(source.asked) - written)
        time.sleep(0.0005)

    monkeypatch.setattr(records.RawWriter, 'write', write)
    prepared(source, tmp_path / 'data', threads=threads, storage='raw', image_size=8)
    assert threads * CHUNK < max(ahead) <= (2 * threads + 1) * CHUNK


def test_one_slow_image_does_not_let_the_others_run_away(tmp_path):
    class Stuck(Images):
        waiting = threading.Event()

        def item(self, split, index):
            item = super().item(split, index)
            if (split, index) == ('train', 0):
                self.waiting.wait(10)
            return item

    source, counts = many(Stuck, train=600), []

    def watch():
        while not counts or counts[-1] != len(source.asked) or counts[-1] <= CHUNK:
            counts.append(len(source.asked))
            time.sleep(0.05)
        source.waiting.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    prepared(source, tmp_path / 'data', threads=3, storage='raw', image_size=8)
    watcher.join()
    assert counts[-1] <= 6 * CHUNK


# --- interruption ---


def in_another_process(what, storage, where, *before):
    command = [*before, sys.executable, interrupted.__file__, what, storage, str(where)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, 'PYTHONPATH': str(ROOT)}
    )


def lines_of(process):
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    return [json.loads(line) for line in out.splitlines()]


def undisturbed(where, storage):
    interrupted.run(where / 'undisturbed', storage)
    return contents(where / 'undisturbed')


def test_killed_at_any_moment_it_carries_on_to_the_same_bytes(tmp_path, storage):
    expected = undisturbed(tmp_path, storage)
    (tmp_path / 'kill').mkdir()
    found = lines_of(in_another_process('kill', storage, tmp_path / 'kill'))
    assert len(found) > 30  # moments: images read, files opened, renamed, removed
    assert [moment for moment in found if moment['status'] != -9 or moment['again']] == []
    assert sum(moment['early'] for moment in found) == 1  # complete, but for the removal of the lock
    for moment in range(len(found)):
        parent = tmp_path / 'kill' / str(moment)
        assert [path.name for path in parent.iterdir()] == ['data']
        assert contents(parent / 'data') == expected, moment
    # What was done was not done again: not even touched.
    assert all(moment['kept'] == moment['done'] for moment in found)
    assert {len(moment['done']) for moment in found} == {0, 1, 2, 3}


def test_killed_by_the_clock_it_gets_there_in_the_end(tmp_path):
    expected = undisturbed(tmp_path, 'jpeg')
    (found,) = lines_of(in_another_process('clock', 'jpeg', tmp_path))
    assert found['kills'] >= 3
    assert contents(tmp_path / 'data') == expected


class Interrupting(Images):
    """Raises what it is told instead of giving an image."""

    failure = None

    def item(self, split, index):
        if self.failure and (split, index) == ('train', 5):
            raise self.failure
        return super().item(split, index)


@pytest.mark.parametrize(
    'failure', [KeyboardInterrupt(), UserError('the tar is damaged'), ZeroDivisionError()], ids=repr
)
def test_any_failure_ends_it_and_the_same_call_carries_on(tmp_path, storage, failure):
    prepared(many(train=20, validation=5), tmp_path / 'undisturbed', storage=storage, image_size=8, images_per_shard=4)
    source = many(Interrupting, train=20, validation=5)
    source.failure = failure
    with pytest.raises(type(failure)):
        prepared(source, tmp_path / 'data', storage=storage, image_size=8, images_per_shard=4)
    assert not (tmp_path / 'data').exists()
    source.failure = None
    prepared(source, tmp_path / 'data', storage=storage, image_size=8, images_per_shard=4)
    assert contents(tmp_path / 'data') == contents(tmp_path / 'undisturbed')
    assert not (tmp_path / 'data.partial').exists()


def test_done_shards_are_not_read_again(tmp_path):
    source = many(Interrupting, train=20, validation=5)
    source.failure = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        prepared(source, tmp_path / 'data', storage='raw', image_size=8, images_per_shard=4)
    source.failure, source.asked = None, []
    prepared(source, tmp_path / 'data', storage='raw', image_size=8, images_per_shard=4)
    assert sorted(source.asked) == [('train', i) for i in range(4, 20)] + [('validation', i) for i in range(5)]


@pytest.mark.parametrize(
    'field, value',
    [('source', 'other'), ('image_size', 16), ('storage', 'raw'), ('quality', 80), ('images_per_shard', 5)],
)
def test_begun_with_other_settings(directory, tmp_path, field, value):
    source = tinted()
    source.item = lambda split, index: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        prepared(source, tmp_path / 'data', storage='jpeg')
    before = contents(tmp_path / 'data.partial')
    with pytest.raises(UserError, match=f'started with {field}={getattr(settings(), field)!r}.*{value!r}') as caught:
        prepared(tinted(), tmp_path / 'data', **{field: value})
    assert str(tmp_path / 'data.partial') in str(caught.value)
    assert contents(tmp_path / 'data.partial') == before
    prepared(tinted(), tmp_path / 'data')
    assert contents(tmp_path / 'data') == contents(directory)


def test_two_at_once(tmp_path):
    process = in_another_process('hold', 'jpeg', tmp_path)
    assert json.loads(process.stdout.readline()) == 'begun'
    before = contents(tmp_path / 'data.partial')
    with pytest.raises(UserError, match=r'is being prepared by process \d+ on \S+, since 20') as caught:
        interrupted.run(tmp_path / 'data', 'jpeg')
    assert str(tmp_path / 'data.partial') in str(caught.value)
    assert contents(tmp_path / 'data.partial') == before
    process.kill()
    process.communicate()
    interrupted.run(tmp_path / 'data', 'jpeg')  # a process that is gone is no other process
    assert contents(tmp_path / 'data') == undisturbed(tmp_path, 'jpeg')


# --- broken images ---


def with_broken(broken=(1, 4, 5), validation=(2,)):
    good = tinted()._images
    source = Images(good['train'].copy(), good['validation'].copy())
    for split, places in (('train', broken), ('validation', validation)):
        for place in places:
            source._images[split][place] = (f'n0144/broken {place}.JPEG', b'this is no image')
    return source


@pytest.mark.parametrize('images_per_shard', [4, 8192])
def test_broken_images_are_told_at_the_end_and_left_out_when_asked(tmp_path, storage, images_per_shard):
    options = {'storage': storage, 'images_per_shard': images_per_shard}
    source, partial = with_broken(), tmp_path / 'data.partial'
    with pytest.raises(UserError) as caught:
        prepared(source, tmp_path / 'data', **options)
    assert set(source.asked) == {(split, i) for split, n in source.splits.items() for i in range(n)}  # all were tried
    for words in (
        '4 of 15 images',
        'n0144/broken 1.JPEG',
        str(partial / BROKEN_IMAGES),
        '--config.data.skip_broken=True',
    ):
        assert words in str(caught.value)
    lines = [line.split('\t') for line in (partial / BROKEN_IMAGES).read_text().splitlines()]
    assert [line[:2] for line in lines] == [
        *(['train', f'n0144/broken {i}.JPEG'] for i in (1, 4, 5)), ['validation', 'n0144/broken 2.JPEG']
    ]  # fmt: skip
    assert all(reason for _, _, reason in lines)
    assert not (tmp_path / 'data').exists()

    source.asked = []
    done = {path.name: path.stat().st_mtime_ns for path in partial.glob('*-0*')}
    data = prepared(source, tmp_path / 'data', skip_broken=True, **options)
    assert sorted(source.asked) == [('train', 1), ('train', 4), ('train', 5), ('validation', 2)]  # once more
    for shard in data.files('train') + data.files('validation'):
        assert pathlib.Path(shard).stat().st_mtime_ns == done[pathlib.Path(shard).name]
    assert data == open_prepared(tmp_path / 'data') and data.left_out == 4
    assert (data.examples('train'), data.examples('validation')) == (8, 3)
    assert_manifest_tells_the_files(data)
    assert [line.split('\t') for line in (tmp_path / 'data' / BROKEN_IMAGES).read_text().splitlines()] == lines

    prepared(with_broken(), tmp_path / 'at once', skip_broken=True, **options)
    assert contents(tmp_path / 'at once') == contents(tmp_path / 'data')
    good = [items(with_broken(), split) for split in ('train', 'validation')]
    for split, all_items in zip(('train', 'validation'), good, strict=True):
        expected = [item.name for item in all_items if 'broken' not in item.name]
        path = tmp_path / 'data'
        assert expected == (names_raw(path, split) if storage == 'raw' else [r.name for r in stored(path, split)])
    pixels = stored_raw(path, 'train', SIZE)[1] if storage == 'raw' else decoded(path, 'train')
    np.testing.assert_array_equal(data.mean_image(), pixels.astype(np.float64).mean(0).astype(np.float32))


def test_a_shard_of_broken_images_alone(tmp_path, storage):
    source = with_broken(broken=(4, 5, 6, 7))
    data = prepared(source, tmp_path / 'data', skip_broken=True, storage=storage, images_per_shard=4)
    assert data.counts('train') == [4, 3] and data.left_out == 5
    assert open_prepared(tmp_path / 'data') == data


@pytest.mark.parametrize('split', ['train', 'validation', 'both'])
def test_all_images_broken(tmp_path, storage, split):
    source = with_broken(
        range(11) if split != 'validation' else (), range(4) if split != 'train' else ()
    )  # fmt: skip
    count = {'train': 11, 'validation': 4, 'both': 15}[split]
    with pytest.raises(UserError, match=f'{count} of 15 images cannot be read'):
        prepared(source, tmp_path / 'data', storage=storage)
    with pytest.raises(UserError, match="No image of 'fake' could be read"):
        prepared(source, tmp_path / 'data', storage=storage, skip_broken=True)
    assert not (tmp_path / 'data').exists()


def test_names_that_are_odd_do_not_stop_it(tmp_path, storage):
    names = ['two\nlines', 'tab\there', 'caf\udce9.jpg', 'a\rb']
    images = [(name, encoded(noise(9, 9))) for name in names]
    source = Images(images + [(name, b'broken') for name in names], images)
    data = prepared(source, tmp_path / 'data', skip_broken=True, storage=storage)
    assert (data.examples('train'), data.left_out) == (4, 4)
    lines = (tmp_path / 'data' / BROKEN_IMAGES).read_bytes().decode().split('\n')
    assert [line.count('\t') for line in lines] == [2, 2, 2, 2, 0]


# --- other things that can go wrong in preparation ---


@pytest.mark.parametrize('label', [-1, 3, 1000])
def test_label_out_of_range(tmp_path, storage, label):
    source = tinted()
    item = source.item
    source.item = lambda split, index: item(split, index)._replace(label=label if (split, index) == ('train', 7) else 0)
    with pytest.raises(UserError, match=rf'train 7 .*label {label}; there are 3 classes'):
        prepared(source, tmp_path / 'data', storage=storage)
    assert not (tmp_path / 'data').exists()


@pytest.mark.parametrize('splits', [{'train': 3}, {'train': 0, 'validation': 3}, {'train': 3, 'validation': 0}, {}])
def test_source_without_images(tmp_path, splits):
    source = tinted()
    source.splits = splits
    with pytest.raises(UserError, match="'fake' needs images for training and validation"):
        prepared(source, tmp_path / 'data')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('below', ['data', 'deeper/data'])
def test_directory_that_cannot_be_written(tmp_path, below):
    (tmp_path / 'file').write_text('in the way')
    with pytest.raises(UserError, match=r'file'):
        prepared(tinted(), tmp_path / 'file' / below)
    assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_partial_directory_that_is_a_file(tmp_path):
    (tmp_path / 'data.partial').write_text('in the way')
    with pytest.raises(UserError, match=r'data\.partial'):
        prepared(tinted(), tmp_path / 'data')
    assert (tmp_path / 'data.partial').read_text() == 'in the way'


@pytest.mark.parametrize('where', ['', '.', '/', '..'])
def test_directories_that_have_no_name(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r'config\.data\.directory'):
        prepared(tinted(), where)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_already_is_not_overwritten(tmp_path):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'thesis.tex').write_text('years of work')
    with pytest.raises(UserError, match=str(tmp_path / 'data')):
        prepared(tinted(), tmp_path / 'data')
    assert [path.name for path in tmp_path.rglob('*')] == ['data', 'thesis.tex']
    assert (tmp_path / 'data' / 'thesis.tex').read_text() == 'years of work'


def test_what_comes_in_between_is_not_overwritten(tmp_path):
    source = tinted()
    item = source.item

    def meanwhile(split, index):
        (tmp_path / 'data').mkdir(exist_ok=True)
        (tmp_path / 'data' / 'thesis.tex').write_text('years of work')
        return item(split, index)

    source.item = meanwhile
    with pytest.raises(UserError, match=str(tmp_path / 'data')):
        prepared(source, tmp_path / 'data')
    assert contents(tmp_path / 'data') == {'thesis.tex': b'years of work'}


# --- the disk ---

Disk = namedtuple('Disk', 'total used free')


def disk_of(monkeypatch, free):
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: Disk(10**12, 0, free))


def test_disk_that_is_too_small_is_refused_beforehand(tmp_path, monkeypatch, storage):
    disk_of(monkeypatch, 10**6)
    source = many()
    with pytest.raises(UserError, match=r'MB are free.*config\.data\.directory') as caught:
        prepared(source, tmp_path / 'data', image_size=64, storage=storage)
    assert str(tmp_path / 'data.partial') in str(caught.value)
    assert len(source.asked) == (0 if storage == 'raw' else len(set(source.asked)))
    assert list((tmp_path / 'data.partial').glob('*train*')) == [] and not (tmp_path / 'data').exists()
    disk_of(monkeypatch, 10**9)
    prepared(source, tmp_path / 'data', image_size=64, storage=storage)


def test_the_estimate_is_enough_and_not_far_too_much(tmp_path, monkeypatch, storage):
    # Only every fourth image or so is looked at; they differ in size.
    images = [(f'{i}', encoded(noise(64, 64, i) // (1 + i % 3) if i % 5 else ramp(64, 64))) for i in range(300)]
    source = Images(images, images[:100])
    disk_of(monkeypatch, 10**12)
    on = console()
    prepared(source, tmp_path / 'data', image_size=64, storage=storage, on=on)
    told = float(on.file.getvalue().split('need about ')[1].split(' MB')[0]) * 1e6
    used = sum(path.stat().st_size for path in (tmp_path / 'data').iterdir())
    assert used < told < 1.1 * used + 2**20
    if storage == 'raw':
        assert len(source.asked) == 400
    else:
        assert 400 + 64 <= len(source.asked) <= 400 + 4 * 64
        sample = source.asked[:-400]
        assert {split for split, _ in sample} == {'train', 'validation'}
        assert max(index for _, index in sample) > 250  # from all over


def test_what_is_done_needs_no_disk_any_more(tmp_path, monkeypatch):
    # 400 images of 12,292 bytes: 6.2 MB asked for in all, with a reserve; half of them are done.
    source = many(Interrupting, train=400)
    item = source.item
    source.item = lambda split, index: item(split, index) if index < 200 else (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        prepared(source, tmp_path / 'data', image_size=64, storage='raw', images_per_shard=200)
    source.item = item
    disk_of(monkeypatch, 4_500_000)
    with pytest.raises(UserError, match='are free'):
        prepared(source, tmp_path / 'elsewhere', image_size=64, storage='raw', images_per_shard=200)
    prepared(source, tmp_path / 'data', image_size=64, storage='raw', images_per_shard=200)


def full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize('after', [0, 2, 9, 14])
@pytest.mark.parametrize('what', ['write', 'close'])
def test_disk_that_fills_up_on_the_way(tmp_path, monkeypatch, storage, after, what):
    writer = {'jpeg': records.JpegWriter, 'raw': records.RawWriter}[storage]
    whole, calls = getattr(writer, what), 0

    def until_full(self, *arguments):
        nonlocal calls
        calls += 1
        return whole(self, *arguments) if calls <= after else full()

    options = {'storage': storage, 'images_per_shard': 4 if what == 'write' else 1}
    prepared(tinted(), tmp_path / 'undisturbed', **options)
    with monkeypatch.context() as patch:
        patch.setattr(writer, what, until_full)
        with pytest.raises(UserError, match=r'No space left on device.*the same command resumes') as caught:
            prepared(tinted(), tmp_path / 'data', **options)
    assert str(tmp_path / 'data.partial') in str(caught.value) and not (tmp_path / 'data').exists()
    prepared(tinted(), tmp_path / 'data', **options)
    caught = None
    gc.collect()  # what the first attempt had open is closed now at the latest, and must not be heard of again
    assert contents(tmp_path / 'data') == contents(tmp_path / 'undisturbed')


def test_real_disks_that_fill_up_at_any_moment(tmp_path, storage):
    unshare = shutil.which('unshare')
    if not unshare or subprocess.run([unshare, '-Urm', 'true'], capture_output=True).returncode:
        pytest.skip('needs a mount namespace of its own')
    expected = undisturbed(tmp_path, storage)
    (tmp_path / 'fill').mkdir()
    found = lines_of(in_another_process('fill', storage, tmp_path / 'fill', unshare, '-Urm'))
    if {'cannot': 'mount'} in found:
        pytest.skip('cannot mount')
    assert len(found) >= 5
    for disk in found:
        assert 'No space left on device' in disk['error'] and 'resumes' in disk['error'] and not disk['there'], disk
        assert contents(tmp_path / 'fill' / f'result-{disk["size"]}') == expected


# --- what can go wrong in opening ---


def edit_manifest(directory, change):
    fields = json.loads((directory / MANIFEST).read_text())
    change(fields)
    (directory / MANIFEST).write_text(json.dumps(fields))


def test_manifest_comes_back_as_it_was(directory, tmp_path):
    data = dataclasses.replace(open_prepared(directory), directory=tmp_path)
    for path in directory.glob('*.array_record'):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    write_description(data, open_prepared(directory).mean_image(), data.directory)
    assert open_prepared(tmp_path) == data == open_prepared(str(tmp_path))


def test_absent_data_set_is_another_matter_than_a_damaged_one(tmp_path):
    for path in (tmp_path, tmp_path / 'absent'):
        with pytest.raises(FileNotFoundError):
            open_prepared(path)


@pytest.mark.parametrize(
    'text', [b'', b'{"format": 2,', b'\xff\xfe\x00', b'[]', b'3', b'null', b'{}', b'{"format": 2}', b'"format"']
)
def test_damaged_manifest(copy, text):
    (copy / MANIFEST).write_bytes(text)
    with pytest.raises(UserError, match='is damaged') as caught:
        open_prepared(copy)
    assert str(copy / MANIFEST) in str(caught.value)


@pytest.mark.parametrize('version', [0, 1, '2', None])
def test_manifest_of_another_format(copy, version):
    edit_manifest(copy, lambda fields: fields.update(format=version))
    with pytest.raises(UserError, match=f'has format {version}'):
        open_prepared(copy)


@pytest.mark.parametrize('field', ['format', *(f.name for f in dataclasses.fields(PreparedDataSet)[1:-4])])
def test_manifest_without_a_field(copy, field):
    edit_manifest(copy, lambda fields: fields.pop(field))
    with pytest.raises(UserError, match=f'is damaged.*{field}'):
        open_prepared(copy)


@pytest.mark.parametrize('field', [f.name for f in dataclasses.fields(Settings)])
def test_manifest_without_a_setting(copy, field):
    edit_manifest(copy, lambda fields: fields['settings'].pop(field))
    with pytest.raises(UserError, match=f'is damaged.*{field}'):
        open_prepared(copy)


def test_manifest_with_an_unknown_field(copy):
    edit_manifest(copy, lambda fields: fields.update(color_space='YUV'))
    with pytest.raises(UserError, match=r'is damaged.*color_space'):
        open_prepared(copy)


@pytest.mark.parametrize('split', ['train', 'validation'])
def test_manifest_without_a_split(copy, split):
    edit_manifest(copy, lambda fields: fields['shards'].pop(split))
    with pytest.raises(UserError, match=split):
        open_prepared(copy)


@pytest.mark.parametrize('split', ['train', 'validation'])
def test_split_without_images(copy, split):
    edit_manifest(copy, lambda fields: fields['shards'].update({split: []}))
    with pytest.raises(UserError, match=f"'{split}' has no images"):
        open_prepared(copy)


@pytest.mark.parametrize('split', ['train', 'validation'])
def test_missing_shard(copy, split):
    shard = next(copy.glob(f'{split}-*.array_record'))
    shard.unlink()
    with pytest.raises(UserError, match='is missing') as caught:
        open_prepared(copy)
    assert str(shard) in str(caught.value)


# --- the mean image ---


@pytest.mark.parametrize('shape', [(SIZE, SIZE), (SIZE, SIZE, 1), (SIZE + 1, SIZE, 3), (3, SIZE, SIZE), ()])
def test_mean_image_of_a_wrong_shape(copy, shape):
    np.save(copy / MEAN_IMAGE, np.zeros(shape, np.float32))
    with pytest.raises(UserError, match='shape') as caught:
        open_prepared(copy).mean_image()
    assert str(copy / MEAN_IMAGE) in str(caught.value)


def test_missing_mean_image(copy):
    (copy / MEAN_IMAGE).unlink()
    with pytest.raises(UserError, match=r'cannot be read.*--mode=prepare') as caught:
        open_prepared(copy).mean_image()
    assert str(copy / MEAN_IMAGE) in str(caught.value)


@pytest.mark.parametrize('content', [b'', b'\x93NUMPY', b'hello', b'PK\x03\x04'], ids=['empty', 'cut', 'text', 'zip'])
def test_damaged_mean_image(copy, content):
    (copy / MEAN_IMAGE).write_bytes(content)
    with pytest.raises(UserError) as caught:
        open_prepared(copy).mean_image()
    assert str(copy / MEAN_IMAGE) in str(caught.value)


class Bomb:
    exploded = False

    def __reduce__(self):
        return setattr, (Bomb, 'exploded', True)


def test_mean_image_is_never_unpickled(copy):
    np.save(copy / MEAN_IMAGE, np.array([Bomb()], object), allow_pickle=True)
    with pytest.raises(UserError):
        open_prepared(copy).mean_image()
    (copy / MEAN_IMAGE).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError):
        open_prepared(copy).mean_image()
    assert not Bomb.exploded


# --- color components ---


def with_covariance(tmp_path, covariance):
    return PreparedDataSet(
        tmp_path, settings(), ('a',), ('a',), {}, 0, [0.0, 0.0, 0.0], np.asarray(covariance).tolist()
    )


def random_covariance(seed):
    factor = np.random.default_rng(seed).normal(0, 40, (3, 3))
    return factor @ factor.T


@pytest.mark.parametrize('seed', range(5))
def test_color_components_are_the_covariances_principal_axes(tmp_path, seed):
    covariance = random_covariance(seed)
    components = with_covariance(tmp_path, covariance).color_components()
    assert components.dtype == np.float32 and components.shape == (3, 3)
    c = components.astype(np.float64)
    gram = c.T @ c
    lengths = np.sqrt(np.diag(gram))
    np.testing.assert_allclose(gram / np.outer(lengths, lengths), np.eye(3), atol=1e-5)  # orthogonal columns
    np.testing.assert_allclose(lengths, np.sqrt(np.linalg.eigvalsh(covariance)[::-1]), rtol=1e-5)  # largest first
    np.testing.assert_allclose(c @ c.T, covariance, atol=1e-6 * np.abs(covariance).max())


def test_color_components_of_the_prepared_images(directory):
    data = open_prepared(directory)
    c = data.color_components().astype(np.float64)
    np.testing.assert_allclose(c @ c.T, data.rgb_covariance, rtol=1e-4)


def test_color_components_have_signs_that_no_eigensolver_chooses(tmp_path, monkeypatch):
    data = [with_covariance(tmp_path, random_covariance(seed)) for seed in range(5)]
    expected = [d.color_components() for d in data]
    eigh = np.linalg.eigh
    for signs in ([-1, 1, 1], [1, -1, 1], [-1, -1, -1]):
        monkeypatch.setattr(np.linalg, 'eigh', lambda matrix, signs=signs: (eigh(matrix)[0], eigh(matrix)[1] * signs))
        for d, components in zip(data, expected, strict=True):
            np.testing.assert_array_equal(d.color_components(), components)


@pytest.mark.parametrize('seed', range(5))
def test_color_components_as_the_text_scales_them(tmp_path, seed):
    # Section 4.1: [p1, p2, p3] [a1 l1, a2 l2, a3 l3]^T, the l being eigenvalues, not their roots.
    covariance = random_covariance(seed)
    data = with_covariance(tmp_path, covariance)
    components, by_deviation = data.color_components('eigenvalue'), data.color_components('deviation')
    np.testing.assert_array_equal(by_deviation, data.color_components())
    assert components.dtype == np.float32
    values = np.linalg.eigvalsh(covariance)[::-1]
    for i in range(3):
        p = components[:, i] / np.linalg.norm(components[:, i].astype(np.float64))
        np.testing.assert_allclose(covariance @ p, values[i] * p, atol=1e-5 * values[0])
        np.testing.assert_allclose(components[:, i], values[i] * p, rtol=1e-5)
        np.testing.assert_allclose(by_deviation[:, i], np.sqrt(values[i]) * p, rtol=1e-4, atol=1e-4)


def test_color_components_of_gray_images(tmp_path):
    # Red, green and blue are equal: one axis, and two without length, where rounding may leave less than 0.
    c = with_covariance(tmp_path, np.full((3, 3), 1234.5)).color_components()
    np.testing.assert_allclose(c[:, 0], np.full(3, np.sqrt(1234.5)), rtol=1e-6)
    np.testing.assert_allclose(c[:, 1:], 0, atol=1e-4)
    assert np.isfinite(c).all()
