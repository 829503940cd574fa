"""Groups of the images of a set: images of one group are never each other's negatives.

Axis letters: N images of the set, M images of one source, R images that may be sources.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from jaxtyping import Bool, Int64, UInt32

from syn2co.core.errors import DataError
from syn2co.images.identity import HASHED, key_id
from syn2co.images.source import Source, SyntheticSource

_CHECKSUM = (1 << 32) - 1


def set_groups(
    sources: Sequence[Source], checksums: Sequence[UInt32[np.ndarray, " M"] | None], rows: Int64[np.ndarray, " N"]
) -> Int64[np.ndarray, " N"]:
    """Return the group of each image at `rows` of the concatenated sources.

    It is the position in the concatenation; for a synthetic image whose source image is in the set, the group of that,
    be it real or synthetic; for any other that says how it was made, the hash of its group's text.

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
    if any((source.source_ids >= 0).any() for _, source in made) and len(sources) > 1:
        keys = _keys(sources, starts, checksums, rows)
        parents = np.arange(starts[-1])
        for start, source in made:
            origins = keys.find(source.source_ids)
            parents[start : start + len(source)] = np.where(origins < 0, parents[start : start + len(source)], origins)
        for _ in made:  # a variation of a variation, at most once through all sets
            groups = groups[parents]
    return groups[rows]


@dataclass(frozen=True)
class _Keys:
    """The hashed keys of images that may be the source of others, where they are, and which are of real images."""

    keys: Int64[np.ndarray, " R"]
    positions: Int64[np.ndarray, " R"]
    real: Bool[np.ndarray, " R"]

    def find(self, wanted: Int64[np.ndarray, " M"]) -> Int64[np.ndarray, " M"]:
        """Return the position of each source, -1 if it is not there.

        Without an image of that name and content it is the one real image of that content, whatever its name.
        """
        by_key = _look_up(wanted, self.keys, self.positions)
        checksums, first, count = np.unique(self.keys[self.real] & _CHECKSUM, return_index=True, return_counts=True)
        alone = count == 1
        by_content = _look_up(wanted & _CHECKSUM, checksums[alone], self.positions[self.real][first[alone]])
        return np.where((by_key < 0) & (wanted >= 0) & (wanted < HASHED), by_content, by_key)


def _look_up(
    wanted: Int64[np.ndarray, " M"], keys: Int64[np.ndarray, " R"], positions: Int64[np.ndarray, " R"]
) -> Int64[np.ndarray, " M"]:
    """Return the first position of each wanted key, -1 if it is not there."""
    if not len(keys):
        return np.full(len(wanted), -1, np.int64)
    order = np.argsort(keys, kind="stable")
    slots = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    return np.where(keys[slots] == wanted, positions[slots], -1)


def _keys(
    sources: Sequence[Source],
    starts: Sequence[int],
    checksums: Sequence[UInt32[np.ndarray, " M"] | None],
    rows: Int64[np.ndarray, " N"],
) -> _Keys:
    """Return the hashed keys of the images at `rows`."""
    keys, positions, real = [], [], []
    for start, source, sums in zip(starts, sources, checksums, strict=False):
        if sums is None:
            raise DataError(
                "data.check = false: the source images of variations can be found only after a check; set it to true"
            )
        source_rows = rows[(rows >= start) & (rows < start + len(source))]
        hashed = (key_id(source.name(row), int(sums[row])) for row in (source_rows - start).tolist())
        keys.append(np.fromiter(hashed, np.int64, len(source_rows)))
        positions.append(source_rows)
        real.append(np.full(len(source_rows), not isinstance(source, SyntheticSource)))
    return _Keys(np.concatenate(keys), np.concatenate(positions), np.concatenate(real))
