"""Files of trained networks that are damaged, lie about lengths and shapes, or call functions."""

import functools
import io
import struct
import zipfile

import foreign_files as made
import numpy as np
import safetensors.numpy

from hostile.ground import NESTED, PICKLE, Case

VARINT = b'\xff' * 9 + b'\x01'  # 2**64 - 1


@functools.cache
def caffe(old=False):
    return made.caffemodel(made.small_network(), old, crop_size=made.CROP, mean=(104.0, 117.0, 123.0))


@functools.cache
def onnx():
    return made.onnx_model(made.small_network(flat=1), made.CROP, [('Sub', np.full((3, 1, 1), 110.0))])


@functools.cache
def torch(form='zip'):
    return {'zip': made.torch_zip, 'old': made.torch_legacy, 'st': safetensors.numpy.save}[form](arrays())


def arrays():
    return made.torchvision_arrays()


@functools.cache
def authors():
    layers = made.small_network()
    layers[-2] = ('fc', {'units': 6}, *(np.concatenate([x, x[:1]]) for x in layers[-2][2:]))
    return made.cuda_convnet(layers, made.CROP)


def changed(**changes):
    """torchvision's arrays with others; None for none."""
    found = {name.replace('__', '.'): x for name, x in changes.items()}
    return {name: x for name, x in (arrays() | found).items() if x is not None}


def layer(kind, **options):
    """A Caffe network whose first layer has other options."""
    layers = made.small_network()
    layers[0] = (kind, layers[0][1] | options, *layers[0][2:])
    return made.caffemodel(layers, old=False, crop_size=made.CROP, mean=(1.0, 2.0, 3.0))


def blob(shape, values=b'\0' * 40):
    """A Caffe network whose first weight is of this shape."""
    one = made.fields([(7, made.fields([(1, made.packed(shape))])), (5, values)])
    conv = made.fields([(1, 9), (4, 5)])
    return made.field(
        100, made.fields([(1, 'conv1'), (2, 'Convolution'), (3, 'data'), (4, 'c'), (7, one), (106, conv)])
    )


