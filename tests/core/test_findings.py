"""Findings: one sentence each for the terminal, advice below it."""

from dataclasses import FrozenInstanceError

import pytest

from syn2co.core.findings import LEVELS, Finding


def test_a_finding_is_a_line_and_its_advice_lines_below() -> None:
    finding = Finding("leaks", "fail", "2 of 10 images", {"leaks": 2}, ("remove them", "audit again"))
    assert finding.lines() == ["FAIL leaks: 2 of 10 images", "     -> remove them", "     -> audit again"]


def test_without_advice_it_is_one_line() -> None:
    assert Finding("healthy", "pass", "all is well").lines() == ["PASS healthy: all is well"]


def test_checks_stand_below_each_other_whatever_the_level() -> None:
    starts = {Finding("check", level, "reason").lines()[0].index("check") for level in LEVELS}
    assert starts == {5}
    assert len(set(LEVELS)) == 4


def test_a_finding_does_not_change_and_shares_no_evidence() -> None:
    one, other = Finding("a", "info", "b"), Finding("a", "info", "b")
    assert one == other and one.evidence is not other.evidence
    with pytest.raises(FrozenInstanceError):
        one.level = "fail"  # type: ignore[misc]
