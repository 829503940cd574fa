"""Which images of a set are of one group, so that they are never each other's negatives.

Axis letters: N images of the set, M images of one source.
"""

from collections.abc import Sequence
from hashlib import blake2b
from itertools import accumulate

import numpy as np
from jaxtyping import Int64, UInt32

from syn2co.errors import DataError
from syn2co.images.source import Source, SyntheticSource

HASHED = 1 << 62
"""Set in every hashed group, and in no position of a set."""


def group_id(text: str) -> int:
    """Return a stable group for a text, between 2**62 and 2**63 - 1."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") & (HASHED - 1) | HASHED


def image_key(name: str, checksum: int) -> str:
    """Return "name#checksum": an image by name and content."""
    return f"{name}#{checksum:08x}"


def set_groups(
    sources: Sequence[Source], checksums: Sequence[UInt32[np.ndarray, " M"] | None], rows: Int64[np.ndarray, " N"]
) -> Int64[np.ndarray, " N"]:
    """Return the group of each image at `rows` of the concatenated sources.

    It is the position in the concatenation; for a synthetic image whose source image is in the set, the position of
    that; for any other that says how it was made, the hash of its group's text.

    Raises:
        DataError: if source images must be found and the set was opened without a check.
    """
    starts = [0, *accumulate(len(source) for source in sources)]
    placed = zip(starts, sources, strict=False)
    made = [(start, source) for start, source in placed if isinstance(source, SyntheticSource)]
    if not made:
        return rows.astype(np.int64, copy=False)
    groups = np.arange(starts[-1])
    for start, source in made:
        groups[start : start + len(source)] = source.group_ids
    if any((source.source_ids >= 0).any() for _, source in made) and len(made) < len(sources):
        keys, positions = _real_keys(sources, starts, checksums, rows)
        for start, source in made:
            place = np.minimum(np.searchsorted(keys, source.source_ids), len(keys) - 1)
            found = np.flatnonzero(keys[place] == source.source_ids)
            groups[start + found] = positions[place[found]]
    return groups[rows]


def _real_keys(
    sources: Sequence[Source],
    starts: Sequence[int],
    checksums: Sequence[UInt32[np.ndarray, " M"] | None],
    rows: Int64[np.ndarray, " N"],
) -> tuple[Int64[np.ndarray, " R"], Int64[np.ndarray, " R"]]:
    """Return the hashed keys of the real images at `rows` in order, and their positions; never empty."""
    keys, positions = [np.full(1, -2, np.int64)], [np.full(1, -1, np.int64)]
    for start, source, sums in zip(starts, sources, checksums, strict=False):
        if isinstance(source, SyntheticSource):
            continue
        if sums is None:
            raise DataError(
                "data.check = false: the source images of variations can be found only after a check; set it to true"
            )
        own = rows[(rows >= start) & (rows < start + len(source))]
        hashed = (group_id(image_key(source.name(row), int(sums[row]))) for row in (own - start).tolist())
        keys.append(np.fromiter(hashed, np.int64, len(own)))
        positions.append(own)
    all_keys, all_positions = np.concatenate(keys), np.concatenate(positions)
    order = np.argsort(all_keys, kind="stable")
    return all_keys[order], all_positions[order]
