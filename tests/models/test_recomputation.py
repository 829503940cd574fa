"""Softmax maps and activations that the backward pass computes again: equal bits, and less that is kept."""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import nn

from syn2co.models.class_token import use_class_token_block
from syn2co.models.drop_path import set_drop_path, use_keyed_drop_path
from syn2co.models.recomputation import _Attention, _Mlp, use_recomputation
from syn2co.pretraining.config import Config
from syn2co.pretraining.method import Syn2Co
from syn2co.pretraining.step import use_plain_attention

VIT = {"img_size": 16, "patch_size": 2, "embed_dim": 12, "depth": 2, "num_heads": 3, "num_classes": 0}
SWIN = {"img_size": 32, "patch_size": 2, "embed_dim": 12, "depths": (2, 2), "num_heads": (1, 2), "num_classes": 0}
PRECISIONS = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.float32}


def network(name: str, *, dtype: torch.dtype = torch.float64, plain: bool = True, **options: Any) -> nn.Module:
    """Return a small network with weights of its own, also those that timm starts with zero or one."""
    backbone = timm.create_model(name, **{**(SWIN if "swin" in name else VIT), **options}).to(dtype)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random, dtype=dtype) / 2)
    if plain:
        use_plain_attention(backbone)
    return backbone


def pass_through(backbone: nn.Module, precision: str) -> tuple[dict[str, torch.Tensor], int]:
    """Return features and gradients of three images, and the bytes that the backward pass kept."""
    random = torch.Generator().manual_seed(1)
    side = backbone.patch_embed.img_size[0]  # type: ignore[union-attr, index]
    images = torch.randn(3, 3, side, side, generator=random, dtype=PRECISIONS[precision])
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"),
    ):
        features = backbone(images)
    (features.double() * torch.randn(features.shape, generator=random, dtype=torch.float64)).sum().backward()
    gradients = {name: parameter.grad for name, parameter in backbone.named_parameters()}
    backbone.zero_grad()
    return {"features": features.detach(), **gradients}, sum(part.nbytes() for part in kept.values())  # type: ignore[dict-item]


def changed(backbone: nn.Module) -> list[type]:
    return [type(layer) for layer in backbone.modules() if type(layer) in (_Attention, _Mlp)]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    "name, options",
    [
        ("vit_tiny_patch16_224", {}),
        ("vit_tiny_patch16_224", {"qk_norm": True, "init_values": 0.5, "qkv_bias": False}),
        ("vit_tiny_patch16_224", {"scale_attn_norm": True, "scale_mlp_norm": True, "drop_path_rate": 0.6}),
        ("vit_tiny_patch16_224", {"global_pool": "avg", "reg_tokens": 2}),
        ("swin_tiny_patch4_window7_224", {"window_size": 4}),
    ],
)
def test_features_and_gradients_keep_their_bits(name: str, options: dict[str, Any], precision: str) -> None:
    backbone = network(name, dtype=PRECISIONS[precision], **options)
    layers = use_keyed_drop_path(backbone)
    set_drop_path(layers, torch.tensor([0.1, 0.9, 0.55]).expand(len(layers), 3))
    use_class_token_block(backbone)
    wanted, before = pass_through(backbone, precision)
    use_recomputation(backbone)
    assert changed(backbone)
    result, after = pass_through(backbone, precision)
    assert result.keys() == wanted.keys()
    for part, tensor in wanted.items():
        assert torch.equal(result[part], tensor), part
    assert after < 0.9 * before


def test_other_weights_get_their_own_gradients() -> None:
    """Named defect: the backward pass of `functional_call` came after it, and computed with the layer's own weights."""
    backbone = network("vit_tiny_patch16_224", depth=1)
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    others = {name: (2 * part).detach().requires_grad_() for name, part in backbone.named_parameters()}

    def gradients() -> list[torch.Tensor]:
        features = torch.func.functional_call(backbone, others, (images,))
        return list(torch.autograd.grad(features.square().sum(), list(others.values())))

    backbone.requires_grad_(False)
    wanted = gradients()
    use_recomputation(backbone)
    assert changed(backbone) == [_Attention, _Mlp]
    assert all(torch.equal(*pair) for pair in zip(gradients(), wanted, strict=True))


def test_every_block_of_a_vision_transformer_does_it() -> None:
    backbone = network("vit_tiny_patch16_224")
    use_recomputation(backbone)
    assert changed(backbone) == 2 * [_Attention, _Mlp]


def test_the_class_token_stays_alone() -> None:
    backbone = network("vit_tiny_patch16_224")
    use_class_token_block(backbone)
    use_recomputation(backbone)
    shapes: list[tuple[int, ...]] = []
    backbone.blocks[-1].mlp.register_forward_hook(lambda _, inputs, output: shapes.append(tuple(output.shape)))  # type: ignore[index, union-attr]
    pass_through(backbone, "float64")
    assert shapes == [(3, 1, 12)]


@pytest.mark.parametrize("options", [{"proj_drop_rate": 0.1, "attn_drop_rate": 0.1}, {"attn_layer": "diff"}])
def test_dropout_and_other_attentions_are_left_alone(options: dict[str, Any]) -> None:
    backbone = network("vit_tiny_patch16_224", **options)
    use_recomputation(backbone)
    assert _Attention not in changed(backbone)
    assert (_Mlp in changed(backbone)) == ("attn_layer" in options)


def test_whole_blocks_that_are_computed_again_are_left_alone() -> None:
    backbone = network("vit_tiny_patch16_224")
    backbone.set_grad_checkpointing(True)  # type: ignore[operator]
    use_recomputation(backbone)
    assert not changed(backbone)


def test_masks_and_the_fused_kernel_take_timms_attention() -> None:
    backbone, fused = (network("vit_tiny_patch16_224", plain=plain) for plain in (True, False))
    tokens = torch.randn(3, 5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    masked = backbone.blocks[0](tokens, is_causal=True)  # type: ignore[index]
    whole, _ = pass_through(fused, "float64")
    for changing in (backbone, fused):
        use_recomputation(changing)
    assert torch.equal(backbone.blocks[0](tokens, is_causal=True), masked)  # type: ignore[index]
    result, _ = pass_through(fused, "float64")
    assert all(torch.equal(result[part], tensor) for part, tensor in whole.items())


@pytest.mark.parametrize("checkpointing", [True, False])
def test_training_on_a_cpu_uses_it(tiny: Callable[..., Config], checkpointing: bool) -> None:
    config = tiny(
        "encoder.name=vit_tiny_patch16_224",
        'encoder.options={"patch_size": 8, "embed_dim": 12, "depth": 1, "num_heads": 3}',
        f"machine.activation_checkpointing={str(checkpointing).lower()}",
    )
    assert bool(changed(Syn2Co(config).online)) is not checkpointing
