"""Short binary codes of feature vectors (section 6.1): an autoencoder, and random hyperplanes for comparison.

"Computing similarity by using Euclidean distance between two 4096-dimensional, real-valued vectors is inefficient,
but it could be made efficient by training an auto-encoder to compress these vectors to short binary codes." The
paper goes no further; the method is ours. hamming.py searches the codes.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from alexnet_jax.runtime.errors import UserError

WORD = 32  # bits
_SAMPLE = 8192  # rows for mean, scale and principal directions
# The loss, with distances in units of the features' root mean square distance from their mean. Recall of the true six
# among the first 6, for fc7 of the digits network (512 units, 1,437 rows), at 32 and 128 bits; random hyperplanes: 0.24
# and 0.45.
#   from random directions                     0.32  0.55
#   from principal directions                  0.40  0.61   (kept; before training: 0.28 and 0.48)
#   without the term on pairs                  0.23  0.51
#   its weight 3 instead of 10                 0.37  0.57
#   2,000 steps instead of 600                 0.39  0.57
#   a hidden layer beside the linear one       0.29  0.56
# From random directions, at 64 and 256 bits (random hyperplanes: 0.33 and 0.54; as kept but for the start: 0.44 and
# 0.62): a hidden layer of 512 ReLUs 0.39 and 0.60, with a decoder of two layers and no pairs 0.29 and 0.47; noise on
# the logits instead of the straight-through gradient, no pairs, 0.27 and 0.44 (straight through: 0.36 and 0.58).
_PAIRS = 10.0
_REACH = 0.25
_RATE = 0.045  # Adam's learning rate times sqrt(dimension), so that a step changes logits alike in any dimension


@flax.struct.dataclass
class Encoder:
    """A linear map from a vector to a code: bit b is 1 if (vector - mean) kernel[:, b] + bias[b] > 0.

    Attributes:
      mean: float32 [dimension].
      kernel: float32 [dimension, bits].
      bias: float32 [bits].
    """

    mean: Array
    kernel: Array
    bias: Array

    @property
    def bits(self) -> int:
        """Length of a code."""
        return self.kernel.shape[1]

    def logits(self, values: Array) -> Array:
        """Float32 [rows, bits], whose signs are the bits, for real [rows, dimension]."""
        centered = values.astype(jnp.float32) - self.mean
        return jnp.matmul(centered, self.kernel, precision=lax.Precision.HIGHEST) + self.bias


class _Autoencoder(nn.Module):
    """One layer to the bits, -1 or 1, and one back; the gradient passes the sign as if it were tanh."""

    bits: int

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        """Returns the signs, [batch, bits], and the reconstruction, [batch, dimension]."""
        logits = nn.Dense(self.bits, name='encoder')(x)
        soft = jnp.tanh(logits)
        signs = soft + lax.stop_gradient(jnp.where(logits > 0, 1.0, -1.0) - soft)
        return signs, nn.Dense(x.shape[1], kernel_init=nn.initializers.normal(0.01), name='decoder')(signs)


def train_autoencoder(
    values: np.ndarray,
    bits: int,
    *,
    seed: int,
    steps: int = 600,
    batch_size: int = 256,
    on_step: Callable[[int, Array], None] | None = None,
) -> Encoder:
    """Learns codes whose Hamming distance follows the Euclidean distance.

    The loss is the squared error of the reconstruction, and over all pairs of a batch that between the fraction of
    differing bits and (1 - exp(-distance / reach)) / 2: it spends bits on near pairs, as far ones decide nothing.
    Training starts from randomly rotated principal directions. 600 batches suffice for any number of rows.

    Args:
      values: real [rows, dimension], such as fc7 after its ReLU; may be memory-mapped, random rows are read.
      bits: length of a code, a multiple of 32.
      seed: of initialization and batches; results are reproducible on one machine.
      steps: number of batches.
      batch_size: rows in a batch, drawn with replacement.
      on_step: called with the number of a step, from 1, and its loss, asynchronously computed.

    Raises:
      UserError: the length is not a multiple of 32, there are fewer than two distinct rows, or a value is not finite.
    """
    _check_bits(bits)
    sample = _sample(values, seed)
    mean = sample.mean(axis=0)
    scale = math.sqrt(np.square(sample - mean).sum(axis=1).mean())
    if not 0 < scale < math.inf:
        raise UserError(f'The {len(values)} feature vectors are all the same: no codes can be learned from them.')
    dimension = values.shape[1]
    parameters, state = _initial(bits, _initial_kernel((sample - mean) / scale, bits, seed), seed)
    loss = jnp.zeros(())
    for number in range(1, steps + 1):
        rows = np.random.default_rng((seed, number)).integers(0, len(values), batch_size)
        rate = _RATE / math.sqrt(dimension) * (1 + math.cos(math.pi * (number - 1) / steps)) / 2
        parameters, state, loss = _step(parameters, state, values[np.sort(rows)], mean, scale, rate)
        if on_step is not None:
            on_step(number, loss)
    if not math.isfinite(float(loss)):
        raise UserError('Not all of the feature vectors are finite: no codes can be learned from them.')
    layer = parameters['encoder']
    return Encoder(jnp.asarray(mean), layer['kernel'] / scale, layer['bias'])


def random_hyperplanes(values: np.ndarray, bits: int, seed: int) -> Encoder:
    """An encoder whose bits are the sides of random hyperplanes through the mean.

    Args:
      values, bits: as for `train_autoencoder`.
      seed: of the hyperplanes.

    Raises:
      UserError: as for `train_autoencoder`.
    """
    _check_bits(bits)
    mean = _sample(values, seed).mean(axis=0)
    kernel = jax.random.normal(jax.random.key(seed), (values.shape[1], bits))
    return Encoder(jnp.asarray(mean), kernel, jnp.zeros(bits))


def encode(encoder: Encoder, values: np.ndarray, *, block: int = 8192) -> np.ndarray:
    """Computes the codes of vectors, block by block on the device.

    Args:
      encoder: trained or random.
      values: real [rows, dimension]; may be memory-mapped.
      block: rows on the device at a time.

    Returns:
      uint32 [rows, bits / 32]; bit j of word w is the sign of logit 32 w + j.

    Raises:
      UserError: a value is not finite, or the dimension is not the encoder's.
    """
    if values.ndim != 2 or values.shape[1] != encoder.mean.shape[0]:
        raise UserError(f'The encoder takes [rows, {encoder.mean.shape[0]}], not {list(values.shape)}.')
    codes = np.empty((len(values), encoder.bits // WORD), np.uint32)
    for first in range(0, len(values), block):
        part = np.asarray(values[first : first + block])
        packed, finite = _encode(encoder, part)
        codes[first : first + block] = packed
        if not np.all(finite):
            raise UserError(f'Feature vector {first + int(np.argmin(finite))} has values that are not finite.')
    return codes


def pack(bits: Array) -> Array:
    """Bits to words: bool [..., bits] to uint32 [..., bits / 32], bit 32 w + j being bit j of word w."""
    words = bits.reshape(*bits.shape[:-1], -1, WORD).astype(jnp.uint32)
    return jnp.sum(words << jnp.arange(WORD, dtype=jnp.uint32), axis=-1, dtype=jnp.uint32)


def unpack(codes: np.ndarray) -> np.ndarray:
    """Words to bits: uint32 [..., words] to bool [..., 32 words], the inverse of `pack`."""
    bits = (np.asarray(codes)[..., None] >> np.arange(WORD, dtype=np.uint32)) & 1
    return bits.reshape(*codes.shape[:-1], -1).astype(bool)


@jax.jit
def _encode(encoder: Encoder, values: Array) -> tuple[Array, Array]:
    return pack(encoder.logits(values) > 0), jnp.isfinite(values).all(axis=1)


@functools.partial(jax.jit, static_argnums=0)
def _initial(bits: int, kernel: Array, seed: int) -> tuple[dict[str, Any], optax.OptState]:
    """The autoencoder's parameters with this encoder kernel, and Adam's state."""
    parameters = _Autoencoder(bits).init(jax.random.key(seed), jnp.zeros((1, len(kernel))))['params']
    parameters['encoder']['kernel'] = kernel
    return parameters, optax.adam(0.0).init(parameters)  # the state does not depend on the rate


@jax.jit
def _step(
    parameters: dict[str, Any], state: optax.OptState, values: Array, mean: Array, scale: Array, rate: Array
) -> tuple[dict[str, Any], optax.OptState, Array]:
    """One update by a batch of vectors, [batch, dimension]; returns parameters, Adam's state and the loss before."""
    x = (values.astype(jnp.float32) - mean) / scale
    module = _Autoencoder(parameters['encoder']['bias'].shape[0])
    loss, gradients = jax.value_and_grad(lambda p: _loss(x, *module.apply({'params': p}, x)))(parameters)
    updates, state = optax.adam(rate).update(gradients, state)
    return optax.apply_updates(parameters, updates), state, loss


