"""Guards data sets of TensorFlow Datasets, against ones that TFDS itself prepares here, without a network.

And without TensorFlow, which the requirements do not have: that these tests pass shows that nothing here needs it.
"""

import concurrent.futures
import contextlib
import dataclasses
import io
import pathlib
import socket
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.download import downloader

from alexnet_jax.data.sources import tfds as source_module
from alexnet_jax.data.sources.folder import Folder
from alexnet_jax.data.sources.tfds import TensorFlowDatasets
from alexnet_jax.runtime.errors import UserError

CLASSES = ('cat', 'dog', 'emu')


def picture(split, number, image_format='JPEG'):
    """An encoded picture, different for every split and number."""
    encoded = io.BytesIO()
    seed = [len(split), number]
    pixels = np.random.default_rng(seed).integers(0, 256, (6 + number % 3, 7, 3), np.uint8)
    Image.fromarray(pixels).save(encoded, image_format)
    return encoded.getvalue()


@dataclasses.dataclass
class PicturesConfig(tfds.core.BuilderConfig):
    splits: dict = dataclasses.field(default_factory=lambda: {'train': 23, 'validation': 4})
    unlabeled: tuple = ()
    image: object = dataclasses.field(default_factory=tfds.features.Image)
    label: object = dataclasses.field(default_factory=lambda: tfds.features.ClassLabel(names=CLASSES))
    extra: dict = dataclasses.field(default_factory=dict)
    keys: tuple | None = ('image', 'label')
    url: str = ''


CONFIGS = [
    PicturesConfig(name='plain'),
    PicturesConfig(name='named', extra={'file_name': tfds.features.Text(), 'id': tfds.features.Scalar(np.int64)}),
    PicturesConfig(name='numbered', extra={'id': tfds.features.Scalar(np.int64)}),
    PicturesConfig(name='dogs', extra={'image/filename': tfds.features.Text()}),
    PicturesConfig(name='with_test', splits={'train': 5, 'validation': 3, 'test': 2}),
    PicturesConfig(name='only_test', splits={'train': 5, 'test': 2, 'other': 3}),
    PicturesConfig(name='only_train', splits={'train': 23}),
    PicturesConfig(name='no_train', splits={'test': 3}),
    PicturesConfig(name='hidden_test', splits={'train': 5, 'validation': 3, 'test': 2}, unlabeled=('test',)),
    PicturesConfig(name='hidden_train', unlabeled=('train',)),
    PicturesConfig(name='fine', keys=('image', 'label'), extra={'coarse': tfds.features.ClassLabel(num_classes=2)}),
    PicturesConfig(name='ambiguous', keys=None, extra={'coarse': tfds.features.ClassLabel(num_classes=2)}),
    PicturesConfig(name='undeclared', keys=None),
    PicturesConfig(name='no_class', label=tfds.features.Scalar(np.int64)),
    PicturesConfig(name='many_labels', label=tfds.features.Sequence(tfds.features.ClassLabel(num_classes=2))),
    PicturesConfig(name='one_class', label=tfds.features.ClassLabel(num_classes=1)),
    PicturesConfig(name='wide', image=tfds.features.Image(dtype=np.uint16, encoding_format='png')),
    PicturesConfig(name='no_names', label=tfds.features.ClassLabel(num_classes=3)),
    PicturesConfig(name='tensorflow'),
    PicturesConfig(name='download', url='http://127.0.0.1:{port}/pictures.tar'),
]


class LocalPictures(tfds.core.GeneratorBasedBuilder):
    """Small data sets of every kind."""

    VERSION = tfds.core.Version('1.0.0')
    BUILDER_CONFIGS = CONFIGS
    port = 0

    def _info(self):
        config = self.builder_config
        features = {'image': config.image, 'label': config.label, **config.extra}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=config.keys
        )

    def _split_generators(self, dl_manager):
        if self.builder_config.url:
            dl_manager.download(self.builder_config.url.format(port=self.port))
        if self.builder_config.name == 'tensorflow':  # what TFDS's own data sets do
            from tensorflow_datasets.core.utils.lazy_imports_utils import tensorflow

            tensorflow.io.gfile.exists('/')
        return {split: self._generate_examples(split, count) for split, count in self.builder_config.splits.items()}

    def _generate_examples(self, split, count):
        config = self.builder_config
        for number in range(count):
            example = {'image': io.BytesIO(picture(split, number)), 'label': number % 3}
            if split in config.unlabeled:
                example['label'] = -1
            values = {
                'file_name': f'{split}/é{number}.jpg',
                'image/filename': f'{number}.jpg',
                'coarse': 0,
                'id': number,
            }
            yield number, example | {key: values[key] for key in config.extra}


