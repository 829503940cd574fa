"""The compact list of images: names, prefixes, classes, memory."""

import numpy as np
import pytest

from syn2co.images import index_cache
from syn2co.images.index import (
    FileIndex,
    FileIndexBuilder,
    concatenate,
    is_image_name,
    label_by_folder,
    relabel,
    sort_classes,
    strip_top,
)
from syn2co.images.quarantine import Quarantined


def listing(*paths: str) -> FileIndex:
    """Return a list of paths, one byte bigger each."""
    builder = FileIndexBuilder()
    for number, path in enumerate(paths):
        folder, _, name = path.rpartition("/")
        builder.add(folder, [name], [number])
    return builder.finish()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.jpg", True), ("A.JPEG", True), ("b.TiF", True), ("c.webp", True), ("d.gif", False), ("jpg", False)],
)
def test_image_names(name: str, expected: bool) -> None:
    assert is_image_name(name) is expected


def test_paths_come_back_even_with_odd_bytes() -> None:
    names = ["a.jpg", "ä€😀.png", "\udcff\udc80.jpg", "line\nbreak.jpg"]
    found = listing(*(f"d{number}/{name}" for number, name in enumerate(names)), "top.jpg")
    assert [found.path(row) for row in range(5)] == [*(f"d{n}/{name}" for n, name in enumerate(names)), "top.jpg"]
    assert found.sizes.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("paths", "top", "classes", "labels"),
    [
        (["train/cat/1.jpg", "train/dog/2.jpg"], "train", ("cat", "dog"), [0, 1]),
        (["x/train/cat/1.jpg", "x/train/dog/a/2.jpg"], "x/train", ("cat", "dog"), [0, 1]),
        (["cat/1.jpg", "dog/2.jpg"], "", ("cat", "dog"), [0, 1]),
        (["cat/1.jpg", "cat/2.jpg"], "", ("cat",), [0, 0]),
        (["1.jpg", "2.jpg"], "", (), [-1, -1]),
        (["1.jpg", "cat/deep/2.jpg"], "", ("cat",), [-1, 0]),
        (["cat/1.jpg", "cat/deep/2.jpg"], "", ("cat",), [0, 0]),
        (["10/a.jpg", "9/b.jpg"], "", ("9", "10"), [1, 0]),
    ],
)
def test_classes_from_folders(paths: list[str], top: str, classes: tuple[str, ...], labels: list[int]) -> None:
    stripped, found = strip_top(listing(*paths))
    labeled = label_by_folder(stripped)
    assert (found, labeled.classes, labeled.labels.tolist()) == (top, classes, labels)


def test_class_order() -> None:
    assert sort_classes(["10", "9", "2"]) == ("2", "9", "10")
    assert sort_classes(["10", "9", "b"]) == ("10", "9", "b")


def test_relabel_keeps_minus_one() -> None:
    labels = np.array([0, -1, 1, 0], np.int32)
    assert relabel(labels, ("dog", "cat"), ("ant", "cat", "dog")).tolist() == [2, -1, 1, 2]


def test_concatenate_merges_classes_and_places() -> None:
    first = label_by_folder(listing("cat/1.jpg", "dog/2.jpg"))
    second = label_by_folder(listing("ant/3.jpg", "cat/4.jpg"))
    second = FileIndex(**{**second.__dict__, "skipped": (Quarantined("x.jpg", "why"),), "ignored": 2})
    both = concatenate([first, second], ["a", "b"])
    assert [both.path(row) for row in range(4)] == ["a/cat/1.jpg", "a/dog/2.jpg", "b/ant/3.jpg", "b/cat/4.jpg"]
    assert both.classes == ("ant", "cat", "dog")
    assert both.labels.tolist() == [1, 2, 0, 1]
    assert both.skipped == (Quarantined("b/x.jpg", "why"),) and both.ignored == 2
    assert both.sizes.tolist() == [0, 1, 0, 1]


def test_digest_depends_on_every_name_size_and_the_order() -> None:
    base = listing("a/1.jpg", "a/2.jpg")
    others = [
        listing("a/1.jpg", "a/3.jpg"),
        listing("a/1.jpg", "b/2.jpg"),
        listing("a/2.jpg", "a/1.jpg"),
        listing("a/1.jpg"),
        FileIndex(**{**base.__dict__, "sizes": np.array([0, 2])}),
    ]
    digests = [item.digest() for item in [base, *others]]
    assert len(set(digests)) == len(digests)
    assert listing("a/1.jpg", "a/2.jpg").digest() == digests[0]


def test_memory_stays_below_100_bytes_an_image() -> None:
    builder = FileIndexBuilder()
    for folder in range(100):
        names = [f"n{folder:08d}_{number}.JPEG" for number in range(1000)]
        builder.add(f"n{folder:08d}", names, range(1000))
    found = builder.finish()
    # 20 for directory, start, size and label; at most 18 for the name
    assert found.nbytes / len(found) == pytest.approx(38, abs=2)


def test_an_account_without_a_home_folder_gets_a_temporary_cache(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a container whose user has no line in /etc/passwd."""
    monkeypatch.delenv("SYN2CO_CACHE")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    folders = {index_cache.default_cache_dir() for _ in range(2)}
    index_cache._temporary_cache.cache_clear()
    (folder,) = folders
    assert folder.is_absolute() and folder.name.startswith("syn2co-cache-")
    assert capsys.readouterr().err.count("note: this account has no home folder, so nothing is remembered") == 1
