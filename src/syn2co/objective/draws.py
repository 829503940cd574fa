"""Random draws of the synthetic negatives: hard keys and coefficients, keyed and so equal on any number of ranks.

Axes: B queries of this rank, S negatives per query; per kind, its count.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor, from_numpy

from syn2co.core import keyed_rng
from syn2co.core.transfer import to_device
from syn2co.objective.counts import KINDS, NegativeCounts

NOISE_BLOCK = 512
"""Rows of a micro-batch whose draws of kind 4 come from one stream."""


@dataclass(frozen=True)
class Draws:
    """The draws of one micro-batch and direction, on the CPU in float32; slots in the order of `KINDS`.

    `picks` and `partners` lie in [0, 1) and name ranks among a query's hardest keys: rank = floor(u * candidates).

    Example:
        >>> draws = draw_negatives(NegativeCounts(mixup=3, noise=1), DrawKey(0, 0), global_batch=2, width=8)
        >>> draws.picks.shape, draws.mixing.shape
        ((2, 4), (2, 3))
    """

    counts: NegativeCounts
    """Negatives per query of each kind; their sum is S."""
    picks: Float[np.ndarray, "B S"]
    """Rank of the hard key n of each negative, as a fraction of the candidates."""
    partners: Float[np.ndarray, "B mixup"]
    """Rank of the second key n' of kind 3, likewise."""
    interpolation: Float[np.ndarray, "B interpolated"]
    """a of kind 1, in [0, 0.5)."""
    extrapolation: Float[np.ndarray, "B extrapolated"]
    """b of kind 2, in [1, 1.5)."""
    mixing: Float[np.ndarray, "B mixup"]
    """g of kind 3, in [0, 1)."""
    noise_query: Float[np.ndarray, "B noise"]
    """x of kind 4, N(0, 1): the noise along the query."""
    noise_key: Float[np.ndarray, "B noise"]
    """y of kind 4, N(0, 1): the noise along the key's part that is orthogonal to the query."""
    noise_rest: Float[np.ndarray, "B noise"]
    """Squared length of the rest of the noise of kind 4, chi-square(D - 2)."""

    def tensor(self, name: str, like: Tensor) -> Tensor:
        """Return one array of coefficients with the device and the dtype of `like`.

        Args:
            name: a field of this class other than `counts`.
        """
        return to_device(from_numpy(getattr(self, name)), like.device).to(like.dtype)


class DrawKey(NamedTuple):
    """Key of the draws of one micro-batch and direction; equal keys give equal draws.

    Example:
        >>> first, second = (DrawKey(seed=0, step=7, direction=number) for number in (1, 2))
        >>> first == second
        False
    """

    seed: int
    """Seed of the run."""
    step: int
    """Optimizer step of the run, from 0."""
    micro_batch: int = 0
    """Number of the micro-batch in its step, from 0."""
    direction: int = 1
    """1: queries of view 1 against keys of view 2; 2: the other way round."""


