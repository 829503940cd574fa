"""Shards: tar files whose bytes are a function of their images, written whole or not at all.

Members are <id>.<format> and <id>.json (the manifest line), in the order of the plan.
"""

import contextlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from syn2co.core.files import exclusively, put_in_place, remove
from syn2co.core.json_files import refuse_special
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


def temporary_of(path: Path) -> Path:
    """Return the hidden name under which a shard is written; whoever holds its lock goes on from what lies there.

    Example:
        >>> temporary_of(Path("set", "000001.tar")).name
        '.000001.tar.tmp'
    """
    return path.with_name(f".{path.name}.tmp")


class ShardWriter:
    """Writes a tar under a temporary name; `finish` flushes it and puts it in place. Times and owners are 0.

    Without `finish` the temporary file stays: the next attempt at the shard takes its images from it.
    """

    def __init__(self, path: Path, suffix: str) -> None:
        self.path, self.suffix = path, suffix
        self.temporary = temporary_of(path)
        remove(self.temporary)  # perhaps a link to another file
        self._file: BinaryIO = open(self.temporary, "wb", opener=exclusively)  # noqa: SIM115 - closed by __exit__
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
        self._file.close()
        put_in_place(self.temporary, self.path)


@dataclass(frozen=True)
class Member:
    """A member of a shard: <name>.<kind>, its header, and its bytes on demand."""

    path: Path
    name: str
    kind: str
    header: tarfile.TarInfo

    @property
    def is_plain(self) -> bool:
        """Return whether it is a file as shards hold it: no link, no folder, nothing sparse."""
        return self.header.isreg() and not self.header.issparse()

    def read(self, file: BinaryIO | None = None) -> bytes:
        """Return its bytes, fewer where the tar is torn; the size that its header claims may be anything.

        `file`: the tar, where it is open already; opening it for every member costs on network shares.
        """
        if file is None:
            with open(self.path, "rb") as opened:
                return self.read(opened)
        file.seek(self.header.offset_data)
        return file.read(self.header.size)


def read_shard(path: Path) -> Iterator[Member]:
    """Yield the members of a tar, in order; only their headers are read.

    Raises:
        ValueError: if the file is no plain tar, is torn, or holds something behind its end.
    """
    try:
        refuse_special(path)
        with tarfile.open(path, "r:") as archive:
            while (header := archive.next()) is not None:
                archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
                name, _, kind = header.name.partition(".")
                yield Member(path, name, kind, header)
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
        for member in read_shard(path):
            if member.header.name != next(expected, None) or not member.is_plain:
                return False
    except ValueError:
        return False
    return next(expected, None) is None


class PartialShard:
    """Images of earlier attempts at a shard, whole ones of torn files too; only what verifies is handed out."""

    def __init__(self, paths: Sequence[Path], suffix: str) -> None:
        self._found: dict[str, tuple[Member, Member]] = {}
        for path in paths:
            self._index(path, suffix)

    def _index(self, path: Path, suffix: str) -> None:
        image: Member | None = None
        with contextlib.suppress(ValueError):
            for member in read_shard(path):
                if member.kind == "json" and image is not None and image.name == member.name:
                    self._found[member.name] = (image, member)
                image = member if member.kind == suffix and member.is_plain else None

    def get(self, name: str) -> EncodedImage | None:
        """Return the image of an id if it lies there undamaged."""
        if name not in self._found:
            return None
        try:
            data, text = (member.read() for member in self._found[name])
            line: dict[str, Any] = unseal(text.decode())
        except (OSError, ValueError):
            return None
        intact = line["id"] == name and line.get("sha256") == sha256(data).hexdigest()
        return EncodedImage(name, text.decode(), data) if intact else None


def stored_images(path: Path, ids: Sequence[str], suffix: str) -> dict[str, bytes]:
    """Return the encoded images of some ids of a shard.

    Raises:
        ValueError: if the tar is damaged or an image is not in it.
    """
    wanted = set(ids)
    images = {
        member.name: member.read()
        for member in read_shard(path)
        if member.kind == suffix and member.name in wanted and member.is_plain
    }
    missing = [name for name in ids if name not in images]
    if missing:
        raise ValueError(f"{path.name}: lacks image {missing[0]}")
    return images
