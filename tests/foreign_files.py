"""Files of other software, written from the descriptions of their formats and from nothing of `alexnet_jax`.

A network is a list of layers, channels first as all that software has them: (kind, options, weight, bias).
"""

import io
import struct
import zipfile

import numpy as np

# Protocol buffers.


def varint(value):
    value &= 2**64 - 1
    content = b''
    while value >= 0x80:
        content += bytes([value & 0x7F | 0x80])
        value >>= 7
    return content + bytes([value])


def field(number, value):
    """A field: a whole number, a float of 32 bits, or bytes or text with their length."""
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack('<f', value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else bytes(value)
    return varint(number << 3 | 2) + varint(len(content)) + content


def fields(pairs):
    return b''.join(field(number, value) for number, value in pairs)


def packed(numbers):
    return b''.join(map(varint, numbers))


# Caffe.

CAFFE_TYPES = {'conv': (4, 'Convolution'), 'fc': (14, 'InnerProduct'), 'pool': (17, 'Pooling'), 'lrn': (15, 'LRN')}
CAFFE_TYPES |= {'relu': (18, 'ReLU'), 'dropout': (6, 'Dropout'), 'softmax': (20, 'Softmax'), 'data': (5, 'Data')}
CAFFE_TYPES |= {'tanh': (23, 'TanH')}
CAFFE_GROUPS = {'conv': (10, 106), 'fc': (17, 117), 'pool': (19, 121), 'lrn': (18, 118), 'dropout': (12, 108)}
CAFFE_OPTIONS = {
    'conv': {'kernels': 1, 'pad': 3, 'size': 4, 'group': 5, 'stride': 6},
    'fc': {'units': 1},
    'pool': {'average': 1, 'size': 2, 'stride': 3},
    'lrn': {'n': 1, 'alpha': 2, 'beta': 3, 'within': 4},
    'dropout': {'rate': 1},
}


def caffe_blob(values, old):
    values = np.asarray(values, '<f4')
    if not old:
        return fields([(7, fields([(1, packed(values.shape))])), (5, values.tobytes())])
    shape = (1,) * (4 - values.ndim) + values.shape
    return fields([*((i + 1, n) for i, n in enumerate(shape)), (5, values.tobytes())])


def caffemodel(layers, old, crop_size=None, scale=1.0, mean=()):
    """A .caffemodel of the first version (`old`) or the second; ReLUs and dropouts are in place, as usual."""
    numbers = {'name': 4, 'bottom': 2, 'top': 3, 'blobs': 6} if old else {'name': 1, 'bottom': 3, 'top': 4, 'blobs': 7}
    type_number, layer_number, transform = (5, 2, 36) if old else (2, 100, 100)
    facts = [(1, float(scale))] + [(3, crop_size)] * bool(crop_size) + [(5, float(one)) for one in mean]
    data = [
        (numbers['name'], 'images'),
        (numbers['top'], 'data'),
        (numbers['top'], 'label'),
        (transform, fields(facts)),
    ]
    data.append((type_number, CAFFE_TYPES['data'][0 if old else 1]))
    content, blob = field(1, 'made') + field(layer_number, fields(data)), 'data'
    for place, (kind, options, weight, bias) in enumerate(layers):
        top = blob if kind in ('relu', 'dropout') else f'{kind}{place}'
        one = [(numbers['name'], f'{kind}{place}'), (type_number, CAFFE_TYPES[kind][0 if old else 1])]
        one += [(numbers['bottom'], blob), (numbers['top'], top)]
        if kind in CAFFE_GROUPS:
            known = CAFFE_OPTIONS[kind]
            given = [(known[name], value) for name, value in options.items() if name in known]
            one.append((CAFFE_GROUPS[kind][0 if old else 1], fields(given)))
        one += [(numbers['blobs'], caffe_blob(each, old)) for each in (weight, bias) if each is not None]
        content, blob = content + field(layer_number, fields(one)), top
    return content


# ONNX.


def onnx_tensor(name, values, raw=True):
    values = np.asarray(values)
    if values.dtype == np.float16 and not raw:  # the bits of each in a whole number
        bits = values.view(np.uint16).ravel().tolist()
        return fields([(1, packed(values.shape)), (2, 10), (8, name), (5, packed(bits))])
    kind = {'f': 1, 'i': 7}[values.dtype.kind]
    values = values.astype({1: '<f4', 7: '<i8'}[kind])
    head = [(1, packed(values.shape)), (2, kind), (8, name)]
    return fields([*head, (9, values.tobytes()) if raw or kind == 7 else (4, values.tobytes())])


def onnx_node(kind, inputs, output, **attributes):
    def attribute(name, value):
        if isinstance(value, float):
            return fields([(1, name), (2, value), (20, 1)])
        if isinstance(value, int):
            return fields([(1, name), (3, value), (20, 2)])
        return fields([(1, name), *((8, one) for one in value), (20, 7)])

    pairs = [*((1, one) for one in inputs), (2, output), (3, output), (4, kind)]
    return fields([*pairs, *((5, attribute(*one)) for one in attributes.items())])


def onnx_model(layers, crop_size, before=(), raw=True, kind=np.float32, facts=()):
    """A model; `before` are operators on the image, as in ('Sub', array), `facts` its metadata."""
    nodes, tensors, value = [], [], 'images'
    for place, (what, constant) in enumerate(before):
        tensors.append(onnx_tensor(f'constant{place}', np.float32(constant), raw))
        nodes.append(onnx_node(what, [value, f'constant{place}'], f'image{place}'))
        value = f'image{place}'
    for place, (what, options, weight, bias) in enumerate(layers):
        output = f'{what}{place}'
        arrays = {f'{output}.w': weight, f'{output}.b': bias}
        tensors += [onnx_tensor(name, kind(x), raw) for name, x in arrays.items() if x is not None]
        inputs = [value, *(name for name, x in arrays.items() if x is not None)]
        size, stride, pad = (options.get(name, default) for name, default in (('size', 1), ('stride', 1), ('pad', 0)))
        windows = {'kernel_shape': [size] * 2, 'strides': [stride] * 2, 'pads': options.get('pads', [pad] * 4)}
        match what:
            case 'conv':
                node = onnx_node('Conv', inputs, output, **windows, group=options.get('group', 1))
            case 'fc':
                if layers[place - 1][0] == 'pool':
                    nodes.append(onnx_node('Flatten', [value], f'flat{place}', axis=1))
                    inputs[0] = f'flat{place}'
                node = onnx_node('Gemm', inputs, output, transB=1, alpha=1.0)
            case 'pool':
                name = 'AveragePool' if options.get('average') else 'MaxPool'
                node = onnx_node(name, inputs, output, **windows)
            case 'lrn':
                constants = {'size': options['n'], 'alpha': options['alpha'], 'beta': options['beta'], 'bias': 1.0}
                node = onnx_node('LRN', inputs, output, **constants)
            case 'dropout':
                node = onnx_node('Dropout', inputs, output, ratio=options['rate'])
            case _:
                node = onnx_node({'relu': 'Relu', 'tanh': 'Tanh', 'softmax': 'Softmax'}[what], inputs, output)
        nodes.append(node)
        value = output
    sides = fields([(1, fields([(1, n)])) for n in (1, 3, crop_size, crop_size)])
    images = fields([(1, 'images'), (2, field(1, fields([(1, 1), (2, sides)])))])
    graph = [*((1, node) for node in nodes), (2, 'made'), *((5, tensor) for tensor in tensors), (11, images)]
    model = [(1, 7), (7, fields([*graph, (12, field(1, value))])), (8, fields([(1, ''), (2, 13)]))]
    return fields([*model, *((14, fields([(1, name), (2, text)])) for name, text in facts)])


# Pickles of protocol 2, as Python 2 and PyTorch write them.


class Global:
    """The name of a function or class."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    """What a function gives for arguments."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments


class Stored:
    """An object that stands elsewhere, by its persistent id."""

    def __init__(self, *identity):
        self.identity = identity


class OldInstance:
    """An object of a class of Python 2, as of the authors' options."""

    def __init__(self, kind, state):
        self.kind, self.state = kind, state


def pickled(value):
    """A pickle of protocol 2; texts are those of Python 2, bytes."""
    return b'\x80\x02' + _pickled(value) + b'.'


def _pickled(value):
    match value:
        case None | True | False:
            return {None: b'N', True: b'\x88', False: b'\x89'}[value]
        case int():
            size = (value.bit_length() + 8) // 8
            return (
                b'J' + struct.pack('<i', value)
                if abs(value) < 2**31
                else b'\x8a' + bytes([size]) + value.to_bytes(size, 'little')
            )
        case float():
            return b'G' + struct.pack('>d', value)
        case str():
            return _pickled(value.encode())
        case bytes():
            return b'T' + struct.pack('<i', len(value)) + value
        case tuple():
            return b'(' + b''.join(map(_pickled, value)) + b't'
        case list():
            return b'](' + b''.join(map(_pickled, value)) + b'e'
        case dict():
            return b'}(' + b''.join(_pickled(one) for pair in value.items() for one in pair) + b'u'
        case Global():
            return f'c{value.module}\n{value.name}\n'.encode()
        case Call():
            return _pickled(value.function) + _pickled(value.arguments) + b'R'
        case Stored():
            return _pickled(value.identity) + b'Q'
        case OldInstance():
            return b'(' + _pickled(value.kind) + b'o' + _pickled(value.state) + b'b'
        case np.ndarray():
            empty = Call(Global('numpy.core.multiarray', '_reconstruct'), Global('numpy', 'ndarray'), (0,), b'b')
            kind = _pickled(Call(Global('numpy', 'dtype'), value.dtype.str[1:], 0, 1))
            kind += _pickled((3, '<', None, None, None, -1, -1, 0)) + b'b'
            fortran = value.flags.f_contiguous and not value.flags.c_contiguous
            content = value.tobytes(order='F' if fortran else 'C')
            state = b'(' + _pickled(1) + _pickled(value.shape) + kind + _pickled(fortran) + _pickled(content) + b't'
            return _pickled(empty) + state + b'b'
    raise TypeError(type(value))


# PyTorch.


def _torch_state(arrays, view):
    """The pickled state dict of arrays, each with a storage of its own."""
    tensors = {}
    for place, (name, x) in enumerate(arrays.items()):
        storage = Stored('storage', Global('torch', 'FloatStorage'), str(place), 'cpu', x.size, *view)
        strides = tuple(stride // x.itemsize for stride in np.ascontiguousarray(x).strides)
        ordered = Call(Global('collections', 'OrderedDict'))
        rebuild = Global('torch._utils', '_rebuild_tensor_v2')
        tensors[name] = Call(rebuild, storage, 0, x.shape, strides, False, ordered)
    body = b'}(' + b''.join(_pickled(one) for pair in tensors.items() for one in pair) + b'u'
    # An ordered dict: called without arguments, filled, and given attributes.
    ordered = _pickled(Call(Global('collections', 'OrderedDict')))
    return b'\x80\x02' + ordered + body[1:] + _pickled({'_metadata': {}}) + b'b.'


def torch_zip(arrays, compress=False, beside=None, within='state_dict'):
    """A state dict in the form that torch.save has had since 2020; or a dict of it and of what is saved beside it."""
    content, pickle = io.BytesIO(), _torch_state(arrays, ())
    if beside is not None:
        items = b''.join(_pickled(one) for pair in beside.items() for one in pair)
        pickle = b'\x80\x02}(' + _pickled(within) + pickle[2:-1] + items + b'u.'
    with zipfile.ZipFile(content, 'w', zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        archive.writestr('archive/data.pkl', pickle)
        archive.writestr('archive/byteorder', 'little')
        for place, x in enumerate(arrays.values()):
            archive.writestr(f'archive/data/{place}', np.ascontiguousarray(x, '<f4').tobytes())
        archive.writestr('archive/version', '3\n')
    return content.getvalue()


def torch_legacy(arrays):
    """A state dict in the form that torch.save had before: pickles, and then the numbers."""
    system = {'protocol_version': 1001, 'little_endian': True, 'type_sizes': {'short': 2, 'int': 4, 'long': 4}}
    parts = [pickled(0x1950A86A20F9469CFC6C), pickled(1001), pickled(system), _torch_state(arrays, (None,))]
    parts.append(pickled([str(place) for place in range(len(arrays))]))
    for x in arrays.values():
        parts.append(struct.pack('<q', x.size) + np.ascontiguousarray(x, '<f4').tobytes())
    return b''.join(parts)


# cuda-convnet.


def cuda_convnet(layers, crop_size, suffixes=('a', 'b'), reverse=''):
    """A checkpoint of 2012 of two columns: a dict for each layer of each, the ReLUs apart from what they follow.

    Layers without 'group' or `dense` inputs see their own column; `reverse` names one whose column b lists its inputs
    the other way round.
    """
    found = {'data': {'name': 'data', 'type': 'data', 'outputs': 3 * crop_size**2}}
    found['labels'] = {'name': 'labels', 'type': 'data', 'outputs': 1}
    front, first = ['data'], True
    for place, (kind, options, weight, bias) in enumerate(layers):
        last = kind == 'fc' and not any(one[0] == 'fc' for one in layers[place + 1 :])
        names = [f'{kind}{place}{suffix}' for suffix in suffixes]
        names = [f'{kind}{place}'] if last or kind == 'softmax' else names
        for column, name in enumerate(names):
            own = first or (options.get('group', 1) == 1 and kind in ('conv', 'fc', 'softmax'))
            inputs = list(front) if own else [front[column]]
            if name == reverse:
                inputs.reverse()
            one = {'name': name, 'type': kind, 'inputs': inputs}
            if weight is not None:
                rows = np.split(weight, len(names))[column]
                count = len(inputs)
                parts = np.split(rows, count, axis=1)
                parts = parts if inputs == list(front) or not own else parts[::-1]
                one['biases'] = np.split(np.float32(bias), len(names))[column].reshape(-1, 1)
                if kind == 'conv':
                    one['weights'] = [np.float32(p.reshape(len(p), -1).T.copy()) for p in parts]
                    one |= {
                        'filters': [len(rows)] * count,
                        'filterSize': [options['size']] * count,
                        'groups': [1] * count,
                    }
                    one |= {'stride': [options.get('stride', 1)] * count, 'padding': [-options.get('pad', 0)] * count}
                    one |= {'channels': [p.shape[1] for p in parts], 'sharedBiases': True}
                else:
                    one['weights'] = [np.asfortranarray(np.float32(p.T)) for p in parts]
                    one |= {'outputs': len(rows), 'biases': one['biases'].T}
            elif kind == 'pool':
                one |= {'pool': 'max', 'sizeX': options['size'], 'stride': options['stride'], 'start': 0}
            elif kind == 'lrn':
                scale = options['alpha'] / options['n']
                one |= {'type': 'cmrnorm', 'size': options['n'], 'scale': scale, 'pow': options['beta'], 'minDiv': 2.0}
            elif kind == 'relu':
                one |= {'type': 'neuron', 'neuron': {'type': 'relu', 'params': {}}}
            elif kind == 'dropout':
                one |= {'type': 'hs', 'keep': 1 - options['rate'], 'enable': True}
            found[name] = one
        front, first = names, False
    found['cost'] = {'name': 'cost', 'type': 'cost.logreg', 'inputs': ['labels', front[0]]}
    shuffled = dict(sorted(found.items(), key=lambda pair: pair[0][::-1]))  # dicts of Python 2 have no order
    state = {'layers': shuffled, 'epoch': 90, 'batchnum': 7, 'train_outputs': [({'cost': [1.5, 0.25]}, 128)] * 3}
    options = OldInstance(
        Global('options', 'OptionsParser'), {'options': {'gpu': Global('options', 'IntegerOptionParser')}}
    )
    return pickled({'model_state': state, 'op': options})


# Networks to write.

CROP, CLASSES = 35, 5


def draw(generator, *shape, scale=None):
    scale = 1.5 / np.sqrt(np.prod(shape[1:])) if scale is None else scale
    return np.float32(scale * generator.standard_normal(shape))


def small_network(first=0.05, kinds=('relu', 'lrn', 'pool'), flat=2):
    """Maps of 16, 8, 4 and 2 pixels where pooling rounds up, 7, 3 and 1 (`flat`) where not; conv2 in two groups."""
    generator = np.random.default_rng(0)
    after = {
        'relu': ('relu', {}, None, None),
        'lrn': ('lrn', {'n': 5, 'alpha': 0.05, 'beta': 0.75}, None, None),
        'pool': ('pool', {'size': 3, 'stride': 2}, None, None),
    }
    conv = {'size': 5, 'stride': 2, 'kernels': 8}
    return [
        ('conv', conv, draw(generator, 8, 3, 5, 5, scale=first), draw(generator, 8, scale=0.3)),
        *(after[kind] for kind in kinds),
        ('conv', {'size': 3, 'pad': 1, 'kernels': 12, 'group': 2}, draw(generator, 12, 4, 3, 3), draw(generator, 12)),
        *(after[kind] for kind in kinds),
        ('conv', {'size': 3, 'pad': 1, 'kernels': 8}, draw(generator, 8, 12, 3, 3), draw(generator, 8)),
        after['relu'],
        # A pooling right before the first dense layer, as in AlexNet.
        ('pool', {'size': 2, 'stride': 2}, None, None),
        ('fc', {'units': 16}, draw(generator, 16, 8 * flat**2), draw(generator, 16)),
        after['relu'],
        ('dropout', {'rate': 0.5}, None, None),
        ('fc', {'units': 12}, draw(generator, 12, 16), draw(generator, 12)),
        after['relu'],
        ('dropout', {'rate': 0.25}, None, None),
        ('fc', {'units': CLASSES}, draw(generator, CLASSES, 12), draw(generator, CLASSES)),
        ('softmax', {}, None, None),
    ]


def torchvision_arrays(classes=CLASSES):
    """A state dict of torchvision's AlexNet, an eighth as wide."""
    generator = np.random.default_rng(5)
    names = ('features.0', 'features.3', 'features.6', 'features.8', 'features.10')
    names += ('classifier.1', 'classifier.4', 'classifier.6')
    shapes = ((8, 3, 11, 11), (24, 8, 5, 5), (48, 24, 3, 3), (32, 48, 3, 3), (32, 32, 3, 3))
    shapes += ((64, 32 * 36), (64, 64), (classes, 64))
    arrays = {}
    for name, shape in zip(names, shapes, strict=True):
        arrays |= {f'{name}.weight': draw(generator, *shape), f'{name}.bias': draw(generator, shape[0], scale=0.3)}
    return arrays
