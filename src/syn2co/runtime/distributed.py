"""Collectives of the ranks of a run; the only module that touches torch.distributed.

Without a process group every function is the one-rank identity, so callers never ask. Axes: n rows of this rank,
N rows of all ranks.
"""

import contextlib
import inspect
import itertools
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache
from threading import Thread
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from syn2co.core.errors import ConfigError, Syn2CoError, TrainingError
from syn2co.core.launcher import launcher

T = TypeVar("T")
_FIRSTS = itertools.count()
_POLL = 0.1
"""Seconds between two looks of a rank that waits for the first one."""
TIME_OUT = timedelta(minutes=10)
"""Time that a collective waits for a rank before it counts as lost."""
_ANSWER = 3.0
"""Seconds that the ranks have to say that they are there, once one is lost."""


def active() -> bool:
    """Return whether a process group of more than one rank is up."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """Return this process's rank, 0 without a process group."""
    return dist.get_rank() if active() else 0


def world_size() -> int:
    """Return the number of ranks, 1 without a process group."""
    return dist.get_world_size() if active() else 1


def is_main() -> bool:
    """Return whether this rank writes files and prints."""
    return rank() == 0


def local_rank() -> int:
    """Return the rank on this node as torchrun numbers it, 0 otherwise."""
    return launcher().local_rank


@contextlib.contextmanager
def session(device_type: str) -> Iterator[None]:
    """Join the process group that torchrun describes, and leave it at the end; do nothing for a single process.

    Raises:
        ConfigError: on a device without collectives.
        TrainingError: if another rank is gone, or does not answer in time.
    """
    launched = launcher()
    if launched.size == 1 or dist.is_initialized():
        yield
        return
    if device_type == "mps":
        raise ConfigError("machine.device = mps: torch has no collectives for it; run one process or use cpu")
    with _joined(device_type, launched.rank):
        yield


@contextlib.contextmanager
def _joined(device_type: str, this_rank: int) -> Iterator[None]:
    """Be a member of the process group inside the block."""
    from torch.distributed.distributed_c10d import PrefixStore

    with _lost_ranks_named(this_rank):
        store, this_rank, size = _rendezvous()
        store = PrefixStore(_name_of_group(store, this_rank, size), store)
        backend = "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"  # hosts talk without their GPUs
        dist.init_process_group(backend, store=store, rank=this_rank, world_size=size, timeout=TIME_OUT)
    try:
        with _lost_ranks_named(this_rank, store):
            yield
    finally:
        dist.destroy_process_group()


def _name_of_group(store: Any, this_rank: int, size: int) -> str:
    """Return a name that the ranks of this start have in common, and with no start before.

    torchrun's store outlives a start: a second group would read the addresses of the first, where nobody listens. Its
    count of restarts differs between hosts, since a host that restarts because another one does so counts none. So rank
    0 names the group by how often it has joined, tells it to the newest joining of every other rank, and waits until
    each has heard it.

    Raises:
        TrainingError: if a rank does not join in time.
    """
    end = time.monotonic() + TIME_OUT.total_seconds()
    joinings = store.add(f"syn2co joinings of {this_rank}", 1)
    if this_rank:
        key = f"syn2co group of {this_rank} in joining {joinings}"
        while not store.check([key]):  # Python hears signals in between, which it does not in `store.wait`
            time.sleep(_POLL)
            if time.monotonic() > end:
                raise _lost(this_rank, [0])
        name = store.get(key).decode()
        store.set(f"{name} heard by {this_rank}", "")
        return name
    name = f"syn2co {joinings}"
    missing = list(range(1, size))
    while missing:
        for other in missing:
            latest = store.add(f"syn2co joinings of {other}", 0)
            store.set(f"syn2co group of {other} in joining {latest}", name)
        time.sleep(_POLL)
        missing = [other for other in missing if not store.check([f"{name} heard by {other}"])]
        if time.monotonic() > end:
            raise _lost(this_rank, missing)
    return name


@contextlib.contextmanager
def _lost_ranks_named(this_rank: int, store: Any = None) -> Iterator[None]:
    """Turn the errors of a collective whose other ranks do not answer into one sentence, on each rank."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not re.search("gloo|NCCL|peer", str(error)):
            raise
        raise _lost(this_rank, [] if store is None else _silent_ranks(store, this_rank)) from None


def _lost(this_rank: int, missing: list[int]) -> TrainingError:
    """Return the error of a rank that misses others; none named: nobody can tell which."""
    subject = f"rank {missing[0]} is" if len(missing) == 1 else f"ranks {', '.join(map(str, missing))} are"
    error = TrainingError(
        f"rank {this_rank}: {subject if missing else 'another rank is'} gone or does not answer; see what it says, and "
        "run the same command again: it resumes from the last checkpoint"
    )
    error.one_rank = True
    return error


def _silent_ranks(store: Any, this_rank: int) -> list[int]:
    """Return the ranks that do not say in time that a collective of theirs has failed too; [] if nobody can tell."""
    answers: list[list[int]] = []

    def ask() -> None:
        keys, end = [f"lost by {rank}" for rank in range(world_size())], time.monotonic() + _ANSWER
        with contextlib.suppress(RuntimeError):  # the store is gone with the process that held it
            store.set(keys[this_rank], "")
            while not store.check(keys) and time.monotonic() < end:
                time.sleep(_POLL)
            answers.append([rank for rank, key in enumerate(keys) if not store.check([key])])

    asking = Thread(target=ask, daemon=True)  # a store whose process is frozen never answers
    asking.start()
    asking.join(_ANSWER + 1)
    if this_rank == 0:  # the store may be its own, and the others still look
        time.sleep(3 * _POLL)
    return answers[0] if answers else []


@cache
def _rendezvous() -> tuple[Any, int, int]:
    """Return the store that torchrun's ranks share, this rank and their number: once a process, as the port is one."""
    from torch.distributed.rendezvous import rendezvous

    return next(rendezvous("env://", timeout=TIME_OUT))


