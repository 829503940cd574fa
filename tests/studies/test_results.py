"""Results read back and merged: what differs is never averaged in silence, what is finished is never lost."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_studies import ALONE, HALF, UNTRAINED, tiny_study

from syn2co.core.errors import StudyError
from syn2co.core.versions import __version__
from syn2co.evaluation.results import EvaluationReport
from syn2co.evaluation.scores import Score
from syn2co.studies import merge
from syn2co.studies.answers import answer
from syn2co.studies.grid import Level, Study
from syn2co.studies.merge import _comparable, read_study
from syn2co.studies.result_files import parse_cell, read_cell
from syn2co.studies.results import CellResult, Cost, FailedCell, ScoreKey, StudyResults

STUDY = tiny_study(seeds=3)
SHARED = {"images (real)": "r", "images (test)": "t", "settings": ""}


def score(protocol: str = "knn", **changes: Any) -> Score:
    values = np.random.default_rng(0).integers(0, 2, 20).astype(np.float64)
    about: dict[str, Any] = {
        "protocol": protocol, "encoder": "run", "data": "", "metric": "top-1", "value": 50.0, "low": 40.0, "high": 60.0,
        "n_test": 20, "n_train": 9, "seed": 0, "draws": 1, "setting": "", "protocol_hash": f"p {protocol}",
        "data_fingerprint": "d", "encoder_hash": "e", "values": values,
    }  # fmt: skip
    return Score(**{**about, **changes})


def cell(level: str, seed: int, *scores: Score, **changes: Any) -> CellResult:
    report = EvaluationReport(scores or (score(), score("linear")), (), {})
    values: dict[str, Any] = {"shared": SHARED, "version": "1", "cell": f"{level} {seed}"}
    return CellResult(levels={"images": level}, seed=seed, report=report, **{**values, **changes})


def write(folder: Path, *cells: CellResult | FailedCell, study: Study = STUDY) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps({"format": 1, "study": study.model_dump(mode="json")}))
    for number, one in enumerate(cells):
        one.write(folder / "cells" / f"{number:02d} {one.cell} {getattr(one, 'version', '')}")
    return folder


ALL = [cell(level, seed) for level in (ALONE, HALF, UNTRAINED) for seed in range(3)]


def kept(results: StudyResults) -> list[str]:
    return [f"{one.levels['images']} {one.seed}" for one in results.cells]


def others(*levels: str) -> list[str]:
    return [
        f"{level} {seed}" for level in (ALONE, HALF, UNTRAINED) for seed in range(3) if f"{level} {seed}" not in levels
    ]


def test_a_whole_study_has_nothing_to_say(tmp_path: Path) -> None:
    results = read_study(write(tmp_path / "s", *reversed(ALL)))
    assert kept(results) == others() and results.notes == () and results.missing == [] and results.failed == ()
    assert results.scores == [ScoreKey("knn", ""), ScoreKey("linear", "")] and results.study == STUDY
    assert list(results.of({"images": HALF})) == [0, 1, 2] and results.of({"images": "gone"}) == {}


def test_a_cell_comes_back_as_it_was(tmp_path: Path) -> None:
    cost = Cost(training_seconds=1.5, generation_seconds=2, evaluation_seconds=4, images_made=7, processors="cpu")
    one = cell(
        HALF, 1, score(value=float("nan"), values=np.array([[0.5, np.inf], [0, np.nan]]), draws=2, n_test=2),
        cost=cost, steps=9, health={"healthy": True}, curves=[{"step": 1, "loss": float("inf")}],
        config={"seed": 1}, commands=["syn2co recipes"],
    )  # fmt: skip
    one.write(tmp_path)
    again = read_cell(tmp_path / "cell.json")
    assert replace(again, report=one.report) == one and again.cost.seconds == 7.5
    assert np.array_equal(again.report.rows[0].values, one.report.rows[0].values, equal_nan=True)
    assert not list(tmp_path.glob(".*")), "written whole or not at all"


@pytest.mark.parametrize("text", ["", '{"format":1,"cell":"x"', "[]", "{}", "\udc80", '{"format":1,"evaluation":{}}'])
def test_a_torn_file_is_left_out_and_named(tmp_path: Path, text: str) -> None:
    write(tmp_path / "s", *ALL)
    path = next((tmp_path / "s" / "cells").glob(f"*{HALF} 1*/cell.json"))
    path.write_text(text, errors="surrogateescape")
    results = read_study(tmp_path / "s")
    assert kept(results) == others(f"{HALF} 1") and results.missing == [f"images {HALF}, seed 1"]
    (note,) = results.notes
    assert re.match(rf"{path.parent.name}/cell.json: (cannot be read|has format None, ).*; it is left out$", note)
    assert note in answer(results).notes


@pytest.mark.parametrize("health", [{"findings": [3]}, "x", None, {"findings": [{"level": "warn"}]}, {"headline": 3}])
def test_odd_health_is_left_out_and_named(tmp_path: Path, health: object) -> None:
    """Named defect: one such cell took the page of the whole study with it."""
    write(tmp_path / "s", *ALL)
    path = next((tmp_path / "s" / "cells").glob(f"*{HALF} 1*/cell.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "health": health}))
    results = read_study(tmp_path / "s")
    assert kept(results) == others(f"{HALF} 1")
    assert re.match(r".*/cell.json: cannot be read \(does not fit: health.*; it is left out$", results.notes[0])


def test_another_format_is_left_out_and_named(tmp_path: Path) -> None:
    write(tmp_path / "s", *ALL)
    path = next((tmp_path / "s" / "cells").glob(f"*{HALF} 1*/cell.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    assert "cell.json: has format 2, this version reads 1; it is left out" in read_study(tmp_path / "s").notes[0]
    body = json.loads(path.read_text()) | {"format": 1}
    body["evaluation"]["format"] = 1
    path.write_text(json.dumps(body))
    assert "has format 1, this version reads 2" in read_study(tmp_path / "s").notes[0]


@pytest.mark.parametrize(
    ("changes", "scores", "reason"),
    [
        ({"version": "2"}, (), "made by version 2, most are by 1)"),
        ({"shared": {**SHARED, "images (real)": "x"}}, (), "has other images (real) than most cells"),
        ({"shared": {**SHARED, "settings": "queue.size=9"}}, (), "has other settings than most cells"),
        ({}, (score(protocol_hash="x"), score("linear")), "knn has another form of the protocol than most cells"),
        ({}, (score(), score("linear", data_fingerprint="x")), "linear has another test or training images than most"),
        ({}, (score(n_test=19), score("linear")), "knn has another test or training images than most"),
    ],
)
def test_a_cell_of_another_kind_is_left_out_and_named(
    tmp_path: Path, changes: dict[str, Any], scores: tuple[Score, ...], reason: str
) -> None:
    odd = cell(HALF, 1, *scores, **changes)
    results = read_study(write(tmp_path / "s", odd, *[one for one in ALL if one.cell != odd.cell]))
    assert kept(results) == others(f"{HALF} 1") and results.missing == [f"images {HALF}, seed 1"]
    (note,) = results.notes
    assert note.startswith(f"images {HALF}, seed 1: is left out ({reason}")
    assert note in answer(results).notes and [one.cell for one in results.left_out] == [odd.cell]
    assert not any("not finished" in one for one in answer(results).notes)


def test_what_is_usual_is_counted_in_one_version() -> None:
    """Named defect: with as many cells of an older version, whose protocol was another, none was left at all."""
    old = [cell(ALONE, seed, score(protocol_hash="old"), version="0.1") for seed in range(2)]  # these can be run again
    new = [cell(HALF, seed, score(protocol_hash="new"), version=__version__) for seed in range(2)]
    notes: list[str] = []
    assert [one.cell for one in _comparable([*old, *new], STUDY, notes)] == [f"{HALF} 0", f"{HALF} 1"]
    assert [note.rpartition("; ")[2] for note in notes] == ["delete its folder to run it again)"] * 2


def test_a_cell_that_was_run_again_takes_the_place_of_the_old(tmp_path: Path) -> None:
    """Named defect: with the old version's folder first, the cell of most cells' version was lost."""
    old, new = cell(HALF, 1, version="0"), [one for one in ALL if one.cell == f"{HALF} 1"]
    write(tmp_path / "old", old)
    write(tmp_path / "new", *ALL)
    results = read_study([tmp_path / "old", tmp_path / "new"])
    assert kept(results) == others() and results.of({"images": HALF})[1].version == new[0].version
    assert results.notes == (f"images {HALF}, seed 1: is left out (made by version 0, most are by 1)",)
    assert results.left_out == ()


def test_a_missing_score_is_counted(tmp_path: Path) -> None:
    without = [cell(HALF, 1, score()) if one.cell == f"{HALF} 1" else one for one in ALL]
    results = read_study(write(tmp_path / "s", *without))
    assert kept(results) == others() and results.notes == ("linear: 1 of 9 cells have no such score",)
    assert ScoreKey("linear", "") in results.scores


def test_one_cell_with_other_settings_is_chosen_and_named(tmp_path: Path) -> None:
    results = read_study(write(tmp_path / "s", *ALL, cell(HALF, 1, cell="zz")))
    assert kept(results) == others() and results.of({"images": HALF})[1].cell == f"{HALF} 1"
    unlike = "was run with other synthetic images or initial weights too; that one is left out"
    assert results.notes == (f"images {HALF}, seed 1: {unlike}",)


def test_of_two_cells_that_differ_in_settings_that_of_most_cells_counts(tmp_path: Path) -> None:
    """Named defect: the first by hash was taken, though every other cell had trained as long as the second."""
    config = {"training": {"steps": 3000, "batch": 128}, "name": "x"}
    alike = [replace(one, config=config) for one in ALL]
    shorter = replace(cell(HALF, 1, cell="00"), config={**config, "training": {"steps": 2900, "batch": 128}})
    results = read_study(write(tmp_path / "s", shorter, *alike))
    assert kept(results) == others() and results.of({"images": HALF})[1].cell == f"{HALF} 1"
    assert results.notes == (f"images {HALF}, seed 1: was run with training.steps = 2900 too; that one is left out",)


def test_levels_that_the_study_does_not_have_are_counted(tmp_path: Path) -> None:
    results = read_study(write(tmp_path / "s", *ALL, cell("foreign", 0)))
    assert kept(results) == others()
    assert results.notes == ("1 of 10 cells have levels that are not in the study, and are left out",)


def test_a_failed_cell_is_named_until_it_is_finished(tmp_path: Path) -> None:
    """By its levels and seed: a cell whose source was mended has another hash."""
    failures = [FailedCell(f"hash {seed}", {"images": HALF}, seed, "no disk") for seed in (0, 1)]
    results = read_study(write(tmp_path / "s", *failures, *[one for one in ALL if one.cell != f"{HALF} 1"]))
    assert [(one.levels["images"], one.seed, one.reason) for one in results.failed] == [(HALF, 1, "no disk")]
    assert results.missing == [f"images {HALF}, seed 1"]
    assert f"images {HALF}, seed 1: failed (no disk)" in answer(results).notes


def test_parts_of_one_study_merge(tmp_path: Path) -> None:
    parts = [write(tmp_path / str(part), *ALL[part::3]) for part in range(3)]
    assert kept(read_study(parts)) == others() and read_study(parts).notes == ()
    assert kept(read_study([*parts, parts[0]])) == others(), "the same folder twice counts once"
    assert kept(read_study([str(parts[0])])) == [one.cell for one in ALL[0::3]]


def test_parts_with_more_seeds_merge(tmp_path: Path) -> None:
    few, more = write(tmp_path / "few", *ALL[:1], study=tiny_study(seeds=1)), write(tmp_path / "more", *ALL)
    assert read_study([few, more]).study.seeds == read_study([more, few]).study.seeds == 3
    assert len(read_study(few).missing) == 2
    assert len(read_study(write(tmp_path / "few", cell(HALF, 4), study=tiny_study(seeds=1))).missing) == 13


def test_a_cell_that_stands_in_two_folders_with_other_scores_is_named(tmp_path: Path) -> None:
    """Named defect: the order of the folders decided between them, without a word."""
    one = write(tmp_path / "one", *ALL)
    other = write(tmp_path / "other", cell(HALF, 1, score(value=60.0), score("linear")), study=tiny_study(seeds=5))
    results = read_study([one, other])
    assert results.of({"images": HALF})[1].report.rows[0].value == 50
    assert results.notes == (f"images {HALF}, seed 1: stands here twice with other scores; the first is taken",)
    assert results.study.seeds == read_study([other, one]).study.seeds == 5


def test_a_cell_that_stands_in_two_folders_with_equal_scores_of_two_machines_is_not(tmp_path: Path) -> None:
    """Named defect: another version of Python counted as other scores."""
    first = ALL[0]
    report = replace(first.report, metadata={**first.report.metadata, "machine": {"python": "3.13.1", "threads": 8}})
    assert report.to_json() != first.report.to_json()
    one, other = write(tmp_path / "one", *ALL), write(tmp_path / "other", replace(first, report=report))
    assert read_study([one, other]).notes == ()


def test_a_file_that_is_deleted_while_a_study_is_read_is_not_torn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by another process that resumes a failed cell. Named defect: a note with the whole path, on the page too."""
    folder = write(tmp_path / "s", *ALL[1:])
    (slug,) = [one.slug for one in STUDY.cells() if (one.levels, one.seed) == (ALL[0].levels, ALL[0].seed)]
    FailedCell("hash", ALL[0].levels, ALL[0].seed, "no disk").write(folder / "cells" / f"{slug}-hash")

    def parse(path: Path) -> Any:
        if path.name == "failed.json":
            path.unlink()
        return parse_cell(path)

    monkeypatch.setattr(merge, "parse_cell", parse)
    results = read_study(folder)
    assert results.notes == () and results.unreadable == () and results.failed == ()
    path = next(folder.rglob("cell.json"))
    path.unlink()
    path.mkdir()
    (note,) = read_study(folder).notes
    assert str(tmp_path) not in note


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"training_seconds": float("nan")}, "finite"), ({"images_made": "many"}, "images_made"),
        ({"queries": 1}, "queries"), ({"processors": None}, "processors"),
    ],
)  # fmt: skip
def test_an_impossible_cost_or_seed_leaves_a_cell_out_by_name(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    """Named defect: the page ended in a traceback, for these and for a seed of a billion."""
    folder = write(tmp_path / "s", *ALL)
    path = sorted(folder.glob("cells/*/cell.json"))[0]
    body = json.loads(path.read_text())
    for broken in ({**body, "cost": {**body["cost"], **changes}}, {**body, "seed": 10**9}):
        path.write_text(json.dumps(broken))
        (note,) = read_study(folder).notes
        assert f"{path.parent.name}/cell.json: cannot be read" in note and note.endswith("; it is left out")
        assert broken["seed"] or reason in note


def test_parts_of_other_images_or_settings_are_not_averaged(tmp_path: Path) -> None:
    """Named defect: two folders of one grid, trained on other images, were one study."""
    most = write(tmp_path / "a", *ALL[:5])
    some = write(tmp_path / "b", *[replace(one, shared={**SHARED, "images (real)": "x"}) for one in ALL[5:]])
    results = read_study([some, most])
    assert kept(results) == [one.cell for one in ALL[:5]] and len(results.notes) == 4
    assert all("has other images (real) than most cells" in note for note in results.notes)


def test_another_study_is_not_merged(tmp_path: Path) -> None:
    one = write(tmp_path / "one", *ALL)
    other = write(tmp_path / "other", study=tiny_study({ALONE: Level(), HALF: Level(real_images=3)}, name="mine"))
    with pytest.raises(
        StudyError, match=re.escape("other: holds another study than one (mine, tiny); give folders of")
    ):
        read_study([one, other])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "s: holds no study.json, so it is no study; give the --out of `syn2co study`"),
        ("", "s/study.json: is not JSON (Expecting value"),
        ("[]", "s/study.json: does not fit: input should be a valid dictionary"),
        ("{}", "s/study.json: does not fit: study: field required; restore it"),
        ('{"format": 7, "study": {}}', "s/study.json: has format 7, this version reads 1"),
        ('{"study": {"name": "x"}}', "s/study.json: is damaged (title = dict: field required); restore it"),
    ],
)
def test_a_damaged_study_is_one_sentence(tmp_path: Path, text: str | None, sentence: str) -> None:
    write(tmp_path / "s")
    (tmp_path / "s" / "study.json").unlink() if text is None else (tmp_path / "s" / "study.json").write_text(text)
    with pytest.raises(StudyError, match=re.escape(sentence)):
        read_study(tmp_path / "s")


