"""The last block that computes the class token alone: timm's features and gradients, and runs from before it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from runs import KernelRuns
from timm.layers.attention import Attention
from torch import nn

from syn2co.models import class_token
from syn2co.models.class_token import _ClassTokenBlock, use_class_token_block, use_whole_block
from syn2co.models.drop_path import set_drop_path, use_keyed_drop_path
from syn2co.pretraining.config import Config

SMALL = {"img_size": 16, "patch_size": 8, "embed_dim": 12, "depth": 2, "num_heads": 3, "num_classes": 0}


def network(name: str = "vit_tiny_patch16_224", **options: Any) -> nn.Module:
    """Return a small network in float64 with weights of its own, also those that timm starts with zero or one."""
    backbone = timm.create_model(name, **{**SMALL, **options}).double()
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random, dtype=torch.float64) / 2)
    return backbone


def pass_through(backbone: nn.Module) -> dict[str, torch.Tensor]:
    """Return the features of three images, and the gradients of a weighted sum of them."""
    random = torch.Generator().manual_seed(1)
    images = torch.randn(3, 3, 16, 16, generator=random, dtype=torch.float64)
    features = backbone(images)
    (features * torch.randn(features.shape, generator=random, dtype=torch.float64)).sum().backward()
    gradients = {name: parameter.grad for name, parameter in backbone.named_parameters()}
    backbone.zero_grad()
    return {"features": features.detach(), **gradients}  # type: ignore[dict-item]


def changed(backbone: nn.Module) -> list[int]:
    return [number for number, block in enumerate(backbone.blocks) if type(block) is _ClassTokenBlock]  # type: ignore[arg-type, call-overload]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {}, {"qk_norm": True, "init_values": 0.5, "qkv_bias": False}, {"reg_tokens": 2, "no_embed_class": True},
        {"drop_path_rate": 0.6}, {"scale_attn_norm": True, "scale_mlp_norm": True}, {"depth": 1},
    ],
    ids=lambda options: ", ".join(options) or "plain",
)  # fmt: skip
def test_features_and_gradients_are_those_of_timm(options: dict[str, Any], fused: bool) -> None:
    backbone = network(**options)
    layers = use_keyed_drop_path(backbone)
    set_drop_path(layers, torch.tensor([0.1, 0.9, 0.55]).expand(len(layers), 3))
    for block in backbone.blocks:  # type: ignore[union-attr]
        block.attn.fused_attn = fused
    whole = pass_through(backbone)
    use_class_token_block(backbone)
    assert changed(backbone) == [len(backbone.blocks) - 1]  # type: ignore[arg-type]
    shapes: list[tuple[int, ...]] = []
    backbone.blocks[-1].mlp.register_forward_hook(lambda _, inputs, output: shapes.append(tuple(output.shape)))  # type: ignore[index, union-attr]
    alone = pass_through(backbone)
    assert shapes == [(3, 1, 12)]
    assert alone.keys() == whole.keys()
    for name, wanted in whole.items():
        torch.testing.assert_close(alone[name], wanted, rtol=1e-9, atol=1e-11, msg=name)


@pytest.mark.parametrize(
    "name, options",
    [
        ("vit_tiny_patch16_224", {"global_pool": "avg"}), ("vit_tiny_patch16_224", {"global_pool": "map"}),
        ("vit_tiny_patch16_224", {"global_pool": ""}), ("vit_tiny_patch16_224", {"attn_layer": "diff"}),
        ("deit_tiny_distilled_patch16_224", {}),
    ],
)  # fmt: skip
def test_other_networks_are_left_alone(name: str, options: dict[str, Any]) -> None:
    backbone = timm.create_model(name, **{**SMALL, **options})
    use_class_token_block(backbone)
    assert not changed(backbone)


def test_a_gate_of_the_attention_is_left_alone() -> None:
    backbone = network()
    backbone.blocks[-1].attn = Attention(12, 3, gated=True)  # type: ignore[index, union-attr]
    use_class_token_block(backbone)
    assert not changed(backbone)


def test_scoring_and_masks_take_timms_block() -> None:
    backbone = network()
    tokens = torch.randn(3, 5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    scored, masked = backbone.eval().blocks[-1](tokens), backbone.train().blocks[-1](tokens, is_causal=True)  # type: ignore[index]
    use_class_token_block(backbone)
    assert torch.equal(backbone.train().blocks[-1](tokens, is_causal=True), masked)  # type: ignore[index]
    assert torch.equal(backbone.eval().blocks[-1](tokens), scored)  # type: ignore[index]
    use_whole_block(backbone)
    assert not changed(backbone)


def test_a_run_from_before_it_ends_bit_for_bit_as_it_began(
    tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = KernelRuns(tiny("training.steps=3", "negatives.start=0"), tmp_path, monkeypatch)
    runs.check_former("class_token_block", class_token, "use_class_token_block")
