"""k nearest neighbors: how the labels of the closest training images, weighted by similarity, vote on a test image.

Axes: N training images (the bank), M test images (queries), D features, k neighbors, m queries and n bank rows of one
product, c candidates.
Source: Wu et al., arXiv:1805.01978 (weights, temperature 0.07); k = 20 as headline, DINO, arXiv:2104.14294.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from syn2co.evaluation.protocols.protocol import Features, ProtocolResult, Task, class_values

TEMPERATURE = 0.07
KS = (10, 20, 100, 200)
HEADLINE = 20
_CELLS = 2**25  # similarities held at once: 128 MiB
_BLOCK = 2**14  # bank rows of one product, fixed: products of other shapes differ in the last bits
_TIED = 256  # rows sorted whole at once


def neighbors(
    bank: Float[Tensor, "N D"], queries: Float[Tensor, "M D"], k: int, *, device: torch.device | None = None
) -> tuple[Float[Tensor, "M k"], Int64[Tensor, "M k"]]:
    """Return the cosine similarities and bank indices of each query's k nearest, nearest first, on the CPU.

    Equal similarities are ordered by index. Rows need not have unit length; a zero row is equally far from everything.
    The bank passes once, in blocks: beside it some 400 MiB are held, and the M x k neighbors.

    Raises:
        ValueError: if k is not in 1..N.
    """
    if not 1 <= k <= len(bank):
        raise ValueError(f"k = {k}: must be in 1..{len(bank)}, the number of bank rows")
    device = device or bank.device
    similarities = torch.full((len(queries), k), -torch.inf, device=device)
    indices = torch.zeros(len(queries), k, dtype=torch.int64, device=device)
    step = max(1, _CELLS // min(len(bank), _BLOCK))
    buffer = torch.empty(min(step, len(queries)) * min(len(bank), _BLOCK), device=device)
    for start in range(0, len(bank), _BLOCK):
        block = _unit(bank[start : start + _BLOCK], device)
        for first in range(0, len(queries), step):
            rows = slice(first, first + step)
            part = _unit(queries[rows], device)
            # Fresh memory for each product would cost a sixth of its time in page faults.
            scores = buffer[: len(part) * len(block)].view(len(part), len(block))
            _merge(similarities[rows], indices[rows], torch.mm(part, block.T, out=scores), start)
    return similarities.cpu(), indices.cpu()


def _unit(rows: Float[Tensor, "N D"], device: torch.device) -> Float[Tensor, "N D"]:
    return F.normalize(rows.to(device).float(), dim=1)


def _merge(
    similarities: Float[Tensor, "m k"], indices: Int64[Tensor, "m k"], scores: Float[Tensor, "m n"], start: int
) -> None:
    """Bring the k best so far up to date, in place, with the scores of bank rows start, start + 1, ...

    Only a score above the k-th best counts: its index is the larger one, so an equal score would lose. In a bank
    without order that is k / b scores a row after b blocks, which spares the search for the k largest in all but the
    first.
    """
    k = similarities.shape[1]
    above = scores > similarities[:, -1:]
    counts = _count(above)
    crowded = counts > 2 * k  # to sort so many takes less than `topk` of a block
    if any_crowded := bool(crowded.any()):
        above[crowded] = False  # 23 ms for 2**24 scores, also where no row is crowded
    values, places = _pad(scores, above, int(counts.clamp(max=2 * k).max()))
    if any_crowded:
        dense = scores if crowded.all() else scores[crowded]
        values[crowded, :k], places[crowded, :k] = _top(dense, k)
    # Ties keep their order, and that is the order of the indices: on either side of the seam, and across it.
    values, order = torch.cat([similarities, values], dim=1).sort(dim=1, descending=True, stable=True)
    places = torch.cat([indices, places + start], dim=1).gather(1, order[:, :k])
    similarities.copy_(values[:, :k])
    indices.copy_(places)


def _count(mask: Bool[Tensor, "m n"]) -> Int64[Tensor, " m"]:
    """Return the number of true values of each row; on a CPU by NumPy, which takes 10 instead of 136 ms for 2**25."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.count_nonzero(mask.numpy(), axis=1))
    return mask.count_nonzero(dim=1)


