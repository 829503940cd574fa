"""Encoders by their timm name, the two branches, and what comes back from a checkpoint."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from syn2co.core.errors import CheckpointError, ConfigError, Syn2CoError
from syn2co.models.batch_norm import SyncBatchNorm
from syn2co.models.encoder import build_encoder
from syn2co.models.heads import Branch, build_branches, head
from syn2co.models.init import sincos_positions
from syn2co.models.load import load_encoder
from syn2co.models.settings import EncoderSettings, HeadSettings
from syn2co.models.state import load_exactly
from syn2co.runtime.checkpoint import load_checkpoint, save_checkpoint

HEADS = HeadSettings(hidden=12, width=6)
SWIN = {"embed_dim": 12, "depths": (2, 2), "num_heads": (2, 2)}


def _settings(name: str = "test_vit", size: int = 32, **more) -> EncoderSettings:
    return EncoderSettings(name=name, size=size, **more)


def _images(count: int, size: int, seed: int = 0) -> torch.Tensor:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return torch.from_numpy(pixels)


@pytest.mark.parametrize(
    "name, size, options, width",
    [
        ("test_vit", 32, {}, 64),
        ("vit_tiny_patch16_224", 24, {"patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2}, 32),
        ("swin_tiny_patch4_window7_224", 36, SWIN, 24),  # a size that neither patch 4 x 2 nor window 7 divides
        ("swin_tiny_patch4_window7_224", 50, SWIN, 24),
        ("test_resnet", 40, {}, 96),
        ("test_convnext", 33, {}, 64),
        ("mobilenetv3_small_050", 32, {}, 1024),  # whose last block has another width
        ("dla46_c", 32, {}, 256),  # which knows neither image sizes nor drop path
    ],
)
def test_any_network_of_timm_at_any_size_it_takes(name, size, options, width):
    encoder = build_encoder(_settings(name, size, options=options), seed=0)
    features = encoder.eval()(encoder.preprocess(_images(2, size)))
    assert features.shape == (2, width) == (2, encoder.width)
    assert encoder.image_size == size
    assert encoder.crop_ratio == 1.0


def test_large_images_are_cropped_for_evaluation():
    assert build_encoder(_settings(size=160), seed=0).crop_ratio == 0.875


def test_an_unknown_name_is_answered_with_near_ones():
    with pytest.raises(
        ConfigError, match=r"encoder.name = deit_smal_patch16: timm has no such model; did you mean .*deit_"
    ):
        build_encoder(_settings("deit_smal_patch16"), seed=0)
    with pytest.raises(
        ConfigError, match=r"encoder.name = qqqq: timm has no such model; timm.list_models\(\) names them"
    ):
        build_encoder(_settings("qqqq"), seed=0)


def test_options_that_timm_refuses():
    with pytest.raises(ConfigError, match="encoder.options.dept = 3: is no option .* of test_vit; did you mean depth"):
        build_encoder(_settings(options={"dept": 3}), seed=0)
    with pytest.raises(ConfigError, match="encoder.options.qqqqqqqq = 3: is no option .* of test_vit; remove it"):
        build_encoder(_settings(options={"qqqqqqqq": 3}), seed=0)
    with pytest.raises(ConfigError, match="encoder: timm cannot build test_vit at views.size = 32 with .*num_heads"):
        build_encoder(_settings(options={"num_heads": 5}), seed=0)
    with pytest.raises(ConfigError, match="encoder: timm's dla46_c refuses its options .*; set encoder.drop_path=0"):
        build_encoder(_settings("dla46_c"), seed=0, drop_path=0.2)


def test_options_never_read_a_file_or_fetch(tmp_path, monkeypatch):
    """Parameters of timm.create_model and of its loading, from settings, a checkpoint, and a folder of timm's hub."""
    import inspect

    import timm

    loading = {"pretrained_strict", "pretrained_filter_fn", "pretrained_custom_load", "features_only", "kwargs_filter"}
    given = inspect.signature(timm.create_model).parameters.keys() - {"model_name", "kwargs"} | loading
    assert {"pretrained", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"} <= given
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("it was passed on"))
    for option in sorted(given):
        options, sentence = (
            {option: "evil.pth"},
            f"encoder.options.{option} = evil.pth: is no option of the architecture",
        )
        with pytest.raises(ConfigError, match=sentence):
            build_encoder(_settings(options=options), seed=0)
        folder = tmp_path / option
        folder.mkdir()
        config = {"architecture": "test_vit", "model_args": options, "pretrained_cfg": {"input_size": [3, 32, 32]}}
        (folder / "config.json").write_text(json.dumps(config))
        save_file({"x": torch.zeros(1)}, folder / "model.safetensors")
        state = {"encoder": {**_settings().model_dump(mode="json"), "options": options}, "config_hash": "0"}
        save_checkpoint(folder / "run", 1, {"online.x": torch.zeros(1)}, state, keep=1)
        for source in (folder, folder / "run"):
            with pytest.raises(Syn2CoError, match=sentence):
                load_encoder(source)


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    one = build_encoder(_settings(), seed=0).state_dict()
    torch.manual_seed(2)
    before = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())
    two, other = (build_encoder(_settings(), seed=seed).state_dict() for seed in (0, 1))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (np.random.get_state()[1].tolist(), random.getstate())


