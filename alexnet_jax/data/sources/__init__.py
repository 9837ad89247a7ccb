"""Sources of images, one class each, behind the interface `base.Source`."""

from alexnet_jax.data.sources import published
from alexnet_jax.data.sources.base import Item, Source
from alexnet_jax.runtime.errors import UserError

__all__ = ['EMBEDDED', 'Item', 'Source', 'how_to_get', 'open_source']

EMBEDDED = ('digits', 'photographs')  # kinds of sources that need no download; prepared on first use


def open_source(name: str, directory: str) -> Source:
    """Opens a source by name.

    Args:
      name: 'digits'; 'photographs:CLASSES'; 'imagenet2012', 'imagenet2010' or one of `published.PUBLISHED`, their
        official files; 'folder', a folder of class folders; 'parquet' or 'parquet:FILES', Parquet files as Hugging Face
        has them; 'tfds:NAME', a data set of TensorFlow Datasets.
      directory: of the source's files; the embedded ones need none.

    Raises:
      UserError: there is no such source, or its files are missing or damaged.
    """
    match published.ALIASES.get(name, name).split(':', 1):
        case ['digits']:
            from alexnet_jax.data.sources.digits import Digits

            return Digits()
        case ['photographs', classes]:
            from alexnet_jax.data.sources.photographs import Photographs

            return Photographs(classes)
        case ['imagenet2012']:
            from alexnet_jax.data.sources.imagenet_folders import open_imagenet2012

            return open_imagenet2012(directory)
        case ['imagenet2010']:
            from alexnet_jax.data.sources.imagenet2010 import ImageNet2010

            return ImageNet2010(directory)
        case ['cifar10']:
            from alexnet_jax.data.sources.cifar import Cifar10

            return Cifar10(directory)
        case ['cifar100']:
            from alexnet_jax.data.sources.cifar import Cifar100

            return Cifar100(directory)
        case ['tiny_imagenet']:
            from alexnet_jax.data.sources.tiny_imagenet import TinyImageNet

            return TinyImageNet(directory)
        case ['mnist']:
            from alexnet_jax.data.sources.idx import Mnist

            return Mnist(directory)
        case ['fashion_mnist']:
            from alexnet_jax.data.sources.idx import FashionMnist

            return FashionMnist(directory)
        case [data_set] if data_set.startswith(('imagenette', 'imagewoof')) and data_set in published.PUBLISHED:
            from alexnet_jax.data.sources.imagenette import Imagenette

            return Imagenette(data_set, directory)
        case ['folder']:
            from alexnet_jax.data.sources.folder import Folder

            return Folder(directory)
        case ['parquet', *pattern]:
            from alexnet_jax.data.sources.parquet import Parquet

            return Parquet(''.join(pattern), directory)
        case ['tfds', data_set]:
            from alexnet_jax.data.sources.tfds import TensorFlowDatasets

            return TensorFlowDatasets(data_set, directory)
    raise _unknown(name)


def how_to_get(name: str, directory: str) -> str:
    """The steps before a source can be prepared, for a message; UserError if there is no such source."""
    match published.ALIASES.get(name, name).split(':', 1):
        case [data_set] if data_set in published.PUBLISHED:
            return published.how_to_get(data_set, directory)
        case ['imagenet2012']:
            files = 'ILSVRC2012_img_train.tar (148 GB) and ILSVRC2012_img_val.tar (6.7 GB)'
        case ['imagenet2010']:
            files = 'the images and the development kit of ILSVRC-2010'
        case ['folder']:
            return f'put your images, in folders named by their classes, into {directory!r}'
        case ['parquet', *_]:
            return f'put your Parquet files into {directory!r}'
        case ['tfds', data_set]:
            return f'let TensorFlow Datasets keep {data_set} in {directory!r}'
        case ['digits'] | ['photographs', _]:
            return f'nothing is needed, not even {directory!r}'
        case _:
            raise _unknown(name)
    return f'get {files} from image-net.org, which asks for registration, put them into {directory!r}'


def _unknown(name: str) -> UserError:
    return UserError(
        f'config.data.source={name!r} is not a known source; known are digits, photographs:CLASSES, '
        f'{", ".join(published.PUBLISHED)}, imagenet2012, imagenet2010, folder, parquet, and tfds:NAME for a data set '
        'of TensorFlow Datasets.'
    )
