"""A folder as a source: what is found, in which order, under which label, and what is remembered."""

import errno
import io
import os
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from syn2co.core.errors import DataError
from syn2co.core.paths import PathError
from syn2co.data.open import open_images
from syn2co.images.index_cache import default_cache_dir
from syn2co.images.quarantine import BrokenImage
from syn2co.images.sources import folder as folder_module
from syn2co.images.sources.folder import open_folder, scan_folder


def put(path: Path, value: int = 0, side: int = 4) -> Path:
    """Write a PNG of one gray value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", np.full((side, side, 3), value, np.uint8))[1].tobytes())
    return path


def names(root: Path, cache_dir: Path) -> list[str]:
    """Return the names of all images below `root`."""
    images = open_images(root, cache_dir=cache_dir)
    return [images.name(index) for index in range(len(images))]


def test_order_labels_and_pixels(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for value, name in enumerate(["dog/b.png", "cat/z.PNG", "cat/deep/a.jpg.png", "dog/a.png", "top.png"]):
        put(root / name, value)
    images = open_images(root, cache_dir=tmp_path / "cache")
    found = [images.name(index) for index in range(5)]
    assert found == ["0:top.png", "0:cat/z.PNG", "0:cat/deep/a.jpg.png", "0:dog/a.png", "0:dog/b.png"]
    assert images.classes == ("cat", "dog")
    assert images.labels.tolist() == [-1, 0, 0, 1, 1] and images.labels.dtype == np.int64
    assert images.groups.tolist() == [0, 1, 2, 3, 4] and images.groups.dtype == np.int64
    assert [int(images.read(index)[0, 0, 0]) for index in range(5)] == [4, 1, 2, 3, 0]


def test_order_does_not_depend_on_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b/2.png", "a/1.png", "b/1.png", "c.png", "a.png"):
        put(tmp_path / "data" / name)
    expected = names(tmp_path / "data", tmp_path / "cache")
    real = os.scandir

    class Reversed:
        def __init__(self, path: str) -> None:
            with real(path) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self.entries

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(folder_module.os, "scandir", Reversed)
    assert names(tmp_path / "data", tmp_path / "cache2") == expected
    assert expected == ["0:a.png", "0:c.png", "0:a/1.png", "0:b/1.png", "0:b/2.png"]


def test_single_top_folder_is_no_class(tmp_path: Path) -> None:
    put(tmp_path / "data/train/cat/1.png", 7)
    put(tmp_path / "data/train/dog/1.png", 9)
    images = open_images(tmp_path / "data", cache_dir=tmp_path / "cache")
    assert images.classes == ("cat", "dog") and images.name(0) == "0:cat/1.png"
    assert int(images.read(1)[0, 0, 0]) == 9


def test_flat_folder_has_no_labels(tmp_path: Path) -> None:
    put(tmp_path / "data/1.png")
    images = open_images(str(tmp_path / "data"), cache_dir=tmp_path / "cache")
    assert images.classes == () and images.labels.tolist() == [-1]


def test_hidden_and_other_files_are_passed_over(tmp_path: Path) -> None:
    put(tmp_path / "data/1.png")
    put(tmp_path / "data/.hidden.png")
    put(tmp_path / "data/.git/2.png")
    (tmp_path / "data/notes.txt").write_text("x")
    source = open_folder(tmp_path / "data", cache_dir=tmp_path / "cache")
    assert len(source) == 1 and source.listing.ignored == 1


def test_links(tmp_path: Path) -> None:
    put(tmp_path / "data/a/1.png")
    put(tmp_path / "elsewhere/2.png")
    (tmp_path / "data/a/loop").symlink_to(tmp_path / "data", target_is_directory=True)
    (tmp_path / "data/b").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "data/c").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "data/gone.png").symlink_to(tmp_path / "nothing.png")
    images = open_images(tmp_path / "data", cache_dir=tmp_path / "cache", max_broken_share=0.5)
    assert [images.name(index) for index in range(len(images))] == ["0:a/1.png", "0:b/2.png"]
    assert images.quarantined == [("0:gone.png", "it is a link to nothing")]


def test_odd_file_names(tmp_path: Path) -> None:
    put(tmp_path / "data" / "ä€😀 #%.png", 3)
    odd = os.fsencode(tmp_path / "data") + b"/\xff\xfe.png"
    try:
        Path(os.fsdecode(odd)).write_bytes(put(tmp_path / "data/x.png", 5).read_bytes())
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    images = open_images(tmp_path / "data", cache_dir=tmp_path / "cache")
    assert [images.name(index) for index in range(3)] == ["0:x.png", "0:ä€😀 #%.png", "0:\\xff\\xfe.png"]
    assert [int(images.read(index)[0, 0, 0]) for index in range(3)] == [5, 3, 5]


def test_class_names_are_the_same_in_every_spelling(tmp_path: Path) -> None:
    """Composed letters and accents behind letters (macOS), in folders, tars and label files; odd bytes are escaped."""
    composed, apart = "caf\u00e9", "cafe\u0301"
    put(tmp_path / "a" / composed / "1.png", 1)
    put(tmp_path / "a/b/1.png", 2)
    put(tmp_path / "b" / apart / "1.png", 3)
    put(tmp_path / "b/b/2.png", 4)
    pixels = (tmp_path / "a/b/1.png").read_bytes()
    for name, members in (("folders", {f"{apart}/5.png": pixels, "b/6.png": pixels}), ("labels", {"5.png": pixels})):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as archive:
            for path, data in {**members, **({"5.cls": apart.encode()} if name == "labels" else {})}.items():
                member = tarfile.TarInfo(path)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    sources = [tmp_path / name for name in ("a", "b", "folders.tar", "labels.tar")]
    images = open_images(sources, cache_dir=tmp_path / "cache")
    assert images.classes == ("b", composed) and images.labels.tolist() == [0, 1, 0, 1, 0, 1, 1]
    odd = tmp_path / "c" / "\udcffcat"
    try:
        odd.mkdir(parents=True)
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    put(odd / "1.png", 7)
    put(tmp_path / "c/dog/1.png", 8)
    images = open_images(tmp_path / "c", cache_dir=tmp_path / "cache")
    assert images.classes == ("\\xffcat", "dog") and len(images.fingerprint) == 32
    assert int(images.read(0)[0, 0, 0]) == 8 and int(images.read(1)[0, 0, 0]) == 7


def test_vanished_file_is_broken(tmp_path: Path) -> None:
    path = put(tmp_path / "data/cat/1.png")
    images = open_images(tmp_path / "data", cache="never", cache_dir=tmp_path / "cache")
    path.unlink()
    with pytest.raises(BrokenImage, match=r"0:cat/1.png: it cannot be read \(No such file or directory\)"):
        images.read(0)


@pytest.mark.parametrize(
    ("error", "advice"), [(errno.EACCES, r"\(Permission denied\); change the perm"), (errno.EIO, r"error\); fix that")]
)
def test_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, advice: str) -> None:
    put(tmp_path / "data/1.png")

    def refuse(path: str) -> None:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr(folder_module.os, "scandir", refuse)
        with pytest.raises(PathError, match=rf"data: cannot be reached .*{advice}"):
            scan_folder(tmp_path / "data")
    with pytest.raises(
        PathError, match=r"gone: cannot be reached \(No such file or directory\); fix that, or give ano"
    ):
        scan_folder(tmp_path / "gone")


def test_an_unreadable_subfolder_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "data/cat/1.png")
    put(tmp_path / "data/lost+found/2.png")
    real = os.scandir

    def refuse(path: str) -> Any:
        if path.endswith("lost+found"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    settle(tmp_path / "data")
    monkeypatch.setattr(folder_module.os, "scandir", refuse)
    monkeypatch.setattr(folder_module, "REMEMBER_FROM", 1)
    images = open_images(tmp_path / "data", cache_dir=tmp_path / "cache")
    assert images.quarantined == [("0:lost+found", "this folder cannot be read (Permission denied)")]
    assert len(images) == 1
    monkeypatch.undo()
    assert len(open_images(tmp_path / "data", cache_dir=tmp_path / "cache")) == 2


def test_a_link_that_cannot_be_followed_is_listed(tmp_path: Path) -> None:
    put(tmp_path / "data/cat/1.png")
    for name in ("loop.png", "notes"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "data" / name)
    images = open_images(tmp_path / "data", cache_dir=tmp_path / "cache")
    assert [entry.name for entry in images.quarantined] == ["0:loop.png"] and len(images) == 1
    assert "cannot be read" in images.quarantined[0].reason and images.ignored == 1


def test_passed_over_is_counted_and_said(settled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cat/@eaDir/1.png/THUMB.png", "__MACOSX/cat/._1.png", ".cache/3.png", "cat/._1.png", "#recycle/4.png"):
        put(settled / name)
    (settled / "lion").symlink_to(settled / "cat", target_is_directory=True)
    for name in ("shard.tar", "cat/2.AVIF", "cat/3.jpe", "cat/4.jpe"):
        (settled / name).write_bytes(b"")
    put(settled / "sets/leaves/contact.png")
    (settled / "sets/leaves/recipe.json").write_text("{}")
    (settled / "sets/leaves/000000.tar").write_bytes(b"")
    settle(settled)
    expected = {
        folder_module.IN_SYSTEM_FOLDERS: 3,
        folder_module.HIDDEN_IMAGES: 2,
        folder_module._LINKED: 1,
        folder_module._TARS: 1,
        folder_module._DATA_SETS: 1,
        ".avif files, a format that is not read (convert them)": 1,
        ".jpe files, JPEGs under a name that is not read (rename them .jpg)": 2,
    }
    for _ in range(2):  # listed, then remembered
        source = open_folder(settled, cache_dir=tmp_path / "cache")
        assert len(source) == 2 and dict(source.listing.passed) == expected
    assert list((tmp_path / "cache").rglob("list-*.npz"))
    said = capsys.readouterr().err
    assert said.count("note: ") == 1 and all(f"{text}: {count}" in said for text, count in expected.items())


@pytest.mark.parametrize(("other", "said"), [("Val", 1), ("cat", 0)])
def test_splits_that_are_read_together_are_said(
    other: str, said: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "data/train/cat/1.png")
    put(tmp_path / "data" / other / "cat/2.png")
    assert len(open_images(tmp_path / "data", cache_dir=tmp_path / "cache")) == 2
    note = "are read together, as if they were classes; name the one that is meant"
    assert capsys.readouterr().err.count(f"data: {other} and train {note}") == said


def test_a_folder_of_what_is_passed_over_alone(tmp_path: Path) -> None:
    put(tmp_path / "data/@eaDir/1.png")
    message = r"none of the 1 files in this folder is an image by its name; passed over: images in system .*: 1; give a"
    with pytest.raises(DataError, match=message):
        open_images(tmp_path / "data", cache_dir=tmp_path / "cache")


def test_a_folder_of_data_sets_is_refused(tmp_path: Path) -> None:
    for name in ("leaves", "dots"):
        put(tmp_path / "sets" / name / "contact.png")
        (tmp_path / "sets" / name / "recipe.json").write_text("{}")
        (tmp_path / "sets" / name / "000000.jsonl").write_text("")
    with pytest.raises(DataError, match=r"holds data sets of syn2co generate \(2\) .*; .* by one \(dots, leaves\)"):
        open_images(tmp_path / "sets", cache_dir=tmp_path / "cache")


@pytest.fixture
def settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small tree that is remembered as a large one would be, last changed long ago."""
    monkeypatch.setattr(folder_module, "REMEMBER_FROM", 1)
    put(tmp_path / "data/cat/1.png", 1)
    put(tmp_path / "data/dog/2.png", 2)
    settle(tmp_path / "data")
    return tmp_path / "data"


