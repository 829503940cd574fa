"""How time and memory grow with images, their size, ranks and the sizes of the objective: a table, exponents, a plot.

    python benchmarks/scale.py [--out FOLDER] [--only NAME,...] [--sizes N,...] [--seconds 200]

Each point is a process of its own, forked, on one thread: the CPU seconds of the fastest call, of three or of a
second's, and the peak of the process above what it began with (Linux). Points come smallest first, and none is begun
after `--seconds` of CPU time in all.
The exponent is the slope of log time over log size through the larger half of the points: 1 is linear, 2 quadratic.
That of memory is given from `LEAST` MiB on: below, what a first call touches of the libraries decides it.
FOLDER gets scale.svg: CPU seconds as a line, MiB as a dashed one.
"""

import argparse
import contextlib
import multiprocessing
import os
import resource
import socket
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from index_memory import make_tree
from matplotlib import rc_context
from matplotlib.figure import Figure
from step import Case, ours

from syn2co.core import keyed_rng
from syn2co.data.open import open_images
from syn2co.data.settings import ViewsSettings
from syn2co.data.views import two_views
from syn2co.evaluation.protocols.knn import neighbors
from syn2co.images.decode import decode
from syn2co.images.hash_pairs import close_pairs
from syn2co.objective import (
    PRESETS,
    DrawKey,
    NegativeCounts,
    NegativeStrengths,
    contrastive_loss,
    draw_negatives,
    unit_rows,
)
from syn2co.reports.audit import audit
from syn2co.runtime import distributed

RADIUS = 12
BATCH, KEYS, NEGATIVES, WIDTH = 128, 4096, 768, 256


class Series(NamedTuple):
    """A quantity that grows, its sizes, and from a size to the work that is timed."""

    title: str
    sizes: tuple[int, ...]
    prepare: Callable[[int], Callable[[], object]]


class Point(NamedTuple):
    """One size with CPU seconds and MiB."""

    size: int
    seconds: float
    memory: float


