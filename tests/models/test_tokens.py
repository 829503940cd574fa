"""Patch tokens: what is left out, which layout a network has, where on the image a token lies, refusals."""

import pytest
import torch
from torch import nn

from syn2co.core.errors import EvaluationError
from syn2co.evaluation.baselines import RawPixels
from syn2co.models.encoder import Encoder, build_encoder
from syn2co.models.settings import EncoderSettings
from syn2co.models.tokens import encoder_tokens, token_grid

VIT = {"patch_size": 8, "depth": 1, "embed_dim": 24, "num_heads": 2}
SWIN = {"patch_size": 2, "window_size": 4, "embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2)}


def build(name: str, size: int, **options) -> Encoder:
    return build_encoder(EncoderSettings(name=name, options=options, size=size), seed=0).eval()


def inputs(encoder: Encoder, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, encoder.image_size, encoder.image_size, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def networks() -> dict[str, Encoder]:
    """One of each layout: tokens with and without a class token, [B, h, w, D] and [B, D, h, w]."""
    return {
        "vit": build("vit_tiny_patch16_224", 32, **VIT),
        "vit, average": build("vit_tiny_patch16_224", 32, **VIT, class_token=False, global_pool="avg", fc_norm=False),
        "swin": build("swin_tiny_patch4_window7_224", 32, **SWIN),
        "pvt": build("pvt_v2_b0", 64, depths=(1, 1, 1, 1)),
    }


@pytest.mark.parametrize(
    ("name", "tokens", "grid"),
    [
        ("vit", (16, 24), (4, 4)),
        ("vit, average", (16, 24), (4, 4)),
        ("swin", (64, 16), (8, 8)),
        ("pvt", (4, 256), (2, 2)),
    ],
)
def test_shapes(networks, name, tokens, grid):
    with torch.no_grad():
        found, places = encoder_tokens(networks[name], inputs(networks[name]))
    assert found.shape == (2, *tokens) and places == grid
    assert token_grid(networks[name]) == (tokens[1], grid)


@pytest.mark.parametrize("name", ["vit, average", "swin", "pvt"])
def test_their_mean_is_the_feature_where_the_network_averages(networks, name):
    """So neither axis nor layout can be mistaken, and no token is lost or doubled."""
    images = inputs(networks[name])
    with torch.no_grad():
        tokens, _ = encoder_tokens(networks[name], images)
        assert torch.allclose(tokens.mean(dim=1), networks[name](images), atol=1e-5)


def test_the_class_token_is_left_out(networks):
    images = inputs(networks["vit"])
    with torch.no_grad():
        whole = networks["vit"].backbone.forward_features(images)
        tokens, _ = encoder_tokens(networks["vit"], images)
        assert torch.equal(whole[:, 0], networks["vit"](images))
    assert torch.equal(tokens, whole[:, 1:])


def test_registers_are_left_out_too():
    encoder = build("vit_tiny_patch16_224", 16, **VIT, reg_tokens=4)
    with torch.no_grad():
        assert encoder_tokens(encoder, inputs(encoder))[0].shape == (2, 4, 24)


def test_a_class_token_that_timm_does_not_count_is_left_out():
    """CaiT's model has no `num_prefix_tokens`; its class token comes first."""
    encoder = build("cait_xxs24_224", 32, patch_size=8, depth=1, depth_token_only=1, embed_dim=16, num_heads=2)
    images = inputs(encoder)
    with torch.no_grad():
        tokens, grid = encoder_tokens(encoder, images)
        assert torch.equal(tokens, encoder.backbone.forward_features(images)[:, 1:]) and grid == (4, 4)


@pytest.mark.parametrize("name", ["vit", "swin"])
def test_a_token_is_where_its_patch_is(networks, name):
    """Another patch in row r and column c moves token r * w + c the most."""
    encoder = networks[name]
    images = inputs(encoder, 1)
    with torch.no_grad():
        tokens, (rows, columns) = encoder_tokens(encoder, images)
        side = encoder.image_size // rows
        for row, column in ((0, 1), (rows - 1, 0), (1, columns - 1)):
            other = images.clone()
            other[:, :, row * side : (row + 1) * side, column * side : (column + 1) * side] *= -3
            moved = (encoder_tokens(encoder, other)[0] - tokens).norm(dim=2)[0]
            assert int(moved.argmax()) == row * columns + column


class Map(nn.Module):
    """A network whose map has as many columns as features, so that the shape leaves both layouts open."""

    def __init__(self, output_fmt: str | None) -> None:
        super().__init__()
        self.num_features = 4
        if output_fmt is not None:
            self.output_fmt = output_fmt

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return torch.arange(32.0).view(1, 4, 2, 4)


@pytest.mark.parametrize(
    ("output_fmt", "second", "grid"), [("NHWC", [4.0, 5, 6, 7], (4, 2)), (None, [1.0, 9, 17, 25], (2, 4))]
)
def test_the_word_of_the_network_counts_where_the_shape_is_open(output_fmt, second, grid):
    encoder = nn.Module()
    encoder.backbone = Map(output_fmt)
    tokens, places = encoder_tokens(encoder, torch.zeros(1, 3, 8, 8))
    assert places == grid and tokens[0, 1].tolist() == second


def test_networks_without_patch_tokens_are_refused():
    message = (
        r"pit_ti_224: an encoder without patch tokens \(1 tokens, 1 of them prefix, are no square grid\); ask for "
    )
    tiny = {"base_dims": (8, 8, 8), "depth": (1, 1, 1), "heads": (1, 2, 2)}
    encoder = build("pit_ti_224", 64, **tiny)
    with pytest.raises(EvaluationError, match=message + "pooled features, or take a ViT or a Swin"):
        encoder_tokens(encoder, inputs(encoder))
    pixels = RawPixels(16, 1.0, (0.0,) * 3, (1.0,) * 3)
    with pytest.raises(EvaluationError, match=r"RawPixels: an encoder without patch tokens \(it has no feature map\)"):
        encoder_tokens(pixels, torch.zeros(1, 3, 16, 16))
    encoder.backbone.forward_features = lambda images: [images, images]
    with pytest.raises(EvaluationError, match=r"\(its features before pooling are neither tokens nor a map\)"):
        token_grid(encoder)


def test_the_mode_is_given_back():
    encoder = build("vit_tiny_patch16_224", 16, **VIT).train()
    encoder.backbone.norm.eval()
    token_grid(encoder)
    assert encoder.training and not encoder.backbone.norm.training
