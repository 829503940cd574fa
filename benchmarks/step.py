"""Time and memory of a whole training step: ours, plain MoBY and those of other libraries, side by side in one run.

    python benchmarks/step.py [--cases cifar10,deit-s,swin-t] [--precisions bfloat16,float32] [--batch 4] [--rounds 4]
                              [--threads 2] [--peers SITE_PACKAGES] [--profile] [--json]

One step is both views through both branches, loss, backward pass, clipping and optimizer; views lie ready in memory.
Ours is `pretraining.loop.train` with the six kinds of synthetic negatives, and once with none; the others are in
peers.py, those of lightly and stable-pretraining where `--peers` has them. All have the allocator of our runs and take
turns in one process, each round begun by another; ratios are of the CPU seconds of the fastest turns, since a busy
machine stretches wall time. The product rate is that of a square matrix product of the same dtype, in turn with them.
Peak is the memory of a process of its own beyond what it held before the contender was built. bfloat16 is that of the
machine, emulated or not. On a GPU `tools/gpu_bench.py` times them.
"""

import argparse
import dataclasses
import importlib.util
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from peers import PEERS, Contender, Step, import_peers, plain, released
from rich.console import Console
from rich.table import Table
from torch import Tensor

from syn2co.data.batch import Batch
from syn2co.data.loader import Schedule
from syn2co.pretraining.config import Config
from syn2co.pretraining.loop import train
from syn2co.pretraining.method import Syn2Co
from syn2co.pretraining.metrics import Averages
from syn2co.pretraining.observers import SoundnessCheck
from syn2co.pretraining.operations import count_step
from syn2co.pretraining.recipes import recipe
from syn2co.pretraining.run import BatchStream, Run, Schedules, TrainingState
from syn2co.runtime import distributed
from syn2co.runtime.allocator import keep_freed_memory
from syn2co.runtime.determinism import deterministic
from syn2co.runtime.device import choose_device
from syn2co.runtime.optimizer import build_optimizer

CASES = {"cifar10": "synco-cifar10", "deit-s": "synco-deit-s", "swin-t": "synco-swin-t"}
RATE_SIZE = 1536
"""Side of the matrices of the product rate."""


def ours(config: Config, views: Tensor) -> Step:
    """Return our step, as `pretrain` takes it on each rank."""
    rows, device, ranks = views.shape[1], choose_device(config.machine.device), distributed.world_size()
    indices = torch.arange(rows)
    batch = Batch(views, indices, indices, indices, torch.zeros(2, rows, dtype=torch.bool))

    def batches() -> Iterator[Batch]:
        while True:
            yield batch

    model = Syn2Co(config, device).train()
    schedule = Schedule(100 * ranks * rows, ranks * rows, 1, ranks, config.seed)
    run = Run(
        total_steps=0,
        micro_batches=1,
        clip=config.optimizer.clip,
        schedule=schedule,
        schedules=Schedules(config, schedule, 10**6),
        stream=BatchStream(batches(), device),  # type: ignore[arg-type]
        average_and_check=SoundnessCheck(Path(), None, config.training.precision),  # type: ignore[arg-type]
    )
    online = distributed.wrap(model.online, device)
    state = TrainingState(model, online, build_optimizer(model.online, config.optimizer), 0, Averages(), [])

    def step() -> None:
        with deterministic(config.machine):
            train(dataclasses.replace(run, total_steps=state.step + 1), state)

    return step


def without_negatives(config: Config, views: Tensor) -> Step:
    """Return our step without synthetic negatives: what these cost is the rest."""
    return ours(config.with_settings("negatives=none"), views)


class Row(NamedTuple):
    """One contender on one case."""

    case: str
    precision: str
    contender: str
    batch: int
    seconds: float
    """Fastest step."""
    median_seconds: float
    cpu_seconds: float
    """Of the step that took the least."""
    median_cpu_seconds: float
    times_ours: float
    """CPU seconds of the contender as a multiple of ours: above 1, ours is faster."""
    product_share: float | None
    """Of the measured product rate, by the operations of our step."""
    peak_mib: float


class Case(NamedTuple):
    """A recipe in one precision, at one batch."""

    name: str
    precision: str
    batch: int

    @property
    def config(self) -> Config:
        """The recipe's config on the CPU, the window of negatives open."""
        settings = [f"training.precision={self.precision}", "negatives.start=0", "machine.device=cpu"]
        return recipe(CASES[self.name]).with_settings(settings)

    def views(self) -> Tensor:
        """Return noise as views."""
        size = self.config.views.size
        return torch.randint(0, 256, (2, self.batch, size, size, 3), dtype=torch.uint8)


