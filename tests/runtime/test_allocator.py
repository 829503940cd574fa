"""The allocator: the pages of a freed block are there for the next one."""

import platform
import resource
import subprocess
import sys

import numpy as np
import pytest
import torch

from syn2co.core.errors import TrainingError
from syn2co.runtime.allocator import lack_named

SCRIPT = """
import resource, sys
import torch
from syn2co.runtime.allocator import keep_freed_memory
assert keep_freed_memory() if sys.argv[1] == "keep" else True
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(16 << 20)  # 64 MiB, 16,384 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_blocks_are_used_again_without_page_faults() -> None:
    def faults(how: str) -> int:
        environment = {"PATH": "", "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, check=True, env=environment)
        return int(done.stdout)

    pages = 8 * (64 << 20) // resource.getpagesize()
    assert faults("keep") < pages / 4


@pytest.mark.parametrize("error", [
    MemoryError(), np._core._exceptions._ArrayMemoryError((10**6, 10**6), np.dtype("f8")),  # type: ignore[attr-defined]
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 12000000000768 bytes."),
])  # fmt: skip
def test_a_lack_of_memory_is_one_sentence(error: Exception) -> None:
    sentence = r"^memory is used up \(.+\); lower queue.size, views.size or training.batch, or raise"
    with pytest.raises(TrainingError, match=sentence), lack_named():
        raise error


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"), lack_named():
        raise RuntimeError("shapes do not fit")
