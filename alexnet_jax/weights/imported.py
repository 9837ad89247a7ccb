"""A foreign network as the content of a workdir: its config, its classes and the mean of its images."""

import dataclasses
import pathlib
import re
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from alexnet_jax.config import Config
from alexnet_jax.data.dataset import PreparedDataSet, Settings
from alexnet_jax.data.sources.cifar import Cifar10
from alexnet_jax.data.sources.imagenet import imagenet_names
from alexnet_jax.model.alexnet import classes_of, initial_parameters
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights.graph import ForeignNetwork
from alexnet_jax.weights.networks import Arrays, arranged, crop_size_of, first_channels, fits

_IMAGENET_SIDES = range(200, 257)  # of patches that are cut from images of 256 x 256
_WORDNET = re.compile(r'(n\d{8})\s+(.+)')


class Given(NamedTuple):
    """What the user says about a network; None where it is left to the file."""

    mean: np.ndarray | None = None  # as `files.read_mean` gives it
    std: np.ndarray | None = None  # one number, or one for each channel in the order of the network
    class_names: tuple[str, ...] | None = None
    channels: str | None = None  # 'rgb' or 'bgr'
    crop_size: int | None = None


class Imported(NamedTuple):
    """The content of a workdir."""

    config: Config
    data: PreparedDataSet
    mean_image: np.ndarray  # float32 [image_size, image_size, 3]
    parameters: Arrays


def imported(network: ForeignNetwork, name: str, given: Given, say: Callable[[str], None]) -> Imported:
    """Converts a foreign network.

    Args:
      network: as its file has it.
      name: of the network, for its config.
      given: what its file does not say; for a Caffe network, an order of channels and a mean override the usual ones.
      say: is told what has been assumed.

    Raises:
      UserError: neither the file nor the user says what is needed, or it does not fit.
    """
    gray = first_channels(network) == 1
    channels = given.channels or network.channels
    if channels is None and not gray:
        raise UserError(
            'the file does not say in which order the network takes red, green and blue; pass --channels=rgb or '
            '--channels=bgr (networks from Caffe: bgr).'
        )
    network = dataclasses.replace(network, channels=channels, scale=_scale(network, given.std))
    mean = _mean(network, given.mean, gray)
    _check_range(mean, network.scale)
    crop_size = _crop_size(network, given.crop_size, mean.shape[0], say)
    table, columns, parameters = arranged(network, crop_size)
    known = network.image_size or 0
    patch_alone = mean.shape[0] == crop_size < known  # of the mean: what surrounds it is not looked at
    if patch_alone:
        near = (known - crop_size) // 2
        mean = np.pad(mean, [(near, known - crop_size - near)] * 2 + [(0, 0)], mode='edge')
    image_size = 256 if crop_size in _IMAGENET_SIDES else crop_size
    if mean.shape[0] > 1:
        image_size = mean.shape[0]
    if image_size < crop_size:
        raise UserError(f'--mean is {image_size} pixels wide; the images of the network are {crop_size}.')
    names, ids = _classes(network.class_names if given.class_names is None else given.class_names, classes_of(table))
    fields = {
        'name': name,
        'network': dict(table),
        'columns': columns,
        'data': {
            **_source(ids, names),
            'image_size': image_size,
            'crop_size': crop_size,
            'mean_patch': 'center' if patch_alone else 'matching',
        },
        'evaluation': {'views': ('center', 'ten') if image_size > crop_size else ('center',)},
    }
    config = Config.from_fields(fields)
    _check_shapes(config, parameters)
    data = PreparedDataSet(
        directory=pathlib.Path(),
        settings=Settings(config.data.source, image_size, 'raw', config.data.quality, config.data.images_per_shard),
        class_names=names,
        class_ids=ids,
        shards={'train': [], 'validation': []},
        left_out=0,
        rgb_mean=[float(one) for one in mean.mean((0, 1))],
        rgb_covariance=np.zeros((3, 3)).tolist(),
    )
    whole = np.broadcast_to(mean, (image_size, image_size, 3))
    return Imported(config, data, np.ascontiguousarray(whole, np.float32), parameters)


def _scale(network: ForeignNetwork, std: np.ndarray | None) -> tuple[float, ...]:
    """The factor of images after the mean has been subtracted: one number, or one for each channel."""
    if std is None:
        return network.scale
    if network.kind == 'torchvision':
        raise UserError('--std is not for this file: a network of torchvision has its own.')
    if not (std > 0).all() or std.size not in (1, first_channels(network)):
        raise UserError(f'--std must be numbers above 0, 1 or {first_channels(network)} of them.')
    return tuple(float(one) for one in np.array(network.scale) / std)


