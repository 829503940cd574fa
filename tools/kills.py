"""Kills runs, sets, scores and audits at random moments; resumed, each must end like one that was left alone.

    python tools/kills.py                     # 200 kills over all jobs, about 10 minutes on two cores
    python tools/kills.py --kills 40 --only pretrain generate --seed 7

Each job is the command line in a forked process. A kill is SIGKILL at a keyed moment of the time that the job takes
when left alone: of the process group, or of the main process alone, whose helpers must then leave by themselves. After
some kills the job is left to end. Exit status 1: something differs, fails, or outlives its parent.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from syn2co.core.keyed_rng import generator
from syn2co.synthesis.sets.dataset_folder import COST

PROCESSES = multiprocessing.get_context("forkserver")
KILLS_A_JOB = 8
"""Kills before a job is left to end."""
PATIENCE = 120.0
"""Seconds after which a job counts as hanging; helpers of a killed one have a quarter of it."""
TINY = (
    "training.steps=40", "training.batch=8", "queue.size=64", "negatives.hardest=16", "heads.hidden=64",
    "views.size=32",
    "encoder.options.embed_dim=48", "encoder.options.depth=1", "machine.threads=1", "machine.tensorboard=false",
    "machine.log_steps=2", "machine.save_steps=3",
)  # fmt: skip


class Job(NamedTuple):
    """A command with what it leaves."""

    words: Callable[[Path, Path, int], list[str]]
    """(images, out, number of the attempt) -> arguments of the command line."""
    left: Callable[[Path], Any]
    """What the job leaves in `out`, without what the clock decides."""
    ranks: int = 1


def pretrain(images: Path, out: Path, attempt: int) -> list[str]:
    """A run whose number of loading processes changes with every attempt."""
    settings = [word for line in (*TINY, f"machine.workers={attempt % 3}") for word in ("--set", line)]
    return ["pretrain", "--recipe", "demo", "--quiet", "--real", str(images / "train"), "--out", str(out), *settings]


def generate(images: Path, out: Path, attempt: int) -> list[str]:
    """A fitted set in shards of 50."""
    options = ["--count", "400", "--size", "32", "--set", "work.shard_size=50", "--workers", str(1 + attempt % 2)]
    return [
        "generate",
        "--generator",
        "fitted",
        "--real",
        str(images / "train"),
        "--out",
        str(out),
        "--quiet",
        *options,
    ]


def evaluate(images: Path, out: Path, attempt: int) -> list[str]:
    """Scores of the encoder that `reference_run` trains."""
    words = ["evaluate", str(images / "run"), "--train", str(images / "train"), "--test", str(images / "test")]
    return [*words, "--protocols", "knn,linear", "--out", str(out), "--set", f"workers={attempt % 3}"]


def audit(images: Path, out: Path, attempt: int) -> list[str]:
    """An audit against the test images."""
    return [
        "audit",
        str(images / "set"),
        "--real",
        str(images / "train"),
        "--against",
        str(images / "test"),
        "--out",
        str(out),
    ]


def run_left(out: Path) -> Any:
    """Every tensor of the newest checkpoint and the metrics."""
    from syn2co.pretraining.metrics import read_metrics
    from syn2co.runtime.checkpoint import load_checkpoint

    saved = load_checkpoint(out)
    tensors = {name: tensor.numpy().tobytes() for name, tensor in saved.tensors.items()}
    timed = {"images_per_second", "data_wait"}
    return saved.state, tensors, [{k: v for k, v in line.items() if k not in timed} for line in read_metrics(out)]


def files_left(out: Path) -> Any:
    """The bytes of all files but those that begin with a dot and the seconds that the work took."""
    files = (path for path in sorted(out.rglob("[!.]*")) if path.is_file() and path.name != COST)
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def report_left(name: str) -> Callable[[Path], Any]:
    """The body of a report without the machine and the seconds."""

    def left(out: Path) -> Any:
        body = json.loads((out / name).read_text(encoding="utf-8"))
        return {key: value for key, value in body.items() if key not in ("machine", "seconds")}

    return left


JOBS = {
    "pretrain": Job(pretrain, run_left),
    "pretrain, two ranks": Job(pretrain, run_left, ranks=2),
    "generate": Job(generate, files_left),
    "evaluate": Job(evaluate, report_left("evaluation.json")),
    "audit": Job(audit, report_left("audit.json")),
}


def run_command(words: list[str], environment: dict[str, str], log: str) -> None:
    """Be the command line, in a process group of its own."""
    os.setsid()
    os.environ.update(environment)
    with open(log, "ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from syn2co.cli.main import main

    sys.argv = ["syn2co", *words]
    main()


def begin(words: list[str], ranks: int, log: Path) -> list[BaseProcess]:
    """Start the command on every rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = []
    for rank in range(ranks):
        several = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": ranks,
            "LOCAL_WORLD_SIZE": ranks,
            "MASTER_PORT": port,
        }
        environment = {name: str(value) for name, value in several.items()} | {"MASTER_ADDR": "127.0.0.1"}
        process = PROCESSES.Process(target=run_command, args=(words, environment if ranks > 1 else {}, str(log)))
        process.start()
        processes.append(process)
    return processes


