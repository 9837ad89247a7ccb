"""Guards how an experiment comes by its data: prepared when absent, reused when there, refused when other."""

import dataclasses
import importlib
import pathlib
import shutil

import pytest
from configs import typed
from fakes import console, contents, tinted

from alexnet_jax.data.dataset import MANIFEST, PreparedDataSet, Settings, open_prepared
from alexnet_jax.data.opening import prepare_data, settings_of
from alexnet_jax.runs.build import build, open_data
from alexnet_jax.runtime.errors import UserError
from experiments import digits, paper

SETTINGS = ('source', 'image_size', 'storage', 'quality', 'images_per_shard')


def config_for(directory, **fields):
    config = digits.get_config()
    config.data.directory = str(directory)
    config.data.update(fields)
    config.data.crop_size = min(config.data.crop_size, config.data.image_size)
    return config


def opened(config, on=None):
    return open_data(build(typed(config)), on or console())


@pytest.fixture(scope='module')
def prepared_digits(tmp_path_factory):
    """The digits, made by the first opening of a directory that is not there."""
    directory = tmp_path_factory.mktemp('open_data') / 'not' / 'there' / '[red]yet[/x]'
    on = console()
    data = opened(config_for(directory), on)
    assert f'Prepared {directory}: 1,437 train, 360 validation images.\n' in on.file.getvalue()
    return directory, data


def test_settings_are_the_configs():
    config = config_for('/nowhere', source='a', image_size=300, storage='raw', quality=7, images_per_shard=9)
    assert settings_of(typed(config).data) == Settings('a', 300, 'raw', 7, 9)
    assert tuple(field.name for field in dataclasses.fields(Settings)) == SETTINGS


# --- open_data ---


def test_digits_are_prepared_when_absent(prepared_digits):
    directory, data = prepared_digits
    assert isinstance(data, PreparedDataSet) and data == open_prepared(directory)
    assert data.settings == Settings('digits', 72, 'jpeg', digits.get_config().data.quality, 8192)
    assert (data.examples('train'), data.examples('validation'), data.left_out) == (1437, 360, 0)


def test_digits_are_reused_when_there(prepared_digits, monkeypatch):
    directory, data = prepared_digits
    before = {path.name: path.stat().st_mtime_ns for path in directory.iterdir()}
    monkeypatch.setattr('alexnet_jax.data.prepare.prepare', lambda *_, **__: pytest.fail('prepared again'))
    on = console()
    assert opened(config_for(directory), on) == data
    assert on.file.getvalue() == ''
    assert {path.name: path.stat().st_mtime_ns for path in directory.iterdir()} == before


SAME = [
    ('tfds:cifar10:3.0.2', 'cifar10'),
    ('tfds:imagenette/320px-v2', 'imagenette2-320'),
    ('imagenette2', 'imagenette'),
]


@pytest.mark.parametrize('before, now', SAME)
def test_another_source_of_the_same_images_is_as_good(prepared_digits, tmp_path, before, now):
    manifest = (prepared_digits[0] / MANIFEST).read_text()
    shutil.copytree(prepared_digits[0], tmp_path / 'data')
    (tmp_path / 'data' / MANIFEST).write_text(manifest.replace('"source": "digits"', f'"source": "{before}"'))
    assert opened(config_for(tmp_path / 'data', source=now)).settings.source == before
    with pytest.raises(UserError, match='source='):
        opened(config_for(tmp_path / 'data', source='cifar100'))


OTHER = [('image_size', 80), ('quality', 94), ('source', 'imagenet2012'), ('storage', 'raw')]


@pytest.mark.parametrize('field, value', OTHER)
@pytest.mark.parametrize('open_or_prepare', ['open', 'prepare'])
def test_data_made_with_other_settings_names_the_field(prepared_digits, field, value, open_or_prepare):
    directory, data = prepared_digits
    config, before = config_for(directory, **{field: value}), contents(directory)
    with pytest.raises(UserError, match=rf'config\.data\.{field}={value!r}') as caught:
        opened(config) if open_or_prepare == 'open' else prepare_data(typed(config).data, console())
    assert f'{field}={getattr(data.settings, field)!r}' in str(caught.value)
    assert str(directory) in str(caught.value)
    assert contents(directory) == before


def test_how_the_images_are_cut_into_files_makes_no_other_data_set(prepared_digits):
    directory, data = prepared_digits
    assert opened(config_for(directory, images_per_shard=100)) == data


def test_quality_is_of_no_account_where_there_are_no_jpegs(tmp_path):
    data = prepare_data(typed(config_for(tmp_path / 'raw', storage='raw', image_size=64)).data, console())
    assert opened(config_for(tmp_path / 'raw', storage='raw', image_size=64, quality=50)) == data
    with pytest.raises(UserError, match=r"config\.data\.storage='jpeg'"):
        opened(config_for(tmp_path / 'raw', image_size=64, quality=50))


@pytest.mark.parametrize('units', [9, 11, 1000])
def test_other_number_of_classes_says_what_to_set(prepared_digits, units):
    config = config_for(prepared_digits[0])
    config.network.fc8.units = units
    with pytest.raises(UserError, match=r'--config\.network\.fc8\.units=10\b') as caught:
        opened(config)
    assert f'the network has {units};' in str(caught.value)


