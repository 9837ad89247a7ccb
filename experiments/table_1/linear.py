"""A linear classifier over features that were computed once: softmax regression."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from alexnet_jax.evaluation.metrics import top_k_errors

Weights = tuple[Array, Array]  # [dimensions, classes] and [classes]
BATCH, RATE = 256, 0.003


@functools.partial(jax.jit, static_argnames='rule')
def _step(weights: Weights, state: optax.OptState, features: Array, labels: Array, rule: optax.GradientTransformation):
    def loss_of(weights: Weights) -> Array:
        logits = features.astype(jnp.float32) @ weights[0] + weights[1]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    updates, state = rule.update(jax.grad(loss_of)(weights), state, weights)
    return optax.apply_updates(weights, updates), state


def fit(
    features: np.ndarray, labels: np.ndarray, classes: int, *, weight_decay: float, epochs: int, seed: int
) -> Weights:
    """Trains the classifier with AdamW in batches, the learning rate falling linearly to zero.

    Args:
      features: [images, dimensions], of norm 1.
      labels: int [images].
      classes: number of classes.
      weight_decay: per unit of the learning rate.
      epochs: passes over the images.
      seed: of their order.
    """
    size = min(BATCH, len(labels))
    batches = len(labels) // size
    rule = optax.adamw(optax.linear_schedule(RATE, 0.0, epochs * batches), weight_decay=weight_decay)
    weights = jnp.zeros((features.shape[1], classes)), jnp.zeros(classes)
    state, random = rule.init(weights), np.random.default_rng(seed)
    for _ in range(epochs):
        for batch in random.permutation(len(labels))[: batches * size].reshape(batches, size):
            batch.sort()  # reads the features from front to back
            weights, state = _step(weights, state, features[batch], labels[batch], rule)
    return weights


def scores(weights: Weights, features: np.ndarray) -> np.ndarray:
    """Logits, float32 [images, classes]."""
    parts = np.array_split(features, max(1, len(features) // 4096))
    return np.concatenate([np.asarray(part.astype(np.float32) @ weights[0] + weights[1]) for part in parts])


def probabilities(weights: Weights, features: np.ndarray) -> np.ndarray:
    """Of each class, float32 [images, classes]."""
    return np.asarray(jax.nn.softmax(scores(weights, features)))


def errors(weights: Weights, features: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Top-1 and top-5 error, 0..1."""
    found = scores(weights, features)
    top1, top5 = (float(top_k_errors(found, labels, k).mean()) for k in (1, 5))
    return top1, top5
