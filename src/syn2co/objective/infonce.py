"""InfoNCE against a queue: the plain loss, which `contrastive_loss` must equal where it has no synthetic negatives.

Axes: B queries, K keys in the queue, D embedding width. Queries and keys have unit length along D.
"""

import contextlib
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from syn2co.core.float32 import exact_float32


def unit_rows(embedding: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """Return the rows at unit length, in float32 at least (float64 stays), whatever the autocast; differentiable.

    u_i = x_i / max(|x_i|, 1e-12).

    Args:
        embedding: rows of any length and any floating dtype; a row of zeros stays one.

    Returns:
        The rows, as `contrastive_loss`, `info_nce` and `Queue` want them.

    Example:
        >>> unit_rows(torch.tensor([[3.0, 4.0]], dtype=torch.bfloat16))
        tensor([[0.6000, 0.8000]])
    """
    with full_precision(embedding.device):
        wide = embedding if embedding.dtype == torch.float64 else embedding.float()
        return torch.nn.functional.normalize(wide, dim=1)


def same_group(groups: Int64[Tensor, " B"], queue_groups: Int64[Tensor, " K"]) -> Bool[Tensor, "B K"]:
    """Return the mask of false negatives: True where a queue entry is of the query's own group.

    Not in the papers: there, and without this mask, the same image or a variation of it may be a query's negative.

    Args:
        groups: group of each query, `ImageSet.groups` of its image; -1 is nobody's group and is never masked.
        queue_groups: group of each queue entry, `Queue.groups`.

    Returns:
        The mask, for `masked` of `contrastive_loss` and `info_nce`.

    Example:
        >>> same_group(torch.tensor([5, -1]), torch.tensor([5, 7, -1]))
        tensor([[ True, False, False],
                [False, False, False]])
    """
    # -2 occurs in no queue: a query of nobody's group must not match the first keys, which have -1.
    somebody = groups.where(groups >= 0, -2)
    if groups.device.type == "cpu":  # NumPy compares four times as fast as torch
        return torch.from_numpy(somebody.numpy()[:, None] == queue_groups.numpy())
    return somebody[:, None] == queue_groups


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

    Args:
        temperature: t, above 0; MoBY uses 0.2, MoCo 0.07.
        masked: True for queue entries that are no negatives of a query, such as those of `same_group`; None: all count.

    Returns:
        Loss per query, without a mean over the batch.

    Source: MoCo, arXiv:1911.05722, Eq. 1.

    Raises:
        ValueError: if `temperature` is not positive.

    Example:
        >>> query = key = torch.eye(2)
        >>> info_nce(query, key, torch.zeros(3, 2), temperature=1.0)  # -1 + ln(e + 3)
        tensor([0.7437, 0.7437])
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
    autocast = torch.amp.is_autocast_available(device.type)
    with (
        exact_float32(convolutions=False),
        torch.autocast(device.type, enabled=False) if autocast else contextlib.nullcontext(),
    ):
        yield
