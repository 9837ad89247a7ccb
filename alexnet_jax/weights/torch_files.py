"""torchvision's AlexNet: state dicts as PyTorch saves them, in both of its forms, and in safetensors.

PyTorch's files hold a pickle. It is read as plain data (`runtime.plain_pickle`): the few functions that it may name
have stand-ins here, and nothing of PyTorch is called. Since 2020 the file is a zip, with a member for the numbers of
each array; before that it was five pickles in a row, followed by all numbers.
"""

import dataclasses
import functools
import math
import mmap
import reprlib
import zipfile
from collections.abc import Callable, Mapping
from typing import IO, Any, NamedTuple, cast

import numpy as np

from alexnet_jax.model.layer_specs import Convolution, Dense, Dropout, Flatten, MaxPooling, ReLU
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.plain_pickle import Inert, read_pickle
from alexnet_jax.weights.graph import ForeignNetwork, Step

_LEGACY = b'\x80\x02\x8a\x0a' + (0x1950A86A20F9469CFC6C).to_bytes(10, 'little') + b'.'  # the pickle of this number
_TYPES = {'FloatStorage': '<f4', 'HalfStorage': '<f2', 'DoubleStorage': '<f8'}
_MOST_NUMBERS = 150_000_000  # in a file; AlexNet's has 61 million
_LONGEST_PICKLE = 2**24  # bytes
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of red, green and blue from 0 to 1
# Of torchvision.models.alexnet: arrays by their prefix, and what stands between them.
_TOWER: tuple[tuple[str, Any], ...] = (
    ('features.0', Convolution(kernels=64, size=11, stride=4, pad=2, rounding='down')),
    ('', ReLU()),
    ('', MaxPooling(rounding='down')),
    ('features.3', Convolution(kernels=192, size=5, pad=2)),
    ('', ReLU()),
    ('', MaxPooling(rounding='down')),
    ('features.6', Convolution(kernels=384, size=3, pad=1)),
    ('', ReLU()),
    ('features.8', Convolution(kernels=256, size=3, pad=1)),
    ('', ReLU()),
    ('features.10', Convolution(kernels=256, size=3, pad=1)),
    ('', ReLU()),
    ('', MaxPooling(rounding='down')),
    ('', Flatten()),
    ('', Dropout()),
    ('classifier.1', Dense(units=4096)),
    ('', ReLU()),
    ('', Dropout()),
    ('classifier.4', Dense(units=4096)),
    ('', ReLU()),
    ('classifier.6', Dense(units=1000)),
)


def is_torchvision(names: Mapping[str, Any]) -> bool:
    """Whether a state dict is that of a network such as torchvision's AlexNet, by the names of its arrays."""
    return {'features.0.weight', 'classifier.1.weight'} <= set(names)


def tower(arrays: Mapping[str, np.ndarray]) -> ForeignNetwork:
    """The network of torchvision.models.alexnet with these arrays, of any widths and number of classes.

    Args:
      arrays: by their names in the state dict.

    Raises:
      UserError: an array is missing, or does not belong to that network.
    """
    arrays = without_prefixes(arrays)
    wanted = {f'{prefix}.{part}' for prefix, _ in _TOWER if prefix for part in ('weight', 'bias')}
    for name in sorted(wanted - set(arrays)):
        raise UserError(f"{name} is missing, which torchvision's AlexNet has.")
    for name in sorted(set(arrays) - wanted):
        raise UserError(f"{name}, {list(arrays[name].shape)}, is not an array of torchvision's AlexNet.")
    steps = []
    for prefix, layer in _TOWER:
        weight, bias = (arrays[f'{prefix}.{part}'] if prefix else None for part in ('weight', 'bias'))
        if weight is not None:
            width = max(1, len(weight) if weight.ndim else 0)
            layer = dataclasses.replace(layer, **{'units' if isinstance(layer, Dense) else 'kernels': width})
        steps.append(Step(prefix or type(layer).__name__, layer, weight, bias))
    mean = np.array(_MEAN, np.float64) * 255
    return ForeignNetwork('torchvision', tuple(steps), 224, 'rgb', mean, tuple(1 / (255 * std) for std in _STD))