def test_preprocessing_by_hand():
    settings = _settings(mean=(0.5, 0.0, 0.25), std=(0.25, 1.0, 0.5))
    pixels = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    pixels[0, 2, 3] = torch.tensor([255, 51, 0])
    out = build_encoder(settings, seed=0).preprocess(pixels)
    assert out.shape == (1, 3, 32, 32) and out.dtype == torch.float32 and out.is_contiguous()
    torch.testing.assert_close(out[0, :, 2, 3], torch.tensor([(1 - 0.5) / 0.25, 0.2, -0.5]))


def _positions_of_moco_v3(height: int, width: int, dim: int) -> torch.Tensor:
    """Written from MoCo v3's published formula, entry by entry."""
    found = torch.zeros(height * width, dim)
    for row in range(height):
        for column in range(width):
            for i in range(dim // 4):
                omega = 10000 ** (-i / (dim // 4))
                token = found[row * width + column]
                token[i] = np.sin(column * omega)
                token[dim // 4 + i] = np.cos(column * omega)
                token[dim // 2 + i] = np.sin(row * omega)
                token[3 * dim // 4 + i] = np.cos(row * omega)
    return found


def test_sine_cosine_positions():
    torch.testing.assert_close(sincos_positions((2, 3), 16), _positions_of_moco_v3(2, 3, 16))
    with pytest.raises(ConfigError, match="need a width that is a multiple of 4, not 18"):
        sincos_positions((2, 2), 18)


def test_moco_v3s_start():
    options = {"embed_dim": 48, "depth": 2, "num_heads": 12, "patch_size": 8}
    vit = build_encoder(_settings("vit_small_patch16_224", options=options, init="moco_v3"), seed=0).backbone
    torch.testing.assert_close(vit.pos_embed[0, 1:], _positions_of_moco_v3(4, 4, 48))
    assert float(vit.pos_embed[0, 0].abs().max()) == 0 and not vit.pos_embed.requires_grad
    assert vit.blocks[0].attn.num_heads == 12
    assert 0 < float(vit.cls_token.detach().abs().max()) < 1e-5
    for layer, bound in (
        (vit.blocks[1].attn.qkv, (6 / (48 + 48)) ** 0.5),  # q, k and v each as a matrix of its own
        (vit.blocks[0].mlp.fc1, (6 / (48 + 192)) ** 0.5),
        (vit.patch_embed.proj, (6 / (3 * 8 * 8 + 48)) ** 0.5),
    ):
        assert 0.95 * bound < float(layer.weight.detach().abs().max()) <= bound
        assert float(layer.bias.detach().abs().max()) == 0
    with pytest.raises(ConfigError, match="encoder.init = moco_v3: only a timm vision transformer with a class token"):
        build_encoder(_settings("test_resnet", init="moco_v3"), seed=0)


def test_the_heads_have_no_normalization_at_their_end():
    layers = list(head(5, HEADS))
    assert [type(layer) for layer in layers] == [nn.Linear, SyncBatchNorm, nn.ReLU, nn.Linear]
    assert [(layers[0].in_features, layers[0].out_features), (layers[3].in_features, layers[3].out_features)] == [
        (5, 12), (12, 6),
    ]  # fmt: skip
    assert layers[0].bias is not None and layers[3].bias is not None


def _branch(name: str = "test_vit") -> Branch:
    return build_branches(_settings(name), HEADS, drop_path=0.0, seed=0)[0].double()


def _no_drops(branch: Branch, rows: int) -> torch.Tensor:
    return torch.zeros(len(branch.encoder.drop_layers), 2, rows)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_a_view_never_sees_the_other(name):
    """Neither in the heads nor, where it has batch norm, in the encoder; else a network can cheat."""
    branch, views = _branch(name), torch.stack([_images(4, 32, 1), _images(4, 32, 2)])
    one, two, features = branch(views, _no_drops(branch, 4))
    views[1] = 255 - views[1]
    same, other, same_features = branch(views, _no_drops(branch, 4))
    torch.testing.assert_close(same, one, atol=1e-12, rtol=0)
    torch.testing.assert_close(same_features, features, atol=1e-12, rtol=0)
    assert (other - two).abs().max().item() > 1e-3
    assert int(branch.projector[1].num_batches_tracked) == 4, "one update a view"


def test_embeddings_have_unit_length_and_features_no_gradient():
    branch = _branch()
    one, two, features = branch(torch.stack([_images(3, 32, 1), _images(3, 32, 2)]), _no_drops(branch, 3))
    for part in (one, two):
        torch.testing.assert_close(part.norm(dim=1), torch.ones(3, dtype=torch.float64))
        assert part.shape == (3, 6) and part.requires_grad
    assert features.shape == (3, 64) and not features.requires_grad


def test_both_branches_start_equal_and_only_one_learns():
    online, target = build_branches(_settings(), HEADS, drop_path=0.3, seed=4)
    own = online.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in target.state_dict().items())
    assert {name.split(".")[0] for name in own.keys() - target.state_dict().keys()} == {"predictor"}
    assert not any(parameter.requires_grad for parameter in target.parameters())
    assert all(parameter.requires_grad for parameter in online.parameters())
    assert len(online.encoder.drop_layers) == 10 and target.encoder.drop_layers == []


@pytest.mark.parametrize(
    "assignments",
    [
        (),
        ("encoder.init=moco_v3",),
        ("encoder.name=test_resnet", "encoder.options={}", "views.size=32"),
        ("encoder.name=swin_tiny_patch4_window7_224", "views.size=32",
         'encoder.options={"embed_dim": 12, "depths": [2, 2], "num_heads": [2, 2]}'),
    ],
    ids=["vit", "moco_v3", "resnet", "swin"],
)  # fmt: skip
def test_a_trained_encoder_comes_back(assignments, tiny, tmp_path, monkeypatch):
    import syn2co.pretraining.preparation as module
    from syn2co.pretraining.train import pretrain

    models = []
    monkeypatch.setattr(module, "Syn2Co", lambda *args: models.append(_Syn2Co(*args)) or models[0])
    config = tiny(*assignments, "training.steps=4", "encoder.mean=[0.1,0.2,0.3]")
    pretrain(config, out=tmp_path / "run", progress=False)
    images = _images(5, config.views.size, 3)
    for branch in ("online", "target"):
        trained = getattr(models[0], branch).encoder.eval()
        loaded = load_encoder(tmp_path / "run", branch=branch)
        assert not loaded.training and loaded.spec == config.encoder_spec
        with torch.no_grad():
            expected, found = (each(each.preprocess(images)) for each in (trained, loaded))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)  # training has its own attention kernels
        assert all(torch.equal(value, trained.state_dict()[name]) for name, value in loaded.state_dict().items())
        assert loaded.provenance == {
            "weights": "run", "branch": branch, "step": 4, "config_hash": config.hash,
        }  # fmt: skip
    one, two = (load_encoder(tmp_path / "run", branch=branch).state_dict() for branch in ("online", "target"))
    assert not all(torch.equal(one[name], two[name]) for name in one)
    path = load_checkpoint(tmp_path / "run").path
    assert load_encoder(path).provenance["weights"] == "step-000000004.safetensors"


def _Syn2Co(*args):
    from syn2co.pretraining.method import Syn2Co

    return Syn2Co(*args)


def _checkpoint(run: Path, change) -> Path:
    """Write a checkpoint of an encoder alone, changed."""
    settings = _settings()
    tensors = {f"online.encoder.{name}": value for name, value in build_encoder(settings, seed=0).state_dict().items()}
    state = {"encoder": settings.model_dump(mode="json"), "config_hash": "0"}
    change(tensors, state)
    return save_checkpoint(run, 1, tensors, state, keep=2)


def _rename(tensors, _):
    for name in list(tensors):
        tensors[name.replace("online", "model")] = tensors.pop(name)


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda tensors, _: tensors.pop("online.encoder.backbone.norm.bias"), "has no tensor 'backbone.norm.bias'; it"),
        (_rename, "the checkpoint has no tensor 'backbone"),
        (lambda tensors, _: tensors.update({"online.encoder.more": torch.zeros(1)}), "tensor 'more' is unknown to"),
        (lambda tensors, _: tensors.update({"online.encoder.backbone.norm.bias": torch.zeros(3)}),
         r"tensor 'backbone.norm.bias' has shape \[3\] in the checkpoint, but \[64\] in this model"),
        (lambda _, state: state["encoder"].update(name="test_vit2"), "checkpoint"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused(change, sentence, tmp_path):
    with pytest.raises(CheckpointError, match=sentence):
        load_encoder(_checkpoint(tmp_path, change))


def test_paths_that_are_no_encoder(tmp_path):
    with pytest.raises(CheckpointError, match="branch = teacher: must be 'online' or 'target'"):
        load_encoder(tmp_path, branch="teacher")
    with pytest.raises(CheckpointError, match="has no checkpoint yet"):
        load_encoder(tmp_path)
    with pytest.raises(CheckpointError, match="does not exist; give a run folder or a checkpoint file"):
        load_encoder(tmp_path / "nothing.safetensors")
    with pytest.raises(ConfigError, match="encoder.name = vit_tinny: timm has no such model; did you mean"):
        load_encoder("timm:vit_tinny")


def test_fit_state_names_the_model():
    layer = nn.Linear(2, 1)
    load_exactly(layer, {"weight": torch.ones(1, 2), "bias": torch.ones(1)}, "x")
    assert layer.weight.tolist() == [[1.0, 1.0]]
    with pytest.raises(CheckpointError, match="^x: the checkpoint has no tensor 'bias'; it is of another model$"):
        load_exactly(layer, {"weight": torch.ones(1, 2)}, "x")


def test_pretrained_weights_that_cannot_be_fetched(monkeypatch):
    import timm

    real = timm.create_model

    def away(name, pretrained=False, **options):
        if pretrained:
            raise RuntimeError("cannot reach the hub\nand much more")
        return real(name, **options)

    monkeypatch.setattr(timm, "create_model", away)
    sentence = r"timm:vit_tiny_patch16_224: its weights cannot be fetched \(cannot reach the hub\); check the network"
    with pytest.raises(CheckpointError, match=sentence):
        load_encoder("timm:vit_tiny_patch16_224")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("test_resnet", "the running statistics of test_resnet would count"), ("pit_ti_224", "timm cannot do this for")],
)
def test_encoders_whose_activations_cannot_be_computed_again_are_refused(name: str, reason: str) -> None:
    encoder = build_encoder(EncoderSettings(name=name, size=224 if name == "pit_ti_224" else 32), seed=0)
    with pytest.raises(ConfigError, match=reason):
        encoder.checkpoint_activations()


@pytest.mark.parametrize("pinned", [True, False])
def test_only_a_gpu_that_copies_from_pinned_memory_may_be_late(pinned, monkeypatch):
    encoder, late, move = build_encoder(_settings(), seed=0), list[bool](), torch.Tensor.to

    def to(self, *args, **named):
        late.append(named.get("non_blocking", False))
        return move(self, *args, **named)

    monkeypatch.setattr("syn2co.models.encoder.PINNED", {"cpu"} if pinned else {"cuda"})
    monkeypatch.setattr(torch.Tensor, "to", to)
    encoder.preprocess(_images(1, 32))
    assert late[0] is pinned
