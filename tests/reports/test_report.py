"""`report` and `compare`: one page or table for a run, a study, an audit, an evaluation; clear errors for the rest."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import study_pages
from click.testing import CliRunner
from evaluation_folders import paint
from PIL import Image

import syn2co
from syn2co.cli.reports import COMMANDS
from syn2co.core.errors import ConfigError, EvaluationError, StudyError
from syn2co.data.loader import Schedule, batches
from syn2co.data.training_data import open_training_data
from syn2co.reports import run_page
from syn2co.reports.compare import compare
from syn2co.reports.report import report
from syn2co.studies.grid import Study

if TYPE_CHECKING:
    from syn2co.pretraining.config import Config


@pytest.fixture(scope="module")
def runs(tiny: "Callable[..., Config]", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`one` and `two`, runs of two seeds, and an evaluation of both beside them."""
    folder = tmp_path_factory.mktemp("runs")
    labeled = [paint(folder / name, {"blue": 9, "red": 9}, seed=seed) for seed, name in enumerate(("train", "test"))]
    sources = [f'online_knn.{path.name}=["{path}"]' for path in labeled]
    for name, seed in (("one", 0), ("two", 1)):
        online = [*sources, "online_knn.every_epochs=2", f"seed={seed}"]
        syn2co.pretrain(tiny(*online), out=folder / name, progress=False)
    settings = syn2co.EvaluationSettings(baselines=False)
    encoders = [folder / "one", folder / "two"]
    syn2co.evaluate(encoders, *labeled, protocols=["knn"], settings=settings, out=folder)
    return folder


def write_study(folder: Path, study: Study | None = None, seeds: range = range(2)) -> Path:
    """Write a study's folder with finished cells of some seeds."""
    study = study or study_pages.study(seeds=2)
    folder.mkdir(parents=True)
    (folder / "study.json").write_text(json.dumps({"study": study.model_dump(mode="json")}))
    for cell in study.cells(seeds):
        result = study_pages.cell_result(cell.levels, cell.seed)
        result.write(folder / "cells" / result.cell)
    return folder


def test_a_run_has_its_diagnosis_its_loss_and_its_views(runs: Path, tmp_path: Path) -> None:
    (page,) = report(runs / "one", out=tmp_path / "page.html")
    text = page.read_text(encoding="utf-8")
    assert page == tmp_path / "page.html"
    assert "one: negatives on (too short to tell)" in text
    assert "Loss over real negatives" in text and "uninformative" in text and 'class="window"' in text
    assert "Online k-NN score" in text and "data:image/png;base64," in text
    assert "queue.size" in text and "syn2co pretrain --config one/config.json --out again" in text
    assert str(runs) not in text and "/tmp/" not in text


def test_the_page_lies_beside_the_data_by_default(runs: Path) -> None:
    assert report([runs / "one"]) == [runs / "one" / "run.html"]


