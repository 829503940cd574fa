"""Collectives of the ranks of a run; beside `process_group` the only module that touches torch.distributed.

Without a process group every function is the one-rank identity, so callers never ask. Axes: n rows of this rank,
N rows of all ranks.
"""

import contextlib
import inspect
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from syn2co.core.errors import DataError, Syn2CoError
from syn2co.core.launcher import launcher
from syn2co.runtime import signals
from syn2co.runtime.process_group import session as session
from syn2co.runtime.process_group import signs_of_life, wait_for

T = TypeVar("T")
_FIRSTS = itertools.count()
FAILED = 1 << 10
"""What `largest` gives when a rank has failed: above the numbers of all signals."""


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
    return int(all_reduce_max(torch.tensor([value], device=talking_device()))) if active() else value


def talking_device() -> torch.device:
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

    The ranks wait for each other as long as it takes: on another machine the cache may be empty.

    Raises:
        Syn2CoError: on every rank, if a rank's call does: rank 0's own everywhere, another's there, and a DataError on
            the rest.
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
    with _waiting_for_all():
        try:
            result = result if is_main() else make()
        except Syn2CoError as raised:
            error = raised
    # Together, else rank 0 may leave, and the store with it, while others still look.
    failed = largest(FAILED if error else 0)
    if error is not None:
        error.one_rank = True  # such as a file that only the first node has
        raise error
    if failed:
        raise DataError("another rank could not open its images or weights; it says why")
    return cast(T, result)


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """End the block on every rank if one of them has an error of its images in it, or a signal.

    The ranks wait for each other as long as it takes, once they have left the block: one may have slower images.

    Raises:
        Syn2CoError: of this rank's block, or a DataError if it is another rank's.
        Interrupted: after a signal that `Interrupts` remembers.
    """
    error = None
    with _waiting_for_all() if active() else contextlib.nullcontext():
        try:
            yield
        except signals.Interrupted:
            pass
        except Syn2CoError as raised:
            error = raised
    status = largest(FAILED if error else signals.received())
    if error is not None:
        error.one_rank = error.one_rank or active()
        raise error
    if status == FAILED:
        raise another_failed()
    if status:
        raise signals.Interrupted(status)


def another_failed() -> DataError:
    """Return the error of a rank that ends since another one could not load its images."""
    return DataError("the images of another rank could not be loaded; it says why")


@contextlib.contextmanager
def _others_waiting() -> Iterator[None]:
    """Let the other ranks wait until rank 0 has left the block, however long it takes: a collective has a time-out."""
    store, key = cast(Any, dist.distributed_c10d)._get_default_store(), f"main first {next(_FIRSTS)}"
    try:
        yield
    finally:
        if is_main():
            store.set(key, "done")
    wait_for(store, key, rank())


@contextlib.contextmanager
def _waiting_for_all() -> Iterator[None]:
    """Let every rank wait until all have left the block, however long it takes."""
    store, key = cast(Any, dist.distributed_c10d)._get_default_store(), f"main first {next(_FIRSTS)} of"
    with signs_of_life(store, f"{key} {rank()}"):
        yield
    for other in range(world_size()):
        wait_for(store, f"{key} {other}", rank(), other=other)


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


def _with_strides_of(parameter: Tensor, gradient: Tensor) -> Tensor:
    """Return a gradient with the strides of its parameter, if only axes of one differ: DDP warns of those."""
    strides = zip(parameter.shape, parameter.stride(), gradient.stride(), strict=True)
    alike = all(size == 1 or one == other for size, one, other in strides)
    return gradient.as_strided(parameter.shape, parameter.stride()) if alike else gradient


def wrap(module: nn.Module, device: torch.device) -> nn.Module:
    """Return `module` with gradients averaged over ranks after each backward pass (DDP), itself on one rank."""
    if not active():
        return module
    from torch.nn.parallel import DistributedDataParallel

    for parameter in module.parameters():
        if 1 in parameter.shape and parameter.requires_grad:
            parameter.register_hook(partial(_with_strides_of, parameter.detach()))
    ids = [device.index] if device.type == "cuda" else None
    # Buffers are BN statistics, which are synchronized already: broadcasting them again would only cost time.
    parameters = inspect.signature(DistributedDataParallel.__init__).parameters
    broadcast = "forward_sync_buffers" if "forward_sync_buffers" in parameters else "broadcast_buffers"  # older torch
    options: dict[str, Any] = {broadcast: False}
    wrapped = DistributedDataParallel(module, device_ids=ids, gradient_as_bucket_view=True, **options)
    _settle_buckets(wrapped)
    return wrapped


class _Squares(nn.Module):
    """The sum of the squares of all parameters of a module, whose gradients come in the reverse order of theirs."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self) -> Tensor:
        return torch.cat([each.flatten() for each in self.module.parameters() if each.requires_grad]).square().sum()


def _settle_buckets(wrapped: nn.Module) -> None:
    """Take a backward pass of no use, after which DDP lays out its buckets anew, once and for all.

    Else it did so after the first step of each start, and a resumed run would add three ranks or more in another order.
    """
    module = wrapped.module
    wrapped.module = _Squares(module)  # type: ignore[arg-type]
    with torch.enable_grad():
        wrapped().backward()
    wrapped.module = module
    wrapped.zero_grad()
