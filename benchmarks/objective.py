"""Time and memory of the loss, side by side in one run: plain MoBY, ours, and the released algorithm.

    python benchmarks/objective.py [--json] [--threads 2] [--repeats 30] [--cpu-time]

One call is both directions, forward and backward to the gradient in the queries, draws included. The released
algorithm is written here from its description: vectors built, B x S x D, and for kinds 5 and 6 one `autograd.grad` per
drawn key index for the whole batch (256 calls a direction at 128 each). Contenders take turns, equally many;
ratios are of the fastest turns. Peak is of the tensor bytes alive at once beyond the inputs, our workspace included,
and of what Python and NumPy hold at their own peak (tracemalloc), from a run of its own: an upper bound, for arrays
that tensors share count twice.

Axes: B queries, K keys in the queue, D embedding width, H hardest keys, S synthetic negatives per query.
"""

import argparse
import json
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple
from weakref import WeakSet, finalize

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from syn2co.objective import (
    DrawKey,
    NegativeCounts,
    NegativeStrengths,
    Queue,
    Workspace,
    contrastive_loss,
    draw_negatives,
    same_group,
)

T, SIGMA, DELTA, ETA = 0.2, 0.1, 0.01, 0.01
Clock = Callable[[], float]


@dataclass(frozen=True)
class Problem:
    """Queries, keys and queues of both directions."""

    queries: list[Tensor]
    keys: list[Tensor]
    queues: list[Queue]
    groups: Tensor
    counts: NegativeCounts
    hardest: int

    @classmethod
    def make(cls, batch: int, size: int, width: int, hardest: int, negatives: int) -> "Problem":
        """Return random embeddings; `negatives` are spread evenly over the six kinds; a key in 1,000 is false."""
        random = torch.Generator().manual_seed(0)
        queries, keys = (
            [normalize(torch.randn(batch, width, generator=random)) for _ in range(2)] for _ in ("query", "key")
        )
        queues = [Queue.start(size, width, seed=0, view=view) for view in (1, 2)]
        for queue in queues:
            queue.groups = torch.arange(size) % 1000
        counts = NegativeCounts(*[negatives // 6] * 6)
        return cls([q.requires_grad_() for q in queries], keys, queues, torch.arange(batch), counts, hardest)


def moby(problem: Problem) -> None:
    """Plain MoBY: two cross-entropies over one positive and K keys."""
    losses = []
    for query, key, queue in zip(problem.queries, problem.keys, problem.queues, strict=True):
        logits = torch.cat([(query * key).sum(dim=1, keepdim=True), query @ queue.keys.T], dim=1)
        losses.append(cross_entropy(logits / T, torch.zeros(len(query), dtype=torch.int64)))
    torch.autograd.grad(losses[0] + losses[1], problem.queries)


def ours(problem: Problem, workspace: Workspace, masks: bool) -> None:
    """Our contrast, with fresh draws, with or without the masks for false negatives."""
    losses = []
    for direction, (query, key, queue) in enumerate(zip(problem.queries, problem.keys, problem.queues, strict=True)):
        batch, width = query.shape
        draws = draw_negatives(problem.counts, DrawKey(0, 0, direction=direction), global_batch=batch, width=width)
        masked = same_group(problem.groups, queue.groups) if masks else None
        strengths = NegativeStrengths(problem.hardest, SIGMA, DELTA, ETA)
        result = contrastive_loss(
            query, key, queue.keys, masked, draws, temperature=T, strengths=strengths, workspace=workspace
        )
        losses.append(result.loss.mean())
    torch.autograd.grad(losses[0] + losses[1], problem.queries)


def released(problem: Problem) -> None:
    """The released algorithm: see `released_direction`."""
    losses = [
        released_direction(query, key, queue.keys, problem.counts, problem.hardest)
        for query, key, queue in zip(problem.queries, problem.keys, problem.queues, strict=True)
    ]
    torch.autograd.grad(losses[0] + losses[1], problem.queries)


def released_direction(
    query: Float[Tensor, "B D"],
    key: Float[Tensor, "B D"],
    queue: Float[Tensor, "K D"],
    counts: NegativeCounts,
    hardest: int,
) -> Tensor:
    """Return the loss of a direction as released: every synthetic negative is a vector, multiplied by the query."""
    real = query @ queue.T
    hard = real.detach().topk(hardest, dim=1)[1]
    synthetic = [
        torch.einsum("bd,bsd->bs", query, vectors) for vectors in _released_vectors(query.detach(), queue, hard, counts)
    ]
    logits = torch.cat([(query * key).sum(dim=1, keepdim=True), real, *synthetic], dim=1)
    return cross_entropy(logits / T, torch.zeros(len(query), dtype=torch.int64))


def _released_vectors(
    query: Float[Tensor, "B D"], queue: Float[Tensor, "K D"], hard: Tensor, counts: NegativeCounts
) -> list[Float[Tensor, "B S D"]]:
    batch, q = len(query), query[:, None, :]

    def picked(count: int) -> Tensor:
        return hard.gather(1, torch.randint(hard.shape[1], (batch, count)))

    def drawn(count: int) -> Tensor:
        return torch.rand(batch, count, 1)

    a, b, g = drawn(counts.interpolated) / 2, 1 + drawn(counts.extrapolated) / 2, drawn(counts.mixup)
    noisy = queue[picked(counts.noise)]
    kinds = [
        a * q + (1 - a) * queue[picked(counts.interpolated)],
        q + b * (queue[picked(counts.extrapolated)] - q),
        g * queue[picked(counts.mixup)] + (1 - g) * queue[picked(counts.mixup)],
        noisy + SIGMA * torch.randn_like(noisy),
        _released_gradients(query, queue, picked(counts.perturbed), lambda gradient: DELTA * gradient),
        _released_gradients(query, queue, picked(counts.adversarial), lambda gradient: ETA * gradient.sign()),
    ]
    return [normalize(vectors, dim=2) for vectors in kinds]


def _released_gradients(
    query: Tensor, queue: Tensor, picks: Tensor, move: Callable[[Tensor], Tensor]
) -> Float[Tensor, "B S D"]:
    moved = []
    for slot in range(picks.shape[1]):
        key = queue[picks[:, slot]].requires_grad_()
        (gradient,) = torch.autograd.grad((query * key).sum(), key)
        moved.append((key + move(gradient)).detach())
    return torch.stack(moved, dim=1)


class PeakBytes(TorchDispatchMode):
    """Count the bytes of all tensor storages that are alive at once, those given at the start left out."""

    def __init__(self, given: list[Tensor]) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self._seen = WeakSet(tensor.untyped_storage() for tensor in given)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, kwargs, result)):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage not in self._seen:
            self._seen.add(storage)
            self.alive += storage.nbytes()
            self.peak = max(self.peak, self.alive)
            finalize(storage, self._free, storage.nbytes())

    def _free(self, size: int) -> None:
        self.alive -= size