def _pad(
    scores: Float[Tensor, "m n"], chosen: Bool[Tensor, "m n"], width: int
) -> tuple[Float[Tensor, "m c"], Int64[Tensor, "m c"]]:
    """Return the chosen scores of each row and their places, in order, as rows of `width` that end with -inf."""
    flat = chosen.flatten()  # NumPy: 4 instead of 35 ms where one in 800 is chosen
    hits = torch.from_numpy(np.flatnonzero(flat.numpy())) if flat.device.type == "cpu" else flat.nonzero().flatten()
    rows, places = hits // scores.shape[1], hits % scores.shape[1]
    before = torch.searchsorted(rows, rows)  # hits of earlier rows
    slots = rows * width + torch.arange(len(hits), device=hits.device) - before
    values = scores.new_full((len(scores), width), -torch.inf)
    padded_places = torch.zeros(len(scores), width, dtype=torch.int64, device=scores.device)
    values.view(-1)[slots] = scores.flatten()[hits]
    padded_places.view(-1)[slots] = places
    return values, padded_places


def _top(scores: Float[Tensor, "m n"], k: int) -> tuple[Float[Tensor, "m k"], Int64[Tensor, "m k"]]:
    """Return the k largest of each row and their places, by (-score, place): `topk` itself breaks ties at random."""
    values, places = scores.topk(k, dim=1)
    tied = _count(scores >= values[:, -1:]) > k
    for rows in tied.nonzero().flatten().split(_TIED):
        ordered = scores[rows].sort(dim=1, descending=True, stable=True)
        values[rows], places[rows] = ordered.values[:, :k], ordered.indices[:, :k]
    places, order = places.sort(dim=1)
    values, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    return values, places.gather(1, order)


def vote(
    similarities: Float[Tensor, "M k"], labels: Int64[Tensor, "M k"], classes: int, ks: tuple[int, ...]
) -> dict[int, Int64[Tensor, " M"]]:
    """Return the predicted class of each query for each k in `ks` (ascending); the lowest class wins a tie.

    class = argmax_c sum_{j <= k, y_j = c} exp(sim_j / 0.07), in float64.
    """
    weights = torch.exp(similarities.double() / TEMPERATURE)
    predicted = {k: torch.empty(len(labels), dtype=torch.int64) for k in ks}
    step = max(1, _CELLS // classes)
    for start in range(0, len(labels), step):
        rows = slice(start, start + step)
        votes = torch.zeros(len(labels[rows]), classes, dtype=torch.float64)
        before = 0
        for k in ks:
            votes.scatter_add_(1, labels[rows, before:k], weights[rows, before:k])
            predicted[k][rows] = votes.argmax(dim=1)
            before = k
    return predicted


def _predicted(features: Features, ks: tuple[int, ...], device: torch.device | None) -> dict[int, Int64[Tensor, " M"]]:
    similarities, indices = neighbors(features.train, features.test, ks[-1], device=device)
    return vote(similarities, features.train_labels[indices], features.classes, ks)


def knn(task: Task) -> list[ProtocolResult]:
    """Return the k-NN score: all training images as bank, headline k = 20, other k in the details.

    Every k is capped by the size of the bank; a cap is noted.
    """
    features = task.features
    size = len(features.train)
    ks = tuple(sorted({min(k, size) for k in KS}))
    headline = min(HEADLINE, size)
    predicted = _predicted(features, ks, task.device)
    values = {
        k: class_values((chosen == features.test_labels).float(), features.test_labels, features.classes, task.metric)
        for k, chosen in predicted.items()
    }
    capped = [k for k in KS if k > size]
    notes = (f"k-NN: k = {', '.join(map(str, capped))} capped by the bank of {size} training images",) if capped else ()
    result = ProtocolResult(
        values=values[headline],
        metric=task.metric,
        definition={"protocol": "knn", "temperature": TEMPERATURE, "k": KS, "headline": HEADLINE},
        setting=f"k = {headline}",
        predicted=predicted[headline],
        details={"k": headline, "by_k": {str(k): 100 * float(part.double().mean()) for k, part in values.items()}},
        notes=notes,
    )
    return [result]


def knn_accuracy(
    bank_features: Float[Tensor, "N D"],
    bank_labels: Int64[Tensor | np.ndarray, " N"],
    query_features: Float[Tensor, "M D"],
    query_labels: Int64[Tensor | np.ndarray, " M"],
    k: int = HEADLINE,
) -> float:
    """Return the top-1 accuracy of k-NN in percent, for use during training; k is capped by the bank.

    Labels are non-negative. No ranks talk: give it gathered features.
    """
    labels = [torch.as_tensor(part).cpu() for part in (bank_labels, query_labels)]
    features = Features(bank_features, labels[0], query_features, labels[1], int(torch.cat(labels).max()) + 1)
    k = min(k, len(bank_features))
    predicted = _predicted(features, (k,), bank_features.device)[k]
    return 100 * float((predicted == features.test_labels).double().mean())
