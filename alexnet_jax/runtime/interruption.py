"""SIGTERM and Ctrl-C: the first stops the run after the current step, a second at once."""

import os
import signal
import threading
from types import TracebackType
from typing import Self

from rich.console import Console

from alexnet_jax.runtime.errors import StoppedError, say

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """A context in which signals are recorded instead of raised.

    Python runs handlers only between two of its instructions, and compiling a large program is one instruction of many
    seconds. So a thread listens for signals and can act while the compiler works.
    """

    def __init__(self, console: Console) -> None:
        """Says on `console` what a signal does."""
        self._console = console
        self._received = 0
        self._graceful = False

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        reading, self._writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._writing, False)
        self._wakeup_before = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        threading.Thread(target=self._listen, args=(reading,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._writing)

    def something_to_save(self) -> None:
        """From now on the first signal is only recorded; until then nothing would be lost, and it ends the run."""
        self._graceful = True

    @property
    def asked(self) -> bool:
        """Whether a signal has asked the run to stop."""
        return bool(self._received)

    def stopped(self) -> StoppedError:
        """The error to raise once everything is saved."""
        return StoppedError(self._received or signal.SIGTERM)  # the signal may have reached another process alone

    def _listen(self, reading: int) -> None:
        while received := os.read(reading, 1):
            number = received[0]
            if number not in _SIGNALS:
                continue
            if self._received or not self._graceful:
                self._end(number)
            self._received = number
            self._say(f'{signal.Signals(number).name}: finishing the step and saving; send it again to stop at once.')
        os.close(reading)

    def _end(self, number: int) -> None:
        self._say(f'{signal.Signals(number).name}: stopped; the same command resumes from the latest checkpoint.')
        self._console.show_cursor()
        self._console.file.flush()
        os._exit(128 + number)

    def _say(self, text: str) -> None:
        say(self._console, text)
