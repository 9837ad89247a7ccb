"""Class probabilities of images (section 4.1), from the center view or averaged over ten, on a mesh."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh

from alexnet_jax.data.augment import Statistics, patches_of, view
from alexnet_jax.data.device_feed import Batch, to_devices
from alexnet_jax.model.alexnet import AlexNet
from alexnet_jax.model.columns import DATA, EVERYWHERE, PER_COLUMN, PER_EXAMPLE

GUESSES = 5  # "the five labels considered most probable", Figure 4
_MOST_TOGETHER = 128  # images that the network is given at once, where several views of each would be more
PredictionStep = Callable[[Any, Batch, Statistics], dict[str, Array]]


def make_prediction_step(
    network: AlexNet, mesh: Mesh, *, crop_size: int, views: str, mirror: bool = True
) -> PredictionStep:
    """Builds the jitted prediction for one batch.

    "The network makes a prediction by extracting five 224 x 224 patches (the four corner patches and the
    center patch) as well as their horizontal reflections, and averaging the predictions made by the network's
    softmax layer on the ten patches."

    Args:
      network: with the columns as they live on a device of the mesh.
      mesh: of axes 'data' and 'column'.
      crop_size: height and width of a view, in pixels.
      views: 'center' or 'ten'.
      mirror: whether the ten hold mirror images; otherwise they are the five others.

    Returns:
      A function of (parameters, batch, statistics) that returns, on every device, 'log_probabilities', float32
      [batch, classes], the logarithm of the averaged softmax; and the rest of the batch without its 'image'.
    """

    patches = patches_of(views, mirror)

    def on_device(parameters: Any, batch: Batch, statistics: Statistics) -> dict[str, Array]:
        count = len(batch['image'])
        together = max(n for n in range(1, patches + 1) if patches % n == 0 and (n == 1 or n * count <= _MOST_TOGETHER))

        def log_probabilities(numbers: Array) -> Array:
            views = jax.vmap(lambda number: view(batch['image'], statistics, number, crop_size))(numbers)
            logits: Any = network.apply({'params': parameters}, views.reshape(-1, *views.shape[2:]))
            return jax.nn.log_softmax(logits).reshape(together, count, -1)

        each = lax.map(log_probabilities, jnp.arange(patches).reshape(-1, together)).reshape(patches, count, -1)
        average = jax.nn.logsumexp(each, axis=0) - np.log(patches)
        rest = {name: values for name, values in batch.items() if name != 'image'}
        return gather_examples({**rest, 'log_probabilities': average})

    step = jax.shard_map(on_device, mesh=mesh, in_specs=(PER_COLUMN, PER_EXAMPLE, EVERYWHERE), out_specs=EVERYWHERE)
    return jax.jit(step)


def gather_examples(values: Any) -> Any:
    """Inside `jax.shard_map`: the whole batch's values on every device, [batch, ...]."""
    return jax.tree.map(lambda x: lax.all_gather(x, DATA, axis=0, tiled=True, to='invarying'), values)


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A prediction step with its parameters.

    Attributes:
      step: from `make_prediction_step`.
      parameters, statistics: on the devices of the mesh.
      mesh: where batches go.
    """

    step: PredictionStep
    parameters: dict[str, dict[str, Array]]
    statistics: Statistics
    mesh: Mesh

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Array]:
        """Predicts for a batch on the host, asynchronously."""
        return self.step(self.parameters, to_devices(batch, self.mesh), self.statistics)


def most_probable(log_probabilities: np.ndarray, count: int = GUESSES) -> list[tuple[int, float]]:
    """The most probable classes and their probabilities, the most probable first.

    Args:
      log_probabilities: [classes].
      count: of classes, at most.
    """
    classes = np.argsort(-log_probabilities, kind='stable')[:count]
    return list(zip(classes.tolist(), np.exp(log_probabilities[classes]).tolist(), strict=True))
