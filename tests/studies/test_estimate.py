"""What a study will cost: by a few real steps, or by its finished cells; a budget keeps to it."""

import shutil
from pathlib import Path

import pytest
from evaluation_folders import paint
from tiny_studies import ALONE, HALF, LEVELS, STEPS, UNTRAINED, tiny_inputs, tiny_study

from syn2co.runtime.checkpoint import FOLDER
from syn2co.studies.cell_run import RUN
from syn2co.studies.estimate import estimate_study, expected_costs
from syn2co.studies.grid import Level
from syn2co.studies.run import begin, run_cells, run_one


def test_a_few_steps_tell_the_cost_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = tiny_inputs(tmp_path, settings=("optimizer.warmup_epochs=7",))  # 14 steps, more than are timed
    run = begin(tiny_study(LEVELS, seeds=2), inputs, tmp_path / "study", write=False)
    estimate = estimate_study(run)
    assert "warmup_epochs" not in capsys.readouterr().err
    assert not (tmp_path / "study").exists()
    assert (estimate.cells, estimate.finished, len(estimate.seconds)) == (6, 0, 6)
    by_text = dict(zip(estimate.first, estimate.seconds, strict=True))
    trained, untrained = by_text[f"images {ALONE}, seed 0"], by_text[f"images {UNTRAINED}, seed 0"]
    assert trained > untrained > 0 and trained == by_text[f"images {HALF}, seed 1"]
    text = estimate.text()
    assert "6 cells, 0 finished, 6 to run; times by 12 steps and the features of 512 images" in text
    assert "not counted: making the images (fitted), heads and corruptions of the evaluation" in text
    assert estimate.disk > 100_000


def test_finished_cells_tell_the_cost_of_their_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from syn2co.studies import estimate as module

    run = begin(tiny_study(LEVELS), tiny_inputs(tmp_path), tmp_path / "study")
    for job in run.jobs:
        if job.cell.levels["images"] != HALF:
            run_one(run, job, progress=False)
    monkeypatch.setattr(module, "_measure", lambda *_: pytest.fail("a finished cell tells it"))
    estimate = estimate_study(run)
    (alone,) = (job for job in run.jobs if job.cell.levels["images"] == ALONE)
    assert estimate.seconds == (pytest.approx(run.cost(alone).seconds),)  # type: ignore[union-attr]
    assert "times by 2 finished cells" in estimate.text()
    assert estimate.untimed == ("making the images (fitted)",), "no finished cell had any made"
    checkpoints = run.cell_folder(alone) / RUN / FOLDER
    kept = sum(path.stat().st_size for path in checkpoints.glob("*"))
    assert kept > 0
    shutil.rmtree(checkpoints)
    without = estimate_study(run)
    assert estimate.disk - without.disk == kept and "checkpoints" in without.untimed


def test_an_epoch_is_counted_from_the_images_of_the_cell(tmp_path: Path) -> None:
    """Named defect: runs on 40 synthetic images for three epochs were expected to take as long as on 12 real ones."""
    paint(tmp_path / "clone", {"red": 20}, seed=5)
    levels = {
        ALONE: Level(images="real", real_images=12),
        "made": Level(images="synthetic", source="fitted"),
        "stored": Level(images="synthetic", source=str(tmp_path / "clone")),
        "both": Level(images="mixed", source="fitted", share=0.5, real_images=12),
        "untrained": Level(images="untrained"),
        "steps": Level(images="real", settings=("training.steps=5",)),
    }
    settings = [one for one in STEPS if not one.startswith(("training.steps", "mix.epoch_images"))]
    study = tiny_study(levels, settings=(*settings, "training.epochs=3"), contrasts=(), generated=40)
    run = begin(study, tiny_inputs(tmp_path), tmp_path / "out")
    assert [job.images_seen for job in run.jobs] == [36, 120, 60, 36, 0, 40]


def test_untrained_cells_do_not_tell_what_training_costs(tmp_path: Path) -> None:
    run = begin(tiny_study(LEVELS), tiny_inputs(tmp_path), tmp_path / "study")
    run_one(run, next(job for job in run.jobs if job.cell.levels["images"] == UNTRAINED), progress=False)
    assert min(expected_costs(run).values()) > 0


def test_a_budget_without_finished_cells_keeps_to_what_is_expected(tmp_path: Path) -> None:
    run = begin(tiny_study(LEVELS), tiny_inputs(tmp_path), tmp_path / "study")
    expected = {job.hash: 100.0 for job in run.jobs}
    assert run_cells(run, budget=150, expected=expected, progress=False).cells == ()  # a comparison takes 200
