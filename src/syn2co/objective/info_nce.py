"""InfoNCE against a queue: the plain loss, which the contrast with synthetic negatives must equal when it has none.

Axes: B queries, K keys in the queue, D embedding width. Queries and keys have unit length along D.
"""

import contextlib
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


def unit_rows(embedding: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """Return the rows at unit length, in float32 at least (float64 stays), whatever the autocast; differentiable."""
    with full_precision(embedding.device):
        wide = embedding if embedding.dtype == torch.float64 else embedding.float()
        return torch.nn.functional.normalize(wide, dim=1)


def same_group(groups: Int64[Tensor, " B"], queue_groups: Int64[Tensor, " K"]) -> Bool[Tensor, "B K"]:
    """Return which queue entries are false negatives of which query: those of its own group; -1 is nobody's group."""
    somebody = groups.where(groups >= 0, -2)
    return somebody[:, None] == queue_groups[None, :]


def info_nce(
    query: Float[Tensor, "B D"],
    key: Float[Tensor, "B D"],
    queue: Float[Tensor, "K D"],
    *,
    temperature: float | int,
    masked: Bool[Tensor, "B K"] | None = None,
) -> Float[Tensor, " B"]:
    """Return one InfoNCE value per query, in nats.

    loss_i = -q_i.k_i/t + log( exp(q_i.k_i/t) + sum_n exp(q_i.n/t) ), n over the queue entries that are not `masked`.

    Differentiable (autograd keeps the queue: enqueue after `backward`). Nothing is normalized here.
    Source: MoCo, arXiv:1911.05722, Eq. 1.

    Raises:
        ValueError: if `temperature` is not positive.
    """
    check_temperature(temperature)
    with full_precision(query.device):
        positive = (query * key).sum(dim=1, keepdim=True)
        negative = query @ queue.T
    if masked is not None:
        negative = negative.masked_fill(masked, -torch.inf)
    logits = torch.cat([positive, negative], dim=1) / temperature
    return logits.logsumexp(dim=1) - logits[:, 0]


def check_temperature(temperature: float | int) -> None:
    """Refuse a temperature that is not positive."""
    if not temperature > 0:
        raise ValueError(f"temperature = {temperature}: must be positive; the papers use 0.2")


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute without autocast and without TF32 inside the block; the caller's settings come back afterwards."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        if torch.amp.is_autocast_available(device.type):
            with torch.autocast(device.type, enabled=False):
                yield
        else:
            yield
    finally:
        torch.set_float32_matmul_precision(before)