def without_prefixes(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """With names as torchvision's, without what wrappers put before and among them (module., _orig_mod., model.)."""
    plain = {name.replace('module.', ''): array for name, array in arrays.items()}
    first = f'{_TOWER[0][0]}.weight'
    before = next((name.removesuffix(first) for name in plain if name.endswith(f'.{first}')), '')
    return {name.removeprefix(before): array for name, array in plain.items()}


def is_torch_zip(archive: zipfile.ZipFile) -> bool:
    """Whether a zip is a file of PyTorch."""
    return any(name.rpartition('/')[2] == 'data.pkl' for name in archive.namelist())


def read_torch_zip(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """Reads a state dict from PyTorch's zip.

    Raises:
      ValueError: it is damaged, or holds something other than a state dict.
    """
    names = archive.namelist()
    pickle = next(name for name in names if name.rpartition('/')[2] == 'data.pkl')
    folder = pickle.removesuffix('data.pkl')
    if f'{folder}byteorder' in names and _member(archive, f'{folder}byteorder', 100) != b'little':
        raise ValueError('its numbers are big-endian')
    state = _state(_member(archive, pickle, _LONGEST_PICKLE), _storage)

    @functools.cache
    def storage(one: _Storage) -> np.ndarray:
        size = one.numbers * np.dtype(one.kind).itemsize
        content = _member(archive, f'{folder}data/{one.key}', size)
        if len(content) != size:
            raise ValueError(f'{folder}data/{one.key} has {len(content):,} bytes; {size:,} were expected')
        return np.frombuffer(content, one.kind)

    return _arrays(state, storage)


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A member of at most so many bytes."""
    info = archive.getinfo(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f'{name} is compressed in an unknown way')
    if info.file_size > most:
        raise ValueError(f'{name} has {info.file_size:,} bytes; {most:,} were expected')
    with archive.open(info) as file:
        return file.read(most)


def begins_as_legacy(start: bytes) -> bool:
    """Whether a file with these first bytes is as PyTorch wrote it before 2020."""
    return start.startswith(_LEGACY)


def read_torch_legacy(file: IO[bytes] | mmap.mmap) -> dict[str, np.ndarray]:
    """Reads a state dict from a file of PyTorch of before 2020.

    Raises:
      ValueError: it is damaged, or holds something other than a state dict.
    """
    stream = cast(IO[bytes], file)
    _, protocol, system = (read_pickle(stream) for _ in range(3))
    if protocol != 1001 or not isinstance(system, dict) or not system.get('little_endian', True):
        raise ValueError('it is of another version of the format, or big-endian')
    wanted: dict[str, _Storage] = {}  # by arrays outside the state dict too

    def noted(identity: Any) -> _Storage:
        one = _storage(identity)
        return wanted.setdefault(one.key, one)

    state = _state(stream, noted)
    storages: dict[str, np.ndarray] = {}
    keys = read_pickle(stream)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError('it does not say which numbers follow')
    for key in keys:
        one = wanted.get(key)
        if one is None:
            raise ValueError(f'it has numbers for {key:.50}, which is not an array')
        count, size = int.from_bytes(stream.read(8), 'little'), one.numbers * np.dtype(one.kind).itemsize
        content = stream.read(size) if count == one.numbers else b''
        if len(content) != size:
            raise ValueError(
                f'an array has {count:,} numbers in {len(content):,} bytes; its pickle says {one.numbers:,} numbers'
            )
        storages[key] = np.frombuffer(content, one.kind)
    return _arrays(state, lambda one: storages[one.key])


class _Storage(NamedTuple):
    """Numbers that arrays are made of: of a NumPy type, under a key, so many."""

    kind: str
    key: str
    numbers: int


class _Tensor(NamedTuple):
    """An array: the first of its numbers, how many along each axis, and how far apart."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _ordered(items: Any = ()) -> dict[str, Any]:
    return dict(items)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    numbers = [offset, *shape, *strides]
    if not isinstance(storage, _Storage) or not all(type(one) is int and one >= 0 for one in numbers):
        raise ValueError('an array is not as PyTorch saves them')
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if math.prod(shape) > storage.numbers or (0 not in shape and last >= storage.numbers):
        raise ValueError(f'an array of shape {reprlib.repr(shape)} has {storage.numbers:,} numbers')
    return _Tensor(storage, offset, shape, strides)


def _no_call(*_: Any) -> Any:
    raise ValueError('it calls a type')


def _storage(identity: Any) -> _Storage:
    """What a persistent id stands for: ('storage', type, key, device, count), and in old files a view of it."""
    if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[5:] not in ((), (None,)):
        raise ValueError('a persistent id is not as PyTorch saves them')
    _, kind, key, _, count = identity[:5]
    name = kind.name.removeprefix('torch ') if isinstance(kind, Inert) else ''
    if name not in _TYPES or not isinstance(key, str) or type(count) is not int or not 0 <= count <= _MOST_NUMBERS:
        raise ValueError(
            f'an array is of type {name:.50}, of {reprlib.repr(count)} numbers; known are {", ".join(_TYPES)}'
        )
    return _Storage(_TYPES[name], key, count)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    'collections OrderedDict': _ordered,
    'torch._utils _rebuild_tensor_v2': _tensor,
    'torch._utils _rebuild_tensor': _tensor,
    'torch._utils _rebuild_parameter': lambda tensor, *_: tensor,
    **{f'torch {name}': _no_call for name in _TYPES},
}


def _state(data: bytes | IO[bytes], persistent: Callable[[Any], _Storage]) -> dict[str, _Tensor]:
    """The tensors of a state dict by name; it may be what a training script saved under 'state_dict' or the like."""
    try:
        state = read_pickle(data, functions=_FUNCTIONS, persistent=persistent)
    except ValueError as error:
        raise ValueError(f'{error}. A whole model cannot be read; save its model.state_dict()') from error
    for key in ('state_dict', 'model_state_dict', 'model', 'net'):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(one, _Tensor) for name, one in state.items()
    ):
        found = f'; it has {", ".join(map(str, [*state][:6]))}' if isinstance(state, dict) else ''
        raise ValueError(f'it is not a state dict, which maps names to arrays{found:.200}')
    return state


def _arrays(state: Mapping[str, _Tensor], storage: Callable[[_Storage], np.ndarray]) -> dict[str, np.ndarray]:
    total = sum(one.storage.numbers for one in state.values())
    if total > _MOST_NUMBERS:
        raise ValueError(f'it has {total:,} numbers; the limit is {_MOST_NUMBERS:,}')

    def array(tensor: _Tensor) -> np.ndarray:
        numbers = storage(tensor.storage)[tensor.offset :]
        strides = [stride * numbers.itemsize for stride in tensor.strides]
        return np.lib.stride_tricks.as_strided(numbers, tensor.shape, strides, writeable=False)

    return {name: array(tensor) for name, tensor in state.items()}
