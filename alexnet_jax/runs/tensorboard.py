"""Numbers for TensorBoard, without TensorFlow and PyTorch."""

import contextlib
import pathlib
import sys
import time
from collections.abc import Iterator


class TensorBoard:
    """Writes TensorBoard's event files at once: what was written before `flush` is in the file after it."""

    def __init__(self, directory: pathlib.Path, first_step: int) -> None:
        """Opens a new file in `directory`; what earlier files have of steps after `first_step` no longer counts."""
        with _without('torch'):  # tensorboardX imports it, for several seconds, and nothing here needs it
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto.event_pb2 import Event, SessionLog

        directory.mkdir(exist_ok=True)
        self._event = Event
        # The name ends in the step, as otherwise a file of the same second would be written over.
        self._writer = EventsWriter(str(directory / 'events'), f'.{first_step}')
        if first_step:  # TensorBoard then drops what earlier files have from this step on
            start = SessionLog(status=SessionLog.START)
            self._writer.write_event(Event(wall_time=time.time(), step=first_step + 1, session_log=start))

    def write(self, step: int, values: dict[str, float]) -> None:
        """Writes values by tag, as in 'train/loss', of a step."""
        event = self._event(wall_time=time.time(), step=step)
        for tag, value in values.items():
            event.summary.value.add(tag=tag, simple_value=value)
        self._writer.write_event(event)

    def flush(self) -> None:
        """Puts all that was written into the file."""
        self._writer.flush()

    def close(self) -> None:
        """Flushes and closes."""
        self._writer.close()


@contextlib.contextmanager
def _without(module: str) -> Iterator[None]:
    """Within, a module that has not been imported before cannot be: whoever can do without it does."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None
    try:
        yield
    finally:
        del sys.modules[module]
