"""Hostile command lines."""

from hostile.ground import PICKLE, Case, Place, at

# Starts of command lines; {place} and {base} are filled in.
SMALL = '--config={place}/here/small.py'
RUN = ('--workdir={place}/run',)
TRAIN = (*RUN, SMALL)
NEW = ('--workdir={place}/run/new', SMALL, '--config.data.directory={base}/jpeg')
EVAL, PREDICT, FEATURES = ((*RUN, f'--mode={mode}') for mode in ('eval', 'predict', 'features'))
IMAGES = '--images={place}/images'
DATA = '--config.data.directory={place}/data'
PREPARE = ('--mode=prepare', SMALL, '--config.data.source_directory={base}/source')
INSPECT = ('--mode=inspect', SMALL)
JOIN = (*TRAIN, '--processes=2', '--coordinator=localhost:1')
# By name: the arguments, and what the message names.
LINES = {
    'an unknown mode': ((*TRAIN, '--mode=evil'), 'evil'),
    'an empty mode': ((*TRAIN, '--mode='), 'mode'),
    'a mode of two lines': ((*TRAIN, '--mode=eval\neval'), 'mode'),
    'a mode twice': ((*RUN, '--mode=train', '--mode=evil'), 'evil'),
    'a flag with control characters': ((*TRAIN, '--\x1b[31mx=1'), 'x'),
    'a field with control characters': ((*TRAIN, '--config.\x1b[31m=1'), 'config'),
    'a stray argument with control characters': ((*TRAIN, '\x1b]0;x\x07'), 'unexpected'),
    'an argument that is no text': ((*TRAIN, 'caf\udce9'), 'unexpected'),
    'a workdir with control characters': (('--workdir={place}/run/\x1b[31m', '--mode=eval'), 'run'),
    'a workdir that is no text': (('--workdir={place}/run/caf\udce9', '--mode=eval'), 'run'),
    'a workdir with a null in its config': (('--workdir={place}/here', '--mode=eval'), 'config.json'),
    'a workdir of 5,000 characters': (('--workdir=' + 'x' * 5000, '--mode=eval'), 'xxx'),
    'a workdir that is a file': (('--workdir={place}/outside/secret.txt', SMALL), 'secret.txt'),
    'a workdir that is a file, to look at': (
        ('--workdir={place}/outside/secret.txt', '--mode=predict', IMAGES),
        'secret.txt',
    ),
    'a workdir of /dev/null': (('--workdir=/dev/null', SMALL), '/dev/null'),
    '--images that are not there': ((*PREDICT, '--images={place}/images/none.jpg'), 'images'),
    "--images of ''": ((*PREDICT, '--images='), 'images'),
    "--images of ','": ((*PREDICT, '--images=,'), 'images'),
    "--images of '/dev/null'": ((*PREDICT, '--images=/dev/null'), '/dev/null'),
    "--images of 'images'": ((*PREDICT, IMAGES), 'images'),
    **{
        f'--images of {path}': ((*PREDICT, f'--images={path}', '--json'), path)
        for path in ('/dev/zero', '/dev/stdin', '/proc/self/mem')
    },
    '--images of folders that lead back': ((*PREDICT, IMAGES), 'images'),
    'pictures to prepare in folders that lead back': (
        (SMALL, '--mode=prepare', '--config.data.source=folder', '--config.data.source_directory={place}/images', DATA),
        'images',
    ),
    '--checkpoint that climbs': ((*EVAL, '--checkpoint=../x'), '--checkpoint'),
    **{
        f'--checkpoint of {value!r}': ((*EVAL, f'--checkpoint={value}'), '--checkpoint')
        for value in ('', '-1', '\u0666', '\x1b[31m')
    },
    "--layer of '../../outside/x'": ((*FEATURES, '--layer=../../outside/x', IMAGES), '--layer'),
    '--layer of nothing': ((*FEATURES, '--layer=nothing', IMAGES), '--layer'),
    **{
        f'--layer of {value!r}': ((*FEATURES, f'--layer={value}', IMAGES), '--layer')
        for value in ('fc7/../..', '__class__', '\x1b[31m')
    },
    '--layer that is empty': ((*FEATURES, '--layer='), '--layer'),
    '--split that is odd': ((*EVAL, '--split=odd'), '--split'),
    f'--split of {chr(27) + "[31m"!r}': ((*EVAL, '--split=\x1b[31m'), '--split'),
    '--split and --images': ((*FEATURES, '--split=train', IMAGES), '--split'),
    '--processes without the rest': ((*TRAIN, '--processes=2'), '--processes'),
    '--processes of none': ((*TRAIN, '--processes=0', '--process=0', '--coordinator=localhost:1'), '--process'),
    '--process beyond': ((*JOIN, '--process=2'), '--process'),
    '--process below': ((*JOIN, '--process=-1'), '--process'),
    '--processes in words': ((*TRAIN, '--processes=two'), 'processes'),
    '--processes by the billion': ((*TRAIN, '--processes=1000000000000'), '--processes'),
    '--coordinator without the rest': ((*TRAIN, '--coordinator=nonsense'), '--coordinator'),
    **{
        f'--coordinator {what}': ((*TRAIN, f'--coordinator={value}', '--processes=1', '--process=0'), 'coordinator')
        for what, value in {
            'without a port': 'nonsense',
            'with a port of letters': 'localhost:x',
            'with a port beyond': 'localhost:99999',
        }.items()
    },
    '--allow_changes of an unknown field': ((*TRAIN, '--allow_changes=nonsense'), 'nonsense'),
    '--allow_changes of the network': ((*TRAIN, '--allow_changes=network', '--config.network.fc7.units=16'), 'network'),
    '--allow_changes of nothing': ((*TRAIN, '--allow_changes=,,', '--config.seed=3'), '--allow_changes'),
    'a config that is a folder': ((*RUN, '--config=experiments'), 'experiments'),
    'a config of /dev/zero': ((*RUN, '--config=/dev/zero'), '/dev/zero'),
    'a config of /dev/stdin': ((*RUN, '--config=/dev/stdin'), '/dev/stdin'),
    'a config that is not there, with markup': ((*RUN, '--config=[red][/].py'), '[red]'),
    'a config twice, the second not there': ((*TRAIN, '--config=x.py'), 'x.py'),
}
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
ENSEMBLES = {
    'a folder': ('{place}/outside', '{place}/outside'),
    'nothing': (',', 'run'),
    'a file': ('{place}/outside/secret.txt', '{place}/outside/secret.txt'),
    'what is not there': ('{place}/x', '{place}/x'),
    'a run and nothing': ('{base}/run,', 'run'),
    '/dev/null': ('/dev/null', '/dev/null'),
    'a run twice': ('{base}/run,{base}/run/../run', '{base}/run'),
}
# Fields of a run to be trained; the message names the last part, or here the word after them.
FIELDS = {
    'kernels by the billion': ('network.conv1.kernels', 10**9),
    'units by the billion': ('network.fc7.units', 10**9),
    'kernels by the million': ('network.conv1.kernels', 4 * 10**6),
    'a batch of a billion': ('batch_size', 10**9),
    'a batch of a million': ('batch_size', 10**6),
    'patches of a million pixels': ('data.crop_size', 10**6),
    'a mesh of a million': ('mesh.data', 10**6, 'mesh'),
    'a mesh of ten thousand': ('mesh.column', 10**4, 'mesh'),
    'a mesh below 0': ('mesh.data', -1, 'mesh'),
    'a million columns': ('columns', 10**6),
    'no column': ('columns', 0),
    'epochs below 0': ('epochs', -1),
    'a seed of 2**64': ('seed', 2**64),
    'a seed below 0': ('seed', -1),
    'a rate that is no number': ('learning_rate', 'nan'),
    'a rate that is infinite': ('learning_rate', 'inf'),
    'a million threads': ('data.threads', 10**6),
    'threads below 0': ('data.threads', -1),
    'views of code': ('evaluation.views', '__import__("os")'),
    'a schedule of code': ('rate_control.schedule', '[().__class__]'),
    'a schedule nested deep': ('rate_control.schedule', '(' * 500 + ')' * 500),
    'a tuple of a gigabyte': ('evaluation.views', '("x",) * 10**9'),
    'a number of 5,000 digits': ('batch_size', '9' * 5000),
    'log lines below 0': ('log_every_steps', -1),
    'a type that is unknown': ('network.conv1.type', 'evil', 'conv1'),
    'a precision that is unknown': ('precision', 'float8'),
}
LARGE = '--config.data.image_size=1000000'
SOURCES = {
    'nothing': '',
    'TensorFlow of nothing': 'tfds:',
    'TensorFlow that climbs': 'tfds:../../x',
    'code': 'tfds:__import__("os")',
}
OTHER_MODES = {
    'inspecting units by the billion': ((*INSPECT, '--config.network.fc7.units=1000000000'), 'units'),
    'inspecting patches of a million pixels': ((*INSPECT, '--config.data.crop_size=1000000', LARGE), 'size'),
    'preparing images of a million pixels': ((*PREPARE, DATA, LARGE), 'image_size'),
    'preparing images of 30,000 pixels': ((*PREPARE, DATA, '--config.data.image_size=30000'), 'image_size'),
    **{
        f'a source of {name}': (
            (*PREPARE[:2], f'--config.data.source={value}', DATA, '--config.data.source_directory={place}/source'),
            'TensorFlow' if value else 'source',
        )
        for name, value in SOURCES.items()
    },
    'data where a file is': ((*PREPARE, '--config.data.directory={place}/outside/secret.txt'), 'secret.txt'),
    'data in /dev/null': ((*PREPARE, '--config.data.directory=/dev/null'), '/dev/null'),
    'data at a name too long': ((*PREPARE, '--config.data.directory={place}/' + 'x' * 300), 'xxx'),
    'a source that is a file': (
        (*PREPARE[:2], DATA, '--config.data.source_directory={place}/outside/secret.txt'),
        'secret.txt',
    ),
}
CONFIG_JSON = {
    'fields of nothing': at('data')(None),
    'lists for fields': at('mesh')([1, 2]),
    'a mesh of a million': at('mesh', 'data')(10**6),
    'texts for numbers': at('batch_size')('x'),
    'a number of 30 digits': at('batch_size')(10**30),
    'no network': at('network')({}),
    'a list of lists': at('rate_control', 'schedule')([[1, [2]]]),
    'mixed lists': at('evaluation', 'views')([1, 'x', None]),
}
# Fields that this version does not have are ignored, with a warning.
CONFIG_JSON_OF_ANOTHER_VERSION = {
    'a field with a dash': at('a-b')(5),
    'a field without a name': at('')(5),
    'a field with an equals sign': at('a=b')(5),
    'a field named like a flag': at('--mode')('x'),
    'a field with control characters': at('\x1b[31m')('x'),
}
# These are given to an interpreter of their own.
REAL = {'an unknown mode', '--images of /dev/zero', '--checkpoint that climbs', '--layer of nothing'}
REAL |= {'--split that is odd', '--processes without the rest', 'a config that is a folder', 'a config of binary'}
REAL |= {'a flag with control characters', 'ensemble of a folder', 'kernels by the billion', 'a workdir that is a file'}
EITHER = {'a million threads', 'inspecting units by the billion', 'inspecting patches of a million pixels'}
SMALL_PY = """from alexnet_jax.commands import run_config


def get_config():
    return run_config.get_config({!r})
"""


