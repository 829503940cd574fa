"""`embed`: rows, names, labels and metadata of the file, refusals before the work; ranks are in test_ranks.py."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from evaluation_folders import TINY, paint

from syn2co.core.errors import CheckpointError, DataError, EvaluationError, FileError
from syn2co.core.versions import __version__
from syn2co.data.open import open_images
from syn2co.evaluation import embed as module
from syn2co.evaluation.embed import embed
from syn2co.evaluation.features import encoder_hash, extract
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.models.encoder import Encoder, build_encoder
from syn2co.runtime import device

SETTINGS = EvaluationSettings(device="cpu", batch_size=4)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return build_encoder(TINY, seed=1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Eleven images in three classes."""
    return paint(tmp_path_factory.mktemp("home") / "photos", {"blue": 4, "green": 2, "red": 5})


def features_of(path: Path) -> np.ndarray:
    column = pq.read_table(path)["feature"].combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1)


def metadata_of(path: Path) -> dict:
    return json.loads(pq.read_schema(path).metadata[b"syn2co"])


def test_rows_are_the_images_with_name_source_and_class(encoder, photos, tmp_path):
    done = embed(encoder, [photos, "builtin:digits:test"], tmp_path / "new" / "all.parquet", settings=SETTINGS)
    images = open_images([photos, "builtin:digits:test"])
    table = pq.read_table(done.path)
    assert table.column_names == ["name", "source", "class", "feature"]
    assert done == (tmp_path / "new" / "all.parquet", len(images), 12, None, 0)
    assert table["name"].to_pylist()[:5] == ["blue/0.png", "blue/1.png", "blue/2.png", "blue/3.png", "green/0.png"]
    assert table["source"].to_pylist() == 11 * ["photos"] + 355 * ["builtin:digits:test"]
    assert table["class"].to_pylist() == [images.classes[label] for label in images.labels]
    assert str(table.schema.field("feature").type) == "fixed_size_list<element: float>[12]"
    assert np.array_equal(features_of(done.path), extract(encoder, images, batch_size=4).numpy())


@pytest.mark.skipif(sys.platform != "linux", reason="file systems elsewhere want names in UTF-8")
def test_names_that_are_no_text_are_written_as_their_bytes(encoder, tmp_path):
    folder = paint(tmp_path / "plain", {"blue": 1, "green": 1}).rename(tmp_path / "caf\udce9")
    (folder / "green").rename(folder / "gr\udcfcn")
    table = pq.read_table(embed(encoder, folder, tmp_path / "odd.parquet", settings=SETTINGS).path)
    assert table["source"].to_pylist() == 2 * ["caf\\xe9"]
    assert table["class"].to_pylist() == ["blue", "gr\\xfcn"]


def test_patch_tokens_row_after_row(encoder, photos, tmp_path):
    done = embed(encoder, photos, tmp_path / "tokens.parquet", tokens=True, settings=SETTINGS)
    assert (done.width, done.grid) == (12, (2, 2))
    wanted = extract(encoder, open_images(photos), batch_size=4, tokens=True)
    assert np.array_equal(features_of(done.path).reshape(11, 4, 12), wanted.numpy())
    assert metadata_of(done.path)["grid"] == [2, 2]


def test_metadata_say_where_features_come_from_and_no_path(encoder, photos, tmp_path):
    done = embed(encoder, [photos], tmp_path / "a.parquet", settings=SETTINGS)
    assert metadata_of(done.path) == {
        "syn2co": __version__,
        "encoder": {
            "name": TINY.name,
            "hash": encoder_hash(encoder),
            "image_size": 16,
            "crop_ratio": 1.0,
            "interpolation": "bilinear",
            "squash": False,
            "provenance": {"weights": "random"},
        },
        "precision": "float32",
        "data_fingerprint": open_images(photos).fingerprint,
        "images": 11,
        "left_out": 0,
        "sources": ["photos"],
        "width": 12,
        "grid": None,
    }
    assert str(photos.parent).encode() not in done.path.read_bytes()


