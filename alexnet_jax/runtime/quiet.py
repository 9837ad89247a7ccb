"""Silence for libraries: while they are called, or, for the command line alone to ask for, as long as it runs."""

import contextlib
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any

_REPORTED_ELSEWHERE = re.compile('Event loop is closed|TensorStore details')


@contextlib.contextmanager
def without_message(logger: str, beginning: str) -> Iterator[None]:
    """Within, a logger drops messages that begin so."""

    def wanted(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(beginning)

    named = logging.getLogger(logger)
    named.addFilter(wanted)
    try:
        yield
    finally:
        named.removeFilter(wanted)


def silence_checkpoint_libraries() -> None:
    """Silences what Orbax and TensorStore log and report beside the errors that they raise, for the whole process.

    Orbax logs each save and its errors. After the first error of a save or a restore, which is raised, TensorStore's
    threads report those of the other arrays, at any time, through `sys.unraisablehook`.
    """
    for name in ('absl', 'orbax', 'asyncio'):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings('ignore', message="coroutine '_read_array.*' was never awaited")
    before = sys.unraisablehook
    if getattr(before, 'silenced', False):
        return

    def hook(unraisable: Any) -> None:
        if not _REPORTED_ELSEWHERE.search(str(unraisable.exc_value)):
            before(unraisable)

    hook.silenced = True  # type: ignore[attr-defined]  # functions take attributes
    sys.unraisablehook = hook
