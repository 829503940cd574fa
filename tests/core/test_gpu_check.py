"""A short form of `make gpu-check` on the CPU: its checks run, and what is wrong is a row that says so."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(scope="module")
def tool() -> Iterator[Any]:
    sys.path.insert(0, str(TOOLS))
    import gpu_check  # type: ignore[import-not-found]

    yield gpu_check
    sys.path.remove(str(TOOLS))


def test_a_run_on_the_device_is_that_of_the_cpu_and_resumes_bit_for_bit(tool: Any, tmp_path: Path) -> None:
    bench = tool.Bench("cpu", tmp_path, small=True)
    outcomes = list(tool.run_checks(["float32", "resume", "memory"], bench))
    assert [one.verdict for one in outcomes] == ["pass", "pass", "not run"], outcomes
    assert outcomes[0].result == (
        "beside the CPU's float32: loss 0.0e+00 away, allowed 0.001; gradient_norm 0.0e+00 away, allowed 0.01"
    )
    assert outcomes[1].result.startswith("resumed from step 1 of 3: 0 of ")


def test_a_resume_of_other_bits_fails(tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = tool.Bench("cpu", tmp_path, small=True)
    read = tool.load_checkpoint

    def changed(run: Path) -> Any:
        checkpoint = read(run)
        next(iter(checkpoint.tensors.values())).view(-1)[0].add_(1 if run.name == "again" else 0)
        return checkpoint

    monkeypatch.setattr(tool, "load_checkpoint", changed)
    (outcome,) = tool.run_checks(["resume"], bench)
    assert outcome.verdict == "fail" and ": 1 of " in outcome.result, outcome


def test_waits_of_the_host_and_memory_beyond_the_estimate_fail(
    tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured as torch would say it on a GPU of 10 GB, of which other programs and libraries have 1."""
    bench, steps = tool.Bench("cpu", tmp_path, small=True), list[None]()
    bench.gpu, bench.wait = True, lambda: None

    def step() -> None:
        steps.append(None)
        for _ in range(len(steps)):
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)

    def sync_debug_mode(mode: str) -> None:
        warnings.warn("Synchronization debug mode does not yet detect all synchronizing operations", stacklevel=1)

    bench.our_step = lambda config: lambda: None
    monkeypatch.setattr("torch.cuda.set_sync_debug_mode", sync_debug_mode)
    monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (7e9, 10e9))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda device: 2e9)
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda device: 3e9)
    bench.timed_config = bench.config
    names = ["synchronizations", "memory"]
    monkeypatch.setattr(tool, "estimated_memory", lambda config: 3.3e9)
    good = [one[1:3] for one in tool.run_checks(names, bench)]
    monkeypatch.setattr(tool, "estimated_memory", lambda config: 3.1e9)
    bench.our_step = lambda config: step
    with pytest.warns(UserWarning, match="called a sync"):
        bad = [one[1:3] for one in tool.run_checks(names, bench)]
    assert good == [
        ("pass", "0 in a step, allowed 1 (none)"),
        ("pass", "4.00 GB at batch 8, 3.30 GB estimated"),
    ]
    assert [verdict for verdict, _ in bad] == ["fail", "fail"]
    assert bad[0][1].startswith("2 in a step, allowed 1 (test_gpu_check.py:")
    assert bad[1][1] == "4.00 GB at batch 8, 3.10 GB estimated"


def test_each_check_is_a_row_whatever_it_meets(
    tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raw(bench: object) -> str:
        raise KeyError("a | b")

    def wrong(bench: object) -> str:
        return tool.judged(False, "1 of 2 differ")

    monkeypatch.setattr(tool, "CHECKS", {"raw": raw, "wrong": wrong, "good": lambda bench: "equal"})
    monkeypatch.setenv("SYN2CO_CACHE", "as before")  # `main` has one of its own
    page = tmp_path / "gpu.md"
    assert tool.main(["--device", "cpu", "--out", str(page)]) == 1
    rows = page.read_text().splitlines()[4:]
    assert rows == [
        "| raw | fail | KeyError: 'a \\| b' | 0 |",
        "| wrong | fail | 1 of 2 differ | 0 |",
        "| good | pass | equal | 0 |",
    ]
    assert tool.main(["--device", "cpu", "--only", "good"]) == 0
    assert "wrong" not in capsys.readouterr().out.rpartition("check")[2]
    (late,) = tool.run_checks(["good"], tool.Bench("cpu", tmp_path, small=True), seconds=0.0)
    assert late.verdict == "not run" and late.result == "0 s are over; run it with --only good"


def test_without_a_gpu_it_says_so(
    tool: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert tool.main([]) == 2
    assert capsys.readouterr().out.startswith("there is no GPU: torch sees no CUDA device;")


HANGS = """
import subprocess, sys, time
sys.path.insert(0, {tools!r})
import gpu_check
gpu_check.LIMIT, gpu_check.LATE = 1.0, float({late})
def hang(bench):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    gpu_check.CHILDREN.append(child)
    print("child", child.pid, file=sys.stderr, flush=True)
    time.sleep(120)
gpu_check.CHECKS |= {{"flow": lambda bench: "good", "resume": hang}}
gpu_check.main(["--device", "cpu", "--small", "--out", {out!r}, *"--only flow --only resume --only memory".split()])
"""


@pytest.mark.parametrize(("late", "verdict"), [(0, "fail"), (60, "not run")])
def test_a_check_that_hangs_is_named_in_the_table_and_its_processes_end(
    tmp_path: Path, late: int, verdict: str
) -> None:
    """Named defect: it was waited for until somebody ended it all, and then there was no table."""
    out, folders = tmp_path / "gpu.md", tmp_path / "tmp"
    folders.mkdir()
    code = HANGS.format(tools=str(TOOLS), out=str(out), late=late)
    environment = {**os.environ, "TMPDIR": str(folders), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == (verdict == "fail"), done.stderr
    rows = [line.split(" | ")[:3] for line in out.read_text().splitlines()[4:]]
    assert [row[:2] for row in rows] == [["| flow", "pass"], ["| resume", verdict], ["| memory", "not run"]]
    assert rows[1][2].startswith("has not ended after ") and rows[2][2] == "resume has not ended"
    assert "has not ended" in " ".join(done.stdout.split()) and not list(folders.glob("syn2co-gpu-check-*"))
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stderr.split("child ")[1].split()[0]), 0)
