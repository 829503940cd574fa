"""Deterministic kernels, and what the last bits of a result depend on."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch.utils.deterministic

from syn2co.core.cpus import available_cpus
from syn2co.core.versions import package_versions, python_version
from syn2co.runtime.distributed import world_size
from syn2co.runtime.settings import MachineSettings


@contextlib.contextmanager
def deterministic(settings: MachineSettings) -> Iterator[None]:
    """Set the thread count and deterministic kernels inside the block, and put back what was there."""
    kernels: Any = torch.utils.deterministic  # torch's type stubs leave its setting out
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = kernels.fill_uninitialized_memory
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts; harmless elsewhere
    torch.use_deterministic_algorithms(True, warn_only=True)
    kernels.fill_uninitialized_memory = False  # it would fill every workspace, for nothing
    try:
        with limited_threads(settings):
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        kernels.fill_uninitialized_memory = fill


@contextlib.contextmanager
def limited_threads(settings: MachineSettings) -> Iterator[None]:
    """Set the thread count inside the block, and put back what was there."""
    threads = torch.get_num_threads()
    wanted = settings.threads or min(threads, available_cpus())  # torch does not know a container's limit
    if wanted != threads:
        torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def describe(device: torch.device) -> dict[str, Any]:
    """Return what a bit-exact repeat depends on besides the config: versions, threads, ranks, device."""
    return {
        **package_versions("torch", "timm", "numpy", "cv2"),
        "python": python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "ranks": world_size(),
    }


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return one phrase for everything that changed since the checkpoint and may change the last bits."""
    return [f"{name} {then.get(name)} -> {value}" for name, value in now.items() if then.get(name) != value]
