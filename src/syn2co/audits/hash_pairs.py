"""Pairs of perceptual hashes that differ in few bits, without comparing all pairs.

Axis letters: N and M hashes of two lists, U and V different values among them, P pairs.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt64

BANDS = (13, 13, 13, 13, 12)
"""Bits of each band; two hashes within `radius` bits differ by at most radius // 5 bits in one band (pigeonhole)."""
MOST_PAIRS = 1_000_000
ALIKE = 16
_CHUNK = 1 << 22


class Pairs(NamedTuple):
    """Positions in the two lists; `complete` is False if the search stopped or thinned out crowded hashes."""

    first: Int64[np.ndarray, " P"]
    second: Int64[np.ndarray, " P"]
    complete: bool


def close_pairs(
    first: UInt64[np.ndarray, " N"], second: UInt64[np.ndarray, " M"] | None, radius: int, *, most: int = MOST_PAIRS
) -> Pairs:
    """Return the pairs (i, j) whose hashes differ in at most `radius` bits, sorted; i < j within one list.

    `second` None compares `first` with itself. Of images with the same hash only the first 16 stand for the others
    when they are compared, and the search stops at `most` pairs: a set that reaches this is broken as a whole.
    Source: multi-index hashing, Norouzi, Punjani and Fleet, CVPR 2012.
    """
    own = second is None
    left = _Values.of(first)
    right = left if second is None else _Values.of(second)
    pairs, complete = [], True
    for u, v in _close_values(left.values, right.values, radius):
        if own:
            u, v = u[u <= v], v[u <= v]
        i, j = _members(left, right, u, v)
        if own:
            i, j = i[i != j], j[i != j]
            i, j = np.minimum(i, j), np.maximum(i, j)
        pairs.append(np.stack([i, j], axis=1))
        if sum(map(len, pairs)) > most:
            pairs, complete = [np.unique(np.concatenate(pairs), axis=0)], True
            if len(pairs[0]) > most:
                pairs, complete = [pairs[0][:most]], False
                break
    found = np.unique(np.concatenate([np.zeros((0, 2), np.int64), *pairs]), axis=0)
    crowded = max(int(part.counts.max(initial=0)) for part in (left, right)) > ALIKE
    return Pairs(found[:, 0], found[:, 1], complete and not crowded)


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
    """Return all pairs of images for pairs of values, at most 16 images a value."""
    one, two = np.minimum(left.counts[u], ALIKE), np.minimum(right.counts[v], ALIKE)
    times = one * two
    place = np.arange(int(times.sum())) - np.repeat(np.cumsum(times) - times, times)
    across = np.repeat(two, times)
    i = left.rows[np.repeat(left.starts[u], times) + place // across]
    j = right.rows[np.repeat(right.starts[v], times) + place % across]
    return i, j


def _close_values(
    left: UInt64[np.ndarray, " U"], right: UInt64[np.ndarray, " V"], radius: int
) -> Iterator[tuple[Int64[np.ndarray, " P"], Int64[np.ndarray, " P"]]]:
    """Yield the close pairs of different values, perhaps several times, in chunks of bounded memory."""
    shift = 0
    for bits in BANDS:
        mask = np.uint64((1 << bits) - 1)
        mine, others = ((part >> np.uint64(shift)) & mask for part in (left, right))
        order = np.argsort(others, kind="stable")
        edges = np.searchsorted(others[order], np.arange((1 << bits) + 1, dtype=np.uint64))
        for flip in _flips(bits, radius // len(BANDS)):
            wanted = (mine ^ np.uint64(flip)).astype(np.int64)
            starts, counts = edges[wanted], edges[wanted + 1] - edges[wanted]
            for rows in _chunks(counts):
                u = np.repeat(np.arange(rows.start, rows.stop), counts[rows])
                within = np.arange(len(u)) - np.repeat(np.cumsum(counts[rows]) - counts[rows], counts[rows])
                v = order[np.repeat(starts[rows], counts[rows]) + within]
                near = differing_bits(left[u], right[v]) <= radius
                yield u[near], v[near]
        shift += bits


def _flips(bits: int, most: int) -> list[int]:
    """Return every pattern of at most `most` ones among `bits` bits."""
    return [sum(1 << bit for bit in chosen) for count in range(most + 1) for chosen in combinations(range(bits), count)]


def _chunks(counts: Int64[np.ndarray, " U"]) -> Iterator[slice]:
    """Yield slices of the values with about 4 million candidates each, at least one value."""
    ends, start, done = np.cumsum(counts), 0, 0
    while start < len(counts):
        stop = max(start + 1, int(np.searchsorted(ends, done + _CHUNK, side="right")))
        yield slice(start, stop)
        start, done = stop, int(ends[stop - 1])


def differing_bits(first: UInt64[np.ndarray, " P"], second: UInt64[np.ndarray, " P"]) -> Int64[np.ndarray, " P"]:
    """Return the Hamming distance of each pair of hashes."""
    two, four, eight = (np.uint64(value) for value in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F))
    bits = first ^ second
    bits = bits - ((bits >> np.uint64(1)) & two)
    bits = (bits & four) + ((bits >> np.uint64(2)) & four)
    bits = (bits + (bits >> np.uint64(4))) & eight
    return ((bits * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.int64)
