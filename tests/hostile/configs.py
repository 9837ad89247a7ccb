"""Hostile config.json of runs."""

from hostile.ground import NOT_JSON, Place, at, odd_files, of_run

NAN, INF = float('nan'), float('inf')
# What goes; but for these, whose defaults are of another data set, it is as if it said what is default.
MISSING = (
    *('seed', 'network', 'columns', 'precision', 'batch_size', 'data', 'mesh', 'evaluation', 'rate_control', 'epochs'),
    *('data.image_size', 'data.crop_size', 'data.directory', 'data.storage', 'data.threads'),
)
NEEDED = ('network', 'data', 'data.image_size', 'data.crop_size', 'data.directory')
# By field, which the message names: what it must not be.
FIELDS = {
    'batch_size': ('x', None, [4], {}, 1.5, 0, -1, NAN, 10**9, 10**30),
    'columns': ('x', None, 0, -1, 1.5, 3, 10**6, [2], INF),
    'precision': (None, 5, [], 'float64', 'x'),
    'seed': (-1, 2**32, 'x', None, 1.5, NAN),
    'epochs': (0, 'x', None, NAN, -INF),
    'learning_rate': (NAN, INF, -1, 'x', None),
    'momentum': (NAN, 'x'),
    'weight_decay': (-INF, []),
    'network': (None, [], 'x', 5, {}),
    'data': (None, [], 'x', 5),
    'mesh': (None, [], 'x', 5, {'data': 'x', 'column': 1}, {'data': 1.5, 'column': 1}, {'data': None, 'column': 1}),
    'evaluation': (None, 5, {'views': 5}, {'views': 'center'}, {'views': [5]}, {'views': None}),
    'rate_control': (None, 5, []),
    'keep_checkpoints': (0, 'x'),
}
OF_DATA = {
    'image_size': (0, 'x', None, 1.5, NAN, 8, [16]),
    'crop_size': (0, -5, 'x', 17, 1.5, None),
    'directory': ('', 5, None, '/dev/null', 'x' * 5000, '/proc/self', [], 'not-there\x1b[31m'),
    'storage': ('x', None, 5, []),
    'source': ('x', None, 5, '\x1b[31m'),
    'threads': (-1, 'x', None, NAN, 1.5),
    'color_std': (NAN, 'x'),
    'quality': (0, 'x'),
}
SCHEDULES = (
    *([[5]], [5], 'x', 5, [[0, 0.1]], [[1, 'x']], [[2, 0.1], [1, 0.1]], [[1, NAN]], [[INF, 0.1]], [[1, -1]], None),
    [[1.5, 0.1]],
)
# By layer: fields that it gets, or that a new first layer has.
LAYERS = {
    'conv1': (
        *({'kernels': value} for value in (10**9, 10**30, 0, -2, 1.5, '4', None, [4], 3, True)),
        *({'size': value} for value in (10**6, 0, 'x')),
        {'size': 10**6, 'pad': 10**6},
        {'stride': 0},
        *({'pad': value} for value in (10**9, 10**30, -1)),
        *({'std': value} for value in (NAN, -1, 'x')),
        *({'bias': value} for value in (INF, None)),
        *({'type': value} for value in ('x', None, [], 'relu', 'dense', '__class__')),
        {'more': 5},
    ),
    'pool1': (
        *({'size': 10**6}, {'size': 2, 'stride': 3}, {'size': 10**6, 'stride': 10**6}),
        *({'stride': 0}, {'size': 0}),
    ),
    'fc7': (*({'units': value} for value in (10**9, 10**12, 0, NAN, 9)), {'type': 'flatten'}),
    'fc8': (*({'units': value} for value in (10**9, 2, 0)), {'type': 'relu'}),
    'first': (
        {'type': 'dense', 'units': 4},
        {'type': 'flatten'},
        *({'type': 'dropout', 'rate': value} for value in (1, 'x')),
        *({'type': 'local_response_normalization', **more} for more in ({'n': 10**9}, {'n': 0}, {'beta': NAN})),
        {'type': 'exchange', 'x': 1},
        {},
    ),
}
NAMES = ('', '../x', '[red]', '[/]', 'a.b', '\x1b[31m', 'params', 'x' * 10_000, '__init__', 'table', 'columns', 'a/b')
NAMES += ('über',)


def layer(name, fields):
    def change(everything):
        if name in everything['network']:
            everything['network'][name].update(fields)
        else:
            everything['network'] = {name: fields, **everything['network']}

    return change


def renamed(name):
    def change(everything):
        layers = everything['network'].items()
        everything['network'] = {name if one == 'fc7' else one: fields for one, fields in layers}

    return change


def with_lines(*names):
    """More lines after the first."""

    def change(everything):
        first, *rest = everything['network'].items()
        everything['network'] = dict([first, *((name, {'type': 'relu'}) for name in names), *rest])

    return change


def cases():
    def config(name, change, says, either=False):
        return of_run(name, lambda run: Place.edit(run / 'config.json', change), says, either=either)

    for name, content in NOT_JSON.items():
        yield of_run(f'config.json {name}', lambda run, c=content: (run / 'config.json').write_bytes(c), 'config')
    for name, put in odd_files('config.json').items():
        yield of_run(f'config.json is {name}', put, '{place}/run/config.json')
    for field in MISSING:
        says = field.split('.')[-1] if field in NEEDED else None
        yield config(f'config without {field}', at(*field.split('.'))(KeyError), says)
    for field, values in FIELDS.items():
        for value in values:
            yield config(f'config with {field} {value!r}', at(field)(value), field)
    for field, values in OF_DATA.items():
        for value in values:
            says = 'config' if value in ('not-there\x1b[31m', '/proc/self') else field
            yield config(f'config with data.{field} {value!r:.20}', at('data', field)(value), says)
    for value in (10**6, 2**40):
        yield config(f'config with data.threads {value!r}', at('data', 'threads')(value), 'threads', either=True)
    large = {'image_size': 10**6, 'crop_size': 10**6}
    name = 'config with images of a million pixels a side'
    yield config(name, lambda fields: fields['data'].update(large), 'config')
    for value in SCHEDULES:
        change = at('rate_control', 'schedule')(value)
        yield config(f'config with schedule {value!r}', change, 'rate_control.schedule')
    for name, changes in LAYERS.items():
        for fields in changes:
            yield config(f'layer {name} of {fields!r}', layer(name, fields), 'network' if name == 'first' else name)
    for name in NAMES:
        says = 'config' if '.' in name else 'network'
        yield config(f'layer named {name!r:.20}', renamed(name), says)
        yield config(f'line more named {name!r:.20}', with_lines(name), says, either=True)
    yield config('config of 20,000 layers', with_lines(*(f'r{i}' for i in range(20_000))), 'network')
