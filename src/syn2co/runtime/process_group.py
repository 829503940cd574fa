"""The process group of the ranks of a run: joined, left, and its lost ranks named."""

import contextlib
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import timedelta
from functools import cache
from math import inf
from threading import Event, Thread
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from syn2co.core.errors import ConfigError, TrainingError
from syn2co.core.launcher import launcher
from syn2co.core.stuck_threads import have_ended, result_of

T = TypeVar("T")
joined = False
"""Whether this process has been in a process group."""
_POLL = 0.1
"""Seconds between two looks of a rank that waits for the first one."""
TIME_OUT = timedelta(minutes=15)
"""Time that a collective waits for a rank before it counts as lost; far above `PATIENCE_SECONDS` of a rank's images."""
_ANSWER = 3.0
"""Seconds that the ranks have to say that they are there, once one is lost, or to end by the same words."""

_SIGN = 2.0
"""Seconds between the signs of life of a rank that others wait for."""
_SILENCE = timedelta(minutes=1)
"""Time without a further sign after which such a rank counts as lost."""


@contextlib.contextmanager
def session(device_type: str) -> Iterator[None]:
    """Join the process group that torchrun describes, and leave it at the end; do nothing for a single process.

    Raises:
        ConfigError: on a device without collectives.
        TrainingError: if another rank is gone, or does not answer in time; not while a GPU waits in NCCL, whose own
            watch ends the process then.
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
        store, this_rank, size = _answered(lambda: _rendezvous(TIME_OUT), this_rank)
        name = _answered(lambda: _name_of_group(store, this_rank, size), this_rank)
        store = PrefixStore(name, store)
        backend = "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"  # hosts talk without their GPUs
        group = {"store": store, "rank": this_rank, "world_size": size, "timeout": TIME_OUT}
        _answered(lambda: dist.init_process_group(backend, **group), this_rank)
    global joined
    joined = True
    try:
        with _lost_ranks_named(this_rank, store):
            yield
    except BaseException:
        _leave_without_others()
        raise
    dist.destroy_process_group()


def _leave_without_others() -> None:
    """Leave the process group after an error, which NCCL lets no rank do alone: after seconds the message comes first.

    What still waits then ends with the process.
    """
    left = Future[None]()

    def leave() -> None:
        try:
            left.set_result(dist.destroy_process_group())
        except Exception as error:
            left.set_exception(error)

    Thread(target=leave, daemon=True).start()
    have_ended([left])


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
        wait_for(store, key, this_rank, end)
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


def wait_for(store: Any, key: str, this_rank: int, end: float = inf, *, other: int = 0) -> None:
    """Wait until another rank has set a key.

    Raises:
        TrainingError: after the time `end`, or once that rank gives no sign for the time-out: rank 0, in which the
            store lies, by answering, the others by `signs_of_life`, of which none may be late by more than `_SILENCE`.
    """
    over, heard, last = Event(), time.monotonic(), None

    def look() -> None:
        nonlocal heard, last
        while not over.is_set() and not store.check([key]):
            sign = store.add(f"{key} lives", 0) if other else time.monotonic()
            if sign != last:
                heard, last = time.monotonic(), sign
            time.sleep(_POLL)

    def go_on(_: float) -> None:
        begun = other and last  # it has given signs, so it has not only come late
        patience = min(_SILENCE, TIME_OUT) if begun else TIME_OUT
        if time.monotonic() > min(end, heard + patience.total_seconds()):
            raise _lost(this_rank, [other])

    try:
        _hearing_signals(look, go_on)
    finally:
        over.set()


@contextlib.contextmanager
def signs_of_life(store: Any, key: str) -> Iterator[None]:
    """Say again and again during the block that this rank lives, and set the key at its end."""
    over = Event()

    def say() -> None:
        with contextlib.suppress(RuntimeError):  # the store is gone with rank 0, which the next collective says
            while not over.wait(_SIGN):
                store.add(f"{key} lives", 1)
            store.set(key, "done")

    saying = Thread(target=say, daemon=True)
    saying.start()
    try:
        yield
    finally:
        over.set()
        saying.join(_ANSWER)


def _hearing_signals(call: Callable[[], T], waiting: Callable[[float], object] = lambda _: None) -> T:
    """Return what a call of torch gives, made by a thread: in the main one Python would hear no signal meanwhile."""
    answer = Future[T]()

    def work() -> None:
        try:
            answer.set_result(call())
        except Exception as error:
            answer.set_exception(error)

    Thread(target=work, daemon=True).start()  # a store whose process is frozen never answers
    return result_of(answer, waiting)


def _answered(call: Callable[[], T], this_rank: int, limit: timedelta | None = None) -> T:
    """Return what a call that looks into the store gives, which never ends while the process of the store is frozen.

    Raises:
        TrainingError: some seconds after the limit (unless given, the time-out), when the call itself would have ended.
    """

    def watch(waited: float) -> None:
        if waited > (limit or TIME_OUT).total_seconds() + _ANSWER:
            raise _lost(this_rank, [0] if this_rank else [])

    return _hearing_signals(call, watch)


@contextlib.contextmanager
def _lost_ranks_named(this_rank: int, store: Any = None) -> Iterator[None]:
    """Turn the errors of a collective into one sentence, on each rank; a lack of memory stays what it is."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error):
            raise
        if not isinstance(error, dist.DistError) and not re.search("gloo|NCCL|peer", str(error)):
            raise
        silent = None if store is None else _silent_ranks(store, this_rank)
        raise (_lost(this_rank, silent or []) if silent != [] else _failed(this_rank, error)) from error


