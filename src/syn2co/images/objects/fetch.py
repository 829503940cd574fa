"""Fetching of remote objects into the cache: by range, several parts at once, resumed where it stopped."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from syn2co.core.errors import DataError
from syn2co.core.files import put_in_place, remove, why_not_written
from syn2co.core.progress import Stages, note
from syn2co.images.objects.cache import Entry, ObjectCache
from syn2co.images.objects.store import (
    NoRanges,
    RemoteObject,
    Unanswered,
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
_POLL_SECONDS = 0.2


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
    except DataError as error:
        urls = cache.remembered(pattern)
        if not urls:
            raise
        note(f"{error}; the {len(urls)} objects of the last time are taken")
        return urls
    with _writing(folder):
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
    with _writing(folder):
        if cache.claim(entries):
            with cache.fetching():
                missing = cache.claim(entries)  # another process may have fetched them by now
                if missing:
                    cache.make_room(missing)
                    _fetch_all(missing, report)
    return [entry.file for entry in entries]


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Word the system's errors of the block, which writes below a folder."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({why_not_written(error)})") from None


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
        entry = kept.get(url) if isinstance(answer, DataError) else cache.entry(answer)
        if entry is None:
            raise cast(DataError, answer)
        entries.append(entry)
    if errors:
        note(f"{errors[0]}; {len(errors)} of {len(urls)} objects are taken from the cache as they are")
    return entries


def _fetch_all(entries: Sequence[Entry], report: Progress | None) -> None:
    """Fetch objects that the cache has room for."""
    total = sum(entry.object.size for entry in entries)
    done = [0] * len(entries)

    async def fetch() -> None:
        at_once = asyncio.Semaphore(OBJECTS)

        async def one(number: int, store: Any) -> None:
            async with at_once:
                await _fetch(store, entries[number], lambda count: done.__setitem__(number, count))

        async with opened_store(entries[0].object.url) as store:
            await asyncio.gather(*(one(number, store) for number in range(len(entries))))

    with Stages(show=True) as stages:
        show = report or stages.report
        _in_a_loop(fetch, lambda: show("fetch, MB", sum(done) // 10**6, total // 10**6))


async def _fetch(store: Any, entry: Entry, count: Callable[[int], None]) -> None:
    """Fetch one object; `count` is told the bytes that are there."""
    with open(entry.part, "ab") as file:

        def write(offset: int, block: bytes) -> None:
            with _writing(entry.folder):
                file.truncate(offset)
                file.write(block)
            count(offset + len(block))

        try:
            await _fetch_parts(store, entry.object, file.tell(), write)
        except NoRanges:
            await read_whole(store, entry.object, write)
    if entry.object.version and await look_at(store, entry.object.url) != entry.object:
        remove(entry.part)
        raise DataError(f"{entry.object.url}: it was changed while it was fetched; run the same command again")
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


def _in_a_loop(main: Callable[[], Coroutine[Any, Any, T]], now_and_then: Callable[[], None] = lambda: None) -> T:
    """Return what a coroutine returns, run in a thread of its own that is gone afterwards.

    So this thread answers signals, a notebook's own loop is no obstacle, and processes forked later inherit no thread.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None]] = []

    async def run() -> T:
        loops.append((asyncio.get_running_loop(), asyncio.current_task()))
        return await main()

    def work() -> None:
        try:
            results.append(asyncio.run(run()))
        except BaseException as error:  # goes on in the thread that waits
            errors.append(error)

    thread = threading.Thread(target=work, name="fetch", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_POLL_SECONDS)
            now_and_then()
    finally:
        for loop, task in loops if thread.is_alive() else ():
            assert task is not None
            loop.call_soon_threadsafe(task.cancel)
            thread.join(5.0)
    if errors:
        raise errors[0]
    return results[0]
