"""One micro-batch of Syn2Co: two views in, loss and measurements out; the only place where the parts meet.

Axes: B images of this rank's part of the micro-batch, S side in pixels, D embedding width, d feature width.
Source: Syn2Co arXiv:2509.02029 on MoBY arXiv:2105.04553.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor, nn

from syn2co.models.drop_path import drop_path_uniforms
from syn2co.models.encoder import Branch, build_branches
from syn2co.objective import (
    KINDS,
    Contrast,
    Draws,
    NegativeCounts,
    Queue,
    Workspace,
    contrast,
    draw_negatives,
    ema_update,
)
from syn2co.pretraining.config import Config, NegativeSettings
from syn2co.runtime.distributed import all_gather_rows

AUTOCAST = {"float32": None, "float64": None, "bfloat16": torch.bfloat16}


class Batch(NamedTuple):
    """This rank's part of one micro-batch: both views, and who the images are."""

    views: UInt8[Tensor, "2 B S S 3"]
    indices: Int64[Tensor, " B"]
    groups: Int64[Tensor, " B"]
    draws: Int64[Tensor, " B"]
    """Key of what is drawn for each row: the index, or another number if the image came before in the same epoch."""
    synthetic: Bool[Tensor, "2 B"]
    """Which views are of synthetic images."""

    @property
    def synthetic_rows(self) -> Bool[Tensor, " B"]:
        """Which rows have a synthetic view."""
        return self.synthetic.any(0)


@dataclass(frozen=True)
class Outcome:
    """What a micro-batch gives: the loss (nats, mean over this rank's images), numbers to log, keys and features."""

    loss: Tensor
    measured: dict[str, Tensor]
    keys: tuple[Tensor, Tensor]  # of view 1 and view 2, [B, D]
    features: Tensor  # of view 1, online, [B, d]


@dataclass(frozen=True)
class Place:
    """Where a micro-batch stands in the run; with the seed, the key of everything that is drawn for it."""

    step: int
    epoch: int
    micro_batch: int
    start_row: int
    global_rows: int


