"""The allocator: the pages of a freed block are there for the next one."""

import platform
import resource
import subprocess
import sys

import pytest

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
