"""`open_images`: the check, what leaves the set, what the numbering and the fingerprint promise, and bad input."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from syn2co.core.errors import DataError
from syn2co.core.paths import PathError
from syn2co.data import open as opening
from syn2co.data.open import open_images
from syn2co.data.patterns import expand_braces
from syn2co.images import check as check_module
from syn2co.images import pixel_cache as cache_module
from syn2co.images.image_set import ImageSet
from syn2co.images.quarantine import BrokenImage, Quarantined
from syn2co.images.sources.folder import FolderSource


def png(value: int, height: int = 4, width: int = 4) -> bytes:
    """Return a PNG of one gray value."""
    return cv2.imencode(".png", np.full((height, width, 3), value, np.uint8))[1].tobytes()


def fill(root: Path, **files: bytes) -> Path:
    """Write files; "__" in a key stands for "/", and .png is added."""
    for key, data in files.items():
        path = root / (key.replace("__", "/") + ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


Opener = Callable[..., ImageSet]


@pytest.fixture
def opened(tmp_path: Path) -> Opener:
    """`open_images` with a cache folder of the test's own."""
    return lambda *specs, **options: open_images(specs, **({"cache_dir": tmp_path / "cache"} | options))


def values(images: ImageSet) -> list[int]:
    """Return the first byte of every image."""
    return [int(images.read(index)[0, 0, 0]) for index in range(len(images))]


def test_several_roots_one_numbering(tmp_path: Path, opened: Opener) -> None:
    first = fill(tmp_path / "a", dog__1=png(1), dog__2=png(2), cat__1=png(0))
    second = fill(tmp_path / "b", eel__1=png(5), cat__1=png(4), dog__1=png(6))
    flat = fill(tmp_path / "c", x=png(7))
    images = opened(first, str(second), flat)
    assert len(images) == 7 and values(images) == [0, 1, 2, 4, 6, 5, 7]
    assert images.classes == ("cat", "dog", "eel")
    assert images.labels.tolist() == [0, 1, 1, 0, 1, 2, -1]
    assert images.groups.tolist() == list(range(7))
    assert [images.name(index) for index in (0, 3, 6)] == ["0:cat/1.png", "1:cat/1.png", "2:x.png"]


def test_a_source_of_one_class_has_it_and_not_its_subfolders(tmp_path: Path, opened: Opener) -> None:
    first = fill(tmp_path / "a", train__cat__1=png(1), train__dog__2=png(2))
    second = fill(tmp_path / "b", dog__indoors__3=png(3), dog__outdoors__4=png(4))
    images = opened(first, second)
    assert images.classes == ("cat", "dog") and images.labels.tolist() == [0, 1, 1, 1]
    assert opened(second).classes == opened(second / "dog").classes == ("indoors", "outdoors")
    images = opened(first, second / "dog")
    assert images.classes == ("cat", "dog") and images.labels.tolist() == [0, 1, 1, 1]
    fill(tmp_path / "c/dog", cat__1=png(5), dog__1=png(6))
    assert opened(first, tmp_path / "c/dog").labels.tolist() == [0, 1, 0, 1]


NOISE = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
BROKEN = {
    "b_empty": (b"", r"the file is empty \(0 bytes\)"),
    "c_text": (b"just some text", r"it is not an image of a known format \(it begins with b'just som'\)"),
    "d_cut": (cv2.imencode(".png", NOISE)[1].tobytes()[:400], "it is truncated"),
    "e_big": (png(9, 60, 60), "it has 60 x 60 = 3,600 pixels, above max_pixels = 400"),
}


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("cache", ["auto", "always", "never"])
def test_broken_images_leave_the_set(tmp_path: Path, opened: Opener, workers: int, cache: str) -> None:
    good = {"a": png(1), "c_ok": png(2), "z": png(3)}
    root = fill(tmp_path / "data", **good, **{name: data for name, (data, _) in BROKEN.items()})
    settings = {"max_pixels": 400, "max_broken_share": 0.6, "cache": cache, "workers": workers}
    for _ in range(2):  # the second time with remembered verdicts
        images = opened(root, **settings)
        assert values(images) == [1, 2, 3]
        assert [images.name(index) for index in range(3)] == ["0:a.png", "0:c_ok.png", "0:z.png"]
        assert images.groups.tolist() == [0, 2, 6]
        assert [entry.name for entry in images.quarantined] == [f"0:{name}.png" for name in BROKEN]
        for entry, (_, reason) in zip(images.quarantined, BROKEN.values(), strict=True):
            assert re.search(reason, entry.reason)
        assert (images.nbytes_cache > 0) is (cache != "never")