class Syn2Co(nn.Module):
    """Online and target branch, and the two queues: `queues[v]` holds keys of view v + 1."""

    def __init__(self, config: Config, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.online, self.target = build_branches(
            config.encoder_spec, config.heads, drop_path=config.encoder.drop_path, seed=config.seed
        )
        if config.training.precision == "float64":
            self.double()
        self.to(device)
        if torch.device(device).type == "cpu":
            _use_plain_attention(self)
        dtype = torch.float64 if config.training.precision == "float64" else torch.float32
        size, width = config.queue.size, config.heads.width
        self.queues = [
            Queue.start(size, width, seed=config.seed, view=view, device=device, dtype=dtype) for view in (1, 2)
        ]

    def move_target(self, momentum: float) -> None:
        """Move the target's parameters towards the online ones; its BN buffers follow its own forward passes."""
        online = dict(self.online.named_parameters())
        pairs = [(parameter, online[name]) for name, parameter in self.target.named_parameters()]
        ema_update([target for target, _ in pairs], [source for _, source in pairs], momentum)


def _use_plain_attention(module: nn.Module) -> None:
    """Make timm's attention layers multiply matrices instead of calling the fused kernel, in place.

    On a CPU the backward pass of the fused kernel is slow in bfloat16: a training step costs 1.4 (197 tokens) to 1.8
    times (17 tokens) as much; in float32 there is no difference.
    """
    for layer in module.modules():
        if hasattr(layer, "fused_attn"):
            layer.fused_attn = False  # type: ignore[assignment]


def micro_step(
    model: Syn2Co,
    online: nn.Module,
    batch: Batch,
    place: Place,
    config: Config,
    *,
    synthetic: bool,
    workspace: Workspace,
) -> Outcome:
    """Return the mean loss of this rank's images, the measurements, and the keys to enqueue.

    loss = InfoNCE(q1, k2, queue of view 2) + InfoNCE(q2, k1, queue of view 1), the sum of two cross-entropies, each
    with the query's synthetic negatives if `synthetic`. `online` is `model.online`, perhaps wrapped to average
    gradients. Nothing is enqueued here: see `enqueue`.
    """
    device_type = batch.views.device.type
    dtype = AUTOCAST[config.training.precision]
    with torch.autocast(device_type, dtype=dtype, enabled=dtype is not None):
        q1, q2, features = online(batch.views, _drop_uniforms(model.online, batch, place, config.seed))
        with torch.no_grad():
            k1, k2, _ = model.target(batch.views, _drop_uniforms(model.target, batch, place, config.seed))
    directions = ((q1, k2, model.queues[1]), (q2, k1, model.queues[0]))
    rows = len(batch.indices)
    parts = [
        _contrast(query, key, queue, batch.groups, _draws(place, rows, direction, config, synthetic), config, workspace)
        for direction, (query, key, queue) in enumerate(directions, start=1)
    ]
    loss = parts[0].loss.mean() + parts[1].loss.mean()
    measured = _measure(parts, (q1, q2), (k1, k2), features, config.negatives if synthetic else None)
    if config.data.synthetic:
        measured |= _measure_sources(parts, batch)
    return Outcome(loss, measured, (k1, k2), features)


def enqueue(model: Syn2Co, keys: tuple[Tensor, Tensor], groups: Tensor) -> None:
    """Put the keys of all ranks, in global order, into the queues of their views."""
    all_groups = all_gather_rows(groups)
    for queue, key in zip(model.queues, keys, strict=True):
        queue.enqueue(all_gather_rows(key.detach()), all_groups)


def _drop_uniforms(branch: Branch, batch: Batch, place: Place, seed: int) -> Tensor:
    layers = len(branch.encoder.drop_layers)
    views = [drop_path_uniforms(layers, batch.draws, seed=seed, epoch=place.epoch, view=view) for view in (1, 2)]
    return torch.stack(views, dim=1).to(batch.views.device, non_blocking=True)


def _draws(place: Place, rows: int, direction: int, config: Config, synthetic: bool) -> Draws | None:
    if not (synthetic and config.negatives.total):
        return None
    return draw_negatives(
        NegativeCounts(**config.negatives.counts),
        seed=config.seed,
        step=place.step,
        micro_batch=place.micro_batch,
        direction=direction,
        global_batch=place.global_rows,
        width=config.heads.width,
        start_row=place.start_row,
        rows=rows,
    )


def _contrast(
    query: Tensor, key: Tensor, queue: Queue, groups: Tensor, draws: Draws | None, config: Config, workspace: Workspace
) -> Contrast:
    settings = config.negatives
    return contrast(
        query,
        key,
        queue.keys,
        queue.groups if settings.mask_groups else None,
        groups if settings.mask_groups else None,
        draws,
        temperature=config.training.temperature,
        hardest=settings.hardest,
        sigma=settings.sigma,
        delta=settings.delta,
        eta=settings.eta,
        workspace=workspace,
    )


def _measure(
    parts: list[Contrast],
    queries: tuple[Tensor, Tensor],
    keys: tuple[Tensor, Tensor],
    features: Tensor,
    negatives: NegativeSettings | None,
) -> dict[str, Tensor]:
    """Return the numbers of this micro-batch by name: losses are sums over both directions, the rest means."""
    one, two = parts
    q1, q2 = (query.detach() for query in queries)
    found = {
        "loss": one.loss.detach().mean() + two.loss.detach().mean(),
        "real_loss": one.real_loss.mean() + two.real_loss.mean(),
        "uninformative": one.uninformative + two.uninformative,
        "masked_share": (one.masked_share + two.masked_share) / 2,
        "positive": ((q1 * keys[1]).sum(1).mean() + (q2 * keys[0]).sum(1).mean()) / 2,
        "embedding_std": embedding_std(keys[0]),
        "feature_std": features.float().std(0).mean() if len(features) > 1 else features.new_zeros(()),
    }
    if negatives is not None:
        for number, kind in enumerate(KINDS):
            if negatives.counts[kind]:
                found[f"mass/{kind}"] = (one.mass[number] + two.mass[number]) / 2
                found[f"hardness/{kind}"] = (one.hardness[number] + two.hardness[number]) / 2
    return found


def _measure_sources(parts: list[Contrast], batch: Batch) -> dict[str, Tensor]:
    """Return the share of synthetic views, and of each kind of row its share and its part of the mean loss.

    A row with a synthetic view is a synthetic one. Shares and parts are means over rows, so they may be averaged over
    ranks and steps, even where there is no row of a kind; `metrics.losses_by_source` divides one by the other then.
    """
    loss = parts[0].loss.detach() + parts[1].loss.detach()
    found = {"drawn_synthetic": batch.synthetic.to(loss.dtype).mean()}
    for name, own in (("real", ~batch.synthetic_rows), ("synthetic", batch.synthetic_rows)):
        found |= {f"rows/{name}": own.to(loss.dtype).mean(), f"part/{name}": loss.where(own, 0).mean()}
    return found


def features_by_source(features: Tensor, synthetic: Tensor) -> dict[str, float]:
    """Return std and effective rank of the features [N, d] of each kind of row that has at least two."""
    found = {}
    for name, own in (("real", ~synthetic), ("synthetic", synthetic)):
        rows = features[own]
        if len(rows) > 1:
            found[f"feature_std/{name}"] = float(rows.float().std(0).mean())
            found[f"effective_rank/{name}"] = effective_rank(rows)
    return found


def embedding_std(keys: Tensor) -> Tensor:
    """Return the mean std of unit vectors' coordinates times sqrt(D): 1 if spread evenly, 0 if collapsed."""
    return keys.std(0).mean() * keys.shape[1] ** 0.5 if len(keys) > 1 else keys.new_zeros(())


def effective_rank(features: Tensor) -> float:
    """Return exp(entropy) of the normalised singular values of centred features [N, d], between 1 and min(N, d).

    Source: RankMe, arXiv:2210.02885, Eq. 1; ours centres the features first, else their mean counts as one direction.
    """
    values = torch.linalg.svdvals((features - features.mean(0)).double().cpu())
    shares = values / values.sum().clamp_min(1e-12)
    return float(torch.exp(-(shares * (shares + 1e-12).log()).sum()))
