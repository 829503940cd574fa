"""Keyed stochastic depth: the law of timm's, the draws of nobody but the key."""

import numpy as np
import pytest
import torch
from torch import nn

from syn2co.core.errors import ConfigError
from syn2co.models.drop_path import (
    KeyedDropPath,
    drop_path_uniforms,
    refuse_dropout,
    set_drop_path,
    use_keyed_drop_path,
)
from syn2co.models.encoder import build_encoder
from syn2co.models.settings import EncoderSettings

KEY = {"seed": 0, "epoch": 3, "view": 1}


def test_whole_images_are_dropped_and_the_rest_scaled():
    layer = KeyedDropPath(0.25)
    layer.uniforms = torch.tensor([0.0, 0.2499, 0.25, 0.9])
    branch = torch.arange(1.0, 25.0).view(4, 2, 3)
    out = layer(branch)
    assert torch.equal(out[:2], torch.zeros(2, 2, 3))
    torch.testing.assert_close(out[2:], branch[2:] / 0.75)


def test_rows_of_one_image_share_its_draw():
    layer = KeyedDropPath(0.5)
    layer.uniforms = torch.tensor([0.1, 0.9])
    assert layer(torch.ones(6, 1)).flatten().tolist() == [0, 0, 0, 2, 2, 2]
    with pytest.raises(AssertionError, match="the rows of an image together"):
        layer(torch.ones(5, 1))


@pytest.mark.parametrize(
    "name, size, options",
    [("mobilevit_xxs", 64, {}), ("tnt_s_patch16_224", 32, {"depth": 2, "embed_dim": 48, "num_heads_outer": 2})],
)
def test_networks_that_fold_patches_into_the_batch_drop_whole_images(name, size, options):
    """Dropped everywhere, image 1 has the features that it has alone; image 0 has those without drop path, scaled."""
    encoder = build_encoder(EncoderSettings(name=name, size=size, options=options), seed=0, drop_path=0.5).train()
    for layer in encoder.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eval()  # it would mix the images
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    uniforms = torch.tensor([0.999, 0.0]).repeat(len(encoder.drop_layers), 1)
    assert len(uniforms)
    with torch.no_grad():
        set_drop_path(encoder.drop_layers, uniforms)
        both = encoder(images)
        for number in range(2):
            set_drop_path(encoder.drop_layers, uniforms[:, number : number + 1])
            torch.testing.assert_close(both[number : number + 1], encoder(images[number : number + 1]))


def test_the_law_is_that_of_the_rate():
    images = torch.arange(40_000)
    layer = KeyedDropPath(0.3)
    (layer.uniforms,) = drop_path_uniforms(1, images, **KEY)
    out = layer(torch.ones(len(images), 1, dtype=torch.float64))
    dropped = float((out == 0).double().mean())
    assert abs(dropped - 0.3) < 4 * (0.3 * 0.7 / len(images)) ** 0.5
    assert abs(float(out.mean()) - 1) < 4 * (0.3 / 0.7 / len(images)) ** 0.5


def test_identity_in_evaluation_and_at_rate_zero():
    branch = torch.ones(2, 3)
    assert KeyedDropPath(0.5).eval()(branch) is branch
    assert KeyedDropPath(0.0)(branch) is branch


def test_a_forward_pass_without_draws_is_our_bug():
    with pytest.raises(AssertionError, match="set_drop_path must run"):
        KeyedDropPath(0.5)(torch.ones(2, 3))


def test_draws_belong_to_images_not_to_batch_positions():
    images = torch.tensor([7, 3, 11, 100_000_000_000, 0])
    whole = drop_path_uniforms(4, images, **KEY)
    order = torch.tensor([4, 2, 0, 1, 3])
    assert torch.equal(drop_path_uniforms(4, images[order], **KEY), whole[:, order])
    assert torch.equal(drop_path_uniforms(4, images[2:3], **KEY), whole[:, 2:3])
    assert torch.equal(drop_path_uniforms(2, images, **KEY), whole[:2]), "layers do not depend on how many there are"


