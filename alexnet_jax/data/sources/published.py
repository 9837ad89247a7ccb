"""Published data sets that need no registration: their files, where these are, and how they get here.

A source whose files are not there raises `missing(name, directory)`. Where downloads are asked for
(--config.data.download=True), they are then fetched and the source is opened again.
"""

import pathlib
import re
from typing import NamedTuple

from rich.console import Console

from alexnet_jax.runtime.download import WebFile, download
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.formatting import format_bytes


class Published(NamedTuple):
    """Where a data set's files are, and where they go."""

    addresses: tuple[str, ...]  # of the folders that have them, the publisher's first
    files: tuple[WebFile, ...]
    folder: str = ''  # in config.data.source_directory, for files whose names other data sets use too


class MissingFilesError(UserError):
    """The files of a published data set are not there; they can be fetched."""

    def __init__(self, name: str, directory: str | pathlib.Path) -> None:
        super().__init__(f'{directory} does not have the files of {name}: {how_to_get(name, directory)}.')
        self.name = name


def _idx(*published: tuple[int, str]) -> tuple[WebFile, ...]:
    """The four files of MNIST and its kin, from their sizes and checksums."""
    names = ('train-images-idx3-ubyte', 'train-labels-idx1-ubyte', 't10k-images-idx3-ubyte', 't10k-labels-idx1-ubyte')
    return tuple(WebFile(f'{name}.gz', *values) for name, values in zip(names, published, strict=True))


def _archive(address: str, name: str, size: int, checksum: str) -> Published:
    return Published((address,), (WebFile(name, size, checksum),))


_TORONTO, _FAST_AI = 'https://www.cs.toronto.edu/~kriz/', 'https://s3.amazonaws.com/fast-ai-imageclas/'
# Where the sums are from. CIFAR, MNIST, Fashion-MNIST, Imagenette: TensorFlow Datasets 4.9.10 (url_checksums/ and
# datasets/imagenette/checksums.tsv). Tiny ImageNet: published by many who have it, such as Avalanche (as the MD5 of the
# same file). Imagewoof: sizes from fastai's data/checks.txt, SHA-256 from FastAI.jl, the MD5 of the full size from
# Catalyst.
PUBLISHED = {
    'cifar10': _archive(
        _TORONTO,
        'cifar-10-binary.tar.gz',
        170_052_171,
        'c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd',
    ),
    'cifar100': _archive(
        _TORONTO,
        'cifar-100-binary.tar.gz',
        168_513_733,
        '58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec',
    ),
    'mnist': Published(
        ('https://ossci-datasets.s3.amazonaws.com/mnist/', 'https://storage.googleapis.com/cvdf-datasets/mnist/'),
        _idx(
            (9_912_422, '440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609'),
            (28_881, '3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c'),
            (1_648_877, '8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6'),
            (4_542, 'f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6'),
        ),
        folder='mnist',
    ),
    'fashion_mnist': Published(
        ('http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/',),
        _idx(
            (26_421_880, '3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84'),
            (29_515, 'a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845'),
            (4_422_102, '346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073'),
            (5_148, '67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5'),
        ),
        folder='fashion_mnist',
    ),
    'tiny_imagenet': _archive(
        'https://cs231n.stanford.edu/',
        'tiny-imagenet-200.zip',
        248_100_043,
        '6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821',
    ),
    'imagenette2': _archive(
        _FAST_AI,
        'imagenette2.tgz',
        1_557_161_267,
        '6cbfac238434d89fe99e651496f0812ebc7a10fa62bd42d6874042bf01de4efd',
    ),
    'imagenette2-320': _archive(
        _FAST_AI,
        'imagenette2-320.tgz',
        341_663_724,
        '569b4497c98db6dd29f335d1f109cf315fe127053cedf69010d047f0188e158c',
    ),
    'imagenette2-160': _archive(
        _FAST_AI,
        'imagenette2-160.tgz',
        99_003_388,
        '64d0c4859f35a461889e0147755a999a48b49bf38a7e0f9bd27003f10db02fe5',
    ),
    'imagewoof2': _archive(_FAST_AI, 'imagewoof2.tgz', 1_343_715_595, '9aafe18bcdb1632c4249a76c458465ba'),
    'imagewoof2-320': _archive(
        _FAST_AI,
        'imagewoof2-320.tgz',
        328_387_740,
        '4e4905ed7643120daaf9bf3b2ef7f3a7e8396d9bdaf254a38c6f01f618b4973d',
    ),
    'imagewoof2-160': _archive(
        _FAST_AI,
        'imagewoof2-160.tgz',
        92_612_825,
        '663c22f69c2802d85e2a67103c017e047096702ffddf9149a14011b7002539bf',
    ),
}

ALIASES = {'imagenette': 'imagenette2', 'imagewoof': 'imagewoof2'}  # the names that people use
# The same images, with the same labels, from TensorFlow Datasets.
_TFDS = {
    **{f'tfds:{name}': name for name in ('cifar10', 'cifar100', 'mnist', 'fashion_mnist', 'imagenet2012')},
    'tfds:imagenette/full-size-v2': 'imagenette2',
    'tfds:imagenette/320px-v2': 'imagenette2-320',
    'tfds:imagenette/160px-v2': 'imagenette2-160',
}


def images_of(source: str) -> str:
    """One name for all sources of the same images, as `config.data.source` names them."""
    tfds_name = re.sub(r'(?<=\w):[0-9.*]+$', '', source)  # without TFDS's version
    return _TFDS.get(tfds_name, ALIASES.get(source, source))


def missing(name: str, directory: str | pathlib.Path) -> MissingFilesError:
    """The error for a source whose files are not there, with the steps to get them; `name` is one of `PUBLISHED`."""
    return MissingFilesError(name, directory)


def how_to_get(name: str, directory: str | pathlib.Path) -> str:
    """The steps to get the files of a published data set, as part of a sentence."""
    published = PUBLISHED[name]
    files, size = ' and '.join(file.name for file in published.files), sum(file.size for file in published.files)
    where = pathlib.Path(directory, published.folder)
    return (
        f'add --config.data.download=True ({format_bytes(size)}), or get {files} from {published.addresses[0]} and put '
        f"{'it' if len(published.files) == 1 else 'them'}, unchanged, into '{where}'"
    )


def fetch(name: str, directory: str | pathlib.Path, mirror: str, console: Console) -> None:
    """Downloads those files of a published data set that are not there.

    Args:
      name: one of `PUBLISHED`.
      directory: config.data.source_directory.
      mirror: address of a folder that has the files, in place of the published ones; or ''.
      console: for progress.

    Raises:
      UserError: a file cannot be downloaded or written.
    """
    published = PUBLISHED[name]
    if mirror and not mirror.startswith(('http://', 'https://')):
        raise UserError(
            f'config.data.download_from={mirror!r} must be an address that begins with http:// or https://.'
        )
    addresses = (mirror.rstrip('/') + '/',) if mirror else published.addresses
    for file in published.files:
        where = [address + file.name for address in addresses]
        download(file, where, pathlib.Path(directory, published.folder), console)
