"""The set of images that training and evaluation read: several sources, one after the other.

Axis letters: N images of the set, H W height and width in pixels.
"""

import zlib
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8, UInt32

from syn2co.core.cpus import cpus_of_rank
from syn2co.core.errors import DataError
from syn2co.core.files import remove
from syn2co.core.keyed_rng import digest
from syn2co.core.stuck_threads import map_in_threads
from syn2co.images.decode import decode
from syn2co.images.identity import image_key
from syn2co.images.pixel_cache import PixelCache
from syn2co.images.quarantine import BrokenImage, Quarantined, write_list
from syn2co.images.source import Source, SyntheticSource

_MOST_READERS = 16
"""Most threads that decode images, each of which holds one."""


def reading_threads() -> int:
    """Return one thread per core that this rank may use, at most 16.

    Example:
        >>> 1 <= reading_threads() <= 16
        True
    """
    return min(_MOST_READERS, cpus_of_rank())


@dataclass(eq=False, repr=False)
class ImageSet:
    """Images of several sources under one numbering, 0..N-1; made by `open_images`, cheap to fork and to pickle.

    `groups` (see `groups.set_groups`) holds the position of every image in the concatenation before anything was left
    out, so an id does not move when an image is quarantined or a subset taken; synthetic images that know their group
    have that of their source image, or a hash of at least 2**62. `labels` are -1 where a source gives none. `ignored`
    counts the files that are no images by their names.
    """

    sources: tuple[Source, ...]
    rows: Int64[np.ndarray, " N"]
    """Position of each image in the concatenation of the sources."""
    groups: Int64[np.ndarray, " N"]
    labels: Int64[np.ndarray, " N"]
    classes: tuple[str, ...]
    checksums: tuple[UInt32[np.ndarray, " M"] | None, ...]
    """Of each source; None where it was opened without a check."""
    quarantined: list[Quarantined]
    cache: PixelCache | None
    max_pixels: int
    bits: tuple[int, ...]
    """Bits of the values in 16-bit files, of each source."""
    dark: int = 0
    """Images that are nearly black, as 12-bit values in 16-bit files are under 16 bits (`decode.NEARLY_BLACK`)."""

    def __post_init__(self) -> None:
        self.ignored = sum(source.ignored for source in self.sources)
        self._starts = [0, *accumulate(len(source) for source in self.sources)]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def cached(self) -> bool:
        """Whether the decoded images lie in memory, all of them, once they have been read."""
        return self.cache is not None and not any(made.on_the_fly for made in self.synthetic_sources)

    @property
    def synthetic_sources(self) -> list[SyntheticSource]:
        """The sources that know how their images were made."""
        return [source for source in self.sources if isinstance(source, SyntheticSource)]

    def variations(self) -> tuple[int, int]:
        """Return how many images are variations of another one, and of how many that one is not in the set."""
        total = lost = 0
        for start, source in zip(self._starts, self.sources, strict=False):
            if isinstance(source, SyntheticSource):
                of_source = (self.rows >= start) & (self.rows < start + len(source))
                rows = self.rows[of_source] - start
                varied = source.source_ids[rows] >= 0
                total += int(varied.sum())
                lost += int((varied & (self.groups[of_source] == source.group_ids[rows])).sum())
        return total, lost

    def first_of(self, source: int) -> int:
        """Return the first index whose image is of source number `source` or a later one."""
        return int(np.searchsorted(self.rows, self._starts[source]))

    def __repr__(self) -> str:
        return f"ImageSet({len(self)} images, {len(self.sources)} sources, {len(self.classes)} classes)"

    def _locate(self, index: int) -> tuple[int, int]:
        """Return the source's number and the row in it."""
        row = int(self.rows[index])
        number = bisect_right(self._starts, row) - 1
        return number, row - self._starts[number]

    def read(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Return one image in RGB; a read-only view where the decoded images are kept in memory.

        Raises:
            BrokenImage: if the image cannot be read (any more), or has more pixels than `max_pixels`.
        """
        kept = None if self.cache is None else self.cache[int(self.rows[index])]
        if kept is not None:
            return kept
        try:
            loaded = self.load(index)
            if self.cache is None or not self.cache.keeps(int(self.rows[index])):
                return self.decoded(index, loaded)
            number, row = self._locate(index)
            known = self.checksums[number]
            if isinstance(loaded, bytes) and known is not None and zlib.crc32(loaded) != known[row]:
                raise BrokenImage("it has changed since it was checked")
            return self.cache.keep(int(self.rows[index]), self.decoded(index, loaded))
        except BrokenImage as error:
            raise BrokenImage(error.reason, name=self.name(index)) from error

    def read_many(self, indices: Iterable[int]) -> Generator[UInt8[np.ndarray, "H W 3"], None, None]:
        """Yield what `read` returns of each image, read by threads: a signal ends the wait for a disk that is stalled.

        Close the generator to end the threads. Raises BrokenImage as `read`.
        """
        threads = reading_threads()
        return map_in_threads(self.read, indices, threads, ahead=threads)

    def decoded(self, index: int, loaded: bytes | UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """Return the pixels of what `load` gave of one image; raises BrokenImage."""
        if not isinstance(loaded, bytes):
            return loaded
        try:
            return decode(loaded, max_pixels=self.max_pixels, bits=self.bits[self._locate(index)[0]])
        except BrokenImage as error:
            raise BrokenImage(error.reason, name=self.name(index)) from error

    def read_ahead(self, threads: int, go_on: Callable[[float], None] = lambda _: None) -> None:
        """Read the images that are kept once they have been read, so that processes forked from this one share them.

        What cannot be read any more fails when it is read again. `go_on` is called now and then, and may raise.
        """

        def read(index: int) -> None:
            with suppress(BrokenImage):
                self.read(index)

        unread = [] if self.cache is None else self.cache.unread(self.rows).tolist()
        with closing(map_in_threads(read, unread, threads, waiting=go_on)) as done:
            for _ in done:
                go_on(0.0)

    def load(self, index: int) -> bytes | UInt8[np.ndarray, "H W 3"]:
        """Return the encoded file of one image, or its pixels where the source has no file; raises BrokenImage."""
        number, row = self._locate(index)
        return self.sources[number].load(row)

    def name(self, index: int) -> str:
        """Return the image's name below its source, after the source's number: "0:cat/1.jpg"."""
        number, row = self._locate(index)
        return f"{number}:{self.sources[number].name(row)}"

    def key(self, index: int) -> str:
        """Return "name#checksum", the same wherever the source lies and whichever number it has in the set.

        Raises:
            DataError: if the images were opened without a check, so that there is no checksum.
        """
        number, row = self._locate(index)
        checksums = self.checksums[number]
        if checksums is None:
            raise DataError("data.check = false: images can be named by content only after a check; set true")
        return image_key(self.sources[number].name(row), int(checksums[row]))

    @cached_property
    def fingerprint(self) -> str:
        """Return 32 hex digits of the names, byte sizes and (after a check) contents, wherever the sources lie."""
        hasher = blake2b(digest_size=16)
        for source, checksums, bits in zip(self.sources, self.checksums, self.bits, strict=True):
            hasher.update(source.digest())
            if bits < 16:
                hasher.update(digest("bits", bits))
            hasher.update(digest("checksums") if checksums is None else checksums.tobytes())
        hasher.update(self.rows.astype("<i8").tobytes())
        return hasher.hexdigest()

    @property
    def nbytes_index(self) -> int:
        """Return the memory of names, sizes, labels, groups and checksums in bytes (decoded images not counted)."""
        array_bytes = self.rows.nbytes + self.labels.nbytes + (0 if self.groups is self.rows else self.groups.nbytes)
        sums = sum(0 if sums is None else sums.nbytes for sums in self.checksums)
        return array_bytes + sums + sum(source.nbytes for source in self.sources)

    @property
    def nbytes_cache(self) -> int:
        """Return the memory of the decoded images kept by now in bytes, 0 if they are decoded at every read."""
        return 0 if self.cache is None else self.cache.nbytes

    def subset(self, indices: Sequence[int] | np.ndarray) -> "ImageSet":
        """Return the images at `indices`, in that order, with their groups, labels and `classes` unchanged."""
        chosen = np.asarray(indices, dtype=np.int64)
        return replace(self, rows=self.rows[chosen], groups=self.groups[chosen], labels=self.labels[chosen])

    def write_quarantine(self, path: str | Path) -> None:
        """Write one JSON object per line, {"name", "reason"}, for every image left out; no file if there is none."""
        if self.quarantined:
            write_list(Path(path), self.quarantined)
        else:
            remove(Path(path))  # of an earlier start, before the images were fixed
