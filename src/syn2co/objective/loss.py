"""The loss of Syn2Co: InfoNCE over real keys and synthetic negatives, with its gradient written out by hand.

With p the softmax weights over the positive (0), the real keys n and the synthetic negatives s of one query,

    loss  = -log p_0,      d loss / d q = (sum_n p_n n + sum_s p_s s - (1 - p_0) k) / t,

where every s is held fixed (autograd through its norm would be wrong). As s = w_q q + w_n n + ..., the second sum is a
scatter of p_s w_n onto the real keys' weights, one product with the queue, and terms in q and sign(q).

Axes: B queries, K keys in the queue, D embedding width, H hardest keys, S synthetic negatives per query.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from syn2co.objective.counts import KINDS, PAPERS, NegativeStrengths
from syn2co.objective.draws import Draws
from syn2co.objective.infonce import check_temperature, full_precision
from syn2co.objective.synthetic_logits import Synthetic, synthetic_logits
from syn2co.objective.workspace import Workspace


@dataclass(frozen=True)
class LossOutput:
    """The loss of one direction and what to log about it; only `loss` is differentiable, and only in the query.

    Example:
        >>> query, key, queue = (unit_rows(torch.randn(rows, 8)) for rows in (2, 2, 16))
        >>> output = contrastive_loss(query, key, queue, None, None, temperature=0.2)
        >>> bool((output.loss == output.real_loss).all()), round(float(output.uninformative), 3)  # ln(1 + 16)
        (True, 2.833)
    """

    loss: Float[Tensor, " B"]
    """Loss per query, in nats, over the real and the synthetic negatives."""
    real_loss: Float[Tensor, " B"]
    """Loss per query, in nats, over the real negatives alone."""
    masked_share: Float[Tensor, ""]
    """Share of masked pairs among all pairs of query and queue entry."""
    mass: Float[Tensor, " 6"]
    """Share of the softmax weight per kind of synthetic negative, in the order of `KINDS`; mean over queries."""
    hardness: Float[Tensor, " 6"]
    """Mean of q.s per kind; nan for a kind without negatives."""
    uninformative: Float[Tensor, ""]
    """Real loss with all logits equal, in nats: mean of ln(1 + unmasked keys)."""


def contrastive_loss(
    query: Float[Tensor, "B D"],
    key: Float[Tensor, "B D"],
    queue: Float[Tensor, "K D"],
    masked: Bool[Tensor, "B K"] | None,
    draws: Draws | None,
    *,
    temperature: float | int,
    strengths: NegativeStrengths = PAPERS,
    workspace: Workspace | None = None,
) -> LossOutput:
    """Return the loss of each query in nats, the same over its real negatives alone, and what to log of the others.

    loss_i = -q_i.k_i/t + log( exp(q_i.k_i/t) + sum_n exp(q_i.n/t) + sum_s exp(q_i.s/t) ), s detached.

    All vectors have unit length and one dtype, float32 or float64 (`unit_rows`); nothing is normalized here.
    Differentiable in `query` only, once; the queue is not kept, so it may be changed before `backward`.

    Args:
        query: output of the predictor.
        key: output of the target branch for the other view, row by row.
        queue: keys of earlier batches, of the same view as `key`.
        masked: True for queue entries that are no negatives of a query, such as those of `same_group` (ours); they are
            left out of the sum and of the hardest keys. None: all stay.
        draws: random draws of the synthetic negatives (`draw_negatives`); None, or no negatives, gives plain InfoNCE.
        temperature: t, above 0; the papers use 0.2.
        strengths: H, and the strengths of kinds 4, 5 and 6; not looked at without draws.
        workspace: reused from call to call, it saves the allocation of big buffers.

    Returns:
        The loss in nats and the measurements to log; only its `loss` carries a gradient.

    Raises:
        ValueError: if `temperature` is not positive, dtypes differ or are below float32, or H is not from 1 to K.

    Source: SynCo, arXiv:2410.02401, Sec. 3; Syn2Co, arXiv:2509.02029.

    Example:
        >>> query, key, queue = (unit_rows(torch.randn(rows, 8)) for rows in (2, 2, 16))
        >>> draws = draw_negatives(NegativeCounts(mixup=3), DrawKey(seed=0, step=0), global_batch=2, width=8)
        >>> output = contrastive_loss(
        ...     query.requires_grad_(), key, queue, None, draws, temperature=0.2, strengths=NegativeStrengths(hardest=4)
        ... )
        >>> output.loss.mean().backward()
        >>> query.grad.shape
        torch.Size([2, 8])
    """
    check_temperature(temperature)
    _check_dtypes(query, key, queue)
    active = draws is not None and draws.counts.total > 0
    if active and not 1 <= strengths.hardest <= len(queue):
        raise ValueError(f"hardest = {strengths.hardest}: must be from 1 to {len(queue)}, the keys of the queue")
    workspace = Workspace() if workspace is None else workspace
    # Autograd through r = |r s| would be wrong: s is detached, so only q.s carries gradient (SynCo, Sec. 3.2).
    with torch.no_grad(), full_precision(query.device):
        product = workspace.take("product", (len(query), len(queue)), query)
        torch.mm(query, queue.T, out=product)
        real, unmasked = _without(masked, product, workspace)
        synthetic = None
        if draws is not None and active:
            synthetic = synthetic_logits(query, queue, product, real, unmasked, draws, strengths, workspace)
        softmax = _softmax((query * key).sum(dim=1), real, synthetic, temperature)
        gradient = None
        if query.requires_grad:
            gradient = _gradient(query, key, queue, softmax, synthetic) / temperature
        mass, hardness = _per_kind(softmax, synthetic, draws if active else None)
    loss = softmax.loss if gradient is None else _HandWritten.apply(query, softmax.loss, gradient)
    return LossOutput(
        loss=loss,
        real_loss=softmax.real_loss,
        masked_share=1 - unmasked.mean(dtype=query.dtype) / len(queue),
        mass=mass,
        hardness=hardness,
        uninformative=unmasked.to(query.dtype).log1p().mean(),
    )


class _HandWritten(torch.autograd.Function):
    """The loss as it is, with the gradient in the query that was computed along with it."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return outer[0][:, None] * gradient, None, None