def folders_that_lead_back(place):
    for name in 'ab':
        (place.images / name).mkdir()
        for other in 'ab':
            (place.images / name / other).symlink_to('..')


def line(name, arguments, says, damage=None):
    def make(place):
        place.copy_run()
        (place.path / 'here' / 'small.py').write_text(SMALL_PY.format(str(place.base / 'run')))
        if damage:
            damage(place)
        return {'arguments': [one.format(place=place.path, base=place.base) for one in arguments]}

    says = (says,) if says else None
    return Case(f'command: {name}', 'command', make, says, name in EITHER, name in REAL)


def cases():
    for name, (arguments, says) in LINES.items():
        yield line(name, arguments, says, folders_that_lead_back if 'lead back' in name else None)
    for name, content in CONFIGS.items():

        def written(place, content=content):
            (place.path / 'here' / 'bad.py').write_bytes(content)

        arguments, says = (NEW[0], '--config={place}/here/bad.py'), 'config' if 'refer' in name else 'bad.py'
        yield line(f'a config of {name}', arguments, says, written)
    for name, (runs, says) in ENSEMBLES.items():
        yield line(f'ensemble of {name}', (NEW[0], '--mode=eval', f'--ensemble={runs}'), says)
    for name, (field, value, *says) in FIELDS.items():
        yield line(name, (*NEW, f'--config.{field}={value}'), *says or [field.split('.')[-1]])
    for name, (arguments, says) in OTHER_MODES.items():
        yield line(name, arguments, says)
    for name, change in (CONFIG_JSON | CONFIG_JSON_OF_ANOTHER_VERSION).items():

        def edited(place, change=change):
            Place.edit(place.run / 'config.json', change)

        says = 'config' if name in CONFIG_JSON else None
        yield line(f'config.json with {name}', EVAL, says, edited)
    arguments = ('--workdir={place}/run/config.json', '--mode=eval')
    yield line('config.json with a path in place of a run', arguments, 'config.json')