def make(config, directory, file_format='array_record'):
    tfds.builder(f'local_pictures/{config}', data_dir=directory).download_and_prepare(file_format=file_format)


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    """Opens a data set, preparing it through the source itself if that has not been done."""
    directory = tmp_path_factory.mktemp('tfds')

    def open_or_prepare(config):
        return TensorFlowDatasets(f'local_pictures/{config}', directory)

    open_or_prepare.directory = directory
    return open_or_prepare


def items(source, split):
    return [source.item(split, index) for index in range(source.splits[split])]


def test_images_come_as_stored_with_label_and_name(prepared):
    source = prepared('named')
    assert source.class_names == source.class_ids == CLASSES
    assert source.splits == {'train': 23, 'validation': 4}
    for split, count in source.splits.items():
        found = items(source, split)
        assert [item.name for item in found] != [f'{split}/é{number}.jpg' for number in range(count)]  # TFDS shuffles
        assert {item.name: item for item in found} == {
            name: (name, picture(split, number), number % 3)
            for number in range(count)
            for name in [f'{split}/é{number}.jpg']
        }


def test_prepared_once_and_read_ever_after(prepared, monkeypatch):
    first = items(prepared('plain'), 'train')
    monkeypatch.setattr(source_module, '_prepare', None)  # must not be called again
    assert items(prepared('plain'), 'train') == first


@pytest.mark.parametrize(
    ('config', 'name'),
    [('numbered', '7'), ('dogs', '7.jpg'), ('plain', 'local_pictures-train-{place:08d}')],
)
def test_names(prepared, config, name):
    source = prepared(config)
    place = next(place for place, item in enumerate(items(source, 'train')) if item.image == picture('train', 7))
    assert source.item('train', place).name == name.format(place=place)


@pytest.mark.parametrize(
    ('config', 'splits', 'validation'),
    [
        ('with_test', {'train': 5, 'validation': 3, 'test': 2}, 'validation'),
        ('only_test', {'train': 5, 'validation': 2}, 'test'),
        ('hidden_test', {'train': 5, 'validation': 3}, 'validation'),
    ],
)
def test_splits(prepared, config, splits, validation):
    source = prepared(config)
    assert source.splits == splits
    images = {item.image for item in items(source, 'validation')}
    assert images == {picture(validation, number) for number in range(splits['validation'])}
    if 'test' in splits:
        assert {item.image for item in items(source, 'test')} == {picture('test', 0), picture('test', 1)}


def test_every_tenth_is_held_out_where_there_is_only_train(prepared):
    source = prepared('only_train')
    assert source.splits == {'train': 20, 'validation': 3}
    places = {split: [int(item.name[-8:]) for item in items(source, split)] for split in source.splits}
    assert places == {'train': [i for i in range(23) if i % 10], 'validation': [0, 10, 20]}
    images = [item.image for split in source.splits for item in items(source, split)]
    assert sorted(images) == sorted(picture('train', number) for number in range(23))


@pytest.mark.parametrize('config', ['plain', 'only_train'])
def test_images_are_identified_by_their_files_and_their_place(prepared, config):
    source = prepared(config)
    found = [source.identity(split, i) for split, count in source.splits.items() for i in range(count)]
    assert len({identity.member for identity in found}) == len(found)
    for identity in found:
        status = (prepared.directory / identity.file).stat()
        assert (identity.size, identity.time, identity.label) == (status.st_size, status.st_mtime_ns, -1)


@pytest.mark.parametrize(
    ('config', 'classes'), [('fine', CLASSES), ('undeclared', CLASSES), ('no_names', ('0', '1', '2'))]
)
def test_label_feature(prepared, config, classes):
    source = prepared(config)
    assert source.class_names == classes
    assert {item.label for item in items(source, 'train')} == {0, 1, 2}


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ('ambiguous', r'not a data set for image classification.*coarse \(ClassLabel\)'),
        ('no_class', r'not a data set for image classification.*label \(Scalar\)'),
        ('many_labels', r'not a data set for image classification.*label \(Sequence\)'),
        ('one_class', r'has 1 classes'),
        ('wide', r'uint16'),
        ('no_train', r'nothing to train on: its splits are test'),
    ],
)
def test_data_set_of_another_kind(prepared, config, message):
    with pytest.raises(UserError, match=message) as caught:
        prepared(config)
    assert f'tfds:local_pictures/{config} ' in str(caught.value)


