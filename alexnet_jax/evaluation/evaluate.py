"""Validation and test (sections 4.1 and 6): the errors of one network, or of several averaged, on a split."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from alexnet_jax.data import pipeline
from alexnet_jax.data.dataset import PreparedDataSet
from alexnet_jax.data.device_feed import local_positions, results_ahead
from alexnet_jax.evaluation.metrics import Tally, average_log_probabilities
from alexnet_jax.evaluation.predictor import Predictor


def predictions(
    predictors: Sequence[Predictor], data: PreparedDataSet, split: str, *, batch_size: int, threads: int
) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
    """Predicts every image of a split once, in order.

    Args:
      predictors: of one or more networks, on the same mesh.
      data: the prepared data set.
      split: one of its splits.
      batch_size: examples in a batch.
      threads: that read batches; 0 for one a core, up to 16.

    Returns:
      An iterator over batches, the last perhaps smaller: of each network float32 [batch, classes] log-probabilities;
      and int32 [batch] labels.
    """
    positions = local_positions(predictors[0].mesh, batch_size)
    batches = pipeline.evaluation_batches(data, split, batch_size=batch_size, threads=threads, positions=positions)

    count = len(predictors)
    pairs = ((predict, batch) for batch in batches for predict in predictors)
    outputs = results_ahead(lambda pair: pair[0](pair[1]), pairs, predictors[0].mesh, 2 * count)
    return map(_to_host, zip(*[outputs] * count, strict=True))


def _to_host(outputs: Sequence[dict[str, Any]]) -> tuple[list[np.ndarray], np.ndarray]:
    real = np.asarray(outputs[0]['weight']) > 0  # the rest fills up the last batch
    return [np.asarray(one['log_probabilities'])[real] for one in outputs], np.asarray(outputs[0]['label'])[real]


def evaluate(
    predict: Predictor, data: PreparedDataSet, split: str, *, batch_size: int, threads: int
) -> dict[str, float]:
    """The loss and errors of one network on a split, as `Tally.means` returns them."""
    tally = Tally()
    for (scores,), labels in predictions([predict], data, split, batch_size=batch_size, threads=threads):
        tally.add(scores, labels)
    return tally.means()


def evaluate_together(
    predictors: Sequence[Predictor],
    data: PreparedDataSet,
    split: str,
    *,
    batch_size: int,
    threads: int,
    on_batch: Callable[[int], None],
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """The loss and errors of several networks on a split: of their averaged probabilities, and of each alone.

    Args:
      predictors, data, split, batch_size, threads: as for `predictions`.
      on_batch: called after each batch with the number of images done.
    """
    average, each, done = Tally(), [Tally() for _ in predictors], 0
    for scores, labels in predictions(predictors, data, split, batch_size=batch_size, threads=threads):
        average.add(average_log_probabilities(scores), labels)
        for tally, own in zip(each, scores, strict=True):
            tally.add(own, labels)
        done += len(labels)
        on_batch(done)
    return average.means(), [tally.means() for tally in each]
