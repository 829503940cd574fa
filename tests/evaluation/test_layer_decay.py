"""Learning rates by layer: factors by hand, every parameter once, and networks of which timm knows no layers."""

import pytest
import torch
from evaluation_folders import TINY
from torch import nn

from syn2co.evaluation.layer_decay import layer_numbers, parameter_groups
from syn2co.models.encoder import build_encoder
from syn2co.models.settings import EncoderSettings

DEEP = TINY.model_copy(update={"options": {**TINY.options, "depth": 2}})


def scales(encoder, **settings):
    """(lr_scale, weight_decay) of every parameter by name, and the number of layers."""
    head = nn.Linear(encoder.width, 3)
    groups, layers = parameter_groups(encoder, head, **{"layer_decay": 0.5, "weight_decay": 0.05, **settings})
    by_id = {id(p): (group["lr_scale"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert len(by_id) == sum(len(group["params"]) for group in groups)  # none is in two groups
    named = [*encoder.named_parameters(), *head.named_parameters(prefix="head")]
    return {name: by_id.get(id(parameter)) for name, parameter in named}, layers


def test_factors_by_hand():
    """Patches, block 0, block 1, head: layers 0 to 3, so 1/8, 1/4, 1/2 and 1; the last norm goes with block 1."""
    found, layers = scales(build_encoder(DEEP, seed=0))
    assert layers == 4
    assert found["backbone.patch_embed.proj.weight"] == (0.125, 0.05)
    assert found["backbone.patch_embed.proj.bias"] == (0.125, 0.0)
    assert found["backbone.cls_token"] == found["backbone.pos_embed"] == (0.125, 0.0)
    assert found["backbone.blocks.0.attn.qkv.weight"] == (0.25, 0.05)
    assert found["backbone.blocks.1.mlp.fc2.weight"] == (0.5, 0.05)
    assert found["backbone.norm.weight"] == (0.5, 0.0)
    assert found["head.weight"] == (1.0, 0.05) and found["head.bias"] == (1.0, 0.0)
    assert None not in found.values()


def test_timm_gives_the_same_factors():
    """Theirs see a classifier of their own; ours takes its place."""
    import timm
    from timm.optim import param_groups_layer_decay

    options = {"img_size": 16, "num_classes": 3, **DEEP.options}
    theirs = timm.create_model(DEEP.name, **options)
    spared = theirs.no_weight_decay()
    groups = param_groups_layer_decay(theirs, 0.05, no_weight_decay_list=spared, layer_decay=0.5)
    by_id = {id(p): (group["lr_scale"], group["weight_decay"]) for group in groups for p in group["params"]}
    wanted = {name: by_id[id(parameter)] for name, parameter in theirs.named_parameters()}
    found, _ = scales(build_encoder(DEEP, seed=0))
    assert {name.removeprefix("backbone."): value for name, value in found.items()} == wanted


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "pvt_v2_b0", "resnet18"])
def test_layers_rise_towards_the_head(name):
    with torch.device("meta"):
        import timm

        numbers = layer_numbers(timm.create_model(name, num_classes=0))
    assert numbers is not None
    assert numbers["head.weight"] == max(numbers.values()) > 3
    assert min(numbers.values()) == 0 == next(iter(numbers.values()))


def test_a_decay_of_one_is_none():
    found, _ = scales(build_encoder(DEEP, seed=0), layer_decay=1.0)
    assert {value[0] for value in found.values()} == {1.0}


def test_fixed_positions_are_in_no_group():
    encoder = build_encoder(DEEP.model_copy(update={"init": "moco_v3"}), seed=0)
    found, _ = scales(encoder)
    assert [name for name, value in found.items() if value is None] == ["backbone.pos_embed"]


@pytest.mark.parametrize("matcher", [None, lambda coarse: {}])
def test_without_layers_all_have_the_same_rate(matcher, monkeypatch):
    encoder = build_encoder(DEEP, seed=0)
    if matcher is None:
        monkeypatch.delattr(type(encoder.backbone), "group_matcher")
    else:
        monkeypatch.setattr(type(encoder.backbone), "group_matcher", lambda _self, coarse: matcher(coarse))
    assert layer_numbers(encoder.backbone) is None
    found, layers = scales(encoder)
    assert layers == 1 and {value[0] for value in found.values()} == {1.0}


def test_networks_without_a_bias_or_with_channels_have_their_groups():
    spec = EncoderSettings(name="resnet18", size=32)
    found, layers = scales(build_encoder(spec, seed=0))
    assert layers == 10 and None not in found.values()
    assert found["backbone.conv1.weight"] == (0.5**9, 0.05)
    assert found["backbone.layer4.1.bn2.weight"] == (0.5, 0.0)
