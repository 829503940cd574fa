"""What a run needs of the machine: device, threads, deterministic kernels, signals, one run a folder."""

import contextlib
import os
import platform
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.utils.deterministic

from syn2co.core.errors import ConfigError
from syn2co.pretraining.config import MachineSettings
from syn2co.runtime.distributed import local_rank, world_size


def choose_device(name: str) -> torch.device:
    """Return the device of a name; auto is CUDA (this node's rank), else Apple's MPS, else the CPU.

    Raises:
        ConfigError: if the device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"machine.device = {name}: must be auto, cpu, cuda, cuda:N or mps") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"machine.device = {name}: torch sees no CUDA GPU; use cpu or install a CUDA build of torch")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"machine.device = {name}: torch sees no Apple GPU; use cpu")
    if device.type == "cuda":
        device = _this_rank(device, name)
        torch.cuda.set_device(device)
    return device


def _this_rank(device: torch.device, name: str) -> torch.device:
    """Return the CUDA device of this process: the one named, or on this node the one of its rank."""
    count = torch.cuda.device_count()
    if device.index is not None and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
        raise ConfigError(f"machine.device = {name}: would give every rank the same GPU; use cuda")
    index = local_rank() if device.index is None else device.index
    if index >= count:
        raise ConfigError(f"machine.device = {name}: GPU {index} is asked for and torch sees {count}; name one it sees")
    return torch.device("cuda", index)


def choose_workers(settings: MachineSettings, device: torch.device, *, cached: bool) -> int:
    """Return how many processes load images: none where decoded images lie in memory beside a CPU that trains."""
    if settings.workers is not None:
        return settings.workers
    share = (os.cpu_count() or 1) // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if device.type == "cpu":
        return 0 if cached else max(1, share // 2)
    return max(1, min(8, share - 1))


@contextlib.contextmanager
def deterministic(settings: MachineSettings) -> Iterator[None]:
    """Set the thread count and deterministic kernels inside the block, and put back what was there."""
    kernels: Any = torch.utils.deterministic  # torch's type stubs leave its setting out
    threads, before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = kernels.fill_uninitialized_memory
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts; harmless elsewhere
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    kernels.fill_uninitialized_memory = False  # it would fill every workspace, for nothing
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        kernels.fill_uninitialized_memory = fill
        torch.set_num_threads(threads)


def describe(device: torch.device) -> dict[str, Any]:
    """Return what a bit-exact repeat depends on besides the config: versions, threads, ranks, device."""
    import cv2
    import numpy
    import timm

    import syn2co

    return {
        "syn2co": syn2co.__version__,
        "torch": str(torch.__version__),
        "timm": timm.__version__,
        "numpy": numpy.__version__,
        "opencv": cv2.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "ranks": world_size(),
    }


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return one phrase for everything that changed since the checkpoint and may change the last bits."""
    return [f"{name} {then.get(name)} -> {value}" for name, value in now.items() if then.get(name) != value]


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


@contextlib.contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Hold the folder's lock inside the block; the system lets go of it whenever the process ends, even killed.

    Raises:
        ConfigError: if another run holds it.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise ConfigError(f"--out {folder.name}: another run is writing to this folder; choose another one") from None
    except OSError as error:
        raise ConfigError(f"--out {folder.name}: cannot be written ({error.strerror}); choose another folder") from None
    try:
        yield
    finally:
        lock.release()
