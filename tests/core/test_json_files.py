"""JSON from outside: bounds of size and depth, shapes, and one sentence for whatever is wrong."""

import os
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from syn2co.core import json_files
from syn2co.core.json_files import JsonError, check_shape, parse_json, read_json, read_json_lines


class Line(BaseModel):
    step: int
    loss: float = 0.0


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        (b"", "is not JSON (Expecting value: line 1 column 1 (char 0))"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"[" * 100_000, "is nested deeper than 64 levels"),
        (b"[" * 65 + b"]" * 65, "is nested deeper than 64 levels"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "is nested deeper than 64 levels"),
        (b"9" * 5000, "is not JSON (Exceeds the limit"),
        (b'{"step": "3"}', "does not fit: step: input should be a valid integer"),
        (b'{"step": true}', "does not fit: step: input should be a valid integer"),
        (b'{"step": 3, "loss": null}', "does not fit: loss: input should be a valid number"),
        (b"[]", "does not fit: input should be a valid dictionary"),
    ],
)
def test_whatever_is_wrong_is_one_clause(text: bytes, clause: str) -> None:
    with pytest.raises(JsonError) as caught:
        parse_json(text, Line)
    assert str(caught.value).startswith(clause) and "\n" not in str(caught.value)


def test_sound_values_come_back_as_they_are() -> None:
    assert parse_json(b'\xef\xbb\xbf{"step": 3, "loss": 1, "more": [NaN]}', Line)["loss"] == 1
    deep = parse_json("[" * 64 + "]" * 64)
    assert deep == parse_json(b"[" * 64 + b"]" * 64) != []
    assert check_shape({"step": 3}, Line) == {"step": 3}, "the plain value, without the model's defaults"


def test_a_file_is_read_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "facts.json"
    path.write_text('{"step": 12}')
    monkeypatch.setattr(json_files, "LARGEST", 12)
    assert read_json(path, Line) == {"step": 12}
    path.write_text('{"step": 123}')
    with pytest.raises(JsonError, match="is larger than 0 MiB"):
        read_json(path)


def test_a_pipe_or_a_folder_in_the_place_of_a_file_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (("pipe", "no plain file"), (".", "Is a directory"), ("nothing", "No such file")):
        with pytest.raises(OSError, match=reason):
            read_json(tmp_path / name)
        with pytest.raises(OSError, match=reason):
            list(read_json_lines(tmp_path / name))


def test_a_damaged_line_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"step": 1}\n\xff\n"text"\n{"loss": 1}\n{"step": 2}\n{"st')
    lines = list(read_json_lines(path, Line))
    assert [line["step"] for line in lines if not isinstance(line, JsonError)] == [1, 2] and len(lines) == 6
    monkeypatch.setattr(json_files, "LONGEST_LINE", 100)
    path.write_bytes(b" " * 250 + b'\n{"step": 7}\n')
    assert list(read_json_lines(path, Line))[-1] == {"step": 7}


OWN = ("json.dumps(", "seal(line)", "self.report.to_json()", "file.read(size)", "array.tobytes().decode()")
"""Arguments of `json.loads` that the same process, or the cache of the same user, has written."""


def test_what_others_may_have_written_is_read_in_one_place() -> None:
    package = Path(json_files.__file__).parents[1]
    foreign = [
        f"{path.relative_to(package)}: {call}"
        for path in package.rglob("*.py")
        if path != Path(json_files.__file__)
        for call in re.findall(r"(?:json\.loads?|model_validate_json|validate_json)\((.*)", path.read_text())
        if not call.startswith(OWN)
    ]
    assert foreign == []
