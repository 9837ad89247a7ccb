"""Table 1, "Sparse coding": dense SIFT descriptors, sparse codes pooled over space, and a linear classifier.

    pip install ".[baselines]"
    python -m experiments.table_1.sparse_coding --directory=data/cifar10 --output=runs/sparse_coding

On any prepared data set that fits in memory (20,480 bytes an image). The paper takes its row from the report of
ILSVRC-2010 (Berg, Deng and Fei-Fei), where six classifiers over sparse codes of several features were averaged. Here
is the plain recipe: a dictionary learned by sparse coding (scikit-learn); codes by soft thresholding, positive and
negative parts apart, as Coates and Ng do ("The importance of encoding versus training with sparse coding and vector
quantization", ICML 2011); their largest values in five spatial cells; one linear classifier.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from sklearn.decomposition import MiniBatchDictionaryLearning

from experiments.table_1.baseline import Encoding, main
from experiments.table_1.descriptors import dense_sift

ATOMS, PENALTY, LEARNED_FROM = 1024, 0.15, 50_000


def learn(sample: np.ndarray, cells: np.ndarray, seed: int) -> Encoding:
    """Learns a dictionary; returns the largest codes of all cells."""
    learning = MiniBatchDictionaryLearning(ATOMS, alpha=PENALTY, batch_size=512, max_iter=4, random_state=seed)
    sample = sample[:LEARNED_FROM] - (center := sample.mean(axis=0))
    atoms = jnp.asarray(learning.fit(sample).components_, jnp.float32)
    middle, inside = jnp.asarray(center, jnp.float32), jnp.asarray(cells)

    @jax.jit
    def encode(descriptors: Array) -> Array:
        return jax.lax.map(lambda x: largest_codes(x - middle, inside, atoms), descriptors)

    return lambda descriptors: np.asarray(encode(descriptors))


def codes(x: Array, atoms: Array) -> Array:
    """Positive and negative parts of soft-thresholded products with the atoms, [descriptors, 2 * atoms]."""
    products = x @ atoms.T
    return jax.nn.relu(jnp.concatenate([products, -products], axis=-1) - PENALTY)


def largest_codes(x: Array, inside: Array, atoms: Array) -> Array:
    """The largest of each code in each cell, as one vector of norm 1.

    Args:
      x: descriptors, [descriptors, dimensions].
      inside: whether a descriptor is in a cell, bool [cells, descriptors].
      atoms: [atoms, dimensions].
    """
    found = codes(x, atoms)
    largest = jnp.stack([jnp.where(cell[:, None], found, 0).max(axis=0) for cell in inside])
    return largest.reshape(-1) / jnp.maximum(jnp.linalg.norm(largest), 1e-9)


if __name__ == '__main__':
    main('sparse coding', learn, __doc__, {'SIFT': dense_sift})
