"""SIGTERM and Ctrl-C: the first asks the run to stop at the next step, a second ends it at once."""

import os
import signal
import threading
from types import TracebackType
from typing import Self

from rich.console import Console

from alexnet_jax.runtime.errors import StoppedError, say

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """While it is entered, signals are noted instead of raised.

    Python runs its own handlers between two of its instructions only, and compiling a large program is one
    instruction that takes many seconds. So a thread listens for signals, and can act while the compiler works.
    """

    def __init__(self, console: Console) -> None:
        """Says on `console` what a signal does."""
        self._console = console
        self._noted = 0
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
        """From now on the first signal is only noted; before, there is nothing to lose, and it ends the run."""
        self._graceful = True

    @property
    def asked(self) -> bool:
        """Whether a signal has asked the run to stop."""
        return bool(self._noted)

    def stopped(self) -> StoppedError:
        """What to raise once everything is saved."""
        return StoppedError(self._noted or signal.SIGTERM)  # another process was asked, and all of them stop

    def _listen(self, reading: int) -> None:
        while received := os.read(reading, 1):
            number = received[0]
            if number not in _SIGNALS:
                continue
            if self._noted or not self._graceful:
                self._end(number)
            self._noted = number
            self._say(f'{signal.Signals(number).name}: finishing the step and saving; once more to stop at once.')
        os.close(reading)

    def _end(self, number: int) -> None:
        self._say(f'{signal.Signals(number).name}: stopped; the same command carries on from the newest checkpoint.')
        self._console.show_cursor()
        self._console.file.flush()
        os._exit(128 + number)

    def _say(self, text: str) -> None:
        say(self._console, text)
