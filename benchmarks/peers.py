"""The steps that ours is held against: plain MoBY, the released one, and those of lightly and stable-pretraining.

Each takes a config and two views, and returns a step; all but the released one work on any device. The plain step is
MoBY in plain torch: two networks, each called once per view, one queue, AdamW, no negatives, no measurements.
"released" is the same with the released algorithm's negatives (see objective.py), in float32 whatever ours computes in.
lightly's steps are made of its parts (heads, loss, memory bank) around the same encoder; stable-pretraining's is its
MoCo v3, which has no queue, with our heads' widths and its own momentum update.
"""

import contextlib
import copy
import importlib.util
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from objective import released_direction
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from syn2co.models.encoder import build_encoder
from syn2co.models.settings import HeadSettings
from syn2co.objective import NegativeCounts
from syn2co.pretraining.config import Config
from syn2co.pretraining.step import AUTOCAST
from syn2co.runtime.device import choose_device

Step = Callable[[], None]
Contender = Callable[[Config, Tensor], Step]


class _Plain(nn.Module):
    """Encoder, projector, and perhaps predictor, with torch's own layers."""

    def __init__(self, config: Config, encoder: nn.Module, *, predictor: bool) -> None:
        super().__init__()
        self.encoder = encoder
        width, heads = encoder.num_features, config.heads
        self.projector = _head(width, heads)  # type: ignore[arg-type]
        self.predictor = _head(heads.width, heads) if predictor else nn.Identity()

    def forward(self, view: Tensor) -> Tensor:
        return normalize(self.predictor(self.projector(self.encoder(view))).float(), dim=1)


def _head(inputs: int, heads: HeadSettings) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, heads.hidden), nn.BatchNorm1d(heads.hidden), nn.ReLU(), nn.Linear(heads.hidden, heads.width)
    )


def plain(config: Config, views: Tensor) -> Step:
    """Return a step of MoBY in plain torch."""
    labels = torch.zeros(views.shape[1], device=choose_device(config.machine.device)).long()

    def info_nce(query: Tensor, key: Tensor, queue: Tensor) -> Tensor:
        logits = torch.cat([(query * key).sum(1, keepdim=True), query @ queue.T], dim=1)
        return cross_entropy(logits / config.training.temperature, labels)

    return _plain_step(config, views, info_nce)


def released(config: Config, views: Tensor) -> Step:
    """Return the plain step with the released algorithm's negatives, in float32 as the released code trains."""
    counts, hardest = NegativeCounts(**config.negatives.counts), config.negatives.hardest

    def loss(query: Tensor, key: Tensor, queue: Tensor) -> Tensor:
        return released_direction(query, key, queue, counts, hardest)

    return _plain_step(config.with_settings("training.precision=float32"), views, loss)