def barrier() -> None:
    """Wait until every rank is here."""
    if active():
        dist.barrier()


def all_gather_rows(rows: Tensor, *, equal: bool = False) -> Tensor:
    """Return the rows of all ranks in rank order, [N, ...].

    Args:
        equal: all ranks hold the same number of rows; without that the numbers are exchanged, and a GPU is waited for.
    """
    if not active():
        return rows
    if equal:
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(parts, rows)
        return torch.cat(parts)
    count = torch.tensor([rows.shape[0]], device=rows.device)
    counts = [torch.zeros_like(count) for _ in range(world_size())]
    dist.all_gather(counts, count)
    sizes = [int(c) for c in counts]  # all_gather wants equal shapes: shorter parts are padded, then cut
    padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
    padded[: rows.shape[0]] = rows
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded.contiguous())
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def all_reduce_max(values: Tensor) -> Tensor:
    """Return the elementwise maximum over ranks (in place)."""
    if active():
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return values


def largest(value: int) -> int:
    """Return the largest value of all ranks; their hosts say it to each other, and no GPU is waited for."""
    return int(all_reduce_max(torch.tensor([value], device=_talking_device()))) if active() else value


def _talking_device() -> torch.device:
    """Return the device of the hosts' own words: a GPU only in a group that somebody joined for GPUs alone."""
    group = dist.GroupMember.WORLD
    return torch.device("cpu" if group is None or "cpu" in dist.get_backend_config(group) else "cuda")


def all_reduce_mean(values: Tensor) -> Tensor:
    """Return the elementwise mean over ranks (in place, no gradient)."""
    if active():
        dist.all_reduce(values)
        values /= world_size()
    return values


def all_gather_objects(value: T) -> list[T]:
    """Return the `value` of every rank in rank order."""
    if not active():
        return [value]
    everyone: list[Any] = [None] * world_size()
    dist.all_gather_object(everyone, value)
    return everyone


def broadcast_object(value: Any) -> Any:
    """Return rank 0's `value` on every rank."""
    if not active():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def broadcast_state(module: nn.Module) -> None:
    """Give every rank the parameters and buffers of rank 0's `module`, bit for bit (in place)."""
    if active():
        for tensor in module.state_dict().values():
            whole = tensor.contiguous()
            dist.broadcast(whole, src=0)
            tensor.copy_(whole)


def main_first(make: Callable[[], T]) -> T:
    """Return `make()` of every rank, rank 0's first, so that the others find what it left in a cache.

    Raises:
        Syn2CoError: on every rank, if rank 0's call does.
    """
    if not active():
        return make()
    error = result = None
    with _others_waiting():
        if is_main():
            try:
                result = make()
            except Syn2CoError as raised:
                error = raised
    error = broadcast_object(error)
    if error is not None:
        raise error
    if is_main():
        return cast(T, result)
    try:
        return make()
    except Syn2CoError as raised:
        raised.one_rank = True  # such as a file that only the first node has
        raise


@contextlib.contextmanager
def _others_waiting() -> Iterator[None]:
    """Let the other ranks wait until rank 0 has left the block, however long it takes: a collective has a time-out."""
    store, key = cast(Any, dist.distributed_c10d)._get_default_store(), f"main first {next(_FIRSTS)}"
    try:
        yield
    finally:
        if is_main():
            store.set(key, "done")
    while not store.check([key]):
        time.sleep(_POLL)


class _SumOverRanks(torch.autograd.Function):
    """Sum over ranks whose backward sums the gradients over ranks: the derivative of the sum of all ranks' losses."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()  # every rank's loss depends on the sum, so every rank's gradient reaches it
        dist.all_reduce(total)
        return total


def all_reduce_sum(values: Tensor) -> Tensor:
    """Return the sum over ranks, differentiable in `values`."""
    return _SumOverRanks.apply(values) if active() else values  # type: ignore[return-value]


def wrap(module: nn.Module, device: torch.device) -> nn.Module:
    """Return `module` with gradients averaged over ranks after each backward pass (DDP), itself on one rank."""
    if not active():
        return module
    from torch.nn.parallel import DistributedDataParallel

    ids = [device.index] if device.type == "cuda" else None
    # Buffers are BN statistics, which are synchronized already: broadcasting them again would only cost time.
    parameters = inspect.signature(DistributedDataParallel.__init__).parameters
    broadcast = "forward_sync_buffers" if "forward_sync_buffers" in parameters else "broadcast_buffers"  # older torch
    options: dict[str, Any] = {broadcast: False}
    return DistributedDataParallel(module, device_ids=ids, gradient_as_bucket_view=True, **options)
