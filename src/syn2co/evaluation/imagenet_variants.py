"""ImageNet-A, -R, -Sketch and -V2 as folders, for a head that was trained on classes of ImageNet.

A class is its WordNet id ("n01440764"), the name of its folder in ImageNet. ImageNet-V2 numbers its class folders 0 to
999 by the sorted ids of ImageNet-1k.

Axis letters: N images of the set, C classes of the head.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from syn2co.core.errors import DataError, EvaluationError
from syn2co.core.hints import first_names, nearest
from syn2co.core.paths import is_folder, user_path
from syn2co.data.named_source import open_source
from syn2co.data.open import open_images
from syn2co.evaluation.imagenet_classes import imagenet_classes
from syn2co.images.image_set import ImageSet
from syn2co.images.index_cache import default_cache_dir
from syn2co.images.quarantine import MAX_BROKEN_SHARE


@dataclass(frozen=True)
class ImageNetVariant:
    """One published set: its number of images, its classes (200 or all 1,000 of ImageNet-1k), its folder and paper."""

    name: str
    images: int
    classes: int
    folder: str
    source: str


# fmt: off
_PUBLISHED = (
    ImageNetVariant("imagenet-a", 7_500, 200, "imagenet-a", "Hendrycks et al., arXiv:1907.07174"),
    ImageNetVariant("imagenet-r", 30_000, 200, "imagenet-r", "Hendrycks et al., arXiv:2006.16241"),
    ImageNetVariant("imagenet-sketch", 50_889, 1_000, "sketch", "Wang et al., arXiv:1905.13549"),
    ImageNetVariant(
        "imagenet-v2-matched-frequency", 10_000, 1_000, "imagenetv2-matched-frequency-format-val",
        "Recht et al., arXiv:1902.10811",
    ),
    ImageNetVariant(
        "imagenet-v2-threshold-0.7", 10_000, 1_000, "imagenetv2-threshold0.7-format-val",
        "Recht et al., arXiv:1902.10811",
    ),
    ImageNetVariant(
        "imagenet-v2-top-images", 10_000, 1_000, "imagenetv2-top-images-format-val", "Recht et al., arXiv:1902.10811",
    ),
)
# fmt: on
IMAGENET_VARIANTS = {variant.name: variant for variant in _PUBLISHED}


@dataclass(frozen=True)
class RobustSet:
    """The images of a variant whose class a head knows, with labels counted in the classes of the head.

    Attributes: `columns`, the classes of the head among which it may choose, in order; `notes`, how many classes and
    images are left and which were left out.
    """

    name: str
    images: ImageSet
    columns: tuple[int, ...]
    rule: str
    notes: tuple[str, ...]

    def predict(self, logits: Float[Tensor, "N C"]) -> Int64[Tensor, " N"]:
        """Return the class of the largest logit among `columns`, counted in the classes of the head.

        Args:
            logits: one row per image of the head's logits, all classes.

        Returns:
            Predictions that compare with `images.labels`.

        Raises:
            EvaluationError: if a logit is not a number.
        """
        columns = torch.tensor(self.columns, device=logits.device)
        chosen = logits[:, columns]
        if chosen.isnan().any():
            raise EvaluationError(f"{self.name}: the head gives logits that are not numbers; train it again")
        return columns[chosen.argmax(dim=1)]


def robust_set(
    name: str,
    folder: str | Path,
    train_classes: Sequence[str],
    *,
    workers: int = 0,
    max_broken_share: float = MAX_BROKEN_SHARE,
) -> RobustSet:
    """Return a variant of ImageNet restricted to the classes that a head was trained on.

    ImageNet-A and -R have 200 classes, and the field lets a head of 1,000 classes choose among these alone. We let any
    head choose among those of its classes that are in the published list of 200, which is the same for 1,000 classes.
    In -Sketch and -V2 a head chooses among all of its classes. Images of other classes are left out and counted.

    Source: the evaluation scripts of arXiv:1907.07174 and arXiv:2006.16241; the lists of classes are timm's.

    Args:
        name: a key of `IMAGENET_VARIANTS`.
        folder: folder of the set; its class folders are WordNet ids, or the numbers 0 to 999 in ImageNet-V2.
        train_classes: WordNet ids of the head's classes, in the order of its logits.
        workers: threads that check the images; 0 is this one.
        max_broken_share: largest share of broken images, from 0 to 1.

    Returns:
        Images with labels, the columns of the logits to choose among, and notes such as "imagenet-a: 41 of the 100
        classes, 1,234 images".

    Raises:
        DataError: if the name is unknown, if the folder is missing, too broken, or laid out otherwise, or if the
            classes of the head are no classes of ImageNet-1k.
        EvaluationError: if the head can choose among fewer than two classes, or no image of its classes is left.

    Example:
        >>> import tempfile, cv2, numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for number in (0, 1, 999):
        ...         Path(folder, str(number)).mkdir()
        ...         _ = cv2.imwrite(f"{folder}/{number}/a.png", np.zeros((8, 8, 3), np.uint8))
        ...     found = robust_set("imagenet-v2-top-images", folder, ["n01443537", "n01440764"])
        >>> found.images.labels.tolist(), found.notes[0]
        ([1, 0], 'imagenet-v2-top-images: 2 of the 2 classes, 2 images')
    """
    variant = _variant(name)
    _refuse_other_version(variant, Path(folder))
    _check_head(train_classes)
    columns = _columns(variant, train_classes)
    ids = _wordnet_ids(variant, str(folder), open_source(folder, cache_dir=default_cache_dir()).classes)
    images = open_images(folder, workers=workers, max_broken_share=max_broken_share)
    number = {train_classes[column]: column for column in columns}
    labels = np.array([*(number.get(one, -1) for one in ids), -1], np.int64)[images.labels]
    kept = images.subset(np.flatnonzero(labels >= 0))
    if not len(kept):
        raise EvaluationError(
            f"{name}: none of the {len(images)} images has a class of the head; give it a folder with other classes"
        )
    rule = f"the head chooses among {len(columns)} of its {len(train_classes)} classes"
    restricted = replace(kept, labels=labels[labels >= 0], classes=tuple(train_classes))
    notes = _notes(variant, images, ids, restricted)
    return RobustSet(name, restricted, tuple(columns), rule, (*notes, f"{name}: {rule}"))


def _variant(name: str) -> ImageNetVariant:
    if name not in IMAGENET_VARIANTS:
        longer = [known for known in IMAGENET_VARIANTS if known.startswith(name)]  # "imagenet-v2" has three versions
        hint = nearest(name, longer or IMAGENET_VARIANTS, most=3, separator="/") or "; choose among these."
        known = ", ".join(IMAGENET_VARIANTS)
        raise DataError(f"{name}: there is no variant of ImageNet of this name, known are {known}{hint}")
    return IMAGENET_VARIANTS[name]


def _refuse_other_version(variant: ImageNetVariant, folder: Path) -> None:
    """Refuse a folder whose own name is that of another variant: the three versions of V2 are laid out alike."""
    called = next((other for other in _PUBLISHED if _is_called(other, folder)), variant)
    if called.name != variant.name:
        raise DataError(
            f"{folder}: this folder is called as {called.name} and was given as {variant.name}; give {called.name}."
        )


def _is_called(variant: ImageNetVariant, folder: Path) -> bool:
    """Return whether the folder has the name of a variant, or of its images of 100 classes, in any spelling."""
    return _spelled(folder.name) in {_spelled(variant.name), _spelled(variant.folder)}


def _spelled(name: str) -> str:
    """Return a name without case, punctuation, the 100 of ImageNet-100 and the end of ImageNet-V2's folders."""
    return re.sub(r"[^a-z0-9]", "", name.lower()).replace("imagenet100", "imagenet").removesuffix("formatval")


