"""SIGTERM, SIGHUP and Ctrl-C: the first stops the run after the current step, a second at once."""

import contextlib
import os
import signal
import threading
from types import TracebackType
from typing import Self

from rich.console import Console

from alexnet_jax.runtime.errors import StoppedError, say

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """A context in which signals are recorded instead of raised.

    Python runs handlers only between two of its instructions, and compiling a large program is one instruction of many
    seconds. So a thread listens for signals and can act while the compiler works.

    Signals reach the main thread alone: in any other nothing changes, and nothing is recorded.
    """

    def __init__(self, console: Console) -> None:
        """Says on `console` what a signal does."""
        self._console = console
        self._received = 0
        self._graceful = False

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            if threading.current_thread() is threading.main_thread():
                self._begin(stack)
            self._end_of_context = stack.pop_all()
        return self

    def _begin(self, stack: contextlib.ExitStack) -> None:
        self._terminals = [number for number in (1, 2) if os.isatty(number)]
        reading, writing = os.pipe()  # not inherited by other programs
        stack.callback(os.close, writing)
        threading.Thread(target=self._listen, args=(reading,), daemon=True).start()
        os.set_blocking(writing, False)
        stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writing, warn_on_full_buffer=False))
        for number in _SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup: to go on without a terminal
            stack.callback(signal.signal, number, signal.signal(number, lambda *_: None))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_of_context.close()

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
            if number == signal.SIGHUP:
                self._leave_terminal()
            self._say(f'{signal.Signals(number).name}: finishing the step and saving; send it again to stop at once.')
        os.close(reading)

    def _end(self, number: int) -> None:
        self._say(f'{signal.Signals(number).name}: stopped; the same command resumes from the latest checkpoint.')
        with contextlib.suppress(OSError):
            self._console.show_cursor()
            self._console.file.flush()
        os._exit(128 + number)

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal may be gone; the signal counts all the same
            say(self._console, text)

    def _leave_terminal(self) -> None:
        """Leads nowhere what would be written to a terminal that is gone, as each write would fail."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for number in self._terminals:
            if not os.isatty(number):
                os.dup2(nowhere, number)
        os.close(nowhere)
