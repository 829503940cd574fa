"""torchvision's data sets, offline: made-up data sets behind the same door."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_images import picture
from torchvision_layouts import write_all

from syn2co.core.errors import DataError
from syn2co.data.open import open_images

PRIMROSE, ORCHID = "pink primrose", "hard-leaved pocket orchid"


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
def test_torchvision_splits_and_gray(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = open_images("torchvision:Splits:extra", cache_dir=tmp_path)
    said = " ".join(capsys.readouterr().err.split())
    assert "note: torchvision:Splits:extra: is not on this machine, or not whole; torchvision fetches it" in said
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


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The seven data sets in torchvision's layout, and a network whose every use fails."""
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", _no_network)
    return write_all(tmp_path / "data", monkeypatch)


def _no_network(url: str, **kwargs: Any) -> str:
    raise OSError(f"asked the network for {url.rpartition('/')[2]}")


def _opened(spec: str, cache_dir: Path) -> tuple[list[str], list[int]]:
    """Return the class name and the gray value (or the first channel) of every image of a source."""
    images = open_images(spec, cache_dir=cache_dir)
    names = [images.classes[label] if label >= 0 else "none" for label in images.labels.tolist()]
    return names, [int(images.read(row)[0, 0, 0]) for row in range(len(images))]


@pytest.mark.parametrize(
    ("spec", "names", "values"),
    [
        ("CIFAR10:test", ["automobile", "airplane", "dog"], [10, 0, 50]),
        ("CIFAR100", ["whale", "apple", "bear"], [0, 10, 20]),
        ("STL10:test", ["ship", "cat"], [0, 0]),
        ("STL10:train+unlabeled", ["cat", "ship", "cat", "none"], [0, 0, 0, 0]),
        (
            "Flowers102:train+val",
            [PRIMROSE, ORCHID, "blackberry lily", PRIMROSE, ORCHID],
            [11, 22, 25, 13, 24],
        ),
        ("Flowers102:test", ["blackberry lily", PRIMROSE], [27, 16]),
        ("OxfordIIITPet:trainval", ["Abyssinian", "Yorkshire Terrier", "Abyssinian"], [1, 20, 2]),
        ("OxfordIIITPet:test", ["Yorkshire Terrier", "Abyssinian"], [13, 9]),
        ("Food101", ["waffles", "waffles", "apple_pie"], [11, 12, 3]),
        ("Food101:test", ["waffles", "apple_pie"], [14, 5]),
        ("DTD:train+val", ["dotted", "zigzagged", "zigzagged"], [1, 12, 13]),
        ("DTD:test", ["dotted", "zigzagged"], [4, 15]),
        ("DTD:test10", ["dotted"], [1]),
    ],
)  # fmt: skip
def test_own_layout_labels_names_and_pixels(
    root: Path, tmp_path: Path, spec: str, names: list[str], values: list[int]
) -> None:
    """By hand: the class of every image, its name and its gray value are those that the files were written with."""
    assert _opened(f"torchvision:{root}/{spec}", tmp_path) == (names, values)


def test_stl10_images_stand_upright(root: Path, tmp_path: Path) -> None:
    image = open_images(f"torchvision:{root}/STL10", cache_dir=tmp_path).read(0)
    assert image[5, :, 0].tolist() == list(range(96)) and (image[..., 1] == 2).all()


def test_joined_splits_are_two_places(root: Path, tmp_path: Path) -> None:
    images = open_images(f"torchvision:{root}/DTD:train+val", cache_dir=tmp_path)
    assert images.sources[0].identity == "torchvision:DTD:train\0torchvision:DTD:val"
    with pytest.raises(DataError, match="torchvision:DTD:val: this source is given twice; name it once"):
        open_images([f"torchvision:{root}/DTD:{split}" for split in ("train+val", "val")], cache_dir=tmp_path)


def test_data_root_is_read_and_only_what_it_lacks_is_downloaded(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYN2CO_DATA", str(root))
    there = open_images("torchvision:Food101:test", cache_dir=tmp_path)
    moved = root.rename(tmp_path / "torchvision")
    monkeypatch.delenv("SYN2CO_DATA")
    assert open_images("torchvision:Food101:test", cache_dir=tmp_path).fingerprint == there.fingerprint
    given = open_images(f"torchvision:{moved}/Food101:test", cache_dir=tmp_path)
    assert given.fingerprint == there.fingerprint and str(tmp_path) not in given.sources[0].identity
    with pytest.raises(
        DataError, match=r"CIFAR10:train: torchvision cannot open .* the network for cifar-10-python.tar"
    ):
        open_images("torchvision:CIFAR10", cache_dir=tmp_path / "empty")
    (moved / "cifar-10-batches-py" / "test_batch").write_bytes(b"cut off")
    with pytest.raises(DataError, match=r"torchvision cannot open this data set \(asked the network for cifar-10-py"):
        open_images("torchvision:CIFAR10", cache_dir=tmp_path)


def test_a_named_folder_is_never_downloaded_into(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "cifar-10-batches-py" / "test_batch").write_bytes(b"cut off")
    with pytest.raises(
        DataError, match=r"data does not hold this data set in torchvision's layout \(Dataset not found"
    ):
        open_images(f"torchvision:{root}/CIFAR10", cache_dir=tmp_path)
    with pytest.raises(DataError, match="torchvision:DTD:test: there is no folder .*/gone; correct the path or give"):
        open_images(f"torchvision:{tmp_path}/gone/DTD:test", cache_dir=tmp_path)
    with pytest.raises(DataError, match=r"OxfordIIITPet:train: torchvision cannot open .*Unknown value 'train'"):
        open_images(f"torchvision:{root}/OxfordIIITPet", cache_dir=tmp_path)
    with pytest.raises(DataError, match=r"DTD:test11: torchvision cannot open .*Unknown value 'test11'"):
        open_images(f"torchvision:{root}/DTD:test11", cache_dir=tmp_path)
    monkeypatch.setenv("SYN2CO_DATA", f"{tmp_path}/gone")
    with pytest.raises(DataError, match="SYN2CO_DATA = .*/gone: there is no such folder; correct the variable"):
        open_images("torchvision:DTD", cache_dir=tmp_path)
