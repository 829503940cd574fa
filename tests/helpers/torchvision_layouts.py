"""Tiny data sets in torchvision's own layout on disk, with checksums that torchvision accepts."""

import json
import pickle
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat
from tiny_images import picture
from torchvision import datasets


def write_all(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the seven data sets; the gray value of most images is 10 x the class, as the files count it, + a number."""
    write_cifar(root, monkeypatch)
    write_stl10(root, monkeypatch)
    write_flowers102(root, monkeypatch)
    write_pets(root)
    write_food101(root)
    write_dtd(root)
    return root


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR-10 with two images a training batch and three test images, CIFAR-100 with fine and coarse labels."""
    folder = root / "cifar-10-batches-py"
    for number in range(1, 6):
        _dump(folder / f"data_batch_{number}", {"data": _rows([number, 0], 2 * number), "labels": [number, 0]})
    _dump(folder / "test_batch", {"data": _rows([1, 0, 5], 100), "labels": [1, 0, 5]})
    _dump(folder / "batches.meta", {"label_names": ["airplane", "automobile", "bird", "cat", "deer", "dog"]})
    _accept(datasets.CIFAR10, folder, monkeypatch)
    folder = root / "cifar-100-python"
    _dump(folder / "train", {"data": _rows([0, 1, 2], 0), "fine_labels": [0, 1, 2], "coarse_labels": [1, 1, 0]})
    _dump(folder / "test", {"data": _rows([2, 0], 100), "fine_labels": [2, 0], "coarse_labels": [0, 1]})
    names = {"fine_label_names": ["whale", "apple", "bear"], "coarse_label_names": ["other", "food"]}
    _dump(folder / "meta", names)
    _accept(datasets.CIFAR100, folder, monkeypatch)


def write_stl10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """STL-10: column-major images, labels from 1, and one image without label."""
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    for part, labels in (("train", [2, 1, 2]), ("test", [1, 2]), ("unlabeled", [0])):
        pixels = np.zeros((len(labels), 3, 96, 96), np.uint8)
        pixels[:, 0] = np.arange(96, dtype=np.uint8)[:, None]  # red grows from left to right once columns are rows
        pixels[:, 1] = np.array(labels, np.uint8)[:, None, None]
        pixels[:, 2] = np.arange(len(labels), dtype=np.uint8)[:, None, None] + (100 if part == "test" else 0)
        pixels.tofile(folder / f"{part}_X.bin")
        if part != "unlabeled":
            np.array(labels, np.uint8).tofile(folder / f"{part}_y.bin")
    (folder / "class_names.txt").write_text("ship\ncat\n")
    _accept(datasets.STL10, folder, monkeypatch)


def write_flowers102(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flowers: seven images numbered from 1, classes from 1, splits by number."""
    folder = root / "flowers-102"
    classes = [1, 2, 1, 2, 102, 1, 102]
    for number, label in enumerate(classes, 1):
        _jpeg(folder / "jpg" / f"image_{number:05d}.jpg", 10 * (label % 10) + number)
    savemat(folder / "imagelabels.mat", {"labels": np.array([classes])})
    savemat(folder / "setid.mat", {"trnid": [[1, 2, 5]], "valid": [[3, 4]], "tstid": [[7, 6]]})
    sums = {key: (name, _sum(folder / name)) for key, name in (("label", "imagelabels.mat"), ("setid", "setid.mat"))}
    monkeypatch.setattr(datasets.Flowers102, "_file_dict", {"image": ("102flowers.tgz", ""), **sums})


def write_pets(root: Path) -> None:
    """Pets: lists of image, class from 1, species from 1, breed."""
    folder = root / "oxford-iiit-pet"
    images = {
        "trainval": ["Abyssinian_1", "yorkshire_terrier_10", "Abyssinian_2"],
        "test": ["yorkshire_terrier_3", "Abyssinian_9"],
    }
    (folder / "annotations").mkdir(parents=True)
    for split, names in images.items():
        lines = [
            f"{name} {2 if name.startswith('york') else 1} {2 if name.startswith('york') else 1} 1\n" for name in names
        ]
        (folder / "annotations" / f"{split}.txt").write_text("".join(lines))
        for name in names:
            _jpeg(folder / "images" / f"{name}.jpg", 10 * name.startswith("york") + int(name.rpartition("_")[2]))


def write_food101(root: Path) -> None:
    """Food-101: JSON lists of images by class."""
    folder = root / "food-101"
    splits = {
        "train": {"waffles": ["waffles/1", "waffles/2"], "apple_pie": ["apple_pie/3"]},
        "test": {"waffles": ["waffles/4"], "apple_pie": ["apple_pie/5"]},
    }
    (folder / "meta").mkdir(parents=True)
    for split, listed in splits.items():
        (folder / "meta" / f"{split}.json").write_text(json.dumps(listed))
        for path in (path for paths in listed.values() for path in paths):
            _jpeg(folder / "images" / f"{path}.jpg", 10 * path.startswith("waffles") + int(path[-1]))


def write_dtd(root: Path) -> None:
    """DTD: lists of images by split and partition; the validation images of partition 1 lack a class."""
    folder = root / "dtd" / "dtd"
    lists = {
        "train1": ["dotted/1", "zigzagged/2"],
        "val1": ["zigzagged/3"],
        "test1": ["dotted/4", "zigzagged/5"],
        "test10": ["dotted/1"],
    }
    (folder / "labels").mkdir(parents=True)
    for name, paths in lists.items():
        (folder / "labels" / f"{name}.txt").write_text("".join(f"{path}.jpg\n" for path in paths))
        for path in paths:
            _jpeg(folder / "images" / f"{path}.jpg", 10 * path.startswith("zig") + int(path[-1]))


def _rows(labels: list[int], first: int) -> Any:
    """Return CIFAR's rows of 3,072 bytes: planes of red (10 x the class), green, and blue (numbers from `first` on)."""
    colors = [(10 * label, 0, first + number) for number, label in enumerate(labels)]
    return np.repeat(np.array(colors, np.uint8), 1024, axis=1)


def _dump(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))


def _jpeg(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(value).save(path, quality=100)


def _sum(path: Path) -> str:
    return md5(path.read_bytes()).hexdigest()


def _accept(maker: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchvision expect the checksums that these files have."""
    for attribute in ("train_list", "test_list"):
        listed = [[name, _sum(folder / name)] for name, _ in getattr(maker, attribute)]
        monkeypatch.setattr(maker, attribute, listed)
    if hasattr(maker, "meta"):
        monkeypatch.setattr(maker, "meta", {**maker.meta, "md5": _sum(folder / maker.meta["filename"])})