class _Softmax(NamedTuple):
    loss: Float[Tensor, " B"]
    real_loss: Float[Tensor, " B"]
    real: Float[Tensor, "B K"]  # p_n
    synthetic: Float[Tensor, "B S"] | None  # p_s
    negative: Float[Tensor, " B"]  # 1 - p_0, added up: no cancellation, and exactly zero where all is masked


def _check_dtypes(*tensors: Tensor) -> None:
    dtypes = {tensor.dtype for tensor in tensors}
    if len(dtypes) > 1 or not dtypes <= {torch.float32, torch.float64}:
        names = ", ".join(str(tensor.dtype).removeprefix("torch.") for tensor in tensors)
        raise ValueError(
            f"query, key, queue are {names}: must all be float32 or all float64; cast before normalizing (unit_rows)"
        )


def _without(
    masked: Bool[Tensor, "B K"] | None, product: Float[Tensor, "B K"], workspace: Workspace
) -> tuple[Float[Tensor, "B K"], Int64[Tensor, "B 1"]]:
    """Return the products with -inf for false negatives (a copy if any may be), and how many keys stay."""
    batch, size = product.shape
    if masked is None:
        return product, torch.full((batch, 1), size, dtype=torch.int64, device=product.device)
    real = workspace.take("real", (batch, size), product)
    if product.device.type != "cpu":
        torch.where(masked, product.new_full((), -torch.inf), product, out=real)
        return real, size - masked.sum(dim=1, keepdim=True)
    # False negatives are few: a copy in which they are overwritten takes 0.3 of the time of choosing pair by pair.
    hits = np.flatnonzero(masked.numpy())
    real.copy_(product).view(-1).numpy()[hits] = -np.inf
    return real, torch.from_numpy(size - np.bincount(hits // size, minlength=batch))[:, None]


def _softmax(
    positive: Float[Tensor, " B"], real: Float[Tensor, "B K"], synthetic: Synthetic | None, temperature: float | int
) -> _Softmax:
    """Return losses and softmax weights; `real` is overwritten. Rows are shifted by their maximum: any temperature."""
    top = torch.maximum(positive, real.amax(dim=1))
    weights = real.sub_(top[:, None]).mul_(1 / temperature).exp_()
    reals = weights.sum(dim=1)
    margin = (positive - top) / temperature
    total = reals + margin.exp()
    loss = real_loss = total.log() - margin
    scale, p_synthetic, synthetics = 1 / total, None, 0.0
    if synthetic is not None:
        # A synthetic logit may exceed every real one: then the sums over the queue are rescaled, not computed again.
        higher = torch.maximum(top, synthetic.logits.amax(dim=1))
        shrink = ((top - higher) / temperature).exp()
        p_synthetic = ((synthetic.logits - higher[:, None]) / temperature).exp()
        total = total * shrink + p_synthetic.sum(dim=1)
        loss = total.log() - (positive - higher) / temperature
        p_synthetic /= total[:, None]
        scale, synthetics = shrink / total, p_synthetic.sum(dim=1)
    return _Softmax(loss, real_loss, weights.mul_(scale[:, None]), p_synthetic, reals * scale + synthetics)


def _gradient(
    query: Float[Tensor, "B D"],
    key: Float[Tensor, "B D"],
    queue: Float[Tensor, "K D"],
    softmax: _Softmax,
    synthetic: Synthetic | None,
) -> Float[Tensor, "B D"]:
    """Return sum_n p_n n + sum_s p_s s - (1 - p_0) k; the real weights are overwritten."""
    on_keys, p = softmax.real, softmax.synthetic
    rank_one = -softmax.negative[:, None] * key
    if synthetic is not None and p is not None:
        # p_s s = p_s w_n n + ...: on the weights of the real keys, so one product with the queue serves both sums.
        on_keys.scatter_add_(1, synthetic.keys, p * synthetic.key_weight)
        on_keys.scatter_add_(1, synthetic.partners, p[:, synthetic.mixup] * synthetic.partner_weight)
        rank_one += (p * synthetic.query_weight).sum(dim=1, keepdim=True) * query
        rank_one += (p[:, synthetic.adversarial] * synthetic.sign_weight).sum(dim=1, keepdim=True) * query.sign()
    return torch.addmm(rank_one, on_keys, queue)


def _per_kind(
    softmax: _Softmax, synthetic: Synthetic | None, draws: Draws | None
) -> tuple[Float[Tensor, " 6"], Float[Tensor, " 6"]]:
    """Return the mean softmax mass and the mean q.s of each kind (nan where there is none)."""
    if synthetic is None or softmax.synthetic is None or draws is None:
        nothing = softmax.loss.new_zeros(len(KINDS))
        return nothing, nothing / 0
    built = synthetic.logits > -torch.inf  # not where a query had no key to build on
    mass = softmax.synthetic.mean(dim=0).split(draws.counts)
    hardness = synthetic.logits.where(built, 0).sum(dim=0).split(draws.counts)
    number = built.sum(dim=0).split(draws.counts)
    return _totals(mass), _totals(hardness) / _totals(number)


def _totals(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack([part.sum() for part in parts])
