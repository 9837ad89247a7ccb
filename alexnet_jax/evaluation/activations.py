"""The values of any line of the network's table, for a batch of images, whole on every device."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh

from alexnet_jax.data.augment import Statistics, view
from alexnet_jax.evaluation.predictor import gather_examples
from alexnet_jax.model.alexnet import AlexNet, classes_of
from alexnet_jax.model.columns import COLUMN, EVERYWHERE, PER_COLUMN, PER_EXAMPLE
from alexnet_jax.model.layer_specs import Exchange, Learned, ReLU, Table, Tanh
from alexnet_jax.runtime.errors import UserError

FeatureStep = Callable[[Any, dict[str, Array], Statistics], Array]


def line_of(table: Table, layer: str) -> str:
    """The line of a network's table whose values are a layer's.

    For a layer with weights that is the ReLU or tanh right after it, if there is one: 'fc7' means what the paper calls
    "the feature activations induced by an image at the last, 4096-dimensional hidden layer". All others are themselves.

    Raises:
      UserError: the table has no such line.
    """
    names = [name for name, _ in table]
    if layer not in names:
        raise UserError(f'--layer={layer}: the network has no such line; it has {", ".join(names)}.')
    place = names.index(layer)
    after, kind = table[place + 1] if place + 1 < len(table) else ('', None)
    return after if isinstance(table[place][1], Learned) and isinstance(kind, ReLU | Tanh) else layer


def make_feature_step(network: AlexNet, mesh: Mesh, *, line: str, crop_size: int) -> FeatureStep:
    """Builds the jitted computation of a line's values for one batch; no later line is computed.

    Args:
      network: with the columns as they live on a device of the mesh.
      mesh: of axes 'data' and 'column'.
      line: of the network's table.
      crop_size: height and width of the central view, in pixels.

    Returns:
      A function of (parameters, batch with its 'image', statistics). It returns, on every device, float16
      [batch, values]. A map is flattened by height, then width, then channel, and there column 1's channels stand
      before column 2's; a vector holds all of column 1's values before column 2's, also where a flatten line made
      it of a map. An exchange line's values are what each column receives. The last line's are the logits.
    """
    columns, layers = network.split, dict(network.table)

    def on_device(parameters: Any, batch: dict[str, Array], statistics: Statistics) -> Array:
        images = view(batch['image'], statistics, 0, crop_size)
        _, found = network.apply({'params': parameters}, images, mutable=['intermediates'])
        values = found['intermediates'][f'after_{line}'][0]
        if isinstance(layers[line], Exchange):  # every column has the same, which only the compiler cannot know
            joined = lax.all_gather(values[0], COLUMN, to='invarying')[0]
        else:
            joined = columns.gather_logits(values)
        if line == network.table[-1][0]:
            joined = joined[:, : classes_of(network.table)]
        return gather_examples(joined.reshape(len(images), -1).astype(jnp.float16))

    step = jax.shard_map(on_device, mesh=mesh, in_specs=(PER_COLUMN, PER_EXAMPLE, EVERYWHERE), out_specs=EVERYWHERE)
    return jax.jit(step)
