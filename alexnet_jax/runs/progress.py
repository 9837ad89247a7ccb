"""Where a run stands besides its arrays, as a checkpoint keeps it."""

import dataclasses
import json
import math
import zlib
from typing import Any

from alexnet_jax.training.optimizer import RateControl


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a run stands, besides the arrays.

    Attributes:
      step: updates made so far; it is the position in the data as well (see `pipeline.py`).
      epoch: epochs completed and validated.
      control: the learning rate and what decides when it changes.
      window: sums of the metrics since the last line of the log, and 'steps', how many steps they are of; empty
        where a line has just been written.
    """

    step: int
    epoch: int
    control: RateControl
    window: dict[str, float] = dataclasses.field(default_factory=dict)


def to_fields(progress: Progress, marks: dict[str, int]) -> dict[str, Any]:
    """What is written as JSON: the progress, the marks of the arrays (`integrity.py`), and a checksum of both."""
    fields = json.loads(json.dumps(dataclasses.asdict(progress) | {'marks': marks}))
    return fields | {'crc32': _checksum(fields)}


def from_fields(fields: dict[str, Any]) -> tuple[Progress, dict[str, int]]:
    """Reads back what `to_fields` made: the progress, and the marks.

    Raises:
      ValueError, TypeError, KeyError: it is not what was written, or makes no sense.
    """
    if fields.pop('crc32') != _checksum(fields):
        raise ValueError('its progress is not what was saved')
    control = RateControl(**fields['control'])
    numbers = [control.learning_rate, control.best_error, control.error_to_beat, *fields['window'].values()]
    counts = [fields['step'], fields['epoch'], control.epochs_without_improvement, control.drops]
    if not all(type(x) in (int, float) and math.isfinite(x) for x in numbers) or type(control.finished) is not bool:
        raise ValueError('its progress makes no sense')
    if not all(type(x) is int and 0 <= x < 2**40 for x in counts):
        raise ValueError('its progress makes no sense')
    return Progress(fields['step'], fields['epoch'], control, fields['window']), fields['marks']


def _checksum(fields: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(fields, sort_keys=True).encode())
