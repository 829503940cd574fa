"""One micro-batch of Syn2Co: two views in, loss and measurements out; the only place where the parts meet.

Axes: B images of this rank's part of the micro-batch, S side in pixels, D embedding width, d feature width.
Source: Syn2Co arXiv:2509.02029 on MoBY arXiv:2105.04553.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from syn2co.data.batch import Batch
from syn2co.models.heads import build_branches
from syn2co.objective import (
    DrawKey,
    Draws,
    LossOutput,
    NegativeCounts,
    NegativeStrengths,
    Queue,
    Workspace,
    contrastive_loss,
    draw_negatives,
    ema_update,
    same_group,
)
from syn2co.objective.draws import NOISE_BLOCK
from syn2co.pretraining.config import Config
from syn2co.pretraining.health import measure
from syn2co.pretraining.step import AUTOCAST, StepOutput, StepPosition, drop_uniforms, place


@dataclass(frozen=True)
class LossSettings:
    """The values that the loss of a micro-batch depends on besides its images."""

    seed: int
    temperature: float
    counts: NegativeCounts
    strengths: NegativeStrengths
    mask_groups: bool
    precision: str
    mixed: bool
    """Whether synthetic images may be among the views, so that each source is measured by itself."""
    noise_block: int
    """Rows whose draws of kind 4 come from one stream."""

    @classmethod
    def of(cls, config: Config) -> Self:
        """Return the values of a config."""
        negatives = config.negatives
        return cls(
            seed=config.seed,
            temperature=config.training.temperature,
            counts=NegativeCounts(**negatives.counts),
            strengths=NegativeStrengths(negatives.hardest, negatives.sigma, negatives.delta, negatives.eta),
            mask_groups=negatives.mask_groups,
            precision=config.training.precision,
            mixed=bool(config.data.synthetic),
            noise_block=NOISE_BLOCK,
        )


class Syn2Co(nn.Module):
    """Online and target branch, and the two queues: `queues[v]` holds keys of view v + 1."""

    def __init__(self, config: Config, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.online, self.target = build_branches(
            config.encoder_spec, config.heads, drop_path=config.encoder.drop_path, seed=config.seed
        )
        if config.machine.activation_checkpointing:
            self.online.encoder.checkpoint_activations()
        place(self, config.training.precision, device)
        dtype = torch.float64 if config.training.precision == "float64" else torch.float32
        size, width = config.queue.size, config.heads.width
        self.queues = [
            Queue.start(size, width, seed=config.seed, view=view, device=device, dtype=dtype) for view in (1, 2)
        ]
        self.loss_settings, self.workspace = LossSettings.of(config), Workspace()

    def update_target(self, momentum: float) -> None:
        """Move the target's parameters towards the online ones; its BN buffers follow its own forward passes."""
        online = dict(self.online.named_parameters())
        pairs = [(parameter, online[name]) for name, parameter in self.target.named_parameters()]
        ema_update([target for target, _ in pairs], [source for _, source in pairs], momentum)

    def training_step(self, online: nn.Module, batch: Batch, position: StepPosition, *, negatives: bool) -> StepOutput:
        """Return the output of a micro-batch: see the function `training_step`."""
        return training_step(
            self, online, batch, position, self.loss_settings, negatives=negatives, workspace=self.workspace
        )


def use_one_noise_stream(model: nn.Module) -> None:
    """Draw all rows of kind 4 from one stream, as runs did before they had blocks; above 512 rows other draws."""
    if isinstance(model, Syn2Co):
        model.loss_settings = replace(model.loss_settings, noise_block=sys.maxsize)


def training_step(
    model: Syn2Co,
    online: nn.Module,
    batch: Batch,
    position: StepPosition,
    loss: LossSettings,
    *,
    negatives: bool,
    workspace: Workspace,
) -> StepOutput:
    """Return the mean loss of this rank's images, the measurements, and the keys to enqueue.

    loss = InfoNCE(q1, k2, queue of view 2) + InfoNCE(q2, k1, queue of view 1), the sum of two cross-entropies, each
    with the query's synthetic negatives if `negatives`. `online` is `model.online`, perhaps wrapped to average
    gradients. Nothing is enqueued here: see `step.enqueue`.
    """
    dtype, counts = AUTOCAST[loss.precision], loss.counts if negatives else NegativeCounts()
    rows, width = batch.views.shape[1], model.queues[0].keys.shape[1]
    # NumPy draws without the interpreter's lock: beside the forward passes, which are the GPU's or another core's.
    with ThreadPoolExecutor(1) as beside:
        draws = [
            beside.submit(_draws, direction, position, counts, loss, rows=rows, width=width) for direction in (1, 2)
        ]
        with torch.autocast(batch.views.device.type, dtype=dtype, enabled=dtype is not None):
            with torch.no_grad():  # first, while nothing is kept for the backward pass: a lower peak
                k1, k2, _ = model.target(batch.views, drop_uniforms(model.target.encoder, batch, position, loss.seed))
            q1, q2, features = online(batch.views, drop_uniforms(model.online.encoder, batch, position, loss.seed))
    # Outside of autocast: the loss is computed in float32 at least. A query meets keys of the other view alone.
    parts = [
        _direction_loss(query, key, queue, batch, drawn.result(), loss, workspace)
        for query, key, queue, drawn in zip((q1, q2), (k2, k1), model.queues[::-1], draws, strict=True)
    ]
    measured = measure(parts, (q1, q2), (k1, k2), features, counts, batch.synthetic if loss.mixed else None)
    return StepOutput(parts[0].loss.mean() + parts[1].loss.mean(), measured, (k1, k2), features)


def _draws(
    direction: int, position: StepPosition, counts: NegativeCounts, loss: LossSettings, *, rows: int, width: int
) -> Draws | None:
    if not counts.total:
        return None
    return draw_negatives(
        counts,
        DrawKey(loss.seed, position.step, position.micro_batch, direction),
        global_batch=position.global_rows,
        width=width,
        start_row=position.start_row,
        rows=rows,
        noise_block=loss.noise_block,
    )


def _direction_loss(
    query: Tensor,
    key: Tensor,
    queue: Queue,
    batch: Batch,
    draws: Draws | None,
    loss: LossSettings,
    workspace: Workspace,
) -> LossOutput:
    return contrastive_loss(
        query,
        key,
        queue.keys,
        same_group(batch.groups, queue.groups) if loss.mask_groups else None,
        draws,
        temperature=loss.temperature,
        strengths=loss.strengths,
        workspace=workspace,
    )
