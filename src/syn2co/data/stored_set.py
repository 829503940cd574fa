"""A synthetic data set as a source of images: its shards, with what the manifests say of every image.

A set is complete when every shard that its recipe plans has a tar and a manifest that fit each other and hold as many
images as are planned; one that is still being made, or was changed by hand, is refused rather than trained on in part.

Axis letters: M images of the set.
"""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64

from syn2co.core.errors import DataError, SynthesisError
from syn2co.core.hints import first_names
from syn2co.core.paths import is_file, names_in
from syn2co.images.identity import group_id, source_id
from syn2co.images.index import class_name, sort_classes
from syn2co.images.sources.tar import TarSource, open_tars

Progress = Callable[[str, int, int], None]
RECIPE = "recipe.json"
_SHARD = re.compile(r"(\d{6,})\.(tar|jsonl)")


class StoredSetSource:
    """The images of a synthetic data set, named "<id>.png" whichever shard they lie in."""

    on_the_fly = False

    def __init__(self, root: Path, tars: TarSource, metadata: "Facts") -> None:
        self.root = root
        self.tars = tars
        self.identity, self.skipped, self.ignored = tars.identity, tars.skipped, tars.ignored
        self.labels, self.classes = metadata.label_array()
        self.group_ids, self.source_ids = metadata.groups, metadata.sources
        self.labels_used = metadata.labels_used
        self.made_by = tuple(sorted(metadata.made_by))
        self.licenses = {name: tuple(sorted(licenses)) for name, licenses in sorted(metadata.licenses.items())}
        self._manifests = metadata.hasher.digest()

    @property
    def nbytes(self) -> int:
        """Return the memory of the index in bytes."""
        return self.tars.nbytes + self.labels.nbytes + self.group_ids.nbytes + self.source_ids.nbytes

    @property
    def stamp(self) -> str | None:
        """Return a text that changes whenever a tar may have changed."""
        return self.tars.stamp

    def __len__(self) -> int:
        return len(self.tars)

    def name(self, row: int) -> str:
        """Return the member's name without its shard: a set that grows changes no name."""
        return self.tars.name(row).rpartition("/")[2]

    def load(self, row: int) -> bytes:
        """Return the member's bytes; raises BrokenImage."""
        return self.tars.load(row)

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the manifest lines, one per image, in the order of the plan."""
        for name in _shards(self.root, _planned(self.root)):
            yield from _sealed_lines(self.root / f"{name}.jsonl")

    def digest(self) -> bytes:
        """Return the hash of names, sizes and manifests."""
        return blake2b(self.tars.digest() + self._manifests, digest_size=16).digest()


@dataclass
class Facts:
    """Facts of the manifests, in the order of the tars' rows."""

    groups: Int64[np.ndarray, " M"]
    sources: Int64[np.ndarray, " M"]
    labels_used: bool = False
    made_by: set[str] = field(default_factory=set)
    licenses: dict[str, set[str]] = field(default_factory=dict)
    """Of each generator whose images say one."""
    classes: dict[str, int] = field(default_factory=dict)
    class_numbers: list[int] = field(default_factory=list)
    hasher: blake2b = field(default_factory=lambda: blake2b(digest_size=16))

    def add(self, row: int, line: dict[str, Any]) -> None:
        """Note the line of the image at `row`; raises KeyError or TypeError if something is missing in it."""
        self.groups[row] = group_id(line["group"])
        self.sources[row] = -1 if line["source"] is None else source_id(line["source"])
        self.labels_used |= line["labels"] == "used"
        self.made_by.add(str(line["generator"]))
        if line.get("license") is not None:
            self.licenses.setdefault(str(line["generator"]), set()).add(str(line["license"]))
        name = None if line["class"] is None else class_name(line["class"])
        self.class_numbers[row] = -1 if name is None else self.classes.setdefault(name, len(self.classes))
        self.hasher.update(line["check"].encode())

    def label_array(self) -> tuple[Int32[np.ndarray, " M"], tuple[str, ...]]:
        """Return the class of each image, -1 for none, and the classes in order."""
        classes = sort_classes(self.classes)
        number = {name: position for position, name in enumerate(classes)}
        table = np.array([*(number[name] for name in self.classes), -1], np.int32)
        return table[np.array(self.class_numbers, np.int64)], classes


