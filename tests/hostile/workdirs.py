"""Workdirs of runs whose other files are hostile: what they remember of their data, their log; runs for an ensemble."""

import shutil

import numpy as np

from hostile.ground import NESTED, NOT_JSON, PICKLE, Case, Place, at, odd_files, of_run

NAN = float('nan')
# Of data_set/manifest.json.
MANIFESTS = {
    'two classes': lambda fields: fields.update(class_names=['a', 'b'], class_ids=['a', 'b']),
    'two names': at('class_names')(['a', 'b']),
    'a text for classes': at('class_names')('ant'),
    'numbers for classes': at('class_names')([1, 2, 3]),
    'no classes': lambda fields: fields.update(class_names=[], class_ids=[]),
    'images of size 0': at('settings', 'image_size')(0),
    'images of size 10**9': at('settings', 'image_size')(10**9),
    'images of size -16': at('settings', 'image_size')(-16),
    'images of a size in words': at('settings', 'image_size')('16'),
    'colors that are no numbers': at('rgb_covariance')([[NAN] * 3] * 3),
    'colors of two': at('rgb_covariance')([[1, 2], [3, 4]]),
    'colors as text': at('rgb_covariance')('x'),
    'no colors': at('rgb_covariance')(None),
}
# These are fine.
ODD_CLASSES = {'classes with odd names': ['[/]', '\x1b[31mred\x07', 'a\nb\rc']}
ODD_CLASSES |= {'classes that are no text': ['\udcff', 'b', 'c']}
METRICS = {
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
}
METRICS_IN_FIGURES = {
    'without values': b'{"step": 1}\n',
    'with words for values': b'{"step": 1, "epoch": "x", "split": "train", "loss": "y"}\n',
    'with an unknown split': b'{"step": 1, "epoch": 1, "split": 5, "loss": 1}\n',
    'with null for values': b'{"step": 1, "epoch": 1, "split": "train", "loss": null, "top1_error": null}\n',
}
# Of the second run of an ensemble: the file, the change, and what the message names, or None where it is fine.
OTHER = '{place}/here/other'
SECOND_RUN = {
    'another network': ('config.json', at('network', 'fc7', 'units')(16), OTHER),
    'other classes': ('data_set/manifest.json', at('class_ids')(['x', 'y', 'z']), OTHER),
    'a config without a mesh': ('config.json', at('mesh')(KeyError), None),
    'a config of nothing': ('config.json', lambda fields: fields.clear(), 'config'),
    'a config whose data is a list': ('config.json', at('data')([]), 'data'),
    'a damaged mean': ('data_set/manifest.json', at('settings', 'image_size')(9), OTHER),
}


def small_images(run):
    Place.edit(run / 'data_set' / 'manifest.json', at('settings', 'image_size')(8))
    np.save(run / 'data_set' / 'mean_image.npy', np.zeros((8, 8, 3), np.float32))


def cases():
    def remembers(name, change, says='{place}/run/data_set', **more):
        def damage(run):
            Place.edit(run / 'data_set' / 'manifest.json', change)

        return of_run(f'remembers {name}', damage, says, 'predict', **more)

    def written(name, path, content, mode):
        return of_run(name, lambda run: (run / path).write_bytes(content), f'{{place}}/run/{path.split("/")[0]}', mode)

    for name, change in MANIFESTS.items():
        yield remembers(name, change)
    for name, content in list(NOT_JSON.items())[::2]:
        yield written(f'remembers {name}', 'data_set/manifest.json', content, 'predict')
    name = 'remembers images smaller than its patches'
    yield of_run(name, small_images, '{place}/run/data_set', 'predict')
    for name, classes in ODD_CLASSES.items():
        yield remembers(name, at('class_names')(classes), None, as_json=False)
    for name, put in odd_files('data_set').items():
        yield of_run(f'data_set is {name}', put, '{place}/run/data_set', 'predict')
    for name, content in METRICS.items():
        yield written(f'metrics {name}', 'metrics.jsonl', content, 'train')
    for name, content in METRICS_IN_FIGURES.items():
        yield written(f'metrics {name}, in figures', 'metrics.jsonl', content, 'figures')
    for name, put in odd_files('metrics.jsonl').items():
        either = name == 'a link to itself'
        yield of_run(f'metrics.jsonl is {name}', put, '{place}/run/metrics.jsonl', 'train', either)
    for path in ('lock', 'tensorboard', 'eval.json', 'data_set', 'config.json.new'):
        for name in ('a folder', 'a pipe', 'a link to itself'):
            if (path, name) not in (('tensorboard', 'a folder'), ('data_set', 'a folder')):
                mode, put = 'eval' if path == 'eval.json' else 'train', odd_files(path)[name]
                yield of_run(f'{path} is {name}, to be written', put, path.split('.')[0], mode, either=True)


def ensembles():
    def of(name, make_second, says):
        def make(place):
            return {'workdirs': [str(place.base / 'run'), str(make_second(place))]}

        return Case(f'ensemble {name}', 'ensemble', make, (says,) if says else None)

    def changed(path, change):
        def make_second(place):
            other = shutil.copytree(place.base / 'run', place.path / 'here' / 'other')
            Place.edit(other / path, change)
            return other

        return make_second

    yield of('of what is no run', lambda place: place.outside, '{place}/outside')
    yield Case('ensemble of nothing', 'ensemble', lambda place: {'workdirs': ['']}, ('run',))
    secret = 'secret.txt'
    yield Case('ensemble of a file', 'ensemble', lambda place: {'workdirs': [str(place.outside / secret)]}, (secret,))
    yield of('of a run twice', lambda place: place.base / 'run', 'twice')
    for name, (path, change, says) in SECOND_RUN.items():
        yield of(f'with {name}', changed(path, change), says)
