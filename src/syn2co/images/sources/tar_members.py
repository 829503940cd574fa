"""Members of a tar: images, their labels, and what is passed over; found in one pass.

WebDataset: `key.jpg` beside `key.cls` (a number or a name) or `key.json` (a "label", "cls", "class" or "class_name");
`key.seg.png` beside `key.jpg` is another picture of that sample.
"""

import tarfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from syn2co.core.errors import DataError
from syn2co.core.json_files import parse_json
from syn2co.core.paths import printable
from syn2co.images.index import (
    HIDDEN_IMAGES,
    IN_SYSTEM_FOLDERS,
    FileIndex,
    FileIndexBuilder,
    class_name,
    is_image_name,
    is_system_folder,
    sort_classes,
    unread_image,
)
from syn2co.images.quarantine import Quarantined

_LABEL_BYTES = 1 << 20
_JSON_KEYS = ("class_name", "class", "label", "cls")
REPLACED = "members that a later one of the same name replaces"
COMPANIONS = "other pictures of a sample (KEY.seg.png beside KEY.jpg)"
UNNAMED = "label files that name no class (KEY.cls)"
BEHIND = "bytes behind the end of a tar, which are none"


class TarImage(NamedTuple):
    """An image in a tar."""

    folder: str
    file_name: str
    size: int
    offset: int

    @property
    def stem(self) -> str:
        """Path without the suffix."""
        return _below(self.folder, self.file_name.rpartition(".")[0])

    @property
    def key(self) -> str:
        """WebDataset's key: the path up to the first dot of the file name."""
        return _below(self.folder, self.file_name.partition(".")[0])


def _below(folder: str, name: str) -> str:
    """Return the path of a name below a folder, of which "" is the top."""
    return f"{folder}/{name}"


@dataclass
class Members:
    """Members that a pass through a tar found, each by its path: the last one of a path counts."""

    images: dict[str, TarImage] = field(default_factory=dict)
    label_of: dict[str, str | None] = field(default_factory=dict)
    """Of each label file, by its path without the suffix."""
    skipped: dict[str, str] = field(default_factory=dict)
    ignored: int = 0
    passed: Counter[str] = field(default_factory=Counter)


def scan_tar(path: Path, name: str) -> FileIndex:
    """Return the images in one tar, sorted by folder and name; a message calls it `name`.

    Of several members of one name the last one counts, as when the tar is unpacked. Archives that were written one
    behind the other are all read. Symbolic links and names that lead out of the tar are skipped and listed.

    Raises:
        DataError: if the tar is compressed, damaged or not a tar.
    """
    _refuse_compressed(path, name)
    members = Members()
    try:
        with open(path, "rb") as file:
            end = _scan_archive(file, members)
            while (start := _next_archive(file, end)) is not None:
                file.seek(start)
                end = _scan_archive(file, members)
                if end == start:
                    members.passed[BEHIND] += path.stat().st_size - start
                    break
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise DataError(f"{name}: this file cannot be read as a tar ({error}); fetch or make it again.") from error
    return _listing(members)


def _scan_archive(file: IO[bytes], members: Members) -> int:
    """Add the members of the archive that begins where the file stands; return where its last member ends."""
    with tarfile.open(fileobj=file, mode="r:") as archive:
        while (member := archive.next()) is not None:
            # tarfile would keep every header: 1 GB for a million members
            archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
            _sort_member(archive, member, members)
        return archive.offset


