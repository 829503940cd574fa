"""Verification of a data set against its recipe: every file, member, hash and line."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

from syn2co.core.errors import SynthesisError
from syn2co.core.paths import user_path
from syn2co.core.progress import Bar
from syn2co.images.decode import decode
from syn2co.images.quarantine import BrokenImage
from syn2co.synthesis.sets.dataset_folder import COST, RECIPE, SKIPPED, is_edited, is_sealed, read_recipe, read_skipped
from syn2co.synthesis.sets.job import Job, make_job
from syn2co.synthesis.sets.manifest import KEYS, mismatch, read_lines, unseal
from syn2co.synthesis.sets.recipe import recipe_hash
from syn2co.synthesis.sets.settings import NO_SETTINGS, SET
from syn2co.synthesis.sets.shards import Member, read_shard, stem
from syn2co.synthesis.sets.text_lists import SYNSET

MOST = 1000
"""Problems that are told in words; the rest are counted."""
LARGEST_LINE = 1 << 20
_TYPES = {"id": str, "seed": int, "subject": str, "k": int, "group": str, "sha256": str}
BYTES_A_PIXEL = 8
"""A stored image of more bytes than this for each pixel, and 64 kB, is no honest image."""


@dataclass(frozen=True)
class Verification:
    """Problems of a data set, in words; `valid` if there is none."""

    folder: Path
    """The data set folder, `out` of the call."""
    images: int
    """Images that were found and are as they should be."""
    skipped: int
    """Images that cannot be made, as skipped.jsonl lists them."""
    planned: int
    """Images of the whole set."""
    problems: tuple[str, ...]
    """One sentence each, at most 1000."""
    more: int
    """Problems beyond the first 1000."""
    sealed: bool = True
    """recipe.json bears a seal; sets of versions before 0.2 have none."""

    @property
    def valid(self) -> bool:
        return not self.problems

    def text(self) -> str:
        """Return the problems, one per line, and the verdict."""
        counts = f"{self.images} of {self.planned} images verified, {self.skipped} skipped and listed"
        if self.valid:
            unsealed = f", but {RECIPE} bears no seal, so an edit of settings that no image repeats goes unnoticed"
            return f"{self.folder.name}: {counts}; everything is as it should be{'' if self.sealed else unsealed}"
        more = [f"and {self.more} more problems"] if self.more else []
        advice = "the same `syn2co generate` makes damaged and missing shards again"
        return "\n".join([*self.problems, *more, f"{self.folder.name}: {counts}; {advice}"])


def verify(out: str | Path, *, progress: bool = False) -> Verification:
    """Return the problems of a data set folder: it must hold exactly the images of its recipe, undamaged.

    Every manifest line must bear its seal, the id that follows from recipe, subject and number, and the generator,
    model and settings of the set; every image must lie in its shard, have the hash of its line, decode, and have the
    right size; nothing else may lie in a shard.

    Args:
        out: data set folder; nothing is changed there.

    Returns:
        The counts and the problems; `generate` with the same settings makes damaged shards again.

    Raises:
        SynthesisError: if the folder is no data set or its recipe.json or skipped.jsonl is damaged.

    Example:
        >>> info = syn2co.generate(syn2co.SynthesisSettings(size=16), "leaves", count=4)
        >>> verify(info.folder).text()
        'leaves: 4 of 4 images verified, 0 skipped and listed; everything is as it should be'
    """
    folder = user_path(out)
    recipe = read_recipe(folder)
    if recipe is None:
        raise SynthesisError(f"{folder.name}: holds no {RECIPE}, so it is no data set of syn2co; correct the path")
    about = recipe[SET]
    shards = -(-about["count"] // about["shard_size"])
    problems = _Problems()
    _check_recipe(recipe, problems)
    _check_names(folder, shards, problems)
    order = _Order(recipe, read_skipped(folder), problems)
    images = 0
    with Bar("verify", shards, show=progress) as bar:
        for number in range(shards):
            images += _shard(folder, number, recipe, order, problems)
            bar.advance()
    order.finish()
    return Verification(
        folder,
        images,
        len(order.skipped),
        about["count"],
        tuple(problems.told),
        problems.count - len(problems.told),
        sealed=is_sealed(recipe),
    )


class _Problems:
    """Problems in words, the first ones."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.count = 0

    def add(self, text: str) -> None:
        self.count += 1
        if len(self.told) < MOST:
            self.told.append(text)


