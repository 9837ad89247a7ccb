"""Progress of a run: the part of a checkpoint that is not arrays."""

import dataclasses
import json
import math
import zlib
from typing import Any

from alexnet_jax.training.optimizer import RateControl


@dataclasses.dataclass(frozen=True)
class Progress:
    """Progress of a run.

    Attributes:
      step: updates made so far, which is the position in the data too (see `data/pipeline.py`).
      epoch: epochs completed and validated.
      control: state of the learning rate's control.
      window: sums of the metrics since the last line of the log, and their number of 'steps'; empty right after a
        line.
    """

    step: int
    epoch: int
    control: RateControl
    window: dict[str, float] = dataclasses.field(default_factory=dict)


def to_fields(progress: Progress, checksums: dict[str, int]) -> dict[str, Any]:
    """The progress, the arrays' checksums (`checksums.py`) and a checksum of both, as JSON."""
    fields: dict[str, Any] = json.loads(
        json.dumps(dataclasses.asdict(progress) | {'marks': checksums})
    )  # 'marks': their first name
    return fields | {'crc32': _checksum(fields)}


def from_fields(fields: dict[str, Any]) -> tuple[Progress, dict[str, int]]:
    """Reads back what `to_fields` made: the progress, and the arrays' checksums.

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
