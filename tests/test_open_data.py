"""Guards how an experiment comes by its data: prepared when absent, reused when there, refused when other."""

import pytest

from alexnet_jax.data.prepared import MANIFEST, PreparedDataSet, open_prepared
from alexnet_jax.errors import UserError
from alexnet_jax.experiment import build, open_data
from experiments import digits, paper


def config_for(directory):
    config = digits.get_config()
    config.data.directory = str(directory)
    return config


@pytest.fixture(scope='module')
def prepared_digits(tmp_path_factory):
    """The digits, made by the first opening of a directory that is not there."""
    directory = tmp_path_factory.mktemp('open_data') / 'not' / 'there' / 'yet'
    data = open_data(build(config_for(directory)))
    return directory, data


def test_digits_are_prepared_when_absent(prepared_digits):
    directory, data = prepared_digits
    assert isinstance(data, PreparedDataSet) and data == open_prepared(directory)
    assert (data.source, data.image_size, data.quality) == ('digits', 72, 95)
    assert (data.examples('train'), data.examples('validation')) == (1437, 360)


def test_digits_are_reused_when_there(prepared_digits, monkeypatch):
    directory, data = prepared_digits
    before = {path.name: path.stat().st_mtime_ns for path in directory.iterdir()}
    monkeypatch.setattr('alexnet_jax.data.prepare.prepare', lambda *_, **__: pytest.fail('prepared again'))
    assert open_data(build(config_for(directory))) == data
    assert {path.name: path.stat().st_mtime_ns for path in directory.iterdir()} == before


@pytest.mark.parametrize('field, value', [('image_size', 80), ('quality', 94), ('source', 'imagenet2012')])
def test_data_made_with_other_settings_names_the_field(prepared_digits, field, value):
    directory, data = prepared_digits
    config = config_for(directory)
    config.data[field] = value
    with pytest.raises(UserError, match=rf'config\.data\.{field}={value!r}') as caught:
        open_data(build(config))
    assert f'{field}={getattr(data, field)!r}' in str(caught.value)
    assert str(directory) in str(caught.value)


@pytest.mark.parametrize('units', [9, 11, 1000])
def test_other_number_of_classes_says_what_to_set(prepared_digits, units):
    config = config_for(prepared_digits[0])
    config.network.fc8.units = units
    with pytest.raises(UserError, match=r'--config\.network\.fc8\.units=10\b') as caught:
        open_data(build(config))
    assert f' {units} ' in str(caught.value)


def test_damaged_data_is_refused_and_not_made_again(tmp_path):
    (tmp_path / MANIFEST).write_text('{')
    with pytest.raises(UserError, match='is damaged'):
        open_data(build(config_for(tmp_path)))
    assert (tmp_path / MANIFEST).read_text() == '{'


def test_source_that_is_not_embedded_says_where_to_get_it(tmp_path):
    config = paper.get_config()
    config.data.directory = str(tmp_path / 'imagenet')
    with pytest.raises(UserError, match=r'image-net\.org') as caught:
        open_data(build(config))
    assert str(tmp_path / 'imagenet') in str(caught.value)
    assert 'experiments/digits.py' in str(caught.value)
    assert not (tmp_path / 'imagenet').exists()


@pytest.mark.parametrize('below', ['', 'data'])
def test_directory_that_is_a_file_is_the_users_error(tmp_path, below):
    (tmp_path / 'file').write_text('in the way')
    with pytest.raises(UserError, match='file'):
        open_data(build(config_for(tmp_path / 'file' / below)))
