"""Hugging Face's data sets, offline: folders of the datasets library, and its loader replaced."""

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tiny_images import picture

from syn2co.core.errors import DataError
from syn2co.data.open import open_images


@pytest.fixture
def hf(tmp_path: Path) -> Any:
    """A data set of four rows as the datasets library makes it."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"id": datasets.Value("int32"), "picture": datasets.Image(), "kind": datasets.ClassLabel(names=["dog", "ant"])}
    )
    rows = {"id": [1, 2, 3, 4], "picture": [picture(40 * n) for n in range(4)], "kind": [0, 1, 1, -1]}
    return datasets.Dataset.from_dict(rows, features=features)


def test_hf_folder(hf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hf.save_to_disk(str(tmp_path / "saved"))
    images = open_images(f"hf:{tmp_path / 'saved'}", cache_dir=tmp_path / "cache")
    assert images.classes == ("ant", "dog") and images.labels.tolist() == [1, 0, 0, -1]
    assert [int(images.read(row)[0, 0, 0]) for row in range(4)] == [0, 40, 80, 120]
    (tmp_path / "saved").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    assert open_images("hf:./moved", cache_dir=tmp_path / "cache").fingerprint == images.fingerprint


def test_hf_splits(hf: Any, tmp_path: Path) -> None:
    import datasets

    datasets.DatasetDict({"train": hf, "test": hf.select([3, 1])}).save_to_disk(str(tmp_path / "saved"))
    assert len(open_images(f"hf:{tmp_path / 'saved'}", cache_dir=tmp_path)) == 4
    test = open_images(f"hf:{tmp_path / 'saved'}:test", cache_dir=tmp_path)
    assert test.labels.tolist() == [-1, 0] and int(test.read(0)[0, 0, 0]) == 120
    with pytest.raises(DataError, match=r"saved:val: this data set cannot be opened \(its splits are train, test\)"):
        open_images(f"hf:{tmp_path / 'saved'}:val", cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("label", "classes"),
    [("number", ("0", "1", "2")), ("text", ("ant", "dog")), ("class", ("ant", "dog")), ("flag", ("0", "1"))],
)
def test_hf_files_of_any_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: str, classes: object) -> None:
    """Parquet by `datasets` and by others, whose columns have no type Image or ClassLabel; a file and a folder."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    encoded = [cv2.imencode(".png", np.asarray(picture(40 * n)))[1].tobytes() for n in range(3)]
    kinds: dict[str, tuple[str, Any, list[Any]]] = {
        "number": ("label", datasets.Value("int64"), [0, 2, None]),
        "text": ("class_name", datasets.Value("string"), ["dog", "ant", None]),
        "class": ("kind", datasets.ClassLabel(names=["dog", "ant"]), [0, 1, None]),
        "flag": ("target", datasets.Value("bool"), [True, False, None]),
    }
    name, kind, values = kinds[label]
    rows = [{"bytes": data} for data in encoded]
    image = {
        "number": (datasets.Value("binary"), encoded),
        "text": (
            {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
            [{"bytes": b} for b in encoded],
        ),
        "class": (datasets.Image(), rows),
        "flag": (datasets.Image(), rows),
    }[label]
    (tmp_path / "set").mkdir()
    stored = datasets.Dataset.from_dict(
        {"picture": image[1], name: values}, features=datasets.Features({"picture": image[0], name: kind})
    )
    stored.to_parquet(tmp_path / "set/test-00000.parquet")
    folder = open_images(f"hf:{tmp_path / 'set'}:test", cache_dir=tmp_path / "cache")
    assert folder.classes == classes and folder.labels.tolist()[2] == -1
    assert [folder.classes[n] for n in folder.labels[:2]] == {"number": ["0", "2"], "flag": ["1", "0"]}.get(
        label, ["dog", "ant"]
    )
    assert [int(folder.read(row)[0, 0, 0]) for row in range(3)] == [0, 40, 80]
    file = open_images(f"hf:{tmp_path / 'set/test-00000.parquet'}", cache_dir=tmp_path / "cache")
    assert file.fingerprint == folder.fingerprint


def test_hf_folder_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    for number, name in enumerate(("train/cat/1", "train/dog/2")):
        (tmp_path / "set" / name).parent.mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "set" / f"{name}.png"), np.asarray(picture(40 * number)))
    images = open_images(f"hf:{tmp_path / 'set'}", cache_dir=tmp_path / "cache")
    assert images.classes == ("cat", "dog") and images.labels.tolist() == [0, 1]
    assert int(images.read(1)[0, 0, 0]) == 40
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"notes.txt:train: this data set cannot be opened \(a file must end in .parq"):
        open_images(f"hf:{tmp_path / 'notes.txt'}", cache_dir=tmp_path / "cache")


def test_hf_configurations_are_named(hf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *names, split: asked.append((*names, split)) or hf)
    assert len(open_images("hf:someone/pets:large:test", cache_dir=tmp_path)) == 4
    assert asked == [("someone/pets", "large", "test")]


def test_hf_by_name(hf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: asked.append((name, split)) or hf)
    images = open_images("hf:someone/pets:validation", cache_dir=tmp_path)
    assert asked == [("someone/pets", "validation")] and len(images) == 4


def test_hf_without_images_or_missing(hf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: hf.remove_columns("picture"))
    with pytest.raises(DataError, match=r"hf:x:train: none of its columns \(id, kind\) holds images; give another"):
        open_images("hf:x", cache_dir=tmp_path)

    def missing(name: str, split: str) -> None:
        raise FileNotFoundError(f"Dataset '{name}' doesn't exist\non the Hub")

    monkeypatch.setattr(datasets, "load_dataset", missing)
    with pytest.raises(
        DataError, match=r"hf:x:train: this data set cannot be opened \(Dataset 'x' doesn't exist on the"
    ):
        open_images("hf:x", cache_dir=tmp_path)


def test_hf_extra_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        DataError, match=r"hf:x: this source needs the package datasets; run `pip install 'syn2co\[hf\]'`"
    ):
        open_images("hf:x", cache_dir=tmp_path)
