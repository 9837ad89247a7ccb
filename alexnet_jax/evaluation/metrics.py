"""Loss and top-k errors: of a batch on any device, summed over a data set, and of an ensemble's average (section 6)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

METRICS = ('loss', 'top1_error', 'top5_error')


def top_k_errors(scores: Any, labels: Any, k: int) -> Any:
    """Which examples' labels are not among the k classes with the highest scores.

    Ties go to the earlier class, as with argmax; a label whose score is NaN counts as an error, however large k is.

    Args:
      scores: float [batch, classes], logits or log-probabilities; a NumPy or a JAX array.
      labels: int [batch], of the same library.
      k: 1 for the top-1 error, 5 for the top-5 error.

    Returns:
      bool [batch], of the same library.
    """
    xp, classes = scores.__array_namespace__(), scores.shape[1]
    true = xp.take_along_axis(scores, labels[:, None], axis=1)
    earlier = labels[:, None] < xp.arange(classes)
    beaten = (true > scores) | ((true == scores) & earlier)
    return (classes - 1 - xp.sum(beaten, axis=1) >= k) | xp.isnan(true[:, 0])


class Tally:
    """Sums of loss and errors over batches, in float64."""

    def __init__(self) -> None:
        self._sums, self._examples = dict.fromkeys(METRICS, 0.0), 0

    def add(self, log_probabilities: np.ndarray, labels: np.ndarray) -> None:
        """Adds a batch: float [batch, classes], and int [batch]."""
        of_labels = np.take_along_axis(log_probabilities, labels[:, None], axis=1)
        self._sums['loss'] -= float(of_labels.sum(dtype=np.float64))
        for k in (1, 5):
            self._sums[f'top{k}_error'] += int(top_k_errors(log_probabilities, labels, k).sum())
        self._examples += len(labels)

    def means(self) -> dict[str, float]:
        """'loss' (cross-entropy in nats), 'top1_error' and 'top5_error' (0..1)."""
        return {name: total / self._examples for name, total in self._sums.items()}


def average_log_probabilities(log_probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """The logarithm of the mean of several networks' probabilities ("5 CNNs", "7 CNNs*" in Table 2).

    Args:
      log_probabilities: of each network, [batch, classes]; however small, they do not underflow.

    Returns:
      float64 [batch, classes].
    """
    total = np.logaddexp.reduce(np.asarray(log_probabilities, np.float64), axis=0)
    return total - np.log(len(log_probabilities))
