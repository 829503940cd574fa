"""Hints: the nearest known name, or silence."""

import pytest

from syn2co.core.hints import nearest

KNOWN = ["queue.size", "training.batch", "views.size", "negatives.hardest"]


@pytest.mark.parametrize("given, meant", [
    ("quue.size", "queue.size"),  # the whole path is near
    ("batch", "training.batch"),  # the last part alone
    ("optimizer.hardset", "negatives.hardest"),
    ("size", "queue.size"),  # of two with the same last part the first one
])  # fmt: skip
def test_the_nearest_name(given: str, meant: str) -> None:
    assert nearest(given, KNOWN) == f"; did you mean {meant}?"


def test_a_whole_name_beats_the_last_part_of_another_one() -> None:
    assert nearest("view.sise", KNOWN) == "; did you mean views.size?"


def test_a_word_of_a_name_is_near_it_first_in_its_own_group() -> None:
    known = ["flow.base_lr", "optimizer.clip", "optimizer.base_lr"]
    assert nearest("optimizer.lr", known) == "; did you mean optimizer.base_lr?"
    assert nearest("lr", known) == "; did you mean flow.base_lr?"


def test_several_names_come_nearest_first() -> None:
    assert nearest("vit_tinny", ["vit_tin", "resnet", "vit_tiny"], most=2) == "; did you mean vit_tiny, vit_tin?"


def test_the_dots_of_file_names_part_nothing() -> None:
    assert nearest("qq.tar", ["mountains-of-wales.tar"]) == "; did you mean mountains-of-wales.tar?"
    assert nearest("qq.tar", ["mountains-of-wales.tar"], separator="/") == ""


def test_nothing_near_is_no_hint() -> None:
    assert nearest("temperature", ["queue.size"]) == ""
    assert nearest("queue", []) == ""


def test_any_iterable_is_taken_once() -> None:
    assert nearest("knm", (name for name in ("knn", "linear"))) == "; did you mean knn?"