def _next_archive(file: IO[bytes], end: int) -> int | None:
    """Return where the next archive begins behind the zeros that end one; None if nothing follows.

    Raises:
        ReadError: if the last member is followed by something else than zeros: tarfile stops there without a word.
    """
    file.seek(end)
    if any(file.read(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError(f"damaged header at byte {end:,}")
    position = end + tarfile.BLOCKSIZE
    while block := file.read(_LABEL_BYTES):
        rest = len(block.lstrip(b"\0"))
        if rest:
            return position + (len(block) - rest) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
        position += len(block)
    return None


def _refuse_compressed(path: Path, title: str) -> None:
    """Refuse a compressed tar: its members have no offset to read from."""
    with open(path, "rb") as file:
        head = file.read(6)
    for magic, name, command in (
        (b"\x1f\x8b", "gzip", "gunzip"),
        (b"BZh", "bzip2", "bunzip2"),
        (b"\xfd7zXZ\0", "xz", "unxz"),
        (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
    ):
        if head.startswith(magic):
            raise DataError(
                f"{title}: this tar is compressed with {name} and cannot be read by offset; decompress it ({command})."
            )


def _sort_member(archive: tarfile.TarFile, member: tarfile.TarInfo, members: Members) -> None:
    """Put one member where it belongs: image, label, skipped, passed over or ignored."""
    name = member.name.removeprefix("./")
    folder, _, file_name = name.rpartition("/")
    if member.isdir():
        return
    if is_image_name(file_name):
        _sort_image(member, name, members)
    elif _passed_over(name) is not None:
        return
    elif unread := unread_image(file_name):
        members.passed[unread] += 1
    elif member.isreg() and file_name.lower().endswith((".cls", ".json")) and member.size <= _LABEL_BYTES:
        file = archive.extractfile(member)
        assert file is not None
        stem, json_text = _below(folder, file_name.rpartition(".")[0]), file_name.lower().endswith(".json")
        label = _label(file.read(), json_text=json_text)
        members.passed[UNNAMED] += label is None and not json_text  # JSON may describe anything else
        members.label_of[stem] = label or members.label_of.get(stem)
    else:
        members.ignored += 1


def _sort_image(member: tarfile.TarInfo, name: str, members: Members) -> None:
    """Put one member with the name of an image where it belongs: image, skipped or passed over."""
    passed = _passed_over(name)
    if passed is not None:
        members.passed[passed] += 1
        return
    target = members.images.get(member.linkname.removeprefix("./")) if member.islnk() else None
    reason = _misplaced(name) or (None if target else _nasty(member))
    if reason:
        members.skipped[name] = reason
        return
    folder, _, file_name = name.rpartition("/")
    members.passed[REPLACED] += name in members.images
    members.skipped.pop(name, None)
    size, offset = (target.size, target.offset) if target else (member.size, member.offset_data)
    members.images[name] = TarImage(folder, file_name, size, offset)


def _passed_over(name: str) -> str | None:
    """Return why a member is passed over by its path, None if it is not."""
    parts = name.split("/")
    if any(part.startswith(".") and part not in (".", "..") for part in parts):
        return HIDDEN_IMAGES
    return IN_SYSTEM_FOLDERS if any(map(is_system_folder, parts)) else None


def _misplaced(name: str) -> str | None:
    """Return why a name is not to be trusted, None if it is."""
    if name.startswith("/") or name[1:2] == ":":
        return "its name in the tar is absolute; make the tar without -P"
    if ".." in name.split("/"):
        return "its name leads out of the tar with '..'"
    return None


def _nasty(member: tarfile.TarInfo) -> str | None:
    """Return why a member is not to be read, None if it may."""
    if member.islnk():
        return "it is a link to a member that is no image before it in the tar; store the image itself"
    if member.issym():
        return "it is a link inside the tar; store the image itself"
    if not member.isreg() or member.issparse():
        return "it is not a plain file inside the tar"
    return None


def _label(data: bytes, *, json_text: bool) -> str | None:
    """Return the class named in a label file as text; None if it names none."""
    try:
        value: Any = parse_json(data) if json_text else data.decode().strip()
    except ValueError:
        return None
    if isinstance(value, dict):
        value = next((value[key] for key in _JSON_KEYS if key in value), None)
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        return None
    return class_name(str(value))


def _listing(members: Members) -> FileIndex:
    """Return the members' images as a list; labeled only if label files name classes of these images."""
    images = _without_companions(members)
    images.sort(key=lambda image: (image.folder.split("/") if image.folder else [], image.file_name))
    builder = FileIndexBuilder()
    for folder, group in groupby(images, key=lambda image: image.folder):
        in_folder = list(group)
        builder.add(folder, [image.file_name for image in in_folder], (image.size for image in in_folder))
    label_of = _labels_by_image(members)
    named = [label_of(image) for image in images]
    classes = sort_classes({name for name in named if name is not None})
    number = {name: position for position, name in enumerate(classes)} | {None: -1}
    return builder.finish(
        labels=np.fromiter((number[name] for name in named), np.int32, len(images)),
        classes=classes,
        offsets=np.fromiter((image.offset for image in images), np.int64, len(images)),
        skipped=tuple(Quarantined(printable(name), reason) for name, reason in members.skipped.items()),
        ignored=members.ignored + (0 if images else len(members.label_of)),  # labels of nothing
        passed=tuple(sorted((+members.passed).items())),
    )


def _without_companions(members: Members) -> list[TarImage]:
    """Return the images but those that are another picture of a sample: key.seg.png beside key.jpg.

    A number between the dots (img.2.png beside img.png) counts copies and marks no other picture.
    """
    plain = {image.key for image in members.images.values() if image.key == image.stem}

    def companion(image: TarImage) -> bool:
        between = image.file_name.split(".")[1:-1]
        return image.key in plain and not all(part.isdecimal() for part in between)

    kept = [image for image in members.images.values() if not companion(image)]
    members.passed[COMPANIONS] += len(members.images) - len(kept)
    return kept


def _labels_by_image(members: Members) -> Callable[[TarImage], str | None]:
    """Return the function from an image to the class that its label file names.

    The label file has the image's name but for the suffix, or else WebDataset's key.
    """
    by_key: dict[str, str] = {}
    for stem, label in members.label_of.items():
        folder, _, name = stem.rpartition("/")
        if label is not None:
            by_key.setdefault(_below(folder, name.partition(".")[0]), label)

    def label_of(image: TarImage) -> str | None:
        if image.stem in members.label_of and members.label_of[image.stem] is not None:
            return members.label_of[image.stem]
        return by_key.get(image.key) if image.key == image.stem else members.label_of.get(image.key)

    return label_of
