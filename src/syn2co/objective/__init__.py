"""The paper's mathematics, pure: no images, no models, no ambient randomness; usable in anyone's training loop.

    counts = PRESETS["as-intended"]                         # or NegativeCounts(interpolated=128, mixup=128)
    queue = Queue.start(4096, 256, seed=0, view=2)          # keyed random unit vectors, group -1
    workspace = Workspace()                                 # optional; reused by both directions and all steps

    query, key = unit_rows(predictor_output), unit_rows(target_output.detach())    # float32 at least, unit length
    draws = draw_negatives(
        counts, DrawKey(seed=0, step=step, direction=1), global_batch=len(query) * ranks, width=256,
        start_row=rank * len(query), rows=len(query),
    ) if window_open(step, steps_per_epoch, 30, 100) else None
    result = contrastive_loss(
        query, key, queue.keys, same_group(groups, queue.groups), draws,
        temperature=0.2, strengths=NegativeStrengths(hardest=256), workspace=workspace,
    )
    result.loss.mean().backward()                           # gradient in `query` only; log result.real_loss, .mass, ...
    queue.enqueue(gathered_keys, gathered_groups)           # after the loss; before or after backward
    ema_update(target.parameters(), online.parameters(), ema_momentum(step, total))

Each idea has its module: `counts` numbers and strengths · `negatives` the six kinds as scalars · `draws` their
randomness · `synthetic_logits` hardest keys to logits · `loss` loss and gradient · `infonce` the plain loss and group
masks · `queue` · `schedules` learning rate, momentum, window · `ema`.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from syn2co.objective.counts import KINDS as KINDS
    from syn2co.objective.counts import PRESETS as PRESETS
    from syn2co.objective.counts import NegativeCounts as NegativeCounts
    from syn2co.objective.counts import NegativeStrengths as NegativeStrengths
    from syn2co.objective.draws import DrawKey as DrawKey
    from syn2co.objective.draws import Draws as Draws
    from syn2co.objective.draws import draw_negatives as draw_negatives
    from syn2co.objective.ema import ema_update as ema_update
    from syn2co.objective.infonce import info_nce as info_nce
    from syn2co.objective.infonce import same_group as same_group
    from syn2co.objective.infonce import unit_rows as unit_rows
    from syn2co.objective.loss import LossOutput as LossOutput
    from syn2co.objective.loss import contrastive_loss as contrastive_loss
    from syn2co.objective.queue import Queue as Queue
    from syn2co.objective.schedules import cosine_lr as cosine_lr
    from syn2co.objective.schedules import ema_momentum as ema_momentum
    from syn2co.objective.schedules import first_open_step as first_open_step
    from syn2co.objective.schedules import scaled_lr as scaled_lr
    from syn2co.objective.schedules import window_open as window_open
    from syn2co.objective.workspace import Workspace as Workspace

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "counts": ["KINDS", "PRESETS", "NegativeCounts", "NegativeStrengths"],
        "draws": ["DrawKey", "Draws", "draw_negatives"],
        "ema": ["ema_update"],
        "infonce": ["info_nce", "same_group", "unit_rows"],
        "loss": ["LossOutput", "contrastive_loss"],
        "queue": ["Queue"],
        "schedules": ["cosine_lr", "ema_momentum", "first_open_step", "scaled_lr", "window_open"],
        "workspace": ["Workspace"],
    },
)

__all__ = [
    "KINDS",
    "PRESETS",
    "DrawKey",
    "Draws",
    "LossOutput",
    "NegativeCounts",
    "NegativeStrengths",
    "Queue",
    "Workspace",
    "contrastive_loss",
    "cosine_lr",
    "draw_negatives",
    "ema_momentum",
    "ema_update",
    "first_open_step",
    "info_nce",
    "same_group",
    "scaled_lr",
    "unit_rows",
    "window_open",
]
