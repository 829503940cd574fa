"""Learning rates that fall from layer to layer, from the head down to the patches.

Source: ELECTRA, arXiv:2003.10555; for vision transformers BEiT, arXiv:2106.08254. Axis: L layers, the head is the last.
"""

from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

from syn2co.models.encoder import Encoder
from syn2co.runtime.optimizer import undecayed


def layer_numbers(backbone: Any) -> dict[str, int] | None:
    """Return the layer of every parameter by timm's grouping, 0 nearest to the image, and that of "head.weight".

    None where timm has none for the network, or puts everything into one layer.
    """
    from timm.models import group_parameters

    try:
        matcher = backbone.group_matcher(coarse=False)
    except (AttributeError, NotImplementedError):
        return None
    # The head that is trained here takes the place of timm's own, with which timm groups a last norm, say.
    named = [*backbone.named_parameters(), ("head.weight", None)]
    numbers: Any = group_parameters(SimpleNamespace(named_parameters=lambda: named), matcher, reverse=True)  # type: ignore[arg-type]
    return numbers if max(numbers.values()) > 0 else None


def parameter_groups(
    encoder: Encoder, head: nn.Linear, *, layer_decay: float, weight_decay: float
) -> tuple[list[dict[str, Any]], int]:
    """Return AdamW's groups of parameters, each with "lr_scale", and the number of layers.

    lr_scale = layer_decay^(L - 1 - layer), 1 for the head. Weight decay spares biases, norms, positions and tokens.
    """
    numbers = layer_numbers(encoder.backbone)
    last = 0 if numbers is None else numbers["head.weight"]
    spared = undecayed(encoder)
    groups: dict[tuple[int, bool], list[Tensor]] = {}
    for name, parameter in encoder.named_parameters():
        if parameter.requires_grad:
            layer = 0 if numbers is None else numbers[name.removeprefix("backbone.")]
            groups.setdefault((layer, parameter.ndim > 1 and name not in spared), []).append(parameter)
    groups.setdefault((last, True), []).append(head.weight)
    groups.setdefault((last, False), []).append(head.bias)
    listed = [
        {"params": part, "lr_scale": layer_decay ** (last - layer), "weight_decay": weight_decay if decayed else 0.0}
        for (layer, decayed), part in sorted(groups.items(), key=lambda group: group[0])
    ]
    return listed, last + 1
