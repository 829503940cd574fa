"""Signals: remembered, so that a loop can save before it leaves."""

import contextlib
import signal
from types import FrameType
from typing import Any


class Interrupts:
    """Remember SIGTERM and Ctrl-C inside the block, so that the loop can save before it leaves.

    A second Ctrl-C acts at once. Outside the main thread signals cannot be caught and nothing is remembered.
    """

    CAUGHT = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.received = 0
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        with contextlib.suppress(ValueError):
            for number in self.CAUGHT:
                self.before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _: FrameType | None) -> None:
        if self.received == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
