"""`syn2co study`: what reaches the library, what is printed, and the exit status; two steps of a tiny encoder."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from syn2co.cli.main import cli
from syn2co.reports.study_page import QUESTIONS
from syn2co.studies.answers import answer
from syn2co.studies.grid import Study
from syn2co.studies.inputs import ClusterSettings, StudyInputs
from syn2co.studies.merge import read_study

Run = Callable[..., tuple[int, str, str]]

FILE = """
from syn2co.studies import Contrast, Level, Study

study = Study(
    name="tiny", title="Does training help?", recipe="demo",
    settings=("training.steps=2", "training.batch=8", "mix.epoch_images=16", "queue.size=64", "negatives=none",
              "encoder.options.embed_dim=24", "encoder.options.depth=1", "heads.hidden=32"),
    factors={"encoder": {"untrained": Level(images="untrained"), %s}},
    baseline={"encoder": "untrained"},
    contrasts=(Contrast(name="training against none", question="random", one={"encoder": "trained"}, other={}),),
    protocols=("knn",), seeds=1,
)
"""
WHOLE = '"trained": Level(settings=("views=weak",))'
BROKEN = '"trained": Level(settings=("encoder.options.nonsense=1",))'
DIGITS = ("--real", "builtin:digits:train", "--train", "builtin:digits:train", "--test", "builtin:digits:test")
MACHINE = ("machine.threads=1", "machine.workers=0", "machine.tensorboard=false")
HERE = tuple(word for setting in MACHINE for word in ("--set", setting))


def words_of(folder: Path, level: str, *more: str) -> list[str]:
    """Write the study into a folder and return the words of its command."""
    (folder / "tiny.py").write_text(FILE % level)
    return ["study", str(folder / "tiny.py"), *DIGITS, *HERE, "--out", str(folder / "out"), "--quiet", *more]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The folder of a study that was run, and what its command said."""
    folder = tmp_path_factory.mktemp("finished")
    return folder / "out", CliRunner().invoke(cli, words_of(folder, WHOLE))


def test_a_finished_study_prints_a_sentence_a_question_and_the_page(finished: tuple[Path, Result]) -> None:
    out, said = finished
    answers = answer(read_study(out))
    assert said.exit_code == 0, said.output
    assert answers.sentences and not answers.results.missing and len(answers.results.cells) == 2
    assert said.stdout.splitlines() == [
        *(f"{QUESTIONS[question]} {sentence}" for question, sentence in answers.sentences.items()),
        *(f"note: {note}" for note in answers.notes),
        f"{out}/study.html: the page with every number",
    ]
    assert "Does training help?" in (out / "study.html").read_text()


def test_the_same_command_runs_nothing_again(finished: tuple[Path, Result]) -> None:
    out, said = finished
    before = {path: path.stat().st_mtime_ns for path in (out / "cells").rglob("*") if path.is_file()}
    again = CliRunner().invoke(cli, words_of(out.parent, WHOLE))
    assert (again.exit_code, again.stdout) == (0, said.stdout)
    assert before == {path: path.stat().st_mtime_ns for path in (out / "cells").rglob("*") if path.is_file()}


def test_a_preview_lists_the_cells_and_runs_nothing(tmp_path: Path, run: Run) -> None:
    code, printed, error = run(*words_of(tmp_path, WHOLE, "--dry-run", "--seeds", "2"))
    lines = printed.splitlines()
    assert code == 0, error
    assert lines[0].startswith("4 cells, 0 finished, 4 to run; times by ")
    assert [line.split("  ")[-1] for line in lines[1:5]] == [
        f"encoder {level}, seed {seed}" for seed in (0, 1) for level in ("untrained", "trained")
    ]
    assert lines[5].startswith("total ") and not (tmp_path / "out").exists()


def test_a_preview_says_what_a_budget_begins_and_that_no_job_is_submitted(tmp_path: Path, run: Run) -> None:
    """Named defect: --budget and --cluster were taken and ignored without a word."""
    for budget, begun in {"100h": "2 of 2", "0.001s": "0 of 2"}.items():
        code, printed, error = run(*words_of(tmp_path, WHOLE, "--dry-run", "--budget", budget))
        assert code == 0, error
        assert printed.splitlines()[-1] == f"the budget would begin {begun} cells, whole comparisons alone"
    printed = run(*words_of(tmp_path, WHOLE, "--dry-run", "--cluster", "slurm"))[1]
    assert printed.endswith("times are of this machine, not of the slurm jobs, of which none was submitted\n")


