"""One side of an audit: the images of some sources, with what the manifest of a data set folder says about them.

Axis letters: N images of the side.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Int64

from syn2co import keyed
from syn2co.errors import Syn2CoError
from syn2co.images import ImageSet, open_images
from syn2co.images.opening import SCHEMES

Specs = str | Path | Sequence[str | Path]


class AuditError(Syn2CoError):
    """An audit cannot be made of this, or what it found is refused."""


@dataclass(frozen=True)
class Side:
    """The images of one side; `groups` holds the manifest's group texts, or None where there is no manifest."""

    role: str
    names: tuple[str, ...]
    images: ImageSet
    groups: tuple[str | None, ...] | None
    labels_used: bool

    def __len__(self) -> int:
        return len(self.images)

    @property
    def classed(self) -> bool:
        """Whether any image has a class."""
        return bool(len(self.images.classes)) and bool((self.images.labels >= 0).any())

    def name(self, index: int) -> str:
        """Return the image's name below its source."""
        return _below(self.images, index)

    def group(self, index: int) -> str | None:
        """Return the group that the manifest gives the image, None where it gives none."""
        return self.groups[index] if self.groups else None

    def group_numbers(self) -> Int64[np.ndarray, " N"]:
        """Return a number for each image that is equal only within a group; without a group the image is its own."""
        texts = [self.group(index) or f"\x1f{index}" for index in range(len(self))]
        return np.unique(texts, return_inverse=True)[1].reshape(-1).astype(np.int64)

    def sample(self, count: int, seed: int) -> Int64[np.ndarray, " n"]:
        """Return at most `count` different image numbers in a random order that is keyed by seed and contents."""
        return keyed.permutation(len(self), "audit", seed, self.role, self.images.fingerprint)[:count]

    def file_kind(self, index: int) -> str:
        """Return the kind of file that the image's name announces: png, jpg, ..., or pixels."""
        suffix = PurePosixPath(self.name(index)).suffix.lower().lstrip(".")
        return {"jpeg": "jpg", "tiff": "tif", "": "pixels"}.get(suffix, suffix)


def open_side(role: str, specs: Specs) -> Side:
    """Return the images of `specs`; a data set folder (recipe.json beside shards) stands for its shards.

    Broken images are left out and listed in `images.quarantined`, however many they are.

    Raises:
        DataError: if a source is missing, or none of its images can be read.
        AuditError: if a data set folder has no shard yet, or a line of its manifest is not JSON.
    """
    given = [specs] if isinstance(specs, str | Path) else list(specs)
    if not given:
        raise AuditError(f"{role}: no source of images was given; name a folder, tar files or a data set folder")
    sources: list[str | Path] = []
    lines: dict[str, dict] = {}
    for spec in given:
        shards = _shards(spec)
        sources.extend(shards or [spec])
        for shard in shards:
            lines.update((line["id"], line) for line in _manifest(shard))
    images = open_images(sources, max_broken_share=1.0)
    groups = None
    if lines:
        found = (lines.get(PurePosixPath(_below(images, index)).stem, {}) for index in range(len(images)))
        groups = tuple(line.get("group") for line in found)
    used = any(line.get("labels") == "used" for line in lines.values())
    return Side(role, tuple(map(_public, given)), images, groups, used)


def _below(images: ImageSet, index: int) -> str:
    """Return an image's name below its source."""
    return images.name(index).split(":", 1)[1]


def _shards(spec: str | Path) -> list[str | Path]:
    """Return the tar files of a data set folder; none if `spec` is something else."""
    folder = Path(spec)
    if not (folder / "recipe.json").is_file():
        return []
    shards = sorted(folder.glob("*.tar"))
    if not shards:
        raise AuditError(f"{folder}: this data set folder has no shard yet; finish `syn2co generate` first")
    return list(shards)


def _manifest(shard: str | Path) -> Iterator[dict]:
    """Yield the lines of the manifest beside a shard that have an id; nothing if there is no manifest."""
    path = Path(shard).with_suffix(".jsonl")
    if not path.is_file():
        return
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            line = json.loads(text)
        except ValueError:
            raise AuditError(f"{path}: line {number} is not JSON; run `syn2co verify` on the data set") from None
        if isinstance(line, dict) and isinstance(line.get("id"), str):
            yield line


def _public(spec: str | Path) -> str:
    """Return the name of a source without the folders above it, so that a report tells nothing of the machine."""
    text = str(spec)
    return text if text.partition(":")[0] in SCHEMES else Path(text).name or text
