"""Reports read back: every kind of values as it was, damaged and foreign files in one sentence."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_folders import TINY, paint

from syn2co.core.errors import EvaluationError
from syn2co.evaluation.results import EvaluationReport
from syn2co.evaluation.scores import Score
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.evaluation.stored_report import read_report
from syn2co.models.encoder import build_encoder
from syn2co.reports.evaluation import evaluate

DRAWS = np.random.default_rng(0)
VALUES = {
    "right or wrong": (DRAWS.random(13) < 0.5).astype(np.float64),
    "all wrong": np.zeros(8),
    "one image": np.ones(1),
    "floats": DRAWS.standard_normal(13).astype(np.float32).astype(np.float64),
    "infinite and not a number": np.array([0.5, np.inf, -np.inf, np.nan, 1.0]),
    "draws of right and wrong": (DRAWS.random((3, 13)) < 0.5).astype(np.float64),
    "draws of floats": DRAWS.standard_normal((5, 4)).astype(np.float32).astype(np.float64),
}


def score(values: np.ndarray, **changes: Any) -> Score:
    about: dict[str, Any] = {
        "protocol": "knn", "encoder": "run", "data": "given", "metric": "top-1", "value": 50.0, "low": 40.5,
        "high": 60.25, "n_test": values.shape[-1], "n_train": 9, "seed": 3, "setting": "k = 20",
        "draws": len(values) if values.ndim == 2 else 1, "protocol_hash": "p", "data_fingerprint": "d",
        "encoder_hash": "e", "percent": False, "higher_is_better": False, "details": {"k": [1, 2], "name": "a"},
    }  # fmt: skip
    return Score(**{**about, **changes}, values=values)


def report(*rows: Score) -> EvaluationReport:
    metadata = {"train": ["a"], "test": ["b"], "precision": "float32", "machine": {"threads": 1}}
    return EvaluationReport(rows, ("a note",), metadata, {"given": ("a", "b")})


@pytest.mark.parametrize("name", VALUES)
def test_values_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    report(score(VALUES[name])).write(tmp_path)
    for path in (tmp_path, str(tmp_path / "evaluation.json")):
        (row,) = read_report(path).rows
        assert row.values.shape == VALUES[name].shape
        assert np.array_equal(row.values, VALUES[name], equal_nan=True)


def test_everything_else_comes_back_as_it_was(tmp_path: Path) -> None:
    written = report(score(VALUES["floats"], value=float("inf")), score(VALUES["all wrong"], data="other", n_test=8))
    written.write(tmp_path)
    again = read_report(tmp_path)
    assert (again.notes, again.metadata, again.classes) == (written.notes, written.metadata, written.classes)
    names = [name for name in Score.__dataclass_fields__ if name != "values"]
    for one, two in zip(again.rows, written.rows, strict=True):
        assert [getattr(one, name) for name in names] == [getattr(two, name) for name in names]
    assert again.to_json() == written.to_json()


def test_a_real_evaluation_comes_back(tmp_path: Path) -> None:
    """Differences of two encoders too, which are computed from the values."""
    sides = [paint(tmp_path / str(seed), {"blue": 6, "red": 6}, seed=seed, noise=90) for seed in (0, 1)]
    settings = EvaluationSettings(device="cpu").with_settings(["few_shot.shares=[]", "few_shot.draws=2"])
    encoder = build_encoder(TINY, seed=1)
    written = evaluate(encoder, *sides, protocols=["knn", "few-shot", "health"], settings=settings)
    written.write(tmp_path / "out")
    again = read_report(tmp_path / "out")
    assert again.to_json() == written.to_json()
    assert again.comparisons()[0].difference == written.comparisons()[0].difference
    assert {row.values.ndim for row in again.rows} == {1, 2}


def broken(**changes: Any) -> str:
    body = json.loads(report(score(VALUES["right or wrong"])).to_json())
    row = {**body["scores"][0], **changes.pop("row", {})}
    body |= {"scores": [{name: value for name, value in row.items() if value is not None}], **changes}
    return json.dumps(body)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "evaluation.json: is damaged (it is not JSON (Expecting property name"),
        ("\udc80", "evaluation.json: is damaged (it is not UTF-8 text)"),
        ("[]", "evaluation.json: has format None, this version reads 2; evaluate again"),
        (broken(format=3), "evaluation.json: has format 3, this version reads 2; evaluate again"),
        (broken(row={"n_test": 23}), "evaluation.json: is damaged (ValueError: 16 values for 23 test images)"),
        (broken(row={"n_test": 3}), "evaluation.json: is damaged (ValueError: 16 values for 3 test images)"),
        (broken(row={"correct": "xy"}), "evaluation.json: is damaged (ValueError"),
        (broken(row={"correct": None}), "evaluation.json: is damaged (KeyError: 'values')"),
        (broken(row={"correct": None, "values": "AAAA"}), "evaluation.json: is damaged (error: Error -3"),
        (
            broken(row={"protocol": None}),
            "evaluation.json: is damaged (it does not fit: scores: 0: protocol: field",
        ),
        (
            broken(row={"n_test": None}),
            "evaluation.json: is damaged (it does not fit: scores: 0: n_test: field",
        ),
        (broken(row={"color": "red"}), "evaluation.json: is damaged (TypeError"),
        (broken(classes=[]), "evaluation.json: is damaged (it does not fit: classes: input"),
        (broken(scores=None), "evaluation.json: is damaged (it does not fit: scores: input"),
    ],
)
def test_a_damaged_or_foreign_file_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "evaluation.json").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(EvaluationError, match=re.escape(sentence)) as caught:
        read_report(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_where_one_comes_from(tmp_path: Path) -> None:
    sentence = "evaluation.json: cannot be read (No such file or directory); evaluate with --out first"
    with pytest.raises(EvaluationError, match=re.escape(sentence)):
        read_report(tmp_path)
    with pytest.raises(EvaluationError, match="scores.json: cannot be read"):
        read_report(tmp_path / "scores.json")


def test_values_of_another_number_are_damage(tmp_path: Path) -> None:
    body = json.loads(report(score(VALUES["draws of floats"])).to_json())
    body["scores"][0]["draws"] = 4
    (tmp_path / "evaluation.json").write_text(json.dumps(body))
    with pytest.raises(EvaluationError, match="is damaged .ValueError: cannot reshape"):
        read_report(tmp_path)
