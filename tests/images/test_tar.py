"""Tar files as sources: offsets, naming, shards, and members that must not be trusted."""

import io
import json
import multiprocessing
import os
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from syn2co.core.errors import DataError
from syn2co.data.open import open_images
from syn2co.images.image_set import ImageSet
from syn2co.images.index import unread_image
from syn2co.images.quarantine import BrokenImage
from syn2co.images.sources import tar as tar_module
from syn2co.images.sources import tar_members


def png(value: int, side: int = 4) -> bytes:
    """Return a PNG of one gray value."""
    return cv2.imencode(".png", np.full((side, side, 3), value, np.uint8))[1].tobytes()


def make_tar(path: Path, members: Mapping[str, bytes], **options: int) -> Path:
    """Write a tar of plain files."""
    with tarfile.open(path, "w", **options) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def values(images: ImageSet) -> list[int]:
    """Return the gray value of every image."""
    return [int(images.read(index)[0, 0, 0]) for index in range(len(images))]


def names(images: ImageSet) -> list[str]:
    """Return all names."""
    return [images.name(index) for index in range(len(images))]


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("top", ["", "./", "train/", "./data/train/"])
def test_class_folders(tmp_path: Path, kind: int, top: str) -> None:
    long = "n" * 90 + "/" if kind != tarfile.USTAR_FORMAT else ""
    members = {
        f"{top}dog/{long}ä.png": png(3),
        f"{top}cat/2.png": png(2),
        f"{top}cat/1.png": png(1),
        f"{top}cat/.hidden.png": png(9),
        f"{top}cat/notes.txt": b"x",
    }
    images = open_images(make_tar(tmp_path / "a.tar", members, format=kind), cache_dir=tmp_path / "cache")
    assert names(images) == ["0:cat/1.png", "0:cat/2.png", f"0:dog/{long}ä.png"]
    assert values(images) == [1, 2, 3]
    assert images.classes == ("cat", "dog") and images.labels.tolist() == [0, 0, 1]


def test_same_data_in_folder_and_tar_is_the_same(tmp_path: Path) -> None:
    members = {f"{name}/{number}.png": png(number) for name in ("a-b", "a", "b") for number in range(3)}
    for name, data in members.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_bytes(data)
    as_tar = open_images(make_tar(tmp_path / "a.tar", members), cache_dir=tmp_path / "cache")
    as_folder = open_images(tmp_path / "root", cache_dir=tmp_path / "cache")
    assert names(as_tar) == names(as_folder)
    assert as_tar.fingerprint == as_folder.fingerprint


def test_webdataset_labels(tmp_path: Path) -> None:
    members = {
        "000.png": png(1),
        "000.cls": b"10\n",
        "001.cls": b"2",
        "001.jpg": cv2.imencode(".jpg", np.full((4, 4, 3), 50, np.uint8))[1].tobytes(),
        "002.png": png(3),
        "002.json": json.dumps({"label": 2, "caption": "x"}).encode(),
        "003.png": png(4),
        "003.seg.png": png(99),
        "004.png": png(5),
        "004.json": b"{not json",
    }
    images = open_images(make_tar(tmp_path / "a.tar", members), cache_dir=tmp_path / "cache")
    assert names(images) == ["0:000.png", "0:001.jpg", "0:002.png", "0:003.png", "0:004.png"]
    assert images.classes == ("2", "10")
    assert images.labels.tolist() == [1, 0, 0, -1, -1]


@pytest.mark.parametrize("key", ["label", "cls", "class", "class_name"])
def test_webdataset_json_keys(tmp_path: Path, key: str) -> None:
    members = {"x/0.png": png(1), "x/0.json": json.dumps({key: "cat"}).encode(), "x/1.png": png(2), "x/1.json": b"{}"}
    images = open_images(make_tar(tmp_path / "a.tar", members), cache_dir=tmp_path / "cache")
    assert images.classes == ("cat",) and images.labels.tolist() == [0, -1]


def test_json_without_labels_leaves_the_folders_as_classes(tmp_path: Path) -> None:
    members = {"cat/0.png": png(1), "cat/0.json": b'{"width": 4}', "dog/0.v2.png": png(2)}
    images = open_images(make_tar(tmp_path / "a.tar", members), cache_dir=tmp_path / "cache")
    assert images.classes == ("cat", "dog") and names(images) == ["0:cat/0.png", "0:dog/0.v2.png"]


