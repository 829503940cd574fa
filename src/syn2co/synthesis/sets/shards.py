"""Shards: tar files whose bytes are a function of their images, written whole or not at all.

Members are <id>.<format> and <id>.json (the manifest line), in the order of the plan.
"""

import contextlib
import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from syn2co.core.files import put_in_place, temporary_of
from syn2co.synthesis.sets.manifest import unseal


def stem(number: int) -> str:
    """Return the name of a shard without .tar or .jsonl."""
    return f"{number:06d}"


@dataclass(frozen=True)
class EncodedImage:
    """One image as it is stored: its encoded bytes and its sealed manifest line."""

    id: str
    text: str
    data: bytes


class ShardWriter:
    """Writes a tar under a temporary name; `finish` flushes it and puts it in place. Times and owners are 0."""

    def __init__(self, path: Path, suffix: str) -> None:
        self.path, self.suffix = path, suffix
        self.temporary = temporary_of(path)
        self._file: BinaryIO = open(self.temporary, "wb")  # noqa: SIM115 - closed by __exit__
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # a full disk: what cannot be flushed is lost, and said elsewhere
            self._file.close()

    def add(self, image: EncodedImage) -> None:
        """Append an image and its line."""
        for suffix, data in ((self.suffix, image.data), ("json", image.text.encode())):
            member = tarfile.TarInfo(f"{image.id}.{suffix}")
            member.size, member.mode = len(data), 0o644
            self._tar.addfile(member, io.BytesIO(data))
        self._tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue] - tarfile would keep every header

    def finish(self) -> None:
        """Put the tar in place."""
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        put_in_place(self.temporary, self.path)


def headers(path: Path) -> Iterator[tarfile.TarInfo]:
    """Yield the headers of a tar, in order.

    Raises:
        ValueError: if the file is no plain tar, is torn, or holds something behind its end.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
                yield member
            end = archive.offset
        with open(path, "rb") as file:
            file.seek(end)
            rest = file.read(tarfile.RECORDSIZE + 1)
        if len(rest) < tarfile.BLOCKSIZE or any(rest):
            raise ValueError(f"{path.name}: is torn or damaged at byte {end:,}")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(f"{path.name}: cannot be read as a tar ({error})") from None


def holds_exactly(path: Path, ids: Sequence[str], suffix: str) -> bool:
    """Return whether a tar is whole and holds these images with their lines, in this order, as plain files."""
    expected = (f"{name}.{kind}" for name in ids for kind in (suffix, "json"))
    try:
        for member in headers(path):
            if member.name != next(expected, None) or not member.isreg() or member.issparse():
                return False
    except ValueError:
        return False
    return next(expected, None) is None


class PartialShard:
    """Images of earlier attempts at a shard, whole ones of torn files too; only what verifies is handed out."""

    def __init__(self, paths: Sequence[Path], suffix: str) -> None:
        self._places: dict[str, tuple[Path, tarfile.TarInfo, tarfile.TarInfo]] = {}
        for path in paths:
            self._index(path, suffix)

    def _index(self, path: Path, suffix: str) -> None:
        image: tarfile.TarInfo | None = None
        with contextlib.suppress(ValueError):
            for member in headers(path):
                name, _, kind = member.name.partition(".")
                if kind == "json" and image is not None and image.name == f"{name}.{suffix}":
                    self._places[name] = (path, image, member)
                image = member if kind == suffix and member.isreg() else None

    def get(self, name: str) -> EncodedImage | None:
        """Return the image of an id if it lies there undamaged."""
        if name not in self._places:
            return None
        path, image, json_member = self._places[name]
        try:
            with open(path, "rb") as file:
                data, text = (_bytes(file, member) for member in (image, json_member))
            line: dict[str, Any] = unseal(text.decode())
        except (OSError, ValueError):
            return None
        intact = line["id"] == name and line.get("sha256") == sha256(data).hexdigest()
        return EncodedImage(name, text.decode(), data) if intact else None


def _bytes(file: BinaryIO, member: tarfile.TarInfo) -> bytes:
    file.seek(member.offset_data)
    return file.read(member.size)


def stored_images(path: Path, ids: Sequence[str], suffix: str) -> dict[str, bytes]:
    """Return the encoded images of some ids of a shard.

    Raises:
        ValueError: if the tar is damaged or an image is not in it.
    """
    wanted = {f"{name}.{suffix}": name for name in ids}
    found = {}
    with open(path, "rb") as file:
        for member in headers(path):
            if member.name in wanted and member.isreg():
                found[wanted[member.name]] = _bytes(file, member)
    missing = [name for name in ids if name not in found]
    if missing:
        raise ValueError(f"{path.name}: lacks image {missing[0]}")
    return found
