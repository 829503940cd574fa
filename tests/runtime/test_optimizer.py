"""AdamW as the recipes want it: what decays, how the gradient is clipped, what a checkpoint needs."""

import pytest
import torch
from torch import nn

from syn2co.models.heads import build_branches
from syn2co.models.settings import EncoderSettings, HeadSettings
from syn2co.runtime.optimizer import build_optimizer, clip_gradient, optimizer_tensors, restore_optimizer, set_lr
from syn2co.runtime.settings import OptimizerSettings

VIT = EncoderSettings(name="test_vit", size=32)
SWIN = EncoderSettings(
    name="swin_tiny_patch4_window7_224", size=32, options={"embed_dim": 12, "depths": (2, 2), "num_heads": (2, 2)}
)


def _free(settings: EncoderSettings, *, decay_positions: bool) -> set[str]:
    """Return the last parts of the names of the parameters that do not decay."""
    online, _ = build_branches(settings, HeadSettings(hidden=8, width=4), drop_path=0.0, seed=0)
    optimizer = build_optimizer(online, OptimizerSettings(decay_positions=decay_positions))
    decayed, free = optimizer.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.05, 0.0)
    everything = {id(parameter): name for name, parameter in online.named_parameters()}
    assert len(decayed["params"]) + len(free["params"]) == len(everything)
    for parameter in decayed["params"]:
        assert parameter.ndim > 1
    return {everything[id(parameter)].rpartition(".")[2] for parameter in free["params"]}


def test_biases_norms_positions_and_tokens_do_not_decay():
    assert _free(VIT, decay_positions=False) >= {"bias", "weight", "pos_embed", "cls_token"}
    assert "relative_position_bias_table" in _free(SWIN, decay_positions=False)


def test_as_released_positions_and_tokens_decay():
    """The wrapper of the released code hides the encoder's `no_weight_decay`."""
    assert not {"pos_embed", "cls_token"} & _free(VIT, decay_positions=True)
    assert "relative_position_bias_table" not in _free(SWIN, decay_positions=True)


@pytest.mark.parametrize(
    "name, shape, positions, expected",
    [
        ("encoder.blocks.0.qkv.weight", (4, 4), False, True),
        ("patch_embed.proj.weight", (4, 3, 2, 2), False, True),
        ("encoder.blocks.0.qkv.bias", (4,), True, False),
        ("norm.weight", (4,), True, False),
        ("encoder.pos_embed", (1, 5, 4), False, False),
        ("encoder.pos_embed", (1, 5, 4), True, True),
        ("layers.0.relative_position_bias_table", (9, 2), False, False),
        ("layers.0.relative_position_bias_table", (9, 2), True, True),
    ],
)
def test_which_parameter_decays(name, shape, positions, expected):
    module = nn.Module()
    *parents, leaf = name.split(".")
    inner = module
    for parent in parents:
        inner.add_module(parent, nn.Module())
        inner = inner.get_submodule(parent)
    inner.register_parameter(leaf, nn.Parameter(torch.zeros(shape)))
    decayed, _ = build_optimizer(module, OptimizerSettings(decay_positions=positions)).param_groups
    assert bool(decayed["params"]) is expected


def test_what_the_encoder_itself_spares_does_not_decay():
    """CrossViT has tokens and positions of each branch, under names that are on no list of ours."""
    online, _ = build_branches(
        EncoderSettings(name="crossvit_tiny_240", size=240), HeadSettings(hidden=8, width=4), drop_path=0.0, seed=0
    )
    _, free = build_optimizer(online, OptimizerSettings()).param_groups
    for name in ("cls_token_0", "cls_token_1", "pos_embed_0", "pos_embed_1"):
        parameter = online.get_parameter(f"encoder.backbone.{name}")
        assert any(parameter is spared for spared in free["params"])


def test_frozen_parameters_are_left_out():
    online, _ = build_branches(
        EncoderSettings(name="test_vit", size=32, init="moco_v3"),
        HeadSettings(hidden=8, width=4),
        drop_path=0.0,
        seed=0,
    )
    optimizer = build_optimizer(online, OptimizerSettings())
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    frozen = [name for name, parameter in online.named_parameters() if id(parameter) not in trained]
    assert frozen == ["encoder.backbone.pos_embed"]


def test_settings_and_learning_rate_reach_every_group():
    optimizer = build_optimizer(nn.Linear(2, 2), OptimizerSettings(betas=(0.8, 0.99), eps=1e-6))
    set_lr(optimizer, 0.25)
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"], group["eps"]) == (0.25, (0.8, 0.99), 1e-6)


def test_clipping_by_global_norm():
    layer = nn.Linear(1, 2)
    layer.weight.grad, layer.bias.grad = torch.tensor([[3.0], [0.0]]), torch.tensor([0.0, 4.0])
    assert float(clip_gradient(layer, 2.5)) == 5.0
    torch.testing.assert_close(layer.weight.grad, torch.tensor([[1.5], [0.0]]))
    torch.testing.assert_close(layer.bias.grad, torch.tensor([0.0, 2.0]))
    assert float(clip_gradient(layer, None)) == pytest.approx(2.5)
    torch.testing.assert_close(layer.bias.grad, torch.tensor([0.0, 2.0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_restored_optimizer_takes_the_same_steps(dtype):
    layers = []
    for stop in (None, 3):
        torch_layer = nn.Linear(3, 2).to(dtype)
        with torch.no_grad():
            torch_layer.weight.fill_(0.5)
            torch_layer.bias.fill_(-0.5)
        optimizer = build_optimizer(torch_layer, OptimizerSettings())
        for step in range(6):
            if step == stop:
                saved = {name: tensor.clone() for name, tensor in optimizer_tensors(torch_layer, optimizer).items()}
                optimizer = build_optimizer(torch_layer, OptimizerSettings())
                restore_optimizer(torch_layer, optimizer, saved)
            set_lr(optimizer, 0.1 / (step + 1))
            optimizer.zero_grad()
            torch_layer(torch.full((2, 3), step + 1.0, dtype=dtype)).square().sum().backward()
            optimizer.step()
        layers.append(torch_layer)
    assert torch.equal(layers[0].weight, layers[1].weight) and torch.equal(layers[0].bias, layers[1].bias)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_restored_optimizer_steps_on_cuda():
    """The fused kernel wants its count of steps on the GPU too."""
    layer = nn.Linear(3, 2, device="cuda")
    for restored in (False, True):
        optimizer = build_optimizer(layer, OptimizerSettings())
        if restored:
            restore_optimizer(layer, optimizer, saved)
        layer(torch.ones(2, 3, device="cuda")).sum().backward()
        optimizer.step()
        saved = {name: tensor.cpu() for name, tensor in optimizer_tensors(layer, optimizer).items()}
    assert float(saved["optimizer.weight.step"]) == 2


def test_the_state_is_named_by_parameter():
    layer = nn.Linear(1, 1)
    optimizer = build_optimizer(layer, OptimizerSettings())
    assert optimizer_tensors(layer, optimizer) == {}
    layer(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    assert set(optimizer_tensors(layer, optimizer)) == {
        f"optimizer.{name}.{key}" for name in ("weight", "bias") for key in ("step", "exp_avg", "exp_avg_sq")
    }