def _plain_step(config: Config, views: Tensor, contrast: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Step:
    """Return a step of two networks, called once per view; the loss of a direction is contrast(query, key, queue)."""
    one, two = _normalized(config, views)
    online = _Plain(config, _backbone(config, config.encoder.drop_path), predictor=True).to(one.device).train()
    target = _Plain(config, _backbone(config, 0.0), predictor=False).to(one.device).requires_grad_(False).train()
    queue = normalize(torch.randn(config.queue.size, config.heads.width)).to(one.device)
    pairs = [(p, dict(online.named_parameters())[name]) for name, p in target.named_parameters()]
    pointer = 0

    def loss_of() -> Tensor:
        nonlocal pointer
        q1, q2 = online(one), online(two)
        with torch.no_grad():
            k1, k2 = target(one), target(two)
        with torch.autocast(one.device.type, enabled=False):
            losses = [contrast(q, k, queue.clone()) for q, k in ((q1, k2), (q2, k1))]
        with torch.no_grad():
            rows = (pointer + torch.arange(2 * len(k1), device=one.device)) % len(queue)
            pointer = (pointer + len(rows)) % len(queue)
            fresh = torch.cat([k1, k2])
        loss = losses[0] + losses[1]
        queue[rows] = fresh
        return loss

    return _training(config, online, _momentum(pairs), loss_of)


def lightly_moco(config: Config, views: Tensor) -> Step:
    """Return a symmetric step of MoCo of lightly's parts."""
    from lightly.loss import NTXentLoss  # type: ignore[import-not-found]
    from lightly.models.modules import MoCoProjectionHead  # type: ignore[import-not-found]

    online = nn.Sequential(_backbone(config, config.encoder.drop_path))
    online.append(MoCoProjectionHead(online[0].num_features, config.heads.hidden, config.heads.width, batch_norm=True))  # type: ignore[arg-type]
    one, two = _normalized(config, views)
    target = copy.deepcopy(online.to(one.device)).requires_grad_(False)
    bank = (config.queue.size, config.heads.width)
    loss = NTXentLoss(config.training.temperature, memory_bank_size=bank).to(one.device)

    def loss_of() -> Tensor:
        q1, q2 = online(one), online(two)
        with torch.no_grad():
            k1, k2 = target(one), target(two)
        return loss(q1.float(), k2.float()) + loss(q2.float(), k1.float())

    pairs = list(zip(target.parameters(), online.parameters(), strict=True))
    return _training(config, online, _momentum(pairs), loss_of)


def lightly_byol(config: Config, views: Tensor) -> Step:
    """Return a symmetric step of BYOL of lightly's parts."""
    from lightly.loss import NegativeCosineSimilarity  # type: ignore[import-not-found]
    from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead  # type: ignore[import-not-found]

    online, heads = nn.Sequential(_backbone(config, config.encoder.drop_path)), config.heads
    online.append(BYOLProjectionHead(online[0].num_features, heads.hidden, heads.width))  # type: ignore[arg-type]
    one, two = _normalized(config, views)
    target = copy.deepcopy(online.to(one.device)).requires_grad_(False)
    predictor = BYOLPredictionHead(heads.width, heads.hidden, heads.width).to(one.device)
    loss, pairs = NegativeCosineSimilarity(), list(zip(target.parameters(), online.parameters(), strict=True))

    def loss_of() -> Tensor:
        q1, q2 = predictor(online(one)), predictor(online(two))
        with torch.no_grad():
            k1, k2 = target(one), target(two)
        return loss(q1.float(), k2.float()) + loss(q2.float(), k1.float())

    return _training(config, nn.ModuleList([online, predictor]), _momentum(pairs), loss_of)


def stable_moco(config: Config, views: Tensor) -> Step:
    """Return a step of stable-pretraining's MoCo v3."""
    import_peers()
    from stable_pretraining.methods.mocov3 import MoCov3  # type: ignore[import-not-found]

    one, two = _normalized(config, views)
    method: Any = MoCov3(
        _backbone(config, config.encoder.drop_path),
        projector_dims=(config.heads.hidden, config.heads.width),
        predictor_hidden_dim=config.heads.hidden,
        temperature=config.training.temperature,
    )
    method.to(one.device).train()

    def momentum() -> None:
        method.backbone.update_teacher()
        method.projector.update_teacher()

    return _training(config, method, momentum, lambda: method(one, two).loss)


def import_peers() -> None:
    """Import the packages of peers that are there, so that no step's memory counts that; their logs go to stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        for module in ("lightly.loss", "stable_pretraining.methods.mocov3"):
            if importlib.util.find_spec(module.partition(".")[0]):
                importlib.import_module(module)


PEERS: dict[str, dict[str, Contender]] = {
    "lightly": {"lightly MoCo": lightly_moco, "lightly BYOL": lightly_byol},
    "stable_pretraining": {"stable MoCo v3": stable_moco},
}
"""Steps by the package that they need."""


def _backbone(config: Config, drop_path: float) -> nn.Module:
    """Return timm's network as it comes: its own drop path and its own choice of attention."""
    import timm

    known = build_encoder(config.encoder_spec, seed=config.seed).model_args
    optional = {"drop_path_rate": drop_path} if drop_path else {}
    return timm.create_model(config.encoder.name, num_classes=0, **{**known, **optional})


def _normalized(config: Config, views: Tensor) -> tuple[Tensor, Tensor]:
    encoder = build_encoder(config.encoder_spec, seed=config.seed).to(choose_device(config.machine.device))
    return encoder.preprocess(views[0]), encoder.preprocess(views[1])


def _momentum(pairs: Sequence[tuple[Tensor, Tensor]]) -> Callable[[], None]:
    """Return the update of each first tensor by the second."""

    def update() -> None:
        for late, early in pairs:
            late.mul_(0.99).add_(early, alpha=0.01)

    return update


def _training(config: Config, online: nn.Module, momentum: Callable[[], None], loss_of: Callable[[], Tensor]) -> Step:
    """Return the step of a plain loop: momentum update, autocast, backward pass, clipping, AdamW."""
    learned = [parameter for parameter in online.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-5, weight_decay=config.optimizer.weight_decay)
    dtype, device = AUTOCAST[config.training.precision], learned[0].device.type

    def step() -> None:
        with torch.no_grad():
            momentum()
        with torch.autocast(device, dtype=dtype, enabled=dtype is not None):
            loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learned, config.optimizer.clip or float("inf"))
        optimizer.step()
        loss.item()

    return step
