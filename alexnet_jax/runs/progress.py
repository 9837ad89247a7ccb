"""Progress of a run: the part of a checkpoint that is not arrays."""

import dataclasses
import json
import math
import zlib
from collections.abc import Mapping
from typing import Any

from alexnet_jax.training.optimizer import RateControl


@dataclasses.dataclass(frozen=True)
class Progress:
    """Progress of a run.

    Attributes:
      step: updates made so far, which is the position in the data too (see `data/pipeline.py`).
      epoch: epochs completed and validated.
      control: state of the learning rate's control.
      window: sums of the metrics since the last line of the log, and their number of 'steps'; and those of the errors
        in the lines since the last multiple of `log_every_steps`. Empty right after a line at such a step.
      configured_rate: the config's learning rate at that time, from which `control` has come; None where it was not
        kept, as in early runs.
    """

    step: int
    epoch: int
    control: RateControl
    window: dict[str, float] = dataclasses.field(default_factory=dict)
    configured_rate: float | None = None


def to_fields(progress: Progress, checksums: dict[str, int], top1_error: float | None = None) -> dict[str, Any]:
    """The progress, the arrays' checksums (`checksums.py`), the validation error, and a checksum of all, as JSON."""
    told = {'marks': checksums, 'top1_error': top1_error}  # 'marks': the checksums' first name
    fields: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(progress) | told))
    return fields | {'crc32': _checksum(fields)}


def from_fields(fields: Mapping[str, Any]) -> tuple[Progress, dict[str, int]]:
    """Reads back what `to_fields` made: the progress, and the arrays' checksums.

    Raises:
      ValueError, TypeError, KeyError: it is not what was written, or makes no sense.
    """
    _check_checksum(fields)
    control, window = RateControl(**fields['control']), fields['window']
    if not isinstance(window, dict):
        raise TypeError('its window makes no sense')
    rate = fields.get('configured_rate')
    numbers = [control.learning_rate, control.best_error, control.error_to_beat, *window.values()]
    numbers += [] if rate is None else [rate]
    counts = [fields['step'], fields['epoch'], control.epochs_without_improvement, control.drops]
    if not all(type(x) in (int, float) and math.isfinite(x) for x in numbers) or type(control.finished) is not bool:
        raise ValueError('its progress makes no sense')
    if not all(type(x) is int and 0 <= x < 2**40 for x in counts):
        raise ValueError('its progress makes no sense')
    marks = fields['marks']
    if not isinstance(marks, dict) or not all(type(x) is int for x in marks.values()):
        raise ValueError('its checksums make no sense')
    return Progress(fields['step'], fields['epoch'], control, window, rate), marks


def error_in(fields: Mapping[str, Any]) -> float | None:
    """The validation error (0..1) of the very state that a checkpoint holds; None where it was not measured.

    Raises:
      ValueError, TypeError, KeyError: it is not what was written, or was not kept, as in early runs.
    """
    _check_checksum(fields)
    error: float | None = fields['top1_error']
    return error


def _check_checksum(fields: Mapping[str, Any]) -> None:
    if fields['crc32'] != _checksum({name: value for name, value in fields.items() if name != 'crc32'}):
        raise ValueError('its progress is not what was saved')


def _checksum(fields: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(fields, sort_keys=True).encode())
