"""Cost of generation: a line of cost.jsonl for each call that worked on a set, however the call ended."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syn2co.core.cpus import available_cpus
from syn2co.core.errors import ConfigError, DataError, SynthesisError
from syn2co.core.files import no_link
from syn2co.runtime.signals import ends_on_signals
from syn2co.synthesis.generation.locks import lock, writing_to
from syn2co.synthesis.sets.dataset_folder import COST


@dataclass
class CallCost:
    """Cost of one call, counted from when it is made; `record` is its line."""

    device: str
    workers: int
    images: int = 0
    """Images made by the call."""
    workers_cpu_seconds: float = 0.0
    """CPU seconds of the processes that make images, which the system counts as another process's children."""
    opening_seconds: float | None = None
    """Seconds until the generator was open, fitted or trained; None until then."""
    began: float = field(default_factory=time.time)
    started: float = field(default_factory=time.monotonic)
    cpu_before: float = field(default_factory=lambda: sum(os.times()[:4]))

    def opened(self) -> None:
        """Note that the generator is open now."""
        self.opening_seconds = time.monotonic() - self.started

    def record(self, ended: str) -> dict[str, Any]:
        """Return the line: seconds rounded to milliseconds."""
        seconds = time.monotonic() - self.started
        opening = seconds if self.opening_seconds is None else self.opening_seconds
        cpu = sum(os.times()[:4]) - self.cpu_before + self.workers_cpu_seconds
        return {
            "began": round(self.began, 3),
            "seconds": round(seconds, 3),
            "opening_seconds": round(opening, 3),
            "cpu_seconds": round(cpu, 3),
            "images": self.images,
            "device": self.device,
            "workers": self.workers,
            "threads": _threads(),
            "ended": ended,
        }


@contextlib.contextmanager
def counted(folder: Path, cost: CallCost) -> Iterator[None]:
    """Append the cost of the block to cost.jsonl, after an error or a signal too.

    A call that was refused before it made an image leaves no line, nor does one that was killed.
    """
    try:
        with ends_on_signals():
            yield
    except BaseException as error:
        if cost.images or not isinstance(error, ConfigError | DataError):
            with contextlib.suppress(SynthesisError):  # what the block raised is to be read
                _append(folder, cost.record(type(error).__name__))
        raise
    _append(folder, cost.record("done"))


def _append(folder: Path, record: dict[str, Any]) -> None:
    line = json.dumps(record) + "\n"
    with writing_to(folder), lock(folder, "cost"), open(folder / COST, "ab", opener=no_link) as file:
        file.write(line.encode())


def _threads() -> int:
    """Return the threads that numerical libraries may use in this process."""
    if "torch" in sys.modules:
        return sys.modules["torch"].get_num_threads()
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdecimal() else available_cpus()
