"""Signals: remembered, so that a loop can save before it leaves."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

from syn2co.core.launcher import launcher
from syn2co.core.processes import LEAVE

LEFT = 128 + signal.SIGTERM
"""Exit status of a process that has saved and left after any signal but Ctrl-C."""


_BLOCKS: list["Interrupts"] = []


class Interrupted(Exception):
    """A signal ended a wait; its number is the argument."""


def received() -> int:
    """Return the signal that the innermost block of `Interrupts` has received, 0 if none."""
    return _BLOCKS[-1].received if _BLOCKS else 0


def leave_a_wait() -> None:
    """Raise what ends a wait if a signal is remembered.

    Raises:
        Interrupted: after a signal.
    """
    if received():
        raise Interrupted(received())


class Interrupts:
    """Remember signals to leave inside the block, so that the loop can save before it leaves.

    They are Ctrl-C and those of `core.processes.LEAVE`; SIGHUP only where nohup has not silenced it. A second Ctrl-C
    acts at once, and so does any signal that comes more than a second after the first: schedulers send several at a
    time. Outside the main thread signals cannot be caught and nothing is remembered.

    A rank that torchrun has started, and whose torchrun is gone, has received SIGTERM: nobody else would end it.
    """

    def __init__(self) -> None:
        self._received = 0
        self._since = 0.0
        self._parent = os.getppid() if launcher().torchrun else None
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        with contextlib.suppress(ValueError):
            for number in (signal.SIGINT, *LEAVE):
                if signal.Signals(number).name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN:
                    self.before[number] = signal.signal(number, self._remember)
        _BLOCKS.append(self)
        return self

    @property
    def received(self) -> int:
        """The last signal to leave, 0 if there was none."""
        orphaned = self._parent is not None and os.getppid() != self._parent
        return self._received or (signal.SIGTERM if orphaned else 0)

    def __exit__(self, *_: object) -> None:
        _BLOCKS.remove(self)
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _: FrameType | None) -> None:
        again = self._received and time.monotonic() - self._since > 1.0
        if again or self._received == number == signal.SIGINT:
            leave(number)
        if not self._received:
            self._since = time.monotonic()
        self._received = number


class Terminated(BaseException):
    """A signal to leave came; no SystemExit, which is an error of its job where a generator calls exit()."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextlib.contextmanager
def ends_on_signals() -> Iterator[None]:
    """Make a signal to leave raise `Terminated` in the block, which then ends as `leave` does.

    In the main thread alone, and not for signals that are ignored. Handlers of before come back. Python drops what
    is raised while it tidies up objects (`__del__`, callbacks of weak references): such a signal is sent again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handled = [number for number in LEAVE if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, _terminate) for number in handled}
    hook = sys.unraisablehook

    def send_again(dropped: "sys.UnraisableHookArgs") -> None:
        if number := _signal_of(dropped.exc_value):
            threading.Timer(0.01, _send, (number,)).start()  # later, since what is raised in here is dropped too
        else:
            hook(dropped)

    sys.unraisablehook = send_again
    try:
        yield
    except Terminated as terminated:
        raise SystemExit(LEFT) from terminated
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _terminate(number: int, _: FrameType | None) -> None:
    raise Terminated(number)


def _signal_of(error: BaseException | None) -> int:
    """Return the signal that an exception was raised for, 0 if it was none."""
    if isinstance(error, Terminated):
        return error.number
    if isinstance(error, SystemExit) and error.code == LEFT:
        return signal.SIGTERM
    return signal.SIGINT if isinstance(error, KeyboardInterrupt) else 0


def _send(number: int) -> None:
    """Send this process a signal that also ends a wait of its main thread."""
    if sys.platform == "win32":
        signal.raise_signal(number)  # there os.kill would end the process at once
    else:
        os.kill(os.getpid(), number)


def leave(number: int) -> NoReturn:
    """Raise what ends the program after a signal.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
        SystemExit: with status 143 after any other signal.
    """
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(LEFT)
