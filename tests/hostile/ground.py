"""What a hostile input is, where it has its files, and what several kinds of input have in common."""

import dataclasses
import json
import os
import pathlib
import pickle
import re
import shutil
import zlib
from collections.abc import Callable
from typing import Any

from made_imagenet import picture
from ml_collections import ConfigDict

SIZE, CROP = 16, 12
CLASSES = ('ant', 'bee', 'cat')
GOOD = picture(0, 0, SIZE, 'PNG')


class Pickled:
    """Writes into the place where nothing may be written, when it is unpickled."""

    def __reduce__(self):
        return os.system, ('touch ../outside/written outside/written',)


PICKLE = pickle.dumps(Pickled())
NESTED = b'[' * 100_000
NOT_JSON = {
    'empty': b'',
    'a word': b'nonsense',
    'cut': b'{"format": 2, "settings": {"source": ',
    'a list': b'[1, 2]',
    'a number': b'3',
    'a text': b'"format"',
    'null': b'null',
    'an empty object': b'{}',
    'not UTF-8': b'{"\xff\xfe\x80": 2}',
    'nested 100,000 lists deep': NESTED,
    'nested 100,000 objects deep': b'{"a":' * 100_000,
    'a number of 10,000 digits': b'{"format": ' + b'9' * 10_000 + b'}',
    'zeros': bytes(1000),
    'a pickle': PICKLE,
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A hostile input.

    Attributes:
      name: unique, in plain letters.
      mode: one of `MODES`, or 'command' for a whole command line.
      make: given a `Place`, writes the files there and returns what the mode takes.
      says: words that the message must hold, `{place}` standing for the case's directory; None where the input is
        in fact fine and must work.
      either: whether it may just as well work, as with a flipped bit somewhere.
      real: of a command: whether it is given to an interpreter of its own.
    """

    name: str
    mode: str
    make: Callable[['Place'], dict[str, Any]] | None
    says: tuple[str, ...] | None
    either: bool = False
    real: bool = False

    @property
    def file_name(self):
        return f'{re.sub("[^a-z0-9]+", "-", self.name.lower())[:60]}-{zlib.crc32(self.name.encode()):08x}'


class Place:
    """Where a case has its files.

    Attributes:
      path: all of it; nothing may change in it but in these two:
      data: of the prepared data set.
      run: the workdir.
      source, images, outside: for a source's files, for pictures, and for what must be left alone.
    """

    def __init__(self, path, base):
        self.path, self.base = pathlib.Path(path), pathlib.Path(base)
        self.remove()
        for name in ('here', 'outside', 'source', 'images'):
            (self.path / name).mkdir(parents=True)
        self.data, self.run = self.path / 'data', self.path / 'run'
        self.source, self.images, self.outside = (self.path / name for name in ('source', 'images', 'outside'))
        (self.outside / 'secret.txt').write_text('years of work')

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)

    def copy_data(self, kind='jpeg'):
        """A whole prepared data set, to be damaged."""
        shutil.copytree(self.base / kind, self.data)
        return self.data

    def copy_run(self):
        """A whole run, to be damaged; its data set is where `copy_data` puts it, else the base's."""
        shutil.copytree(self.base / 'run', self.run)
        if self.data.exists():
            self.edit(self.run / 'config.json', lambda fields: fields['data'].update(directory=str(self.data)))
        return self.run

    def folder(self):
        """A source of a few good pictures, in two classes."""
        for name in ('train/a/1.png', 'train/b/1.png', 'validation/a/1.png', 'validation/b/1.png'):
            path = self.source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(GOOD)
        return self.source

    def config(self, **fields):
        """The base's config; `__` in a name stands for a dot."""
        config = small_config()
        config.data.directory = str(self.data if self.data.exists() else self.base / 'jpeg')
        config.update_from_flattened_dict({name.replace('__', '.'): value for name, value in fields.items()})
        return config

    def prepare_config(self, source='folder', **fields):
        config = self.config(data__source=source, data__source_directory=str(self.source), **fields)
        config.data.directory = str(self.data)
        return config

    @staticmethod
    def edit(path, change):
        """Changes a JSON file."""
        fields = json.loads(path.read_text())
        found = change(fields)
        path.write_text(json.dumps(fields if not isinstance(found, dict | list) else found))


def small_config():
    from experiments import paper

    config = paper.get_config()
    config.network = ConfigDict(
        {
            'conv1': {'type': 'convolution', 'kernels': 4, 'size': 3, 'stride': 2, 'std': 0.02},
            'relu1': {'type': 'relu'},
            'pool1': {'type': 'max_pooling', 'size': 3, 'stride': 2},
            'flatten1': {'type': 'flatten'},
            'exchange7': {'type': 'exchange'},
            'fc7': {'type': 'dense', 'units': 8, 'std': 0.1},
            'relu7': {'type': 'relu'},
            'fc8': {'type': 'dense', 'units': len(CLASSES), 'std': 0.1},
        },
        sort_keys=False,
    )
    for name in config.network:
        config.network[name] = ConfigDict(dict(config.network[name]), sort_keys=False)
    config.update_from_flattened_dict(
        {
            'name': 'small',
            'batch_size': 4,
            'epochs': 2,
            'data.source': 'folder',
            'data.image_size': SIZE,
            'data.crop_size': CROP,
            'data.threads': 2,
            'evaluation.views': ('center',),
            'mesh.data': 1,
            'mesh.column': 1,
        }
    )
    return config


def odd_files(path):
    """What may stand where a file is expected: by name, functions that put it there."""

    def fresh(make):
        def put(where):
            file = where / path
            if file.is_dir():
                shutil.rmtree(file)
            elif file.exists():
                file.unlink()
            make(file)

        return put

    def sparse(file):
        with file.open('wb') as written:
            written.truncate(40 << 30)

    return {
        'a folder': fresh(os.mkdir),
        'a pipe': fresh(os.mkfifo),
        'a link to itself': fresh(lambda file: file.symlink_to(file.name)),
        'a link to /dev/zero': fresh(lambda file: file.symlink_to('/dev/zero')),
        'a file of 40 GB': fresh(sparse),
    }


def at(*path):
    """A function that changes a field of nested lists and dicts: at('a', 0, 'b')(5) sets it to 5."""

    def changing(value):
        def change(fields):
            for part in path[:-1]:
                fields = fields[part]
            if value is KeyError:
                del fields[path[-1]]
            else:
                fields[path[-1]] = value

        return change

    return changing


def of_run(name, damage, says, mode='eval', either=False, **more):
    """A case with a copy of the base's run, and its data set, where `damage(run)` has been; `more` goes to the mode."""

    def make(place):
        place.copy_data()
        damage(place.copy_run())
        if mode == 'predict':
            (place.images / 'x.png').write_bytes(GOOD)
            return {'images': [str(place.images)], **more}
        return ({'config': place.config()} if mode == 'train' else {}) | more

    return Case(f'run: {name}', mode, make, (says,) if says else None, either)