def index(count: int) -> Callable[[], object]:
    """Return the first opening of a folder of empty files."""
    folder = tempfile.TemporaryDirectory()
    root = Path(folder.name, "tree")
    make_tree(root, count, max(1, count // 1000))

    def first() -> None:
        with tempfile.TemporaryDirectory() as cache:
            open_images(root, check=False, cache_dir=cache)
        assert folder.name  # the tree goes with this function

    return first


def hashes(count: int, seed: int) -> np.ndarray:
    """Return random hashes, one in ten of them a near copy of another one."""
    random = np.random.default_rng(seed)
    values = random.integers(0, 2**64, count, dtype=np.uint64)
    values[: count // 10] = values[-(count // 10) :] ^ (np.uint64(1) << random.integers(0, 64, count // 10, np.uint64))
    return values


def duplicates(count: int) -> Callable[[], object]:
    """Return the search for near pairs of hashes within a set."""
    values = hashes(count, 0)
    return lambda: close_pairs(values, None, RADIUS)


def copies(count: int) -> Callable[[], object]:
    """Return the search for near pairs of hashes of two sets."""
    first, second = hashes(count, 0), hashes(count, 1)
    return lambda: close_pairs(first, second, RADIUS)


def bank(count: int) -> Callable[[], object]:
    """Return the k-NN search of 500 queries in a bank."""
    features, queries = torch.randn(count, 384), torch.randn(500, 384)
    return lambda: neighbors(features, queries, 20)


def objective(**changed: int) -> Callable[[], object]:
    """Return forward and backward of one direction, draws included."""
    size = {"batch": BATCH, "keys": KEYS, "negatives": NEGATIVES, "width": WIDTH} | changed
    query, key = (unit_rows(torch.randn(size["batch"], size["width"])) for _ in range(2))
    queue = unit_rows(torch.randn(size["keys"], size["width"]))
    counts = NegativeCounts(*[size["negatives"] // 6] * 6)

    def step() -> None:
        leaf = query.clone().requires_grad_()
        draws = draw_negatives(counts, DrawKey(seed=0, step=0), global_batch=size["batch"], width=size["width"])
        strengths = NegativeStrengths(hardest=256)
        contrastive_loss(leaf, key, queue, None, draws, temperature=0.2, strengths=strengths).loss.mean().backward()

    return step


def views(side: int) -> Callable[[], object]:
    """Return a pair of views of 224 px of a square JPEG."""
    coarse = keyed_rng.generator("scale").integers(0, 256, (16, 16, 3), dtype=np.uint8)
    photo = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    data = cv2.imencode(".jpg", photo)[1].tobytes()
    return lambda: [two_views(decode(data), ViewsSettings(), seed=0, epoch=0, index=index) for index in range(8)]


def step(side: int) -> Callable[[], object]:
    """Return a step of DeiT-S on two images."""
    case = Case("deit-s", "float32", 2)
    return ours(case.config.with_settings([f"views.size={side}"]), torch.zeros(2, 2, side, side, 3, dtype=torch.uint8))


def step_of(batch: int) -> Callable[[], object]:
    """Return a step of the CIFAR recipe on some images."""
    case = Case("cifar10", "bfloat16", batch)
    return ours(case.config, torch.zeros(2, batch, 32, 32, 3, dtype=torch.uint8))


def whole_audit(count: int) -> Callable[[], object]:
    """Return an audit of JPEGs of 32 px against as many others, files opened and features made for the first time."""
    folder = tempfile.TemporaryDirectory()
    sides = [Path(folder.name, side) for side in ("synthetic", "real")]
    for number, side in enumerate(sides):
        random = keyed_rng.generator("audit", number)
        for image in range(count):
            if image % 1000 == 0:
                (side / f"{image // 1000:03}").mkdir(parents=True)
            noise = cv2.resize(random.integers(0, 256, (6, 6, 3), dtype=np.uint8), (32, 32))
            cv2.imwrite(str(side / f"{image // 1000:03}" / f"{image % 1000}.jpg"), noise)

    def first() -> None:
        with tempfile.TemporaryDirectory() as cache:
            os.environ["SYN2CO_CACHE"] = cache
            audit(sides[0], real=sides[1], progress=False)
        assert folder.name  # the images go with this function

    return first


def ranks(count: int) -> Callable[[], object]:
    """Return rank 0's step of the CIFAR recipe on 32 images a rank; the other ranks are forks that step with it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rank = next((rank for rank in range(1, count) if os.fork() == 0), 0)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), LOCAL_WORLD_SIZE=str(count),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )  # fmt: skip
    group = contextlib.ExitStack()
    try:
        group.enter_context(distributed.session("cpu"))
        case = Case("cifar10", "bfloat16", 32)
        step = ours(case.config, torch.zeros(2, case.batch, 32, 32, 3, dtype=torch.uint8))
        step()
    except BaseException:
        traceback.print_exc()  # the other ranks may wait for this one until their time-out
        if rank:
            os._exit(1)
        raise
    try:
        while rank:
            step()
    finally:
        if rank:  # rank 0 has what it wanted and is gone
            os._exit(0)
    return lambda: (step(), group)


def draws(ranks: int) -> Callable[[], object]:
    """Return the draws of the last rank, which has 64 rows, as every rank."""
    size = {"global_batch": 64 * ranks, "width": WIDTH, "start_row": 64 * (ranks - 1), "rows": 64}
    return lambda: draw_negatives(PRESETS["as-intended"], DrawKey(seed=0, step=0), **size)


SERIES = {
    "index": Series("first opening of a folder, by images", (2_000, 8_000, 32_000), index),
    "duplicates": Series("near pairs within a set, by images", (2_000, 10_000, 50_000, 200_000), duplicates),
    "audit": Series("whole audit, by images of each side", (500, 1_000, 2_000, 4_000), whole_audit),
    "copies": Series("near pairs of two sets, by images of each", (2_000, 10_000, 50_000, 200_000), copies),
    "knn": Series("k-NN of 500 queries, by images of the bank", (10_000, 40_000, 160_000), bank),
    "views": Series("8 pairs of views of 224 px, by side of the JPEG", (250, 500, 1000, 2000), views),
    "step": Series("DeiT-S step of 2 images, by side of the view", (112, 224, 448), step),
    "step-B": Series("CIFAR step, by batch B", (32, 128, 512), step_of),
    "ranks": Series("CIFAR step of 32 images a rank, by ranks", (1, 2, 4, 8), ranks),
    "draws": Series("draws of one rank's 64 rows, by ranks", (1, 4, 16, 64), draws),
    "B": Series("objective, by batch B", (32, 128, 512), lambda size: objective(batch=size)),
    "K": Series("objective, by keys K", (1024, 4096, 16_384), lambda size: objective(keys=size)),
    "S": Series("objective, by synthetic negatives S", (192, 768, 3072), lambda size: objective(negatives=size)),
    "D": Series("objective, by width D", (64, 256, 1024), lambda size: objective(width=size)),
}


def measure(series: Series, size: int) -> Point:
    """Return one point, measured in a forked process."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(_measured, (series.title, size))


def _measured(title: str, size: int) -> Point:
    series = next(series for series in SERIES.values() if series.title == title)
    work = series.prepare(size)
    held, seconds = _peak(), []
    while (len(seconds) < 3 or sum(seconds) < 1) and sum(seconds) < 8:
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return Point(size, min(seconds), _peak() - held)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


LEAST = 40.0
"""MiB at the largest size from which on an exponent of memory is given."""


def exponent(points: Sequence[Point], axis: int = 1) -> float:
    """Return the slope of log time (memory with axis 2) over log size through the larger half of the points."""
    last = points[-max(2, (len(points) + 1) // 2) :]
    sizes, values = np.log([point[0] for point in last]), np.log([point[axis] or 1 for point in last])
    return float(np.polyfit(sizes, values, 1)[0])


def table(results: dict[str, list[Point]]) -> str:
    """Return the results as a Markdown table."""
    titles = "| what | sizes | CPU s | MiB more at the largest | exponent | of memory |"
    rows = [titles, "|---|---|---|---|---|---|"]
    for name, points in results.items():
        sizes, seconds = (
            " · ".join(texts) for texts in zip(*((f"{p.size:,}", f"{p.seconds:.3g}") for p in points), strict=True)
        )
        slope = f"{exponent(points):.2f}" if len(points) > 1 else ""
        memory = f"{exponent(points, 2):.2f}" if len(points) > 1 and points[-1].memory >= LEAST else ""
        rows.append(f"| {SERIES[name].title} | {sizes} | {seconds} | {points[-1].memory:.0f} | {slope} | {memory} |")
    return "\n".join(rows)


def plot(results: dict[str, list[Point]], path: Path) -> None:
    """Write one log-log plot a series, with the line of its exponent."""
    figure = Figure(figsize=(13, 2.6 * -(-len(results) // 4)), layout="constrained")
    for number, (name, points) in enumerate(results.items()):
        axes = figure.add_subplot(-(-len(results) // 4), 4, number + 1)
        sizes, seconds, memory = (np.array([point[axis] for point in points]) for axis in range(3))
        axes.loglog(sizes, seconds, "o-", color="#1f5fa8")
        beside = axes.twinx()
        beside.plot(sizes, memory, "s--", color="#b5651d", markersize=3, linewidth=1)
        beside.set_ylim(0, max(1.0, 1.1 * memory.max()))
        beside.set_ylabel("MiB", size=8, color="#b5651d")
        beside.tick_params(labelsize=7)
        what, _, size = SERIES[name].title.rpartition(", by ")
        slope = f", exponent {exponent(points):.2f}" if len(points) > 1 else ""
        axes.set_title(what + slope, size=8)
        axes.set_xticks(sizes, [f"{number:,}" for number in sizes])
        marks: list[float] = []
        for value in sorted(seconds):  # labels of nearly equal values would lie on each other
            if not marks or value > 1.05 * marks[-1]:
                marks.append(value)
        axes.set_yticks(marks, [f"{value:.2g}" for value in marks])
        axes.minorticks_off()
        axes.set_xlabel(size, size=8)
        axes.set_ylabel("CPU s", size=8)
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=7)
    with rc_context({"svg.fonttype": "none"}):  # texts as texts: a quarter less to store
        figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/scale"))
    parser.add_argument("--only", help=f"some of {', '.join(SERIES)}, with commas between")
    parser.add_argument("--sizes", help="sizes in place of the series' own, with commas between")
    parser.add_argument("--seconds", type=float, default=200, help="no point is begun after so many CPU seconds")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results, left_out = {}, []
    for name in arguments.only.split(",") if arguments.only else SERIES:
        series, given = SERIES[name], arguments.sizes
        sizes = [int(size) for size in given.split(",")] if given else series.sizes
        points = [measure(series, size) for size in sizes if sum(os.times()[:4]) < arguments.seconds]
        results |= {name: points} if points else {}
        left_out += [f"{series.title} at {size:,}" for size in sizes[len(points) :]]
    arguments.out.mkdir(parents=True, exist_ok=True)
    plot(results, arguments.out / "scale.svg")
    if left_out:
        print(f"Not measured, the time was over: {'; '.join(left_out)}.\n")
    print(
        f"{table(results)}\n\nOne thread of {os.cpu_count()} cores; torch {torch.__version__}, NumPy {np.__version__}."
    )


if __name__ == "__main__":
    main()