def test_damaged_data_is_refused_and_not_made_again(tmp_path):
    (tmp_path / MANIFEST).write_text('{')
    for attempt in (opened, lambda config: prepare_data(typed(config).data, console())):
        with pytest.raises(UserError, match='is damaged'):
            attempt(config_for(tmp_path))
        assert (tmp_path / MANIFEST).read_text() == '{'


def test_source_that_is_not_embedded_says_where_to_get_it(tmp_path):
    config = paper.get_config()
    config.data.directory = str(tmp_path / 'imagenet')
    with pytest.raises(UserError, match=r'image-net\.org') as caught:
        opened(config)
    for words in (str(tmp_path / 'imagenet'), config.data.source_directory, '--mode=prepare', 'experiments/digits.py'):
        assert words in str(caught.value)
    assert not (tmp_path / 'imagenet').exists()


@pytest.mark.parametrize('below', ['', 'data'])
@pytest.mark.parametrize('open_or_prepare', ['open', 'prepare'])
def test_directory_that_is_a_file_is_the_users_error(tmp_path, below, open_or_prepare):
    (tmp_path / 'file').write_text('in the way')
    config = config_for(tmp_path / 'file' / below)
    with pytest.raises(UserError, match='file'):
        opened(config) if open_or_prepare == 'open' else prepare_data(typed(config).data, console())


@pytest.mark.parametrize('directory', ['', '.', '/'])
def test_directory_without_a_name_is_the_users_error(tmp_path, monkeypatch, directory):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r'config\.data\.directory'):
        opened(config_for(directory))


# --- prepare_data ---


def test_prepared_already(prepared_digits):
    directory, data = prepared_digits
    before = {path.name: path.stat().st_mtime_ns for path in directory.iterdir()}
    on = console()
    assert prepare_data(typed(config_for(directory)).data, on) == data
    lines = on.file.getvalue().splitlines()
    assert lines[0] == f'{directory} is prepared already, and whole.'
    rows = {line[:14].strip(): line[14:].strip() for line in lines[1:]}
    assert rows['train'] == '1,437 images; smallest class 133 (9), largest class 154 (1)'
    assert (rows['colors'], rows['left out'], rows['equal files']) == ('1,797 gray', 'none', 'none')
    assert {path.name: path.stat().st_mtime_ns for path in directory.iterdir()} == before


def test_what_is_prepared_is_the_source_that_the_config_names(tmp_path, monkeypatch):
    asked = []

    def open_source(name, directory):
        asked.append((name, directory))
        return tinted()

    monkeypatch.setattr('alexnet_jax.data.opening.open_source', open_source)
    photos = str(tmp_path / 'photos')
    for split in ('train', 'validation'):
        (tmp_path / 'photos' / split).mkdir(parents=True)
    fields = {'source': 'folder', 'source_directory': photos, 'image_size': 32, 'storage': 'raw', 'quality': 70}
    data = prepare_data(typed(config_for(tmp_path / 'data', **fields, images_per_shard=6)).data, console())
    assert asked == [('folder', photos)]
    assert data == open_prepared(tmp_path / 'data') and data.counts('train') == [6, 5]
    assert data.settings == Settings('folder', 32, 'raw', 70, 6)


def test_broken_images_are_left_out_where_the_config_says_so(tmp_path, monkeypatch):
    source = tinted()
    source._images['train'][3] = ('broken', b'')
    monkeypatch.setattr('alexnet_jax.data.opening.open_source', lambda *_: source)
    with pytest.raises(UserError, match=r'--config\.data\.skip_broken=True'):
        prepare_data(typed(config_for(tmp_path / 'data')).data, console())
    on = console()
    data = prepare_data(typed(config_for(tmp_path / 'data', skip_broken=True)).data, on)
    assert (data.examples('train'), data.left_out) == (10, 1)
    assert 'Prepared' in on.file.getvalue() and '1 broken ones left out' in on.file.getvalue()
    assert prepare_data(typed(config_for(tmp_path / 'data')).data, console()) == data


def test_unknown_source_is_the_users_error(tmp_path):
    with pytest.raises(UserError, match=r"config\.data\.source='cats'"):
        prepare_data(typed(config_for(tmp_path / 'data', source='cats')).data, console())
    assert list(tmp_path.iterdir()) == []


NEED_A_RUN = ('finetune',)  # to begin with
NO_CONFIGS = ('ablations',)  # of the others' configs
VARIANTS = {'networks_2012': '170'}  # of files that have no config without one


@pytest.mark.parametrize('file', sorted(path.stem for path in pathlib.Path(paper.__file__).parent.glob('*.py')))
def test_the_experiments_pass_and_their_files_open_with_what_they_reproduce(file):
    module = importlib.import_module(f'experiments.{file}')
    assert 'paper' in module.__doc__.lower() or 'section' in module.__doc__
    if file not in (*NEED_A_RUN, *NO_CONFIGS):
        config = module.get_config(*([VARIANTS[file]] if file in VARIANTS else []))
        build(typed(config))
        assert config.name.split(':')[0] == file
