"""Progress of long work: a live bar on a terminal, a plain line now and then elsewhere, nothing on other ranks."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bar:
    """A bar of `total` units with free text; `advance` may be called thousands of times per second.

    Where the output is no terminal (a log file, CI), it prints one line every `quiet_seconds` instead.
    """

    def __init__(
        self, title: str, total: int, *, done: int = 0, show: bool = True, quiet_seconds: float = 30.0
    ) -> None:
        self.title, self.total, self.done, self.first = title, total, done, done
        self.console = Console(stderr=True)
        self.show = show
        self.live: Progress | None = None
        self.quiet_seconds = quiet_seconds
        self.started = self.printed = time.monotonic()
        self.text = ""

    def __enter__(self) -> Self:
        if self.show and self.console.is_terminal:
            columns = (
                TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
                TextColumn("{task.fields[text]}", markup=False),
                TimeElapsedColumn(), TextColumn("ETA"), TimeRemainingColumn(elapsed_when_finished=False),
            )  # fmt: skip
            self.live = Progress(*columns, console=self.console, refresh_per_second=4)
            self.live.start()
            self.task = self.live.add_task(self.title, total=self.total, completed=self.done, text="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()
        elif self.show and self.done > self.first and kind is None:
            self._line()

    def advance(self, units: int = 1, text: str | None = None) -> None:
        """Count `units` more as done and show `text` beside the bar."""
        self.done += units
        self.text = self.text if text is None else text
        if self.live is not None:
            self.live.update(self.task, completed=self.done, text=self.text)
        elif self.show and time.monotonic() - self.printed >= self.quiet_seconds:
            self._line()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        if self.show:
            self.console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)

    def _line(self) -> None:
        self.printed = time.monotonic()
        spent = self.printed - self.started
        left = spent / max(1, self.done - self.first) * (self.total - self.done)
        self.say(f"{self.title} {self.done}/{self.total} {self.text} elapsed {clock(spent)} ETA {clock(left)}")


class Stages:
    """Bars for a callee that reports `(stage, done, total)`: one bar a stage; total 0 means unknown."""

    def __init__(self, *, show: bool) -> None:
        self.show = show
        self.bar: Bar | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.__exit__(kind, error, trace)

    def report(self, stage: str, done: int, total: int) -> None:
        if self.bar is None or self.bar.title != stage:
            if self.bar is not None:
                self.bar.__exit__(None, None, None)
            self.bar = Bar(stage, total or done, show=self.show).__enter__()
        self.bar.total = max(total, done)
        self.bar.advance(done - self.bar.done)


def note(text: str) -> None:
    """Print what the user should know and need not act on, to the error stream.

    Args:
        text: one sentence without a period.
    """
    Console(stderr=True).print(f"note: {text}", markup=False, emoji=False, highlight=False, soft_wrap=True)


def clock(seconds: float) -> str:
    """Return a time as hours:minutes:seconds."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
