"""The oracle: synthetic negatives as vectors, built from a frozen query exactly as the papers write them.

Axes: B queries, K keys, D width, H hardest, S negatives per query.
"""

import torch
from torch import Tensor

from syn2co.objective import DrawKey, Draws, NegativeCounts, draw_negatives


def unit(rows: int, width: int, seed: int = 0) -> Tensor:
    """Return random rows of unit length in float64."""
    return torch.nn.functional.normalize(
        torch.randn(rows, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    )


def some_draws(counts: NegativeCounts, batch: int, width: int, **changed: int) -> Draws:
    """Return draws for a batch on one rank."""
    key = DrawKey(
        **{"seed": 0, "step": 7, **{name: value for name, value in changed.items() if name in DrawKey._fields}}
    )
    rows = {name: value for name, value in changed.items() if name not in DrawKey._fields}
    return draw_negatives(counts, key, **{"global_batch": batch, "width": width, **rows})


def hardest_of(query: Tensor, queue: Tensor, masked: Tensor, hardest: int) -> list[Tensor]:
    """Return, per query, the rows of its hardest allowed keys, hardest first."""
    found = []
    for q, mask in zip(query, masked, strict=True):
        allowed = [row for row in range(len(queue)) if not mask[row]]
        allowed.sort(key=lambda row: -float(q @ queue[row]))
        found.append(torch.tensor(allowed[:hardest], dtype=torch.int64))
    return found


def vectors(
    q: Tensor, queue: Tensor, hard: Tensor, draws: Draws, row: int, *, sigma: float, delta: float, eta: float
) -> Tensor:
    """Return the S synthetic negatives of query number `row`, shape [S, D], in the order of KINDS."""

    def key(u: float) -> Tensor:
        return queue[hard[min(int(u * len(hard)), len(hard) - 1)]]

    def drawn(name: str) -> list[float]:
        return getattr(draws, name)[row].tolist()

    picks = iter(drawn("picks"))
    raw = []
    for a in drawn("interpolation"):
        raw.append((a * q + (1 - a) * key(next(picks)), 0.0))
    for b in drawn("extrapolation"):
        raw.append((q + b * (key(next(picks)) - q), 0.0))
    for g, partner in zip(drawn("mixing"), drawn("partners"), strict=True):
        raw.append((g * key(next(picks)) + (1 - g) * key(partner), 0.0))
    for x, y, rest in zip(drawn("noise_query"), drawn("noise_key"), drawn("noise_rest"), strict=True):
        n = key(next(picks))
        u = n - (q @ n) * q
        raw.append((n + sigma * (x * q + y * u / u.norm()), sigma * sigma * rest))  # the rest only lengthens it
    for _ in range(draws.counts.perturbed):
        raw.append((key(next(picks)) + delta * q, 0.0))
    for _ in range(draws.counts.adversarial):
        raw.append((key(next(picks)) + eta * torch.sign(q), 0.0))
    normalized = [v / (v @ v + more).clamp_min(1e-6).sqrt() for v, more in raw]
    return torch.stack(normalized) if normalized else queue[:0]


def literal(
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    masked: Tensor,
    draws: Draws,
    *,
    temperature: float,
    hardest: int,
    sigma: float,
    delta: float,
    eta: float,
    frozen: Tensor | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Return the losses, differentiable in `query` by autograd with every s held fixed, and each query's logits q.s.

    The vectors are built from `frozen`, the query itself unless given (finite differences must not move them).
    """
    frozen = query.detach() if frozen is None else frozen
    losses, logits = [], []
    for row, hard in enumerate(hardest_of(frozen, queue, masked, hardest)):
        s = queue[:0]
        if len(hard):
            s = vectors(frozen[row], queue, hard, draws, row, sigma=sigma, delta=delta, eta=eta)
        synthetic = query[row] @ s.T
        real = query[row] @ queue[~masked[row]].T
        positive = query[row] @ key[row]
        everything = torch.cat([positive[None], real, synthetic]) / temperature
        losses.append(everything.logsumexp(0) - everything[0])
        logits.append(synthetic.detach())
    return torch.stack(losses), logits
