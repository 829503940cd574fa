"""Fetching of remote objects into the cache: by range, several parts at once, resumed where it stopped."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from syn2co.core.errors import DataError
from syn2co.core.files import best_effort, put_in_place, remove
from syn2co.core.progress import Stages, note
from syn2co.core.stuck_threads import result_of
from syn2co.images.objects.cache import Entry, ObjectCache, writing
from syn2co.images.objects.store import (
    NO_ANSWER,
    NoRanges,
    RemoteObject,
    Unanswered,
    changed,
    listed,
    look_at,
    opened_store,
    read_part,
    read_whole,
)

T = TypeVar("T")
Progress = Callable[[str, int, int], None]
PART = 8 * 2**20
"""Bytes of a part."""
PARTS, OBJECTS, QUESTIONS = 4, 4, 16
"""Parts of an object, objects, and questions about objects that are under way at once."""
_LEAVE_SECONDS = 5.0
"""Wait for a thread that a signal has ended."""


class _Gate:
    """What a thread writes through: nothing once it is closed, whatever the thread waited for."""

    def __init__(self) -> None:
        self._lock, self._closed = threading.Lock(), False

    def close(self) -> None:
        """Wait for the write under way, and let no other begin."""
        with self._lock:
            self._closed = True

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Write inside the block."""
        with self._lock:
            if self._closed:
                raise asyncio.CancelledError
            yield


def list_objects(pattern: str, folder: Path) -> list[str]:
    """Return the URLs that a pattern with * or ? names, sorted; those of the last time where the store does not answer.

    Raises:
        DataError: if nothing matches, or it cannot be listed and never was.
    """
    cache = ObjectCache(folder)

    async def ask() -> list[str]:
        async with opened_store(pattern) as store:
            return await listed(store, pattern)

    try:
        urls = _in_a_loop(ask)
    except NO_ANSWER as error:
        urls = cache.remembered(pattern)
        if not urls:
            raise
        note(f"{error}; the {len(urls)} objects of the last time are taken")
        return urls
    with best_effort("the cache cannot be written, so a pattern is not known when its store does not answer"):
        cache.remember(pattern, urls)
    return urls


def fetch_objects(urls: Sequence[str], folder: Path, report: Progress | None = None) -> list[Path]:
    """Return a file of each object, fetched unless the cache holds its present version.

    An object that cannot be asked for is taken from the cache, with a note.

    Args:
        urls: public URLs of one store.
        folder: of the cache.
        report: called as report(stage, done, total) in megabytes; None shows a bar.

    Raises:
        DataError: if an object cannot be had, or the cache has no room for it.
    """
    cache = ObjectCache(folder)
    entries = _entries(cache, urls, _in_a_loop(lambda: _ask(urls)))
    with writing(folder):
        if _claimed(cache, entries):
            with cache.fetching():
                missing = cache.claim(entries)  # another process may have fetched them by now
                if missing:
                    cache.make_room(missing)
                    _fetch_all(missing, report)
    return [entry.file for entry in entries]


def _claimed(cache: ObjectCache, entries: Sequence[Entry]) -> list[Entry]:
    """Claim entries, and return those to fetch: none of a cache that cannot be written, if they are complete."""
    try:
        return cache.claim(entries)
    except OSError:
        if not all(entry.complete for entry in entries):
            raise
        note(f"{cache.folder}: cannot be written, so what is read there may be removed by those who can")
        return []


async def _ask(urls: Sequence[str]) -> list[RemoteObject | DataError]:
    """Return the present version of each object, or why it cannot be told."""
    at_once = asyncio.Semaphore(QUESTIONS)

    async def ask(store: Any, url: str) -> RemoteObject | DataError:
        async with at_once:
            try:
                return await look_at(store, url)
            except DataError as error:
                return error

    async with opened_store(urls[0]) as store:
        first = await ask(store, urls[0])
        if isinstance(first, Unanswered):  # nor would it answer the others, each of which would wait for its time-outs
            return [first] * len(urls)
        return [first, *await asyncio.gather(*(ask(store, url) for url in urls[1:]))]


