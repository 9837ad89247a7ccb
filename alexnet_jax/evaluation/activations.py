"""Activations of any layer for a batch of images (section 6.1), gathered from all columns and devices."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh

from alexnet_jax.data.augment import Statistics, view
from alexnet_jax.data.device_feed import Batch
from alexnet_jax.evaluation.predictor import gather_examples
from alexnet_jax.model.alexnet import AlexNet, classes_of
from alexnet_jax.model.columns import COLUMN, EVERYWHERE, PER_COLUMN, PER_EXAMPLE
from alexnet_jax.model.layer_specs import Exchange, Learned, ReLU, Table, Tanh, check_layer

FeatureStep = Callable[[Any, Batch, Statistics], Array]


def activation_of(table: Table, layer: str) -> str:
    """The layer of a table whose output is meant by a name.

    For a layer with weights it is the ReLU or tanh right after it, if there is one: 'fc7' means "the feature
    activations induced by an image at the last, 4096-dimensional hidden layer".

    Raises:
      UserError: the table has no such layer.
    """
    check_layer(table, layer)
    index = [name for name, _ in table].index(layer)
    following, spec = table[index + 1] if index + 1 < len(table) else ('', None)
    return following if isinstance(table[index][1], Learned) and isinstance(spec, ReLU | Tanh) else layer


def make_feature_step(network: AlexNet, mesh: Mesh, *, layer: str, crop_size: int) -> FeatureStep:
    """Builds the jitted computation of a layer's output for one batch; no later layer is computed.

    Args:
      network: with the columns as they live on a device of the mesh.
      mesh: of axes 'data' and 'column'.
      layer: of the network's table.
      crop_size: height and width of the central view, in pixels.

    Returns:
      A function of (parameters, batch with its 'image', statistics) that returns, on every device, float16
      [batch, values]. A map is flattened by height, width, channel, column 1's channels before column 2's at each
      place; a vector has column 1's values before column 2's, also after a flatten layer. Of an exchange it is what
      each column receives, of the last layer the logits.
    """
    columns, layers = network.split, dict(network.table)

    def on_device(parameters: Any, batch: Batch, statistics: Statistics) -> Array:
        images = view(batch['image'], statistics, 0, crop_size)
        _, found = network.apply({'params': parameters}, images, mutable=['intermediates'])
        values = found['intermediates'][f'after_{layer}'][0]
        if isinstance(layers[layer], Exchange):  # the same in every column, which the compiler cannot know
            joined = lax.all_gather(values[0], COLUMN, to='invarying')[0]
        else:
            joined = columns.gather_logits(values)
        if layer == network.table[-1][0]:
            joined = joined[:, : classes_of(network.table)]
        return gather_examples(joined.reshape(len(images), -1).astype(jnp.float16))

    step = jax.shard_map(on_device, mesh=mesh, in_specs=(PER_COLUMN, PER_EXAMPLE, EVERYWHERE), out_specs=EVERYWHERE)
    return jax.jit(step)
