"""Hostile command lines."""

from hostile.data_sets import at
from hostile.ground import Place, case
from hostile.pictures import PICKLE

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
                'import json\nfrom alexnet_jax.runs.workdir import read_config\n\n\n'
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
