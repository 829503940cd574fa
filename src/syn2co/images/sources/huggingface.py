"""Data sets of Hugging Face: from the hub, or from files and folders on this machine."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32

from syn2co.core.errors import DataError
from syn2co.core.paths import is_file, status_of, user_path
from syn2co.images.index import class_name, sort_classes
from syn2co.images.sources.remote import MapDatasetSource, class_labels, one_line

_LABELS = ("label", "labels", "class", "class_name", "cls", "target", "fine_label")
_SAVED = ("state.json", "dataset_dict.json")
"""Files by which a folder that `save_to_disk` wrote is known."""
_FILES = {".parquet": "parquet", ".arrow": "arrow"}


def open_hf(name: str, split: str) -> MapDatasetSource:
    """Return one split of a Hugging Face data set: of the hub, or what `load_dataset` or `load_from_disk` opens here.

    The image column is the first of type Image, else the first that holds bytes. The label column is the first of type
    ClassLabel, else one of numbers or texts called label, class, cls, target or the like.

    Args:
        name: of the hub, a folder, or a parquet file.
        split: "SPLIT", or "CONFIG:SPLIT" of a data set with several configurations.

    Raises:
        DataError: if the extra is not installed, or if the data set cannot be opened or has no image column.
    """
    try:
        import datasets
    except ImportError:
        raise DataError(f"hf:{name}: this source needs the package datasets; run `pip install 'syn2co[hf]'`.") from None
    if not name:
        raise DataError("hf:: names no data set; give hf:NAME or hf:FOLDER.")
    path = user_path(name)
    local = status_of(path) is not None
    identity = f"hf:{os.path.abspath(path) if local else name}:{split}"
    try:
        dataset = _load_file(datasets, path, split) if local else _load_hf(datasets, name, split)
    except Exception as error:  # the hub, the network and the builders each have errors of their own
        raise DataError(
            f"{identity}: this data set cannot be opened ({one_line(error)}); fix that, or name a split or "
            "configuration that it has: hf:NAME:SPLIT, hf:NAME:CONFIG:SPLIT."
        ) from error
    column = _image_column(datasets, dataset.features)
    if column is None:
        raise DataError(
            f"{identity}: none of its columns ({', '.join(dataset.features)}) holds images; give another data set."
        )
    labels, classes = _labels(datasets, dataset)
    encoded = dataset.cast_column(column, datasets.Image(decode=False)).select_columns([column])
    return MapDatasetSource(identity, encoded, labels, classes, column, title="hf" if local else identity)


def _load_hf(datasets: Any, name: str, split: str) -> Any:
    """Return the split of a folder or of a data set of the hub as a `datasets.Dataset`."""
    config, _, split = split.rpartition(":")
    return datasets.load_dataset(*filter(None, (name, config)), split=split)


def _load_file(datasets: Any, path: Path, split: str) -> Any:
    """Return the split of what lies on this machine."""
    if is_file(path):
        kind = _FILES.get(path.suffix.lower())
        if kind is None:
            raise ValueError(f"a file must end in {' or '.join(_FILES)}")
        return datasets.load_dataset(kind, data_files={split: str(path)}, split=split)
    if not any(is_file(path / name) for name in _SAVED):
        return _load_hf(datasets, str(path), split)
    stored = datasets.load_from_disk(str(path))
    if not isinstance(stored, dict):
        return stored
    if split not in stored:
        raise ValueError(f"its splits are {', '.join(stored)}")
    return stored[split]


def _image_column(datasets: Any, features: Any) -> str | None:
    """Return the column of images; files that other libraries wrote have their bytes alone, or bytes and a path."""
    image = next((key for key, kind in features.items() if isinstance(kind, datasets.Image)), None)
    return image or next((key for key, kind in features.items() if _is_bytes(kind)), None)


def _is_bytes(kind: Any) -> bool:
    """Return whether a type of column is bytes, or bytes with a path."""
    stored = kind.get("bytes") if isinstance(kind, dict) else kind
    return getattr(stored, "dtype", "") in ("binary", "large_binary")


def _labels(datasets: Any, dataset: Any) -> tuple[Int32[np.ndarray, " M"], tuple[str, ...]]:
    """Return the label of each row and the classes."""
    features = dataset.features
    named = next((key for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)), None)
    if named is not None:
        return class_labels(_numbers(dataset[named][:]), features[named].names)
    plain = [
        key for key in _LABELS if getattr(features.get(key), "dtype", "").startswith(("int", "uint", "bool", "string"))
    ]
    if not plain:
        return np.full(len(dataset), -1, np.int32), ()
    targets = dataset[plain[0]][:]
    if features[plain[0]].dtype == "string":
        return _by_name(targets)
    return class_labels(_numbers(targets), None)


def _numbers(targets: Sequence[int | None]) -> list[int]:
    """Return labels that are numbers, -1 where there is none."""
    return [-1 if target is None else target for target in targets]


def _by_name(targets: Sequence[str | None]) -> tuple[Int32[np.ndarray, " M"], tuple[str, ...]]:
    """Return labels that are texts, counted in their sorted names; -1 where there is none."""
    names = [class_name(target) if target else None for target in targets]
    classes = sort_classes({name for name in names if name is not None})
    number = {name: position for position, name in enumerate(classes)} | {None: -1}
    return np.array([number[name] for name in names], np.int32), classes
