"""k nearest neighbors: how the labels of the closest training images, weighted by similarity, vote on a test image.

Axes: N training images (the bank), M test images (queries), D features, k neighbors, m queries of a chunk.
Source: Wu et al., arXiv:1805.01978 (weights, temperature 0.07); k = 20 as headline, DINO, arXiv:2104.14294.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from syn2co.evaluation.protocols.protocol import Features, ProtocolResult

TEMPERATURE = 0.07
KS = (10, 20, 100, 200)
HEADLINE = 20
_CELLS = 2**25  # similarities held at once: 128 MiB


def neighbors(
    bank: Float[Tensor, "N D"], queries: Float[Tensor, "M D"], k: int, *, device: torch.device | None = None
) -> tuple[Float[Tensor, "M k"], Int64[Tensor, "M k"]]:
    """Return the cosine similarities and bank indices of each query's k nearest, nearest first, on the CPU.

    Equal similarities are ordered by index. Rows need not have unit length; a zero row is equally far from everything.
    """
    device = device or bank.device
    unit_bank = F.normalize(bank.float(), dim=1).to(device)
    step = max(1, min(1024, _CELLS // len(bank)))
    similarities, indices = [], []
    for part in queries.split(step):
        values, places = _top(F.normalize(part.float(), dim=1).to(device) @ unit_bank.T, k)
        similarities.append(values.cpu())
        indices.append(places.cpu())
    return torch.cat(similarities), torch.cat(indices)


def _top(scores: Float[Tensor, "m N"], k: int) -> tuple[Float[Tensor, "m k"], Int64[Tensor, "m k"]]:
    """Return the k largest of each row and their places, by (-score, place): `topk` itself breaks ties at random."""
    values, places = scores.topk(k, dim=1)
    tied = (scores >= values[:, -1:]).sum(dim=1) > k
    if tied.any():
        values[tied], places[tied] = (part[:, :k] for part in scores[tied].sort(dim=1, descending=True, stable=True))
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


def _correct(features: Features, ks: tuple[int, ...], device: torch.device | None) -> dict[int, Bool[Tensor, " M"]]:
    similarities, indices = neighbors(features.train, features.test, ks[-1], device=device)
    predicted = vote(similarities, features.train_labels[indices], features.classes, ks)
    return {k: classes == features.test_labels for k, classes in predicted.items()}


def knn(features: Features, seed: int, device: torch.device) -> ProtocolResult:
    """Return the k-NN score: all training images as bank, headline k = 20, other k in the details. `seed` is not used.

    Every k is capped by the size of the bank; a cap is noted.
    """
    size = len(features.train)
    ks = tuple(sorted({min(k, size) for k in KS}))
    headline = min(HEADLINE, size)
    correct = _correct(features, ks, device)
    capped = [k for k in KS if k > size]
    notes = (f"k-NN: k = {', '.join(map(str, capped))} capped by the bank of {size} training images",) if capped else ()
    return ProtocolResult(
        values=correct[headline].float(),
        definition={"protocol": "knn", "temperature": TEMPERATURE, "k": KS, "headline": HEADLINE},
        setting=f"k = {headline}",
        details={"k": headline, "by_k": {str(k): 100 * float(right.double().mean()) for k, right in correct.items()}},
        notes=notes,
    )


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
    return 100 * float(_correct(features, (k,), bank_features.device)[k].double().mean())