def settle(root: Path) -> None:
    """Make every folder of the tree an hour old."""
    hour_ago = time.time() - 3600
    for path in [root, *root.rglob("*")]:
        if path.is_dir():
            os.utime(path, (hour_ago, hour_ago))


def test_index_is_remembered(settled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_images(settled, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(folder_module, "scan_folder", lambda *_, **__: pytest.fail("listed again"))
    second = open_images(settled, cache_dir=tmp_path / "cache")
    assert second.fingerprint == first.fingerprint and second.classes == ("cat", "dog")
    assert second.name(1) == "0:dog/2.png" and second.labels.tolist() == [0, 1]


def test_a_folder_replaced_at_an_equal_date_is_listed_again(settled: Path, tmp_path: Path) -> None:
    open_images(settled, cache_dir=tmp_path / "cache")
    put(settled / "cat/3.png")
    (settled / "cat/3.png").rename(settled / "cat/1.png")
    put(settled / "dog/2.png", 9, side=8)
    (settled / "dog/2.png").rename(settled / "dog/5.png")
    times = settled.stat()
    for folder in ("cat", "dog"):
        os.utime(settled / folder, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert names(settled, tmp_path / "cache") == ["0:cat/1.png", "0:dog/5.png"]


@pytest.mark.parametrize("change", ["add", "remove", "add in a new folder"])
def test_changed_tree_is_listed_again(settled: Path, tmp_path: Path, change: str) -> None:
    assert len(names(settled, tmp_path / "cache")) == 2
    if change == "remove":
        (settled / "dog/2.png").unlink()
    else:
        put(settled / ("cat/3.png" if change == "add" else "new/deep/3.png"))
    assert len(names(settled, tmp_path / "cache")) == (1 if change == "remove" else 3)


def test_tree_that_just_changed_is_not_remembered(settled: Path, tmp_path: Path) -> None:
    put(settled / "cat/3.png")
    open_folder(settled, cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("list-*.npz"))


def test_damaged_index_is_made_again(settled: Path, tmp_path: Path) -> None:
    expected = names(settled, tmp_path / "cache")
    stored = next((tmp_path / "cache").rglob("list-*.npz"))
    whole = stored.read_bytes()
    for damaged in (b"", b"nonsense", whole[: len(whole) // 2], whole[:200] + b"\0" * 50 + whole[250:]):
        stored.write_bytes(damaged)
        assert names(settled, tmp_path / "cache") == expected


def test_cache_folder_that_cannot_be_written_is_no_error(settled: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where the cache folder should be")
    assert names(settled, tmp_path / "file") == ["0:cat/1.png", "0:dog/2.png"]


def test_default_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SYN2CO_CACHE", str(tmp_path / "own"))
    assert default_cache_dir() == tmp_path / "own"
    monkeypatch.delenv("SYN2CO_CACHE")
    assert default_cache_dir().name == "syn2co"
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
        assert default_cache_dir() == tmp_path / "caches" / "syn2co"


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r": this folder is empty; give a folder with JPEG, PNG, WebP, BMP or TIFF"):
        open_images(tmp_path)


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/notes.txt").write_text("x")
    (tmp_path / "b.csv").write_text("x")
    with pytest.raises(DataError, match="none of the 2 files in this folder is an image by its name; give a folder"):
        open_images(tmp_path)


def test_folder_of_tars(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"")
    with pytest.raises(DataError, match=r"holds 1 tar files but no image; give the tars: '.*/\*\.tar'"):
        open_images(tmp_path)