def test_images_without_labels_have_no_class_column_and_some_have_none(encoder, photos, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, path in enumerate(sorted(photos.rglob("*.png"))[:3]):
        (flat / f"{number}.png").write_bytes(path.read_bytes())
    done = embed(encoder, flat, tmp_path / "flat.parquet", settings=SETTINGS)
    assert pq.read_table(done.path).column_names == ["name", "source", "feature"]
    both = embed(encoder, [flat, photos], tmp_path / "both.parquet", settings=SETTINGS)
    assert pq.read_table(both.path)["class"].to_pylist()[:4] == [None, None, None, "blue"]


def test_broken_images_are_left_out_and_counted(encoder, photos, tmp_path):
    for path in photos.rglob("*.png"):
        copy = tmp_path / "set" / path.relative_to(photos)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (tmp_path / "set" / "blue" / "1.png").write_bytes(b"no image")
    settings = SETTINGS.with_settings(["max_broken_share=0.5"])
    done = embed(encoder, tmp_path / "set", tmp_path / "a.parquet", settings=settings)
    assert (done.images, done.left_out, metadata_of(done.path)["left_out"]) == (10, 1, 1)
    assert "blue/1.png" not in pq.read_table(done.path)["name"].to_pylist()
    with pytest.raises(DataError, match="1 of 11 images are broken"):
        embed(
            encoder,
            tmp_path / "set",
            tmp_path / "b.parquet",
            settings=SETTINGS.with_settings(["max_broken_share=0"]),
        )


def test_row_groups_bound_the_memory_and_change_nothing(encoder, photos, tmp_path, monkeypatch):
    whole = embed(encoder, photos, tmp_path / "a.parquet", settings=SETTINGS).path
    monkeypatch.setattr(module, "_GROUP_BYTES", 5 * 12 * 4)  # five images, so two batches of four
    parts = embed(encoder, photos, tmp_path / "b.parquet", settings=SETTINGS).path
    file = pq.ParquetFile(parts)
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [8, 3]
    assert pq.read_table(parts).equals(pq.read_table(whole), check_metadata=True)


def test_a_file_that_is_there_stays_unless_forced(encoder, photos, tmp_path):
    path = tmp_path / "a.parquet"
    path.write_text("mine")
    message = "--out a.parquet: this file is already there; name another one or replace it by --force"
    with pytest.raises(EvaluationError, match=message):
        embed(encoder, photos, path, settings=SETTINGS)
    assert path.read_text() == "mine"
    assert embed(encoder, photos, path, settings=SETTINGS, force=True).images == len(pq.read_table(path))


@pytest.mark.parametrize("name", ["a.csv", "a.npz", "a"])
def test_other_formats_are_refused(encoder, photos, tmp_path, name):
    message = f"--out {name}: features are written as Parquet; give the file a name that ends in .parquet"
    with pytest.raises(EvaluationError, match=message):
        embed(encoder, photos, tmp_path / name)


def test_a_folder_is_refused(encoder, photos, tmp_path):
    (tmp_path / "a.parquet").mkdir()
    with pytest.raises(
        EvaluationError, match=r"--out a.parquet: this is a folder; name a file in it, such as features"
    ):
        embed(encoder, photos, tmp_path / "a.parquet", force=True)


def test_pyarrow_is_asked_for(encoder, photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    message = r"needs the package pyarrow, which is not installed; pip install 'syn2co\[embed\]'"
    with pytest.raises(EvaluationError, match=message):
        embed(encoder, photos, tmp_path / "a.parquet")


def test_nothing_is_left_of_work_that_failed(encoder, photos, tmp_path):
    broken = build_encoder(TINY, seed=1)
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    with pytest.raises(EvaluationError, match=r"vit_tiny_patch16_224: 4 of 4 images give features .* 0:blue/0.png"):
        embed(broken, photos, tmp_path / "a.parquet", settings=SETTINGS)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"--out a.parquet: cannot be written \(.*; fix that and run the same command"):
        embed(encoder, photos, tmp_path / "file" / "a.parquet", settings=SETTINGS)
    with pytest.raises(CheckpointError):
        embed(tmp_path / "no-run", photos, tmp_path / "a.parquet", settings=SETTINGS)


def test_a_network_without_patch_tokens_is_refused_before_the_images_are_opened(tmp_path):
    from syn2co.models.settings import EncoderSettings

    options = {"base_dims": (8, 8, 8), "depth": (1, 1, 1), "heads": (1, 2, 2)}
    pit = build_encoder(EncoderSettings(name="pit_ti_224", options=options, size=64), seed=0)
    with pytest.raises(EvaluationError, match="pit_ti_224: an encoder without patch tokens"):
        embed(pit, tmp_path / "nowhere", tmp_path / "a.parquet", tokens=True, settings=SETTINGS)


def test_the_command(photos, tmp_path, run, monkeypatch):
    calls = []
    monkeypatch.setattr(module, "load_encoder", lambda path, branch: calls.append((path, branch)) or tiny_encoder())
    out = tmp_path / "a.parquet"
    words = ["embed", "runs/one", photos, "--out", out, "--quiet", "--device", "cpu"]
    assert run(*words, "--branch", "target", "--tokens") == (
        0, f"{out}: 11 images, 2 x 2 tokens of 12 features each\n", "",
    )  # fmt: skip
    assert calls == [("runs/one", "target")]
    code, _, said = run(*words)
    assert code == 2 and said.startswith("EvaluationError: --out a.parquet: this file is already there")
    assert run(*words, "--force") == (0, f"{out}: 11 images, 12 features each\n", "")


def tiny_encoder() -> Encoder:
    return build_encoder(TINY, seed=1)


@pytest.mark.parametrize("emulates", [True, False])
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_precision_that_is_only_emulated_is_noted(
    emulates, precision, encoder, photos, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(device, "emulates_bfloat16", lambda kind: emulates)
    embed(encoder, photos, tmp_path / "x.parquet", settings=SETTINGS.with_settings([f"precision={precision}"]))
    said = "precision = bfloat16: is only emulated by this device" in capsys.readouterr().err
    assert said is (emulates and precision == "bfloat16")