def _failed(this_rank: int, error: RuntimeError) -> TrainingError:
    """Return the error of a collective that failed although all ranks are there."""
    reason = str(error).strip().partition("\n")[0]
    failed = TrainingError(
        f"rank {this_rank}: the ranks are there, and cannot talk to each other ({reason}); fix that, and run the same "
        "command again: a run resumes from its last checkpoint"
    )
    failed.one_rank = True
    return failed


def _lost(this_rank: int, missing: list[int]) -> TrainingError:
    """Return the error of a rank that misses others; none named: nobody can tell which."""
    subject = f"rank {missing[0]} is" if len(missing) == 1 else f"ranks {', '.join(map(str, missing))} are"
    error = TrainingError(
        f"rank {this_rank}: {subject if missing else 'another rank is'} gone or does not answer; see what it says, and "
        "run the same command again: a run resumes from its last checkpoint"
    )
    error.one_rank = True
    return error


def _silent_ranks(store: Any, this_rank: int) -> list[int] | None:
    """Return the ranks that do not say in time that a collective of theirs has failed too; None: nobody can tell."""
    answers: list[list[int]] = []

    def ask() -> None:
        keys, end = [f"lost by {rank}" for rank in range(dist.get_world_size())], time.monotonic() + _ANSWER
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
    return answers[0] if answers else None


@cache
def _rendezvous(time_out: timedelta) -> tuple[Any, int, int]:
    """Return the store that torchrun's ranks share, this rank and their number: once a process, as the port is one."""
    from torch.distributed.rendezvous import rendezvous

    return next(rendezvous("env://", timeout=time_out))


def first_says(text: str) -> bool:
    """Return whether rank 0, too, ends by these words; every rank that ends before it has joined asks.

    Rank 0 tells the others, and returns when they have had the time to hear it.
    """
    key = "syn2co end of rank 0"
    if launcher().rank and not _store_listens():
        return False
    try:
        limit = timedelta(seconds=_ANSWER)
        store, this_rank, _ = _answered(lambda: _rendezvous(limit), launcher().rank, limit)
        if this_rank == 0:
            store.set(key, text)
            time.sleep(3 * _POLL)
            return True
        wait_for(store, key, this_rank, time.monotonic() + _ANSWER)
        return store.get(key).decode() == text
    except (RuntimeError, TrainingError):  # nobody is there, or rank 0 does not end
        return False


def _store_listens() -> bool:
    """Return whether somebody listens where the store is to be, soon: torch says at length when nobody does."""
    end = time.monotonic() + _ANSWER
    while time.monotonic() < end:
        try:
            socket.create_connection(launcher().address, _ANSWER).close()
            return True
        except OSError:
            time.sleep(_POLL)
    return False
