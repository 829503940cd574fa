"""Running a study: each cell once, in the order of their worth; kills resume, failures are written down."""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_folders import paint
from runs import finish, interrupt_at, said, saved_steps, start
from tiny_studies import (
    ALONE,
    HALF,
    LEVELS,
    STEPS,
    UNTRAINED,
    processes_of,
    run_and_die,
    run_tiny,
    tiny_inputs,
    tiny_study,
)  # fmt: skip

from syn2co.core.errors import DataError, StudyError
from syn2co.core.locks import hold
from syn2co.core.versions import source_hash
from syn2co.evaluation import evaluate as evaluate_module
from syn2co.evaluation.protocols.protocol import Protocol, ProtocolResult, Task
from syn2co.evaluation.protocols.registry import PROTOCOLS
from syn2co.evaluation.results import EvaluationReport
from syn2co.reports.study_tables import processor_hours
from syn2co.studies import run as module
from syn2co.studies.answers import answer
from syn2co.studies.estimate import _unknown_generators
from syn2co.studies.grid import Contrast, Level
from syn2co.studies.inputs import inputs_file
from syn2co.studies.merge import read_study
from syn2co.studies.results import CellResult, Cost, StudyResults
from syn2co.studies.run import LOCK, StudyRun, begin, cells_within, expected_seconds, run_cells, run_one
from syn2co.synthesis.generation.generate import generate
from syn2co.synthesis.sets.settings import SynthesisSettings


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images and, in `out`, the finished study; not to be written to."""
    folder = tmp_path_factory.mktemp("finished")
    run_tiny(tiny_study(), tiny_inputs(folder), folder / "out")
    return folder


def scores(results: StudyResults) -> dict[str, tuple[str, float, list[float]]]:
    return {
        cell.levels["images"]: (row.encoder_hash, row.value, row.values.tolist())
        for cell in results.cells
        for row in cell.report.rows
    }


def fake(run: StudyRun, seconds: dict[str, float], *, ran: list[str]) -> Any:
    """A `run_one` that takes no time, and says how many seconds a cell took by its level."""

    def run_one(run: StudyRun, job: Any, *, progress: bool) -> str:
        ran.append(f"{job.cell.levels['images']} {job.cell.seed}")
        cost = Cost(training_seconds=seconds[job.cell.levels["images"]])
        CellResult(job.hash, job.cell.levels, job.cell.seed, EvaluationReport((), (), {}), cost).write(
            run.cell_folder(job)
        )
        return ""

    return run_one


def test_a_study_runs_and_says_what_every_cell_did(finished: Path) -> None:
    results = read_study(finished / "out")
    assert [(cell.levels["images"], cell.seed) for cell in results.cells] == [(ALONE, 0), (HALF, 0), (UNTRAINED, 0)]
    alone, half, untrained = results.cells
    assert results.failed == results.notes == () and results.missing == []
    assert (half.steps, alone.steps, untrained.steps) == (4, 4, 0)
    assert half.cost.images_made == 12 and half.cost.generation_seconds > 0 and half.cost.training_seconds > 0
    assert alone.cost.images_made == alone.cost.generation_seconds == 0 and untrained.cost.training_seconds == 0
    assert alone.cost.processors == "cpu, 1 threads, 1 ranks" and alone.health["headline"] and not untrained.health
    assert processor_hours(alone.cost) == ("core", alone.cost.seconds / 3600), "the page reads what a cell says"
    assert alone.curves[-1]["step"] == 4 and alone.config["mix"]["max_real"] == 12
    assert len({hash for hash, _, _ in scores(results).values()}) == 3
    assert {cell.source_hash for cell in results.cells} == {source_hash()}
    assert (alone.precision, half.precision, untrained.precision) == ("float32", "float32", "")
    record = json.loads((finished / "out" / "cells" / half_folder(finished) / "run" / "mix.json").read_text())
    assert (record["real"], record["synthetic"], record["mode"]) == (12, 12, "ratio")


def half_folder(folder: Path) -> str:
    return next(path.name for path in (folder / "out" / "cells").iterdir() if path.name.startswith("half-fitted-s0-"))


def test_nothing_of_this_machine_is_in_the_results(finished: Path) -> None:
    for path in (finished / "out").rglob("*.json"):
        if path.name in ("cell.json", "study.json", "failed.json"):
            assert str(finished) not in path.read_text() and "/home/" not in path.read_text()


def test_a_finished_cell_never_runs_twice(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "run_cell", None)
    before = {path: path.stat().st_mtime_ns for path in (finished / "out").rglob("cell.json")}
    run = begin(tiny_study(), tiny_inputs(finished), finished / "out")
    assert run.open_jobs == []
    assert run_one(run, run.jobs[0], progress=False) == "images real, seed 0: finished before"
    assert len(run_cells(run, progress=False).cells) == 3
    assert before == {path: path.stat().st_mtime_ns for path in (finished / "out").rglob("cell.json")}


def test_more_seeds_run_only_what_is_new(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    run, ran = begin(tiny_study(seeds=2), tiny_inputs(tmp_path / "copy"), tmp_path / "copy" / "out"), list[str]()
    monkeypatch.setattr(module, "run_one", fake(run, dict.fromkeys(LEVELS, 1.0), ran=ran))
    results = run_cells(run, progress=False)
    assert ran == [f"{name} 1" for name in LEVELS] and len(results.cells) == 6


def test_a_killed_cell_resumes_and_ends_with_equal_scores(finished: Path, tmp_path: Path) -> None:
    process = start(run_and_die, tiny_study(), tiny_inputs(finished), tmp_path / "out", 6)
    assert finish(process) == -signal.SIGKILL
    half = next((tmp_path / "out" / "cells").glob("half-fitted-*"))
    assert saved_steps(half / "run") == [2] and not (half / "cell.json").exists()
    assert len(read_study(tmp_path / "out").cells) == 1, "the first cell is not lost"
    run = begin(tiny_study(), tiny_inputs(finished), tmp_path / "out")
    assert len(run.open_jobs) == 2
    results = run_cells(run, progress=False)
    assert scores(results) == scores(read_study(finished / "out"))
    assert results.cells[1].cost.images_made == 12


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_cell_that_resumes(finished: Path, tmp_path: Path, number: int) -> None:
    run = begin(tiny_study(), tiny_inputs(finished), tmp_path / "out")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 1, number)
        with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit):
            run_cells(run, progress=False)
    folder = run.cell_folder(run.jobs[0])
    assert saved_steps(folder / "run") and not (folder / "cell.json").exists() and not (folder / "failed.json").exists()
    assert len(run.open_jobs) == 3
    assert scores(run_cells(run, progress=False)) == scores(read_study(finished / "out"))


def test_an_evaluation_that_is_cut_off_resumes_after_the_last_protocol(finished: Path, tmp_path: Path) -> None:
    """Named defect: one longer than a job's time limit began again with every job, and so never ended."""
    levels, names = {ALONE: LEVELS[ALONE], UNTRAINED: LEVELS[UNTRAINED]}, ("knn", "linear")
    study, ran = tiny_study(levels, protocols=names), list[str]()
    run = begin(study, tiny_inputs(finished), tmp_path / "out")

    def counted(name: str, *, leaves: bool = False, slow: float = 0.0) -> Protocol:
        def protocol(task: Task) -> Sequence[ProtocolResult]:
            ran.append(name)
            if leaves:
                raise KeyboardInterrupt
            time.sleep(slow)
            return PROTOCOLS[name].run(task)

        return Protocol(protocol, PROTOCOLS[name].needs)

    folder = run.cell_folder(run.jobs[0])
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        cut_off = {"knn": counted("knn", slow=3.0), "linear": counted("linear", leaves=True)}
        patch.setattr(evaluate_module, "PROTOCOLS", cut_off)
        run_cells(run, progress=False)
    assert ran == ["knn", "linear"] and not (folder / "cell.json").exists() and (folder / "scores").exists()
    ran.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate_module, "PROTOCOLS", {name: counted(name) for name in names})
        results = run_cells(run, progress=False)
    assert ran == ["linear", "knn", "linear"], "what the first protocol found of the first cell was kept"
    assert not (folder / "scores").exists()
    whole = run_cells(begin(study, tiny_inputs(finished), tmp_path / "whole"), progress=False)
    reports = [[cell.report.to_json() for cell in one.cells] for one in (results, whole)]
    assert reports[0] == reports[1]
    resumed, undisturbed = (one.cells[0].cost.evaluation_seconds for one in (results, whole))
    assert resumed > undisturbed + 1.5, "the seconds of what was kept count"