def _check_head(train_classes: Sequence[str]) -> None:
    """Refuse a head whose classes are not of ImageNet-1k, or not one for each logit."""
    known = set(imagenet_classes())
    unknown = [name for name in train_classes if name not in known]
    if unknown:
        raise DataError(
            f"the head has {len(unknown)} classes that are no WordNet id of ImageNet-1k ({first_names(unknown)}); "
            "train it on class folders such as n01440764"
        )
    if len(set(train_classes)) != len(train_classes):
        raise DataError("the classes of the head repeat themselves; give one WordNet id for each logit")


def _wordnet_ids(variant: ImageNetVariant, folder: str, classes: Sequence[str]) -> list[str]:
    """Return the WordNet id of every class folder."""
    published = set(_classes_of(variant))
    if classes and all(name.isdecimal() for name in classes) and variant.name.startswith("imagenet-v2"):
        return _numbered(folder, classes)
    unknown = [name for name in classes if name not in published]
    if unknown or not classes:
        raise DataError(
            f"{folder}: {len(unknown)} of {len(classes)} class folders ({first_names(unknown)}) are none of the "
            f"{len(published):,} classes of {variant.name}; give the folder that holds such as {min(published)}."
        )
    return list(classes)


def _numbered(folder: str, classes: Sequence[str]) -> list[str]:
    """Return the WordNet ids of class folders 0 to 999: numbers into the sorted ids, whatever the order of folders."""
    numbers = [int(name) for name in classes]
    known = imagenet_classes()
    if max(numbers) >= len(known):
        raise DataError(
            f"{folder}: the class folder {max(numbers)} is above 999, ImageNet-V2's last; name it otherwise."
        )
    if sorted(numbers) == list(range(len(numbers))) and len(numbers) < len(known):
        raise DataError(
            f"{folder}: folders 0 to {max(numbers)} may number the classes of a subset or the first of all 1,000; name "
            "them by WordNet id, such as n01440764."
        )
    return [known[number] for number in numbers]