class Row(NamedTuple):
    """One contender on one problem."""

    contender: str
    keys: int
    hardest: int
    negatives: int
    milliseconds: float
    median_milliseconds: float
    peak_mib: float
    times_moby: float
    times_moby_peak: float


def compare(batch: int, size: int, width: int, hardest: int, negatives: int, repeats: int, clock: Clock) -> list[Row]:
    """Return a row per contender; all take equal turns, one after the other."""
    problem, workspace, bare = Problem.make(batch, size, width, hardest, negatives), Workspace(), Workspace()
    contenders: dict[str, Callable[[], None]] = {
        "plain MoBY": lambda: moby(problem),
        "ours": lambda: ours(problem, workspace, masks=True),
        "ours, masks off": lambda: ours(problem, bare, masks=False),
        "released algorithm": lambda: released(problem),
    }
    _peak(problem, contenders["plain MoBY"])  # once before: what torch imports on the way is no part of it
    peaks = {name: _peak(problem, run) for name, run in contenders.items()}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            times[name].append(_seconds(run, clock))
    best = {name: min(turns) for name, turns in times.items()}
    moby_time, moby_peak = best["plain MoBY"], peaks["plain MoBY"]
    return [
        Row(
            name,
            size,
            hardest,
            negatives,
            1e3 * best[name],
            1e3 * median(times[name]),
            peaks[name] / 2**20,
            best[name] / moby_time,
            peaks[name] / moby_peak,
        )
        for name in contenders
    ]


def _peak(problem: Problem, run: Callable[[], None]) -> int:
    """Measure the first call, in which our workspace is allocated."""
    given = [*problem.queries, *problem.keys, problem.groups]
    given += [tensor for queue in problem.queues for tensor in (queue.keys, queue.groups)]
    tracemalloc.start()
    with PeakBytes(given) as counter:
        run()
    _, held = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return counter.peak + held


def _seconds(run: Callable[[], None], clock: Clock) -> float:
    start = clock()
    run()
    return clock() - start


def _print(title: str, rows: list[Row]) -> None:
    print(
        f"\n{title}\n{'':20}{'K':>7}{'H':>6}{'S':>6}{'ms':>10}{'median':>9}{'x MoBY':>9}{'peak MiB':>10}{'x MoBY':>9}"
    )
    for row in rows:
        print(
            f"{row.contender:20}{row.keys:7}{row.hardest:6}{row.negatives:6}{row.milliseconds:10.1f}"
            f"{row.median_milliseconds:9.1f}{row.times_moby:9.2f}{row.peak_mib:10.1f}{row.times_moby_peak:9.2f}"
        )


def main() -> None:
    """Print the comparison at the paper's size, and how it grows with K, S and H."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=30, help="turns of each contender, a third of them for growth")
    parser.add_argument("--cpu-time", action="store_true", help="CPU time, not wall time: for a busy machine, 1 thread")
    options = parser.parse_args()
    clock = time.process_time if options.cpu_time else time.perf_counter
    torch.set_num_threads(options.threads)
    few = max(1, options.repeats // 3)
    tables = {
        "B=128 D=256": compare(128, 4096, 256, 256, 768, options.repeats, clock),
        "growth with K": [row for size in (1024, 4096, 16384) for row in compare(128, size, 256, 256, 768, few, clock)],
        "growth with S": [
            row for count in (192, 384, 768, 1536) for row in compare(128, 4096, 256, 256, count, few, clock)
        ],
        "more of the hardest keys": compare(128, 4096, 256, 1024, 1536, few, clock),
    }
    if options.json:
        result = {title: [row._asdict() for row in rows] for title, rows in tables.items()}
        print(
            json.dumps(
                {"threads": options.threads, "cpu_time": options.cpu_time, "torch": torch.__version__, **result},
                indent=2,
            )
        )
        return
    for title, rows in tables.items():
        _print(title, rows)


if __name__ == "__main__":
    main()
