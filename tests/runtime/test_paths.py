"""Paths as a user writes them: homes, addresses, lists, names with commas."""

import csv
import pathlib

import pytest

from alexnet_jax.config import Config
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.paths import local_path, split_list


def test_homes_are_expanded(monkeypatch):
    monkeypatch.setenv('HOME', '/home/me')
    assert local_path('~/runs/x') == '/home/me/runs/x' and local_path('~') == '/home/me'
    assert local_path('~root/x').endswith('/x') and not local_path('~root/x').startswith('~')
    for path in ('runs/~', 'a~b', './~', '/x', 'C:/x', 'a:b', ''):
        assert local_path(path) == path


@pytest.mark.parametrize(
    'path', ['gs://b/r', 's3://b', 'hdfs://n/r', 'http://h/r', 'https://h', 'file:///r', 'abfs://b']
)
def test_addresses_are_refused(path):
    with pytest.raises(ValueError, match='is an address; only local'):
        local_path(path)


def test_homes_of_nobody_are_refused():
    with pytest.raises(ValueError, match=r"no home directory of '~nobody-of-that-name'"):
        local_path('~nobody-of-that-name/runs')


@pytest.mark.parametrize('field', ['data.directory', 'data.source_directory', 'pretrained.workdir'])
def test_paths_in_a_config_are_the_same(field, monkeypatch):
    monkeypatch.setenv('HOME', '/home/me')
    section, name = field.split('.')
    assert getattr(getattr(Config().replace(**{field: '~/x'}), section), name) == '/home/me/x'
    with pytest.raises(UserError, match=rf"config\.{field}: 'gs://b/x' is an address"):
        Config().replace(**{field: 'gs://b/x'})


def test_lists_are_given_by_commas_or_several_times(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert split_list(['a', 'b,c', '"d,e.jpg",f', '']) == ['a', 'b', 'c', 'd,e.jpg', 'f']
    for name in ('a,b.jpg', 'two\nlines.jpg', 'one "quoted".jpg'):
        pathlib.Path(name).touch()
        assert split_list([name]) == [name]  # as it is there
    with pytest.raises(csv.Error):
        split_list(['"open'])
