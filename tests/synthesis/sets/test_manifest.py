"""Manifest lines: sealed, and read as earlier versions wrote them."""

import json

import pytest

from syn2co.synthesis.sets.manifest import seal, unseal


def test_a_line_of_version_0_1_is_read_and_stays_sealed() -> None:
    text = seal({"id": "a", "licence": "mit"})
    line = unseal(text)
    assert line["license"] == "mit" and "licence" not in line
    with pytest.raises(ValueError, match="was changed after it was written"):
        unseal(text.replace("mit", "gpl"))


def test_a_seal_is_of_the_canonical_json() -> None:
    line = json.loads(seal({"b": 1, 2: "a"}))
    assert list(line) == ["2", "b", "check"] and len(line["check"]) == 16