def _check_recipe(recipe: Mapping[str, Any], problems: _Problems) -> None:
    settings = {name: value for name, value in recipe.items() if name not in NO_SETTINGS}
    try:
        intact = recipe_hash(settings, recipe[SET]["code"], recipe[SET]["real"]) == recipe["hash"]
    except (KeyError, TypeError, AttributeError):
        intact = False
    if not intact:
        problems.add(f"{RECIPE}: its settings do not have its hash {recipe['hash']}; it was changed")
    elif is_edited(recipe):
        problems.add(f"{RECIPE}: was changed after it was written")


def _check_names(folder: Path, shards: int, problems: _Problems) -> None:
    """List shards that do not belong to the set."""
    expected = {f"{stem(number)}{suffix}" for number in range(shards) for suffix in (".tar", ".jsonl")}
    expected |= {SKIPPED, COST}
    for path in sorted(folder.iterdir()):
        if path.suffix in (".tar", ".jsonl") and path.name not in expected and not path.name.startswith("."):
            problems.add(f"{path.name}: is not part of a set of {shards} shards; remove it")


class _Order:
    """Checks that lines come in the order of the plan, subjects in turn, and that the list of subjects is the set's."""

    def __init__(self, recipe: Mapping[str, Any], skipped: dict[int, dict[str, Any]], problems: _Problems) -> None:
        about = recipe[SET]
        self.hash, self.skipped, self.found = recipe["hash"], skipped, problems
        self.count, self.kind, self.number = about["count"], about["subjects"]["kind"], about["subjects"]["number"]
        self.per_subject, self.metadata = recipe["per_subject"], about["facts"]
        self.first: dict[int, bytes] = {}
        """A short hash of each subject, from the first image of it."""
        for index, line in skipped.items():
            if not (0 <= index < self.count and line["id"] == make_job(self.hash, line["subject"], line["k"]).id):
                problems.add(f"{SKIPPED}: image {line['id']} does not follow from the recipe")

    def places(self, number: int, size: int) -> list[int]:
        """Return the places in the plan of the images that a shard should hold."""
        return [i for i in range(number * size, min((number + 1) * size, self.count)) if i not in self.skipped]

    def check(self, where: str, index: int, line: Mapping[str, Any]) -> None:
        """Compare a line to place `index` of the plan."""
        job = make_job(self.hash, line["subject"], line["k"])
        if (job.id, job.seed) != (line["id"], line["seed"]):
            self.found.add(f"{where}: id and seed of image {line['id']} do not follow from recipe, subject and number")
        k, number = self._turn(index)
        subject = f"program:{number}" if self.kind == "programs" else line["subject"]
        if (line["subject"], line["k"]) != (subject, k) or self._other(number, line["subject"]):
            self.found.add(f"{where}: image {line['id']} is not image {index} of the plan")
        complaint = mismatch(line, self._job(line), self.metadata)
        if complaint is not None:
            self.found.add(f"{where}: image {line['id']} {complaint}")

    def _job(self, line: Mapping[str, Any]) -> Job:
        """Return the job of a line; the prompts of classes are taken from the line, since lists are not in a set."""
        subject, prompt = line["subject"], line["prompt"] if self.kind == "classes" else None
        group = class_name = source = None
        if self.kind == "programs":
            group = f"program:{self.hash}:{subject.removeprefix('program:')}"
        elif self.kind == "classes":
            class_name = _class(subject, line["class"])
        elif self.kind == "captions":
            group, prompt = f"caption:{subject}", subject
        elif self.kind == "real images":
            group = source = subject
        return make_job(self.hash, subject, line["k"], group=group, class_name=class_name, prompt=prompt, source=source)

    def _turn(self, index: int) -> tuple[int, int]:
        """Return (k, number of the subject) of a place in the plan."""
        if self.number is None:
            program, k = divmod(index, self.per_subject)
            return k, program
        return divmod(index, self.number)

    def _other(self, number: int, subject: str) -> bool:
        """Return whether another subject was seen at this place of the list."""
        if self.kind == "programs":
            return False
        short = blake2b(subject.encode(), digest_size=8).digest()
        return self.first.setdefault(number, short) != short

    def finish(self) -> None:
        """Say if two places of the list hold the same subject, or if nothing is left of the set."""
        if len(self.skipped) >= self.count:
            self.found.add(f"{SKIPPED}: lists all {self.count} images and a set needs at least one; fix the generator")
        if len(set(self.first.values())) != len(self.first):
            self.found.add(f"{RECIPE}: a subject occurs twice in its list")