def compare(
    case: Case, rounds: int, contenders: dict[str, Contender], peaks: dict[str, int], threads: int
) -> list[Row]:
    """Return a row per contender; all take turns, after one step to warm up."""
    torch.set_num_threads(threads)
    config, views = case.config, case.views()
    steps = {name: make(config, views) for name, make in contenders.items()}
    for step in steps.values():
        step()
    walls, cpus = ({name: list[float]() for name in [*steps, "product"]} for _ in range(2))
    turns = [*steps.items(), ("product", _product(case.precision))]
    for first in range(rounds):
        for name, step in turns[first % len(turns) :] + turns[: first % len(turns)]:
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            walls[name].append(time.perf_counter() - wall)
            cpus[name].append(time.process_time() - cpu)
    operations, rate = case.batch * count_step(config).flops, 2 * RATE_SIZE**3 / min(cpus["product"])
    return [
        Row(
            case.name,
            case.precision,
            name,
            case.batch,
            seconds=min(walls[name]),
            median_seconds=median(walls[name]),
            cpu_seconds=min(cpus[name]),
            median_cpu_seconds=median(cpus[name]),
            times_ours=min(cpus[name]) / min(cpus["ours"]),
            product_share=operations / min(cpus[name]) / rate if name == "ours" else None,
            peak_mib=peaks[name] / 2**20,
        )
        for name in steps
    ]


def _product(precision: str) -> Step:
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    left, right = (torch.randn(RATE_SIZE, RATE_SIZE).to(dtype) for _ in range(2))
    return lambda: torch.mm(left, right).sum().item() and None  # type: ignore[func-returns-value]


def alone(function: Callable[..., Any], *arguments: object) -> Any:
    """Return function(*arguments) of a fork, so that nothing runs in memory that something else has left."""
    with multiprocessing.get_context("fork").Pool(1) as pool:  # this process must not have threads of torch yet
        return pool.apply(function, arguments)


def peak(make: Contender, case: Case, threads: int) -> int:
    """Return the bytes that two steps take at their peak beyond those that this process holds now."""
    import timm  # noqa: F401  contenders import it when they are built, and it is no part of their step

    if make in {step for steps in PEERS.values() for step in steps.values()}:
        import_peers()
    torch.set_num_threads(threads)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = make(case.config, case.views())
    step()
    step()
    return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def profile_step(case: Case, threads: int) -> list[tuple[str, float]]:
    """Return the operators of our step with their share of its CPU time, the largest first."""
    torch.set_num_threads(threads)
    step = ours(case.config, case.views())
    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
        step()
    events: Any = profiled.key_averages()
    whole = sum(event.self_cpu_time_total for event in events)
    shares = [(event.key, event.self_cpu_time_total / whole) for event in events]
    return sorted(shares, key=lambda pair: -pair[1])


def _print(rows: list[Row]) -> None:
    setup = ("case", "precision", "contender", "B")
    table = Table(*setup, "s", "median", "CPU s", "median", "x ours", "of product rate", "peak MiB")
    for row in rows:
        share = "" if row.product_share is None else f"{100 * row.product_share:.0f} %"
        times = (f"{seconds:.3f}" for seconds in row[4:8])
        first = (row.case, row.precision, row.contender, str(row.batch))
        table.add_row(*first, *times, f"{row.times_ours:.2f}", share, f"{row.peak_mib:.0f}")
    Console(width=130).print(table)


def _print_profile(case: Case, threads: int) -> None:
    table = Table(f"{case.name}, {case.precision}: operator", "share of the step")
    for name, share in alone(profile_step, case, threads)[:20]:
        table.add_row(name, f"{100 * share:.1f} %")
    Console(width=130).print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--precisions", default="bfloat16,float32")
    parser.add_argument("--batch", type=int, default=4, help="of the cases at 224 px; cifar10 has its recipe's 128")
    parser.add_argument("--rounds", type=int, default=4, help="steps of each contender that count")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", help="folder of site-packages in which lightly, stable-pretraining or both lie")
    parser.add_argument("--profile", action="store_true", help="a table of operators per case and precision")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args()
    contenders: dict[str, Contender] = {
        "ours": ours, "ours, none": without_negatives, "plain MoBY": plain, "released": released
    }  # fmt: skip
    if options.peers:
        sys.path.append(options.peers)
        for package, steps in PEERS.items():
            contenders |= steps if importlib.util.find_spec(package) else {}
    keep_freed_memory()
    cases = [
        Case(name, precision, recipe(CASES[name]).training.batch if name == "cifar10" else options.batch)
        for name in options.cases.split(",")
        for precision in options.precisions.split(",")
    ]
    rows = list[Row]()
    for case in cases:
        peaks = {name: alone(peak, make, case, options.threads) for name, make in contenders.items()}
        rows += alone(compare, case, options.rounds, contenders, peaks, options.threads)
    if options.json:
        print(json.dumps({"threads": options.threads, "torch": torch.__version__, "rows": [r._asdict() for r in rows]}))
        return
    _print(rows)
    for case in cases if options.profile else ():
        _print_profile(case, options.threads)


if __name__ == "__main__":
    main()
