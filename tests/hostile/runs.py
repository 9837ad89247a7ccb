"""Damaged and hostile directories of runs."""

import json
import os
import shutil
import zlib

import numpy as np

from hostile.data_sets import NESTED, NOT_JSON, at, odd_files
from hostile.ground import GOOD, Place, case
from hostile.pictures import PICKLE


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
        'color_std': (nan, 'x'),
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
        'colors that are no numbers': at('rgb_covariance')([[float('nan')] * 3] * 3),
        'colors of two': at('rgb_covariance')([[1, 2], [3, 4]]),
        'colors as text': at('rgb_covariance')('x'),
        'no colors': at('rgb_covariance')(None),
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