def test_a_setting_of_the_scores_that_is_not_there_is_named_by_its_option(tmp_path: Path, run: Run) -> None:
    code, _, error = run(*words_of(tmp_path, WHOLE, "--evaluation", "few_shot.drawz=1"))
    assert code == 2
    assert "--evaluation few_shot.drawz: there is no such setting; did you mean few_shot.draws?" in error


def test_a_preview_of_a_shard_lists_its_cells_alone(finished: tuple[Path, Result], run: Run) -> None:
    code, printed, error = run(*words_of(finished[0].parent, WHOLE, "--dry-run", "--shard", "2/2"))
    assert code == 0, error
    assert "1 finished, 0 to run; " in printed.splitlines()[0]


def test_a_failed_cell_is_said_and_is_the_exit_status(tmp_path: Path, run: Run) -> None:
    code, printed, error = run(*words_of(tmp_path, BROKEN))
    assert code == 1
    assert error.endswith("1 cell failed; the page says why\n")
    results = read_study(tmp_path / "out")
    assert len(results.cells) == 1 and "nonsense" in results.failed[0].reason
    assert printed.endswith(f"{tmp_path}/out/study.html: the page with every number\n")
    assert "nonsense" in (tmp_path / "out" / "study.html").read_text()


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of each call of the library, which runs nothing."""
    calls: list[dict[str, Any]] = []

    def study(study: Study, inputs: StudyInputs, **options: Any) -> SimpleNamespace:
        calls.append({"study": study, "inputs": inputs, **options})
        return SimpleNamespace(sentences={}, notes=("some note",), results=SimpleNamespace(failed=["a", "b"]))

    monkeypatch.setattr("syn2co.reports.study.study", study)
    return calls


def test_options_reach_the_library(tmp_path: Path, run: Run, called: list[dict[str, Any]]) -> None:
    more = ("--seeds", "7", "--recipe", "moby-cifar10", "--shard", "2/3", "--jobs", "4", "--budget", "1h30m")
    more = (*more, "--transfer", "cars=a,b", "--evaluation", "seed=1")
    code, printed, error = run(*words_of(tmp_path, WHOLE, *more))
    ((call),) = called
    study, inputs = call.pop("study"), call.pop("inputs")
    assert (study.name, study.seeds, study.recipe) == ("tiny", 7, "moby-cifar10")
    assert inputs == StudyInputs(
        real=("builtin:digits:train",),
        train=("builtin:digits:train",),
        test=("builtin:digits:test",),
        transfer=("cars=a,b",),
        settings=MACHINE,
        evaluation=("seed=1",),
    )
    expected = {"out": tmp_path / "out", "budget": 5400.0, "jobs": 4, "shard": "2/3", "cluster": None}
    assert call == {**expected, "progress": False}
    assert (code, printed.splitlines()[0]) == (1, "note: some note")
    assert error == "2 cells failed; the page says why\n"


def test_options_that_are_not_given_are_those_of_the_library(
    tmp_path: Path, run: Run, called: list[dict[str, Any]]
) -> None:
    run("study", "negatives", *DIGITS, "--out", tmp_path / "out")
    ((call),) = called
    assert (call["study"].name, call["study"].seeds, call["study"].recipe) == ("negatives", 5, "moby-cifar10")
    assert [call[name] for name in ("budget", "jobs", "shard", "cluster", "progress")] == [None, None, None, None, True]
    assert call["inputs"].settings == call["inputs"].transfer == ()


def test_a_cluster_reaches_the_library(tmp_path: Path, run: Run, called: list[dict[str, Any]]) -> None:
    cluster = ("--cluster", "slurm", "--minutes", "5", "--ranks", "2", "--job", "gpus_per_node=4", "--no-wait")
    run(*words_of(tmp_path, WHOLE, *cluster))
    expected = ClusterSettings(kind="slurm", minutes=5, ranks=2, options={"gpus_per_node": 4}, wait=False)
    assert called[0]["cluster"] == expected


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            ("--cluster", "debug", "--budget", "1h"),
            "--budget: means nothing on a cluster, whose jobs run at once; limit --minutes, or use --shard",
        ),
        (("--minutes", "5"), "--minutes, --ranks, --job and --no-wait are of --cluster; name one"),
        (("--shard", "3/2"), "--shard 3/2: must be I/N with I from 1 to N, such as 1/4; correct it"),
        (("--recipe", "moby-cifar"), "--recipe moby-cifar: there is no such recipe; did you mean moby-cifar10?"),
        (("--seeds", "0"), "'--seeds'"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path: Path, run: Run, more: tuple[str, ...], sentence: str) -> None:
    code, printed, error = run(*words_of(tmp_path, WHOLE, *more))
    assert (code, printed) == (2, "") and sentence in error
    assert not (tmp_path / "out" / "cells").exists()
