"""One side of an audit: the images of some sources, with what the manifest of a data set folder says about them.

Axis letters: N images of the side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Int64

from syn2co.core import keyed_rng
from syn2co.core.errors import Syn2CoError
from syn2co.core.files import public_path
from syn2co.core.paths import lies_there, user_path
from syn2co.core.urls import without_secrets
from syn2co.data.named_source import SCHEMES
from syn2co.data.open import open_images
from syn2co.data.stored_set import RECIPE, StoredSetSource, is_stored_set
from syn2co.images.image_set import ImageSet
from syn2co.synthesis.sets.dataset_folder import read_recipe
from syn2co.synthesis.sets.settings import SET

Specs = str | Path | Sequence[str | Path]


class AuditError(Syn2CoError):
    """An audit cannot be made of this, or what it found is refused."""


@dataclass(frozen=True)
class AuditedSet:
    """The images of one side; `groups` and `made_from` hold what the manifest says, or None without a manifest.

    `made_from` is the key of the real image that a synthetic one is a variation of, and `learned` has the fingerprints
    of the real images that the generators learned from.
    """

    role: str
    names: tuple[str, ...]
    images: ImageSet
    groups: tuple[str | None, ...] | None
    labels_used: bool
    made_from: tuple[str | None, ...] | None = None
    learned: frozenset[str] = frozenset()

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
        return keyed_rng.permutation(len(self), "audit", seed, self.role, self.images.fingerprint)[:count]

    def file_kind(self, index: int) -> str:
        """Return the kind of file that the image's name announces: png, jpg, ..., or pixels."""
        suffix = PurePosixPath(self.name(index)).suffix.lower().lstrip(".")
        return {"jpeg": "jpg", "tiff": "tif", "": "pixels"}.get(suffix, suffix)


def open_audited_set(role: str, specs: Specs) -> AuditedSet:
    """Return the images of `specs`; a data set folder (recipe.json beside shards) stands for its shards.

    Broken images are left out and listed in `images.quarantined`, however many they are.

    Raises:
        DataError: if a source is missing, none of its images can be read, or a data set is unfinished or was changed.
        AuditError: if a data set folder has no shard yet.
    """
    given = [specs] if isinstance(specs, str | Path) else list(specs)
    if not given:
        raise AuditError(f"{role}: no source of images was given; name a folder, tar files or a data set folder")
    for spec in given:
        _refuse_empty(spec)
    images = open_images(given, max_broken_share=1.0)
    sets = {number: source for number, source in enumerate(images.sources) if isinstance(source, StoredSetSource)}
    used = any(source.labels_used for source in sets.values())
    side = AuditedSet(role, tuple(map(_public, given)), images, None, used)
    if not sets:
        return side
    lines = {
        f"{number}:{line['id']}": (line["group"], line["source"])
        for number, source in sets.items()
        for line in source.lines()
    }
    told = [lines.get(images.name(index).partition(".")[0], (None, None)) for index in range(len(images))]
    groups, sources = zip(*told, strict=True) if told else ((), ())
    return replace(
        side, groups=groups, made_from=sources, learned=frozenset(filter(None, map(_learned, sets.values())))
    )


def _learned(source: StoredSetSource) -> str | None:
    """Return the fingerprint of the real images that the generator of a set learned from."""
    recipe = read_recipe(source.root)
    return None if recipe is None else recipe[SET]["real"]


def _below(images: ImageSet, index: int) -> str:
    """Return an image's name below its source."""
    return images.name(index).split(":", 1)[1]


def _refuse_empty(spec: str | Path) -> None:
    """Refuse a data set folder without a shard."""
    folder = user_path(spec)
    if lies_there(folder / RECIPE) and not is_stored_set(folder):
        raise AuditError(f"{folder}: this data set folder has no shard yet; finish `syn2co generate` first")


def _public(spec: str | Path) -> str:
    """Return the name of a source without the folders above it, so that a report tells nothing of the machine."""
    text = without_secrets(str(spec))
    scheme, _, rest = text.partition(":")
    return f"{scheme}:{public_path(rest)}" if scheme in SCHEMES else Path(text).name or text