def test_a_failing_cell_is_written_down_and_the_rest_goes_on(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished / "real", tmp_path / "clone")
    levels = {
        "clone": Level(images="synthetic", source=str(tmp_path / "clone")),
        "fitted": Level(images="synthetic", source="fitted"), UNTRAINED: LEVELS[UNTRAINED],
    }  # fmt: skip
    study = tiny_study(levels, generators={"fitted": {"options": {"nothing": 1}}})
    run = begin(study, tiny_inputs(finished), tmp_path / "out")
    (tmp_path / "clone").rename(tmp_path / "gone")
    results = run_cells(run, progress=False)
    assert [cell.levels["images"] for cell in results.cells] == [UNTRAINED]
    assert [cell.levels["images"] for cell in results.failed] == ["clone", "fitted"]
    assert [failed.reason.partition(";")[0] for failed in results.failed] == [
        "clone: there is no such folder or tar file",
        "options.nothing: there is no such setting",
    ]
    (tmp_path / "gone").rename(tmp_path / "clone")
    results = run_cells(begin(study, tiny_inputs(finished), tmp_path / "out"), progress=False)
    assert [cell.levels["images"] for cell in results.failed] == ["fitted"], "a rerun tries it again"
    assert not list((tmp_path / "out" / "cells").glob("clone-*/failed.json"))


