"""Small files of weights in the layouts of released checkpoints, written from how their authors' code saves them."""

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def prefixed(prefix: str, tensors: Mapping[str, Tensor], change: float = 0.0) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor + change for name, tensor in tensors.items()}


def layouts(vit: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """Return one file's content per layout, in which the encoder that its authors evaluate has the weights `vit`."""
    head = {"mlp.0.weight": torch.ones(3, 3), "last_layer.weight_v": torch.ones(2, 3)}
    projector = {"linear1.weight": torch.ones(3, 3), "linear2.bias": torch.ones(3)}
    return {
        "timm": {**vit, "head.weight": torch.ones(5, 32), "head.bias": torch.ones(5)},
        "MoBY": {
            "model": {
                **prefixed("encoder.", vit), **prefixed("encoder_k.", vit, 1.0), **prefixed("projector.", projector),
                **prefixed("predictor.", projector), "queue1": torch.ones(3, 4), "queue_ptr": torch.zeros(1),
            },
            "epoch": 299,
        },
        "MoCo v3": {
            "arch": "vit_small", "epoch": 300,
            "state_dict": {
                **prefixed("module.base_encoder.", vit), "module.base_encoder.head.0.weight": torch.ones(3, 3),
                **prefixed("module.momentum_encoder.", vit, 1.0), **prefixed("module.predictor.", projector),
            },
        },
        "DINO": {
            "student": {**prefixed("module.backbone.", vit, 1.0), **prefixed("module.head.", head)},
            "teacher": {**prefixed("backbone.", vit), **prefixed("head.", head)},
            "epoch": 100, "args": Namespace(arch="vit_small"),
        },
    }  # fmt: skip
