"""Operations and memory of a training step, counted on tensors without data; nothing is computed.

Axes: B images of the count, S side of an image in pixels, L drop-path layers.
"""

from typing import Any, NamedTuple, cast

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from syn2co.models.encoder import Encoder
from syn2co.models.heads import build_branches, build_classifier
from syn2co.pretraining.config import Config
from syn2co.pretraining.step import AUTOCAST, use_plain_attention

BATCH, TWICE = 4, 8
"""B of the counts; what grows between them is what an image takes."""
CLASSES = 1000
"""Classes of a supervised run, for whose number an estimate does not look at the images."""


class StepCount(NamedTuple):
    """What one image costs in training, and what a run keeps in memory whatever its batch."""

    flops: float
    """Floating-point operations of an image: both views, both branches, backward pass, objective."""
    activations: float
    """Bytes of an image that the backward pass needs, and of its logits."""
    state: float
    """Bytes of weights, gradients, the optimizer's moments and the queues."""
    checkpoint: float
    """Bytes of a checkpoint."""
    parameters: int
    """Of the encoder."""
    kernels: int
    """That the host starts for a micro-batch: both branches and the backward pass, casts of weights among them."""


def count_step(config: Config) -> StepCount:
    """Return the operations and bytes of a run's step.

    Products are counted as two operations for each multiplication and addition; a backward pass as two forward ones.

    Raises:
        ConfigError: if the encoder cannot be built.
    """
    from syn2co.models.class_token import use_class_token_block

    if config.training.objective == "supervised":
        return _count_supervised(config)
    online, target = build_branches(
        config.encoder_spec, config.heads, drop_path=config.encoder.drop_path, seed=config.seed
    )
    for branch in (online, target):
        use_class_token_block(branch)
    keys, width = config.queue.size, config.heads.width
    negatives = config.negatives.total
    activations, casts = _saved_bytes(online, config)
    passes = _passes(config)
    (trained, started), (followed, others) = (_forward_work(branch, config) for branch in (online, target))
    flops = passes * trained + followed
    # Two directions: the products with the queue and with the negatives, and their gradient for the query.
    flops += 2 * 2 * (2 * width * (keys + negatives))
    size = _bytes_of_number(config)
    logits = 2 * size * 3 * (keys + negatives)  # of both directions: logits, softmax, mask and the rest
    weights, still = (size * sum(part.numel() for part in branch.parameters()) for branch in (online, target))
    queues = 2 * size * keys * width
    return StepCount(
        flops=flops,
        activations=activations + logits,
        state=4 * weights + still + queues + casts,
        checkpoint=3 * weights + still + queues,
        parameters=sum(part.numel() for part in online.encoder.parameters()),
        kernels=passes * started + others,
    )


def _count_supervised(config: Config) -> StepCount:
    """Return what a step with labels costs: one branch, and no queues."""
    from syn2co.models.class_token import use_class_token_block

    model = build_classifier(config.encoder_spec, CLASSES, drop_path=config.encoder.drop_path, seed=config.seed)
    use_class_token_block(model)
    activations, casts = _saved_bytes(model, config)
    weights = _bytes_of_number(config) * sum(part.numel() for part in model.parameters())
    flops, kernels = _forward_work(model, config)
    return StepCount(
        flops=_passes(config) * flops,
        activations=activations,
        state=4 * weights + casts,
        checkpoint=3 * weights,
        parameters=sum(part.numel() for part in model.encoder.parameters()),
        kernels=_passes(config) * kernels,
    )


def _bytes_of_number(config: Config) -> int:
    """Return the bytes of a number where no autocast makes it smaller."""
    return 8 if config.training.precision == "float64" else 4


def _passes(config: Config) -> int:
    """Return the forward passes that the online branch costs: one, two for the backward pass, one that is repeated."""
    return 4 if config.machine.activation_checkpointing else 3


def _forward_work(branch: nn.Module, config: Config) -> tuple[float, int]:
    """Return the operations of the forward pass of an image's two views, and the kernels of one of any batch."""
    from torch.utils.flop_counter import FlopCounterMode

    use_plain_attention(branch)  # the fused kernel's products are not counted
    with _Kernels() as kernels, FlopCounterMode(display=False) as counter, torch.no_grad():
        _forward(branch, config, BATCH, AUTOCAST[config.training.precision])
    return counter.get_total_flops() / BATCH, kernels.number


class _Kernels(TorchDispatchMode):
    """Counts the calls that compute something: views of a tensor, and questions about it, start no kernel."""

    number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += func.namespace == "aten" and not (func.is_view or "_unsafe_view" in func.name())
        return func(*args, **(kwargs or {}))


def _saved_bytes(branch: nn.Module, config: Config) -> tuple[float, float]:
    """Return the bytes that autograd saves of an image, and those that it saves whatever the batch: cast weights."""
    few, many = (_saved_of_batch(branch, config, batch) for batch in (BATCH, TWICE))
    image = (many - few) / (TWICE - BATCH)
    if not config.machine.activation_checkpointing:
        return image, few - BATCH * image
    encoder = cast(Encoder, branch.encoder)
    encoder.checkpoint_activations()
    kept = (_saved_of_batch(branch, config, TWICE) - _saved_of_batch(branch, config, BATCH)) / (TWICE - BATCH)
    blocks = sum(hasattr(module, "mlp") for module in encoder.backbone.modules())  # one at a time is computed again
    return kept + image / max(1, blocks), few - BATCH * image


def _saved_of_batch(branch: nn.Module, config: Config, batch: int) -> int:
    """Return the bytes that autograd saves of a batch beside the weights, each storage once."""
    saved: list[torch.UntypedStorage] = []

    def save(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor.untyped_storage())  # held, so that no other takes its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        weights = _forward(branch, config, batch, AUTOCAST[config.training.precision])
    sizes = {storage._cdata: storage.nbytes() for storage in saved}
    larger = _bytes_of_number(config) // 4  # the branch is of float32 here
    return larger * sum(size for address, size in sizes.items() if address not in {part._cdata for part in weights})


def _forward(branch: nn.Module, config: Config, batch: int, dtype: torch.dtype | None) -> "list[torch.UntypedStorage]":
    """Run a branch on two views of B images that have shapes alone; return the storages of its weights and buffers."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.func import functional_call

    layers, side = len(branch.encoder.drop_layers), config.views.size  # type: ignore[union-attr, arg-type]
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        state: dict[str, torch.Tensor] = {
            name: mode.from_tensor(tensor) for name, tensor in [*branch.named_parameters(), *branch.named_buffers()]
        }
        views = torch.empty(2, batch, side, side, 3, dtype=torch.uint8)
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            functional_call(branch, state, (views, torch.empty(layers, 2, batch)))
        return [tensor.untyped_storage() for tensor in state.values()]
