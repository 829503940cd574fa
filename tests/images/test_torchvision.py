"""torchvision's data sets, offline: made-up data sets behind the same door."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_images import picture

from syn2co.core.errors import DataError
from syn2co.data.open import open_images


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
    with pytest.raises(DataError, match="torchvision:Qqqq: .* of this name; torchvision.datasets lists them all"):
        open_images("torchvision:Qqqq", cache_dir=tmp_path)
    with pytest.raises(DataError, match=r"torchvision:CIFAR: .* no data set of this name; did you mean CIFAR10.*\?"):
        open_images("torchvision:CIFAR", cache_dir=tmp_path)