def _class(subject: str, named: Any) -> str:
    """Return the name of a class: the one that a line gives if it can be this subject's, else the subject."""
    fits = isinstance(named, str) and (subject.startswith(f"{named}: ") or SYNSET.fullmatch(named))
    return named if fits else subject


def _shard(folder: Path, number: int, recipe: Mapping[str, Any], order: _Order, problems: _Problems) -> int:
    """Return the number of good images of a shard and add its problems."""
    tar, manifest = folder / f"{stem(number)}.tar", folder / f"{stem(number)}.jsonl"
    missing = [path.name for path in (tar, manifest) if not path.exists()]
    if missing:
        problems.add(f"{' and '.join(missing)}: missing")
        return 0
    places = order.places(number, recipe[SET]["shard_size"])
    lines: dict[str, dict[str, Any]] = {}
    try:
        for index, line in enumerate(read_lines(manifest)):
            complaint = _malformed(line, recipe["size"])
            if complaint is None and line["id"] in lines:
                complaint = "is there twice"
            if complaint is not None:
                problems.add(f"{manifest.name}: line {index + 1} {complaint}")
                continue
            if index < len(places):
                order.check(manifest.name, places[index], line)
            lines[line["id"]] = line
    except ValueError as error:
        problems.add(f"{error}; the rest of its shard cannot be held against it")
        return 0
    if len(lines) != len(places):
        problems.add(f"{manifest.name}: has {len(lines)} images where the plan has {len(places)}")
    return _tar(tar, lines, recipe, problems)


def _malformed(line: Mapping[str, Any], size: int) -> str | None:
    """Return what is wrong with the keys and types of a line, or None."""
    lacking = [key for key in KEYS if key not in line]
    if lacking:
        return f"lacks {lacking[0]}"
    odd = [key for key, kind in _TYPES.items() if type(line[key]) is not kind]
    if odd:
        return f"has {odd[0]} = {line[odd[0]]!r}, which is no {_TYPES[odd[0]].__name__}"
    return None if line["size"] == [size, size] else f"has size = {line['size']}, not {[size, size]}"


def _tar(tar: Path, lines: Mapping[str, Mapping[str, Any]], recipe: Mapping[str, Any], problems: _Problems) -> int:
    """Return the number of good images in a tar and add its problems."""
    good, seen = set[str](), set[str]()
    try:
        for member in read_shard(tar):
            whole = member.header.name
            complaint = _foreign(member, lines, recipe["format"], recipe["size"])
            if complaint is None and whole in seen:
                complaint = "is there twice"
            seen.add(whole)
            if complaint is None:
                complaint = _content(member.read(), member.kind, lines[member.name], recipe["size"])
            if complaint is not None:
                problems.add(f"{tar.name}: member {whole!r} {complaint}")
            elif member.kind != "json":
                good.add(member.name)
    except (ValueError, OSError) as error:
        problems.add(str(error))
    for name in lines:
        absent = [kind for kind in (recipe["format"], "json") if f"{name}.{kind}" not in seen]
        if absent:
            problems.add(f"{tar.name}: lacks {', '.join(f'{name}.{kind}' for kind in absent)}")
    return len(good)


def _foreign(member: Member, lines: Mapping[str, Any], suffix: str, size: int) -> str | None:
    """Return why a member must not be read, or None; nothing is read for that."""
    if member.header.name.startswith("/") or ".." in member.header.name.split("/"):
        return "leads out of the tar; nothing of the kind is ever written there"
    if not member.is_plain:
        return "is a link or something else than a plain file"
    if member.kind not in (suffix, "json") or member.name not in lines:
        return "is not in the manifest"
    most = LARGEST_LINE if member.kind == "json" else BYTES_A_PIXEL * size * size + 2**16
    return f"has {member.header.size:,} bytes, more than such a file can need" if member.header.size > most else None


def _content(data: bytes, kind: str, line: Mapping[str, Any], size: int) -> str | None:
    """Return what is wrong with the content of a member, or None."""
    if kind == "json":
        try:
            return None if unseal(data.decode()) == line else "differs from its manifest line"
        except ValueError as error:
            return str(error)
    if sha256(data).hexdigest() != line["sha256"]:
        return "does not have the sha256 of its manifest line"
    try:
        image = decode(data, max_pixels=size * size)
    except BrokenImage as error:
        return f"cannot be read: {error.reason}"
    if image.shape[:2] != (size, size):
        return f"has {image.shape[0]} x {image.shape[1]} pixels, not {size} x {size}"
    return None
