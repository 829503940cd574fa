"""Data sets of Hugging Face: from the hub, or from a folder on this machine."""

import os
from typing import Any

from syn2co.core.errors import DataError
from syn2co.images.sources.remote import MapDatasetSource, class_labels, one_line


def open_hf(name: str, split: str) -> MapDatasetSource:
    """Return one split of a Hugging Face data set: one of the hub, or a folder that `save_to_disk` wrote.

    The image column is the first of type Image, the label column the first of type ClassLabel.

    Raises:
        DataError: if the extra is not installed, or if the data set cannot be opened or has no image column.
    """
    try:
        import datasets
    except ImportError:
        raise DataError(f"hf:{name}: this source needs the package datasets; run `pip install 'syn2co[hf]'`.") from None
    local = os.path.isdir(name)
    identity = f"hf:{os.path.abspath(name) if local else name}:{split}"
    try:
        dataset = _load_hf(datasets, name, split)
    except Exception as error:  # the hub, the network and the builders each have errors of their own
        raise DataError(f"{identity}: this data set cannot be opened ({one_line(error)}); fix that.") from error
    features = dataset.features
    column = next((key for key, kind in features.items() if isinstance(kind, datasets.Image)), None)
    if column is None:
        raise DataError(f"{identity}: none of its columns ({', '.join(features)}) holds images; give another data set.")
    label = next((key for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)), None)
    targets = dataset[label][:] if label is not None else [None] * len(dataset)
    labels, classes = class_labels(targets, features[label].names if label is not None else None)
    encoded = dataset.cast_column(column, datasets.Image(decode=False)).select_columns([column])
    return MapDatasetSource(identity, encoded, labels, classes, column, title="hf" if local else identity)


def _load_hf(datasets: Any, name: str, split: str) -> Any:
    """Return the split as a `datasets.Dataset`."""
    if not os.path.isdir(name):
        return datasets.load_dataset(name, split=split)
    stored = datasets.load_from_disk(name)
    if not isinstance(stored, dict):
        return stored
    if split not in stored:
        raise ValueError(f"its splits are {', '.join(stored)}")
    return stored[split]
