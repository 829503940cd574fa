"""From hardest keys and draws to the logits and weights of synthetic negatives, without building one of them.

Axes: B queries, K keys in the queue, D embedding width, H hardest keys, S synthetic negatives per query.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from syn2co.objective import negatives
from syn2co.objective.counts import KINDS, NegativeCounts, NegativeStrengths
from syn2co.objective.draws import Draws
from syn2co.objective.negatives import SMALLEST_SQUARE, Unnormalized
from syn2co.objective.workspace import Workspace

_CHUNK = 16  # queries whose keys are gathered at a time, at least
_VALUES = 2**24  # floats of them, where there are more queries: 64 MiB, twice


class Synthetic(NamedTuple):
    """S negatives per query: query_weight q + key_weight n, + partner_weight n' (kind 3), + sign_weight sign(q) (6)."""

    logits: Float[Tensor, "B S"]  # q.s, before the temperature; -inf where a query has no key to build on
    keys: Int64[Tensor, "B S"]  # n, as its row in the queue
    query_weight: Float[Tensor, "B S"]
    key_weight: Float[Tensor, "B S"]
    partners: Int64[Tensor, "B S3"]  # n'
    partner_weight: Float[Tensor, "B S3"]
    sign_weight: Float[Tensor, "B S6"]
    mixup: slice  # where kind 3 lies along S
    adversarial: slice  # where kind 6 lies


def synthetic_logits(
    query: Float[Tensor, "B D"],
    queue: Float[Tensor, "K D"],
    product: Float[Tensor, "B K"],
    real: Float[Tensor, "B K"],
    unmasked: Int64[Tensor, "B 1"],
    draws: Draws,
    strengths: NegativeStrengths,
    workspace: Workspace,
) -> Synthetic:
    """Return the synthetic negatives of every query; `product` is q.n, `real` the same with -inf for masked keys."""
    slots = _slots(draws.counts)
    hard = _hardest(real, strengths.hardest)
    candidates = unmasked.clamp(max=strengths.hardest)
    keys = _picked(hard, candidates, draws.tensor("picks", unmasked.float()))
    partners = _picked(hard, candidates, draws.tensor("partners", unmasked.float()))
    like = (len(query), draws.counts.total)
    logits, query_weight, key_weight = (workspace.take(name, like, query) for name in ("logits", "on query", "on key"))
    extra: dict[str, Tensor] = {}
    for kind, blend in _blends(query, queue, product, keys, partners, draws, strengths, workspace):
        inverse = blend.square.clamp_min(SMALLEST_SQUARE).rsqrt()
        torch.mul(blend.product, inverse, out=logits[:, slots[kind]])
        query_weight[:, slots[kind]] = blend.query * inverse
        key_weight[:, slots[kind]] = blend.key * inverse
        if kind in ("mixup", "adversarial"):
            extra[kind] = blend.extra * inverse
    logits.masked_fill_(unmasked == 0, -torch.inf)
    none = query.new_zeros(len(query), 0)
    return Synthetic(
        logits=logits,
        keys=keys,
        query_weight=query_weight,
        key_weight=key_weight,
        partners=partners,
        partner_weight=extra.get("mixup", none),
        sign_weight=extra.get("adversarial", none),
        mixup=slots["mixup"],
        adversarial=slots["adversarial"],
    )


def _blends(
    query: Float[Tensor, "B D"],
    queue: Float[Tensor, "K D"],
    product: Float[Tensor, "B K"],
    keys: Int64[Tensor, "B S"],
    partners: Int64[Tensor, "B S3"],
    draws: Draws,
    strengths: NegativeStrengths,
    workspace: Workspace,
) -> Iterator[tuple[str, Unnormalized]]:
    """Yield the scalars of each kind that is switched on, each by its own count.

    The cosines c come from the unmasked product: -inf in a radicand would give NaN.
    """
    cosines = dict(zip(KINDS, product.gather(1, keys).split(draws.counts, dim=1), strict=True))
    rows = dict(zip(KINDS, keys.split(draws.counts, dim=1), strict=True))

    def drawn(name: str) -> Tensor:
        return draws.tensor(name, query)

    if draws.counts.interpolated:
        yield "interpolated", negatives.interpolated(cosines["interpolated"], drawn("interpolation"))
    if draws.counts.extrapolated:
        yield "extrapolated", negatives.extrapolated(cosines["extrapolated"], drawn("extrapolation"))
    if draws.counts.mixup:
        pairs = _dots(queue, rows["mixup"], queue, partners, workspace)
        c_partner = product.gather(1, partners)
        yield "mixup", negatives.mixup(cosines["mixup"], c_partner, pairs, drawn("mixing"))
    if draws.counts.noise:
        x, y, rest = drawn("noise_query"), drawn("noise_key"), drawn("noise_rest")
        yield "noise", negatives.noise(cosines["noise"], x, y, rest, strengths.sigma)
    if draws.counts.perturbed:
        yield "perturbed", negatives.perturbed(cosines["perturbed"], strengths.delta)
    if draws.counts.adversarial:
        sign = query.sign()
        query_rows = torch.arange(len(query), device=query.device)[:, None].expand_as(rows["adversarial"])
        key_sign = _dots(sign, query_rows, queue, rows["adversarial"], workspace)
        norm1, nonzero = query.abs().sum(dim=1, keepdim=True), sign.abs().sum(dim=1, keepdim=True)
        yield "adversarial", negatives.adversarial(cosines["adversarial"], key_sign, norm1, nonzero, strengths.eta)


