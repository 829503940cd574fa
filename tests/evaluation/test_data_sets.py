"""Data sets by name: sources, splits, metrics, what is on the disk; folders with train/ and test/."""

from dataclasses import replace
from pathlib import Path

import pytest
from evaluation_folders import paint
from torchvision_layouts import write_all

from syn2co.core.errors import DataError, EvaluationError
from syn2co.data.open import open_images
from syn2co.evaluation.data_sets import DATA_SETS, available, folder_data_set, named, size_notes
from syn2co.evaluation.splits import make_splits, refuse_overlap


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The seven data sets in torchvision's layout, and a network that must not be asked."""
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", _no_network)
    return write_all(tmp_path / "data", monkeypatch)


def _no_network(url: str, **kwargs: object) -> str:
    raise AssertionError(f"asked the network for {url}")


def test_splits_and_metrics_are_those_of_the_field() -> None:
    """Table 1 of arXiv:1805.08974 (STL-10: of its authors): classes, training images, test images, metric."""
    assert {name: (one.classes, one.train_size, one.test_size, one.metric) for name, one in DATA_SETS.items()} == {
        "cifar10": (10, 50_000, 10_000, "top-1"),
        "cifar100": (100, 50_000, 10_000, "top-1"),
        "stl10": (10, 5_000, 8_000, "top-1"),
        "flowers102": (102, 2_040, 6_149, "mean per class"),
        "pets": (37, 3_680, 3_669, "mean per class"),
        "food101": (101, 75_750, 25_250, "top-1"),
        "dtd": (47, 3_760, 1_880, "top-1"),
    }
    assert {name: (one.train.split(":", 1)[1], one.test.split(":")[2]) for name, one in DATA_SETS.items()} == {
        "cifar10": ("CIFAR10:train", "test"),
        "cifar100": ("CIFAR100:train", "test"),
        "stl10": ("STL10:train", "test"),
        "flowers102": ("Flowers102:train+val", "test"),
        "pets": ("OxfordIIITPet:trainval", "test"),
        "food101": ("Food101:train", "test"),
        "dtd": ("DTD:train+val", "test"),
    }
    assert all(one.source and one.license and one.folder for one in DATA_SETS.values())


@pytest.mark.parametrize("name", DATA_SETS)
def test_each_data_set_opens_from_torchvisions_layout(root: Path, tmp_path: Path, name: str) -> None:
    (found,), missing = available([name], root)
    assert missing == () and found.name == name and found.train.startswith(f"torchvision:{root}/")
    train, test = (open_images(spec, cache_dir=tmp_path) for spec in (found.train, found.test))
    refuse_overlap(train, test)
    splits = make_splits(train, test)
    assert set(splits.test_labels.tolist()) <= set(splits.train_labels.tolist())
    assert size_notes(found, train, test) == (
        f"{name}: {len(train)} of {DATA_SETS[name].train_size:,} training images",
        f"{name}: {len(test)} of {DATA_SETS[name].test_size:,} test images",
    )
    assert size_notes(replace(found, train_size=len(train), test_size=len(test)), train, test) == ()


def test_training_and_validation_images_are_joined(root: Path, tmp_path: Path) -> None:
    flowers = named("flowers102").at(root)
    assert len(open_images(flowers.train, cache_dir=tmp_path)) == 5
    with pytest.raises(
        EvaluationError, match="torchvision:Flowers102:val: this source is given as --train and as --test"
    ):
        refuse_overlap(*(open_images(spec, cache_dir=tmp_path) for spec in (flowers.train, f"{flowers.test[:-4]}val")))


def test_what_is_missing_is_named_and_not_downloaded(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "dtd").rename(root / "elsewhere")
    names = ["pets", "dtd", "stl10"]
    found = available(names, root, cache_dir=tmp_path / "cache")
    assert [one.name for one in found.have] == ["pets", "stl10"] and [one.name for one in found.missing] == ["dtd"]
    assert found.note == (
        "not on this machine and not scored: dtd; put torchvision's folders (dtd) into $SYN2CO_DATA, or ask for a "
        "download"
    )
    asked = available(names, root, download=True, cache_dir=tmp_path / "cache")
    assert asked.missing == () and asked.note == "" and asked.have[1] == DATA_SETS["dtd"]
    monkeypatch.setenv("SYN2CO_DATA", str(root))
    assert available(names, cache_dir=tmp_path / "cache") == found
    (tmp_path / "cache").mkdir()
    monkeypatch.delenv("SYN2CO_DATA")
    assert [one.name for one in available(names, cache_dir=tmp_path / "cache").missing] == names
    root.rename(tmp_path / "cache" / "torchvision")
    assert [one.name for one in available(names, cache_dir=tmp_path / "cache").have] == ["pets", "stl10"]


def test_names_and_places_that_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"flowers: there is no data set of this name, known are .*mean flowers102\?"):
        named("flowers")
    with pytest.raises(
        DataError, match=r"xyz: there is no data set .*; choose among these, or give a folder with train/"
    ):
        available(["xyz"], tmp_path)
    with pytest.raises(DataError, match="gone: there is no such folder of data sets; correct the path"):
        available(["pets"], tmp_path / "gone")
    with pytest.raises(DataError, match="pets: two data sets of the list have the name pets; name each one once"):
        available(["pets", "dtd", "pets"], tmp_path)


def test_folders_with_train_and_test(tmp_path: Path) -> None:
    colors = tmp_path / "colors"
    paint(colors / "train", {"red": 2, "blue": 2, "green": 1})
    paint(colors / "test", {"red": 1, "blue": 1}, seed=1)
    paint(colors / "val", {"red": 1}, seed=2)
    (found,), missing = available([str(colors)], tmp_path)
    assert missing == () and found == folder_data_set(colors)
    assert (found.name, found.metric, found.classes, found.train_size, found.test_size) == ("colors", "top-1", 3, 5, 2)
    assert found.notes == ("test/ is scored; val/ is not used",)
    assert len(open_images(found.test)) == 2 and open_images(found.train).classes == ("blue", "green", "red")


def test_folders_that_are_no_data_set(tmp_path: Path) -> None:
    paint(tmp_path / "train", {"red": 2, "blue": 2})
    with pytest.raises(DataError, match="a folder as data set must have train/ and test/ or val/ in it; give it these"):
        folder_data_set(tmp_path)
    paint(tmp_path / "val", {"red": 1, "white": 1})
    with pytest.raises(DataError, match=r"val: 1 of 2 classes have no training images \(white; train/ has blue, red\)"):
        folder_data_set(tmp_path)
    (tmp_path / "test").mkdir()
    (tmp_path / "val" / "red" / "0.png").rename(tmp_path / "test" / "0.png")
    with pytest.raises(DataError, match="test: no image lies in a class folder; give it one subfolder a class"):
        folder_data_set(tmp_path)
