"""torchvision and Hugging Face data sets, offline: made-up data sets behind the same doors."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from syn2co.core.errors import DataError
from syn2co.data.open import open_images


def picture(value: int, mode: str = "RGB") -> Image.Image:
    """Return a picture of one gray value."""
    return Image.new("RGB", (6, 4), (value, value, value)).convert(mode)


class Splits:
    """A data set with `split`, `labels` and no `classes`, as SVHN."""

    def __init__(self, root: str, split: str = "train", download: bool = False) -> None:
        self.arguments = {"root": root, "split": split, "download": download}
        if split not in ("train", "extra"):
            raise ValueError(f"Unknown value '{split}' for argument split.")
        self.labels = np.array([2, 0])

    def __len__(self) -> int:
        return 2

    def __getitem__(self, row: int) -> tuple[Image.Image, int]:
        return picture(10 * row, "L"), int(self.labels[row])


class Train:
    """A data set with `train`, `targets` and `classes`, as CIFAR10."""

    classes = ("ship", "car")

    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        self.targets = [0, 1, 0] if train else [1]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[Image.Image, int]:
        return picture(50 + row), self.targets[row]


class Bare:
    """A data set without targets, one of whose items is broken."""

    def __init__(self, root: str) -> None: ...

    def __len__(self) -> int:
        return 3

    def __getitem__(self, row: int) -> tuple[Any, Any]:
        return ("no picture" if row == 1 else picture(row)), {"boxes": []}


@pytest.fixture
def torchvision_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the made-up data sets among torchvision's."""
    from torchvision import datasets

    for maker in (Splits, Train, Bare):
        monkeypatch.setattr(datasets, maker.__name__, maker, raising=False)


@pytest.mark.usefixtures("torchvision_sets")
def test_torchvision_train_and_test(tmp_path: Path) -> None:
    train = open_images("torchvision:Train", cache_dir=tmp_path)
    assert train.classes == ("car", "ship") and train.labels.tolist() == [1, 0, 1]
    assert [int(train.read(row)[0, 0, 0]) for row in range(3)] == [50, 51, 52]
    assert train.name(2) == "0:00000002"
    test = open_images("torchvision:Train:test", cache_dir=tmp_path)
    assert test.labels.tolist() == [0] and test.fingerprint != train.fingerprint
    with pytest.raises(DataError, match="torchvision:Train:val: the split of this data set must be train or test"):
        open_images("torchvision:Train:val", cache_dir=tmp_path)


@pytest.mark.usefixtures("torchvision_sets")
def test_torchvision_splits_and_gray(tmp_path: Path) -> None:
    images = open_images("torchvision:Splits:extra", cache_dir=tmp_path)
    assert images.sources[0].dataset.arguments == {  # type: ignore[attr-defined]
        "root": str(tmp_path / "torchvision"),
        "split": "extra",
        "download": True,
    }
    assert images.classes == ("0", "1", "2") and images.labels.tolist() == [2, 0]
    assert images.read(1).shape == (4, 6, 3) and int(images.read(1)[0, 0, 0]) == 10
    with pytest.raises(
        DataError, match=r"torchvision:Splits:val: torchvision cannot open this data set \(Unknown value"
    ):
        open_images("torchvision:Splits:val", cache_dir=tmp_path)


@pytest.mark.usefixtures("torchvision_sets")
def test_torchvision_without_labels_and_with_a_broken_item(tmp_path: Path) -> None:
    images = open_images("torchvision:Bare", cache_dir=tmp_path, max_broken_share=0.4)
    assert images.classes == () and images.labels.tolist() == [-1, -1] and images.groups.tolist() == [0, 2]
    assert images.quarantined == [("0:00000001", "its data set gives a str where an image was expected")]
    with pytest.raises(DataError, match="torchvision:Bare:test: this data set has no splits; leave the split out"):
        open_images("torchvision:Bare:test", cache_dir=tmp_path)


def test_torchvision_own_fake_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    monkeypatch.setattr(datasets.FakeData, "__len__", lambda self: 5)
    images = open_images("torchvision:FakeData", cache_dir=tmp_path)
    assert len(images) == 5 and images.read(0).shape == (224, 224, 3) and (images.labels >= 0).all()


def test_torchvision_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"torchvision:CIFAR: .* no data set of this name; nearest are CIFAR10.*; correct"
    ):
        open_images("torchvision:CIFAR", cache_dir=tmp_path)


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