def test_image_without_label_is_named(prepared):
    source = prepared('hidden_train')
    with pytest.raises(UserError, match=r'local_pictures-train-00000003 .*no label \(-1\)'):
        source.item('train', 3)


def test_same_pictures_as_a_folder(prepared, tmp_path):
    source = prepared('named')
    for split in source.splits:
        for item in items(source, split):
            path = tmp_path / split / source.class_names[item.label] / pathlib.Path(item.name).name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(item.image)
    folder = Folder(tmp_path)
    assert folder.splits == source.splits
    assert folder.class_names == source.class_names
    for split in source.splits:
        by_name = {pathlib.Path(item.name).name: item for item in items(source, split)}
        for theirs in items(folder, split):
            ours = by_name[pathlib.Path(theirs.name).name]
            assert theirs.label == ours.label
            pixels = [np.asarray(Image.open(io.BytesIO(item.image)).convert('RGB')) for item in (theirs, ours)]
            np.testing.assert_array_equal(*pixels)


def test_same_as_tfds_reads_and_decodes(tmp_path):
    make('plain', tmp_path)
    theirs = tfds.data_source('local_pictures/plain', split='train', data_dir=tmp_path)
    source = TensorFlowDatasets('local_pictures/plain', str(tmp_path))
    for index, example in enumerate(theirs):
        ours = source.item('train', index)
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(ours.image))), example['image'])
        assert ours.label == example['label']


def test_threads_read_what_one_thread_reads(prepared):
    source = prepared('plain')
    places = list(range(23)) * 20
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda index: source.item('train', index), places))
    assert together == items(source, 'train') * 20


def test_another_version_is_read_from_its_files(tmp_path):
    make('named', tmp_path)
    wanted = items(TensorFlowDatasets('local_pictures/named', tmp_path), 'train')
    home = tmp_path / 'local_pictures/named'
    (home / '1.0.0').rename(home / '0.9.0')
    info = home / '0.9.0/dataset_info.json'
    info.write_text(info.read_text().replace('"1.0.0"', '"0.9.0"'))
    for name in ('local_pictures/named', 'local_pictures/named:0.9.0'):
        assert items(TensorFlowDatasets(name, tmp_path), 'train') == wanted