def draw_negatives(
    counts: NegativeCounts,
    key: DrawKey,
    *,
    global_batch: int,
    width: int,
    start_row: int = 0,
    rows: int | None = None,
    noise_block: int = NOISE_BLOCK,
) -> Draws:
    """Return the draws of rows start_row .. start_row + rows of a micro-batch over all ranks (`global_batch` rows).

    a ~ U(0, 0.5), b ~ U(1, 1.5), g ~ U(0, 1), x and y ~ N(0, 1), rest ~ chi-square(width - 2), picks ~ U[0, 1).
    Deterministic in `key`; a rank has its rows of the draws of the whole, so the number of ranks changes nothing, and
    each kind has its own stream, so no kind's draws depend on another kind's count. The time grows with `rows`; of kind
    4 every block of `noise_block` rows of the micro-batch that holds some of them is made whole.

    Args:
        counts: negatives per query; one of `PRESETS`, or counts of your own.
        global_batch: rows of the micro-batch over all ranks.
        width: D, the embedding width; the law of the noise of kind 4 depends on it.
        start_row: first row of this rank in the micro-batch.
        rows: rows of this rank; None is all of `global_batch`.
        noise_block: rows whose draws of kind 4 come from one stream; other blocks are other draws.

    Returns:
        The draws of this rank's rows, on the CPU.

    Source: SynCo, arXiv:2410.02401, Sec. 3.2 and 4.1.

    Raises:
        ValueError: if a count is negative, or there is noise in fewer than two dimensions.

    Example:
        >>> key, counts = DrawKey(seed=0, step=0), NegativeCounts(interpolated=3)
        >>> both = draw_negatives(counts, key, global_batch=4, width=8)
        >>> second_rank = draw_negatives(counts, key, global_batch=4, width=8, start_row=2, rows=2)
        >>> bool((both.picks[2:] == second_rank.picks).all())
        True
    """
    for kind, count in zip(KINDS, counts, strict=True):
        if count < 0:
            raise ValueError(f"{kind} = {count}: a count must be 0 or more; 0 switches the kind off")
    if counts.noise and width < 2:
        raise ValueError(f"width = {width}: noise negatives need an embedding of 2 dimensions or more")
    rank_rows = slice(start_row, global_batch if rows is None else start_row + rows)
    streams = {kind: _Stream(keyed_rng.generator("negatives", *key, kind)) for kind in KINDS}

    def shape(kind: str) -> tuple[int, int]:
        return global_batch, getattr(counts, kind)

    def uniform(kind: str) -> Any:
        return streams[kind].uniform(shape(kind), rank_rows)

    # evaluated in this order: a kind's picks are the first thing that its stream gives
    picks = np.concatenate([uniform(kind) for kind in KINDS], axis=1)
    noise = _noise_blocks(streams["noise"].generator, key, global_batch, rank_rows, noise_block)
    noise_query, noise_key, noise_rest = _noise(noise, counts.noise, width)
    return Draws(
        counts=counts,
        picks=picks,
        partners=uniform("mixup"),
        interpolation=uniform("interpolated") * np.float32(0.5),
        extrapolation=uniform("extrapolated") * np.float32(0.5) + np.float32(1),
        mixing=uniform("mixup"),
        noise_query=noise_query,
        noise_key=noise_key,
        noise_rest=noise_rest,
    )


class _NoiseBlock(NamedTuple):
    """Rows of kind 4 that are drawn together, and those of them that this rank needs."""

    stream: np.random.Generator
    rows: int
    part: slice


def _noise_blocks(
    first: np.random.Generator, key: DrawKey, global_batch: int, rows: slice, size: int
) -> list[_NoiseBlock]:
    """Return the blocks of a micro-batch that hold some rows.

    Normal and gamma draws reject some words, so nobody knows where a row of theirs begins without making those before:
    each block has a stream of its own, the first one what is left of the kind's stream.
    """
    begins = range(rows.start // size * size, max(rows.stop, rows.start + 1), size)
    return [
        _NoiseBlock(
            keyed_rng.generator("negatives", *key, "noise", begin) if begin else first,
            min(size, global_batch - begin),
            slice(max(rows.start - begin, 0), max(rows.stop - begin, 0)),
        )
        for begin in begins
    ]


def _noise(blocks: Sequence[_NoiseBlock], count: int, width: int) -> Iterator[Float[np.ndarray, "B noise"]]:
    """Return x, y and the squared length of the rest of kind 4, rows of all blocks one after the other."""
    drawn: list[list[Float[np.ndarray, "block noise"]]] = []
    for stream, rows, part in blocks:
        x, y = (stream.standard_normal((rows, count), dtype=np.float32)[part] for _ in range(2))
        # chi-square(k) = 2 Gamma(k / 2); NumPy's own chi-square knows float64 alone.
        drawn.append([x, y, 2 * stream.standard_gamma((width - 2) / 2, (rows, count), dtype=np.float32)[part]])
    return map(np.concatenate, zip(*drawn, strict=True))


class _Stream:
    """Stream of one kind; of uniforms, a word of 32 bits each, it makes the rows of this rank and skips the others."""

    _BLOCK = 8  # words that Philox makes at a time, and the unit of `advance`

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator, self._word = generator, 0

    def uniform(self, shape: tuple[int, int], rows: slice) -> Float[np.ndarray, "B S"]:
        """Return some rows of the next array of uniforms of this shape."""
        (batch, count), begin = shape, self._word
        self._skip(rows.start * count)
        part = self.generator.random((rows.stop - rows.start, count), dtype=np.float32)
        self._word += part.size
        self._skip(begin + batch * count - self._word)
        return part

    def _skip(self, words: int) -> None:
        if not words:
            return
        drawn = -(-self._word // self._BLOCK)  # blocks, the last one perhaps in part
        self._word += words
        self.generator.bit_generator.advance(self._word // self._BLOCK - drawn)  # type: ignore[attr-defined]
        self.generator.random(self._word % self._BLOCK, dtype=np.float32)
