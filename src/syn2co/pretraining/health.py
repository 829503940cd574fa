"""Measurements of a step that show whether the encoder learns: losses, spread, rank, hardness of the negatives.

Axes: B images of a micro-batch, N images of all ranks, D embedding width, d feature width.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from syn2co.objective import KINDS, LossOutput, NegativeCounts
from syn2co.runtime.distributed import all_gather_rows


def measure(
    parts: Sequence[LossOutput],
    queries: tuple[Tensor, Tensor],
    keys: tuple[Tensor, Tensor],
    features: Tensor,
    counts: NegativeCounts,
    synthetic: Bool[Tensor, "2 B"] | None,
) -> dict[str, Tensor]:
    """Return the numbers of a micro-batch by name: losses are sums over both directions, the rest means.

    Args:
        parts: the losses of both directions.
        counts: of the synthetic negatives that were in them.
        synthetic: which views are of synthetic images; None where there are none at all.
    """
    one, two = parts
    q1, q2 = (query.detach() for query in queries)
    measured = {
        "loss": one.loss.detach().mean() + two.loss.detach().mean(),
        "real_loss": one.real_loss.mean() + two.real_loss.mean(),
        "uninformative": one.uninformative + two.uninformative,
        "masked_share": (one.masked_share + two.masked_share) / 2,
        "positive": ((q1 * keys[1]).sum(1).mean() + (q2 * keys[0]).sum(1).mean()) / 2,
        "embedding_std": embedding_std(all_gather_rows(keys[0], equal=True)),
        "feature_std": feature_std(all_gather_rows(features, equal=True)),
    }
    for number, kind in enumerate(KINDS):
        if counts[number]:
            measured[f"mass/{kind}"] = (one.mass[number] + two.mass[number]) / 2
            measured[f"hardness/{kind}"] = (one.hardness[number] + two.hardness[number]) / 2
    if synthetic is not None:
        measured |= measure_sources(one.loss.detach() + two.loss.detach(), synthetic)
    return measured


def measure_sources(loss: Tensor, synthetic: Bool[Tensor, "2 B"]) -> dict[str, Tensor]:
    """Return the share of synthetic views, and of each kind of row its share and its part of the mean loss.

    A row with a synthetic view is a synthetic one. Shares and parts are means over rows, so they may be averaged over
    ranks and steps, even where there is no row of a kind; `metrics.losses_by_source` divides one by the other then.
    """
    measured = {"drawn_synthetic": synthetic.to(loss.dtype).mean()}
    for name, of_kind in (("real", ~synthetic.any(0)), ("synthetic", synthetic.any(0))):
        measured |= {f"rows/{name}": of_kind.to(loss.dtype).mean(), f"part/{name}": loss.where(of_kind, 0).mean()}
    return measured


def features_by_source(features: Tensor, synthetic: Tensor) -> dict[str, float]:
    """Return std and effective rank of the features [N, d] of each kind of row that has at least two."""
    measured = {}
    for name, of_kind in (("real", ~synthetic), ("synthetic", synthetic)):
        rows = features[of_kind]
        if len(rows) > 1:
            measured[f"feature_std/{name}"] = float(rows.float().std(0).mean())
            measured[f"effective_rank/{name}"] = effective_rank(rows)
    return measured


def feature_std(features: Tensor) -> Tensor:
    """Return the mean standard deviation of the coordinates of features [N, d]."""
    return features.float().std(0).mean() if len(features) > 1 else features.new_zeros(())


def embedding_std(keys: Tensor) -> Tensor:
    """Return the mean std of unit vectors' coordinates times sqrt(D): 1 if spread evenly, 0 if collapsed."""
    return keys.std(0).mean() * keys.shape[1] ** 0.5 if len(keys) > 1 else keys.new_zeros(())


def effective_rank(features: Tensor) -> float:
    """Return exp(entropy) of the normalized singular values of centered features [N, d], between 1 and min(N, d).

    Source: RankMe, arXiv:2210.02885, Eq. 1; ours centers the features first, else their mean counts as one direction.
    """
    values = torch.linalg.svdvals((features - features.mean(0)).cpu().double())  # Apple's GPUs have no float64
    shares = values / values.sum().clamp_min(1e-12)
    return float(torch.exp(-(shares * (shares + 1e-12).log()).sum()))