@dataclass(frozen=True)
class _Planned:
    """Plan of the recipe, and the number of skipped images of each shard."""

    count: int
    shard_size: int
    skipped: Counter[int]

    @property
    def shards(self) -> int:
        return -(-self.count // self.shard_size)

    def images(self, shard: int) -> int:
        """Return how many images a finished shard holds."""
        return max(0, min(self.shard_size, self.count - shard * self.shard_size)) - self.skipped[shard]


def is_stored_set(folder: Path) -> bool:
    """Return whether a folder is a synthetic data set: a recipe beside shards, finished or not."""
    return is_file(folder / RECIPE) and any(map(_SHARD.search, names_in(folder)))


def open_stored_set(root: Path, *, cache_dir: Path, report: Progress | None = None) -> StoredSetSource:
    """Return the images of a data set, after every manifest was compared with itself and with its tar's members.

    The contents of the images are compared by `verify`; here they are decoded, as those of any source.

    Raises:
        DataError: if a shard is unfinished, missing or shorter than planned, or a manifest is torn, was changed, or
            does not fit its tar.
    """
    root = root.resolve()
    planned = _planned(root)
    shards = _shards(root, planned)
    # A store (hub cache, git-annex, DVC) holds the files under other names, and the set has links to them.
    tars = open_tars([root / f"{name}.tar" for name in shards], cache_dir=cache_dir, follow=False)
    rows = _rows(tars, shards)
    metadata = Facts(np.empty(len(tars), np.int64), np.empty(len(tars), np.int64), class_numbers=[-1] * len(tars))
    for number, name in enumerate(shards, 1):
        _read_manifest(root / f"{name}.jsonl", rows[name], tars, metadata)
        _check_length(root, name, len(rows[name]), planned.images(number - 1))
        if report is not None:
            report("index", number, len(shards))
    return StoredSetSource(root, tars, metadata)


def _shards(root: Path, planned: _Planned) -> list[str]:
    """Return the names of the shards in order, all of which have both files."""
    endings: dict[str, set[str]] = {}
    for name in names_in(root):
        if (match := _SHARD.fullmatch(name)) and is_file(root / name):
            endings.setdefault(match[1], set()).add(match[2])
    stray = [name for name in endings if int(name) >= planned.shards or name != f"{int(name):06d}"]
    if stray:
        raise DataError(
            f"{root}: holds {first_names(stray)}, and its {RECIPE} plans {planned.shards} shards from 000000 on; take "
            "away what is not of the set"
        )
    names = sorted((name for name, kinds in endings.items() if len(kinds) == 2), key=int)
    if len(names) < planned.shards:
        first = next(number for number in itertools.count() if f"{number:06d}" not in names)
        raise DataError(
            f"{root}: {planned.shards - len(names)} of {planned.shards} shards are not finished (the first without "
            f"both .tar and .jsonl is {first:06d}); run its `syn2co generate` again, every --shard part of it"
        )
    return names


def _planned(root: Path) -> _Planned:
    """Return what the set is to hold."""
    from syn2co.synthesis.sets.dataset_folder import read_recipe, read_skipped
    from syn2co.synthesis.sets.settings import SET

    try:
        recipe, skipped = read_recipe(root), read_skipped(root)
    except SynthesisError as error:
        raise DataError(str(error)) from None
    assert recipe is not None
    count, size = recipe[SET]["count"], recipe[SET]["shard_size"]
    return _Planned(count, size, Counter(index // size for index in skipped))


def _check_length(root: Path, shard: str, images: int, planned: int) -> None:
    """Refuse a shard from before the set was asked to grow."""
    if images != planned:
        raise DataError(
            f"{root.name}/{shard}.jsonl: it has {images} lines and {RECIPE} plans {planned} images of this shard, so "
            "the set is not finished; run the same `syn2co generate` again"
        )


def _rows(tars: TarSource, shards: list[str]) -> dict[str, range]:
    """Return the rows of each shard: they follow each other in the order of the shards."""
    counts = dict.fromkeys(shards, 0)
    for row in range(len(tars)):
        counts[tars.name(row).partition("/")[0] if len(shards) > 1 else shards[0]] += 1
    ends = np.cumsum(list(counts.values())).tolist()
    return {name: range(end - counts[name], end) for name, end in zip(shards, ends, strict=True)}


def _read_manifest(path: Path, rows: range, tars: TarSource, metadata: Facts) -> None:
    """Take in one manifest, whose images must be those of its tar."""
    row_of = {tars.name(row).rpartition("/")[2].partition(".")[0]: row for row in rows}
    lines = 0
    for line in _sealed_lines(path):
        lines += 1
        row = row_of.pop(str(line.get("id")), None)
        if row is None:
            raise _misfit(path, f"line {lines} is of image {line.get('id')}, which {path.stem}.tar does not hold once")
        try:
            metadata.add(row, line)
        except (KeyError, TypeError, AttributeError) as error:
            raise _misfit(path, f"line {lines} lacks what every line must have ({error})") from None
    if lines != len(rows):
        raise _misfit(path, f"it has {lines} lines and {path.stem}.tar has {len(rows)} images")


def _sealed_lines(path: Path) -> Iterator[dict[str, Any]]:
    from syn2co.synthesis.sets.manifest import read_lines

    try:
        yield from read_lines(path)
    except ValueError as error:
        raise DataError(f"{path.parent.name}/{error}; {_mend(path)}") from None


def _misfit(path: Path, what: str) -> DataError:
    return DataError(f"{path.parent.name}/{path.name}: {what}; {_mend(path)}")


def _mend(path: Path) -> str:
    return (
        f"`syn2co verify {path.parent.name}` lists what is damaged; delete {path.name} and run `syn2co generate` again "
        "to make the shard anew"
    )