def test_a_study_that_has_not_begun_is_empty(tmp_path: Path) -> None:
    results = read_study(write(tmp_path / "s"))
    assert results.cells == results.failed == results.notes == () and len(results.missing) == 9
    assert answer(results).notes


def test_cells_may_be_files_of_any_name_and_runs_are_no_cells(tmp_path: Path) -> None:
    """As results are committed: cells/NAME.json beside a study.json. A run in a folder has JSON files of its own."""
    write(tmp_path / "s", *ALL[1:])
    ALL[0].write(tmp_path / "one")
    (tmp_path / "one" / "cell.json").rename(tmp_path / "s" / "cells" / "real-0.json")
    for path in ("inputs.json", "answers.json", "sets/fitted/recipe.json", f"cells/01 {HALF} 0 1/run/config.json"):
        (tmp_path / "s" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "s" / path).write_text("{}")
    results = read_study(tmp_path / "s")
    assert kept(results) == others() and results.notes == ()


def test_one_seed_says_nothing_of_training(tmp_path: Path) -> None:
    results = read_study(write(tmp_path / "s", *ALL[::3], study=tiny_study(seeds=1)))
    assert any("one seed: says nothing about training" in note for note in answer(results).notes)


def test_a_failure_is_not_hidden_by_a_result_that_is_left_out(tmp_path: Path) -> None:
    """Named defect: a cell that failed by today's version passed for finished by one of an older version."""
    old = replace(ALL[0], cell="of-before", version="0.0.1")
    failed = FailedCell("of-today", ALL[0].levels, ALL[0].seed, "no disk")
    results = read_study(write(tmp_path / "s", old, *ALL[1:], failed))
    assert [one.reason for one in results.failed] == ["no disk"] and [one.cell for one in results.left_out] == [
        "of-before"
    ]


def test_a_failure_is_no_result(tmp_path: Path) -> None:
    FailedCell("x", {"images": HALF}, 0, "no disk").write(tmp_path)
    with pytest.raises(StudyError, match=r"failed.json: is no result of a cell \(no disk\)"):
        read_cell(tmp_path / "failed.json")
