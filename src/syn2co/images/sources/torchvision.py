"""Data sets of torchvision, in its own layout on disk; they may be downloaded.

Axis letters: M images of the source.
"""

import inspect
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32

from syn2co.core.errors import DataError
from syn2co.core.hints import nearest
from syn2co.core.paths import is_folder, user_path
from syn2co.core.progress import note
from syn2co.images.index import relabel, sort_classes
from syn2co.images.source import SEPARATOR
from syn2co.images.sources.remote import MapDatasetSource, class_labels, one_line


def open_torchvision(name: str, split: str, *, cache_dir: Path) -> MapDatasetSource:
    """Return `torchvision.datasets.NAME`, its splits one after the other where several are joined by "+".

    `NAME` alone is looked for in $SYN2CO_DATA and below `cache_dir`, and downloaded below the latter if neither has it.
    `FOLDER/NAME` is read from FOLDER and never downloaded. A split may end in the number of a partition: DTD's "test3".
    Labels come from the data set's `targets` or `labels`; where it has neither, every item is read once for them.

    Raises:
        DataError: if there is no such data set or split, if FOLDER or $SYN2CO_DATA is no folder, or if the data set
            cannot be opened.
    """
    folder, slash, name = name.rpartition("/")
    maker = _maker(name)
    title = f"torchvision:{name}:{split}"
    places = _places(title, user_path(folder or "/") if slash else None, cache_dir)
    parts = [_open(maker, f"torchvision:{name}:{part}", part, places) for part in split.split("+")]
    identity = SEPARATOR.join(f"torchvision:{name}:{part}" for part in split.split("+"))  # a shared split is seen
    return MapDatasetSource(identity, _joined(parts), *_labels(parts), title=title)


def data_root() -> Path | None:
    """Return $SYN2CO_DATA, the folder with the user's data sets as torchvision lays them out; None if it is not set.

    Raises:
        DataError: if it is set and is no folder.
    """
    chosen = os.environ.get("SYN2CO_DATA")
    if not chosen:
        return None
    if not is_folder(user_path(chosen)):
        raise DataError(f"SYN2CO_DATA = {chosen}: there is no such folder; correct the variable or unset it.")
    return user_path(chosen)


def download_folder(cache_dir: Path) -> Path:
    """Return the folder into which torchvision downloads."""
    return cache_dir / "torchvision"


def _maker(name: str) -> Any:
    """Return the class of torchvision that has this name."""
    from torchvision import datasets

    makers = {key: value for key, value in vars(datasets).items() if inspect.isclass(value) and key[0].isupper()}
    if name not in makers:
        hint = nearest(name, makers, most=3) or "; torchvision.datasets lists them all"
        raise DataError(f"torchvision:{name}: torchvision has no data set of this name{hint}")
    return makers[name]


def _places(title: str, folder: Path | None, cache_dir: Path) -> list[tuple[Path, bool]]:
    """Return where to look, in order, and whether to download there what is missing."""
    if folder is not None:
        if not is_folder(folder):
            raise DataError(f"{title}: there is no folder {folder}; correct the path or give the name alone.")
        return [(folder, False)]
    downloads = download_folder(cache_dir)
    known = [folder for folder in (data_root(), downloads) if folder is not None and is_folder(folder)]
    return [*((folder, False) for folder in known), (downloads, True)]


def _open(maker: Any, identity: str, split: str, places: Sequence[tuple[Path, bool]]) -> Any:
    """Return one split from the first place that has it."""
    arguments = _arguments(maker, identity, split)
    takes = inspect.signature(maker).parameters
    failure: Exception | None = None
    for folder, download in places:
        if download and "download" in takes:
            reason = "" if failure is None else f" ({one_line(failure)})"
            note(f"{identity}: is not on this machine, or not whole{reason}; torchvision fetches it")
        where = {"root": str(folder), "download": download}
        try:
            return maker(**arguments, **{key: value for key, value in where.items() if key in takes})
        except (ValueError, TypeError, ImportError) as error:  # a wrong split: another place would not help
            raise DataError(_cannot_open(identity, error)) from error
        except (RuntimeError, OSError) as error:  # not there, or not whole
            failure = error
    assert failure is not None
    folder, download = places[-1]
    if download:
        raise DataError(_cannot_open(identity, failure)) from failure
    raise DataError(
        f"{identity}: {folder} does not hold this data set in torchvision's layout ({one_line(failure)}); fix that, or "
        "give the name alone and torchvision downloads it."
    ) from failure


def _cannot_open(identity: str, error: Exception) -> str:
    """Return the message for an error of torchvision or of the network."""
    return f"{identity}: torchvision cannot open this data set ({one_line(error)}); fix that or give a folder."


def _arguments(maker: Any, identity: str, split: str) -> dict[str, Any]:
    """Return the keyword arguments by which this data set is told its split."""
    known = inspect.signature(maker).parameters
    if "partition" in known and (numbered := re.fullmatch(r"([a-z]+)([1-9]|10)", split)):
        return {"split": numbered[1], "partition": int(numbered[2])}
    if "split" in known:
        return {"split": split}
    if "train" in known:
        if split not in ("train", "test"):
            raise DataError(f"{identity}: the split of this data set must be train or test; correct it.")
        return {"train": split == "train"}
    if split != "train":
        raise DataError(f"{identity}: this data set has no splits; leave the split out.")
    return {}


def _joined(parts: Sequence[Any]) -> Any:
    """Return the splits as one map-style data set."""
    if len(parts) == 1:
        return parts[0]
    from torch.utils.data import ConcatDataset

    return ConcatDataset(parts)


def _labels(parts: Sequence[Any]) -> tuple[Int32[np.ndarray, " M"], tuple[str, ...]]:
    """Return the labels of all splits counted in the classes of all: DTD numbers the classes of each split anew."""
    labeled = [class_labels(_targets(part), getattr(part, "classes", None)) for part in parts]
    classes = sort_classes({name for _, names in labeled for name in names})
    return np.concatenate([relabel(labels, names, classes) for labels, names in labeled]), classes


def _targets(dataset: Any) -> Sequence[Any]:
    """Return one target per item."""
    for attribute in ("targets", "labels", "_labels"):
        values = getattr(dataset, attribute, None)
        if values is not None and len(values) == len(dataset):
            return values
    return [dataset[row][1] for row in range(len(dataset))]