def end(processes: list[BaseProcess], log: Path) -> None:
    """Wait for a job that is left alone; it must end well."""
    for process in processes:
        process.join(PATIENCE)
        if process.exitcode is None:
            os.killpg(process.pid or 0, signal.SIGKILL)
        if process.exitcode != 0:
            raise RuntimeError(f"exit status {process.exitcode}:\n{log.read_text(errors='replace')[-2000:]}")


def kill(processes: list[BaseProcess], *, group: bool) -> None:
    """Kill the first rank, with its helpers or alone, then the other ranks; nothing may be left."""
    for process in processes:
        assert process.pid is not None
        try:
            (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it has ended before, or has no group yet
            process.kill()
        process.join()
    limit = time.monotonic() + PATIENCE / 4
    for process in processes:
        while _alive(process.pid or 0):
            if time.monotonic() > limit:
                os.killpg(process.pid or 0, signal.SIGKILL)
                raise RuntimeError("helpers outlive the process that was killed")
            time.sleep(0.02)


def _alive(group: int) -> bool:
    """Return whether any process of a group runs; one that has ended and waits to be collected does not."""
    for entry in Path("/proc").iterdir():
        try:
            state, _, its_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(its_group) == group and state not in "ZX":
            return True
    return False


def attack(name: str, images: Path, kills: int, seed: int) -> str:
    """Kill one kind of job and return what came of it.

    Raises:
        RuntimeError: if something differs, fails, hangs, or outlives its parent.
    """
    job, folder = JOBS[name], images.parent / name.replace(", ", "-").replace(" ", "-")
    log = images.parent / f"{folder.name}.log"
    started = time.monotonic()
    end(begin(job.words(images, folder, 0), job.ranks, log), log)
    seconds, expected = time.monotonic() - started, job.left(folder)
    done = rounds = 0
    while done < kills:
        out, rounds = folder.with_name(f"{folder.name}-{rounds}"), rounds + 1
        for attempt in range(min(KILLS_A_JOB, kills - done)):
            draws = generator("kills", seed, name, done)
            processes = begin(job.words(images, out, attempt), job.ranks, log)
            time.sleep(float(draws.uniform(0, seconds)))
            kill(processes, group=bool(draws.integers(2)))
            done += 1
        end(begin(job.words(images, out, KILLS_A_JOB), job.ranks, log), log)
        if (left := job.left(out)) != expected:
            parts = [part for part in left if left[part] != expected.get(part)] if isinstance(left, dict) else []
            raise RuntimeError(f"{out.name}: ends otherwise than {folder.name} {parts}")
        shutil.rmtree(out)
    return f"{name}: {done} kills, {rounds} jobs ended like the one left alone ({seconds:.1f} s)"


def prepare(folder: Path) -> Path:
    """Write labeled squares, a run and a set that the jobs take."""
    images = folder / "images"
    for split, count in (("train", 60), ("test", 30)):
        for number in range(count):
            draws = generator("kills", split, number)
            picture = draws.integers(0, 80, (40, 40, 3)).astype(np.uint8)
            picture[5:25, 8:30, number % 3] = 230
            path = images / split / "abc"[number % 3] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture)
    log = folder / "prepare.log"
    end(begin(pretrain(images, images / "run", 0), 1, log), log)
    end(begin(generate(images, images / "set", 0), 1, log), log)
    return images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--only", nargs="+", choices=list(JOBS), default=list(JOBS), metavar="JOB")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1")
    PROCESSES.set_forkserver_preload(
        ["torch", "timm", "syn2co.cli.main", "syn2co.pretraining.train", "syn2co.synthesis.generation.generate",
         "syn2co.reports.evaluation", "syn2co.reports.audit"]
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="syn2co-kills-") as folder:
        os.environ["SYN2CO_CACHE"] = f"{folder}/cache"
        images = prepare(Path(folder))
        share, rest = divmod(given.kills, len(given.only))
        failures = 0
        for number, name in enumerate(given.only):
            try:
                print(attack(name, images, share + (number < rest), given.seed), flush=True)
            except RuntimeError as error:
                failures += 1
                print(f"{name}: {error}", flush=True)
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