class DescribedByTensorFlow(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
        raise ImportError("No module named 'tensorflow'")

    def _split_generators(self, dl_manager):
        raise AssertionError

    _generate_examples = _split_generators


@pytest.mark.parametrize('name', ['foreign', 'described_by_tensor_flow'])
def test_prepared_data_set_is_read_without_its_code(tmp_path, name):
    make('named', tmp_path)
    wanted = items(TensorFlowDatasets('local_pictures/named', tmp_path), 'train')
    home = tmp_path / name / '1.0.0'
    home.parent.mkdir()
    (tmp_path / 'local_pictures/named/1.0.0').rename(home)
    for file in home.glob('local_pictures-*'):
        file.rename(file.with_name(file.name.replace('local_pictures', name)))
    info = home / 'dataset_info.json'
    info.write_text(info.read_text().replace('"local_pictures"', f'"{name}"').replace('"configName": "named",', ''))
    assert items(TensorFlowDatasets(name, tmp_path), 'train') == wanted


def test_unknown_data_sets_are_named_with_near_ones(tmp_path):
    with pytest.raises(UserError, match=r"no data set 'imagenett'.*did you mean .*imagenette"):
        TensorFlowDatasets('imagenett', tmp_path)
    with pytest.raises(UserError, match=r"no data set 'qqqqqqqq'.*catalog") as caught:
        TensorFlowDatasets('qqqqqqqq', tmp_path)
    assert 'did you mean' not in str(caught.value)
    for name in ('imagenette/99px', 'cifar10:9.9.9', '', '../x'):
        with pytest.raises(UserError, match='cannot open') as caught:
            TensorFlowDatasets(name, tmp_path)
        assert repr(name) in str(caught.value)
        assert '\n' not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_imagenet_needs_tars_that_people_download(tmp_path):
    with pytest.raises(UserError, match=r'ILSVRC2012_img_train\.tar.*downloads/manual, and try again'):
        TensorFlowDatasets('imagenet2012', tmp_path)


@pytest.fixture
def no_tensorflow(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tensorflow', None)  # even where it is installed


@pytest.mark.usefixtures('no_tensorflow')
def test_preparing_without_tensorflow_says_how(tmp_path):
    with pytest.raises(UserError, match='pip install tensorflow-cpu') as caught:
        TensorFlowDatasets('local_pictures/tensorflow', tmp_path)
    command = str(caught.value).split('copy the directory: ')[1]
    assert command == (
        f"python -c \"import tensorflow_datasets as tfds; tfds.builder('local_pictures/tensorflow', "
        f"data_dir='{tmp_path}').download_and_prepare(file_format='array_record')\""
    )
    compile(command.removeprefix('python -c "').removesuffix('"'), 'command', 'exec')


@pytest.mark.usefixtures('no_tensorflow')
def test_data_set_whose_description_needs_tensorflow(tmp_path):
    with pytest.raises(UserError, match=r'tfds:coco .*pip install tensorflow-cpu'):
        TensorFlowDatasets('coco', tmp_path)


@pytest.fixture
def quick_downloads(monkeypatch):
    monkeypatch.setattr(source_module, '_DOWNLOAD_TRIES', 1)
    monkeypatch.setattr(source_module, '_DOWNLOAD_TIMEOUTS', (0.5, 0.5))
    for name in ('MAX_RETRIES', '_open_with_requests'):  # the source changes them; here to be put back
        monkeypatch.setattr(downloader, name, getattr(downloader, name))


@pytest.mark.usefixtures('quick_downloads')
@pytest.mark.parametrize('listening', [True, False])
def test_server_that_does_not_answer_is_given_up(tmp_path, monkeypatch, listening):
    with contextlib.closing(socket.socket()) as server:
        server.bind(('127.0.0.1', 0))
        if listening:  # takes connections and stays silent; otherwise it refuses them
            server.listen()
        monkeypatch.setattr(LocalPictures, 'port', server.getsockname()[1])
        with pytest.raises(UserError, match=r'could not do it now.*127\.0\.0\.1.*working network'):
            TensorFlowDatasets('local_pictures/download', tmp_path)
    assert not (tmp_path / 'local_pictures/download/1.0.0').exists()


def test_downloads_are_bounded_as_said(quick_downloads, monkeypatch):
    monkeypatch.undo()
    original = downloader.MAX_RETRIES, downloader._open_with_requests
    try:
        source_module._bound_downloads()
        source_module._bound_downloads()
        assert downloader.MAX_RETRIES == 5
        assert downloader._open_with_requests.keywords == {'timeout': (15.0, 60.0)}
    finally:
        downloader.MAX_RETRIES, downloader._open_with_requests = original


def test_tfrecord_is_refused_with_a_remedy(tmp_path):
    make('plain', tmp_path)
    home = tmp_path / 'local_pictures/plain/1.0.0'
    info = home / 'dataset_info.json'
    info.write_text(info.read_text().replace('array_record', 'tfrecord'))
    # Converted files count, though TFDS's converter leaves the description as it was.
    assert TensorFlowDatasets('local_pictures/plain', tmp_path).splits == {'train': 23, 'validation': 4}
    for file in home.glob('*array_record*'):
        file.rename(file.with_name(file.name.replace('array_record', 'tfrecord')))
    with pytest.raises(UserError, match=r"as tfrecord; array_record is needed.*file_format='array_record'") as caught:
        TensorFlowDatasets('local_pictures/plain', tmp_path)
    assert str(home) in str(caught.value)


def test_missing_file_is_named(tmp_path):
    make('plain', tmp_path)
    (file,) = (tmp_path / 'local_pictures/plain/1.0.0').glob('*train*')
    file.unlink()
    with pytest.raises(UserError, match=r'1 of its 2 files are missing') as caught:
        TensorFlowDatasets('local_pictures/plain', tmp_path)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize('damage', ['cut', 'empty', 'zeros', 'hole'])
def test_damaged_file_is_an_error(tmp_path, damage):
    make('plain', tmp_path)
    (file,) = (tmp_path / 'local_pictures/plain/1.0.0').glob('*train*')
    content = file.read_bytes()
    hole = content[:200] + bytes(2000) + content[2200:]
    file.write_bytes(
        {'cut': content[: len(content) // 2], 'empty': b'', 'zeros': bytes(len(content)), 'hole': hole}[damage]
    )
    source = TensorFlowDatasets('local_pictures/plain', tmp_path)
    assert len(items(source, 'validation')) == 4
    with pytest.raises(UserError, match=r"split 'train' of tfds:local_pictures/plain cannot be read.*damaged"):
        items(source, 'train')


def test_damaged_description_is_an_error(tmp_path):
    make('plain', tmp_path)
    (tmp_path / 'local_pictures/plain/1.0.0/dataset_info.json').write_text('{')
    with pytest.raises(UserError, match='local_pictures/plain'):
        TensorFlowDatasets('local_pictures/plain', tmp_path)
