"""Hostile inputs, each with the way it is to be met: what `test_hostile.py` runs."""

import dataclasses
import functools
import io
import itertools
import json
import os
import pathlib
import pickle
import re
import shutil
import struct
import tarfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from made_imagenet import picture, tar_of, tfds_list, write_imagenet2010, write_imagenet2012
from ml_collections import ConfigDict
from PIL import Image
from rich.console import Console

SIZE, CROP = 16, 12
CLASSES = ('ant', 'bee', 'cat')


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
      after: given the place after the run, returns what is wrong there, or None.
    """

    name: str
    mode: str
    make: Callable[['Place'], dict[str, Any]] | None
    says: tuple[str, ...] | None
    either: bool = False
    real: bool = False
    after: Callable[['Place'], str | None] | None = None

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


def import_everything():
    """What the modes import, so that forked processes have it."""
    import PIL.Image
    import scipy.io  # noqa: F401

    import alexnet_jax.data.prepare
    import alexnet_jax.data.sources.folder
    import alexnet_jax.data.sources.imagenet2010
    import alexnet_jax.figures
    import alexnet_jax.inspection
    import alexnet_jax.retrieval
    import alexnet_jax.train  # noqa: F401

    PIL.Image.init()


def make_base(base):
    """Prepared data sets, and a run with two checkpoints."""
    from alexnet_jax.devices import choose_platform
    from alexnet_jax.experiment import prepare_data
    from alexnet_jax.train import train

    choose_platform()
    for split, count in (('train', 4), ('validation', 2)):
        for label, name in enumerate(CLASSES):
            (base / 'source' / split / name).mkdir(parents=True)
            for number in range(count):
                content = picture(label, number, SIZE, 'PNG')
                (base / 'source' / split / name / f'{number}.png').write_bytes(content)
    for kind in ('jpeg', 'raw'):
        config = small_config()
        config.data.update(storage=kind, directory=str(base / kind), source_directory=str(base / 'source'))
        config.data.images_per_shard = 6
        prepare_data(config.data, console())
    write_imagenet2012(base / 'imagenet2012', classes=2, per_class=2, validation=2, size=SIZE)
    write_imagenet2010(base / 'imagenet2010', per_class=3, validation=6, test=2, size=SIZE)
    config = small_config()
    config.data.directory = str(base / 'jpeg')
    train(config, str(base / 'run'), console())
    (base / 'done').touch()


def console():
    """One that is as strict about characters as standard output is."""
    return Console(file=io.TextIOWrapper(io.BytesIO(), 'utf-8', errors='strict', write_through=True), width=120)


def text_of(console):
    return console.file.buffer.getvalue().decode()


def reuse_programs():
    """Lets cases share compiled programs, and takes the devices as they are."""
    import jax

    import alexnet_jax.train as train_module
    from alexnet_jax import arguments, devices, features, prediction
    from alexnet_jax.experiment import state_shapes
    from alexnet_jax.step import state_sharding

    devices.choose_platform()
    arguments.choose_platform = lambda **_: 'on the CPU'
    prediction.make_prediction_step = functools.lru_cache(prediction.make_prediction_step)
    features.make_feature_step = functools.lru_cache(features.make_feature_step)
    first_state, training_step, programs = train_module.first_state, train_module.training_step, {}

    def kept(experiment, name, make):
        config = experiment.config
        key = repr((name, experiment.table, experiment.mesh, config.seed, config.batch_size, config.data.crop_size))
        if key not in programs:
            programs[key] = make(experiment)
        return programs[key]

    def on_host(experiment):
        return jax.device_get(first_state(experiment)), state_sharding(state_shapes(experiment), experiment.mesh)

    train_module.first_state = lambda experiment: jax.device_put(*kept(experiment, 'state', on_host))
    train_module.training_step = lambda experiment: kept(experiment, 'step', training_step)


# --- the modes, as launch.py calls them ---


def launched(mode, place, console, config, call, ensemble=False):
    from alexnet_jax import arguments
    from alexnet_jax.workdir import read_config

    if config is None and not ensemble:
        config = read_config(place.run)
    arguments.check(['launch.py'], config, str(place.run), mode, ensemble)
    with arguments.complete_config():
        arguments.start(config)
        call(config, str(place.run))


def prepare(place, console, config):
    from alexnet_jax.experiment import check, prepare_data

    def call(config, workdir):
        check(config)
        prepare_data(config.data, console)

    launched('prepare', place, console, config, call)


def train(place, console, config=None, allow=()):
    from alexnet_jax import train

    launched('train', place, console, config, lambda config, run: train.train(config, run, console, allow))


def evaluate(place, console, config=None, which='newest', split='validation'):
    from alexnet_jax.evaluate import evaluate_run

    launched('eval', place, console, config, lambda config, run: evaluate_run(config, run, which, split, console))


def ensemble(place, console, workdirs, config=None, which='newest'):
    from alexnet_jax.evaluate import evaluate_ensemble

    def call(config, run):
        evaluate_ensemble(config, workdirs, run, which, 'validation', console)

    launched('eval', place, console, config, call, ensemble=True)


def predict(place, console, images, config=None, which='newest', as_json=True):
    from alexnet_jax import predict

    def call(config, run):
        predict.predict(config, run, which, images, as_json, console)

    launched('predict', place, console, config, call)


def features(place, console, images=(), config=None, which='newest', layer='fc7', split=None):
    from alexnet_jax.features import extract

    def call(config, run):
        extract(config, run, which, layer, split, images, console)

    launched('features', place, console, config, call)


def neighbours(place, console, config=None, layer='fc7'):
    from alexnet_jax.retrieval import retrieve

    launched('neighbours', place, console, config, lambda config, run: retrieve(config, run, 'newest', layer, console))


def figures(place, console, config=None):
    from alexnet_jax.figures import draw_figures

    launched('figures', place, console, config, lambda config, run: draw_figures(config, run, 'newest', console))


MODES = {
    'prepare': prepare,
    'train': train,
    'eval': evaluate,
    'ensemble': ensemble,
    'predict': predict,
    'features': features,
    'neighbours': neighbours,
    'figures': figures,
}
GOOD = picture(0, 0, SIZE, 'PNG')
_CASES: list[Case] = []


def case(name, mode, make, says=(), **more):
    """Lists a case; `says` may be a single word, and None for what must work."""
    says = (says,) if isinstance(says, str) else says
    assert name not in {one.name for one in _CASES}, name
    _CASES.append(Case(name, mode, make, says, **more))


# --- pictures ---


def encoded(kind, mode='RGB', height=40, width=48, **options):
    pixels = np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)
    pixels[: height // 2] = 90
    written = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(written, kind, **options)
    return written.getvalue()


JPEG, PNG, GIF, BMP, TIFF = (encoded(kind) for kind in ('JPEG', 'PNG', 'GIF', 'BMP', 'TIFF'))
WEBP, PPM = encoded('WEBP', lossless=True), encoded('PPM')
PROGRESSIVE, CMYK = encoded('JPEG', progressive=True), encoded('JPEG', 'CMYK')
_PALETTE_END = 13 + 3 * 2 ** ((GIF[10] & 7) + 1)
WHOLE = {'JPEG': JPEG, 'PNG': PNG, 'GIF': GIF, 'BMP': BMP, 'TIFF': TIFF, 'WebP': WEBP, 'PPM': PPM}


def chunk(kind, content, length=None, crc=None):
    length = len(content) if length is None else length
    crc = zlib.crc32(kind + content) if crc is None else crc
    return struct.pack('>I', length) + kind + content + struct.pack('>I', crc)


def png(width, height, *chunks, bits=8, colour=2, interlace=0, method=0):
    header = struct.pack('>IIBBBBB', width, height, bits, colour, method, 0, interlace)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + b''.join(chunks) + chunk(b'IEND', b'')


def zeros(count, level=1):
    """`count` zeros, packed."""
    packer = zlib.compressobj(level)
    block, parts = bytes(1 << 20), []
    for _ in range(count >> 20):
        parts.append(packer.compress(block))
    return b''.join([*parts, packer.compress(bytes(count % (1 << 20))), packer.flush()])


def rows(width, height, bands=3, bits=8):
    return chunk(b'IDAT', zeros((1 + -(-width * bands * bits // 8)) * height))


def patched(image, at, new):
    return image[:at] + new + image[at + len(new) :]


def flipped(image, seed, first, last):
    """The image with a few bits flipped in a part of it."""
    chance, image = np.random.default_rng(seed), bytearray(image)
    for at in chance.integers(first, min(last, len(image)), 3):
        image[at] ^= 1 << chance.integers(8)
    return bytes(image)


def segment(marker, content, length=None):
    return bytes([0xFF, marker]) + struct.pack('>H', len(content) + 2 if length is None else length) + content


def jpeg_with(*segments):
    return JPEG[:2] + b''.join(segments) + JPEG[2:]


def at_marker(image, marker):
    return image.index(bytes([0xFF, marker]))


def many_scans(side, scans):
    """A progressive JPEG of a few kB that has the decoder walk over all its blocks again and again."""
    table = segment(0xC4, b'\x10' + bytes([1, *[0] * 15]) + b'\xe0')  # one code, of one bit: the end of 2**14 blocks
    blocks = (side // 8) ** 2
    bits = ('0' + '1' * 14) * -(-blocks // (2**15 - 1))
    bits += '0' * (-len(bits) % 8)
    packed = int(bits, 2).to_bytes(len(bits) // 8, 'big').replace(b'\xff', b'\xff\x00')
    scan = segment(0xDA, b'\x01\x01\x00\x01\x3f\x00') + packed
    return (
        b'\xff\xd8'
        + segment(0xDB, b'\x00' + b'\x01' * 64)
        + segment(0xC2, struct.pack('>BHHB', 8, side, side, 1) + b'\x01\x11\x00')
        + table
        + scan * scans
        + b'\xff\xd9'
    )


def gif_frame(width, height, left=0, top=0, code=2, data=b'\x02\x44\x01\x00'):
    return b'\x2c' + struct.pack('<HHHHB', left, top, width, height, 0) + bytes([code]) + data


def gif(width, height, *blocks):
    return b'GIF89a' + struct.pack('<HHBBB', width, height, 0x80, 0, 0) + bytes(6) + b''.join(blocks) + b'\x3b'


def tiff(*entries, following=0, after=b''):
    """A TIFF of these (tag, type, count, value)."""
    packed = b''.join(struct.pack('<HHII', *(entry[:3]), entry[3] % 2**32) for entry in sorted(entries))
    return b'II*\x00' + struct.pack('<IH', 8, len(entries)) + packed + struct.pack('<I', following) + after


def tiff_of(width=9, height=9, bits=8, following=0, after=bytes(400), **changes):
    """A grey TIFF without compression; changes are `t259=(3, 1, 5)`, a tag's type, count, value."""
    entries = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, bits), 259: (3, 1, 1), 262: (3, 1, 1)}
    entries |= {273: (4, 1, 8 + 2 + 12 * 10 + 4), 277: (3, 1, 1), 278: (4, 1, height), 279: (4, 1, width * height)}
    entries |= {int(name[1:]): value for name, value in changes.items()}
    return tiff(*((tag, *value) for tag, value in entries.items()), following=following, after=after)


def bmp(width, height, bits=24, compression=0, colours=0, data=bytes(500)):
    header = struct.pack('<IiiHHIIiiII', 40, width, height, 1, bits, compression, 0, 0, 0, colours, 0)
    return b'BM' + struct.pack('<IHHI', 54 + len(data), 0, 0, 54) + header + data


def ico(width, height, image):
    entry = struct.pack('<BBBBHHII', width, height, 0, 0, 1, 32, len(image), 22)
    return b'\x00\x00\x01\x00\x01\x00' + entry + image


def exif(*entries, following=0):
    return segment(0xE1, b'Exif\x00\x00' + tiff(*entries, following=following))


EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 40 40
%%EndComments
(outside/written) (w) file closefile
showpage
%%EOF
"""


def orientation_png(text):
    return PNG[:33] + chunk(b'iTXt', b'XML:com.adobe.xmp\x00\x00\x00\x00\x00' + text) + PNG[33:]


class Pickled:
    """Writes into the place where nothing may be written, when it is unpickled."""

    def __reduce__(self):
        return os.system, ('touch ../outside/written outside/written',)


PICKLE = pickle.dumps(Pickled())

# By name: the file, or a function that makes it; each is broken.
BROKEN: dict[str, Any] = {}
for _kind, _cuts in {
    'JPEG': (1, 2, 3, 4, 11, 20, 100, 300, 700, len(JPEG) // 2),
    'PNG': (1, 8, 12, 20, 33, 37, 60, len(PNG) // 2),
    'GIF': (3, 6, 10, 13, 200, len(GIF) // 2),
    'BMP': (2, 14, 30, 54, len(BMP) // 2),
    'TIFF': (2, 8, 100, len(TIFF) // 2),
    'WebP': (4, 12, 20, 25, len(WEBP) // 2),
    'PPM': (2, 5, 9, len(PPM) // 2),
}.items():
    for _cut in _cuts:
        BROKEN[f'{_kind} cut at {_cut}'] = WHOLE[_kind][:_cut]
BROKEN |= {
    'progressive JPEG cut in its first scan': PROGRESSIVE[:700],
    'a JFIF note cut': jpeg_with(segment(0xE0, b'JFIF')),
    'PNG with a profile that is a bomb': lambda: png(9, 9, chunk(b'iCCP', b'a\x00\x00' + zeros(300 << 20)), rows(9, 9)),
    'CMYK JPEG cut': CMYK[:-900],
    'empty': b'',
    'one byte': b'\xff',
    'text': b'this is a text\n' * 50,
    'HTML saved as picture': b'<!DOCTYPE html><html><body>404 Not Found</body></html>',
    'SVG': b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(1)</script></svg>',
    'JSON': b'{"a": 1}',
    'zip': b'PK\x03\x04' + bytes(100),
    'PDF': b'%PDF-1.7\n' + bytes(100),
    'program': b'\x7fELF' + bytes(200),
    'pickle': PICKLE,
    'zeros': bytes(3000),
    'only a JPEG start': b'\xff\xd8\xff',
    'PostScript': EPS,
    'PostScript in a DOS envelope': b'\xc5\xd0\xd3\xc6'
    + struct.pack('<IIIIIIH', 30, len(EPS), 0, 0, 0, 0, 0xFFFF)
    + EPS,
    'JPEG that claims 60,000 x 60,000': patched(JPEG, at_marker(JPEG, 0xC0) + 5, struct.pack('>HH', 60000, 60000)),
    'JPEG that claims 65,535 x 65,535': patched(JPEG, at_marker(JPEG, 0xC0) + 5, b'\xff\xff\xff\xff'),
    'JPEG of no height': patched(JPEG, at_marker(JPEG, 0xC0) + 5, bytes(2)),
    'JPEG of no width': patched(JPEG, at_marker(JPEG, 0xC0) + 7, bytes(2)),
    'JPEG of no components': patched(JPEG, at_marker(JPEG, 0xC0) + 9, bytes(1)),
    'JPEG of 255 components': patched(JPEG, at_marker(JPEG, 0xC0) + 9, b'\xff'),
    'JPEG of 12 bits': patched(JPEG, at_marker(JPEG, 0xC0) + 4, b'\x0c'),
    'JPEG with a quantization table too short': patched(JPEG, at_marker(JPEG, 0xDB) + 2, b'\x00\x03'),
    'JPEG with a segment of no length': patched(JPEG, at_marker(JPEG, 0xDB) + 2, b'\x00\x00'),
    'JPEG with garbage for Huffman codes': patched(JPEG, at_marker(JPEG, 0xC4) + 4, b'\xff' * 12),
    'JPEG, arithmetic': patched(JPEG, at_marker(JPEG, 0xC0), b'\xff\xcb'),
    'JPEG, hierarchical': patched(JPEG, at_marker(JPEG, 0xC0), b'\xff\xc5'),
    'JPEG with a frame twice': jpeg_with(JPEG[at_marker(JPEG, 0xC0) :][:19]),
    'JPEG without pixels': JPEG[: at_marker(JPEG, 0xDA)] + b'\xff\xd9',
    'progressive JPEG with 20,000 scans': lambda: many_scans(8000, 20000),
    'PNG that claims 65,000 x 65,000': png(65000, 65000, chunk(b'IDAT', b'')),
    'PNG that claims 2**31 - 1 a side': png(2**31 - 1, 2**31 - 1, chunk(b'IDAT', b'')),
    'PNG that claims 2**32 - 1 by 1': png(2**32 - 1, 1, chunk(b'IDAT', b'')),
    'PNG of no width': png(0, 9, rows(1, 9)),
    'PNG of 3 bits': png(9, 9, rows(9, 9), bits=3),
    'PNG of an unknown colour type': png(9, 9, rows(9, 9), colour=5),
    'PNG with its header damaged': patched(PNG, 17, b'\x99'),
    'PNG without pixels': png(9, 9),
    'PNG with a chunk that claims 2 GB': png(9, 9, chunk(b'IDAT', b'xx', length=2**31 - 1)),
    'PNG with a chunk that claims 4 GB': png(9, 9, chunk(b'tEXt', b'xx', length=2**32 - 1)),
    'PNG without a palette': png(9, 9, rows(9, 9, 1), colour=3),
    'PNG bomb, 40,000 x 40,000': lambda: png(40000, 40000, rows(40000, 2000), colour=0),
    'PNG with a text bomb, zTXt': lambda: png(9, 9, chunk(b'zTXt', b'a\x00\x00' + zeros(300 << 20)), rows(9, 9)),
    'PNG with a text bomb, iTXt': lambda: png(
        9, 9, chunk(b'iTXt', b'a\x00\x01\x00\x00\x00' + zeros(300 << 20)), rows(9, 9)
    ),
    'PNG with a hundred text bombs': lambda: png(9, 9, chunk(b'zTXt', b'a\x00\x00' + zeros(1 << 20)) * 100, rows(9, 9)),
    'PNG with a header that is too short': b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', bytes(5)) + rows(9, 9),
    'PNG with a byte that is no chunk': png(9, 9, b'\x00', rows(9, 9)),
    'GIF without a frame': gif(9, 9),
    'GIF with a code size of 255': gif(9, 9, gif_frame(9, 9, code=255)),
    'GIF with a code size of 13': gif(9, 9, gif_frame(9, 9, code=13)),
    'GIF with a frame that claims 65,535 a side': gif(9, 9, gif_frame(65535, 65535)),
    'GIF that claims 65,535 a side': gif(65535, 65535, gif_frame(65535, 65535)),
    'GIF whose pixels are missing': gif(9, 9, gif_frame(9, 9, data=b'\x00')),
    'BMP of height -2**31': bmp(9, -(2**31)),
    'BMP of width -9': bmp(-9, 9),
    'BMP of width 2**31 - 1': bmp(2**31 - 1, 9),
    'BMP of width 0': bmp(0, 9),
    'BMP of 7 bits': bmp(9, 9, bits=7),
    'BMP of 2**32 - 1 colours': bmp(9, 9, bits=8, colours=2**32 - 1),
    'BMP with unknown compression': bmp(9, 9, compression=99),
    'BMP with run lengths that are cut': bmp(99, 99, bits=8, compression=1, data=bytes(1024) + b'\x05\x01'),
    'BMP with a header that claims 4 GB': patched(BMP, 14, b'\xff\xff\xff\xff'),
    'ICO around nothing': ico(9, 9, b''),
    'ICO around a PNG that claims 65,000 a side': ico(9, 9, png(65000, 65000, chunk(b'IDAT', b''))),
    'TIFF that claims 2**31 a side': tiff_of(2**31, 2**31),
    'TIFF of no entries': tiff(),
    'TIFF whose entries are beyond its end': b'II*\x00' + struct.pack('<I', 2**31),
    'TIFF with 65,535 samples a pixel': tiff_of(t277=(3, 1, 65535)),
    'TIFF of 255 bits': tiff_of(bits=255),
    'TIFF with a billion strips': tiff_of(t273=(4, 10**9, 150)),
    'TIFF with strips beyond its end': tiff_of(t273=(4, 1, 2**31)),
    'TIFF with garbage as JPEG': tiff_of(t259=(3, 1, 7)),
    'TIFF with garbage as LZW': tiff_of(t259=(3, 1, 5), after=b'\xff' * 400),
    'TIFF with garbage as deflate': tiff_of(t259=(3, 1, 8)),
    'TIFF with garbage as fax': tiff_of(bits=1, t259=(3, 1, 4), after=b''),
    'TIFF with an unknown compression': tiff_of(t259=(3, 1, 9999)),
    'TIFF with a text for a width': tiff_of(t256=(2, 4, 0x65666768)),
    'WebP that claims 16,384 a side': b'RIFF'
    + struct.pack('<I', 30)
    + b'WEBPVP8X'
    + struct.pack('<I', 10)
    + b'\x00' * 4
    + b'\xff\x3f\x00' * 2,
    'WebP whose pixels are missing': WEBP[:40] + bytes(len(WEBP) - 40),
    'PPM that claims 10**9 a side': b'P6 1000000000 1000000000 255\n' + bytes(99),
    'PPM of letters': b'P6 ab cd 255\n' + bytes(99),
    'PPM with a largest value of 0': b'P6 9 9 0\n' + bytes(999),
    'PPM of text, with a word of a megabyte': b'P3 9 9 255\n' + b'1' * (1 << 20),
    'PFM that claims 100,000 a side': b'Pf\n100000 100000\n-1.0\n',
    'FITS': b'SIMPLE  =                    T'.ljust(80) + b'BITPIX  = 16'.ljust(80) + b'END'.ljust(2720),
    'DDS': b'DDS '
    + struct.pack('<7I', 124, 0x1007, 9, 9, 0, 0, 0)
    + bytes(44)
    + struct.pack('<8I', 32, 4, 0, 0, 0, 0, 0, 0),
    'PSD that claims 300,000 a side': b'8BPS\x00\x01'
    + bytes(6)
    + struct.pack('>HIIHH', 3, 300000, 300000, 8, 3)
    + bytes(99),
    'ICNS': b'icns' + struct.pack('>I', 2**31) + b'ic10' + struct.pack('>I', 2**31),
    'JPEG 2000 cut': b'\x00\x00\x00\x0cjP  \r\n\x87\n' + bytes(40),
    'SGI that claims 65,535 a side': b'\x01\xda\x01\x01' + struct.pack('>HHHH', 3, 65535, 65535, 3) + bytes(500),
    'TGA that claims 65,535 a side': struct.pack('<BBBHHBHHHHBB', 0, 0, 10, 0, 0, 0, 0, 0, 65535, 65535, 24, 0)
    + bytes(9),
    'PCX that claims 65,535 a side': b'\x0a\x05\x01\x08' + struct.pack('<HHHH', 0, 0, 65535, 65535) + bytes(120),
}

# By name: what looks bad and is not: it must be read.
HARMLESS_PICTURES: dict[str, Any] = {
    'TIFF with tiles of no size': tiff_of(t322=(3, 1, 0), t323=(3, 1, 0), t324=(4, 1, 150)),
    'TIFF of tiles that are not there': tiff_of(t322=(3, 1, 16), t323=(3, 1, 16), t324=(4, 1, 2**30)),
    'PNG with too few pixels': png(99, 99, rows(99, 20)),
    'PNG with a wrong sum of its pixels': png(9, 9, chunk(b'IDAT', zeros(9 * 28), crc=7)),
    'CMYK JPEG whose Adobe note is cut': patched(CMYK, at_marker(CMYK, 0xEE) + 2, b'\x00\x05'),
    'JPEG with a million restart markers': JPEG[: at_marker(JPEG, 0xDA) + 14] + b'\xff\xd0' * 10**6,
    'JPEG without Huffman codes': JPEG.replace(b'\xff\xc4', b'\xff\xee'),
    '1 x 1': encoded('PNG', height=1, width=1),
    '1 x 1 JPEG': encoded('JPEG', height=1, width=1),
    '1 x 65,500': encoded('PNG', height=1, width=65500),
    '65,500 x 1': encoded('JPEG', height=65500, width=1),
    '16 bits': png(9, 9, rows(9, 9, bits=16), bits=16),
    '16 bits of grey': png(9, 9, rows(9, 9, 1, 16), bits=16, colour=0),
    'trailing garbage': JPEG + b'<script>' * 1000,
    'PNG with 20,000 empty blocks of pixels': png(9, 9, chunk(b'IDAT', b'') * 20000, rows(9, 9)),
    'PNG with 20,000 texts': png(9, 9, chunk(b'tEXt', b'a\x00b') * 20000, rows(9, 9)),
    'PNG with a note of 10 MB': png(9, 9, chunk(b'prVt', bytes(10 << 20)), rows(9, 9)),
    'PNG with palette entries that are not there': png(
        9, 9, chunk(b'PLTE', bytes(3)), chunk(b'IDAT', zlib.compress((b'\x00' + b'\xfe' * 9) * 9)), colour=3
    ),
    'PNG with more transparency than palette': png(
        9, 9, chunk(b'PLTE', bytes(3)), chunk(b'tRNS', bytes(256)), rows(9, 9, 1), colour=3
    ),
    'animated PNG that claims 2**32 - 1 frames': png(
        9, 9, chunk(b'acTL', struct.pack('>II', 2**32 - 1, 0)), rows(9, 9)
    ),
    'GIF of 100,000 frames': gif(3, 3, gif_frame(3, 3, data=b'\x02\x84\x51\x00') * 100_000),
    'GIF with a remark of 10 MB': GIF[:_PALETTE_END]
    + b'\x21\xfe'
    + (b'\xff' + bytes(255)) * 40_000
    + b'\x00'
    + GIF[_PALETTE_END:],
    'BMP from top to bottom': bmp(9, -9),
    'TIFF whose pages go round in a circle': tiff_of(following=8),
    'TIFF whose next page is nowhere': tiff_of(following=2**31),
    'floats that are no numbers': encoded('TIFF', 'F'),
    'orientation 0': jpeg_with(exif((0x0112, 3, 1, 0))),
    'orientation 9': jpeg_with(exif((0x0112, 3, 1, 9))),
    'orientation 65,535': jpeg_with(exif((0x0112, 3, 1, 65535))),
    'orientation as a text': jpeg_with(exif((0x0112, 2, 4, 0x41424344))),
    'orientation as a billion numbers': jpeg_with(exif((0x0112, 3, 10**9, 8))),
    'EXIF in a circle': jpeg_with(exif((0x8769, 4, 1, 8), (0x8825, 4, 1, 8), following=8)),
    'EXIF of garbage': jpeg_with(segment(0xE1, b'Exif\x00\x00' + b'\xff' * 60)),
    'several pictures in a JPEG, of garbage': jpeg_with(segment(0xE2, b'MPF\x00' + b'II*\x00' + b'\xff' * 60)),
    'several pictures in a JPEG, a billion': jpeg_with(
        segment(0xE2, b'MPF\x00' + tiff((0xB001, 4, 1, 10**8), (0xB002, 7, 16 * 10**8, 8)))
    ),
    'Photoshop notes of garbage': jpeg_with(segment(0xED, b'Photoshop 3.0\x00' + b'8BIM' + b'\xff' * 60)),
    'colour profile of garbage': jpeg_with(segment(0xE2, b'ICC_PROFILE\x00\x00\xff' + b'\xff' * 60)),
    'Adobe note with an unknown transform': jpeg_with(segment(0xEE, b'Adobe\x00\x64' + bytes(4) + b'\x63')),
    'ten thousand notes': jpeg_with(segment(0xFE, b'a') * 10_000),
    'XMP that is no XML': orientation_png(b'<x:xmpmeta tiff:Orientation="99999"'),
    'XMP with an orientation of letters': orientation_png(b'<x tiff:Orientation="\xff\xfe">'),
}
# What takes much room: 128 million pixels are allowed, whatever they take for each.
LARGE: dict[str, Any] = {
    'RGB PNG of 11,500 x 11,500': lambda: png(11500, 11500, rows(11500, 11500)),
    'RGBA PNG of 11,500 x 11,500': lambda: png(11500, 11500, rows(11500, 11500, 4), colour=6),
    'PNG of 11,500 x 11,500 with 16 bits of grey': lambda: png(
        11500, 11500, rows(11500, 11500, 1, 16), bits=16, colour=0
    ),
    'PNG of 11,500 x 11,500, transparent palette': lambda: png(
        11500, 11500, chunk(b'PLTE', bytes(3)), chunk(b'tRNS', b'\x00'), rows(11500, 11500, 1, 1), bits=1, colour=3
    ),
}


def made(image):
    return image() if callable(image) else image


def prepared_with(image, name='bad.jpg'):
    def make(place):
        (place.folder() / 'train' / 'a' / name).write_bytes(made(image))
        return {'config': place.prepare_config()}

    return make


def predicted_with(image, name='bad.jpg', **more):
    def make(place):
        place.copy_run()
        (place.images / name).write_bytes(made(image))
        return {'images': [str(place.images / name)], **more}

    return make


def pictures():
    preparing = ('prepare', prepared_with)
    modes = itertools.cycle(
        [preparing, ('predict', predicted_with), preparing, ('features', predicted_with), preparing]
    )
    for name, image in BROKEN.items():
        mode, maker = next(modes)
        case(f'picture: {name}', mode, maker(image), 'bad.jpg')
    for name, image in HARMLESS_PICTURES.items():
        mode, maker = next(modes)
        case(f'harmless picture: {name}', mode, maker(image), None)
    for name, image in LARGE.items():
        case(f'large picture: {name}', 'predict', predicted_with(image), 'bad.jpg', either=True)
    for kind, image in WHOLE.items():
        for seed in range(2):
            mode, maker = next(modes)
            head = seed < 1
            damaged = flipped(image, seed, 2 if head else 150, 150 if head else 10**6)
            where = 'head' if head else 'body'
            case(f'picture: {kind}, bits of its {where} flipped, {seed}', mode, maker(damaged), 'bad.jpg', either=True)


def special_files():
    """What is named as a picture and is no plain file."""

    def link(path, to):
        path.symlink_to(to)

    def sparse(path, size):
        with path.open('wb') as file:
            file.write(JPEG[:300])
            file.truncate(size)

    kinds = {
        'a pipe': (os.mkfifo, None),
        'a link to a pipe': (
            lambda path: (os.mkfifo(path.with_suffix('.pipe')), link(path, path.with_suffix('.pipe'))),
            None,
        ),
        'a link to /dev/zero': (lambda path: link(path, '/dev/zero'), None),
        'a link to /dev/stdin': (lambda path: link(path, '/dev/stdin'), None),
        'a link to nowhere': (lambda path: link(path, 'nowhere'), 'bad.jpg'),
        'a link to itself': (lambda path: link(path, path.name), 'bad.jpg'),
        'a file of 40 GB': (lambda path: sparse(path, 40 << 30), 'bad.jpg'),
        'an empty folder': (lambda path: path.mkdir(), None),
        'a folder that leads back': (lambda path: (path.mkdir(), link(path / 'x', '..')), 'bad.jpg'),
        'a socket': (lambda path: os.mknod(path, 0o140600), None),
        'a link out': (lambda path: link(path, '../../../outside/secret.txt'), 'bad.jpg'),
    }
    for name, (make_file, in_folder) in kinds.items():

        def prepare(place, make_file=make_file):
            make_file(place.folder() / 'train' / 'a' / 'bad.jpg')
            return {'config': place.prepare_config()}

        def predict(place, make_file=make_file):
            place.copy_run()
            make_file(place.images / 'bad.jpg')
            return {'images': [str(place.images / 'bad.jpg')]}

        def inside(place, make_file=make_file):
            return {**predict(place, make_file), 'images': [str(place.images)]}

        case(f'special file: {name}, among pictures to prepare', 'prepare', prepare, in_folder)
        case(f'special file: {name}, to predict', 'predict', predict, 'bad.jpg')
        case(f'special file: {name}, in a folder, for features', 'features', inside, '{place}/images')


NAMES = {
    'of two lines': b'two\nlines.jpg',
    'with quotes': b'it\'s "so".jpg',
    'with escape codes': b'\x1b[31mred\x1b[0m\x1b]0;title\x07.jpg',
    'with carriage returns': b'good\rbad\x08\x7f.jpg',
    'that is no text': b'caf\xe9\xff.jpg',
    'with C1 controls': 'a\x9b31mb\x85c.jpg'.encode(),
    'with markup': b'[red]x[bold].jpg',
    'with a link in markup': b'[link=file:..]x.jpg',
    'of 250 characters': b'n' * 246 + b'.jpg',
    'of 250 bytes, two a letter': 'ü'.encode() * 123 + b'.jpg',
    'with braces and percents': b'{0} %s %n ${HOME} `ls`.jpg',
    'like a flag': b'--mode=train.jpg',
    'from right to left': '\u202egpj.exe\u202c.jpg'.encode(),
}


def names():
    for what, name in NAMES.items():
        for kind, image in (('good', GOOD), ('broken', b'no picture')):
            says = None if kind == 'good' else ('images cannot be read',)

            def prepare(place, name=name, image=image):
                folder = os.fsencode(place.folder() / 'train' / 'a')
                with open(os.path.join(folder, name), 'wb') as file:
                    file.write(image)
                return {'config': place.prepare_config()}

            def predict(place, name=name, image=image):
                place.copy_run()
                path = os.path.join(os.fsencode(place.images), name)
                with open(path, 'wb') as file:
                    file.write(image)
                return {'images': [os.fsdecode(path)], 'as_json': False}

            def extract(place, name=name, image=image):
                predict(place, name, image)
                return {'images': [str(place.images)]}

            case(f'name {what}, {kind}, to prepare', 'prepare', prepare, says)
            if kind == 'broken' or 'controls' in what or 'text' in what or 'codes' in what:
                case(f'name {what}, {kind}, to predict', 'predict', predict, says)
            if kind == 'good' or 'text' in what or 'codes' in what:
                case(f'name {what}, {kind}, for features', 'features', extract, says)

        def classes(place, name=name):
            folder = os.fsencode(place.folder() / 'train')
            os.rename(os.path.join(folder, b'b'), os.path.join(folder, name))
            shutil.rmtree(place.source / 'validation' / 'b')
            return {'config': place.prepare_config()}

        case(f'name {what}, of a class', 'prepare', classes, None)

        def empty_class(place, name=name):
            os.mkdir(os.path.join(os.fsencode(place.folder() / 'train'), name))
            return {'config': place.prepare_config()}

        case(f'name {what}, of an empty class', 'prepare', empty_class, '{place}/source/train')


# --- tars ---


def header(name, size=0, kind=b'0', link=b'', size_field=None, prefix=b'', magic=b'ustar  \0', total=None):
    """A header of a tar, its sum right unless `total` is given."""
    size_field = b'%011o\0' % size if size_field is None else size_field
    block = struct.pack(
        '<100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x',
        name,
        b'0000644\0',
        b'0000000\0',
        b'0000000\0',
        size_field,
        b'00000000000\0',
        b' ' * 8,
        kind,
        link,
        magic,
        b'',
        b'',
        b'0000000\0',
        b'0000000\0',
        prefix,
    )
    total = sum(block) if total is None else total
    return block[:148] + b'%06o\0 ' % total + block[156:]


def in_blocks(content):
    return content + bytes(-len(content) % 512)


def member(name, content=b'', kind=b'0', **more):
    return header(name, len(content), kind, **more) + in_blocks(content)


def records_of_pax(**fields):
    records = b''
    for name, value in fields.items():
        body = f' {name.replace("__", ".")}={value}\n'.encode()
        size = len(body) + 1
        while len(str(size)) + len(body) != size:
            size += 1
        records += str(size).encode() + body
    return records


def pax(name, content=b'', records=None, **fields):
    return member(b'pax', records or records_of_pax(**fields), b'x') + member(name, content)


END = bytes(1024)
ONE, TWO = tfds_list('labels.txt')[:2]
BIG = b'\x80' + (10 << 30).to_bytes(11, 'big')  # 10 GB
NEGATIVE = b'\xff' * 12


def tar_cases():
    train, validation = 'ILSVRC2012_img_train.tar', 'ILSVRC2012_img_val.tar'
    one, two = f'{ONE}.tar'.encode(), f'{TWO}.tar'.encode()
    image = f'{ONE}_1.JPEG'.encode()
    good = tar_of({f'{ONE}_1.JPEG': picture(0, 0, SIZE)})

    def with_file(name, content, size=None, source='imagenet2012', remove=False):
        def make(place):
            shutil.rmtree(place.source)
            shutil.copytree(place.base / source, place.source)
            path = place.source / name
            if callable(content):
                content(path)
            else:
                path.write_bytes(content)
            if size:
                with path.open('r+b') as file:
                    file.truncate(size)
            return {'config': place.prepare_config(source)}

        return make

    def changed(change):
        return lambda path: path.write_bytes(change(path.read_bytes()))

    def replaced(replace):
        def make(path):
            path.unlink()
            replace(path)

        return make

    outer = {
        'a member that climbs': member(b'../../outside/x.tar', good),
        'a member with an absolute name': member(b'/tmp/x.tar', good),
        'a member whose prefix climbs': member(one, good, magic=b'ustar\x0000', prefix=b'../..'),
        'a symbolic link': header(one, kind=b'2', link=b'/etc/passwd'),
        'a hard link': header(one, kind=b'1', link=b'../outside/secret.txt'),
        'a device': header(one, kind=b'3'),
        'a block device': header(one, kind=b'4'),
        'a pipe': header(one, kind=b'6'),
        'an unknown kind of member': header(one, kind=b'Z'),
        'a member without a name': member(b'', good),
        'a name that is no text': member(b'\xff\xfe.tar', good),
        'a name with escape codes': member(b'\x1b[31m\x07.tar', good),
        'a name of two lines': member(b'a\nb.tar', good),
        'a member twice': member(one, good) * 2,
        'an unknown class': member(b'n99999999.tar', good),
        'a picture where tars belong': member(image, JPEG),
        'a negative size': header(one, size_field=NEGATIVE) + good,
        'a size of letters': header(one, size_field=b'abcdefghijk\0') + good,
        'a size of 8 GB': header(one, size_field=b'77777777777\0') + good,
        'a size of 10 GB': header(one, size_field=BIG) + good,
        'a size of 2**90': header(one, size_field=b'\x80' + b'\x7f' * 11) + good,
        'a wrong sum': header(one, len(good), total=7) + good,
        'an inner tar that is empty': member(one) + member(two, good),
        'an inner tar of garbage': member(one, b'garbage' * 999),
        'an inner tar of zeros': member(one, bytes(99999)),
        'an inner tar that is cut': member(one, good[:700]),
        'an inner tar with a name that climbs': member(one, member(b'../' + image, JPEG) + END),
        'an inner tar with a link': member(one, header(image, kind=b'2', link=b'/etc/passwd') + END),
        'an inner tar with a member twice': member(one, member(image, JPEG) * 2 + END),
        'an inner tar with a picture of no bytes': member(one, member(image) + END),
        'an inner tar with a picture of another class': member(one, member(f'{TWO}_1.JPEG'.encode(), JPEG) + END),
        'an inner tar with a picture beyond its end': member(one, header(image, 10**6) + JPEG + END),
        'an inner tar with a picture of 10 GB': member(one, header(image, size_field=BIG) + JPEG + END),
        'an inner tar with a picture of a name too long': member(one, member(b'n' * 90, JPEG) + END),
        'a tar in a tar in a tar': member(one, member(one, good) + END),
        'a pax record with a size of -1': pax(one, good, size='-1'),
        'a pax record with a size of letters': pax(one, good, size='abc'),
        'a pax record with a size of 10 GB': pax(one, good, size=str(10 << 30)),
        'a pax record with a size of 5,000 digits': pax(one, good, size='9' * 5000),
        'a pax record with a name that climbs': pax(one, good, path='../../outside/x'),
        'a pax record with a name that is absolute': pax(one, good, path='/tmp/x'),
        'a pax record with a null in the name': pax(one, good, path='a\0b'),
        'a pax record with a silly sparse map': pax(one, good, GNU__sparse__map='0,-5,x', GNU__sparse__size='9'),
        'a pax record of a sparse file 1.0': pax(
            one, good, GNU__sparse__major='1', GNU__sparse__minor='0', GNU__sparse__realsize=str(10 << 30)
        ),
        'a pax record of a sparse file with a billion parts': pax(
            one, in_blocks(b'1000000000\n'), GNU__sparse__major='1', GNU__sparse__minor='0', GNU__sparse__realsize='9'
        ),
        'a pax record without a length': pax(b'x', good, records=b' path=x\n'),
        'a pax record of length 0': pax(one, good, records=b'0 path=x\n'),
        'a pax record of a length of 5,000 digits': pax(one, good, records=b'9' * 5000 + b' path=x\n'),
        'a pax record with an unknown encoding': pax(b'x', good, hdrcharset='evil'),
        'a time of pax that is infinite': pax(one, good, mtime='inf') + member(b'x', b''),
        'a pax record and nothing after it': member(b'pax', records_of_pax(path='x'), b'x'),
        'a thousand pax records one after the other': member(b'pax', records_of_pax(path='x'), b'x') * 2000
        + member(one, good),
        'a thousand long names one after the other': member(b'././@LongLink', b'x\0', b'L') * 2000 + member(one, good),
        'a long name of 10 GB': header(b'././@LongLink', kind=b'L', size_field=BIG) + good,
        'an old sparse file of nonsense': header(one, len(good), b'S') + good,
        'a multi-volume member': header(one, len(good), b'M') + good,
    }
    for name, content in outer.items():
        case(f'tar: {name}', 'prepare', with_file(train, content + END), (train,))
    for name, size, content in (
        (
            'a long name of 3 GB in a file of 4 GB',
            4 << 30,
            header(b'././@LongLink', kind=b'L', size_field=b'\x80' + (3 << 30).to_bytes(11, 'big')),
        ),
        (
            'a pax record of 3 GB in a file of 4 GB',
            4 << 30,
            header(b'pax', kind=b'x', size_field=b'\x80' + (3 << 30).to_bytes(11, 'big')),
        ),
        ('an inner tar of 30 GB of zeros', 40 << 30, header(one, size_field=b'\x80' + (30 << 30).to_bytes(11, 'big'))),
        ('nothing but 40 GB of zeros', 40 << 30, b''),
    ):
        case(f'tar: {name}', 'prepare', with_file(train, content, size), (train,))
    picture_of_2_gb = header(f'ILSVRC2012_val_{first_validation():08d}.JPEG'.encode(), 2_000_000_000) + JPEG
    case(
        'tar: a picture of 2 GB',
        'prepare',
        with_file(validation, picture_of_2_gb, 2_000_000_512 + 10240),
        'ILSVRC2012_img_val.tar',
    )
    whole = {
        'empty': lambda _: b'',
        'text': lambda _: b'404 Not Found',
        'one byte short of a header': lambda content: content[:511],
        'a header alone': lambda content: content[:512],
        'cut in its first member': lambda content: content[:2000],
        'cut before its end': lambda content: content.rstrip(b'\0'),
        'gzip': lambda content: __import__('gzip').compress(content),
        'bzip2': lambda content: __import__('bz2').compress(content),
        'xz': lambda content: __import__('lzma').compress(content),
        'zip': lambda content: b'PK\3\4' + content[4:],
        'backwards': lambda content: content[::-1],
        'with garbage in front': lambda content: b'x' * 512 + content,
        'a web page': lambda _: b'<html>please log in</html>' * 100,
    }
    for name, change in whole.items():
        for file in (train, validation):
            if (name, file) not in (('zip', validation), ('xz', train), ('backwards', validation)):
                case(f'tar file: {name}, {file}', 'prepare', with_file(file, changed(change)), (file,))
    for name, replace in {
        'a folder': os.mkdir,
        'a pipe': os.mkfifo,
        'a link to itself': lambda path: path.symlink_to(path.name),
        'a link to /dev/zero': lambda path: path.symlink_to('/dev/zero'),
        'not there': lambda path: None,
    }.items():
        case(f'tar file: {name}', 'prepare', with_file(train, replaced(replace)), (train,))
    for name, content in {
        'a number beyond the labels': member(b'ILSVRC2012_val_99999999.JPEG', JPEG),
        'the number 0': member(b'ILSVRC2012_val_00000000.JPEG', JPEG),
        'another name': member(b'ILSVRC2012_test_00000001.JPEG', JPEG),
        'a class that is not trained': member(f'ILSVRC2012_val_{first_validation(False):08d}.JPEG'.encode(), JPEG),
        'digits of another script': member('ILSVRC2012_val_0000000\u0661.JPEG'.encode(), JPEG),
    }.items():
        case(f'validation tar: {name}', 'prepare', with_file(validation, content + END), (validation,))

    meta = 'devkit-1.0/data/meta.mat'

    def saved(**fields):
        from scipy.io import savemat

        return lambda path: savemat(path, fields)

    def rows_of(changes):
        def make(path):
            from scipy.io import loadmat, savemat

            synsets = loadmat(path)['synsets']
            for row, field, value in changes:
                synsets[row, 0][field] = value
            savemat(path, {'synsets': synsets})

        return make

    for name, content in {
        'empty': b'',
        'garbage': b'garbage' * 99,
        'a pickle': PICKLE,
        'of version 7.3': b'MATLAB 7.3 MAT-file'.ljust(124) + b'\0\2IM' + b'\x89HDF\r\n\x1a\n' + bytes(999),
        'cut': changed(lambda content: content[: len(content) // 2]),
        'with bits flipped': changed(lambda content: flipped(content, 3, 130, 10**6)),
        'that claims 2**31 values': b'MATLAB 5.0 MAT-file'.ljust(124)
        + b'\0\1IM'
        + struct.pack('<IIIIIIIIiiII', 14, 200, 6, 8, 6, 0, 5, 8, 2**31 - 1, 2**31 - 1, 1, 7)
        + b'synsets\0'
        + struct.pack('<II', 9, 2**31 - 8),
        'packed with zlib, a bomb': b'MATLAB 5.0 MAT-file'.ljust(124)
        + b'\0\1IM'
        + struct.pack('<II', 15, 10**5)
        + zeros(100 << 20, 9)[: 10**5],
        'without synsets': saved(other=3),
        'with a number for synsets': saved(synsets=3),
        'with texts for synsets': saved(synsets=np.array(['a', 'b'], object)),
        'with ids that are no numbers': rows_of([(0, 'ILSVRC2010_ID', np.array([['x']]))]),
        'with an id that is no number': rows_of([(0, 'ILSVRC2010_ID', np.array([[np.nan]]))]),
        'with an id that is infinite': rows_of([(0, 'ILSVRC2010_ID', np.array([[np.inf]]))]),
        'with classes that climb': rows_of([(0, 'WNID', np.array(['../../outside']))]),
        'with a class of a pattern': rows_of([(0, 'WNID', np.array(['(a+)+$']))]),
        'with a class twice': rows_of([(0, 'WNID', np.array(['n02012849']))]),
        'with no class': rows_of([(row, 'num_children', np.array([[1]])) for row in range(5)]),
    }.items():
        either = 'flipped' in name
        case(
            f'devkit: table {name}',
            'prepare',
            with_file(meta, content, source='imagenet2010'),
            '{place}/source',
            either=either,
        )
    truth = 'devkit-1.0/data/ILSVRC2010_validation_ground_truth.txt'
    for name, content in {
        'empty': b'',
        'letters': b'a\nb\n',
        'a 0': b'1\n0\n2\n3\n4\n5\n',
        'a 6': b'1\n6\n2\n3\n4\n5\n',
        'of 30 digits': b'1\n' + b'9' * 30 + b'\n',
        'of 5,000 digits': b'9' * 5000,
        'negative': b'-1\n' * 6,
        'binary': bytes(range(256)),
        'a line too few': b'1\n' * 5,
        'a line too many': b'1\n' * 7,
        'fractions': b'1.5\n' * 6,
    }.items():
        says = '{place}/source'
        case(f'devkit: labels, {name}', 'prepare', with_file(truth, content, source='imagenet2010'), says)
    packed = __import__('gzip').compress(bytes(100 << 20))

    def with_packed(content):
        def change(path):
            files = {f'n{name}_{number}.JPEG': JPEG for name in ('02012849',) for number in (1, 3)} | {
                'n02012849_2.JPEG': content
            }
            tars = {}
            with tarfile.open(path) as tar:
                for one in tar:
                    tars[one.name] = tar.extractfile(one).read()
            path.write_bytes(tar_of(tars | {'n02012849.tar': tar_of(files)}))

        return with_file('ILSVRC2010_images_train.tar', change, source='imagenet2010')

    for name, content in {
        'cut': packed[:-200],
        'with a wrong sum': patched(packed, len(packed) - 8, b'\1\2\3\4'),
        'of garbage': b'\x1f\x8b' + b'\xff' * 99,
        'a bomb of 6 GB': packed * 60,
        'around text': __import__('gzip').compress(b'no picture'),
        'around gzip': __import__('gzip').compress(__import__('gzip').compress(JPEG)),
    }.items():
        case(f'picture packed with gzip, {name}', 'prepare', with_packed(content), 'n02012849_2.JPEG')


@functools.cache
def first_validation(known=True):
    """The number of the first validation image of a class that is trained, or is not."""
    return next(n for n, synset in enumerate(tfds_list('validation_labels.txt'), 1) if (synset in (ONE, TWO)) == known)


# --- prepared data sets ---

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


def data_cases():
    def evaluated(damage, kind='jpeg', mode='eval', **more):
        def make(place):
            place.copy_data(kind)
            damage(place.data)
            config = place.config(data__storage=kind)
            if mode != 'train':
                place.copy_run()
            return {'config': config, **more}

        return make

    def manifest(change):
        return lambda where: Place.edit(where / 'manifest.json', change)

    def data_case(name, damage, says='{place}/data', mode='eval', kind='jpeg', either=False, **more):
        case(f'data set: {name}', mode, evaluated(damage, kind, mode, **more), says, either=either)

    for name, content in NOT_JSON.items():
        data_case(f'manifest {name}', lambda where, c=content: (where / 'manifest.json').write_bytes(c))
    for name, put in odd_files('manifest.json').items():
        data_case(f'manifest is {name}', put)
    examples, file = at('shards', 'validation', 0, 'examples'), at('shards', 'validation', 0, 'file')
    for value in (10**9, 2**70, 5, 7, 0, -6, 6.5, '6', None, [6], {}, float('nan'), float('inf')):
        data_case(f'{value!r} examples', manifest(examples(value)))
    for value in (10**9, 2**70, -12, 6.5, '6'):
        data_case(
            f'{value!r} examples for training', manifest(at('shards', 'train', 1, 'examples')(value)), mode='train'
        )

    def outside(where, name):
        shutil.copy(where / 'validation-00000.array_record', where.parent / 'outside' / 'shard')
        Place.edit(where / 'manifest.json', file(name.format(where=where.parent)))

    for name in ('../outside/shard', '{where}/outside/shard', './../data/../outside/shard'):
        data_case(f'a shard that lies outside, {name}', lambda where, n=name: outside(where, n))
    for value in ('/dev/zero', '/etc/passwd', '', '.', 'not-there', 'a\0b', 'x' * 5000, 5, None, ['a'], '\x1b[31m'):
        data_case(f'a shard named {value!r:.20}', manifest(file(value)))
    for value in (0, -1, 10**9, 16.5, '16', None, [16], float('inf'), 17, 2**70):
        data_case(f'images of size {value!r}', manifest(at('settings', 'image_size')(value)))
    for field, value in (
        ('storage', 'raw'),
        ('storage', 'zip'),
        ('storage', 5),
        ('source', None),
        ('source', '\x1b[2J'),
        ('quality', 'x'),
        ('source', KeyError),
        ('storage', KeyError),
    ):
        data_case(f'settings with {field} {value!r}', manifest(at('settings', field)(value)))
    for field, value in (
        ('settings', []),
        ('settings', None),
        ('settings', 'x'),
        ('format', '2'),
        ('format', None),
        ('format', 99),
        ('format', [2]),
        ('class_names', None),
        ('class_names', 5),
        ('class_names', 'ant'),
        ('class_names', []),
        ('class_names', [1, 2, 3]),
        ('class_names', [['a'], ['b'], ['c']]),
        ('class_names', {'a': 1, 'b': 2, 'c': 3}),
        ('class_names', [f'class {i}' for i in range(200_000)]),
        ('class_ids', None),
        ('class_ids', [None] * 3),
        ('class_ids', ['ant']),
        ('shards', []),
        ('shards', None),
        ('shards', {}),
        ('shards', {'train': []}),
        ('shards', {'train': {}, 'validation': {}}),
        ('shards', {'train': [5], 'validation': [5]}),
        ('rgb_mean', KeyError),
        ('more', 5),
        ('directory', '/etc'),
        ('__class__', 5),
        ('self', 5),
    ):
        data_case(f'manifest with {field} {value!r:.60}', manifest(at(field)(value)))
    for value in (
        None,
        'x',
        [],
        5,
        [[1, 2], [3, 4]],
        [[float('nan')] * 3] * 3,
        [[float('inf')] * 3] * 3,
        [['a'] * 3] * 3,
        [[1e308] * 3] * 3,
        [[[1]]] * 3,
    ):
        either = '1e+308' in repr(value)
        data_case(f'colours {value!r:.40}', manifest(at('rgb_covariance')(value)), mode='train', either=either)

    def npy(shape, kind="'<f4'", content=b'', order='False', version=1):
        text = f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
        length = struct.pack('<H' if version == 1 else '<I', len(text) + 1)
        return b'\x93NUMPY' + bytes([version, 0]) + length + text + b'\n' + content

    whole = bytes(SIZE * SIZE * 3 * 4)
    archive = io.BytesIO()
    np.savez(archive, np.zeros(3))
    for name, content in {
        'empty': b'',
        'garbage': b'garbage' * 99,
        'a pickle': PICKLE,
        'objects that are a pickle': npy('(1,)', "'|O'", PICKLE),
        'objects in a structure': npy('(1,)', "[('a', '|O')]", PICKLE),
        'cut': npy((SIZE, SIZE, 3), content=whole[:100]),
        'an archive': archive.getvalue(),
        'of another size': npy((9, 9, 3), content=bytes(972)),
        'that claims 10**12 values': npy((10**6, 10**6, 1), content=whole),
        'that claims 2**70 values': npy((2**35, 2**35), content=whole),
        'of negative size': npy((-SIZE, -SIZE, 3), content=whole),
        'of texts': npy((SIZE, SIZE, 3), "'<U1'", whole),
        'of times': npy((SIZE, SIZE, 3), "'<M8[s]'", whole * 2),
        'of complex numbers': npy((SIZE, SIZE, 3), "'<c8'", whole * 2),
        'of infinities': npy((SIZE, SIZE, 3), content=np.full(SIZE * SIZE * 3, np.inf, '<f4').tobytes()),
        'of what is no number': npy((SIZE, SIZE, 3), content=np.full(SIZE * SIZE * 3, np.nan, '<f4').tobytes()),
        'with code in its header': npy("__import__('os').system('touch ../outside/written')", content=whole),
        'with a header nested deep': npy('(' * 9000 + ')' * 9000, content=whole),
        'with a header that claims 4 GB': b'\x93NUMPY\2\0\xff\xff\xff\xff' + whole,
        'of an unknown version': b'\x93NUMPY\x09\0' + whole,
        'with an unknown type': npy((SIZE, SIZE, 3), "'<q99'", whole),
    }.items():

        def damage(where, content=content):
            (where / 'mean_image.npy').write_bytes(content)

        if len(name) % 3 == 0:
            data_case(f'mean image {name}', damage, '{place}/data/mean_image.npy', mode='train')

        def remembered(place, content=content):
            (place.copy_run() / 'data_set' / 'mean_image.npy').write_bytes(content)
            (place.images / 'x.png').write_bytes(GOOD)
            return {'images': [str(place.images)]}

        case(f'remembered mean image {name}', 'predict', remembered, '{place}/run/data_set/mean_image.npy')
    for name, put in odd_files('mean_image.npy').items():
        data_case(f'mean image is {name}', put, '{place}/data/mean_image.npy', mode='train')

    shard = 'validation-00000.array_record'
    for name, change in {
        'empty': lambda content: b'',
        'cut at 1': lambda content: content[:1],
        'cut at 5,000': lambda content: content[:5000],
        'cut in half': lambda content: content[: len(content) // 2],
        'one byte short': lambda content: content[:-1],
        'zeros': lambda content: bytes(len(content)),
        'garbage': lambda content: np.random.default_rng(0).bytes(len(content)),
        'a pickle': lambda content: PICKLE,
        'backwards': lambda content: content[::-1],
        'a text': lambda content: b'text' * 999,
    }.items():

        def damage(where, change=change):
            (where / shard).write_bytes(change((where / shard).read_bytes()))

        data_case(f'shard {name}', damage, shard)
    for name, put in odd_files(shard).items():
        data_case(f'shard is {name}', put, shard)
    for seed in range(8):

        def damage(where, seed=seed):
            content = (where / shard).read_bytes()
            used = len(content.rstrip(b'\0'))
            (where / shard).write_bytes(flipped(content, seed, seed * 500, seed * 500 + 500 if seed < 6 else used))

        data_case(f'shard with bits flipped, {seed}', damage, shard, either=True)

    def swapped(where):
        one, other = where / shard, where / 'train-00000.array_record'
        one.rename(where / 'x')
        other.rename(one)
        (where / 'x').rename(other)

    data_case('shards swapped', swapped, shard, either=True)
    small = picture(0, 0, SIZE)
    small = encoded('JPEG', height=SIZE, width=SIZE)
    claims = patched(small, at_marker(small, 0xC0) + 5, struct.pack('>HH', 60000, 60000))
    for name, record in {
        'empty': b'',
        'too short': b'\0\0\0',
        'without an image': struct.pack('<IH', 0, 1) + b'a',
        'with a name beyond its end': struct.pack('<IH', 0, 65535) + b'a' + small,
        'with a name that is no text': struct.pack('<IH', 0, 2) + b'\xff\xfe' + small,
        'of class 3': struct.pack('<IH', 3, 1) + b'a' + small,
        'of class 2**32 - 1': struct.pack('<IH', 2**32 - 1, 1) + b'a' + small,
        'with a JPEG that is cut': struct.pack('<IH', 0, 1) + b'a' + small[:200],
        'with a JPEG cut in its pixels': struct.pack('<IH', 0, 1) + b'a' + small[:-200],
        'with a PNG': struct.pack('<IH', 0, 1) + b'a' + GOOD,
        'with a text': struct.pack('<IH', 0, 1) + b'a' + b'text',
        'with a larger JPEG': struct.pack('<IH', 0, 1) + b'a' + JPEG,
        'with a JPEG that claims 60,000 x 60,000': struct.pack('<IH', 0, 1) + b'a' + claims,
        'with a JPEG of 20,000 scans': lambda: struct.pack('<IH', 0, 1) + b'a' + many_scans(8000, 20000),
        'with a CMYK JPEG': struct.pack('<IH', 0, 1) + b'a' + CMYK,
    }.items():

        def damage(where, record=record):
            from array_record.python.array_record_module import ArrayRecordWriter

            writer = ArrayRecordWriter(str(where / shard), 'group_size:1,uncompressed')
            for _ in range(6):
                writer.write(made(record))
            writer.close()

        either = name in ('with a JPEG cut in its pixels', 'with a name that is no text')
        data_case(f'record {name}', damage, shard, either=either)
    raw = 'validation-00000.raw'
    for name, change in {
        'empty': lambda content: b'',
        'a byte short': lambda content: content[:-1],
        'a record short': lambda content: content[:-772],
        'a record too long': lambda content: content + content[:772],
        'of class 3': lambda content: patched(content, 0, b'\3\0\0\0'),
        'of class 2**32 - 1': lambda content: patched(content, 772, b'\xff' * 4),
    }.items():

        def damage(where, change=change):
            (where / raw).write_bytes(change((where / raw).read_bytes()))

        data_case(f'raw shard {name}', damage, raw, kind='raw')
    for name, change in {
        'empty': lambda path: path.write_bytes(b''),
        'not there': os.remove,
        'not text': lambda path: path.write_bytes(b'\xff\n' * 6),
        'too few': lambda path: path.write_bytes(b'a\n' * 3),
        'a folder': lambda path: (path.unlink(), path.mkdir()),
        'a pipe': lambda path: (path.unlink(), os.mkfifo(path)),
    }.items():
        data_case(
            f'names of a raw shard, {name}',
            lambda where, c=change: c(where / 'validation-00000.names'),
            '{place}/data',
            mode='features',
            kind='raw',
            split='validation',
        )


# --- runs ---


def run_cases():
    def run_case(name, damage, says, mode='eval', either=False, after=None, **more):
        def make(place):
            place.copy_data()
            place.copy_run()
            damage(place.run)
            if mode == 'predict':
                (place.images / 'x.png').write_bytes(GOOD)
                return {'images': [str(place.images)], **more}
            if mode == 'train':
                return {'config': place.config(), **more}
            return more

        case(f'run: {name}', mode, make, says, either=either, after=after)

    def config(change):
        return lambda run: Place.edit(run / 'config.json', change)

    for name, content in NOT_JSON.items():
        run_case(f'config.json {name}', lambda run, c=content: (run / 'config.json').write_bytes(c), ('config',))
    for name, put in odd_files('config.json').items():
        run_case(f'config.json is {name}', put, '{place}/run/config.json')
    for field in (
        'seed',
        'network',
        'columns',
        'precision',
        'batch_size',
        'data',
        'mesh',
        'evaluation',
        'rate_control',
        'epochs',
    ):
        run_case(f'config without {field}', config(at(field)(KeyError)), field)
    for field in ('image_size', 'crop_size', 'directory', 'storage', 'threads'):
        run_case(f'config without data.{field}', config(at('data', field)(KeyError)), field)
    nan, inf = float('nan'), float('inf')
    for field, values in {
        'batch_size': ('x', None, [4], {}, 1.5, 0, -1, nan, 10**9, 10**30),
        'columns': ('x', None, 0, -1, 1.5, 3, 10**6, [2], inf),
        'precision': (None, 5, [], 'float64', 'x'),
        'seed': (-1, 2**32, 'x', None, 1.5, nan),
        'epochs': (0, 'x', None, nan, -inf),
        'learning_rate': (nan, inf, -1, 'x', None),
        'momentum': (nan, 'x'),
        'weight_decay': (-inf, []),
        'network': (None, [], 'x', 5, {}),
        'data': (None, [], 'x', 5),
        'mesh': (None, [], 'x', 5, {'data': 'x', 'column': 1}, {'data': 1.5, 'column': 1}, {'data': None, 'column': 1}),
        'evaluation': (None, 5, {'views': 5}, {'views': 'center'}, {'views': [5]}, {'views': None}),
        'rate_control': (None, 5, []),
        'keep_checkpoints': (0, 'x'),
    }.items():
        for value in values:
            run_case(f'config with {field} {value!r}', config(at(field)(value)), field)
    for field, values in {
        'image_size': (0, 'x', None, 1.5, nan, 8, [16]),
        'crop_size': (0, -5, 'x', 17, 1.5, None),
        'directory': ('', 5, None, '/dev/null', 'x' * 5000, '/proc/self', [], 'not-there\x1b[31m'),
        'storage': ('x', None, 5, []),
        'source': ('x', None, 5, '\x1b[31m'),
        'threads': (-1, 'x', None, nan, 1.5),
        'colour_std': (nan, 'x'),
        'quality': (0, 'x'),
    }.items():
        for value in values:
            run_case(
                f'config with data.{field} {value!r:.20}',
                config(at('data', field)(value)),
                field if value != 'not-there\x1b[31m' and value != '/proc/self' else 'config',
            )
    for value in (10**6, 2**40):
        run_case(f'config with data.threads {value!r}', config(at('data', 'threads')(value)), 'threads', either=True)
    large = {'data': {'image_size': 10**6, 'crop_size': 10**6}}

    def enlarged(fields):
        fields['data'].update(large['data'])

    run_case('config with images of a million pixels a side', config(enlarged), ('config',), mode='eval')
    for value in (
        [[5]],
        [5],
        'x',
        5,
        [[0, 0.1]],
        [[1, 'x']],
        [[2, 0.1], [1, 0.1]],
        [[1, nan]],
        [[inf, 0.1]],
        [[1, -1]],
        None,
        [[1.5, 0.1]],
    ):
        run_case(
            f'config with schedule {value!r}', config(at('rate_control', 'schedule')(value)), 'rate_control.schedule'
        )

    def layer(name, **fields):
        def change(everything):
            if name in everything['network']:
                everything['network'][name].update(fields)
            else:
                everything['network'] = {name: fields, **everything['network']}

        return config(change)

    for name, fields in {
        'conv1': [
            {'kernels': 10**9},
            {'kernels': 10**30},
            {'kernels': 0},
            {'kernels': -2},
            {'kernels': 1.5},
            {'kernels': '4'},
            {'kernels': None},
            {'kernels': [4]},
            {'kernels': 3},
            {'kernels': True},
            {'size': 10**6},
            {'size': 0},
            {'size': 'x'},
            {'size': 10**6, 'pad': 10**6},
            {'stride': 0},
            {'pad': 10**9},
            {'pad': 10**30},
            {'pad': -1},
            {'std': nan},
            {'std': -1},
            {'std': 'x'},
            {'bias': inf},
            {'bias': None},
            {'type': 'x'},
            {'type': None},
            {'type': []},
            {'type': 'relu'},
            {'type': 'dense'},
            {'type': '__class__'},
            {'more': 5},
        ],
        'pool1': [
            {'size': 10**6},
            {'size': 2, 'stride': 3},
            {'size': 10**6, 'stride': 10**6},
            {'stride': 0},
            {'size': 0},
        ],
        'fc7': [{'units': 10**9}, {'units': 10**12}, {'units': 0}, {'units': nan}, {'units': 9}, {'type': 'flatten'}],
        'fc8': [{'units': 10**9}, {'units': 2}, {'units': 0}, {'type': 'relu'}],
        'first': [
            {'type': 'dense', 'units': 4},
            {'type': 'flatten'},
            {'type': 'dropout', 'rate': 1},
            {'type': 'dropout', 'rate': 'x'},
            {'type': 'local_response_normalization', 'n': 10**9},
            {'type': 'local_response_normalization', 'n': 0},
            {'type': 'local_response_normalization', 'beta': nan},
            {'type': 'exchange', 'x': 1},
            {},
        ],
    }.items():
        for one in fields:
            says = 'conv1' if name == 'first' else name if name != 'pool1' else 'pool1'
            says = ('network',) if name == 'first' else (says,)
            run_case(f'layer {name} of {one!r}', layer(name, **one), says if 'True' not in repr(one) else ('conv1',))
    for name in (
        '',
        '../x',
        '[red]',
        '[/]',
        'a.b',
        '\x1b[31m',
        'params',
        'x' * 10_000,
        '__init__',
        'table',
        'columns',
        'a/b',
        'über',
    ):
        says = ('config',) if '.' in name else ('network',)

        def renamed(everything, name=name):
            everything['network'] = {
                name if one == 'fc7' else one: fields for one, fields in everything['network'].items()
            }

        run_case(f'layer named {name!r:.20}', config(renamed), says)

        def inserted(everything, name=name):
            layers = list(everything['network'].items())
            everything['network'] = dict([layers[0], (name, {'type': 'relu'}), *layers[1:]])

        run_case(f'line more named {name!r:.20}', config(inserted), says, either=True)

    def many(everything):
        layers = list(everything['network'].items())
        everything['network'] = dict([layers[0], *((f'r{i}', {'type': 'relu'}) for i in range(20_000)), *layers[1:]])

    run_case('config of 20,000 layers', config(many), ('network',))

    # What it remembers of its data set.
    for name, change in {
        'two classes': lambda fields: fields.update(class_names=['a', 'b'], class_ids=['a', 'b']),
        'two names': at('class_names')(['a', 'b']),
        'a text for classes': at('class_names')('ant'),
        'numbers for classes': at('class_names')([1, 2, 3]),
        'no classes': lambda fields: fields.update(class_names=[], class_ids=[]),
        'images of size 0': at('settings', 'image_size')(0),
        'images of size 10**9': at('settings', 'image_size')(10**9),
        'images of size -16': at('settings', 'image_size')(-16),
        'images of a size in words': at('settings', 'image_size')('16'),
        'colours that are no numbers': at('rgb_covariance')([[float('nan')] * 3] * 3),
        'colours of two': at('rgb_covariance')([[1, 2], [3, 4]]),
        'colours as text': at('rgb_covariance')('x'),
        'no colours': at('rgb_covariance')(None),
    }.items():
        run_case(
            f'remembers {name}',
            lambda run, c=change: Place.edit(run / 'data_set' / 'manifest.json', c),
            '{place}/run/data_set',
            mode='predict',
        )
    for name, content in list(NOT_JSON.items())[::2]:
        run_case(
            f'remembers {name}',
            lambda run, c=content: (run / 'data_set' / 'manifest.json').write_bytes(c),
            '{place}/run/data_set',
            mode='predict',
        )

    def small_images(run):
        Place.edit(run / 'data_set' / 'manifest.json', at('settings', 'image_size')(8))
        np.save(run / 'data_set' / 'mean_image.npy', np.zeros((8, 8, 3), np.float32))

    run_case('remembers images smaller than its patches', small_images, '{place}/run/data_set', mode='predict')

    def odd_classes(run):
        names = ['[/]', '\x1b[31mred\x07', 'a\nb\rc']
        Place.edit(run / 'data_set' / 'manifest.json', at('class_names')(names))

    run_case('remembers classes with odd names', odd_classes, None, mode='predict', as_json=False)
    run_case(
        'remembers classes that are no text',
        lambda run: Place.edit(run / 'data_set' / 'manifest.json', at('class_names')(['\udcff', 'b', 'c'])),
        None,
        mode='predict',
        as_json=False,
    )
    for name, put in odd_files('data_set').items():
        run_case(f'data_set is {name}', put, '{place}/run/data_set', mode='predict')

    # What it measured.
    for name, content in {
        'no JSON': b'nonsense\n',
        'a list': b'[1]\n',
        'a number': b'3\n',
        'null': b'null\n',
        'without a step': b'{"split": "train"}\n',
        'with a step of letters': b'{"step": "x"}\n',
        'with a step of nothing': b'{"step": null}\n',
        'with a step of a list': b'{"step": [1]}\n',
        'nested': NESTED + b'\n',
        'not UTF-8': b'{"step": "\xff"}\n',
        'with a step that is no number': b'{"step": true}\n{"step": []}\n',
        'a pickle': PICKLE + b'\n',
    }.items():
        run_case(
            f'metrics {name}',
            lambda run, c=content: (run / 'metrics.jsonl').write_bytes(c),
            '{place}/run/metrics.jsonl',
            mode='train',
        )
    for name, content in {
        'without values': b'{"step": 1}\n',
        'with words for values': b'{"step": 1, "epoch": "x", "split": "train", "loss": "y"}\n',
        'with an unknown split': b'{"step": 1, "epoch": 1, "split": 5, "loss": 1}\n',
        'with null for values': b'{"step": 1, "epoch": 1, "split": "train", "loss": null, "top1_error": null}\n',
    }.items():
        run_case(
            f'metrics {name}, in figures',
            lambda run, c=content: (run / 'metrics.jsonl').write_bytes(c),
            '{place}/run/metrics.jsonl',
            mode='figures',
        )
    for name, put in odd_files('metrics.jsonl').items():
        run_case(
            f'metrics.jsonl is {name}',
            put,
            '{place}/run/metrics.jsonl',
            mode='train',
            either=name == 'a link to itself',
        )
    for path in ('lock', 'tensorboard', 'eval.json', 'data_set', 'config.json.new'):
        for name in ('a folder', 'a pipe', 'a link to itself'):
            mode = 'eval' if path == 'eval.json' else 'train'
            if (path, name) not in (('tensorboard', 'a folder'), ('data_set', 'a folder')):
                run_case(
                    f'{path} is {name}, to be written',
                    odd_files(path)[name],
                    path.split('.')[0],
                    mode=mode,
                    either=True,
                )

    # Its checkpoints.
    newest = 'checkpoints/6'
    files = [
        '_CHECKPOINT_METADATA',
        'metrics/metrics',
        'progress/metadata',
        'state/_METADATA',
        'state/_sharding',
        'state/array_metadatas/process_0',
        'state/manifest.ocdbt',
        'state/ocdbt.process_0/manifest.ocdbt',
        'state/d/*',
    ]

    def replaced(pattern, content):
        def damage(run):
            for path in list((run / newest).glob(pattern)):
                if content is None:
                    path.unlink()
                elif content == 'a folder':
                    path.unlink()
                    path.mkdir()
                elif callable(content):
                    path.write_bytes(content(path.read_bytes()))
                else:
                    path.write_bytes(content)

        return damage

    for number, pattern in enumerate(files):
        for place_in_list, (name, content) in enumerate(
            {
                'emptied': b'',
                'garbage': b'garbage' * 40,
                'a pickle': PICKLE,
                'nested': NESTED,
                'cut': lambda content: content[: len(content) // 2],
                'gone': None,
                'a folder': 'a folder',
                'an object': b'{"a": 1}',
            }.items()
        ):
            if (number + place_in_list) % 2:
                continue
            which = 'newest' if name in ('garbage', 'gone') else '6'
            says = '{place}/run/checkpoints'
            run_case(f'checkpoint, {pattern} {name}', replaced(pattern, content), says, either=True, which=which)

    def edited(path, change):
        return lambda run: Place.edit(run / newest / path, change)

    kernel = "('parameters', 'fc7', 'kernel')"
    for name, damage in {
        'shapes of 10**9': edited(
            'state/_METADATA', at('tree_metadata', kernel, 'value_metadata', 'write_shape')([10**9] * 3)
        ),
        'an unknown value': edited(
            'state/_METADATA', at('tree_metadata', kernel, 'value_metadata', 'value_type')('os.system')
        ),
        'an unknown key': edited(
            'state/_METADATA', at('tree_metadata', kernel, 'key_metadata')([{'key': 'x', 'key_type': 99}])
        ),
        'no tree': edited('state/_METADATA', at('tree_metadata')({})),
        'a key that is code': edited(
            'state/_METADATA', at('tree_metadata', "__import__('os').system('touch outside/written')")({})
        ),
        'a handler that is code': edited('_CHECKPOINT_METADATA', at('item_handlers', 'state')('os.system')),
        'handlers that are a list': edited('_CHECKPOINT_METADATA', at('item_handlers')([])),
        'a class of its own': edited('state/_METADATA', at('custom_metadata')({'__class__': 'os.system'})),
        'the state of another step': lambda run: (
            shutil.rmtree(run / newest / 'state'),
            shutil.copytree(run / 'checkpoints/3/state', run / newest / 'state'),
        ),
        'the progress of another step': lambda run: (
            shutil.rmtree(run / newest / 'progress'),
            shutil.copytree(run / 'checkpoints/3/progress', run / newest / 'progress'),
        ),
        'no state': lambda run: shutil.rmtree(run / newest / 'state'),
        'no progress': lambda run: shutil.rmtree(run / newest / 'progress'),
        'no metrics': lambda run: shutil.rmtree(run / newest / 'metrics'),
        'no sign of success': lambda run: [path.unlink() for path in (run / newest).rglob('commit_success.txt')],
        'nothing in it': lambda run: (shutil.rmtree(run / newest), (run / newest).mkdir()),
        'a link out in place of it': lambda run: (
            (run / newest).rename(run.parent / 'outside' / '6'),
            (run / newest).symlink_to('../../outside/6'),
        ),
        'a link out in place of its state': lambda run: (
            (run / newest / 'state').rename(run.parent / 'outside' / 'state'),
            (run / newest / 'state').symlink_to('../../../outside/state'),
        ),
        'a link to itself in place of it': lambda run: (shutil.rmtree(run / newest), (run / newest).symlink_to('6')),
        'a file in place of it': lambda run: (shutil.rmtree(run / newest), (run / newest).write_bytes(PICKLE)),
        'a pipe in place of its progress': lambda run: (
            (run / newest / 'progress/metadata').unlink(),
            os.mkfifo(run / newest / 'progress/metadata'),
        ),
        'a pipe in place of its metrics': lambda run: (
            (run / newest / 'metrics/metrics').unlink(),
            os.mkfifo(run / newest / 'metrics/metrics'),
        ),
        'an error that is infinite': replaced('metrics/metrics', b'{"top1_error": 1e999}'),
        'an error that is a text': replaced('metrics/metrics', b'{"top1_error": "x"}'),
        'errors that are a list': replaced('metrics/metrics', b'[]'),
        'an error of 5,000 digits': replaced('metrics/metrics', b'{"top1_error": ' + b'9' * 4000 + b'}'),
    }.items():
        for mode, more in (('eval', {'which': '6'} if len(name) % 2 else {}), ('train', {})):
            how = 'training' if mode == 'train' else more.get('which', 'newest')
            if mode == 'train' and name not in (
                'nothing in it',
                'a file in place of it',
                'a link to itself in place of it',
                'no tree',
                'an error of 5,000 digits',
            ):
                continue
            run_case(
                f'checkpoint with {name}, {how}', damage, '{place}/run/checkpoints', mode=mode, either=True, **more
            )
    for name in (
        '99999999999999999999',
        '-5',
        '1e9',
        'nan',
        '6.orbax-checkpoint-tmp',
        '007',
        '\u0663',
        '4\n5',
        '\x1b[31m',
        ' 9',
    ):
        for content in ('empty', 'copied')[:: -1 if name in ('007', '-5') else 1][:1]:

            def odd_step(run, name=name, content=content):
                if content == 'empty':
                    (run / 'checkpoints' / name).mkdir()
                else:
                    shutil.copytree(run / newest, run / 'checkpoints' / name)

            run_case(f'checkpoint named {name!r}, {content}', odd_step, ('checkpoint',), either=True)
    for name, put in odd_files('checkpoints').items():
        run_case(f'checkpoints is {name}', put, '{place}/run/checkpoints')

    def with_progress(change, which, mode):
        def damage(run):
            path = run / newest / 'progress' / 'metadata'
            fields = json.loads(path.read_text())
            del fields['crc32']
            change(fields)
            fields['crc32'] = zlib.crc32(json.dumps(fields, sort_keys=True).encode())
            path.write_text(json.dumps(fields))

        return damage

    for path, value in (
        (('step',), 'x'),
        (('step',), None),
        (('step',), [1]),
        (('step',), 10**30),
        (('step',), 6.5),
        (('step',), -5),
        (('step',), KeyError),
        (('epoch',), 'x'),
        (('epoch',), None),
        (('control',), {}),
        (('control',), []),
        (('control', 'more'), 5),
        (('control', 'learning_rate'), 'x'),
        (('control', 'learning_rate'), float('nan')),
        (('control', 'best_error'), None),
        (('control', 'best_error'), 'x'),
        (('control', 'drops'), []),
        (('window',), 5),
        (('window',), {'steps': 'x'}),
        (('marks',), []),
        (('marks',), {'more': 5}),
        (('marks',), None),
        (('more',), 5),
    ):
        mode, which = ('eval', '6') if path in (('step',), ('marks',)) or value is KeyError else ('train', None)
        more = {'which': which} if which else {}
        run_case(
            f'progress with {".".join(path)} {value!r}',
            with_progress(at(*path)(value), which, mode),
            '{place}/run/checkpoints',
            mode=mode,
            either=path == ('more',) or mode == 'train',
            **more,
        )
    case(
        'ensemble of what is no run',
        'ensemble',
        lambda place: {'workdirs': [str(place.base / 'run'), str(place.outside)]},
        '{place}/outside',
    )
    case('ensemble of nothing', 'ensemble', lambda place: {'workdirs': ['']}, 'run')
    case(
        'ensemble of a file', 'ensemble', lambda place: {'workdirs': [str(place.outside / 'secret.txt')]}, 'secret.txt'
    )
    case('ensemble of a run twice', 'ensemble', lambda place: {'workdirs': [str(place.base / 'run')] * 2}, 'twice')

    def other_run(change, path='config.json'):
        def make(place):
            shutil.copytree(place.base / 'run', place.path / 'here' / 'other')
            Place.edit(place.path / 'here' / 'other' / path, change)
            return {'workdirs': [str(place.base / 'run'), str(place.path / 'here' / 'other')]}

        return make

    other = '{place}/here/other'
    case('ensemble with another network', 'ensemble', other_run(at('network', 'fc7', 'units')(16)), other)
    case(
        'ensemble with other classes',
        'ensemble',
        other_run(at('class_ids')(['x', 'y', 'z']), 'data_set/manifest.json'),
        other,
    )
    case('ensemble with a config without a mesh', 'ensemble', other_run(at('mesh')(KeyError)), 'mesh')
    case('ensemble with a config of nothing', 'ensemble', other_run(lambda fields: fields.clear()), 'config')
    case('ensemble with a config whose data is a list', 'ensemble', other_run(at('data')([])), 'data')
    case(
        'ensemble with a damaged mean',
        'ensemble',
        other_run(at('settings', 'image_size')(9), 'data_set/manifest.json'),
        other,
    )


# --- command lines ---


CONFIGS = {
    'a syntax error': b'def get_config(:\n',
    'binary': bytes(range(256)) * 9,
    'nulls': b'x = 1\0\n',
    'empty': b'',
    'a pickle': PICKLE,
    'a config that is a list': b'def get_config():\n    return [1]\n',
    'an error of its own': b'def get_config():\n    raise RuntimeError("\\x1b[31mred\\n\\nTraceback")\n',
    'an end of its own': b'def get_config():\n    raise RecursionError\n',
    'fields that refer to each other': (
        b'from ml_collections import ConfigDict\ndef get_config():\n    c = ConfigDict()\n    c.a = c\n    return c\n'
    ),
    'nested deep': b'(' * 5000,
    'not UTF-8': b'x = "\xff\xfe"\n',
}


def command_cases():
    def command(name, arguments, says, real=False, either=False, make=None, run=True):
        def build(place):
            if run:
                place.copy_run()
            (place.path / 'here' / 'small.py').write_text(
                'import json\nfrom alexnet_jax.workdir import read_config\n\n\n'
                f'def get_config():\n    return read_config({str(place.base / "run")!r})\n'
            )
            if make:
                make(place)
            known = {'place': place.path, 'base': place.base, 'config': f'--config={place.path}/here/small.py'}
            return {'arguments': [argument.format(**known) for argument in arguments]}

        case(f'command: {name}', 'command', build, says, real=real, either=either)

    workdir, config = '--workdir={place}/run', '{config}'
    new = '--workdir={place}/run/new'
    real = {
        'an unknown mode',
        '--images of /dev/zero',
        '--checkpoint that climbs',
        '--layer of nothing',
        '--split that is odd',
        '--processes without the rest',
        'a config that is a folder',
        'a config of binary',
        'a flag with control characters',
        'ensemble of a folder',
        'kernels by the billion',
        'a workdir that is a file',
    }

    def line(name, arguments, says, **more):
        command(name, arguments, says, real=name in real, **more)

    line('an unknown mode', [workdir, config, '--mode=evil'], 'evil')
    line('an empty mode', [workdir, config, '--mode='], 'mode')
    line('a mode of two lines', [workdir, config, '--mode=eval\neval'], 'mode')
    line('a mode twice', [workdir, '--mode=train', '--mode=evil'], 'evil')
    line('a flag with control characters', [workdir, config, '--\x1b[31mx=1'], 'x')
    line('a field with control characters', [workdir, config, '--config.\x1b[31m=1'], 'config')
    line('a stray argument with control characters', [workdir, config, '\x1b]0;x\x07'], 'unexpected')
    line('an argument that is no text', [workdir, config, 'caf\udce9'], 'unexpected')
    line('a workdir with control characters', ['--workdir={place}/run/\x1b[31m', '--mode=eval'], 'run')
    line('a workdir that is no text', ['--workdir={place}/run/caf\udce9', '--mode=eval'], 'run')
    line('a workdir with a null in its config', ['--workdir={place}/here', '--mode=eval'], 'config.json')
    line('a workdir of 5,000 characters', ['--workdir=' + 'x' * 5000, '--mode=eval'], 'xxx')
    line('a workdir that is a file', ['--workdir={place}/outside/secret.txt', config], 'secret.txt')
    line(
        'a workdir that is a file, to look at',
        ['--workdir={place}/outside/secret.txt', '--mode=predict', '--images={place}/images'],
        'secret.txt',
    )
    line('a workdir of /dev/null', ['--workdir=/dev/null', config], '/dev/null')
    for value in ('{place}/images/none.jpg', '', ',', '/dev/null', '{place}/images'):
        name = {'{place}/images/none.jpg': 'that are not there'}.get(value, f'of {value!r}'.replace('{place}/', ''))
        line(
            f'--images {name}',
            [workdir, '--mode=predict', f'--images={value}'],
            'images' if value != '/dev/null' else '/dev/null',
        )
    for value in ('/dev/zero', '/dev/stdin', '/proc/self/mem'):
        line(f'--images of {value}', [workdir, '--mode=predict', f'--images={value}', '--json'], value)

    def loop(place):
        for name in 'ab':
            (place.images / name).mkdir()
            for other in 'ab':
                (place.images / name / other).symlink_to('..')

    line(
        '--images of folders that lead back',
        [workdir, '--mode=predict', '--images={place}/images'],
        'images',
        make=loop,
    )
    line(
        'pictures to prepare in folders that lead back',
        [
            '{config}',
            '--mode=prepare',
            '--config.data.source=folder',
            '--config.data.source_directory={place}/images',
            '--config.data.directory={place}/data',
        ],
        'images',
        make=loop,
    )
    for value in ('../x', '', '-1', '\u0666', '\x1b[31m'):
        name = 'that climbs' if value == '../x' else f'of {value!r}'
        line(f'--checkpoint {name}', [workdir, '--mode=eval', f'--checkpoint={value}'], '--checkpoint')
    for value in ('../../outside/x', 'nothing', 'fc7/../..', '__class__', '\x1b[31m'):
        name = 'of nothing' if value == 'nothing' else f'of {value!r}'
        line(f'--layer {name}', [workdir, '--mode=features', f'--layer={value}', '--images={place}/images'], '--layer')
    line('--layer that is empty', [workdir, '--mode=features', '--layer='], '--layer')
    for value in ('odd', '\x1b[31m'):
        name = 'that is odd' if value == 'odd' else f'of {value!r}'
        line(f'--split {name}', [workdir, '--mode=eval', f'--split={value}'], '--split')
    line('--split and --images', [workdir, '--mode=features', '--split=train', '--images={place}/images'], '--split')
    line('--processes without the rest', [workdir, config, '--processes=2'], '--processes')
    line(
        '--processes of none',
        [workdir, config, '--processes=0', '--process=0', '--coordinator=localhost:1'],
        '--process',
    )
    line(
        '--process beyond', [workdir, config, '--processes=2', '--process=2', '--coordinator=localhost:1'], '--process'
    )
    line(
        '--process below', [workdir, config, '--processes=2', '--process=-1', '--coordinator=localhost:1'], '--process'
    )
    line('--processes in words', [workdir, config, '--processes=two'], 'processes')
    line('--processes by the billion', [workdir, config, '--processes=1000000000000'], '--processes')
    line('--coordinator without the rest', [workdir, config, '--coordinator=nonsense'], '--coordinator')
    line(
        '--coordinator without a port',
        [workdir, config, '--coordinator=nonsense', '--processes=1', '--process=0'],
        'coordinator',
    )
    line(
        '--coordinator with a port of letters',
        [workdir, config, '--coordinator=localhost:x', '--processes=1', '--process=0'],
        'coordinator',
    )
    line(
        '--coordinator with a port beyond',
        [workdir, config, '--coordinator=localhost:99999', '--processes=1', '--process=0'],
        'coordinator',
    )
    line('--allow_changes of an unknown field', [workdir, config, '--allow_changes=nonsense'], 'nonsense')
    line(
        '--allow_changes of the network',
        [workdir, config, '--allow_changes=network', '--config.network.fc7.units=16'],
        'network',
    )
    line('--allow_changes of nothing', [workdir, config, '--allow_changes=,,', '--config.seed=3'], '--allow_changes')
    line('a config that is a folder', [workdir, '--config=experiments'], 'experiments')
    line('a config of /dev/zero', [workdir, '--config=/dev/zero'], '/dev/zero')
    line('a config of /dev/stdin', [workdir, '--config=/dev/stdin'], '/dev/stdin')
    line('a config that is not there, with markup', [workdir, '--config=[red][/].py'], '[red]')
    line('a config twice, the second not there', [workdir, config, '--config=x.py'], 'x.py')
    for name, content in CONFIGS.items():

        def written(place, content=content):
            (place.path / 'here' / 'bad.py').write_bytes(content)

        line(
            f'a config of {name}',
            [new, '--config={place}/here/bad.py'],
            'bad.py' if 'refer' not in name else 'config',
            make=written,
        )
    for name, ensemble in {
        'a folder': '{place}/outside',
        'nothing': ',',
        'a file': '{place}/outside/secret.txt',
        'what is not there': '{place}/x',
        'a run and nothing': '{base}/run,',
        '/dev/null': '/dev/null',
        'a run twice': '{base}/run,{base}/run/../run',
    }.items():
        line(
            f'ensemble of {name}',
            [new, '--mode=eval', f'--ensemble={ensemble}'],
            ('run',) if name in ('nothing', 'a run and nothing') else (ensemble.split(',')[0],),
        )
    training = [new, config, '--config.data.directory={base}/jpeg']
    for name, field, value in (
        ('kernels by the billion', 'network.conv1.kernels', 10**9),
        ('units by the billion', 'network.fc7.units', 10**9),
        ('kernels by the million', 'network.conv1.kernels', 4 * 10**6),
        ('a batch of a billion', 'batch_size', 10**9),
        ('a batch of a million', 'batch_size', 10**6),
        ('patches of a million pixels', 'data.crop_size', 10**6),
        ('a mesh of a million', 'mesh.data', 10**6),
        ('a mesh of ten thousand', 'mesh.column', 10**4),
        ('a mesh below 0', 'mesh.data', -1),
        ('a million columns', 'columns', 10**6),
        ('no column', 'columns', 0),
        ('epochs below 0', 'epochs', -1),
        ('a seed of 2**64', 'seed', 2**64),
        ('a seed below 0', 'seed', -1),
        ('a rate that is no number', 'learning_rate', 'nan'),
        ('a rate that is infinite', 'learning_rate', 'inf'),
        ('a million threads', 'data.threads', 10**6),
        ('threads below 0', 'data.threads', -1),
        ('views of code', 'evaluation.views', '__import__("os")'),
        ('a schedule of code', 'rate_control.schedule', '[().__class__]'),
        ('a schedule nested deep', 'rate_control.schedule', '(' * 500 + ')' * 500),
        ('a tuple of a gigabyte', 'evaluation.views', '("x",) * 10**9'),
        ('a number of 5,000 digits', 'batch_size', '9' * 5000),
        ('log lines below 0', 'log_every_steps', -1),
        ('a type that is unknown', 'network.conv1.type', 'evil'),
        ('a precision that is unknown', 'precision', 'float8'),
    ):
        line(
            name,
            [*training, f'--config.{field}={value}'],
            field.split('.')[-2]
            if field.endswith('.type')
            else field.split('.')[-1]
            if 'mesh' not in field
            else 'mesh',
            either=name == 'a million threads',
        )
    line(
        'inspecting units by the billion',
        ['--mode=inspect', config, '--config.network.fc7.units=1000000000'],
        'units',
        either=True,
    )
    line(
        'inspecting patches of a million pixels',
        ['--mode=inspect', config, '--config.data.crop_size=1000000', '--config.data.image_size=1000000'],
        'size',
        either=True,
    )
    line(
        'preparing images of a million pixels',
        [
            '--mode=prepare',
            config,
            '--config.data.directory={place}/data',
            '--config.data.source_directory={base}/source',
            '--config.data.image_size=1000000',
        ],
        'image_size',
    )
    line(
        'preparing images of 30,000 pixels',
        [
            '--mode=prepare',
            config,
            '--config.data.directory={place}/data',
            '--config.data.source_directory={base}/source',
            '--config.data.image_size=30000',
        ],
        'image_size',
    )
    for name, value in {
        'nothing': '',
        'TensorFlow of nothing': 'tfds:',
        'TensorFlow that climbs': 'tfds:../../x',
        'code': 'tfds:__import__("os")',
    }.items():
        line(
            f'a source of {name}',
            [
                '--mode=prepare',
                config,
                f'--config.data.source={value}',
                '--config.data.directory={place}/data',
                '--config.data.source_directory={place}/source',
            ],
            'source' if not value else 'TensorFlow',
        )
    line(
        'data where a file is',
        [
            '--mode=prepare',
            config,
            '--config.data.directory={place}/outside/secret.txt',
            '--config.data.source_directory={base}/source',
        ],
        'secret.txt',
    )
    line(
        'data in /dev/null',
        ['--mode=prepare', config, '--config.data.directory=/dev/null', '--config.data.source_directory={base}/source'],
        '/dev/null',
    )
    line(
        'data at a name too long',
        [
            '--mode=prepare',
            config,
            '--config.data.directory={place}/' + 'x' * 300,
            '--config.data.source_directory={base}/source',
        ],
        'xxx',
    )
    line(
        'a source that is a file',
        [
            '--mode=prepare',
            config,
            '--config.data.directory={place}/data',
            '--config.data.source_directory={place}/outside/secret.txt',
        ],
        'secret.txt',
    )

    def json_edit(change):
        return lambda place: Place.edit(place.run / 'config.json', change)

    for name, change in {
        'fields of nothing': at('data')(None),
        'lists for fields': at('mesh')([1, 2]),
        'a mesh of a million': at('mesh', 'data')(10**6),
        'texts for numbers': at('batch_size')('x'),
        'a number of 30 digits': at('batch_size')(10**30),
        'no network': at('network')({}),
        'a list of lists': at('rate_control', 'schedule')([[1, [2]]]),
        'a field with a dash': at('a-b')(5),
        'a field without a name': at('')(5),
        'a field with an equals sign': at('a=b')(5),
        'a field named like a flag': at('--mode')('x'),
        'a field with control characters': at('\x1b[31m')('x'),
        'mixed lists': at('evaluation', 'views')([1, 'x', None]),
    }.items():
        harmless = name.startswith('a field')
        line(
            f'config.json with {name}',
            [workdir, '--mode=eval'],
            None if harmless else ('config',),
            make=json_edit(change),
        )
    line(
        'config.json with a path in place of a run', ['--workdir={place}/run/config.json', '--mode=eval'], 'config.json'
    )


@functools.cache
def cases():
    """All cases."""
    pictures()
    special_files()
    names()
    tar_cases()
    data_cases()
    run_cases()
    command_cases()
    return tuple(_CASES)
