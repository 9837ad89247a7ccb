"""Guards the registry of published data sets, and that they are downloaded when, and only when, that is asked for."""

import hashlib
import importlib.util
import pathlib
import re

import made_archives
import pytest
import web_server
from configs import typed
from fakes import console, tinted

from alexnet_jax.config import default_config
from alexnet_jax.data import opening
from alexnet_jax.data.sources import published
from alexnet_jax.data.sources.published import PUBLISHED, Published, fetch, how_to_get, missing
from alexnet_jax.runtime.download import WebFile
from alexnet_jax.runtime.errors import UserError

CONTENTS = {'images.gz': b'images' * 99, 'labels.gz': b'labels' * 99}
FILES = tuple(WebFile(name, len(it), hashlib.sha256(it).hexdigest()) for name, it in CONTENTS.items())


@pytest.fixture(scope='module')
def server():
    with web_server.serving() as server:
        yield server


@pytest.fixture
def toys(server, monkeypatch):
    """A published data set `toys` of two files, in a folder of their own."""
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    server.files, server.asked = {f'toys/{name}': content for name, content in CONTENTS.items()}, []
    monkeypatch.setitem(PUBLISHED, 'toys', Published((server.address + 'toys/',), FILES, folder='toys'))
    return server


@pytest.mark.parametrize('name', PUBLISHED)
def test_the_registry_is_well_formed(name):
    one = PUBLISHED[name]
    for address in one.addresses:
        assert re.fullmatch(r'https?://[\w.-]+/([\w~-]+/)*', address)
    for file in one.files:
        assert re.fullmatch(r'[\w.-]+\.(tar\.gz|tgz|zip|gz)', file.name)
        assert 1000 < file.size < 2e9 and re.fullmatch(r'[0-9a-f]{64}|[0-9a-f]{32}', file.checksum)
    assert len({file.checksum for one in PUBLISHED.values() for file in one.files}) == sum(
        len(one.files) for one in PUBLISHED.values()
    )


def test_the_sums_are_those_of_tensorflow_datasets():
    """Of those sets that it has."""
    package = pathlib.Path(importlib.util.find_spec('tensorflow_datasets').origin).parent
    lists = ['url_checksums/cifar10.txt', 'url_checksums/cifar100.txt', 'url_checksums/mnist.txt']
    lists += ['url_checksums/fashion_mnist.txt', 'datasets/imagenette/checksums.tsv']
    known = {}
    for path in lists:
        for line in (package / path).read_text().splitlines():
            address, size, checksum, *_ = line.split('\t')
            known[address] = int(size), checksum
    found = 0
    for one in PUBLISHED.values():
        for file in one.files:
            theirs = [known[address + file.name] for address in one.addresses if address + file.name in known]
            assert theirs in ([], [(file.size, file.checksum)])
            found += len(theirs)
    assert found == 2 + 4 + 4 + 3


def test_all_files_are_fetched_once(toys, tmp_path):
    fetch('toys', tmp_path, '', console())
    assert {path.name: path.read_bytes() for path in (tmp_path / 'toys').iterdir()} == CONTENTS
    fetch('toys', tmp_path, '', console())
    (tmp_path / 'toys' / 'labels.gz').unlink()
    fetch('toys', tmp_path, '', console())
    assert [path for path, _ in toys.asked] == ['/toys/images.gz', '/toys/labels.gz', '/toys/labels.gz']


@pytest.mark.parametrize('end', ['', '/'])
def test_another_server_is_asked_in_place_of_the_publishers(toys, tmp_path, end):
    toys.files = {f'a/b/{name}': content for name, content in CONTENTS.items()}
    fetch('toys', tmp_path, f'{toys.address}a/b{end}', console())
    assert [path for path, _ in toys.asked] == ['/a/b/images.gz', '/a/b/labels.gz']


@pytest.mark.parametrize('address', ['ftp://x/y', '/data/sets', 'file:///etc', 'mirror.example.org'])
def test_other_servers_are_named_by_web_addresses(toys, tmp_path, address):
    with pytest.raises(UserError, match=r'config\.data\.download_from=.* must be an address that begins with http'):
        fetch('toys', tmp_path, address, console())
    assert not toys.asked and not list(tmp_path.iterdir())


