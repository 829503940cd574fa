"""Pairs of perceptual hashes that differ in few bits: multi-index hashing, or all pairs where that is quicker.

Axis letters: N and M hashes of two lists, U and V different values among them, P pairs, K keys of a chunk.
Source: Norouzi, Punjani and Fleet, "Fast search in Hamming space with multi-index hashing", CVPR 2012. Differs: the
radius is shared out among the chunks, and the hashes of a bucket are compared in blocks.
"""

from collections.abc import Iterator
from functools import cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt64

MOST_PAIRS = 1_000_000
ALIKE = 16
_ROWS, _COLUMNS = 64, 1024  # blocks of 512 kB stay in a core's cache: 1.0 ns a pair, and 2.5 ns in blocks of 2 MB
_COUNTS = range(4, 9)  # chunks: 5 of 12 or 13 bits are quickest at 200,000 hashes, 7 at 50,000
_BUCKET_PAIRS = 25_000  # pairs that are compared in the time that a bucket takes by itself
_FEW_PAIRS = 20_000_000  # 20 ms, about what the choice of chunks takes


class Pairs(NamedTuple):
    """Positions in the two lists; `complete` is False if the search stopped or thinned out crowded hashes."""

    first: Int64[np.ndarray, " P"]
    second: Int64[np.ndarray, " P"]
    complete: bool


def close_pairs(
    first: UInt64[np.ndarray, " N"], second: UInt64[np.ndarray, " M"] | None, radius: int, *, most: int = MOST_PAIRS
) -> Pairs:
    """Return the pairs (i, j) whose hashes differ in at most `radius` bits, sorted; i < j within one list.

    `second` None compares `first` with itself. Of images of the second list with the same hash only the first 16 stand
    for the others, and the search stops at `most` pairs: a set that reaches this is broken as a whole.
    """
    within = second is None
    left = _Values.of(first)
    right = left if second is None else _Values.of(second)
    pairs, count = [np.zeros((0, 2), np.int64)], 0
    compare = _BlockSearch(radius)
    close = _indexed(left, right, compare, within, most)
    for u, v in _all(left.values, right.values, compare, within) if close is None else close:
        members = np.stack(_members(left, right, u, v), axis=1)
        if within:
            members = np.unique(np.sort(members[members[:, 0] != members[:, 1]], axis=1), axis=0)
        pairs.append(members)
        count += len(members)
        if count > most:
            break
    crowded = max(int(part.counts.max(initial=0)) for part in (left, right)) > ALIKE
    distinct = np.unique(np.concatenate(pairs)[:most], axis=0)
    return Pairs(distinct[:, 0], distinct[:, 1], count <= most and not crowded)


class _Values(NamedTuple):
    """The different values of a list, and where each lies: rows[starts[u] : starts[u] + counts[u]]."""

    values: UInt64[np.ndarray, " U"]
    rows: Int64[np.ndarray, " N"]
    starts: Int64[np.ndarray, " U"]
    counts: Int64[np.ndarray, " U"]

    @classmethod
    def of(cls, hashes: UInt64[np.ndarray, " N"]) -> "_Values":
        values, starts, counts = np.unique(np.sort(hashes), return_index=True, return_counts=True)
        return cls(values, np.argsort(hashes, kind="stable"), starts.astype(np.int64), counts.astype(np.int64))