def test_quarantine_is_written_only_if_there_is_one(tmp_path: Path, opened: Opener) -> None:
    root = fill(tmp_path / "data", a=png(1), b=b"")
    images = opened(root, max_broken_share=0.5)
    images.write_quarantine(tmp_path / "broken.jsonl")
    lines = (tmp_path / "broken.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"name": "0:b.png", "reason": "the file is empty (0 bytes)"}]
    (root / "b.png").unlink()
    opened(root).write_quarantine(tmp_path / "broken.jsonl")
    assert not (tmp_path / "broken.jsonl").exists()


def test_too_many_broken_images(tmp_path: Path, opened: Opener) -> None:
    root = fill(tmp_path / "data", **{f"{n}": b"" for n in range(4)}, **{f"z{n}": png(n) for n in range(6)})
    assert len(opened(root, max_broken_share=0.4)) == 6
    message = (
        r"4 of 10 images are broken, more than max_broken_share = 0.39 allows "
        r"\(0:0.png: the file is empty \(0 bytes\); 0:1.png: .*; 0:2.png: [^;]*; all are listed in (.*\.jsonl)\); "
        r"fix or remove them, or allow a larger share\."
    )
    with pytest.raises(DataError, match=message) as refused:
        opened(root, max_broken_share=0.39)
    listed = re.search(message, str(refused.value))
    assert listed is not None
    lines = [json.loads(line) for line in Path(listed[1]).read_text().splitlines()]
    assert lines == [{"name": f"0:{n}.png", "reason": "the file is empty (0 bytes)"} for n in range(4)]
    (tmp_path / "file").write_text("a file where the cache folder should be")
    with pytest.raises(DataError, match=r"0:2.png: [^;]*; the others are 0:3.png\)"):
        opened(root, max_broken_share=0.39, cache_dir=tmp_path / "file")


@pytest.mark.parametrize(("broken", "good", "refused"), [(1, 1, False), (3, 9, False), (4, 9, True), (4, 400, False)])
def test_few_broken_images_stop_no_set(tmp_path: Path, opened: Opener, broken: int, good: int, refused: bool) -> None:
    files = {f"bad{n}": b"" for n in range(broken)} | {f"good{n}": png(n % 256) for n in range(good)}
    root = fill(tmp_path / "data", **files)
    if refused:
        with pytest.raises(DataError, match=f"{broken} of {broken + good} images are broken"):
            opened(root)
    else:
        assert len(opened(root).quarantined) == broken
    with pytest.raises(DataError, match=f"{broken} of {broken + good} images are broken"):
        opened(root, max_broken_share=0.0)


def test_nothing_but_broken_images(tmp_path: Path, opened: Opener) -> None:
    root = fill(tmp_path / "data", a=b"", b=b"x")
    with pytest.raises(DataError, match=r"none of the 2 images can be read \(0:a.png: the file is empty.*\); fix them"):
        opened(root, max_broken_share=1.0)


def test_without_check_a_broken_image_is_met_when_read(tmp_path: Path, opened: Opener) -> None:
    images = opened(fill(tmp_path / "data", a=png(1), b=b"", c=png(3, 30, 30)), check=False, max_pixels=400)
    assert len(images) == 3 and images.quarantined == []
    assert int(images.read(0)[0, 0, 0]) == 1
    with pytest.raises(BrokenImage, match=r"^0:b.png: the file is empty") as caught:
        images.read(1)
    assert (caught.value.name, caught.value.reason) == ("0:b.png", "the file is empty (0 bytes)")
    with pytest.raises(BrokenImage, match="0:c.png: it has 30 x 30 = 900 pixels, above max_pixels = 400"):
        images.read(2)


def test_verdicts_are_remembered_per_cap_and_files(
    tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fill(tmp_path / "data", a=png(1), b=b"", c=png(2, 30, 30))
    runs: list[int] = []
    real = check_module.check_source
    monkeypatch.setattr(opening, "check_source", lambda *a, **k: runs.append(1) or real(*a, **k))

    def reasons(**options: int) -> list[str]:
        found = opened(root, cache="never", max_broken_share=0.9, **options)
        return [entry.name for entry in found.quarantined]

    assert reasons() == reasons() == ["0:b.png"] and len(runs) == 1
    assert reasons(max_pixels=100) == ["0:b.png", "0:c.png"] and len(runs) == 2
    (root / "b.png").write_bytes(png(7))
    assert reasons() == [] and len(runs) == 3
    for stored in (tmp_path / "cache").rglob("check-*.npz"):
        stored.write_bytes(stored.read_bytes()[:100])
    assert reasons() == [] and len(runs) == 4


@pytest.mark.parametrize("cache", ["auto", "never"])
@pytest.mark.parametrize("cause", ["permission", "equal size and date"])
def test_a_broken_image_is_looked_at_again(
    tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch, cause: str, cache: str
) -> None:
    whole = png(7)
    root = fill(tmp_path / "data", a=png(1), b=whole if cause == "permission" else bytes(len(whole)))
    date = (root / "b.png").stat().st_mtime_ns
    with monkeypatch.context() as patch:
        if cause == "permission":
            real = FolderSource.load
            patch.setattr(FolderSource, "load", lambda self, row: real(self, row) if row == 0 else _denied())
        assert len(opened(root, cache=cache).quarantined) == 1
    (root / "b.png").write_bytes(whole)
    os.utime(root / "b.png", ns=(date, date))
    mended = opened(root, cache=cache)
    assert values(mended) == [1, 7]
    assert mended.fingerprint == opened(fill(tmp_path / "new", a=png(1), b=whole)).fingerprint


def _denied() -> bytes:
    raise BrokenImage("it cannot be read (Permission denied)")


def test_a_broken_image_is_looked_at_again_without_another_stamp(
    tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FolderSource, "stamp", "the same for ever")
    root = fill(tmp_path / "data", a=png(1), b=b"")
    assert len(opened(root, cache="never")) == 1
    (root / "b.png").write_bytes(png(7))
    assert values(opened(root, cache="never")) == [1, 7]


def test_a_replacement_of_equal_size_and_date_is_checked(tmp_path: Path, opened: Opener) -> None:
    root = fill(tmp_path / "data", a=png(1), b=png(2))
    old = opened(root, cache="never")
    new = png(3)
    status = (root / "b.png").stat()
    assert len(new) == status.st_size
    (root / "b.png").write_bytes(new)
    os.utime(root / "b.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert opened(root, cache="never").key(1) != old.key(1)


def test_12_bit_values_in_16_bit_files_are_noted(
    tmp_path: Path, opened: Opener, capsys: pytest.CaptureFixture[str]
) -> None:
    deep = np.linspace(0, 4095, 64).reshape(8, 8).astype(np.uint16)
    files = {name: cv2.imencode(".png", deep * scale)[1].tobytes() for name, scale in (("a", 1), ("b", 1), ("c", 16))}
    root = fill(tmp_path / "data", **files)
    for _ in range(2):  # checked, then remembered
        opened(root, cache="never")
        said = capsys.readouterr().err
        assert "data: 2 of 3 images are nearly black, with no value above 16 of 255; 16-bit values count from" in said
        assert said.rstrip().endswith(f"name the source 12bit:{root}")
    fill(root, d=files["c"])
    opened(root)
    assert "nearly black" not in capsys.readouterr().err


@pytest.mark.parametrize("cache", ["always", "never"])
def test_12_bit_values_are_read_where_the_source_says_so(
    tmp_path: Path, opened: Opener, capsys: pytest.CaptureFixture[str], cache: str
) -> None:
    deep = np.linspace(0, 4095, 64).reshape(8, 8).astype(np.uint16)
    expected = np.rint(deep * (255 / 4095)).astype(np.uint8)
    colors = np.stack([deep, deep[::-1], deep.T], axis=2)
    root = fill(tmp_path / "data", gray=cv2.imencode(".png", deep)[1].tobytes(), plain=png(77))
    fill(root, color=cv2.imencode(".png", colors)[1].tobytes())
    for name, planar in (("planar", "separate"), ("mixed", "contig")):
        bands = np.moveaxis(colors, 2, 0) if planar == "separate" else colors
        tifffile.imwrite(root / f"{name}.tif", bands, photometric="rgb", planarconfig=planar)
    images = opened(f"12bit:{root}", cache=cache)
    read = {images.name(index)[2:].partition(".")[0]: images.read(index) for index in range(len(images))}
    assert (read["gray"] == expected[..., None]).all() and (read["plain"] == 77).all()
    as_rgb = np.stack([expected, expected[::-1], expected.T], axis=2)
    np.testing.assert_array_equal(read["planar"], as_rgb)
    np.testing.assert_array_equal(read["mixed"], as_rgb)
    np.testing.assert_array_equal(read["color"], as_rgb[..., ::-1])  # OpenCV writes BGR
    assert "nearly black" not in capsys.readouterr().err and images.dark == 0
    assert len({opened(f"{bits}{root}", max_broken_share=1.0).fingerprint for bits in ("", "12bit:", "14bit:")}) == 3
    with pytest.raises(DataError, match=r"none of .* values up to 4095, and 11bit: counts to 2047; name more bits"):
        opened(f"11bit:{fill(tmp_path / 'deep', a=(root / 'gray.png').read_bytes())}")
    with pytest.raises(
        DataError, match=r"8bit:.*: 16-bit files hold values of 9 to 16 bits; name one of these, as in 12"
    ):
        opened(f"8bit:{root}")


def test_progress_is_reported(tmp_path: Path, opened: Opener) -> None:
    calls: list[tuple[str, int, int]] = []
    opened(fill(tmp_path / "data", a=png(1), b=png(2)), report=lambda *call: calls.append(call))
    assert calls[0] == ("index", 2, 0) and calls[-1] == ("check", 2, 2)


def test_pixels_are_the_same_cached_or_not(tmp_path: Path, opened: Opener) -> None:
    draws = np.random.default_rng(0)
    shapes = [(int(h), int(w)) for h, w in draws.integers(1, 40, (300, 2))]
    pixels = [draws.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    root = fill(tmp_path / "data", **{f"{n:03d}": cv2.imencode(".png", p)[1].tobytes() for n, p in enumerate(pixels)})
    auto, threaded = opened(root), opened(root, workers=4, cache_dir=tmp_path / "other cache")
    plain, lazy = opened(root, cache="never"), opened(root)
    total = sum(3 * h * w for h, w in shapes)
    assert [images.nbytes_cache for images in (auto, threaded, plain, lazy)] == [total, total, 0, 0]
    for index, expected in enumerate(pixels):
        for images in (plain, auto, threaded, lazy, lazy, auto.subset([index, 0]), lazy.subset([index, 0])):
            at = 0 if len(images) == 2 else index
            np.testing.assert_array_equal(images.read(at), expected[..., ::-1])
    assert lazy.nbytes_cache == total
    for images in (auto, lazy):
        with pytest.raises(ValueError, match="read-only"):
            images.read(0)[0, 0, 0] = 1


def test_images_with_remembered_verdicts_are_decoded_once_and_only_when_they_are_read(
    tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fill(tmp_path / "data", a=png(1), b=b"", c=png(3), d=png(4))
    first = opened(root, max_broken_share=0.5)
    other = fill(tmp_path / "new", e=png(5))
    loads: list[str] = []
    load = FolderSource.load
    monkeypatch.setattr(FolderSource, "load", lambda self, row: loads.append(self.name(row)) or load(self, row))
    images = opened(root, other, max_broken_share=0.5)
    assert [name for name in loads if name != "e.png"] == ["b.png"], "the broken one is looked at again"
    assert images.cached and images.nbytes_cache == first.nbytes_cache // 3, "the new one is kept by its check"
    loads.clear()
    images.subset([2]).read(0)
    assert values(images) == values(images) == [1, 3, 4, 5] and sorted(loads) == ["a.png", "c.png", "d.png"]
    assert images.fingerprint == opened(root, other, cache_dir=tmp_path / "empty", max_broken_share=0.5).fingerprint
    again = opened(root, other, max_broken_share=0.5)
    (root / "c.png").unlink()
    loads.clear()
    again.subset([0, 1, 3]).read_ahead(threads=2)
    again.read(0)
    assert sorted(loads) == ["a.png", "c.png", "e.png"], "what cannot be read fails when it is read again"
    with pytest.raises(BrokenImage, match="c.png"):
        again.read(1)


def test_an_image_that_changes_between_its_check_and_its_first_reading_is_refused(
    tmp_path: Path, opened: Opener
) -> None:
    root = fill(tmp_path / "data", a=png(1), b=png(2))
    opened(root)
    images = opened(root)
    (root / "b.png").write_bytes(png(9))
    images.read_ahead(threads=1)
    assert images.read(0)[0, 0, 0] == 1
    with pytest.raises(BrokenImage, match=r"b.png.*has changed since it was checked"):
        images.read(1)


def test_reading_ahead_can_be_ended(tmp_path: Path, opened: Opener) -> None:
    root = fill(tmp_path / "data", a=png(1))
    opened(root)

    def leave(_: float) -> None:
        raise KeyboardInterrupt

    images = opened(root)
    with pytest.raises(KeyboardInterrupt):
        images.read_ahead(1, leave)


@pytest.mark.parametrize("workers", [0, 3])
def test_cache_is_given_up_above_the_budget(
    tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    # all headers that are probed are small, so that the budget is passed only on the way
    monkeypatch.setattr(check_module, "_PROBES", 2)
    monkeypatch.setattr(opening, "auto_budget", lambda: 5000)
    files = {f"{n:03d}": png(n % 256, 50, 50) if n == 150 else png(n % 256, 1, 1) for n in range(300)}
    images = opened(fill(tmp_path / "data", **files), workers=workers)
    assert images.nbytes_cache == 0
    assert values(images) == [n % 256 for n in range(300)]


def test_ctrl_c_ends_the_check_after_one_image(tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not after a batch, which may take a minute."""
    read: list[int] = []

    def slow(self: FolderSource, row: int) -> bytes:
        read.append(row)
        if len(read) == 10:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(0.01)
        return pixels

    pixels = png(77)
    monkeypatch.setattr(FolderSource, "load", slow)
    root = fill(tmp_path / "data", **{f"{n:04d}": pixels for n in range(600)})
    with pytest.raises(KeyboardInterrupt):
        opened(root, workers=2, cache="never")
    assert len(read) < 60


def test_a_sparse_file_of_any_size_is_broken(tmp_path: Path, opened: Opener) -> None:
    root = fill(tmp_path / "data", good=png(77))
    with open(root / "huge.png", "wb") as file:
        file.truncate(30 * 2**30)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(root / "good.png", "good.png")
        member = tarfile.TarInfo("huge.png")
        member.size = 30 * 2**30
        archive.fileobj.write(member.tobuf())  # type: ignore[union-attr]
        archive.fileobj.seek(member.size, os.SEEK_CUR)  # type: ignore[union-attr]
        archive.offset += 512 + member.size
    for source in (root, tmp_path / "a.tar"):
        (quarantined,) = opened(source).quarantined
        assert quarantined == (
            "0:huge.png",
            "it has 32,212,254,720 bytes, and no image file of more than 2,147,483,648 is read",
        )


def test_auto_budget_is_at_most_2_gib() -> None:
    assert 0 < cache_module.auto_budget() <= 2 * 2**30


def test_fingerprint(tmp_path: Path, opened: Opener) -> None:
    base = {"cat__1": png(1), "dog__1": png(2)}
    first = opened(fill(tmp_path / "a", **base)).fingerprint
    assert opened(fill(tmp_path / "elsewhere/b", **base)).fingerprint == first
    assert opened(tmp_path / "a", cache="never").fingerprint == first
    others = [
        opened(fill(tmp_path / "name", cat__1=png(1), dog__2=png(2))),
        opened(fill(tmp_path / "content", cat__1=png(1), dog__1=png(3))),
        opened(fill(tmp_path / "more", **base, dog__3=png(3))),
        opened(tmp_path / "a").subset([0]),
        opened(tmp_path / "a").subset([1, 0]),
        opened(tmp_path / "a", tmp_path / "name"),
    ]
    found = [first, *(images.fingerprint for images in others)]
    assert len(set(found)) == len(found) and all(len(text) == 32 for text in found)
    assert opened(tmp_path / "a").subset([0, 1]).fingerprint == first


def test_subset(tmp_path: Path, opened: Opener) -> None:
    images = opened(fill(tmp_path / "data", a__1=png(1), b__1=b"", b__2=png(2), c__1=png(3)), max_broken_share=0.3)
    part = images.subset([2, 0])
    assert (len(part), values(part), part.name(0)) == (2, [3, 1], "0:c/1.png")
    assert part.groups.tolist() == [3, 0] and part.labels.tolist() == [2, 0] and part.classes == images.classes
    again = part.subset(np.array([1]))
    assert values(again) == [1] and again.quarantined == images.quarantined


def test_pickle(tmp_path: Path, opened: Opener) -> None:
    images = opened(fill(tmp_path / "data", a__1=png(1), b=png(2)), "builtin:digits:test")
    copy = pickle.loads(pickle.dumps(images))
    assert copy.fingerprint == images.fingerprint and values(copy) == values(images)
    error = pickle.loads(pickle.dumps(BrokenImage("why", name="0:a.png")))
    assert (error.name, error.reason, str(error)) == ("0:a.png", "why", "0:a.png: why")
    assert Quarantined("a", "b") == ("a", "b")


def test_index_is_small(tmp_path: Path, opened: Opener) -> None:
    root = fill(tmp_path / "data", **{f"class{n % 4}__image_{n:08d}": png(1, 1, 1) for n in range(1000)})
    assert opened(root, cache="never").nbytes_index / 1000 < 100


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.tar", ["a.tar"]),
        ("{08..11}.tar", ["08.tar", "09.tar", "10.tar", "11.tar"]),
        ("x{9..11}", ["x9", "x10", "x11"]),
        ("{a,b}-{0..1}", ["a-0", "a-1", "b-0", "b-1"]),
        ("a{3..1}", ["a3", "a2", "a1"]),
        ("{09..11..x", ["{09..11..x"]),
        ("{x}", ["{x}"]),
    ],
)
def test_braces(pattern: str, expected: list[str]) -> None:
    assert list(expand_braces(pattern)) == expected


def test_a_line_break_in_a_path(tmp_path: Path, opened: Opener) -> None:
    root = tmp_path / "two\nlines"
    for number, name in enumerate(("a", "b")):
        fill(root / name, **{f"{number}": png(number + 100)})
        with tarfile.open(root / f"{name}.tar", "w") as archive:
            archive.add(root / name / f"{number}.png", f"{number}.png")
    assert values(opened(root / "a", root / "b")) == values(opened(root / "a.tar", root / "b.tar")) == [100, 101]
    assert values(opened(f"{root}/{{a,b}}.tar")) == [100, 101]
    with pytest.raises(DataError, match=r"two\\nlines/a: this source is given twice"):
        opened(root / "a", root / "a")


def test_same_source_twice(tmp_path: Path, opened: Opener) -> None:
    root = fill(tmp_path / "data", a__1=png(1))
    with pytest.raises(DataError, match=r"data: this source is given twice; name it once"):
        opened(root, f"{tmp_path}/./data/")
    with pytest.raises(DataError, match="builtin:digits:train: this source is given twice"):
        opened("builtin:digits", "builtin:digits:train")
    with pytest.raises(DataError, match=r"a: this folder lies inside .*data, which is given too; name only one"):
        opened(root, root / "a")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{}/nowhere", r"nowhere: there is no such folder or tar file; correct the path\."),
        ("{}/no/where", r"there is no such folder or tar file, and no .*no either; correct the path\."),
        ("{}/dta", r"dta: there is no such folder or tar file; did you mean .*data\?"),
        ("{}/x*.tar", r"x\*\.tar: no file matches; correct the pattern"),
        ("{}/x{{0..3}}.tar", r"x0\.tar: no file matches; correct the pattern '.*x\{{0\.\.3\}}\.tar'"),
        ("{}/x{{0..1000000}}.tar", r"x\{{0\.\.1000000\}}\.tar: a range may name at most 1,000,000 files; correct it"),
        ("{}/" + "{{a,b}}" * 40, r"/a{{40}}: no file matches; correct the pattern"),
        ("{}/" + "{{a,b}}" * 600, r"\.\.\.: a pattern may hold at most 50 braces; correct it"),
        ("", r"source = '': is empty, as an unset variable of the shell is; name a folder or a tar file"),
        ("12bit: ", r"source = ' ': is empty"),
        (
            "12bit:builtin:digits",
            r"12bit:builtin:digits: 12bit: is of files, and this source hands over pixels; leave it",
        ),
        ("hf:", r"hf:: names no data set; give hf:NAME or hf:FOLDER"),
        ("{}/notes.txt", r"notes.txt: an image source must be a folder or a \.tar file, and this is another file"),
        ("{}/a.zip", r"a.zip: an image source .*, and this is another file; unpack it and give the folder\.$"),
        ("{}/a.parquet", r"a.parquet: an image source .*, and this is another file; name it hf:/.*/a.parquet\.$"),
        ("{}/data/a.png", r"a.png: an image source must be a folder or a \.tar file"),
        (
            "{}/pipe",
            r"pipe: an image source must be a folder or a \.tar file, and this is a pipe, a socket or a device",
        ),
        (
            "{}/folder*",
            r"folder.tar: this is a folder, and a pattern names tar files; name the folders one by one, or leave",
        ),
        ("{}/dangling", r"dangling: this is a link to nothing; correct the link"),
        (
            "{}/loop",
            r"loop: cannot be reached \(Too many levels of symbolic links\); a link on the way leads to itself",
        ),
        ("[" * 3000, r"^\[{200}\.\.\.: no file matches; correct the pattern '\[{200}\.\.\.'\.$"),
        (
            "{}/" + "x" * 300,
            r"x\.\.\.: cannot be reached \(File name too long\); this file system takes no name as long",
        ),
        ("torchvison:CIFAR10", r"torchvison: is not a kind of image source; .* did you mean torchvision:\?"),
        (
            "s3:bucket/x",
            r"s3: is not a kind of image source; known are builtin:, hf:, procedural:, torchvision:; correct it",
        ),
        ("builtin:photo", r"builtin:photo: must be builtin:photos or builtin:digits; correct the name"),
        ("builtin:photos:val", r"builtin:photos:val: the split must be one of train, labeled, test; correct it"),
    ],
)
def test_bad_specs(tmp_path: Path, opened: Opener, spec: str, message: str) -> None:
    fill(tmp_path / "data", a=png(1))
    for name in ("notes.txt", "a.zip", "a.parquet"):
        (tmp_path / name).write_text("x")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder.tar").mkdir()
    for name in ("dangling", "loop"):
        (tmp_path / name).symlink_to("loop" if name == "loop" else "nothing")
    with pytest.raises((DataError, PathError), match=message.replace("{{", "{").replace("}}", "}")):
        opened(spec.format(tmp_path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_pixels": 0}, r"max_pixels = 0: must be at least 1; the default is 178956970"),
        ({"max_broken_share": 1.5}, r"max_broken_share = 1.5: must lie in 0\.\.1; the default is 0\.01"),
        ({"cache": "yes"}, r"cache = 'yes': must be 'auto', 'always' or 'never'; the default is 'auto'"),
    ],
)
def test_bad_settings(opened: Opener, settings: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened("builtin:digits", **settings)


def test_no_source(opened: Opener) -> None:
    with pytest.raises(DataError, match="no image source was given; name a folder, a tar file, or builtin:photos"):
        opened()


def test_torch_and_the_network_are_not_imported() -> None:
    code = "import sys, syn2co.data.open as i; i.open_images('builtin:photos:test'); print(*sys.modules)"
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split()
    assert "syn2co.data.remote_source" in imported
    assert not {"torch", "fsspec", "aiohttp", "s3fs", "botocore"} & set(imported)
