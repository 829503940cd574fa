"""Files are written whole or not at all: nothing before the end, nothing left after a failure, flushed in order."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from syn2co.core import files
from syn2co.core.errors import FileError
from syn2co.core.files import (
    atomic_file,
    exclusively,
    is_temporary,
    public_path,
    remove_temporaries,
    why_not_written,
    write_atomically,
    write_whole,
)

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is asked of the system, in order: flushes of files and folders, and renames."""
    asked: list[str] = []
    fsync, replace = os.fsync, os.replace

    def flushed(descriptor: int) -> None:
        asked.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    def renamed(source: Path, target: Path) -> None:
        asked.append(f"{Path(source).name} -> {Path(target).name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    yield asked


def _fail_at(monkeypatch: pytest.MonkeyPatch, call: int, error: OSError) -> None:
    """Let the `call`-th flush, counted from 1, fail."""
    asked: list[int] = []

    def fails(descriptor: int) -> None:
        asked.append(descriptor)
        if len(asked) == call:
            raise error

    monkeypatch.setattr(os, "fsync", fails)


def test_a_file_appears_at_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("old")
    with atomic_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.name.startswith(".rows.csv.") and is_temporary(temporary.name)
        assert {file.name for file in tmp_path.iterdir()} == {"rows.csv", temporary.name}
    assert path.read_text() == "new"
    assert [found.name for found in tmp_path.iterdir()] == ["rows.csv"]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="tells a folder from a file by /proc")
def test_the_file_is_flushed_before_the_rename_and_the_folder_after_it(tmp_path: Path, calls: list[str]) -> None:
    with atomic_file(tmp_path / "a") as temporary:
        temporary.write_text("text")
    assert calls == ["file", f"{temporary.name} -> a", "folder"]


def test_a_cache_is_renamed_and_not_flushed(tmp_path: Path, calls: list[str]) -> None:
    with atomic_file(tmp_path / "a", durable=False) as temporary:
        temporary.write_text("text")
    assert calls == [f"{temporary.name} -> a"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_an_error_in_the_block_leaves_what_was_there(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(type(error)), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    _fail_at(monkeypatch, 1, FULL)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call, error", [(1, errno.EINVAL), (1, errno.ENOTSUP), (2, errno.EINVAL), (2, errno.EIO)])
def test_a_share_that_flushes_nothing_is_no_error(
    call: int, error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "_NOTED", set())
    for name in ("a", "b"):
        _fail_at(monkeypatch, call, OSError(error, os.strerror(error)))
        write_whole(tmp_path / name, "new")
        assert (tmp_path / name).read_text() == "new"
    what = "files" if call == 1 else "folders"
    assert capsys.readouterr().err.count(f"note: {what} cannot be flushed to this disk") == 1, "said once"


def test_a_disk_that_loses_data_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fail_at(monkeypatch, 1, OSError(errno.EIO, os.strerror(errno.EIO)))
    with pytest.raises(OSError, match="Input/output error"):
        write_whole(tmp_path / "a", "new")
    assert list(tmp_path.iterdir()) == []


def test_no_link_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's folder may hold links under any name that can be foreseen, and under that one by chance."""
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "0a1b2c3d")
    (tmp_path / "run" / ".a.0a1b2c3d.tmp").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "run" / "a", "new")
    with pytest.raises(FileExistsError), open(tmp_path / "run" / ".a.0a1b2c3d.tmp", "w", opener=exclusively):
        pass
    monkeypatch.undo()
    (tmp_path / "run" / ".a.tmp").symlink_to(tmp_path / "victim")
    (tmp_path / "run" / "a").symlink_to(tmp_path / "victim")
    write_whole(tmp_path / "run" / "a", "new")
    assert (tmp_path / "victim").read_text() == "precious" and not (tmp_path / "run" / "a").is_symlink()


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a") as first, atomic_file(tmp_path / "a") as second:
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "a").read_text() == "first", "whoever ends last"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_a_text_is_utf_8_with_the_line_ends_that_it_has(tmp_path: Path) -> None:
    write_whole(tmp_path / "new" / "folder" / "a", "ü\n\r\n")
    assert (tmp_path / "new" / "folder" / "a").read_bytes() == b"\xc3\xbc\n\r\n"
    write_whole(tmp_path / "b", b"\xff")
    assert (tmp_path / "b").read_bytes() == b"\xff"


def test_write_atomically_says_it_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"^a.txt: cannot be written \(.+\); nothing was changed$"):
        write_atomically(tmp_path / "file" / "a.txt", "text")


def test_the_reason_of_a_full_disk_and_of_another_error() -> None:
    assert why_not_written(FULL).startswith("no space is left on the device; free some")
    assert why_not_written(OSError(errno.EDQUOT, "Quota")).startswith("no space is left on the device; free some")
    assert why_not_written(OSError(errno.EROFS, "Read-only file system")).startswith("Read-only file system; ")


@pytest.mark.parametrize("text, public", [
    ("/home/me/models/flow", "flow"), ("~/flow", "flow"), ("./flow", "flow"), ("..\\flow", "..\\flow"),
    ("org/model", "org/model"), ("procedural:mix", "procedural:mix"), ("/", "/"),
])  # fmt: skip
def test_a_published_path_does_not_tell_where_it_lies(text: str, public: str) -> None:
    assert public_path(text) == public


def test_whoever_is_alone_deletes_what_killed_processes_left(tmp_path: Path) -> None:
    for name in (".a.0a1b2c3d.tmp", ".a.tmp", ".b.0a1b2c3d.tmp", "a.tmp"):
        (tmp_path / name).write_text("half")
    write_whole(tmp_path / "a", "new")
    assert len(list(tmp_path.iterdir())) == 5
    write_whole(tmp_path / "a", "new", alone=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.0a1b2c3d.tmp", "a", "a.tmp"]
    remove_temporaries(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.tmp"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in folders")
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_plain_file_is_never_replaced(linked: bool, tmp_path: Path) -> None:
    """As `--out /dev/null`, for root: the whole machine would lose its null device."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    if linked:
        (tmp_path / "link").symlink_to(path)
        path = tmp_path / "link"
    with pytest.raises(
        FileError, match=r"cannot be written \(it is a device, a pipe or a socket\); nothing was changed"
    ):
        write_atomically(path, "text")
    assert path.is_fifo() and path.is_symlink() == linked and len(list(tmp_path.iterdir())) == 1 + linked


@pytest.mark.skipif(os.name == "nt", reason="Windows counts the whole path")
@pytest.mark.parametrize("name", ["n" * 255, "é" * 127])
def test_a_name_may_be_as_long_as_the_disk_takes_it(name: str, tmp_path: Path) -> None:
    write_whole(tmp_path / name, "text", alone=True)
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / name) as temporary:
        kept = temporary.rename(tmp_path / f"{temporary.name[:-13]}.00000000.tmp")
        raise ZeroDivisionError
    remove_temporaries(tmp_path, name)
    assert not kept.exists() and (tmp_path / name).read_text() == "text"


def test_a_link_of_the_systems_device_folder_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/stdout is a link, which may lead to a file."""
    (tmp_path / "stdout").symlink_to(tmp_path / "file")
    (tmp_path / "file").write_text("kept")
    monkeypatch.setattr(files.os.path, "realpath", lambda path: "/dev" if Path(path) == tmp_path else path)
    with pytest.raises(OSError, match="it is a device"), files.atomic_file(tmp_path / "stdout") as temporary:
        temporary.write_text("lost")
    assert (tmp_path / "stdout").is_symlink() and (tmp_path / "file").read_text() == "kept"
