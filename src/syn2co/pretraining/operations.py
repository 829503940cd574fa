"""Operations and memory of a training step, counted on tensors without data; nothing is computed.

Axes: B images of the count, S side of an image in pixels, L drop-path layers.
"""

import weakref
from typing import Any, NamedTuple, cast

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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
    """Return the bytes that autograd saves of an image, and those that it saves whatever the batch: cast weights.

    Where blocks are computed again, the first is what lies in memory at the peak of both passes.
    """
    few, many = (_saved_of_batch(branch, config, batch) for batch in (BATCH, TWICE))
    image = (many - few) / (TWICE - BATCH)
    casts = few - BATCH * image
    if config.machine.activation_checkpointing:
        cast(Encoder, branch.encoder).checkpoint_activations()
        few, many = (_peak_of_batch(branch, config, batch) for batch in (BATCH, TWICE))
        image = (many - few) / (TWICE - BATCH)
    return image, casts


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


def _peak_of_batch(branch: nn.Module, config: Config, batch: int) -> int:
    """Return the most bytes that lie in memory at a time while a batch goes forward and back."""
    with _Live() as live:
        _forward(branch, config, batch, AUTOCAST[config.training.precision], back=True)
    return live.peak * (_bytes_of_number(config) // 4)  # the branch is of float32 here


class _Live(TorchDispatchMode):
    """Sums the storages that lie in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outcome = func(*args, **(kwargs or {}))
        for part in tree_leaves(outcome):
            if isinstance(part, torch.Tensor) and (storage := part.untyped_storage())._cdata not in self.sizes:
                self.sizes[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                weakref.finalize(storage, self._freed, storage._cdata)
        self.peak = max(self.peak, self.now)
        return outcome

    def _freed(self, address: int) -> None:
        self.now -= self.sizes.pop(address)


def _forward(
    branch: nn.Module, config: Config, batch: int, dtype: torch.dtype | None, *, back: bool = False
) -> "list[torch.UntypedStorage]":
    """Run a branch on two views of B images that have shapes alone; return the storages of its weights and buffers."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.func import functional_call

    layers, side = len(branch.encoder.drop_layers), config.views.size  # type: ignore[union-attr, arg-type]
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        counted = torch.is_grad_enabled()  # else a view of a weight would ask for a gradient and have no function
        state: dict[str, torch.Tensor] = {
            name: mode.from_tensor(tensor if counted else tensor.detach())
            for name, tensor in [*branch.named_parameters(), *branch.named_buffers()]
        }
        views = torch.empty(2, batch, side, side, 3, dtype=torch.uint8)
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            outcome = functional_call(branch, state, (views, torch.empty(layers, 2, batch)))
        if back:  # with gradients that lie there already, as in every step but the first
            for weight in state.values():
                weight.grad = torch.zeros_like(weight) if weight.requires_grad else None
            torch.stack([part.sum().float() for part in tree_leaves(outcome) if part.requires_grad]).sum().backward()
        return [tensor.untyped_storage() for tensor in state.values()]