def test_messages_say_how_to_get_the_files():
    message = str(missing('fashion_mnist', 'data/sets'))
    for words in (
        'data/sets does not have the files of fashion_mnist',
        '--config.data.download=True (30.9 MB)',
        PUBLISHED['fashion_mnist'].addresses[0],
        'train-images-idx3-ubyte.gz',
        "put them, unchanged, into 'data/sets/fashion_mnist'",
    ):
        assert words in message
    assert "put it, unchanged, into 'data/sets'" in how_to_get('cifar10', 'data/sets')


# --- preparation ---


def config_for(tmp_path, **fields):
    config = default_config()
    config.data.update({'source': 'toys', 'source_directory': str(tmp_path / 'files'), 'image_size': 8, 'crop_size': 8})
    config.data.update({'directory': str(tmp_path / 'prepared'), **fields})
    return typed(config).data


@pytest.fixture
def toy_source(toys, monkeypatch):
    def open_source(name, directory):
        where = pathlib.Path(directory, 'toys')
        if not all((where / file.name).exists() for file in FILES):
            raise missing(name, directory)
        return tinted(6, 3)

    monkeypatch.setattr(opening, 'open_source', open_source)
    return toys


def test_nothing_is_downloaded_that_was_not_asked_for(toy_source, tmp_path):
    config = config_for(tmp_path)
    with pytest.raises(UserError, match=r'does not have the files of toys: add --config\.data\.download=True'):
        opening.prepare_data(config, console())
    with pytest.raises(UserError, match=r'To prepare it: add --config\.data\.download=True'):
        opening.open_data(config_for(tmp_path, download=True), console())
    assert not toy_source.asked and not list(tmp_path.iterdir())


def test_preparation_downloads_where_it_is_asked_to(toy_source, tmp_path):
    config = config_for(tmp_path, download=True)
    assert opening.prepare_data(config, console()).examples('train') == 6
    assert len(toy_source.asked) == 2
    assert opening.prepare_data(config, console()).examples('train') == 6
    assert len(toy_source.asked) == 2


def test_a_source_that_is_there_is_not_downloaded(toy_source, tmp_path, monkeypatch):
    monkeypatch.setattr(published, 'download', lambda *_: pytest.fail('downloaded'))
    (tmp_path / 'files' / 'toys').mkdir(parents=True)
    for name, content in CONTENTS.items():
        (tmp_path / 'files' / 'toys' / name).write_bytes(content)
    assert opening.prepare_data(config_for(tmp_path, download=True), console()).examples('train') == 6


def archives(name):
    """The files of a small data set in the official layout, as the server has them."""
    if name == 'mnist':
        return made_archives.idx_files()[0]
    if name == 'tiny_imagenet':
        return {'tiny-imagenet-200.zip': made_archives.zip_of(made_archives.tiny_imagenet_files()[0])}
    files = made_archives.cifar10_files('bin')[0] if name == 'cifar10' else made_archives.imagenette_files()[0]
    return {PUBLISHED[name].files[0].name: made_archives.tgz_of(files)}


@pytest.mark.parametrize(
    ('source', 'name'),
    [(name, name) for name in ('mnist', 'tiny_imagenet', 'cifar10')] + [('imagenette', 'imagenette2')],
)
def test_from_nothing_to_a_prepared_data_set(server, tmp_path, monkeypatch, source, name):
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    files = archives(name)
    server.files = {f'{name}/{file}': content for file, content in files.items()}
    assert [file.name for file in PUBLISHED[name].files] == list(files)
    small = tuple(WebFile(file, len(it), hashlib.sha256(it).hexdigest()) for file, it in files.items())
    monkeypatch.setitem(PUBLISHED, name, PUBLISHED[name]._replace(addresses=(f'{server.address}{name}/',), files=small))
    with pytest.raises(UserError, match=r'--config\.data\.download=True'):
        opening.prepare_data(config_for(tmp_path, source=source), console())
    data = opening.prepare_data(config_for(tmp_path, source=source, download=True), console())
    assert data.examples('train') > data.examples('validation') > 0
    assert {path.name for path in (tmp_path / 'files').rglob('*') if path.is_file()} == set(files)
