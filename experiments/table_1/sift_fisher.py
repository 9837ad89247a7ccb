"""Table 1, "SIFT + FVs": Fisher vectors of dense descriptors of two kinds, and a linear classifier for each.

    pip install ".[baselines]"
    python -m experiments.table_1.sift_fisher --directory=data/cifar10 --output=runs/sift_fisher

On any prepared data set that fits in memory (41,280 bytes an image). The paper takes its row from Sanchez and Perronnin
("High-dimensional signature compression for large-scale image classification", CVPR 2011), and averages two classifiers
on Fisher vectors of two kinds of densely sampled features. Here, on a smaller scale, is their recipe: SIFT and local
statistics of color, in patches of three sizes on a dense grid; principal components, a Gaussian mixture, Fisher vectors
of five spatial cells with power and L2 normalization; and a linear classifier for each kind, the two averaged. SIFT of
all sizes of patches is of an image that OpenCV has smoothed by 1.6 pixels.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from experiments.table_1.baseline import Encoding, main
from experiments.table_1.descriptors import color_statistics, dense_sift

COMPONENTS, GAUSSIANS = 64, 32


def learn(sample: np.ndarray, cells: np.ndarray, seed: int) -> Encoding:
    """Learns principal components and a Gaussian mixture; returns Fisher vectors of all cells."""
    pca = PCA(COMPONENTS, random_state=seed).fit(sample)
    mixture = GaussianMixture(GAUSSIANS, covariance_type='diag', max_iter=30, reg_covar=1e-4, random_state=seed)
    mixture.fit(pca.transform(sample))
    center, axes = jnp.asarray(pca.mean_, jnp.float32), jnp.asarray(pca.components_.T, jnp.float32)
    weights, means, variances = (
        jnp.asarray(x, jnp.float32) for x in (mixture.weights_, mixture.means_, mixture.covariances_)
    )
    inside = jnp.asarray(cells, jnp.float32)

    @jax.jit
    def encode(descriptors: Array) -> Array:
        components = (descriptors - center) @ axes
        # One image after the other: an image of 256 pixels has 10,451 descriptors, which take 170 MB on their way.
        return jax.lax.map(lambda x: fisher_vectors(x, inside, weights, means, variances), components)

    return lambda descriptors: np.asarray(encode(descriptors))


def fisher_vectors(x: Array, inside: Array, weights: Array, means: Array, variances: Array) -> Array:
    """Normalized Fisher vectors of the cells of an image, one after the other.

    Args:
      x: [descriptors, components].
      inside: 1 where a descriptor is in a cell, else 0: [cells, descriptors].
      weights, means, variances: of the mixture: [gaussians], and [gaussians, components] each.

    Returns:
      [cells * gaussians * (1 + 2 * components)] of norm 1.
    """
    deviations = jnp.sqrt(variances)
    z = (x[:, None] - means) / deviations  # [descriptors, gaussians, components]
    logs = jnp.log(weights) - jnp.log(deviations).sum(-1) - 0.5 * (z * z).sum(-1)
    posteriors = jax.nn.softmax(logs, axis=-1)
    means_in = inside / jnp.maximum(inside.sum(axis=1, keepdims=True), 1)
    of_weights = (means_in @ posteriors - weights) / jnp.sqrt(weights)
    of_means = jnp.einsum('cn,ng,ngd->cgd', means_in, posteriors, z) / jnp.sqrt(weights)[:, None]
    of_variances = jnp.einsum('cn,ng,ngd->cgd', means_in, posteriors, 1 - z * z) / jnp.sqrt(2 * weights)[:, None]
    count = len(inside)
    vectors = jnp.concatenate([of_weights, of_means.reshape(count, -1), of_variances.reshape(count, -1)], axis=1)
    vectors = jnp.sign(vectors) * jnp.sqrt(jnp.abs(vectors))
    vectors /= jnp.maximum(jnp.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return vectors.reshape(-1) / jnp.sqrt(count)


if __name__ == '__main__':
    main('SIFT + FVs', learn, __doc__, {'SIFT': dense_sift, 'color': color_statistics})
