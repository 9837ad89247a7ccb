"""Guards how images lie in shards, as JPEG and raw: what is read is what was written, or a ValueError."""

import contextlib
import errno
import gc
import itertools
import os
import pathlib
import resource
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import simplejpeg
from array_record.python.array_record_module import ArrayRecordWriter
from fakes import noise, ramp

from alexnet_jax.data import records
from alexnet_jax.data.pipeline import read, reading
from alexnet_jax.data.records import (
    STORAGE,
    JpegWriter,
    RawWriter,
    Record,
    Shards,
    decode,
    encode,
    names_file,
    payload,
)
from alexnet_jax.runtime.errors import UserError

SIZE, COUNTS, CLASSES = 10, (4, 1, 6, 2), 300
NAMES = ['n01440764/n01440764_10026.JPEG', '', 'schön/魚-🐟.jpg', 'with space ', '\ttab', '#', 'a' * 300]


def pixels_of(index):
    return np.ascontiguousarray(noise(SIZE, SIZE, index) // 2 + ramp(SIZE, SIZE) // 2)


def label_of(index):
    return (37 * index) % CLASSES


def name_of(index):
    return NAMES[index % len(NAMES)]


def write(directory, storage, counts=COUNTS):
    """Shards of images, labels and names that follow from the index; returns the files and the pixels."""
    writer_of = {'jpeg': JpegWriter, 'raw': RawWriter}[storage]
    files, pixels, first = [], [], 0
    for number, count in enumerate(counts):
        path = directory / f'train-{number:05d}{STORAGE[storage]}'
        writer = writer_of(path)
        for index in range(first, first + count):
            data, stored = payload(storage, name_of(index), label_of(index), pixels_of(index), 90)
            writer.write(name_of(index), data)
            pixels.append(stored)
        writer.close()
        files.append(str(path))
        first += count
    return files, np.stack(pixels)


def shards_of(files, storage, counts=COUNTS, size=SIZE):
    return Shards(files, counts, storage, size)


@pytest.fixture(params=['jpeg', 'raw'])
def storage(request):
    return request.param


@pytest.fixture
def written(tmp_path, storage):
    return write(tmp_path, storage)


# --- a record ---


@pytest.mark.parametrize('name', ['n01440764_10026.JPEG', '', 'schön/魚-🐟.jpg', 'x' * 65535])
@pytest.mark.parametrize('label', [0, 999, 2**32 - 1])
def test_record_comes_back_as_it_was(name, label):
    record = Record(name, label, b'\xff\xd8\x00\xff\xd9')
    assert decode(encode(record)) == record


def test_record_layout_on_disk():
    # Prepared data sets outlive the code: label and length are little-endian, the name is UTF-8.
    assert encode(Record('ü', 258, b'JPEG')) == b'\x02\x01\x00\x00' + b'\x02\x00' + b'\xc3\xbc' + b'JPEG'


def test_raw_layout_on_disk():
    pixels = pixels_of(0)
    data, stored = payload('raw', 'name', 258, pixels, 90)
    assert data == b'\x02\x01\x00\x00' + bytes(pixels.ravel().tolist())
    np.testing.assert_array_equal(stored, pixels)


def test_every_truncation_up_to_the_image_is_no_record():
    whole = encode(Record('näme', 7, b'JPEG'))
    header_and_name = len(whole) - 4
    for length in range(header_and_name + 1):
        with pytest.raises(ValueError, match='bytes'):
            decode(whole[:length])
    assert decode(whole[: header_and_name + 1]).image == b'J'


def test_name_that_is_no_utf8_is_no_record():
    with pytest.raises(ValueError, match='utf-8'):
        decode(b'\x00\x00\x00\x00\x02\x00\xff\xfeJPEG')


def test_names_that_are_too_long_are_cut():
    assert decode(encode(Record('x' * 70_000, 7, b'JPEG'))) == Record('x' * 65535, 7, b'JPEG')


def test_jpeg_payload_tells_the_pixels_that_will_be_read():
    data, stored = payload('jpeg', 'name', 3, pixels_of(1), 90)
    record = decode(data)
    assert record[:2] == ('name', 3)
    np.testing.assert_array_equal(stored, simplejpeg.decode_jpeg(record.image, colorspace='RGB'))
    assert (stored != pixels_of(1)).any() and np.abs(stored.astype(int) - pixels_of(1)).mean() < 40


def test_jpegs_of_views_that_are_not_contiguous():
    data, _ = payload('jpeg', '', 0, ramp(SIZE, SIZE).transpose(1, 0, 2)[::-1], 95)
    result = simplejpeg.decode_jpeg(decode(data).image, colorspace='RGB').astype(int)
    np.testing.assert_allclose(result.mean((0, 1)), ramp(SIZE, SIZE).mean((0, 1)), atol=3)


# --- shards ---


def test_every_image_of_every_shard_is_read_back(written, storage):
    files, pixels = written
    shards = shards_of(files, storage)
    assert len(shards) == sum(COUNTS) == 13
    for index in np.random.default_rng(0).permutation(13).tolist():
        found, label = shards.read(index)
        np.testing.assert_array_equal(found, pixels[index])
        assert found.dtype == np.uint8 and found.shape == (SIZE, SIZE, 3)
        assert (label, type(label)) == (label_of(index), int)
        assert shards.name(index) == name_of(index)


def test_raw_pixels_are_exactly_those_given(tmp_path):
    shards = shards_of(write(tmp_path, 'raw')[0], 'raw')
    for index in range(13):
        np.testing.assert_array_equal(shards.read(index)[0], pixels_of(index))


def test_locate_and_where(written, storage):
    shards = shards_of(written[0], storage)
    places = [(shard, place) for shard, count in enumerate(COUNTS) for place in range(count)]
    assert [shards.locate(index) for index in range(13)] == places
    assert shards.description(5) == f'{written[0][2]}, record 0,'
    assert shards.description(12) == f'{written[0][3]}, record 1,'


def test_no_shards_at_all():
    assert len(Shards([], [], 'jpeg', SIZE)) == 0


def test_files_open_when_they_are_needed(written, storage, monkeypatch):
    files, _ = written
    shards = shards_of([files[0], '/nowhere', *files[2:]], storage)
    assert shards.read(2)[1] == label_of(2) and shards.read(12)[1] == label_of(12)
    with pytest.raises((ValueError, OSError)):
        shards.read(4)


@pytest.mark.parametrize('name', ['two\nlines', 'a\rb', 'a\r\nb', '\n', 'caf\udce9.jpg', 'a\x85b\u2028c'])
def test_odd_names_do_no_harm(tmp_path, storage, name):
    # A file's name may hold any byte but 0 and /; one that is no UTF-8 reaches Python with surrogates.
    path = tmp_path / f'train{STORAGE[storage]}'
    writer = {'jpeg': JpegWriter, 'raw': RawWriter}[storage](path)
    for label, text in enumerate(['before', name, 'after']):
        writer.write(text, payload(storage, text, label, pixels_of(label), 90)[0])
    writer.close()
    shards = Shards([str(path)], [3], storage, SIZE)
    assert [shards.read(index)[1] for index in range(3)] == [0, 1, 2]
    assert shards.name(0) == 'before' and shards.name(2) == 'after'
    assert [c for c in shards.name(1) if c.isascii() and c.isalpha()][:2] == [c for c in name if c.isalpha()][:2]


@pytest.mark.parametrize('threads', [8])
def test_threads_reading_at_once(tmp_path, storage, threads):
    counts = [5] * 8
    files, pixels = write(tmp_path, storage, counts)
    shards, barrier, wrong = shards_of(files, storage, counts), threading.Barrier(threads), []

    def work(seed):
        barrier.wait()
        for index in np.random.default_rng(seed).permutation(40).tolist() * 5:
            found, label = shards.read(index)
            if label != label_of(index) or (found != pixels[index]).any():
                wrong.append(index)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert not any(worker.is_alive() for worker in workers) and not wrong


def test_closing_notices_records_that_did_not_reach_the_disk(tmp_path):
    writer = JpegWriter(tmp_path / 'shard')
    writer.write('', encode(Record('', 0, b'JPEG')))
    writer._count += 1
    with pytest.raises(OSError, match='holds 1 of 2 records'):
        writer.close()


@pytest.mark.parametrize('writer', [JpegWriter, RawWriter])
def test_a_shard_without_images_can_be_closed(tmp_path, writer):
    writer(tmp_path / 'shard').close()


# --- damage ---


def assert_refused(files, storage, index, *words, counts=COUNTS, size=SIZE):
    """ValueError there, and from the pipeline a UserError that names file and record."""
    with pytest.raises(ValueError, match='.*'.join(words) or None):
        shards_of(files, storage, counts, size).read(index)
    shards = shards_of(files, storage, counts, size)
    with pytest.raises(UserError, match='--mode=prepare') as caught:
        read(shards, index, CLASSES)
    shard, place = shards.locate(index)
    assert f'{files[shard]}, record {place},' in str(caught.value)


@pytest.mark.parametrize('difference', [-1, 1])
def test_wrong_counts(written, storage, difference):
    files, _ = written
    counts = [4, 1, 6 + difference, 2]
    assert_refused(files, storage, 6, 'holds 6 records', f'says {6 + difference}', counts=counts)
    shards_of(files, storage, counts).read(4)  # the other shards are as good as ever


@pytest.mark.parametrize('keep', [0, 1, 0.3, 0.5, 0.9, -1])
def test_truncated_files(written, storage, keep):
    files, _ = written
    path = pathlib.Path(files[2])
    data = path.read_bytes()
    path.write_bytes(data[:keep] if isinstance(keep, int) else data[: int(keep * len(data))])
    assert_refused(files, storage, 7)


def test_raw_files_that_are_too_long(tmp_path):
    files, _ = write(tmp_path, 'raw')
    with open(files[2], 'ab') as file:
        file.write(b'\x00')
    assert_refused(files, 'raw', 5, 'records')


def test_missing_file_is_the_users_error(written, storage):
    files, _ = written
    pathlib.Path(files[2]).unlink()
    with pytest.raises(UserError, match=r'train-00002.* is missing\. Prepare'):
        read(shards_of(files, storage), 5, CLASSES)


def test_images_of_another_size(tmp_path):
    files, _ = write(tmp_path, 'jpeg')
    assert_refused(files, 'jpeg', 5, 'not of 11 x 11', size=SIZE + 1)
    files, _ = write(tmp_path, 'raw')
    assert_refused(files, 'raw', 5, 'records', size=SIZE + 1)


def test_flipped_bytes_never_give_other_pixels(tmp_path):
    # ArrayRecord has checksums; what they do not cover is not read.
    files, pixels = write(tmp_path, 'jpeg', [6])
    path = pathlib.Path(files[0])
    whole, refused = path.read_bytes(), 0
    used = len(whole.rstrip(b'\x00'))
    first = whole.index(encode(Record(name_of(0), label_of(0), b'\xff\xd8')))
    positions = np.random.default_rng(0).integers(0, used, 150).tolist() + list(range(first, first + 60))
    for position in positions:
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        shards = Shards(files, [6], 'jpeg', SIZE)
        for index in range(6):
            try:
                found, label = read(shards, index, CLASSES)
            except UserError:
                refused += 1
            else:
                assert label == label_of(index)
                np.testing.assert_array_equal(found, pixels[index])
            with contextlib.suppress(ValueError):
                assert shards.name(index) == name_of(index)
    assert refused >= 60


def test_raw_labels_are_checked(tmp_path):
    files, _ = write(tmp_path, 'raw')
    with open(files[2], 'r+b') as file:
        file.seek(2 * (4 + 3 * SIZE**2) + 1)  # the second byte of the third label
        file.write(b'\xff')
    with pytest.raises(UserError, match='record 2, is damaged: label 65'):
        read(shards_of(files, 'raw'), 7, CLASSES)
    read(shards_of(files, 'raw'), 6, CLASSES)


@pytest.mark.parametrize('label', [CLASSES - 1, CLASSES])
def test_the_last_class_is_one_and_no_more(tmp_path, storage, label):
    path = tmp_path / f'train{STORAGE[storage]}'
    writer = {'jpeg': JpegWriter, 'raw': RawWriter}[storage](path)
    writer.write('', payload(storage, '', label, pixels_of(0), 90)[0])
    writer.close()
    shards = Shards([str(path)], [1], storage, SIZE)
    if label < CLASSES:
        assert read(shards, 0, CLASSES)[1] == label
    else:
        with pytest.raises(UserError, match=f'label {label} of {CLASSES} classes'):
            read(shards, 0, CLASSES)


def test_names_that_are_missing_are_a_value_error(written, storage):
    files, _ = written
    if storage == 'raw':
        names_file(pathlib.Path(files[2])).write_text('one\n')
    else:
        writer = ArrayRecordWriter(files[2], 'group_size:1,uncompressed')
        for data in itertools.repeat(b'no record', 6):
            writer.write(data)
        writer.close()
    with pytest.raises((ValueError, OSError)):
        shards_of(files, storage).name(7)


# --- what the system refuses ---

ERRORS = [errno.EIO, errno.ESTALE, errno.EACCES, errno.EMFILE, errno.ENOMEM]


@pytest.mark.parametrize('number', ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize('when', ['opening', 'reading'])
def test_what_the_system_refuses_is_not_damage(written, storage, monkeypatch, number, when):
    files, pixels = written
    shards = shards_of(files, storage)
    if when == 'reading':
        read(shards, 5, CLASSES)

    def refuse(*arguments, **keywords):
        raise OSError(number, os.strerror(number), files[2])

    def fail(*arguments):
        raise RuntimeError('INTERNAL: something')  # as ArrayRecord, without the system's reason

    with monkeypatch.context() as patch:
        patch.setattr(records, 'open', refuse, raising=False)
        patch.setattr(records, 'read_through', refuse)
        patch.setattr(os, 'pread', refuse)
        if when == 'reading' and storage == 'jpeg':
            patch.setattr(shards, '_open_shard', lambda shard: SimpleNamespace(read=fail))
            shards._readers._values.clear()
        with pytest.raises(UserError) as caught:
            read(shards, 5, CLASSES)
    message = str(caught.value)
    assert message.startswith(f'{files[2]}, record 0, cannot be read: {os.strerror(number)}.')
    assert 'is damaged' not in message and '--mode=prepare' not in message
    assert ('ulimit -n' in message) == (number == errno.EMFILE)
    shards._readers._values.clear()
    shards = shards_of(files, storage)
    np.testing.assert_array_equal(read(shards, 5, CLASSES)[0], pixels[5])  # once the system works again


@pytest.mark.parametrize('number', ERRORS, ids=errno.errorcode.get)
def test_names_that_the_system_refuses_are_not_damage(written, storage, monkeypatch, number):
    def refuse(*arguments, **keywords):
        raise OSError(number, os.strerror(number))

    files, _ = written
    shards = shards_of(files, storage)
    monkeypatch.setattr(records, 'open', refuse, raising=False)
    monkeypatch.setattr(records, 'read_file', refuse)
    with pytest.raises(UserError, match=f'cannot be read: {os.strerror(number)}'), reading(shards, 5):
        shards.name(5)


def test_more_shards_than_files_that_may_be_open(tmp_path, storage):
    counts = [1] * 60
    files, pixels = write(tmp_path, storage, counts)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(os.listdir('/proc/self/fd')) if os.path.exists('/proc/self/fd') else 100
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 30, limit[1]))
    try:
        shards = shards_of(files, storage, counts)
        shards._readers._most = 8  # a quarter of the limit, were this process as small as a new one
        for index in [*range(60), *np.random.default_rng(0).permutation(60).tolist()]:
            np.testing.assert_array_equal(shards.read(index)[0], pixels[index])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert len(shards._readers._values) == 8


@pytest.mark.parametrize('limit, most', [(256, 64), (1024, 256), (16, 8)])
def test_a_quarter_of_the_files_that_a_process_may_open(monkeypatch, limit, most):
    monkeypatch.setattr(resource, 'getrlimit', lambda which: (limit, limit))
    assert Shards([], [], 'jpeg', SIZE)._readers._most == most


def test_files_are_closed_with_the_shards(tmp_path, storage):
    files, _ = write(tmp_path, storage)
    shards = shards_of(files, storage)
    gc.collect()
    before = len(os.listdir('/proc/self/fd'))
    for index in range(13):
        shards.read(index)
    assert len(os.listdir('/proc/self/fd')) == before + 4
    del shards
    assert len(os.listdir('/proc/self/fd')) == before