def _check_range(mean: np.ndarray, scale: tuple[float, ...]) -> None:
    """Refuses what is meant for images from 0 to 1, as ours are from 0 to 255."""
    if 0 < mean.max() <= 1 and max(scale) >= 1:
        raise UserError(
            f'the mean, {mean.max():.3g} at most, is of images from 0 to 1, and here they are from 0 to 255. Pass '
            '--mean and --std times 255, as in --mean=123.675,116.28,103.53 --std=58.395,57.12,57.375; a model that '
            'subtracts such a mean itself cannot be imported.'
        )


def _mean(network: ForeignNetwork, given: np.ndarray | None, gray: bool) -> np.ndarray:
    """The mean in RGB, [1, 1, 3] or [side, side, 3]."""
    if given is not None and network.mean is not None and network.kind != 'Caffe':
        raise UserError(f'--mean is not for this file: a network of {network.kind} subtracts its own.')
    mean = network.mean if given is None else given
    if mean is None and gray:
        mean = np.zeros(1)
    if mean is None:
        raise UserError(
            'the file does not say what to subtract from images; pass --mean=FILE (.npy, .binaryproto, batches.meta), '
            '--mean=104,117,123 (a number for each channel, in the order of the network) or --mean=0 (nothing).'
        )
    mean = np.asarray(mean, np.float64)
    while mean.ndim > 3 and mean.shape[0] == 1:
        mean = mean[0]
    if mean.ndim == 1:
        mean = mean[:, None, None]
    if mean.ndim == 2:
        mean = mean[None]
    if mean.ndim == 3 and mean.shape[2] == 3 and mean.shape[0] == mean.shape[1] != 3:
        return mean  # as ours
    if mean.ndim != 3 or mean.shape[0] not in (1, 3) or mean.shape[1] != mean.shape[2]:
        raise UserError(
            f'--mean is {list(mean.shape)}; it must be [3, side, side] in the order of the network, or [side, side, 3] '
            'in RGB.'
        )
    mean = np.broadcast_to(mean, (3, *mean.shape[1:])).transpose(1, 2, 0)
    return mean[..., ::-1] if network.channels == 'bgr' else mean


def _crop_size(network: ForeignNetwork, given: int | None, mean_side: int, say: Callable[[str], None]) -> int:
    """Height and width of the images: as given, or as the file says, or the size that fits."""
    if given or network.crop_size:
        return given or network.crop_size or 0
    if mean_side > 1 and fits(network, mean_side):
        return mean_side
    found = crop_size_of(network)
    if found is None:
        raise UserError('the file does not say how large the images are; pass --crop_size=N, in pixels.')
    say(f'The file does not say how large the images are: assuming {found} x {found}. --crop_size=N overrides this.')
    return found


def _classes(given: tuple[str, ...] | None, count: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and ids of the classes; without names those of ImageNet for 1,000, and numbers for others."""
    if given is None and count == 1000:
        known = imagenet_names()
        return tuple(known.values()), tuple(known)
    names = tuple(str(label) for label in range(count)) if given is None else given
    if len(names) != count:
        raise UserError(f'{len(names):,} class names do not fit a network of {count:,} classes (--class_names).')
    found = [_WORDNET.fullmatch(name) for name in names]
    pairs = [(one[2], one[1]) for one in found if one]
    if len(pairs) == count:
        return tuple(name for name, _ in pairs), tuple(wordnet for _, wordnet in pairs)
    ids = names if len(set(names)) == count else tuple(f'{label} {name}' for label, name in enumerate(names))
    return names, ids


def _source(ids: tuple[str, ...], names: tuple[str, ...]) -> dict[str, str]:
    """The data set whose classes these are, where it is known."""
    if ids == tuple(imagenet_names()):
        return {'source': 'imagenet2012', 'directory': 'data/imagenet2012'}
    if names == Cifar10.class_names:
        return {'source': 'cifar10', 'directory': 'data/cifar10', 'storage': 'raw'}
    return {'source': 'folder', 'source_directory': 'data/downloads/pictures', 'directory': 'data/pictures'}


def _check_shapes(config: Config, parameters: Arrays) -> None:
    """Raises UserError where the table does not fit its images; the arrays are of its shapes then."""
    shapes = jax.eval_shape(
        lambda: initial_parameters(config.network, config.columns, config.data.crop_size, config.seed)
    )
    found = jax.tree.map(lambda x: x.shape, parameters)
    assert found == jax.tree.map(lambda x: x.shape, shapes), 'arrays are made in the shapes of the table'
