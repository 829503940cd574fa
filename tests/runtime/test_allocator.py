"""The allocator: the pages of a freed block are there for the next one."""

import platform
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_folders import paint

from syn2co.core.errors import TrainingError
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.pretraining.train import pretrain
from syn2co.reports.evaluation import evaluate
from syn2co.runtime.allocator import keep_freed_memory, lack_named
from syn2co.runtime.device import choose_device

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("LD_PRELOAD", "/usr/lib/libtcmalloc_minimal.so.4", False),
        ("LD_PRELOAD", "/usr/lib/libfaketime.so", True),
        ("SYN2CO_KEEP_MEMORY", "0", False),
        ("SYN2CO_KEEP_MEMORY", "1", True),
    ],
)
def test_an_allocator_of_the_users_is_left_alone(
    name: str, value: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.setenv(name, value)
    calls: list[tuple[int, int]] = []
    library = SimpleNamespace(mallopt=lambda *options: calls.append(options) or 1)
    monkeypatch.setattr("syn2co.runtime.allocator.ctypes.CDLL", lambda name: library)
    assert keep_freed_memory() is kept and len(calls) == 2 * kept


def test_every_process_that_computes_on_the_cpu_keeps_freed_memory(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named defect: training alone did; scores and features took 10 to 20 % longer."""
    calls: list[None] = []
    monkeypatch.setattr("syn2co.runtime.device.keep_freed_memory", lambda: calls.append(None))
    choose_device("cpu")
    assert len(calls) == 1
    pretrain(tiny("training.steps=1", "negatives=none"), out=tmp_path / "run", progress=False)
    trained = len(calls)
    train, test = (paint(tmp_path / side, {"blue": 4, "red": 4}, seed=seed) for seed, side in enumerate(("a", "b")))
    evaluate(tmp_path / "run", [train], [test], protocols=("knn",), settings=EvaluationSettings(baselines=False))
    assert 1 < trained < len(calls)


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
