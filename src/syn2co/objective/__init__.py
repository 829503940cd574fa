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

Where each idea lives: `negatives` the six kinds as scalars · `draws` their randomness · `synthetic_logits` hardest keys
to logits · `loss` loss and gradient · `info_nce` the plain loss and group masks · `queue` · `schedules` learning
rate, momentum, window · `ema`.
"""

from syn2co.objective.draws import DrawKey, Draws, draw_negatives
from syn2co.objective.ema import ema_update
from syn2co.objective.info_nce import info_nce, same_group, unit_rows
from syn2co.objective.loss import LossOutput, contrastive_loss
from syn2co.objective.negatives import KINDS, PRESETS, NegativeCounts, NegativeStrengths
from syn2co.objective.queue import Queue
from syn2co.objective.schedules import cosine_lr, ema_momentum, first_open_step, scaled_lr, window_open
from syn2co.objective.workspace import Workspace

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
