"""What the tests of whole runs share: equality of runs, and real processes that train, die and are signaled.

Processes are forked from one clean server that imports torch once, so that each costs milliseconds, not seconds.
"""

import json
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

IN_A_SAVE = ("half a file", "before a flush", "before a rename", "after a rename", "before a deletion")
TIMINGS = {"images_per_second", "data_wait"}
PROCESSES = multiprocessing.get_context("forkserver")
PRELOADED = [
    "torch", "timm", "joblib", "pytest", "syn2co.pretraining.train", "syn2co.cli.main", "syn2co.pretraining.recipes",
    "syn2co.synthesis.generation.generate", "syn2co.reports.evaluation", "syn2co.studies.run", "frozen",
]  # fmt: skip


def wait_for_no_disk() -> None:
    """Make `os.fsync` do nothing in this process: it matters after a loss of power alone, which no test can show."""
    os.fsync = lambda fd: None


KILLED_ONCE = """
import os, signal
if os.environ.get("RANK") == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    import syn2co.pretraining.loop as loop
    take, taken = loop.training_step, []
    def step(*args, **named):
        taken.append(None)
        if len(taken) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return take(*args, **named)
    loop.training_step = step
"""
"""Lines of a sitecustomize.py: rank 1 dies in its third step, once."""


def metrics(run: Path) -> list[dict[str, Any]]:
    """Return the records of a run without the numbers that depend on the clock."""
    from syn2co.pretraining.metrics import read_metrics

    return [{k: v for k, v in record.items() if k not in TIMINGS} for record in read_metrics(run)]