def _slots(counts: NegativeCounts) -> dict[str, slice]:
    """Return where each kind lies along S."""
    ends = [sum(counts[: position + 1]) for position in range(len(KINDS))]
    return {kind: slice(end - count, end) for kind, end, count in zip(KINDS, ends, counts, strict=True)}


def _hardest(real: Float[Tensor, "B K"], hardest: int) -> Int64[Tensor, "B H"]:
    """Return the rows of the H keys with the largest q.n, hardest first, so that masked ones come last.

    On a CPU a row is cut into groups (2 H of them where K allows): the H-th largest group maximum is a bound that at
    least H keys reach, and few more do; only those are sorted, each packed with its key's row into one integer (so of
    equals the first row comes first): 0.4 of the time of torch.topk or NumPy's argpartition (AMD EPYC, 128 x 4096).
    """
    if real.device.type != "cpu":
        return torch.topk(real, hardest, dim=1)[1]
    products = real.numpy()
    batch, size = products.shape
    members = max(1, size // (2 * hardest))
    groups = size // members
    maxima = products[:, : members * groups].reshape(batch, members, groups).max(axis=1)
    bound = np.partition(maxima, groups - hardest, axis=1)[:, groups - hardest]
    candidates = np.flatnonzero(~(products < bound[:, None]))  # NaN passes: the loss must show it
    rows = candidates // size
    counts = np.bincount(rows, minlength=batch)
    width = int(counts.max())
    slots = np.arange(len(candidates)) + (np.arange(batch) * width - (np.cumsum(counts) - counts))[rows]
    packed = np.full(batch * width, np.iinfo(np.int64).max)
    packed[slots] = (_descending(products.reshape(-1)[candidates]) << 32) | (candidates - rows * size)
    hard = np.sort(packed.reshape(batch, width), axis=1)[:, :hardest] & 0xFFFFFFFF
    return torch.from_numpy(hard)


def _descending(values: Float[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Return integers of 32 bits that are ordered the other way round than the values."""
    if values.dtype != np.float32:
        return np.unique(-values, return_inverse=True)[1]
    bits = values.view(np.int32)
    return (~(bits ^ ((bits >> 31) & 0x7FFFFFFF))).astype(np.int64)  # a negative float's bits grow as it falls


def _picked(
    hard: Int64[Tensor, "B H"], candidates: Int64[Tensor, "B 1"], u: Float[Tensor, "B S"]
) -> Int64[Tensor, "B S"]:
    """Return the keys at rank floor(u * candidates), uniform with replacement (any key where there is no candidate)."""
    return hard.gather(1, (u * candidates).long())  # u has 24 bits: the product never rounds up to `candidates`


def _dots(
    left: Float[Tensor, "L D"],
    rows: Int64[Tensor, "B S"],
    right: Float[Tensor, "K D"],
    columns: Int64[Tensor, "B S"],
    workspace: Workspace,
) -> Float[Tensor, "B S"]:
    """Return left[rows].right[columns], pair by pair.

    On a CPU by the kernel of the gradient of an embedding bag's weights, which is these products and reads each vector
    where it lies: 0.4 (two threads) to 0.7 (one) of the time of gathering both sides.
    """
    if left.device.type != "cpu":
        return _gathered_dots(left, rows, right, columns, workspace)
    products = torch.ops.aten._embedding_bag_per_sample_weights_backward
    bag, index = (where.flatten().contiguous() for where in (rows, columns))
    return products(left.contiguous(), right.contiguous(), index, index, bag, 0).view(rows.shape)


def _gathered_dots(
    left: Float[Tensor, "L D"],
    rows: Int64[Tensor, "B S"],
    right: Float[Tensor, "K D"],
    columns: Int64[Tensor, "B S"],
    workspace: Workspace,
) -> Float[Tensor, "B S"]:
    """Return left[rows].right[columns], the vectors of a few queries at a time."""
    products = left.new_empty(rows.shape)
    queries = max(_CHUNK, _VALUES // max(1, rows.shape[1] * left.shape[1]))
    for start in range(0, len(rows), queries):
        chunk = slice(start, start + queries)
        ours = _rows(left, rows[chunk], "left", workspace)
        torch.sum(ours.mul_(_rows(right, columns[chunk], "right", workspace)), dim=2, out=products[chunk])
    return products


def _rows(
    queue: Float[Tensor, "K D"], rows: Int64[Tensor, "b S"], name: str, workspace: Workspace
) -> Float[Tensor, "b S D"]:
    """Return the given rows of the queue, in scratch memory."""
    out = workspace.take(name, (rows.numel(), queue.shape[1]), queue)
    torch.index_select(queue, 0, rows.flatten(), out=out)
    return out.view(*rows.shape, queue.shape[1])
