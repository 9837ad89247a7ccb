"""Reads trained networks and mean images; formats are recognized by their content, never by file names."""

import contextlib
import mmap
import pathlib
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from alexnet_jax.runs.parameters_file import read_arrays
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.files import open_regular
from alexnet_jax.runtime.plain_pickle import begins_as_pickle
from alexnet_jax.weights import caffe, cuda_convnet, onnx_files, torch_files
from alexnet_jax.weights.graph import ForeignNetwork, described
from alexnet_jax.weights.protobuf import Message

_KINDS = (
    "a Caffe network (.caffemodel), torchvision's AlexNet (.pth or .safetensors), an ONNX model, a checkpoint of "
    'cuda-convnet, or parameters.safetensors of this software'
)
_LARGEST = 2**30  # bytes of a file; those of AlexNet have 0.25 GB, and 0.5 with their momentum
_NUMBERS = re.compile(r'-?\d{1,9}(\.\d+)?(,-?\d{1,9}(\.\d+)?){0,2}')


def is_own(path: str) -> bool:
    """Whether a file is parameters.safetensors as this software writes it; False where it cannot be read."""
    try:
        with open_regular(path) as file:
            start = file.read(2**16)
    except (OSError, ValueError):
        return False
    return _is_safetensors(start) and b'"format":"alexnet_jax"' in start


def read_weights(path: str) -> ForeignNetwork:
    """Reads a trained network; no code that the file may hold is ever run.

    Raises:
      UserError: it cannot be read, is damaged, or is of no known format; or a table of layers cannot express it.
    """
    with _naming('weights', path):
        data = _mapped(path)
        view = memoryview(data)
        start = bytes(view[: 2**16])
        if _is_safetensors(start):
            if b'"mean_image":' in start:
                raise UserError(
                    'it is what --mode=export --to=torch writes, whose strides and paddings are in alexnet.py beside '
                    'it. Export the run with --to=safetensors or --to=onnx: both can be imported.'
                )
            return torch_files.tower(read_arrays(pathlib.Path(path))[0])
        if start.startswith(b'PK\x03\x04'):
            return _of_zip(path)
        if torch_files.begins_as_legacy(start):
            return torch_files.tower(torch_files.read_torch_legacy(data))
        if begins_as_pickle(start):
            return _of_checkpoint(cuda_convnet.read_checkpoint(data))
        try:
            message = Message(view)
        except ValueError as error:
            raise ValueError(f'it is of no known format; known are {_KINDS} ({error})') from error
        return onnx_files.read_onnx(message) if onnx_files.is_onnx(message) else caffe.read_caffemodel(view)


def read_mean(given: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Reads a mean: numbers as in '104,117,123'; or a file: NumPy's .npy, Caffe's .binaryproto, or batches.meta.

    Returns:
      Mean in 0..255, [channels], [channels, side, side] in the order of the network's channels, or [side, side, 3] in
      RGB; and the names of classes, which batches.meta has.

    Raises:
      UserError: it cannot be read, or is damaged.
    """
    if _NUMBERS.fullmatch(given):
        return numbers('mean', given), None
    names = None
    with _naming('mean', given):
        data = _mapped(given)
        start = bytes(data[:6])
        if start == b'\x93NUMPY':
            mean = np.load(given, mmap_mode='r', allow_pickle=False)
        elif begins_as_pickle(start):
            mean, names = cuda_convnet.mean_and_names(cuda_convnet.read_checkpoint(data))
        else:
            mean = caffe.read_mean(memoryview(data))
        if mean.dtype.kind not in 'fiu' or not 0 < mean.size <= 2**26 or not np.isfinite(mean).all():
            raise ValueError(f'its values, {mean.dtype} {list(mean.shape)}, are not a mean image')
    return mean, names


def numbers(flag: str, given: str) -> np.ndarray:
    """The numbers of a flag: one, or one for each channel.

    Raises:
      UserError: it is anything else.
    """
    if not _NUMBERS.fullmatch(given) or given.count(',') == 1:
        raise UserError(f'--{flag}={given} must be a number, or three separated by commas.')
    return np.array([float(one) for one in given.split(',')])


def read_class_names(path: str) -> tuple[str, ...]:
    """Reads class names, one per line.

    Raises:
      UserError: it cannot be read, or is not text.
    """
    with _naming('class_names', path):
        lines = bytes(_mapped(path)).decode('utf-8-sig').splitlines()
        while lines and not lines[-1].strip():
            lines.pop()
        if not lines:
            raise ValueError('it has no names')
    return tuple(line.strip() for line in lines)


@contextlib.contextmanager
def _naming(flag: str, path: str) -> Iterator[None]:
    """Names the flag and the file in the errors of reading it."""
    try:
        yield
    except OSError as error:
        raise UserError(f'--{flag}={path} cannot be read: {error.strerror or error}.') from error
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        what = described(error) if isinstance(error, ValueError) else f'{type(error).__name__}: {error}'
        raise UserError(
            f'--{flag}={path} cannot be used: {what.rstrip(".")}. Take another copy, or name another file.'
        ) from error
    except UserError as error:
        what = str(error).removeprefix(path)  # which an error may name already
        raise UserError(f'--{flag}={path}{what if what != str(error) else f": {what}"}') from error


def _mapped(path: str) -> mmap.mmap:
    """A file's bytes, read as they are used."""
    if pathlib.Path(path).is_dir():
        raise ValueError('it is a folder')
    with open_regular(path) as file:
        size = file.seek(0, 2)
        if not 0 < size <= _LARGEST:
            raise ValueError(f'it has {size:,} bytes; there may be from 1 to {_LARGEST:,}')
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _is_safetensors(start: bytes) -> bool:
    """Whether a file begins with the length of a JSON text, and with that."""
    return 2 <= int.from_bytes(start[:8], 'little') < 2**27 and start[8:9] == b'{'


def _of_zip(path: str) -> ForeignNetwork:
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        if torch_files.is_torch_zip(archive):
            return torch_files.tower(torch_files.read_torch_zip(archive))
        members = [one for one in archive.infolist() if one.filename == 'data']
        known = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if len(members) != 1 or members[0].file_size > _LARGEST // 2 or members[0].compress_type not in known:
            raise ValueError(f'it is a zip, but not of a known format; known are {_KINDS}')
        with archive.open(members[0]) as member:
            return _of_checkpoint(cuda_convnet.read_checkpoint(member.read(_LARGEST // 2)))


def _of_checkpoint(content: Any) -> ForeignNetwork:
    if not cuda_convnet.is_checkpoint(content):
        raise ValueError('it is a pickle, but not a checkpoint of cuda-convnet')
    return cuda_convnet.network_of(content)