def test_images_that_changed_since_the_study_began_are_not_trained_on(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "copy", ignore=shutil.ignore_patterns("out"))
    real = tmp_path / "copy" / "real"
    shutil.copytree(real, tmp_path / "clone")
    levels = {
        **LEVELS, "fitted": Level(images="synthetic", source="fitted"),
        "clone": Level(images="synthetic", source=str(tmp_path / "clone")),
    }  # fmt: skip
    run = begin(tiny_study(levels), tiny_inputs(tmp_path / "copy"), tmp_path / "out")
    for folder in (real, tmp_path / "clone"):
        one = next(path for path in sorted(folder.rglob("*")) if path.is_file())
        shutil.copy(one, one.with_name(f"more{one.suffix}"))
    results = run_cells(run, progress=False)
    assert [cell.levels["images"] for cell in results.cells] == [UNTRAINED]
    reasons = {failed.levels["images"]: failed.reason.partition(":")[0] for failed in results.failed}
    assert reasons == {ALONE: "real", HALF: "real", "fitted": "real", "clone": "source clone"}


def test_the_threads_of_the_settings_are_those_of_the_whole_cell(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named defect: generation and evaluation took all cores, and the page counted those of the settings."""
    threads: list[int] = []
    monkeypatch.setattr(module, "run_cell", lambda *_, **__: threads.append(torch.get_num_threads()) or 1 / 0)
    run, before = begin(tiny_study(), tiny_inputs(finished), tmp_path / "out"), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert "failed (ZeroDivisionError" in run_one(run, run.jobs[0], progress=False)
        assert threads == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_level_may_open_images_otherwise(finished: Path, tmp_path: Path) -> None:
    """Named defect: settings of `data` change what images are known by, and such a cell failed: "no longer those"."""
    levels = {"real": LEVELS[ALONE], "unchecked": Level(real_images=12, settings=("data.check=false",))}
    results = run_cells(begin(tiny_study(levels), tiny_inputs(finished), tmp_path / "out"), progress=False)
    assert not results.failed and [cell.levels["images"] for cell in results.cells] == ["real", "unchecked"]


def test_an_error_of_ours_leaves_its_traceback(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(tiny_study(), tiny_inputs(finished), tmp_path / "out")

    def broken(job: Any, *_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(module, "run_cell", broken)
    folder = run.cell_folder(run.jobs[0])
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("an earlier line\n")
    assert run_one(run, run.jobs[0], progress=False) == "images real, seed 0: failed (ZeroDivisionError: a bug)"
    assert json.loads((folder / "failed.json").read_text())["reason"] == "ZeroDivisionError: a bug"
    assert re.match(r"(?s)an earlier line\nTraceback .*ZeroDivisionError: a bug\n$", (folder / "log.txt").read_text())


def test_a_long_name_that_was_cut_otherwise_is_found_by_its_hash(finished: Path, tmp_path: Path) -> None:
    levels = {ALONE: Level(images="real", real_images=12), 40 * "日": Level(images="real", real_images=11)}
    run = begin(tiny_study(levels, contrasts=[]), tiny_inputs(finished), tmp_path / "out")
    _, job = run.jobs
    folder = run.cell_folder(job)
    assert len(folder.name.encode()) <= 80 + 1 + len(job.hash) and folder.name.endswith(f"-s0-{job.hash}")
    former = folder.with_name(f"cut-{job.hash}")
    former.mkdir(parents=True)
    assert run.cell_folder(job) == former


def test_a_failure_names_no_folder_of_this_machine(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named defect: the folders of transfer sets stood in failed.json."""
    cars = [str(finished / "cars" / side) for side in ("train", "test")]
    for side in cars:
        paint(Path(side), {"blue": 4, "red": 4}, seed=5)
    inputs = tiny_inputs(finished, transfer=[f"cars={','.join(cars)}"])
    run = begin(tiny_study(), inputs, tmp_path / "out")

    def broken(*_: Any, **__: Any) -> None:
        raise DataError(f"{cars[1]}: is empty, as is {inputs.test[0]}")

    monkeypatch.setattr(module, "run_cell", broken)
    assert run_one(run, run.jobs[0], progress=False).endswith("failed (test: is empty, as is test)")
    assert str(finished) not in (run.cell_folder(run.jobs[0]) / "failed.json").read_text()


def test_a_torn_result_is_made_again(finished: Path, tmp_path: Path) -> None:
    """Named defect: half a cell.json counted as finished, and with a budget it ended the study."""
    shutil.copytree(finished, tmp_path / "copy")
    path = next((tmp_path / "copy" / "out" / "cells").glob("real-*/cell.json"))
    path.write_text(path.read_text()[:100])
    results = read_study(tmp_path / "copy" / "out")
    assert len(results.cells) == 2 and re.search(r"cell.json: cannot be read .*; it is left out", results.notes[0])
    assert [cell.text for cell in results.unreadable] == [f"images {ALONE}, seed 0"] == results.missing
    assert not any("not finished" in note for note in answer(results).notes), "the file is there"
    path.rename(path.parent.with_suffix(".json"))
    assert read_study(tmp_path / "copy" / "out").unreadable == results.unreadable, "by the name of a file that is kept"
    path.parent.with_suffix(".json").rename(path)
    run = begin(tiny_study(), tiny_inputs(finished), tmp_path / "copy" / "out")
    assert [job.cell.levels["images"] for job in run.open_jobs] == [ALONE]
    results = run_cells(run, budget=1e9, progress=False)
    assert scores(results) == scores(read_study(finished / "out")) and results.notes == ()


def test_a_result_of_another_format_is_kept(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    path = next((tmp_path / "copy" / "out" / "cells").glob("real-*/cell.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99, "cost": {"joules": 3}}))
    run = begin(tiny_study(), tiny_inputs(finished), tmp_path / "copy" / "out")
    assert run.open_jobs == [] and len(run_cells(run, budget=1.0, progress=False).cells) == 2


def test_two_calls_share_the_work(finished: Path, tmp_path: Path) -> None:
    run = begin(tiny_study(), tiny_inputs(finished), tmp_path / "out")
    folder = run.cell_folder(run.jobs[1])
    folder.mkdir(parents=True)
    with hold(folder / LOCK, wait=False) as mine:
        assert mine
        results = run_cells(run, progress=False)
        assert run_one(run, run.jobs[1], progress=False) == f"images {HALF}, seed 0: another process runs it"
    assert [cell.levels["images"] for cell in results.cells] == [ALONE, UNTRAINED] and results.failed == ()
    assert results.missing == [f"images {HALF}, seed 0"]


def test_two_processes_in_one_folder_make_every_cell_once(finished: Path, tmp_path: Path) -> None:
    """They begin at the same moment, and the set of images is made by both."""
    both = [start(run_tiny, tiny_study(), tiny_inputs(finished), tmp_path / "out") for _ in range(2)]
    for process in both:
        assert finish(process) == 0
    assert scores(read_study(tmp_path / "out")) == scores(read_study(finished / "out"))


def test_cells_share_sets_and_every_way_of_faking_runs(finished: Path, tmp_path: Path) -> None:
    """Sets are made once, of the 12 real images of the cell alone."""
    stored = tmp_path / "stored"
    generate(SynthesisSettings(size=32, options={"program": "leaves"}), stored, count=8)
    levels = {
        "then": Level(images="then", source="fitted", share=0.5, real_images=12),
        "mixed": Level(images="mixed", source="fitted", share=0.25, real_images=12),
        "varied": Level(images="replace", source="flow", share=1.0, real_images=12),
        "synthetic": Level(images="synthetic", source="flow", real_images=12),
        "stored": Level(images="mixed", source=str(stored), share=0.5),
        "procedural": Level(images="synthetic", source="procedural"),
    }
    run = begin(tiny_study(levels), tiny_inputs(finished), tmp_path / "out")
    results = run_cells(run, progress=False)
    assert results.failed == results.notes == () and len(results.cells) == 6
    made = {cell.levels["images"]: cell.cost.images_made for cell in results.cells}
    assert made == {"then": 12, "mixed": 12, "varied": 12, "synthetic": 12, "stored": 0, "procedural": 12}
    assert len(list((tmp_path / "out" / "sets").iterdir())) == 4
    modes = {}
    for job in run.jobs:
        record = json.loads((run.cell_folder(job) / "run" / "mix.json").read_text())
        modes[job.cell.levels["images"]] = (record["mode"], record["real"], record["synthetic"])
    assert modes == {
        "then": ("then", 12, 12), "mixed": ("ratio", 12, 12), "varied": ("replace", 12, 12),
        "synthetic": ("synthetic", 0, 12), "stored": ("ratio", 16, 8), "procedural": ("synthetic", 0, 12),
    }  # fmt: skip
    again = {job.cell.levels["images"]: job for job in run.jobs}
    assert again["then"].set_folder(run.folder) == again["mixed"].set_folder(run.folder)
    recipe = json.loads((again["then"].set_folder(run.folder) / "recipe.json").read_text())
    assert recipe["max_real"] == 12 and str(finished) not in json.dumps(recipe)


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_shards_are_disjoint_and_complete(finished: Path, tmp_path: Path, parts: int) -> None:
    inputs, study = tiny_inputs(finished), tiny_study()
    shards = [begin(study, inputs, tmp_path / "out", shard=f"{i}/{parts}").jobs for i in range(1, parts + 1)]
    hashes = [job.hash for jobs in shards for job in jobs]
    assert sorted(hashes) == sorted(job.hash for job in begin(study, inputs, tmp_path / "out").jobs)
    assert len(set(hashes)) == 3


@pytest.mark.parametrize("shard", ["0/2", "3/2", "2", "a/b", "1/0", "-1/2", ""])
def test_a_wrong_shard_is_refused(finished: Path, tmp_path: Path, shard: str) -> None:
    with pytest.raises(StudyError, match=f"--shard {shard}: must be I/N with I from 1 to N, such as 1/4; correct it"):
        begin(tiny_study(), tiny_inputs(finished), tmp_path / "out", shard=shard)
    assert not (tmp_path / "out").exists()


def test_shards_in_folders_of_their_own_merge(finished: Path, tmp_path: Path) -> None:
    for part in (1, 2):
        run_tiny(tiny_study(), tiny_inputs(finished), tmp_path / str(part), shard=f"{part}/2")
    results = read_study([tmp_path / "1", tmp_path / "2"])
    assert scores(results) == scores(read_study(finished / "out")) and results.missing == [] and results.notes == ()
    assert len(read_study(tmp_path / "2").missing) == 2


BUDGET = {"real": 10.0, "a": 10.0, "b": 30.0, "c": 10.0, UNTRAINED: 0.1}


@pytest.fixture
def budgeted(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`budgeted(seconds)` runs a study of known costs on a clock of its own, and returns what ran."""
    levels = {name: Level(real_images=number) for number, name in enumerate(BUDGET, start=8)}
    levels[UNTRAINED] = LEVELS[UNTRAINED]
    contrasts = [Contrast(name=name, question="enough", one={"images": name}, other={}) for name in ("a", "b")]
    run = begin(tiny_study(levels, contrasts=contrasts, seeds=2), tiny_inputs(finished), tmp_path / "out")
    ran: list[str] = []
    clock = {"now": 0.0}
    one = fake(run, BUDGET, ran=ran)

    fails: set[str] = set()

    def timed(run: StudyRun, job: Any, *, progress: bool) -> str:
        if job.cell.levels["images"] in fails:
            return f"{job.cell.text}: failed (no disk)"
        clock["now"] += BUDGET[job.cell.levels["images"]]
        return one(run, job, progress=progress)

    monkeypatch.setattr(module, "run_one", timed)
    monkeypatch.setattr(module.time, "monotonic", lambda: clock["now"])

    def call(budget: float, failing: Collection[str] = ()) -> list[str]:
        ran.clear()
        fails.update(failing)
        run_cells(run, budget=budget, progress=False)
        return list(ran)

    yield call


def test_a_budget_leaves_whole_comparisons(budgeted: Any) -> None:
    """The first cells are begun unseen. Then nothing is begun that is expected to take longer than is left."""
    assert budgeted(5) == ["real 0", "a 0"], "a comparison that was begun is made whole"
    assert budgeted(9) == [], "b would take 10 seconds, by the mean of the finished"
    assert budgeted(10) == ["b 0"]
    assert budgeted(19) == [], "the next comparison is real and a, 10 seconds each"
    assert budgeted(49) == ["real 1", "a 1"], "b takes 30 seconds, of which 29 are left"
    assert budgeted(0) == []
    assert budgeted(1e9) == ["b 1", "c 0", f"{UNTRAINED} 0", "c 1", f"{UNTRAINED} 1"]


def test_a_cell_that_failed_takes_nothing_more_of_the_budget(budgeted: Any) -> None:
    """Named defect: failed cells were counted as still to come, and the rest of a study was left out."""
    assert budgeted(1) == ["real 0", "a 0"]
    assert budgeted(41, failing=["b"]) == ["real 1", "a 1", "c 0", f"{UNTRAINED} 0", "c 1", f"{UNTRAINED} 1"]


@pytest.mark.parametrize(
    ("hours", "budget", "jobs", "begun"),
    [((1, 1, 1, 1), 1.6, 1, 1), ((1, 1, 1, 1), 1.6, 2, 2), ((1, 1, 1, 1), 1.6, 4, 4), ((1, 1, 10, 1), 7, 2, 2)],
)
def test_a_budget_fills_all_processes_and_splits_no_cell_among_them(
    hours: tuple[int, ...], budget: float, jobs: int, begun: int, finished: Path, tmp_path: Path
) -> None:
    """Named defect: processes stood idle, and a cell of ten hours fitted into six."""
    levels = {f"level {number}": Level(images="real", real_images=8 + number) for number in range(4)}
    study = tiny_study(factors={"images": levels}, baseline={"images": "level 0"}, contrasts=[], seeds=1)
    run = begin(study, tiny_inputs(finished), tmp_path / "out")
    expected = {job.hash: 3600.0 * one for job, one in zip(run.open_jobs, hours, strict=True)}
    assert cells_within(run, 3600 * budget, expected, jobs) == begun


def test_an_untrained_cell_says_nothing_of_trained_ones(finished: Path, tmp_path: Path) -> None:
    """Named defect: it took a second, so that a budget of a minute seemed enough for hours."""
    run = begin(tiny_study(), tiny_inputs(finished), tmp_path / "out")
    for name, seconds in ((UNTRAINED, 1.0), (ALONE, 500.0)):
        job = next(job for job in run.jobs if job.cell.levels["images"] == name)
        fake(run, {name: seconds}, ran=[])(run, job, progress=False)
        assert expected_seconds(run, run.jobs[1]) == {UNTRAINED: 0.0, ALONE: 500.0}[name]


def test_what_making_images_costs_is_expected_of_cells_that_make_them_alike(finished: Path, tmp_path: Path) -> None:
    """Named defect: a first cell of a slow generator was expected to take what cells without one did."""
    levels = {
        ALONE: Level(images="real", real_images=12),
        "half": Level(images="mixed", source="fitted", share=0.5, real_images=12),
        "more": Level(images="mixed", source="fitted", share=0.75, real_images=12),
        "drawn": Level(images="mixed", source="procedural", share=0.5, real_images=12),
        "longer": Level(images="real", real_images=12, settings=("training.steps=9",)),
        "queue": Level(images="real", real_images=12, settings=("queue.size=128",)),
    }
    study = tiny_study(factors={"images": levels}, baseline={"images": ALONE}, contrasts=[])
    run = begin(study, tiny_inputs(finished), tmp_path / "out")
    jobs = {job.cell.levels["images"]: job for job in run.jobs}
    run._costs[jobs[ALONE].hash] = Cost(training_seconds=100, evaluation_seconds=20)
    assert [expected_seconds(run, jobs[name]) for name in ("half", "more", "drawn", "longer", "queue")] == [
        120,
        120,
        120,
        0,
        0,
    ]
    run._costs[jobs["half"].hash] = Cost(training_seconds=104, evaluation_seconds=20, generation_seconds=1000)
    assert [expected_seconds(run, jobs[name]) for name in ("half", "more", "drawn", "longer", "queue")] == [
        1124,
        1122,
        122,
        0,
        0,
    ]
    assert _unknown_generators(run, run.open_jobs) == ["procedural"]


def fake_processes(monkeypatch: pytest.MonkeyPatch, script: str) -> list[list[str]]:
    """Put a shell script in the place of the worker, $3 the folder; return the commands that would have been run."""
    commands: list[list[str]] = []
    popen = subprocess.Popen

    def begun(command: list[str], **named: Any) -> Any:
        commands.append(command)
        return popen(["sh", "-c", script, *command], **named)

    monkeypatch.setattr(module.subprocess, "Popen", begun)
    return commands


def test_a_killed_process_is_a_failed_cell_and_the_rest_goes_on(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = fake_processes(monkeypatch, "kill -9 $$")
    run = begin(tiny_study(), tiny_inputs(finished), tmp_path / "out")
    results = run_cells(run, jobs=2, progress=False)
    assert [failed.reason for failed in results.failed] == [
        "its process ended with -9; see log.txt, and run the study again to go on"
    ] * 3
    assert len(run.open_jobs) == 3 and len(commands) == 3, "a new process where one has died"
    words = (str(run.folder), "-", inputs_file(run.inputs))
    assert {tuple(command[3:]) for command in commands} == {words}, "threads of the user's are kept"


def test_cells_at_the_same_time_have_gpus_of_their_own(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named defect: all of them trained on the first GPU."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,MIG-5")
    script = 'touch "$3/on-$CUDA_VISIBLE_DEVICES"; until [ $(ls "$3" | grep -c on-) = 2 ]; do sleep 0.05; done'
    fake_processes(monkeypatch, script)
    run = begin(tiny_study(), tiny_inputs(finished), tmp_path / "out")
    run_cells(run, jobs=2, progress=False)
    assert {path.name for path in run.folder.glob("on-*")} == {"on-3", "on-MIG-5"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_processes(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """They get SIGTERM, so that they save; none is begun afterwards, and none is left."""
    script = 'trap "touch $3/saved-$$; exit 143" TERM; read cell; touch $3/ready-$$; while :; do sleep 0.05; done'
    commands = fake_processes(monkeypatch, script)
    run = begin(tiny_study(), tiny_inputs(finished), tmp_path / "out")

    def interrupt() -> None:
        deadline = time.monotonic() + 60
        while len(list(run.folder.glob("ready-*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    def unexpected(*_: object) -> None:
        raise AssertionError("the signal went past `run_cells`")

    before = signal.signal(signal.SIGTERM, unexpected)
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores Ctrl-C
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit) as caught:
            run_cells(run, jobs=2, progress=False)
    finally:
        after = signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, ignored)
        thread.join()
    assert after is unexpected, "the handler of before is back"
    assert number == signal.SIGINT or getattr(caught.value, "code", None) == 143
    assert len(commands) == 2 and len(list(run.folder.glob("saved-*"))) == 2
    assert processes_of(run.folder) == [] and list(run.folder.rglob("failed.json")) == []


def test_real_processes_have_equal_scores_and_save_on_sigterm(finished: Path, tmp_path: Path) -> None:
    """Scores bit for bit, if each process has one thread: the machine's cores are divided among them."""
    endless = Level(real_images=12, settings=("training.steps=1000000", "machine.save_steps=1000000"))
    settings = tuple(one for one in STEPS if one != "machine.threads=1")
    study = tiny_study({ALONE: LEVELS[ALONE], "endless": endless}, settings=settings, contrasts=())
    process, out, most = start(_two_jobs, study, tiny_inputs(finished), tmp_path / "out"), tmp_path / "out", 0
    deadline = time.monotonic() + 120
    while not (list(out.glob("cells/real-*/cell.json")) and list(out.glob("cells/endless-*/run/metrics.jsonl"))):
        assert time.monotonic() < deadline and process.is_alive(), said(process)
        most = max(most, len(processes_of(out)))
        time.sleep(0.1)
    assert most == 2 and process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    assert finish(process) == 143
    assert processes_of(out) == [] and not list(out.glob("cells/*/failed.json"))
    [run] = out.glob("cells/endless-*/run")
    assert len(saved_steps(run)) == 1
    results = read_study(out)
    threads = max(1, (os.cpu_count() or 1) // 2)
    assert results.cells[0].cost.processors == f"cpu, {threads} threads, 1 ranks"
    assert threads > 1 or scores(results) == {ALONE: scores(read_study(finished / "out"))[ALONE]}


def _two_jobs(study: Any, inputs: Any, out: Path) -> None:
    run_tiny(study, inputs, out, jobs=2)