def _members(
    left: _Values, right: _Values, u: Int64[np.ndarray, " P"], v: Int64[np.ndarray, " P"]
) -> tuple[Int64[np.ndarray, " Q"], Int64[np.ndarray, " Q"]]:
    """Return the pairs of images for pairs of values: all of the left value, at most 16 of the right one."""
    one, two = left.counts[u], np.minimum(right.counts[v], ALIKE)
    times = one * two
    position = np.arange(int(times.sum())) - np.repeat(np.cumsum(times) - times, times)
    across = np.repeat(two, times)
    i = left.rows[np.repeat(left.starts[u], times) + position // across]
    j = right.rows[np.repeat(right.starts[v], times) + position % across]
    return i, j


def _count(left: _Values, right: _Values, u: Int64[np.ndarray, " P"], v: Int64[np.ndarray, " P"], within: bool) -> int:
    """Return the number of different pairs of images for pairs of values."""
    two = np.minimum(right.counts[v], ALIKE)
    twice = (u == v) * (two * (two + 1) // 2) if within else 0  # of equal hashes: each with itself, and in both orders
    return int((left.counts[u] * two - twice).sum())


class _Chunk(NamedTuple):
    """Some of the 64 bits of a hash, and in how many of them close hashes may differ."""

    shift: int
    width: int
    radius: int

    def of(self, hashes: UInt64[np.ndarray, " N"]) -> Int64[np.ndarray, " N"]:
        """Return the chunk of each hash as a key."""
        return (hashes >> np.uint64(self.shift) & np.uint64((1 << self.width) - 1)).astype(np.int64)

    def near(self, differing: UInt64[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
        """Return which differences of hashes are near in this chunk."""
        chunk = differing & np.uint64((1 << self.width) - 1 << self.shift)
        return np.bitwise_count(chunk) <= self.radius


def _chunks(count: int, radius: int) -> list[_Chunk]:
    """Return the bits in `count` chunks: hashes that differ in at most `radius` bits are near in at least one.

    sum (radius of a chunk + 1) = radius + 1, so hashes that are near in no chunk differ in more bits.
    """
    widths = [len(part) for part in np.array_split(np.arange(64), count)]
    radii = [len(part) - 1 for part in np.array_split(np.arange(radius + 1), count)]
    return [_Chunk(sum(widths[:number]), *part) for number, part in enumerate(zip(widths, radii, strict=True))]


def _quickest(left: UInt64[np.ndarray, " U"], right: UInt64[np.ndarray, " V"], radius: int) -> list[_Chunk]:
    """Return the chunks with which the least is compared, judged by a sample; none if that is all pairs."""
    pairs = len(left) * len(right)
    if pairs < _FEW_PAIRS:
        return []
    sample = left[:: max(1, len(left) // 64), None] ^ right[:: max(1, len(right) // 2048)]
    quickest, least = [], float(pairs)
    for chunks in (_chunks(count, radius) for count in _COUNTS if count <= radius + 1):
        share = sum(float(chunk.near(sample).mean()) for chunk in chunks)
        cost = share * pairs + _BUCKET_PAIRS * sum(min(1 << chunk.width, len(left)) for chunk in chunks)
        if cost < least:
            quickest, least = chunks, cost
    return quickest


class _Index(NamedTuple):
    """Values sorted by the key of a chunk: those of key k are values[starts[k] : starts[k + 1]]."""

    values: UInt64[np.ndarray, " U"]
    rows: Int64[np.ndarray, " U"]
    starts: Int64[np.ndarray, " K"]

    @classmethod
    def of(cls, values: UInt64[np.ndarray, " U"], chunk: _Chunk) -> "_Index":
        keys = chunk.of(values)
        rows = np.argsort(keys, kind="stable")
        return cls(values[rows], rows, np.cumsum(np.bincount(keys + 1, minlength=(1 << chunk.width) + 1)))

    def bucket(self, keys: Int64[np.ndarray, " K"]) -> Int64[np.ndarray, " n"]:
        """Return where the values of some keys are."""
        starts = self.starts[keys]
        counts = self.starts[keys + 1] - starts
        ends = np.cumsum(counts)
        return np.repeat(starts - ends + counts, counts) + np.arange(ends[-1])


@cache
def _masks(width: int, radius: int) -> Int64[np.ndarray, " K"]:
    """Return the numbers of `width` bits of which at most `radius` are set."""
    bits = [part for count in range(radius + 1) for part in combinations(range(width), count)]
    return np.array([sum(1 << bit for bit in part) for part in bits], np.int64)


class _BlockSearch:
    """All pairs of two lists compared, in blocks that have their memory once."""

    def __init__(self, radius: int) -> None:
        self.radius = radius
        self._differing, self._bits = np.empty(_ROWS * _COLUMNS, np.uint64), np.empty(_ROWS * _COLUMNS, np.uint8)

    def __call__(
        self, left: UInt64[np.ndarray, " U"], right: UInt64[np.ndarray, " V"], columns: int = _COLUMNS
    ) -> Iterator[tuple[Int64[np.ndarray, " P"], Int64[np.ndarray, " P"]]]:
        """Yield the close pairs of values, by block of at most 64 rows."""
        for row in range(0, len(left), _ROWS):
            for column in range(0, len(right), columns):
                one, two = left[row : row + _ROWS, None], right[column : column + columns]
                block, size = (len(one), len(two)), len(one) * len(two)
                differing, bits = self._differing[:size].reshape(block), self._bits[:size].reshape(block)
                np.bitwise_xor(one, two, out=differing)
                np.bitwise_count(differing, out=bits)
                if bits.min() <= self.radius:  # a minimum costs 0.03 ns a pair, a comparison 0.5 ns
                    u, v = np.divmod(np.flatnonzero(bits <= self.radius), len(two))
                    yield u + row, v + column


def _all(
    left: UInt64[np.ndarray, " U"], right: UInt64[np.ndarray, " V"], compare: _BlockSearch, within: bool
) -> Iterator[tuple[Int64[np.ndarray, " P"], Int64[np.ndarray, " P"]]]:
    """Yield the close pairs among all pairs of values, block by block; u <= v where these are `within` one list."""
    for row in range(0, len(left), _ROWS):
        column = row // _COLUMNS * _COLUMNS if within else 0
        for u, v in compare(left[row : row + _ROWS], right[column:]):
            u, v = u + row, v + column
            yield (u[u <= v], v[u <= v]) if within else (u, v)


def _indexed(
    left: _Values, right: _Values, compare: _BlockSearch, within: bool, most: int
) -> list[tuple[Int64[np.ndarray, " P"], Int64[np.ndarray, " P"]]] | None:
    """Return the close pairs of values, each once; None where all pairs are quicker, or stand for more than `most`
    pairs of images: which of these are kept depends on the order of all pairs.
    """
    chunks = _quickest(left.values, right.values, compare.radius)
    pairs, count = [], 0
    for number, chunk in enumerate(chunks):
        near, held = [np.zeros((2, 0), np.int64)], 0
        for part in _near_in(chunk, left.values, right.values, compare, within):
            near.append(part)
            held += part.shape[1]
            if held > most + len(left.values):
                return None
        u, v = np.concatenate(near, axis=1)
        new = (u < v) | (left.counts[u] > 1) if within else np.ones(len(u), bool)
        for earlier in chunks[:number]:
            new &= ~earlier.near(left.values[u] ^ right.values[v])
        pairs.append((u[new], v[new]))
        count = sum(_count(left, right, u, v, within) for u, v in pairs)
    return pairs if chunks and count <= most else None


def _near_in(
    chunk: _Chunk,
    left: UInt64[np.ndarray, " U"],
    right: UInt64[np.ndarray, " V"],
    compare: _BlockSearch,
    within: bool,
) -> Iterator[Int64[np.ndarray, "2 P"]]:
    """Yield the close pairs of values that are near in a chunk, bucket by bucket; each once, u <= v, where these are
    `within` one list.
    """
    one, two = _Index.of(left, chunk), _Index.of(right, chunk)
    masks = _masks(chunk.width, chunk.radius)
    for key in np.flatnonzero(np.diff(one.starts)).tolist():
        rows, near = slice(one.starts[key], one.starts[key + 1]), key ^ masks
        columns = two.bucket(near[near >= key] if within else near)
        count = rows.stop - rows.start
        for u, v in compare(one.values[rows], two.values[columns], _ROWS * _COLUMNS // min(_ROWS, int(count))):
            pairs = np.stack([one.rows[rows][u], two.rows[columns[v]]])
            if within:
                pairs = np.sort(pairs[:, u + rows.start <= columns[v]], axis=0)
            yield pairs