@pytest.mark.parametrize("pattern", ["shard-{0..2}.tar", "shard-*.tar", "shard-{0,1,2}.tar", "shard-[0-2].tar"])
def test_shards(tmp_path: Path, pattern: str) -> None:
    for shard in range(3):
        folder = ("cat", "dog")[shard % 2]
        make_tar(tmp_path / f"shard-{shard}.tar", {f"train/{folder}/0.png": png(10 * shard)})
    images = open_images(str(tmp_path / pattern), cache_dir=tmp_path / "cache", cache="never")
    assert names(images) == ["0:shard-0/cat/0.png", "0:shard-1/dog/0.png", "0:shard-2/cat/0.png"]
    assert values(images) == [0, 10, 20]
    assert images.classes == ("cat", "dog") and images.labels.tolist() == [0, 1, 0]


@pytest.mark.parametrize("folder", ["set [v2]", "set {a,b}", "set *"])
def test_marks_of_a_pattern_in_the_name_of_a_folder(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    for shard in range(2):
        make_tar(tmp_path / folder / f"{shard}.tar", {"0.png": png(shard)})
    for pattern in ("*.tar", "{0..1}.tar", "[01].tar"):
        images = open_images(str(tmp_path / folder / pattern), cache_dir=tmp_path / "cache")
        assert values(images) == [0, 1]


def test_more_shards_than_descriptors_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_module, "_KEPT_OPEN", 1)
    for shard in range(3):
        make_tar(tmp_path / f"{shard:03d}.tar", {"0.png": png(shard), "1.png": png(shard + 100)})
    images = open_images(str(tmp_path / "{000..002}.tar"), cache_dir=tmp_path / "cache", cache="never")
    assert values(images) == [0, 100, 1, 101, 2, 102]


