"""AdamW of the recipes: groups of weight decay, learning rate, gradient clipping, and the state by parameter name."""

from typing import Any

import torch
from torch import Tensor, nn

from syn2co.core.errors import CheckpointError
from syn2co.runtime.settings import OptimizerSettings

_POSITIONS = ("pos_embed", "cls_token", "dist_token", "reg_token", "relative_position_bias_table")


def undecayed(online: nn.Module) -> set[str]:
    """Return the parameters that are positions and tokens: by our list, and by the encoder's own `no_weight_decay`.

    The wrapper of the released code hides `no_weight_decay`, so there they do decay.
    """
    names = {name for name, _ in online.named_parameters() if name.rpartition(".")[2] in _POSITIONS}
    for prefix, module in online.named_modules():
        no_weight_decay = getattr(module, "no_weight_decay", None)
        if callable(no_weight_decay):
            listed: Any = no_weight_decay()
            names |= {f"{prefix}.{name}" for name in listed}
    return names


def build_optimizer(online: nn.Module, settings: OptimizerSettings) -> torch.optim.AdamW:
    """Return AdamW over the trained parameters of the online branch; the learning rate comes from `set_lr`.

    Weight decay applies to matrices and kernels, never to biases and other 1-D parameters, and to positions and tokens
    only if `decay_positions`.
    """
    named = [(name, parameter) for name, parameter in online.named_parameters() if parameter.requires_grad]
    spared = set() if settings.decay_positions else undecayed(online)
    decayed = [p for n, p in named if p.ndim > 1 and n not in spared]
    free = [p for n, p in named if p.ndim <= 1 or n in spared]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": free, "weight_decay": 0.0}]
    fused = named[0][1].device.type in ("cpu", "cuda")
    return torch.optim.AdamW(groups, lr=0.0, betas=settings.betas, eps=settings.eps, fused=fused)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group the learning rate of the coming step."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def clip_gradient(online: nn.Module, largest: float | None) -> Tensor:
    """Return the global norm of the gradient before it is scaled down to `largest` (None: never), in place."""
    # An infinite bound scales nothing, and the norm is measured all the same.
    bound = float("inf") if largest is None else largest
    return nn.utils.clip_grad_norm_(online.parameters(), bound)


def optimizer_tensors(online: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's state as name -> tensor, "optimizer.<parameter>.<key>"."""
    return {
        f"optimizer.{name}.{key}": torch.as_tensor(value)
        for name, parameter in online.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(online: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put a saved state back, parameter by parameter, by name.

    Raises:
        CheckpointError: if a part of the state is missing, or of another shape than AdamW's.
    """
    for name, parameter in online.named_parameters():
        prefix = f"optimizer.{name}."
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if state and not _fits(state, parameter):
            raise CheckpointError(f"optimizer.{name}: is not the state of AdamW in the checkpoint; give an earlier one")
        if state:  # the count of steps lives on the CPU, unless the kernel that reads it is fused
            fused = optimizer.defaults["fused"]
            device = {key: parameter.device if fused or key != "step" else torch.device("cpu") for key in state}
            optimizer.state[parameter] = {key: value.to(device[key]) for key, value in state.items()}


def _fits(state: dict[str, Tensor], parameter: nn.Parameter) -> bool:
    """Return whether a saved state is one of AdamW for the parameter: two moments and the count of its steps."""
    moment = parameter.shape, parameter.dtype
    kinds = {"exp_avg": moment, "exp_avg_sq": moment, "step": (torch.Size(), torch.float32)}
    return {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()} == kinds
