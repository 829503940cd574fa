"""Pictures of a study's page: drawn where the images are, kept in the folder, shown wherever that is copied."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import study_pages
from PIL import Image

from syn2co.core import keyed_rng
from syn2co.reports import study_pictures
from syn2co.reports.figures import image_rows
from syn2co.reports.report import report
from syn2co.reports.study import study
from syn2co.reports.study_page import write_study_page
from syn2co.reports.study_pictures import (
    LARGEST,
    PICTURES,
    small_png,
    store_pictures,
    stored_pictures,
    write_page_with_pictures,
)
from syn2co.studies.answers import answer
from syn2co.studies.grid import Level, Study
from syn2co.studies.inputs import StudyInputs

DIGITS = ("builtin:digits:train",)
SETTINGS = ("training.steps=2", "training.batch=8", "mix.epoch_images=16", "queue.size=64", "negatives=none",
            "encoder.options.embed_dim=24", "encoder.options.depth=1", "machine.tensorboard=false")  # fmt: skip
TINY = Study(
    name="tiny", title="Does it help?", recipe="demo", settings=SETTINGS,
    factors={"images": {"real only": Level(images="real", real_images=64), "untrained": Level(images="untrained"),
                        "half procedural": Level(images="mixed", source="procedural", share=0.5, real_images=64)}},
    baseline={"images": "real only"}, protocols=("knn",), generated=32, seeds=1,
)  # fmt: skip
NONE = "None here. <code>syn2co study</code> draws them"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished study."""
    out = tmp_path_factory.mktemp("studies") / "tiny"
    study(TINY, StudyInputs(real=DIGITS, train=DIGITS, test=("builtin:digits:test",)), out=out, progress=False)
    return out


def test_a_study_shows_real_beside_synthetic_images_and_neighbors(folder: Path) -> None:
    pictures = stored_pictures(folder)
    assert list(pictures) == [
        "Real and synthetic images of the study, drawn by chance.",
        "Test images and their nearest of 500 labeled images in the features of one run (images half procedural, seed "
        "0).",
    ]
    assert all(Image.open(io.BytesIO(data)).size[0] > 500 for data in pictures.values())
    page = (folder / "study.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/png;base64,') == 2 and NONE not in page


def test_a_copy_without_sources_and_runs_keeps_them(folder: Path, tmp_path: Path) -> None:
    for name in ("study.json", PICTURES):
        shutil.copyfile(folder / name, tmp_path / name)
    for cell in folder.glob("cells/*/cell.json"):
        (tmp_path / "cells").mkdir(exist_ok=True)
        shutil.copyfile(cell, tmp_path / "cells" / f"{cell.parent.name}.json")
    (page,) = report(tmp_path)
    assert page.read_text(encoding="utf-8").count('src="data:image/png;base64,') == 2
    assert str(folder) not in (tmp_path / PICTURES).read_text(encoding="utf-8")
    (tmp_path / PICTURES).unlink()
    assert NONE in report(tmp_path)[0].read_text(encoding="utf-8")


def test_pictures_are_equal_when_drawn_again(folder: Path) -> None:
    before = stored_pictures(folder)
    (folder / PICTURES).unlink()
    study(TINY, StudyInputs(real=DIGITS, train=DIGITS, test=("builtin:digits:test",)), out=folder, progress=False)
    assert stored_pictures(folder) == before


def test_images_that_are_gone_take_no_answer(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "sets")
    (copy / PICTURES).unlink()
    study(TINY, StudyInputs(real=DIGITS, train=DIGITS, test=("builtin:digits:test",)), out=copy, progress=False)
    assert [caption.split(" of ")[0] for caption in stored_pictures(copy)] == [
        "Real images", "Test images and their nearest",
    ]  # fmt: skip


def test_cells_without_their_runs_leave_the_pictures_to_the_others(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Named defect: in a folder that held some cells as cell.json alone, the first of them cost both pictures."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    runs = {run.parent.name.split("-")[0]: run for run in copy.glob("cells/*/run")}
    for name, left in (("half", 2), ("real", 1)):  # the mixed one is taken while it is there, then the other
        (copy / PICTURES).unlink()
        shutil.rmtree(runs[name])
        study(TINY, StudyInputs(real=DIGITS, train=DIGITS, test=("builtin:digits:test",)), out=copy, progress=False)
        assert len(stored_pictures(copy)) == left
    assert "a picture of the page is missing (" in capsys.readouterr().err


def test_no_error_of_a_picture_takes_the_answers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / PICTURES).unlink()

    def fail(*_: object) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(study_pictures, "_beside", fail)
    study(TINY, StudyInputs(real=DIGITS, train=DIGITS, test=("builtin:digits:test",)), out=copy, progress=False)
    assert len(stored_pictures(copy)) == 1 and (copy / "study.html").exists()
    assert "a picture of the page is missing (no memory)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"format": 1}', '{"format": 1, "pictures": {"a": "no base64!"}}', '{"format": 1, "pictures": 3}'],
)
def test_a_damaged_file_is_a_missing_one(tmp_path: Path, text: str) -> None:
    (tmp_path / PICTURES).write_text(text, encoding="utf-8")
    assert stored_pictures(tmp_path) == {}


def test_pictures_that_a_page_cannot_hold_are_left_out(tmp_path: Path) -> None:
    store_pictures(tmp_path, {"large": bytes(5_000_000)})
    page = write_page_with_pictures(answer(study_pages.results()), tmp_path, [tmp_path])
    assert NONE in page.read_text(encoding="utf-8")


def test_a_picture_of_noise_stays_small() -> None:
    noise = keyed_rng.generator("noise", 0).integers(0, 256, (5, 10, 120, 120, 3)).astype(np.uint8)
    assert len(small_png(image_rows({str(row): list(images) for row, images in enumerate(noise)}))) <= LARGEST


def test_a_caption_is_escaped(tmp_path: Path) -> None:
    page = write_study_page(answer(study_pages.results()), tmp_path, pictures={"<b>bold": b"png"})
    assert "<b>bold" not in page.read_text(encoding="utf-8")
