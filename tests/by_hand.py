"""Predictions of a trained run for the validation images: views cut out in NumPy, no mesh."""

import functools

import jax
import numpy as np
from configs import typed

from alexnet_jax.data.dataset import open_prepared
from alexnet_jax.data.pipeline import evaluation_batches
from alexnet_jax.model.alexnet import AlexNet
from alexnet_jax.model.columns import Columns
from alexnet_jax.runs.trained import open_run
from alexnet_jax.runs.workdir import read_config


@functools.cache
def probabilities(workdir, mean_patch='matching'):
    """By kind of view float64 [images, classes], 'ten' without mirror images as digits have none; and the labels."""
    config = read_config(workdir)
    run = open_run(typed(config), str(workdir), 'newest', print)
    network = AlexNet(run.experiment.config.network, Columns(2, 2))
    softmax = jax.jit(lambda x: jax.nn.softmax(network.apply({'params': run.parameters}, x)))
    data = open_prepared(config.data.directory)
    images, labels, crop = [], [], config.data.crop_size
    for batch in evaluation_batches(data, 'validation', batch_size=60):
        images.append(batch['image'])
        labels.append(batch['label'])
    images, far = np.concatenate(images).astype(np.float32), data.image_size - crop
    mean, center = data.mean_image(), data.mean_image()[far // 2 :, far // 2 :][:crop, :crop]
    views = []
    for top, left in [(far // 2, far // 2), (0, 0), (0, far), (far, 0), (far, far)]:
        patch = images[:, top : top + crop, left : left + crop]
        own = mean[top : top + crop, left : left + crop]
        views += [patch - own, (patch - own)[:, :, ::-1]]
        if mean_patch == 'center':
            views[-2:] = patch - center, patch[:, :, ::-1] - center
    each = np.stack([np.asarray(softmax(patch), np.float64) for patch in views])
    found = {'center': each[0], 'ten': each[::2].mean(axis=0), 'ten, mirrored': each.mean(axis=0)}
    return found, np.concatenate(labels)


def errors(probabilities, labels):
    """Loss and errors, by sorting."""
    order = np.argsort(-probabilities, axis=1, kind='stable')
    found = {f'top{k}_error': 1 - (order[:, :k] == labels[:, None]).any(axis=1).mean() for k in (1, 5)}
    return found | {'loss': -np.log(probabilities[np.arange(len(labels)), labels]).mean()}