def _entries(cache: ObjectCache, urls: Sequence[str], answers: Sequence[RemoteObject | DataError]) -> list[Entry]:
    """Return the place of each object's present version, or of the last one if the store does not answer."""
    entries, errors = [], [answer for answer in answers if isinstance(answer, DataError)]
    kept = cache.newest() if errors else {}
    for url, answer in zip(urls, answers, strict=True):
        if isinstance(answer, RemoteObject):
            entries.append(cache.entry(answer))
        elif isinstance(answer, NO_ANSWER) and url in kept:
            entries.append(kept[url])
        else:
            raise answer
    if errors:
        note(f"{errors[0]}; {len(errors)} of {len(urls)} objects are taken from the cache as they are")
    return entries


def _fetch_all(entries: Sequence[Entry], report: Progress | None) -> None:
    """Fetch objects that the cache has room for."""
    total = sum(entry.object.size for entry in entries)
    done, gate = [0] * len(entries), _Gate()

    async def fetch() -> None:
        at_once = asyncio.Semaphore(OBJECTS)

        async def one(number: int, store: Any) -> None:
            async with at_once:
                await _fetch(store, entries[number], gate, lambda count: done.__setitem__(number, count))

        async with opened_store(entries[0].object.url) as store:
            await asyncio.gather(*(one(number, store) for number in range(len(entries))))

    with Stages(show=True) as stages:
        show = report or stages.report

        def waiting(_: float = 0.0) -> None:
            show("fetch, MB", sum(done) // 10**6, total // 10**6)

        try:
            _in_a_loop(fetch, waiting)
        finally:
            gate.close()
        waiting()


async def _fetch(store: Any, entry: Entry, gate: _Gate, count: Callable[[int], None]) -> None:
    """Fetch one object; `count` is told the bytes that are there."""
    with open(entry.part, "ab") as file:

        def write(offset: int, block: bytes) -> None:
            with gate.opened(), writing(entry.folder):
                file.truncate(offset)
                file.write(block)
            count(offset + len(block))

        try:
            start = file.tell() if entry.object.version else 0  # else what is there may be of another version
            await _fetch_parts(store, entry.object, start, write)
        except NoRanges:
            await read_whole(store, entry.object, write)
    if entry.object.version and await changed(store, entry.object):
        with gate.opened():
            remove(entry.part)
        raise DataError(f"{entry.object.url}: it was changed while it was fetched; run the same command again")
    with gate.opened():
        put_in_place(entry.part, entry.file)


async def _fetch_parts(store: Any, remote: RemoteObject, start: int, write: Callable[[int, bytes], None]) -> None:
    """Fetch the rest of an object, in rounds of parts written in order: what is there is always a beginning."""
    start = start if start <= remote.size else 0
    while start < remote.size:
        starts = range(start, min(start + PARTS * PART, remote.size), PART)
        blocks = await asyncio.gather(
            *(read_part(store, remote, first, min(first + PART, remote.size)) for first in starts)
        )
        for first, block in zip(starts, blocks, strict=True):
            write(first, block)
        start = starts[-1] + len(blocks[-1])


class _DaemonThreads(ThreadPoolExecutor):
    """A thread for each call, which nobody waits for at the end: to look a host's name up may take minutes."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        task: Future[Any] = Future()
        threading.Thread(target=_settle, args=(task, lambda: fn(*args, **kwargs)), daemon=True).start()
        return task


def _settle(task: Future[T], call: Callable[[], T]) -> None:
    """Let what a call returns or raises be the result of a task."""
    if not task.set_running_or_notify_cancel():
        return
    try:
        task.set_result(call())
    except BaseException as error:  # goes on in the thread that waits
        task.set_exception(error)


def _in_a_loop(main: Callable[[], Coroutine[Any, Any, T]], waiting: Callable[[float], object] = lambda _: None) -> T:
    """Return what a coroutine returns, run in a thread of its own that is gone afterwards unless a disk hangs.

    So this thread answers signals, a notebook's own loop is no obstacle, and processes forked later inherit no thread.
    """
    task: Future[T] = Future()
    loop = asyncio.new_event_loop()
    loop.set_default_executor(_DaemonThreads())

    def run() -> T:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(main())

    def cancel() -> None:
        for each in asyncio.all_tasks(loop):
            each.cancel()

    thread = threading.Thread(target=_settle, args=(task, run), name="fetch", daemon=True)
    thread.start()
    try:
        return result_of(task, waiting)
    finally:
        with suppress(RuntimeError):  # the loop is closed: all is done
            loop.call_soon_threadsafe(cancel)
        thread.join(_LEAVE_SECONDS)
