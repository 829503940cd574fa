"""Data sets of torchvision, which may be downloaded."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from syn2co.core.errors import DataError
from syn2co.core.hints import nearest
from syn2co.images.sources.remote import MapDatasetSource, class_labels, one_line


def open_torchvision(name: str, split: str, *, cache_dir: Path) -> MapDatasetSource:
    """Return `torchvision.datasets.NAME`, downloaded below `cache_dir` if it is not there yet.

    Labels come from the data set's `targets` or `labels`; where it has neither, every item is read once for them.

    Raises:
        DataError: if there is no such data set or split, or if it cannot be opened.
    """
    from torchvision import datasets

    makers = {key: value for key, value in vars(datasets).items() if inspect.isclass(value) and key[0].isupper()}
    if name not in makers:
        hint = nearest(name, makers, most=3) or "; torchvision.datasets lists them all"
        raise DataError(f"torchvision:{name}: torchvision has no data set of this name{hint}")
    identity = f"torchvision:{name}:{split}"
    arguments = _arguments(makers[name], identity, split, cache_dir)
    try:
        dataset = makers[name](**arguments)
    except (RuntimeError, ValueError, OSError, TypeError, ImportError) as error:
        raise DataError(
            f"{identity}: torchvision cannot open this data set ({one_line(error)}); fix that or give a folder."
        ) from error
    targets = _targets(dataset)
    return MapDatasetSource(identity, dataset, *class_labels(targets, getattr(dataset, "classes", None)))


def _arguments(maker: Any, identity: str, split: str, cache_dir: Path) -> dict[str, Any]:
    """Return the keyword arguments that this data set takes for root, split and download."""
    known = inspect.signature(maker).parameters
    arguments: dict[str, Any] = {}
    if "root" in known:
        arguments["root"] = str(cache_dir / "torchvision")
    if "download" in known:
        arguments["download"] = True
    if "split" in known:
        arguments["split"] = split
    elif "train" in known:
        if split not in ("train", "test"):
            raise DataError(f"{identity}: the split of this data set must be train or test; correct it.")
        arguments["train"] = split == "train"
    elif split != "train":
        raise DataError(f"{identity}: this data set has no splits; leave the split out.")
    return arguments


def _targets(dataset: Any) -> Sequence[Any]:
    """Return one target per item."""
    for attribute in ("targets", "labels", "_labels"):
        values = getattr(dataset, attribute, None)
        if values is not None and len(values) == len(dataset):
            return values
    return [dataset[row][1] for row in range(len(dataset))]