def zipped(member, content, packed=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', packed) as archive:
        archive.writestr(member, content)
    return file.getvalue()


def called(function, *arguments):
    """A zip of PyTorch with a call in the place of a state dict."""
    return zipped('archive/data.pkl', made.pickled({'x': made.Call(function, *arguments)}))


def tensor(shape, strides, kind='FloatStorage', count=4):
    """A zip of PyTorch with one array."""
    storage = made.Stored('storage', made.Global('torch', kind), '0', 'cpu', count)
    rebuild = made.Global('torch._utils', '_rebuild_tensor_v2')
    one = made.Call(rebuild, storage, 0, shape, strides, False, None)
    file = io.BytesIO(zipped('archive/data.pkl', made.pickled({'features.0.weight': one, 'classifier.1.weight': one})))
    with zipfile.ZipFile(file, 'a') as archive:
        archive.writestr('archive/data/0', bytes(16))
    return file.getvalue()


def constant_of(shape):
    """An ONNX model whose weights are a constant of this shape."""
    nodes = [made.onnx_node('ConstantOfShape', ['s'], 'w'), made.onnx_node('Conv', ['images', 'w'], 'c')]
    sides = made.fields([(1, made.fields([(1, n)])) for n in (1, 3, 35, 35)])
    images = made.fields([(1, 'images'), (2, made.field(1, made.fields([(1, 1), (2, sides)])))])
    graph = [*((1, node) for node in nodes), (5, made.onnx_tensor('s', np.array(shape))), (11, images)]
    return made.fields([(1, 7), (7, made.fields(graph)), (8, made.fields([(2, 13)]))])


def header(text):
    return struct.pack('<Q', len(text)) + text


SYSTEM = made.Global('os', 'system')
TOUCH = 'touch ../outside/written outside/written'


def nested(times=200):
    """A list that holds the one before twice: small, and without end where it is written out."""
    content = b']q\0'
    for number in range(1, times + 1):
        content = b']q%c(%sh%ce' % (number, content, number - 1)
    return content


def with_nested(field):
    """A checkpoint of 2012 in which a layer's field, of the value 3, is such a list."""
    name = made.pickled(field)[2:-1]
    return authors().replace(name + made.pickled(3)[2:-1], name + nested())


def storage_with_nested():
    """A zip of PyTorch with a storage of so many numbers."""
    parts = ('storage', made.Global('torch', 'FloatStorage'), '0', 'cpu')
    identity = b'(' + b''.join(made.pickled(one)[2:-1] for one in parts) + nested() + b't'
    return zipped('archive/data.pkl', b'\x80\x02' + identity + b'Q.')


def npy(kind, count):
    """The header of a NumPy file."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({count},), }}".ljust(117) + '\n'
    return b'\x93NUMPY\x01\x00' + struct.pack('<H', len(text)) + text.encode()


def saved(array):
    """A whole NumPy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


REBUILD = made.Global('torch._utils', '_rebuild_tensor_v2')
FILES = {
    'empty': b'',
    'a word': b'weights',
    'garbage': b'garbage' * 9999,
    'zeros': bytes(99999),
    'of 0xff': b'\xff' * 99999,
    'a web page': b'<html>please log in</html>' * 99,
    'JSON': NESTED,
    'a pickle that runs a program': PICKLE,
    'a pickle of protocol 2 that runs a program': made.pickled({'model_state': made.Call(SYSTEM, TOUCH)}),
    'a pickle of a list': made.pickled([1, 2, 3]),
    'a pickle without layers': made.pickled({'model_state': {}}),
    'a pickle of layers that are numbers': made.pickled({'model_state': {'layers': [1, 2]}}),
    'a pickle of a layer in itself': b'\x80\x02}T\x0b\0\0\0model_state}q\1T\6\0\0\0layersh\1ss.',
    'a pickle of 5 million instructions': b'\x80\x02' + b'NN' * 2_500_000 + b'.',
    'a .npy': b'\x93NUMPY\x01\x00' + bytes(100),
    'an empty zip': zipped('x', b''),
    'a zip with a pickle that runs a program': zipped('archive/data.pkl', PICKLE),
    'a zip with a call': called(SYSTEM, TOUCH),
    'a zip with a call of eval': called(made.Global('builtins', 'eval'), '1'),
    'a zip that calls a storage': called(made.Global('torch', 'FloatStorage'), 2**40),
    'a zip that rebuilds without a storage': called(
        made.Global('torch._utils', '_rebuild_tensor_v2'), 1, 0, (2,), (1,)
    ),
    'a zip with too few arguments': called(REBUILD),
    'a zip with a name that is a number': called(made.Global('collections', 'OrderedDict'), [(1, 2)]),
    'a zip of a model': called(made.Global('torchvision.models.alexnet', 'AlexNet')),
    'a zip of 600 MB of zeros': lambda: zipped('data', bytes(600 << 20)),
    'a zip with a pickle of 100 MB': lambda: zipped('archive/data.pkl', bytes(100 << 20)),
    'a zip with a huge tensor': tensor((2**40,), (1,)),
    'a zip with a tensor that repeats its number': tensor((2**20, 2**20), (0, 0)),
    'a zip with a tensor past its end': tensor((2, 2), (3, 1)),
    'a zip with a tensor of negative strides': tensor((2, 2), (-2, 1)),
    'a zip with a tensor of complex numbers': tensor((2, 2), (2, 1), kind='ComplexFloatStorage'),
    'a zip with a storage of 2**62 numbers': tensor((2, 2), (2, 1), count=2**62),
    'a zip with a storage of 100 million numbers': tensor((2, 2), (2, 1), count=10**8),
    'a state dict without conv5': lambda: made.torch_zip(changed(features__10__weight=None)),
    'a state dict of another network': lambda: made.torch_zip(changed(features__12__weight=np.zeros(3, np.float32))),
    'a state dict with another conv2': lambda: made.torch_zip(changed(features__3__weight=np.zeros((24, 8, 3, 3)))),
    'a state dict with NaN': lambda: made.torch_zip(changed(features__0__bias=np.full(8, np.nan))),
    'safetensors of a huge header': struct.pack('<Q', 2**26) + b'{"a":' * 999,
    'safetensors of a list': header(b'[1]'),
    'safetensors that is cut': lambda: torch('st')[:-100],
    'safetensors of other arrays': safetensors.numpy.save({'a': np.zeros(3, np.float32)}),
    'safetensors that overlap': header(
        b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'
    )
    + bytes(16),
    'our own without a config beside it': safetensors.numpy.save(
        {'conv1.kernel': np.zeros(3, np.float32)}, {'format': 'alexnet_jax'}
    ),
    'a message of a length of 2**64': b'\x12' + VARINT + b'x',
    'a message of groups': b'\x0b' * 999,
    'messages of messages': functools.reduce(lambda content, _: made.field(100, content), range(500), b''),
    'a million fields': b'\x08\x01' * 1_100_000,
    'V0 of Caffe': made.field(2, made.field(1, made.field(1, 'conv1'))),
    'a Caffe network without layers': made.field(1, 'empty'),
    'a Caffe network of no weights': made.field(100, made.fields([(1, 'r'), (2, 'ReLU'), (3, 'data'), (4, 'r')])),
    'a Caffe network with an Eltwise layer': lambda: caffe().replace(b'Dropout', b'Eltwise'),
    'a Caffe weight of a huge shape': blob((2**31, 2**31, 3, 3)),
    'a Caffe weight of a negative shape': blob((2**64 - 1, 3, 5, 5)),
    'a Caffe weight of too many dimensions': blob((1,) * 99),
    'a Caffe weight without numbers': blob((9, 3, 5, 5), b''),
    'a Caffe weight of half a number': blob((9, 3, 5, 5), bytes(99)),
    'Caffe windows of size 0': lambda: layer('conv', size=0),
    'Caffe windows 0 apart': lambda: layer('conv', stride=0),
    'Caffe padding of 2**40': lambda: layer('conv', pad=2**40),
    'Caffe kernels of 2**40': lambda: layer('conv', kernels=2**40),
    'Caffe in 0 groups': lambda: layer('conv', group=0),
    'Caffe in 2**40 groups': lambda: layer('conv', group=2**40),
    'an ONNX constant of 10**18': constant_of((10**9, 10**9)),
    'an ONNX constant of a negative shape': constant_of((-3, 3, 5, 5)),
    'an ONNX weight of 140 million zeros': constant_of((140_000_000 // 75, 3, 5, 5)),
    'an ONNX operator that is unknown': lambda: onnx().replace(b'Relu', b'Exp2'),
    'an ONNX graph in a circle': lambda: onnx().replace(b'relu1', b'relu9'),
    'a checkpoint of other layers': lambda: authors().replace(b'cmrnorm', b'unknown'),
    'a checkpoint of a negative size': lambda: authors().replace(
        b'T\x05\0\0\0sizeXJ\x03\0\0\0', b'T\x05\0\0\0sizeXJ\xff\xff\xff\xff'
    ),
}
FILES |= {
    'a checkpoint with an endless size': lambda: with_nested('sizeX'),
    'a checkpoint whose name is a list': made.pickled({'model_state': {'layers': [{'name': [1], 'type': 'data'}]}}),
    'a zip with an endless count': storage_with_nested,
    'a zip of an unknown compression': zipped('archive/data.pkl', b'x' * 99, zipfile.ZIP_BZIP2),
    'PyTorch of before 2020 without keys': lambda: torch('old')[: torch('old').index(b'_metadata') + 18] + b'K\1.',
}
WHOLE = {
    'Caffe V1': lambda: caffe(True),
    'Caffe V2': caffe,
    'ONNX': onnx,
    'a zip of PyTorch': torch,
    'PyTorch of before 2020': lambda: torch('old'),
    'safetensors': lambda: torch('st'),
    'a checkpoint of 2012': authors,
}
MEANS = {
    'empty': b'',
    'garbage': b'garbage' * 99,
    'a .npy of objects': npy('|O', 1) + PICKLE,
    'a .npy of a huge shape': npy('<f4', 10**11),
    'a .npy of texts': npy('|S4', 3) + bytes(12),
    'a .npy of no pixels': saved(np.zeros((3, 0, 0))),
    'a pickle that runs a program': PICKLE,
    'batches.meta without a mean': made.pickled({'label_names': ['a']}),
    'batches.meta that calls': made.pickled({'data_mean': made.Call(SYSTEM, TOUCH)}),
    'a .binaryproto of a huge shape': made.fields([(2, 3), (3, 2**31), (4, 2**31), (5, bytes(12))]),
}


def _case(name, content, says, either=False, **options):
    def make(place):
        file = place.images / 'weights'
        file.write_bytes(content() if callable(content) else content)
        given = {flag: _option(place, flag, value) for flag, value in options.items()}
        return {'weights': str(file), 'mean': '0', 'channels': 'rgb'} | given

    return Case(name, 'import', make, says, either)


def _option(place, flag, value):
    if not isinstance(value, bytes):
        return value
    (place.images / flag).write_bytes(value)
    return str(place.images / flag)


def _cut(content, part):
    whole = content()
    return whole[: int(part * len(whole))]


def _flipped(content, seed):
    """With a few bytes changed, somewhere in the first tenth, where formats have their structure, or anywhere."""
    generator, content = np.random.default_rng(seed), bytearray(content())
    most = len(content) if seed % 2 else max(1, len(content) // 10)
    for place in generator.integers(0, most, 3):
        content[place] = generator.integers(0, 256)
    return bytes(content)


def cases():
    for what, content in FILES.items():
        yield _case(f'weights, {what}', content, ('weights',))
    for what, content in WHOLE.items():
        own = {'channels': None} if what != 'ONNX' else {}
        own |= {'mean': None} if 'PyTorch' in what or what in ('safetensors', 'ONNX') else {}
        for part in (0.1, 0.5, 0.999):
            yield _case(f'weights, {what}, cut at {part}', functools.partial(_cut, content, part), ('weights',), **own)
        for seed in range(6):
            damaged = functools.partial(_flipped, content, seed)
            yield _case(f'weights, {what}, damaged {seed}', damaged, ('weights',), True, **own)
        yield _case(f'weights, {what}, whole', content, None, **own)
    for what, content in MEANS.items():
        yield _case(f'a mean, {what}', caffe, ('mean',), mean=content)
    for what, content in {'binary': bytes(range(256)), 'too few': b'a\nb\n', 'empty': b''}.items():
        yield _case(f'class names, {what}', caffe, ('class_names',), class_names=content)
