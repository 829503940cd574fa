"""One micro-batch as the loop sees it: its position in the run, its output, and what every method has in common.

Axes: B images of this rank's part of the micro-batch, D embedding width, d feature width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from syn2co.core.transfer import to_device
from syn2co.data.batch import Batch
from syn2co.models.depthwise import use_padded_depthwise
from syn2co.models.drop_path import drop_path_uniforms
from syn2co.models.encoder import Encoder
from syn2co.objective import Queue
from syn2co.runtime.distributed import all_gather_rows

AUTOCAST = {"float32": None, "float64": None, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class StepPosition:
    """Position of a micro-batch in the run; with the seed, the key of everything that is drawn for it."""

    step: int
    epoch: int
    micro_batch: int
    start_row: int
    global_rows: int


@dataclass(frozen=True)
class StepOutput:
    """Output of a micro-batch: the loss (nats, mean over this rank's images), numbers to log, keys and features."""

    loss: Tensor
    measured: dict[str, Tensor]
    keys: tuple[Tensor, ...]  # of view 1 and view 2, [B, D]; none where there are no queues
    features: Tensor  # of view 1, online, [B, d]


def enqueue(queues: Sequence[Queue], keys: tuple[Tensor, ...], groups: Tensor) -> None:
    """Put the keys of all ranks, in global order, into the queues of their views."""
    if not queues:
        return
    all_groups = all_gather_rows(groups, equal=True)
    for queue, key in zip(queues, keys, strict=True):
        queue.enqueue(all_gather_rows(key.detach(), equal=True), all_groups)


def drop_uniforms(encoder: Encoder, batch: Batch, position: StepPosition, seed: int) -> Tensor:
    """Return the draws of the encoder's drop path for both views, [L, 2, B]."""
    layers, ids = len(encoder.drop_layers), batch.sample_ids
    views = [drop_path_uniforms(layers, ids, seed=seed, epoch=position.epoch, view=view) for view in (1, 2)]
    return to_device(torch.stack(views, dim=1), batch.views.device)


def place(module: nn.Module, precision: str, device: torch.device | str) -> None:
    """Move a model to its device and precision, in place."""
    from syn2co.models.class_token import use_class_token_block  # these two import timm, which takes two seconds
    from syn2co.models.recomputation import use_recomputation

    if precision == "float64":
        module.double()
    module.to(device)
    use_class_token_block(module)
    if torch.device(device).type == "cpu":
        use_plain_attention(module)
        use_recomputation(module)
        if precision == "bfloat16":
            use_padded_depthwise(module)


def use_plain_attention(module: nn.Module) -> None:
    """Make timm's attention layers multiply matrices instead of calling the fused kernel, in place.

    On a CPU the backward pass of the fused kernel is slow in bfloat16: a training step costs 1.4 (197 tokens) to 1.8
    times (17 tokens) as much; in float32 there is no difference.
    """
    for layer in module.modules():
        if hasattr(layer, "fused_attn"):
            layer.fused_attn = False  # type: ignore[assignment]