@pytest.mark.parametrize("change", [{"seed": 1}, {"epoch": 4}, {"view": 2}])
def test_draws_depend_on_every_part_of_the_key(change):
    images = torch.arange(2000)
    one, two = drop_path_uniforms(2, images, **KEY), drop_path_uniforms(2, images, **{**KEY, **change})
    for left, right in ((one[0], two[0]), (one[0], one[1]), (one[0, :-1], one[0, 1:])):
        assert abs(float(np.corrcoef(left, right)[0, 1])) < 4 / 2000**0.5


def test_draws_are_uniform():
    uniforms = drop_path_uniforms(3, torch.arange(20_000), **KEY).flatten()
    counts = torch.histc(uniforms, 10, 0, 1)
    assert float(((counts - 6000) ** 2 / 6000).sum()) < 27.9  # chi-square, 9 degrees of freedom: one in a thousand
    assert float(uniforms.min()) >= 0 and float(uniforms.max()) < 1


def test_no_layers_no_draws():
    assert drop_path_uniforms(0, torch.arange(5), **KEY).shape == (0, 5)


def test_every_drop_path_of_timm_is_replaced():
    from timm.layers import DropPath

    for name in ("test_vit", "test_convnext", "test_resnet"):
        import timm

        module = timm.create_model(name, drop_path_rate=0.2, num_classes=0)
        rates = [layer.drop_prob for layer in module.modules() if isinstance(layer, DropPath)]
        assert len(rates) >= 2
        assert [layer.rate for layer in use_keyed_drop_path(module)] == [rate for rate in rates if rate]
        assert not any(isinstance(layer, DropPath) for layer in module.modules())


def test_deit_ramps_linearly_from_zero_to_the_rate():
    options = {"embed_dim": 12, "num_heads": 2, "patch_size": 16}
    encoder = build_encoder(
        EncoderSettings(name="deit_small_patch16_224", size=32, options=options), seed=0, drop_path=0.2
    )
    rates = [(block.drop_path1, block.drop_path2) for block in encoder.backbone.blocks]
    expected = np.linspace(0, 0.2, 12)
    for rate, pair in zip(expected, rates, strict=True):
        for layer in pair:
            assert getattr(layer, "rate", 0.0) == pytest.approx(rate)
    assert len(encoder.drop_layers) == 22


def test_swin_without_drop_path_really_has_none():
    """timm's Swin drops at 0.1 unless it is told otherwise."""
    options = {"embed_dim": 12, "depths": (2, 2), "num_heads": (2, 2)}
    settings = EncoderSettings(name="swin_tiny_patch4_window7_224", size=32, options=options)
    assert build_encoder(settings, seed=0, drop_path=0.0).drop_layers == []
    assert len(build_encoder(settings, seed=0, drop_path=0.1).drop_layers) == 6


def test_the_same_draws_give_timms_formula():
    from timm.layers.drop import drop_path

    branch = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    layer = KeyedDropPath(0.4)
    set_drop_path([layer], torch.tensor([[0.9, 0.1, 0.5, 0.3, 0.39, 0.4]]))
    kept = torch.tensor([1.0, 0, 1, 0, 0, 1])[:, None]
    torch.testing.assert_close(layer(branch), branch * kept / 0.6)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = drop_path(branch, 0.4, training=True)
    for row, own in zip(theirs, branch, strict=True):  # timm's scales what it keeps alike
        assert torch.equal(row, 0 * row) or torch.allclose(row, own / 0.6)


@pytest.mark.parametrize(
    "options, layer",
    [({"drop_rate": 0.1}, "Dropout"), ({"attn_drop_rate": 0.1}, "Dropout"), ({"patch_drop_rate": 0.5}, "PatchDropout")],
)
def test_other_dropout_is_refused(options, layer):
    """Its draws come from ambient state: neither workers nor restarts would give the same run."""
    with pytest.raises(ConfigError, match=rf"encoder.options: layer '.*' is a {layer} of rate 0.*encoder.drop_path"):
        build_encoder(EncoderSettings(name="test_vit", size=32, options=options), seed=0)


def test_dropout_of_rate_zero_is_welcome():
    refuse_dropout(nn.Sequential(nn.Dropout(0.0), KeyedDropPath(0.0)))