def forget_waiting(run: Path) -> None:
    """Write into the metrics that no time went to waiting for images: how fast this machine is, is not the test's."""
    from syn2co.pretraining.metrics import FILE, read_metrics

    lines = [
        json.dumps({**record, "data_wait": 0.0} if "data_wait" in record else record) for record in read_metrics(run)
    ]
    (run / FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")


def assert_same_run(run: Path, other: Path, *, state: bool = True) -> None:
    """Every tensor of the newest checkpoint bit for bit, the saved state, and every line of the metrics."""
    from syn2co.runtime.checkpoint import load_checkpoint

    one, two = load_checkpoint(run), load_checkpoint(other)
    assert one.path.name == two.path.name
    assert_same_tensors(one.tensors, two.tensors)
    assert not state or one.state == two.state
    assert metrics(run) == metrics(other)


def assert_same_tensors(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert one.keys() == two.keys() and one
    assert [name for name in one if not _same(one[name], two[name])] == []


def _same(one: Any, two: Any) -> bool:
    import torch

    bits = [tensor.contiguous().reshape(-1).view(torch.uint8) if tensor.numel() else None for tensor in (one, two)]
    alike = one.dtype == two.dtype and one.shape == two.shape
    return alike and (one.numel() == 0 or torch.equal(*bits))  # type: ignore[arg-type]


def start(function: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Run function(*arguments) in a process of its own, in which warnings are errors; it must be importable."""
    _, output = tempfile.mkstemp(dir=os.environ["SYN2CO_CACHE"], suffix=".output")
    process = PROCESSES.Process(target=_speaking_to, args=(output, function, arguments), name=output)
    process.start()
    return process


def _speaking_to(output: str, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    wait_for_no_disk()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs the tests in the background
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.filterwarnings("ignore", "This DataLoader will create")  # more processes than cores, on purpose
    with open(output, "w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    function(*arguments)


def finish(process: BaseProcess, seconds: float = 180.0) -> int:
    """Return the exit status, -9 after a SIGKILL."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        raise AssertionError("the process did not end in time")
    print(said(process))
    return process.exitcode


def said(process: BaseProcess) -> str:
    """Return what a process printed."""
    return Path(process.name).read_text()


def start_ranks(ranks: int, function: Callable[..., None], *arguments: Any) -> list[BaseProcess]:
    """Run function(*arguments) on every rank, with the environment that torchrun would set."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [start(_as_rank, rank, ranks, port, function, arguments) for rank in range(ranks)]


def _as_rank(rank: int, ranks: int, port: int, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_WORLD_SIZE=str(ranks),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )  # fmt: skip
    function(*arguments)


def train(config: str, out: str) -> None:
    """Train as the command line does, errors and exit status included."""
    from syn2co.cli import main as cli

    path = Path(os.environ["SYN2CO_CACHE"], f"{os.getpid()}.json")
    path.write_text(config)
    sys.argv = ["syn2co", "pretrain", "--config", str(path), "--out", out, "--quiet"]
    cli.main()


def train_slowly(config: str, out: str, seconds: float) -> None:
    """Train with a pause before each micro-batch, so that a signal from outside meets it somewhere in the middle."""
    import time

    import syn2co.pretraining.loop as loop

    take = loop.training_step
    loop.training_step = lambda *args, **named: (time.sleep(seconds), take(*args, **named))[1]
    train(config, out)


def interrupt_at(monkeypatch: Any, passage: int, number: int) -> None:
    """Send the own process a signal before its `passage`-th micro-batch, counted from 0."""
    import syn2co.pretraining.loop as loop

    take, passed = loop.training_step, list[None]()

    def interrupted(*args: Any, **named: Any) -> Any:
        if len(passed) == passage:
            os.kill(os.getpid(), number)
        passed.append(None)
        return take(*args, **named)

    monkeypatch.setattr(loop, "training_step", interrupted)


class KernelRuns:
    """Runs of one config, whole or stopped, with a newer kernel and as they were before it."""

    def __init__(self, config: Any, folder: Path, monkeypatch: Any) -> None:
        self.config, self.folder, self.monkeypatch = config, folder, monkeypatch

    def run(self, name: str) -> dict[str, Any]:
        """Train, or go on, in the folder of this name; return the tensors at the end."""
        from syn2co.pretraining.train import pretrain
        from syn2co.runtime.checkpoint import load_checkpoint

        pretrain(self.config, out=self.folder / name, progress=False)
        return load_checkpoint(self.folder / name).tensors

    def stop(self, name: str) -> None:
        """Start the run, and stop it in its first step."""
        import pytest

        with self.monkeypatch.context() as patch, pytest.raises(SystemExit):
            interrupt_at(patch, 0, signal.SIGTERM)
            self.run(name)

    def check_former(self, field: str, owner: Any, switch: str, former: Any = lambda module: None) -> None:
        """See that a run begun without the kernel, which `owner.switch` puts in, ends as one that never had it.

        `former` is what the name held before.
        """
        from syn2co.runtime.checkpoint import load_checkpoint, save_checkpoint

        whole = self.run("with the kernel")
        with self.monkeypatch.context() as patch:
            patch.setattr(owner, switch, former)
            without = self.run("former")
            self.stop("before")
        assert not all(_same(without[name], whole[name]) for name in without), "else this shows nothing"
        begun = load_checkpoint(self.folder / "before")
        state = {name: value for name, value in begun.state.items() if name not in (field, "format", "step")}
        save_checkpoint(self.folder / "before", begun.state["step"], begun.tensors, state, keep=2)
        self.stop("before")  # in the first step of the second start, which must not forget it
        assert_same_tensors(self.run("before"), without)


def train_and_die(config: str, out: str, point: str, number: int) -> None:
    """Train, and kill the own process at the `number`-th passage (from 1) of a named point."""
    _arm(point, number)
    train(config, out)


def _arm(point: str, number: int) -> None:
    import safetensors.torch

    import syn2co.pretraining.loop as loop
    import syn2co.pretraining.run as run_module
    import syn2co.pretraining.run_folder as run_folder
    import syn2co.pretraining.train as module
    import syn2co.runtime.checkpoint as checkpoint

    passages, saving = 0, point not in IN_A_SAVE
    save = run_folder.save_checkpoint

    def passage() -> None:
        nonlocal passages
        passages += saving
        if passages == number and saving:
            os.kill(os.getpid(), signal.SIGKILL)

    def saves(*args: Any, **named: Any) -> Any:  # other files are flushed and renamed too
        nonlocal saving
        saving = True
        result = save(*args, **named)
        saving = False
        return result

    if point in IN_A_SAVE:
        run_folder.save_checkpoint = saves

    def around(owner: Any, name: str, *, before: bool) -> None:
        original = getattr(owner, name)

        def instrumented(*args: Any, **named: Any) -> Any:
            if before:
                passage()
            result = original(*args, **named)
            if not before:
                passage()
            return result

        setattr(owner, name, instrumented)

    def half_written(original: Callable[..., None]) -> Callable[..., None]:
        def write(tensors: Any, path: Path, **named: Any) -> None:
            if passages + 1 == number:
                Path(path).write_bytes(safetensors.torch.save(tensors, **named)[:5000])
            passage()
            original(tensors, path, **named)

        return write

    points: dict[str, Callable[[], None]] = {
        "before a micro-batch": lambda: around(loop, "training_step", before=True),
        "before the enqueue": lambda: around(run_module, "enqueue", before=True),
        "after the enqueue": lambda: around(run_module, "enqueue", before=False),
        "before a save": lambda: around(module, "save", before=True),
        "after a save": lambda: around(module, "save", before=False),
        "half a file": lambda: setattr(safetensors.torch, "save_file", half_written(safetensors.torch.save_file)),
        "before a flush": lambda: around(os, "fsync", before=True),
        "before a rename": lambda: around(os, "replace", before=True),
        "after a rename": lambda: around(os, "replace", before=False),
        "before config.json": lambda: around(os, "replace", before=True),
        "before a deletion": lambda: around(checkpoint, "remove", before=True),
    }
    points[point]()


def saved_steps(run: Path) -> list[int]:
    """Return the steps whose checkpoints lie in a run folder."""
    return sorted(int(path.stem.removeprefix("step-")) for path in (run / "checkpoints").glob("step-*.safetensors"))