def test_nasty_members_are_skipped_and_listed(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", {"ok.png": png(1), "../up.png": png(2), "/abs.png": png(3)})
    with tarfile.open(path, "a") as archive:
        for kind, name, target in (
            (tarfile.SYMTYPE, "soft.png", "ok.png"),
            (tarfile.LNKTYPE, "hard.png", "./ok.png"),
            (tarfile.LNKTYPE, "lost.png", "gone.png"),
            (tarfile.FIFOTYPE, "pipe.png", ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    images = open_images(path, cache_dir=tmp_path / "cache", max_broken_share=0.9)
    assert names(images) == ["0:hard.png", "0:ok.png"] and values(images) == [1, 1]
    assert images.quarantined == [
        ("0:../up.png", "its name leads out of the tar with '..'"),
        ("0:/abs.png", "its name in the tar is absolute; make the tar without -P"),
        ("0:soft.png", "it is a link inside the tar; store the image itself"),
        ("0:lost.png", "it is a link to a member that is no image before it in the tar; store the image itself"),
        ("0:pipe.png", "it is not a plain file inside the tar"),
    ]


def test_index_is_remembered_until_the_tar_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_tar(tmp_path / "a.tar", {"cat/0.png": png(1), "dog/1.png": png(2)})
    scans: list[Path] = []
    real = tar_module.scan_tar
    monkeypatch.setattr(tar_module, "scan_tar", lambda at, name: scans.append(at) or real(at, name))
    first = open_images(path, cache_dir=tmp_path / "cache")
    second = open_images(path, cache_dir=tmp_path / "cache")
    assert len(scans) == 1
    assert (names(first), first.fingerprint, values(first)) == (names(second), second.fingerprint, values(second))
    make_tar(path, {"cat/0.png": png(1), "dog/1.png": png(2), "dog/2.png": png(3)})
    assert len(open_images(path, cache_dir=tmp_path / "cache")) == 3 and len(scans) == 2


def test_a_tar_made_again_at_equal_size_and_date_is_listed_again(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", {"cat/0.png": png(1), "dog/1.png": png(2, side=40)})
    open_images(path, cache_dir=tmp_path / "cache", cache="never")
    status = path.stat()
    make_tar(path, {"cat/0.png": png(3, side=40), "dog/1.png": png(4)})
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert values(open_images(path, cache_dir=tmp_path / "cache", cache="never")) == [3, 4]


def test_headers_tell_a_tar_where_nothing_else_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_tar(tmp_path / "a.tar", {"cat/0.png": png(1), "dog/1.png": png(2)})
    monkeypatch.setattr(tar_module, "_state", lambda _: [0])
    open_images(path, cache_dir=tmp_path / "cache", cache="never")
    make_tar(path, {"dog/0.png": png(3), "elk/1.png": png(4)})
    images = open_images(path, cache_dir=tmp_path / "cache", cache="never")
    assert (values(images), images.classes) == ([3, 4], ("dog", "elk"))


def opened(path: Path, cache_dir: Path) -> tuple[ImageSet, dict[str, int]]:
    """Return the images of one tar, and what is passed over in it."""
    images = open_images(path, cache_dir=cache_dir)
    (source,) = images.sources
    assert isinstance(source, tar_module.TarSource)
    return images, dict(source.listing.passed)


def test_tars_behind_each_other_are_all_read(tmp_path: Path) -> None:
    parts = [make_tar(tmp_path / f"{n}.tar", {f"{n}.png": png(n)}).read_bytes() for n in range(3)]
    (tmp_path / "all.tar").write_bytes(b"".join(parts))
    images, passed = opened(tmp_path / "all.tar", tmp_path / "cache")
    assert (names(images), values(images), passed) == (["0:0.png", "0:1.png", "0:2.png"], [0, 1, 2], {})
    (tmp_path / "junk.tar").write_bytes(b"".join(parts[:2]) + b"signature")
    images, passed = opened(tmp_path / "junk.tar", tmp_path / "cache")
    assert values(images) == [0, 1] and passed == {tar_members.BEHIND: 9}


def test_labels_that_are_lost_and_formats_that_are_not_read_are_said(tmp_path: Path) -> None:
    members = {"1.png": png(1), "1.CLS": b"cat", "2.png": png(2), "2.cls": b"\xff", "3.heic": b"x", "4.JFIF": b"x"}
    images, passed = opened(make_tar(tmp_path / "a.tar", members), tmp_path / "cache")
    assert images.classes == ("cat",) and images.labels.tolist() == [0, -1] and images.ignored == 0
    assert passed == {tar_members.UNNAMED: 1, unread_image("3.heic"): 1, unread_image("4.jfif"): 1}
    with pytest.raises(
        DataError, match=r"none of the 1 members .*; passed over: \.heic files, .* \(convert them\); give"
    ):
        opened(make_tar(tmp_path / "b.tar", {"3.heic": b"x"}), tmp_path / "cache")


def test_the_last_of_several_members_of_one_name_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_tar(tmp_path / "a.tar", {"cat/0.png": png(1), "dog/1.png": png(2)})
    with tarfile.open(path, "a") as archive:
        member = tarfile.TarInfo("./cat/0.png")
        member.size = len(png(9))
        archive.addfile(member, io.BytesIO(png(9)))
    images, passed = opened(path, tmp_path / "cache")
    assert (values(images), passed) == ([9, 2], {tar_members.REPLACED: 1})
    assert f"a.tar: passed over: {tar_members.REPLACED}: 1" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["dataset.json", "cat/about.json"])
def test_label_files_of_no_image_leave_the_folders_as_classes(tmp_path: Path, name: str) -> None:
    members = {"cat/a.v1.png": png(1), "dog/b.v1.png": png(2), name: b'{"class": "animals"}'}
    images, _ = opened(make_tar(tmp_path / "a.tar", members), tmp_path / "cache")
    assert images.classes == ("cat", "dog") and images.labels.tolist() == [0, 1]


def test_a_label_file_of_few_images_leaves_the_folders_as_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    animals = b'{"class": "animals"}'
    members = {"cat/1.png": png(1), "dog/2.png": png(2)}
    described = {"a": {"cat/1.json": animals}, "b": {"dataset.png": png(3), "dataset.json": animals}}
    for name, more in described.items():
        images, _ = opened(make_tar(tmp_path / f"{name}.tar", members | more), tmp_path / "cache")
        assert images.classes == ("cat", "dog") and images.labels.tolist()[-2:] == [0, 1]
    said = capsys.readouterr().err
    assert "a.tar: passed over: label files, since more images (2) lie in class folders: 1" in said
    make_tar(tmp_path / "c.tar", {"cat/3.png": png(1), "dog/4.png": png(2)})
    assert open_images(str(tmp_path / "[ac].tar"), cache_dir=tmp_path / "cache").labels.tolist() == [0, 1, 0, 1]
    both = {"cat/1.png": png(1), "cat/1.cls": b"7", "dog/2.png": png(2), "dog/2.cls": b"8"}
    assert open_images(make_tar(tmp_path / "d.tar", both), cache_dir=tmp_path / "cache").classes == ("7", "8")


def test_dotted_names_have_their_own_label_files(tmp_path: Path) -> None:
    members = {f"img.v{n}.{kind}": data for n in (1, 2) for kind, data in (("png", png(n)), ("cls", b"%d" % n))}
    images, passed = opened(make_tar(tmp_path / "a.tar", members | {"img.v3.png": png(3)}), tmp_path / "cache")
    assert (values(images), images.labels.tolist(), passed) == ([1, 2, 3], [0, 1, -1], {})


@pytest.mark.parametrize("labels", [{}, {"k.cls": b"3"}, {"k.meta.json": b'{"label": 3}'}])
def test_other_pictures_of_a_sample_are_passed_over(tmp_path: Path, labels: dict[str, bytes]) -> None:
    members = {"k.jpg": cv2.imencode(".jpg", np.zeros((4, 4), np.uint8))[1].tobytes(), "k.seg.png": png(2)}
    copies = {"m.png": png(4), "m.2.png": png(5)}
    images, passed = opened(make_tar(tmp_path / "a.tar", members | copies | labels), tmp_path / "cache")
    assert names(images) == ["0:k.jpg", "0:m.2.png", "0:m.png"] and passed == {tar_members.COMPANIONS: 1}
    assert images.labels.tolist() == ([0, -1, -1] if labels else [-1, -1, -1])


def test_system_folders_and_hidden_images_are_passed_over(tmp_path: Path) -> None:
    members = {name: png(1) for name in ("cat/1.png", "__MACOSX/cat/1.png", "cat/._1.png", "cat/@eaDir/1.png")}
    images, passed = opened(make_tar(tmp_path / "a.tar", members), tmp_path / "cache")
    assert names(images) == ["0:cat/1.png"]
    assert passed == {tar_members.HIDDEN_IMAGES: 1, tar_members.IN_SYSTEM_FOLDERS: 2}


def test_tar_of_tars(tmp_path: Path) -> None:
    inner = make_tar(tmp_path / "inner.tar", {"0.png": png(1)}).read_bytes()
    path = make_tar(tmp_path / "a.tar", {"n01440764.tar": inner, "n01443537.tar": inner})
    message = r"none of the 2 members of this tar is an image, and the first is the tar n01440764.tar; unpack it"
    with pytest.raises(DataError, match=message):
        open_images(path, cache_dir=tmp_path / "cache")


def test_pickled_and_forked_copies_read(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", {f"{number:03d}.png": png(number) for number in range(20)})
    images = open_images(path, cache_dir=tmp_path / "cache", cache="never")
    expected = values(images)
    assert values(pickle.loads(pickle.dumps(images))) == expected == list(range(20))
    if "fork" in multiprocessing.get_all_start_methods():
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(values, [images, images]) == [expected, expected]


def test_tar_that_shrank_after_opening(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", {"0.png": png(1), "1.png": png(2)})
    images = open_images(path, cache_dir=tmp_path / "cache", cache="never")
    path.write_bytes(path.read_bytes()[:1600])
    with pytest.raises(BrokenImage, match=r"0:1.png: its tar file ends too early \(\d+ of \d+ bytes\)"):
        images.read(1)


@pytest.mark.parametrize(
    ("mode", "suffix", "words"),
    [("w:gz", ".tar.gz", "gzip.*gunzip"), ("w:bz2", ".tar", "bzip2.*bunzip2"), ("w:xz", ".txz", "xz.*unxz")],
)
def test_compressed_tar(tmp_path: Path, mode: str, suffix: str, words: str) -> None:
    path = tmp_path / f"a{suffix}"
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        archive.addfile(tarfile.TarInfo("0.png"))
    with pytest.raises(DataError, match=rf"this tar is compressed with {words.replace('.*', r'.*decompress it .')}"):
        open_images(path, cache_dir=tmp_path / "cache")


def test_damaged_tars(tmp_path: Path) -> None:
    whole = make_tar(tmp_path / "a.tar", {f"{n}.png": png(n, side=40) + bytes(2000) for n in range(3)}).read_bytes()
    second = whole.index(b"1.png")
    damaged = {
        "empty": b"",
        "text": b"hello, this is no tar\n" * 100,
        "truncated": whole[: second + 700],
        "header": whole[:second] + b"\xff" * 300 + whole[second + 300 :],
    }
    for name, data in damaged.items():
        path = tmp_path / f"{name}.tar"
        path.write_bytes(data)
        with pytest.raises(DataError, match=rf"{name}.tar: this file cannot be read as a tar \(.+\); fetch or make it"):
            open_images(path, cache_dir=tmp_path / "cache")


def test_tar_without_images(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", {"a.txt": b"x", "b.csv": b"y"})
    with pytest.raises(DataError, match="a.tar: none of the 2 members of this tar is an image by its name; give a tar"):
        open_images(path, cache_dir=tmp_path / "cache")