@pytest.mark.parametrize("setting", ["data.decode=reduced", "mix.canvas=32", "data.decode=full"])
def test_the_page_shows_views_that_the_loader_gives(setting, tiny, tmp_path: Path, monkeypatch) -> None:
    """A broken image among them, after which all numbers are others."""
    for number in range(9):
        pixels = np.random.default_rng(number).integers(0, 256, (90, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.jpg")
    (tmp_path / "0.jpg").write_bytes(b"broken")
    config = tiny(f'data.real=["{tmp_path}"]', setting)
    data = open_training_data(config.data, config.mix, seed=config.seed, batch=8, size=16)
    data.images.write_quarantine(tmp_path / "quarantine.jsonl")
    schedule = Schedule(8, 8, 1, 1, config.seed, data.mixer)
    (batch,) = batches(data.images, config.views, schedule, range(1), rank=0, workers=0, codec=data.codec)
    drawn = list[tuple]()
    monkeypatch.setattr(run_page, "view_grid", drawn.extend)
    monkeypatch.setattr(run_page, "_png", lambda _: b"")
    _, missing = run_page._views(tmp_path, config)
    assert missing == [] and len(drawn) == 6
    given = {views.tobytes() for views in batch.views.transpose(0, 1).numpy()}
    assert {np.stack(views).tobytes() for _, *views in drawn} <= given
    assert all(image.shape == (90, 90, 3) for image, *_ in drawn)


def test_a_run_whose_images_are_gone_has_a_page_that_says_so(runs: Path, tmp_path: Path) -> None:
    copy = tmp_path / "moved"
    shutil.copytree(runs / "one", copy)
    config = json.loads((copy / "config.json").read_text())
    config["data"]["real"] = ["/nowhere/images"]
    (copy / "config.json").write_text(json.dumps(config))
    (page,) = report(copy)
    text = page.read_text(encoding="utf-8")
    assert "No views of images are shown" in text and "/nowhere" not in text


def test_an_evaluation_has_its_scores_and_comparisons(runs: Path, tmp_path: Path) -> None:
    (page,) = report(runs, out=tmp_path)
    text = page.read_text(encoding="utf-8")
    assert page.name == "evaluation.html" and "Scores of one and 1 other encoder" in text
    stored = json.loads((runs / "evaluation.json").read_text())["scores"][0]
    assert f"{stored['value']:.1f} %" in text and stored["protocol_hash"] in text


def test_parts_of_one_study_become_one_page(tmp_path: Path) -> None:
    parts = [write_study(tmp_path / "a", seeds=range(1)), write_study(tmp_path / "b", seeds=range(1, 2))]
    pages = report(parts)
    assert pages == [tmp_path / "a" / "study.html"]
    assert "20 of 20 runs" in pages[0].read_text(encoding="utf-8")


def test_the_notes_of_a_study_are_printed(tmp_path: Path) -> None:
    """Named defect: a torn cell was said on the page alone."""
    folder = write_study(tmp_path / "a")
    torn = next((folder / "cells").iterdir()) / "cell.json"
    torn.write_text("{")
    done = CliRunner().invoke(COMMANDS[0], [str(folder)])
    assert done.exit_code == 0 and done.stdout == f"Page: {folder / 'study.html'}\n"
    assert f"note: {torn.parent.name}/cell.json: cannot be read" in done.stderr


def test_runs_of_a_study_are_compared_by_the_scores_of_their_cells(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Named defect: `compare cells/A/run cells/B/run` showed no scores."""
    folders = []
    for cell in list(study_pages.study().cells(range(1)))[:2]:
        folder = tmp_path / "cells" / str(len(folders))
        study_pages.cell_result(cell.levels, 0).write(folder)
        shutil.copytree(runs / "one", folder / "run")
        folders.append(folder / "run")
    comparison = compare(folders)
    table = comparison.table("Scores with 95 % intervals over test images")
    assert table is not None and table.columns == ("score", "0/run", "1/run") and all(table.rows[0])
    assert any(sentence.startswith("knn") and "0/run" in sentence for sentence in comparison.sentences)
    (tmp_path / "cells" / "1" / "cell.json").write_text("{")
    assert compare(folders).sentences == ()
    assert "cell.json: cannot be read" in capsys.readouterr().err


def test_different_studies_become_pages_of_their_own(tmp_path: Path) -> None:
    parts = [write_study(tmp_path / "a"), write_study(tmp_path / "b", study_pages.study(name="other", seeds=2))]
    pages = report(parts, out=tmp_path / "pages")
    assert [page.name for page in pages] == ["1-a-study.html", "2-b-study.html"]


def test_the_page_of_an_audit_is_where_it_lies_or_copied(tmp_path: Path) -> None:
    info = syn2co.generate(syn2co.SynthesisSettings(size=16), tmp_path / "leaves", count=4)
    syn2co.audit(info.folder, out=tmp_path / "audit")
    assert report(tmp_path / "audit") == [tmp_path / "audit" / "audit.html"]
    (copy,) = report(tmp_path / "audit", out=tmp_path / "copy.html")
    assert copy.read_bytes() == (tmp_path / "audit" / "audit.html").read_bytes()
    (tmp_path / "audit" / "audit.html").unlink()
    with pytest.raises(ConfigError, match="PATH audit: its audit.html is missing; run `syn2co audit` again"):
        report(tmp_path / "audit")


def test_a_folder_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"PATH .*: holds no run, study, audit or evaluation .*; give"):
        report(tmp_path)
    with pytest.raises(ConfigError, match="PATH missing: is no folder"):
        report(tmp_path / "missing")


def test_damaged_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "study.json").write_text("{")
    with pytest.raises(StudyError, match=r"s/study.json: is not JSON"):
        report(tmp_path / "s")
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "evaluation.json").write_text('{"format": 1}')
    with pytest.raises(EvaluationError, match="evaluation.json: has format 1"):
        report(tmp_path / "e")


def test_one_file_for_two_pages_is_refused(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--out all.html: is one file for 2 pages; give a folder"):
        report([runs / "one", runs / "two"], out=tmp_path / "all.html")


def test_runs_are_compared_by_what_differs(runs: Path) -> None:
    comparison = compare([runs / "one", runs / "two"])
    settings, training, scores = comparison.tables
    assert settings.rows == (("seed", "0", "1"),)
    names = [row[0] for row in training.rows]
    assert names[0] == "steps" and training.rows[0][1:] == ("12", "12")
    assert {"real loss", "effective rank", "images per second", "online k-NN %", "doctor"} <= set(names)
    assert scores.columns == ("score", "one", "two") and scores.rows[0][0] == "knn"
    (sentence,) = comparison.sentences
    assert sentence.startswith("knn, top-1: ")


def test_the_difference_is_the_one_of_the_evaluation(runs: Path) -> None:
    from syn2co.evaluation.stored_report import read_report

    assert compare([runs / "one", runs / "two"]).sentences[0] == read_report(runs).comparisons()[0].text


def test_runs_of_one_name_are_told_apart_by_their_parents(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "one", tmp_path / "other" / "one")
    comparison = compare([runs / "one", tmp_path / "other" / "one"])
    assert comparison.tables[0].columns == ("at the end", f"{runs.name}/one", "other/one")  # no setting differs


def test_a_study_is_compared_by_its_cells(tmp_path: Path) -> None:
    comparison = compare([write_study(tmp_path / "a")])
    table = comparison.tables[0]
    assert table.columns[:2] == ("images", "real images") and len(table.rows) == 10
    assert any("best" in cell for row in table.rows for cell in row)
    assert any("random encoder" in sentence for sentence in comparison.sentences)


def test_one_run_or_a_mixture_is_refused(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="RUN one: is one run; name another one"):
        compare([runs / "one"])
    with pytest.raises(ConfigError, match="runs and studies together"):
        compare([runs / "one", write_study(tmp_path / "a")])
    with pytest.raises(ConfigError, match="holds an evaluation; give run folders"):
        compare([runs, runs / "one"])


def test_the_commands_print_pages_and_tables(runs: Path, tmp_path: Path) -> None:
    report_command, compare_command = COMMANDS
    done = CliRunner().invoke(report_command, [str(runs / "one"), "--out", str(tmp_path)])
    assert (done.exit_code, done.output.strip()) == (0, f"Page: {tmp_path / 'run.html'}")
    done = CliRunner().invoke(compare_command, [str(runs / "one"), str(runs / "two")])
    assert done.exit_code == 0 and "Settings that differ" in done.output and "seed" in done.output