def _classes_of(variant: ImageNetVariant) -> tuple[str, ...]:
    """Return the classes that the variant was published with."""
    return imagenet_classes(variant.name if variant.classes < 1_000 else "imagenet-1k")


def _columns(variant: ImageNetVariant, train_classes: Sequence[str]) -> list[int]:
    """Return the classes among which the head chooses."""
    published = set(_classes_of(variant))
    columns = [column for column, name in enumerate(train_classes) if name in published]
    if len(columns) < 2:
        raise EvaluationError(
            f"{variant.name}: the head knows {len(columns)} of its {len(published):,} classes, so a score would say "
            "nothing; give a head of more classes"
        )
    return columns


def _notes(variant: ImageNetVariant, images: ImageSet, ids: Sequence[str], kept: ImageSet) -> list[str]:
    """Return how many classes and images are left, and what was left out."""
    name, total = variant.name, len(images) + len(images.quarantined)
    tested = len(np.unique(kept.labels))
    notes = [f"{name}: {tested} of the {len(kept.classes)} classes, {len(kept):,} images"]
    others = sum(one not in kept.classes for one in ids)
    if others:
        count = len(images) - len(kept) - int((images.labels < 0).sum())
        notes.append(f"{name}: {count:,} images of {others} classes that the head does not know are left out")
    if unlabeled := int((images.labels < 0).sum()):
        notes.append(f"{name}: {unlabeled:,} images outside any class folder are left out")
    if images.quarantined:
        notes.append(f"{name}: {len(images.quarantined):,} broken images are left out")
    if total != variant.images:
        notes.append(f"{name}: the folder has {total:,} of the {variant.images:,} published images")
    return notes


class FoundVariants(NamedTuple):
    """Folders of the variants below a folder, by name, and the names of those that are not there."""

    have: dict[str, Path]
    missing: tuple[str, ...]


def find_variants(root: str | Path) -> FoundVariants:
    """Return which variants of ImageNet lie in a folder, by the names of its subfolders.

    Args:
        root: folder with subfolders such as imagenet-a, sketch, imagenetv2-top-images-format-val or imagenet100-r, in
            any spelling of case and punctuation.

    Returns:
        Folders by name of the variant, and missing names, both in the order of `IMAGENET_VARIANTS`.

    Raises:
        DataError: if there is no such folder, or if two subfolders are the same variant.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     Path(root, "ImageNet-Sketch").mkdir()
        ...     found = find_variants(root)
        >>> list(found.have), len(found.missing)
        (['imagenet-sketch'], 5)
    """
    if not is_folder(user_path(root)):
        raise DataError(
            f"{root}: there is no such folder; give the one that holds imagenet-a, imagenet-r and the like."
        )
    subfolders = sorted(path for path in user_path(root).iterdir() if path.is_dir())
    have: dict[str, Path] = {}
    for variant in _PUBLISHED:
        called = [path for path in subfolders if _is_called(variant, path)]
        if len(called) > 1:
            raise DataError(f"{root}: {called[0].name} and {called[1].name} are both {variant.name}; keep one of them.")
        if called:
            have[variant.name] = called[0]
    return FoundVariants(have, tuple(name for name in IMAGENET_VARIANTS if name not in have))