def _loss(x: Array, signs: Array, reconstruction: Array) -> Array:
    """The loss of a batch x, [batch, dimension], as `train_autoencoder` describes it."""
    error = jnp.mean(jnp.sum(jnp.square(reconstruction - x), axis=1))
    products = jnp.matmul(x, x.T, precision=lax.Precision.HIGHEST)
    squares = jnp.diag(products)
    distances = jnp.sqrt(jnp.maximum(squares[:, None] + squares[None] - 2 * products, 0.0))
    differing = (1 - signs @ signs.T / signs.shape[1]) / 2
    return error + _PAIRS * jnp.mean(jnp.square(differing - (1 - jnp.exp(-distances / _REACH)) / 2))


def _initial_kernel(x: np.ndarray, bits: int, seed: int) -> np.ndarray:
    """The encoder's kernel before training, [dimension, bits]: randomly rotated principal directions of x.

    Subspace iteration finds their span. With more bits than dimensions the rotated directions are not orthogonal, but
    still evenly spread.
    """
    random = np.random.default_rng((seed, 0))
    count = min(bits, x.shape[1])
    directions = random.standard_normal((x.shape[1], count), np.float32)
    for _ in range(5):
        directions, _ = np.linalg.qr(x.T @ (x @ directions))
    rotation, _ = np.linalg.qr(random.standard_normal((bits, bits), np.float32))
    kernel = directions @ rotation[:count]
    return kernel / np.sqrt(np.square(x @ kernel).mean())  # logits of about 1, where tanh bends


def _sample(values: np.ndarray, seed: int) -> np.ndarray:
    """All rows, or a random 8,192 in order, float32 [rows, dimension]."""
    if values.ndim != 2 or len(values) < 2:
        raise UserError(f'Codes need at least two feature vectors, not {list(values.shape)}.')
    rows: Any = slice(None)
    if len(values) > _SAMPLE:
        rows = np.sort(np.random.default_rng((seed, 0)).choice(len(values), _SAMPLE, replace=False))
    sample = np.asarray(values[rows]).astype(np.float32)
    if not np.isfinite(sample).all():
        raise UserError('Not all of the feature vectors are finite: no codes can be learned from them.')
    return sample


def _check_bits(bits: int) -> None:
    if bits < WORD or bits % WORD:
        raise UserError(f'A code has a multiple of {WORD} bits, not {bits}.')
