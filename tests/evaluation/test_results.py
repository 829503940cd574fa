"""What a report says of scores: comparisons in words, mean ranks, CSV, values that survive the file."""

import base64
import csv
import io
import json
import re
import zlib

import numpy as np
import pytest
from markdown_it import MarkdownIt

from syn2co.core.errors import EvaluationError
from syn2co.evaluation.results import EvaluationReport
from syn2co.evaluation.scores import Score


def row(encoder: str, values: list[float] | np.ndarray, **changes: object) -> Score:
    numbers = np.asarray(values, float)
    plain = {
        "protocol": "knn", "encoder": encoder, "data": "", "metric": "top-1", "value": 100 * numbers.mean(), "low": 0.0,
        "high": 100.0, "n_test": numbers.shape[-1], "n_train": 9, "seed": 0, "draws": 1, "setting": "k = 3",
        "protocol_hash": "p", "data_fingerprint": "d", "encoder_hash": "e", "values": numbers,
    }  # fmt: skip
    return Score(**{**plain, **changes})  # type: ignore[arg-type]


def report(*rows: Score) -> EvaluationReport:
    return EvaluationReport(rows, (), {"train": ["a"], "test": ["b"], "precision": "float32"}, {"": ("x", "y")})


def test_a_clear_lead_is_a_sentence() -> None:
    better, worse = np.ones(400), np.arange(400) % 2
    (comparison,) = report(row("ours", better), row("theirs", worse)).comparisons()
    assert comparison.difference.value == 50.0
    half = (comparison.difference.high - comparison.difference.low) / 2
    assert comparison.text == f"knn, top-1: ours is better than theirs by 50.0 +- {half:.1f} points"


def test_where_lower_is_better_the_lower_wins() -> None:
    low = row("ours", np.full(50, 0.1), metric="ECE", higher_is_better=False, data="digits")
    high = row("theirs", np.full(50, 0.3), metric="ECE", higher_is_better=False, data="digits")
    (comparison,) = report(low, high).comparisons()
    assert comparison.text.startswith("knn, ECE on digits: ours is better than theirs by 20.0")


def test_what_the_images_do_not_tell_is_said_to_be_open() -> None:
    (comparison,) = report(row("ours", [1, 0, 1, 0]), row("theirs", [0, 1, 0, 1])).comparisons()
    assert comparison.text.startswith("knn, top-1: ours and theirs are not told apart (+0.0 [")


def test_small_numbers_without_percent_are_not_rounded_away() -> None:
    one, two = (
        row(name, np.full(50, value), metric="std", percent=False) for name, value in (("a", 0.315), ("b", 0.2))
    )
    (comparison,) = report(one, two).comparisons()
    assert comparison.text == "knn, std: a is better than b by 0.12 +- 0"


def test_scores_of_another_form_or_of_other_images_are_not_compared() -> None:
    """Named defect: CIFAR-C's and ImageNet-C's strengths side by side, one 85 points better than the other."""
    one, other = row("a", [1, 0]), row("b", [1, 1], protocol_hash="q")
    assert report(one, other).comparisons() == []
    with pytest.raises(EvaluationError, match="other test images or of another form of the protocol"):
        report(one, other).compare("a", "b")
    assert "+" not in report(one, other).to_markdown().splitlines()[5]
    with pytest.raises(EvaluationError, match="another form of the protocol"):
        report(one, row("b", [1, 1], data_fingerprint="e")).compare("a", "b")
    with pytest.raises(EvaluationError, match="the report has no such score"):
        report(row("a", [1, 0], data="x"), row("b", [1, 1], data="y")).compare("a", "b")


def test_every_pair_is_compared_where_both_have_a_score() -> None:
    rows = [row(name, [1, 0]) for name in "abc"] + [row("a", [1, 0], protocol="dense")]
    pairs = [(one.first.encoder, one.second.encoder) for one in report(*rows).comparisons()]
    assert pairs == [("a", "b"), ("a", "c"), ("b", "c")]


