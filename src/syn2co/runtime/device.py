"""Devices, what they only emulate, and the number of processes that load images."""

import platform

import torch.utils.deterministic

from syn2co.core.cpus import cpus_of_rank
from syn2co.core.errors import ConfigError
from syn2co.core.launcher import launcher
from syn2co.runtime.allocator import keep_freed_memory
from syn2co.runtime.distributed import local_rank
from syn2co.runtime.settings import MachineSettings

WITHOUT_FLOAT64 = {"mps"}
"""Types of devices without float64."""


def choose_device(name: str) -> torch.device:
    """Return the device of a name; auto is CUDA (this node's rank), else Apple's MPS, else the CPU.

    The process is made ready for it: it is the current CUDA device, or freed memory is kept for later tensors (CPU).

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
    if device.type == "cpu":
        keep_freed_memory()
    return device


def emulates_bfloat16(device_type: str) -> bool:
    """Return whether a type of device only emulates products of bfloat16, slower than those of float32.

    torch counts older GPUs, which emulate them, as able. Of Apple's GPUs nothing is known: they are taken as able.
    """
    if device_type == "cpu":
        return not _cpu_multiplies_bfloat16()
    return device_type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)


def slow_precision(precision: str, device: torch.device) -> list[str]:
    """Return a note if a precision that was asked for is only emulated by a device."""
    slow = precision == "bfloat16" and emulates_bfloat16(device.type)
    return ["precision = bfloat16: is only emulated by this device, slower than float32"] if slow else []


def _cpu_multiplies_bfloat16() -> bool:
    """Return whether the processor has AVX512-BF16, AMX, or ARM's bfloat16; torch has no public names for these."""
    if platform.machine().lower() in {"arm64", "aarch64"}:
        return bool(getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)())  # torch on macOS has none
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in asked)


def with_float64(device: torch.device) -> torch.device:
    """Return the device, or the CPU in place of one that has no float64."""
    return torch.device("cpu") if device.type in WITHOUT_FLOAT64 else device


def _this_rank(device: torch.device, name: str) -> torch.device:
    """Return the CUDA device of this process: the one named, the only one it sees, or on this node that of its rank."""
    count = torch.cuda.device_count()
    if device.index is not None and launcher().local_size > 1:
        raise ConfigError(f"machine.device = {name}: would give every rank the same GPU; use cuda")
    # One GPU is this process's own, whatever its rank, unless torchrun has started it: its ranks see the same ones.
    own = 0 if count == 1 and not launcher().torchrun else local_rank()
    index = own if device.index is None else device.index
    if index >= count:
        raise ConfigError(f"machine.device = {name}: GPU {index} is asked for and torch sees {count}; name one it sees")
    return torch.device("cuda", index)


def choose_workers(settings: MachineSettings, device: torch.device, *, cached: bool) -> int:
    """Return how many processes load images: none where decoded images lie in memory beside a CPU that trains."""
    if settings.workers is not None:
        return settings.workers
    share = cpus_of_rank()
    if device.type == "cpu":
        return 0 if cached else max(1, share // 2)
    return max(1, min(8, share - 1))
