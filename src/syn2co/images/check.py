"""One pass over a source before training: every image is decoded once, and what cannot be decoded is named.

Axis letters: M images of one source, H W height and width in pixels.
"""

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from threading import Event
from typing import NamedTuple
from zlib import crc32

import numpy as np

from syn2co.core.stuck_threads import map_in_threads
from syn2co.images.decode import decoded_bytes, inspect
from syn2co.images.index_cache import CheckResults
from syn2co.images.pixel_cache import Block
from syn2co.images.quarantine import BrokenImage
from syn2co.images.source import Source

Progress = Callable[[str, int, int], None]
_BATCH = 256
_PROBES = 64


class BatchCheck(NamedTuple):
    """Check results of some images."""

    checksums: list[int]
    reasons: dict[int, str]
    decoded_bytes: int
    dark: int
    block: Block | None


def check_source(
    source: Source, *, max_pixels: int, bits: int, workers: int, budget: int | None, report: Progress | None
) -> tuple[CheckResults, list[Block] | None]:
    """Return the verdicts on all images, and their pixels unless these exceed `budget` bytes (None: no limit).

    Threads, not processes: decoding lets go of Python's lock, and threads start alike on every platform.
    """
    batches = _batches(range(len(source)))
    keep = budget is None or (budget > 0 and estimate_bytes(source) <= budget)
    checksums, reasons, total, dark, blocks = [], {}, 0, 0, []
    stop = Event()

    def check(rows: Sequence[int]) -> BatchCheck:
        return _check_batch(source, _until(stop, rows), max_pixels, bits, keep, budget)

    with closing(_ordered(check, batches, workers, stop)) as verdicts:
        for verdict in verdicts:
            checksums.extend(verdict.checksums)
            reasons.update(verdict.reasons)
            total += verdict.decoded_bytes
            dark += verdict.dark
            if verdict.block is None or (budget is not None and total > budget):
                keep = False
                blocks.clear()
            elif keep:
                blocks.append(verdict.block)
            if report is not None:
                report("check", len(checksums), len(source))
    return CheckResults(np.array(checksums, np.uint32), reasons, total, dark), blocks if keep else None


def check_again(source: Source, known: CheckResults, *, max_pixels: int, bits: int, workers: int) -> CheckResults:
    """Return remembered verdicts after another look at the images that were broken.

    A broken image may have been mended, or its permissions, in ways that no stamp shows; there are few of them.
    """
    checksums, reasons, total, dark = known.checksums.copy(), {}, known.decoded_bytes, known.dark
    batches, stop = _batches(list(known.reasons)), Event()

    def check(rows: Sequence[int]) -> BatchCheck:
        return _check_batch(source, _until(stop, rows), max_pixels, bits, keep=False, budget=None)

    with closing(_ordered(check, batches, workers, stop)) as verdicts:
        for rows, verdict in zip(batches, verdicts, strict=True):
            checksums[rows] = verdict.checksums
            reasons.update(verdict.reasons)
            total += verdict.decoded_bytes
            dark += verdict.dark
    return CheckResults(checksums, reasons, total, dark)


def _batches(rows: Sequence[int]) -> list[Sequence[int]]:
    """Return the rows in batches."""
    return [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]


def _ordered(
    check: Callable[[Sequence[int]], BatchCheck], batches: Sequence[Sequence[int]], workers: int, stop: Event
) -> Generator[BatchCheck, None, None]:
    """Return the verdicts in order, with at most two batches a worker under way (they hold pixels).

    Ctrl-C and errors set `stop`, at which threads leave after one image: a batch may take a minute.
    """
    return map_in_threads(check, batches, workers, ahead=2 * workers - 1, stop=stop)


def _until(stop: Event, rows: Sequence[int]) -> Iterator[int]:
    """Yield rows until threads are to leave."""
    return itertools.takewhile(lambda _: not stop.is_set(), rows)


def _check_batch(
    source: Source, rows: Iterable[int], max_pixels: int, bits: int, keep: bool, budget: int | None
) -> BatchCheck:
    """Check some images; their pixels are let go as soon as they exceed the budget."""
    checksums, reasons, images, total, dark = [], {}, [], 0, 0
    for row in rows:
        checksum, image = 0, None
        try:
            loaded = source.load(row)
            checksum = crc32(loaded if isinstance(loaded, bytes) else np.ascontiguousarray(loaded).data)
            if isinstance(loaded, bytes):
                nbytes, image, nearly_black = inspect(loaded, keep=keep, max_pixels=max_pixels, bits=bits)
                dark += nearly_black
            else:
                nbytes, image = loaded.nbytes, loaded
            total += nbytes
        except BrokenImage as error:
            reasons[row] = error.reason
        if keep and budget is not None and total > budget:
            keep = False
            images.clear()
        checksums.append(checksum)
        images.append(image if keep else None)
    return BatchCheck(checksums, reasons, total, dark, Block(images) if keep else None)


def estimate_bytes(source: Source) -> int:
    """Return about how many bytes all images take when decoded, from the headers of 64 of them."""
    rows = np.unique(np.linspace(0, len(source) - 1, min(_PROBES, len(source))).astype(int)).tolist()

    def measure(row: int) -> int | None:
        try:
            loaded = source.load(row)
            return decoded_bytes(loaded) if isinstance(loaded, bytes) else loaded.nbytes
        except BrokenImage:
            return None

    with closing(map_in_threads(measure, rows, 1)) as measured:
        sizes = [size for size in measured if size is not None]
    return int(np.mean(sizes) * len(source)) if sizes else 0