def test_mean_ranks_by_hand() -> None:
    """On one set a > b = c, on the other c > a > b: ranks (1, 2.5, 2.5) and (2, 3, 1)."""
    scores = {"one": {"a": 1.0, "b": 0.5, "c": 0.5}, "two": {"a": 0.5, "b": 0.0, "c": 1.0}}
    rows = [row(name, [value] * 4, data=data) for data, table in scores.items() for name, value in table.items()]
    assert report(*rows).mean_ranks() == {"knn": {"a": 1.5, "b": 2.75, "c": 1.75}}
    assert report(*rows[:3]).mean_ranks() == {}, "one data set has no mean rank"
    assert report(*rows[:5]).mean_ranks() == {}, "b and c lack the second one"
    assert "mean rank over data sets, knn: a 1.50, b 2.75, c 1.75." in report(*rows).to_markdown()


def test_csv_has_a_line_per_score() -> None:
    lines = list(csv.DictReader(io.StringIO(report(row("a", [1, 0]), row("b", [1, 1])).to_csv())))
    assert [line["encoder"] for line in lines] == ["a", "b"]
    assert lines[1]["value"] == "100.0" and lines[0]["protocol_hash"] == "p"
    assert "values" not in lines[0] and "details" not in lines[0]


def test_values_survive_the_file() -> None:
    draws = np.array([[0.25, 1.5, -3.0], [1.0, 0.0, 2.0]])
    body = json.loads(report(row("a", [1, 0, 1]), row("b", draws, draws=2)).to_json())
    bits, floats = body["scores"]
    assert np.unpackbits(np.frombuffer(bytes.fromhex(bits["correct"]), np.uint8), count=3).tolist() == [1, 0, 1]
    unpacked = np.frombuffer(zlib.decompress(base64.b64decode(floats["values"])), "<f4")
    assert unpacked.reshape(2, 3) == pytest.approx(draws)


def test_one_encoder_alone_is_compared_with_none() -> None:
    alone, both = report(row("a", [1, 0])), report(row("a", [1, 0]), row("b", [1, 1]))
    assert "minus this" not in alone.to_markdown() and "| a minus this |" in both.to_markdown()
    lines = [line for line in alone.to_markdown().splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1


def test_names_with_marks_end_no_table() -> None:
    from rich.console import Console

    strange = report(row("[/x] | <b>", [1, 0]))
    console = Console(width=200)
    with console.capture() as capture:
        console.print(strange.table())
    assert "[/x] | <b>" in capture.get()
    assert "| \\[/x\\] \\| &lt;b> |" in strange.to_markdown()
    name = "<script>x</script> [a](javascript:b) | `c`"
    named = EvaluationReport(
        (row(name, [1, 0], data=name, protocol=name, metric=name, setting=name), row("b", [0, 1], data=name)), (name,),
        {"train": [name], "test": [name], "precision": name}, {name: (name,)},
    )  # fmt: skip
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(named.to_markdown())
    assert not re.search(r"<(script|a|b|code)\b", rendered) and rendered.count("&lt;script") > 5


def test_many_scores_have_a_column_per_encoder() -> None:
    """Which of two is better is said beside the score, as the paired difference decides it."""
    from rich.console import Console

    better, worse = np.ones(400), np.arange(400) % 2
    rows = [row(name, values, protocol=f"p{n}", low=40.0, high=60.0)
            for name, values in (("ours", worse), ("theirs", better), ("same", worse)) for n in range(5)]  # fmt: skip
    many = report(*rows)
    assert many.is_long and not report(*rows[:6]).is_long
    console = Console(width=100)
    with console.capture() as capture:
        console.print(many.table())
    shown = capture.get()
    assert shown.count("100.0 ±10.0 >") == 5 and shown.count("50.0 ±10.0 ~") == 5
    assert "< ours is better, > it is worse, ~ not told apart" in " ".join(shown.split())
    assert "| p0 | 50.0 ±10.0 | 100.0 ±10.0 > | 50.0 ±10.0 ~ |" in many.to_markdown()
    flipped = [row(name, values, protocol=f"p{n}", higher_is_better=False)
               for name, values in (("ours", worse), ("theirs", better)) for n in range(7)]  # fmt: skip
    assert report(*flipped).to_markdown().count(" < |") == 7
