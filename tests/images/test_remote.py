"""Data sets of other libraries: what an item may be, and what becomes of its target."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_images import picture

from syn2co.images.quarantine import BrokenImage
from syn2co.images.sources.remote import MapDatasetSource, class_labels


def source(*items: Any, column: str | None = None) -> MapDatasetSource:
    return MapDatasetSource("a:b", items, np.full(len(items), -1, np.int32), (), column)


def test_an_item_is_a_picture_bytes_or_a_path(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(b"encoded")
    rows = [{"image": {"bytes": b"given"}}, {"image": {"path": str(tmp_path / "one.png")}}, {"image": picture(7)}]
    images = source(*rows, column="image")
    assert images.load(0) == b"given" and images.load(1) == b"encoded"
    np.testing.assert_array_equal(images.load(2), np.full((4, 6, 3), 7))


@pytest.mark.parametrize("item, reason", [
    (({"path": "/nowhere.png"}, 0), r"it cannot be read \(No such file"),
    (("text", 0), "its data set gives a str where an image was expected"),
])  # fmt: skip
def test_what_is_no_image_is_broken(item: Any, reason: str) -> None:
    with pytest.raises(BrokenImage, match=reason):
        source(item).load(0)


def test_an_item_that_its_data_set_fails_on_is_broken() -> None:
    with pytest.raises(BrokenImage, match=r"its data set cannot read it \(IndexError: tuple index out of range\)"):
        source().load(0)


def test_labels_count_the_sorted_names() -> None:
    labels, classes = class_labels([0, 2, -1, 1], ["owl", "cat", "dog"])
    assert (labels.tolist(), classes) == ([2, 1, -1, 0], ("cat", "dog", "owl"))


@pytest.mark.parametrize("names", [None, ["only one"], ["twice", "twice", "once"]])
def test_names_that_do_not_fit_become_numbers(names: list[str] | None) -> None:
    labels, classes = class_labels([2, 0], names)
    assert (labels.tolist(), classes) == ([2, 0], ("0", "1", "2"))


def test_targets_that_are_no_numbers_are_no_labels() -> None:
    labels, classes = class_labels([{"boxes": []}, None], ["a"])
    assert (labels.tolist(), classes) == ([-1, -1], ())
