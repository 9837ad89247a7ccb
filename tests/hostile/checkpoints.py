"""Damaged and hostile checkpoints of runs."""

import json
import os
import shutil
import zlib

from hostile.ground import NESTED, PICKLE, Place, at, odd_files, of_run

NEWEST = 'checkpoints/6'
FILES = (
    '_CHECKPOINT_METADATA',
    'metrics/metrics',
    'progress/metadata',
    'state/_METADATA',
    'state/_sharding',
    'state/array_metadatas/process_0',
    'state/manifest.ocdbt',
    'state/ocdbt.process_0/manifest.ocdbt',
    'state/d/*',
)
# Every other one of the files and of these.
CONTENTS = {
    'emptied': b'',
    'garbage': b'garbage' * 40,
    'a pickle': PICKLE,
    'nested': NESTED,
    'cut': lambda content: content[: len(content) // 2],
    'gone': None,
    'a folder': 'a folder',
    'an object': b'{"a": 1}',
}
STEPS = (
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
)
# By field of the progress: what it becomes, with a sum that is right.
PROGRESS = (
    *((('step',), value) for value in ('x', None, [1], 10**30, 6.5, -5, KeyError)),
    *((('epoch',), value) for value in ('x', None)),
    *((('control',), value) for value in ({}, [])),
    (('control', 'more'), 5),
    *((('control', 'learning_rate'), value) for value in ('x', float('nan'))),
    *((('control', 'best_error'), value) for value in (None, 'x')),
    (('control', 'drops'), []),
    *((('window',), value) for value in (5, {'steps': 'x'})),
    *((('marks',), value) for value in ([], {'more': 5}, None)),
    (('more',), 5),
)


def replaced(pattern, content):
    """The files of a pattern get other content, or what their own becomes; or go, or are folders."""

    def damage(run):
        for path in list((run / NEWEST).glob(pattern)):
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif callable(content):
                path.write_bytes(content(path.read_bytes()))
            else:
                path.unlink()
                if content == 'a folder':
                    path.mkdir()

    return damage


def edited(path, change):
    return lambda run: Place.edit(run / NEWEST / path, change)


def of_kernel(*path):
    return at('tree_metadata', "('parameters', 'fc7', 'kernel')", *path)


def gone(part):
    return lambda run: shutil.rmtree(run / NEWEST / part)


def of_step_3(part):
    def damage(run):
        shutil.rmtree(run / NEWEST / part)
        shutil.copytree(run / 'checkpoints' / '3' / part, run / NEWEST / part)

    return damage


def link_out(part, name):
    """It lies elsewhere, and a link leads there."""

    def damage(run):
        path = run / NEWEST / part
        path.rename(run.parent / 'outside' / name)
        path.symlink_to(os.path.relpath(run.parent / 'outside' / name, path.parent))

    return damage


def in_place_of(part, put):
    def damage(run):
        path = run / NEWEST / part
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        put(path)

    return damage


STATE, METADATA = 'state/_METADATA', '_CHECKPOINT_METADATA'
CODE = "__import__('os').system('touch outside/written')"
DAMAGES = {
    'shapes of 10**9': edited(STATE, of_kernel('value_metadata', 'write_shape')([10**9] * 3)),
    'an unknown value': edited(STATE, of_kernel('value_metadata', 'value_type')('os.system')),
    'an unknown key': edited(STATE, of_kernel('key_metadata')([{'key': 'x', 'key_type': 99}])),
    'no tree': edited(STATE, at('tree_metadata')({})),
    'a key that is code': edited(STATE, at('tree_metadata', CODE)({})),
    'a handler that is code': edited(METADATA, at('item_handlers', 'state')('os.system')),
    'handlers that are a list': edited(METADATA, at('item_handlers')([])),
    'a class of its own': edited(STATE, at('custom_metadata')({'__class__': 'os.system'})),
    'the state of another step': of_step_3('state'),
    'the progress of another step': of_step_3('progress'),
    'no state': gone('state'),
    'no progress': gone('progress'),
    'no metrics': gone('metrics'),
    'no sign of success': lambda run: [path.unlink() for path in (run / NEWEST).rglob('commit_success.txt')],
    'nothing in it': in_place_of('', os.mkdir),
    'a link out in place of it': link_out('', '6'),
    'a link out in place of its state': link_out('state', 'state'),
    'a link to itself in place of it': in_place_of('', lambda path: path.symlink_to('6')),
    'a file in place of it': in_place_of('', lambda path: path.write_bytes(PICKLE)),
    'a pipe in place of its progress': in_place_of('progress/metadata', os.mkfifo),
    'a pipe in place of its metrics': in_place_of('metrics/metrics', os.mkfifo),
    'an error that is infinite': replaced('metrics/metrics', b'{"top1_error": 1e999}'),
    'an error that is a text': replaced('metrics/metrics', b'{"top1_error": "x"}'),
    'errors that are a list': replaced('metrics/metrics', b'[]'),
    'an error of 5,000 digits': replaced('metrics/metrics', b'{"top1_error": ' + b'9' * 4000 + b'}'),
}
IN_TRAINING = ('nothing in it', 'a file in place of it', 'a link to itself in place of it', 'no tree')
IN_TRAINING += ('an error of 5,000 digits',)


def odd_step(name, copied):
    def damage(run):
        if copied:
            shutil.copytree(run / NEWEST, run / 'checkpoints' / name)
        else:
            (run / 'checkpoints' / name).mkdir()

    return damage


def with_progress(change):
    def damage(run):
        path = run / NEWEST / 'progress' / 'metadata'
        fields = json.loads(path.read_text())
        del fields['crc32']
        change(fields)
        fields['crc32'] = zlib.crc32(json.dumps(fields, sort_keys=True).encode())
        path.write_text(json.dumps(fields))

    return damage


def cases():
    where = '{place}/run/checkpoints'
    for number, pattern in enumerate(FILES):
        for name, content in list(CONTENTS.items())[number % 2 :: 2]:
            which = 'newest' if name in ('garbage', 'gone') else '6'
            yield of_run(f'checkpoint, {pattern} {name}', replaced(pattern, content), where, either=True, which=which)
    for name, damage in DAMAGES.items():
        more = {'which': '6'} if len(name) % 2 else {}
        how = more.get('which', 'newest')
        yield of_run(f'checkpoint with {name}, {how}', damage, where, either=True, **more)
        if name in IN_TRAINING:
            yield of_run(f'checkpoint with {name}, training', damage, where, 'train', either=True)
    for name in STEPS:
        copied = name in ('007', '-5')
        what = f'checkpoint named {name!r}, {"copied" if copied else "empty"}'
        yield of_run(what, odd_step(name, copied), 'checkpoint', either=True)
    for name, put in odd_files('checkpoints').items():
        yield of_run(f'checkpoints is {name}', put, where)
    for path, value in PROGRESS:
        name, damage = f'progress with {".".join(path)} {value!r}', with_progress(at(*path)(value))
        if path in (('step',), ('marks',)):
            yield of_run(name, damage, where, which='6')
        else:
            yield of_run(name, damage, where, 'train', either=True)
