"""Inputs of a study: looked at before anything runs, and written down without a folder of this machine."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from evaluation_folders import paint
from safetensors.torch import save_file
from tiny_images import write_images
from tiny_studies import ALONE, HALF, LEVELS, STEPS, tiny_inputs, tiny_study

from syn2co.core.errors import CheckpointError, ConfigError, DataError, EvaluationError, StudyError
from syn2co.models.encoder import build_encoder
from syn2co.pretraining.config import Config
from syn2co.studies.grid import Level, Study
from syn2co.studies.inputs import StudyInputs, as_specs, inputs_file, read_inputs
from syn2co.studies.result_files import read_definition
from syn2co.studies.run import StudyRun, begin, reopen, worker_command

CLONE = {ALONE: LEVELS[ALONE], "clone": Level(images="synthetic", source="clone")}


def begun(folder: Path, study: Study | None = None, **changes: Any) -> StudyRun:
    return begin(study or tiny_study(), tiny_inputs(folder, **changes), folder / "out")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_source_is_counted_and_has_a_fingerprint(tmp_path: Path) -> None:
    paint(tmp_path / "more", {"blue": 3, "red": 3}, seed=7)
    inputs = begun(tmp_path, transfer=(f"more={tmp_path}/more,{tmp_path}/test",)).inputs
    assert inputs.counts == {"real": 16, "train": 16, "test": 16}
    assert list(inputs.fingerprints) == ["real", "train", "test", "transfer more"]
    assert len(set(inputs.fingerprints.values())) == 4
    assert read_inputs(tmp_path / "out", inputs_file(inputs)) == inputs


def test_paths_are_those_of_all_sources() -> None:
    """Named defect: messages of failed cells kept the folders of transfer sets."""
    inputs = StudyInputs(
        real=("/a/real",),
        train=("/a/train", "builtin:digits:train"),
        test=("/a/test",),
        transfer=("cars=/a/cars/train,/a/cars/test", "/a/pets", "cifar10", "more=/a/train,/a/test"),
        sources={"clone": "/a/clone", "scans": "12bit:/a/scans"},
    )
    assert inputs.paths == [
        "/a/real", "/a/train", "builtin:digits:train", "/a/test", "/a/cars/train", "/a/cars/test", "/a/pets",
        "/a/clone", "12bit:/a/scans", "/a/scans",
    ]  # fmt: skip


def test_fingerprints_are_equal_wherever_the_images_lie(tmp_path: Path) -> None:
    one = begun(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two", ignore=shutil.ignore_patterns("out"))
    two = begun(tmp_path / "two")
    assert one.inputs.fingerprints == two.inputs.fingerprints
    assert [job.hash for job in one.jobs] == [job.hash for job in two.jobs]
    texts = [(tmp_path / name / "out" / "study.json").read_text() for name in ("one", "two")]
    assert texts[0] == texts[1] and str(tmp_path) not in texts[0]


@pytest.mark.parametrize("side", ["train", "test"])
def test_images_without_labels_are_refused_before_anything_is_written(tmp_path: Path, side: str) -> None:
    for number, path in enumerate(sorted(write_images(tmp_path / "deep", 6).rglob("*.png"))):
        (tmp_path / side).mkdir(exist_ok=True)
        path.rename(tmp_path / side / f"{number}.png")
    with pytest.raises(EvaluationError, match=f"--{side}: none of the 6 images has a label, and a score needs labels"):
        begun(tmp_path)
    assert not (tmp_path / "out").exists()


def test_test_images_that_are_training_images_stored_again_are_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    draws = np.random.default_rng(0)
    for side in ("train", "test"):
        for number in range(16):
            path = tmp_path / side / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = draws.integers(0, 256, (6, 6, 3), np.uint8)
            image = cv2.resize(coarse, (32, 32), interpolation=cv2.INTER_CUBIC)
            assert cv2.imwrite(str(path), image)
            if number == 0 and side == "train":
                (tmp_path / "test" / "a").mkdir(parents=True)
                assert cv2.imwrite(str(tmp_path / "test" / "a" / "again.jpg"), image)
    with pytest.raises(EvaluationError, match="1 of 17 test images look like training images stored again"):
        begun(tmp_path)
    assert not (tmp_path / "out").exists()


def test_too_few_real_images_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    study = tiny_study({ALONE: LEVELS[ALONE], "all": Level(images="real", real_images=17)})
    with pytest.raises(StudyError, match="images all, seed 0: takes 17 real images, and --real has 16; give more"):
        begun(tmp_path, study)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"test": ("train",)}, "train: this source is given as --train and as --test"),
        ({"protocols": ("kn",)}, "protocols: 'kn' is unknown"),
        ({"transfer": ("cars=a",)}, "--transfer cars=a: must be NAME=TRAIN,TEST"),
        ({"transfer": ("cars=gone,gone",)}, "gone: there is no such folder"),
        ({"real": ("gone",)}, "gone: there is no such folder"),
    ],
)
def test_wrong_inputs_are_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = tiny_study(**{name: changes.pop(name) for name in ("protocols",) if name in changes})
    inputs = tiny_inputs(tmp_path).model_copy(update={"train": ("train",), **changes})
    with pytest.raises((DataError, EvaluationError), match=re.escape(sentence)):
        begin(study, inputs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_levels_of_one_run_are_refused(tmp_path: Path) -> None:
    study = tiny_study({**LEVELS, "again": LEVELS[HALF]})
    sentence = (
        "images half fitted, seed 0 and images again, seed 0: are one and the same run; leave one out with `only`"
    )
    with pytest.raises(StudyError, match=sentence):
        begun(tmp_path, study)


@pytest.mark.parametrize(
    ("study", "changes", "differs"),
    [
        (tiny_study(settings=(*STEPS, "queue.size=128")), {}, "settings"),
        (tiny_study({**LEVELS, "more": Level(real_images=3)}), {}, "factors"),
        (tiny_study(name="n", contrasts=()), {}, "contrasts, name"),
        (tiny_study(), {"settings": ("queue.size=128",)}, "settings"),
        (tiny_study(), {"evaluation": ("seed=1",)}, "evaluation"),
    ],
)
def test_another_study_in_the_folder_is_refused_with_what_differs(
    tmp_path: Path, study: Study, changes: dict[str, Any], differs: str
) -> None:
    begun(tmp_path)
    before = contents(tmp_path / "out")
    sentence = f"--out out: holds a study of other {differs}; choose another folder, or repeat what it began with"
    with pytest.raises(StudyError, match=sentence):
        begun(tmp_path, study, **changes)
    assert before == contents(tmp_path / "out")


def test_other_images_in_the_folder_are_refused(tmp_path: Path) -> None:
    begun(tmp_path)
    paint(tmp_path / "real", {"blue": 1}, seed=9)
    with pytest.raises(StudyError, match=r"holds a study of other images \(real\); choose"):
        begun(tmp_path)
    paint(tmp_path / "more", {"blue": 2, "red": 2}, seed=8)
    paint(tmp_path / "real", {"blue": 1}, seed=0)
    with pytest.raises(StudyError, match=r"other images \(transfer more\)"):
        begun(tmp_path, transfer=(f"more={tmp_path}/more,{tmp_path}/test",))


def test_seeds_and_the_machine_may_differ(tmp_path: Path) -> None:
    """Fewer seeds leave those of an earlier call planned, whose processes read study.json too."""
    begun(tmp_path, tiny_study(seeds=3))
    run = begun(tmp_path, settings=("machine.threads=2",), evaluation=("workers=1",))
    assert len(run.jobs) == 3 and read_definition(tmp_path / "out").seeds == 3
    begun(tmp_path, tiny_study(seeds=4))
    assert read_definition(tmp_path / "out").seeds == 4


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").touch()
    with pytest.raises(StudyError, match="--out out: is not empty and holds no study; choose another folder"):
        begun(tmp_path)
    (tmp_path / "out" / "thesis.txt").rename(tmp_path / "out" / ".DS_Store")
    assert begun(tmp_path).jobs
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").touch()
    with pytest.raises(StudyError, match=r"--out out: cannot be made a folder \(File exists\); choose another"):
        begun(tmp_path)


@pytest.mark.parametrize("text", ["", '{"study": ', "[]"])
def test_damaged_files_are_one_sentence(tmp_path: Path, text: str) -> None:
    of_call = inputs_file(begun(tmp_path).inputs)
    reads = {"study.json": lambda: begun(tmp_path), of_call: lambda: read_inputs(tmp_path / "out", of_call)}
    for name, read in reads.items():
        whole = (tmp_path / "out" / name).read_bytes()
        (tmp_path / "out" / name).write_text(text)
        with pytest.raises(StudyError, match=rf"out/{name}: (cannot be read \(|holds no JSON object).*start the study"):
            read()
        (tmp_path / "out" / name).write_bytes(whole)


def test_a_source_of_a_level_goes_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its path is in the inputs alone; other content is another study, another folder is not."""
    paint(tmp_path / "sets" / "clone", {"red": 9}, seed=5)
    monkeypatch.chdir(tmp_path / "sets")
    run = begun(tmp_path, tiny_study(CLONE))
    assert (
        run.inputs.sources == {"clone": str(tmp_path / "sets" / "clone")} and "source clone" in run.inputs.fingerprints
    )
    assert run.jobs[1].config.data.synthetic == (str(tmp_path / "sets" / "clone"),)
    (tmp_path / "sets" / "clone").rename(tmp_path / "clone")
    there = {**CLONE, "clone": Level(images="synthetic", source=str(tmp_path / "clone"))}
    moved = begun(tmp_path, tiny_study(there))
    assert [job.hash for job in moved.jobs] == [job.hash for job in run.jobs]
    assert str(tmp_path) not in (tmp_path / "out" / "study.json").read_text()
    paint(tmp_path / "clone", {"red": 1}, seed=6)
    with pytest.raises(StudyError, match=r"holds a study of other images \(source clone\)"):
        begun(tmp_path, tiny_study(there))


def test_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        paint(tmp_path / name / "clone", {"red": 2})
    levels = {name: Level(images="synthetic", source=str(tmp_path / name / "clone")) for name in ("a", "b")}
    with pytest.raises(StudyError, match="level 'b': two sources have the name clone; rename one of the folders"):
        begun(tmp_path, tiny_study(levels))


def test_sources_are_found_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "lr=0.1"):
        (tmp_path / name).mkdir()
    assert as_specs(["a", Path("b"), "gone", "builtin:digits:test", "lr=0.1", "cars=a,b"]) == (
        f"{tmp_path}/a", f"{tmp_path}/b", "gone", "builtin:digits:test", f"{tmp_path}/lr=0.1",
        f"cars={tmp_path}/a,{tmp_path}/b",
    )  # fmt: skip
    assert as_specs("12bit:a") == (f"12bit:{tmp_path}/a",)
    assert as_specs("https://me:SECRET@host/x=a?SECRET") == ("https://host/x=a",)


def test_a_preview_writes_nothing(tmp_path: Path) -> None:
    run = begin(tiny_study(), tiny_inputs(tmp_path), tmp_path / "out", write=False)
    assert len(run.jobs) == 3 and not (tmp_path / "out").exists()


def test_inputs_hold_what_another_process_needs(tmp_path: Path) -> None:
    inputs = begun(tmp_path, settings=("machine.threads=1",)).inputs
    assert StudyInputs.parse(json.loads((tmp_path / "out" / inputs_file(inputs)).read_text())) == inputs
    assert inputs.settings == ("machine.threads=1",)


def test_workers_read_the_inputs_of_their_own_call(tmp_path: Path) -> None:
    """Named defect: a call on another machine, with other folders and threads, was obeyed by jobs of the first one."""
    first = begun(tmp_path, settings=("machine.threads=1",))
    (tmp_path / "moved").mkdir()
    for name in ("real", "train", "test"):
        shutil.copytree(tmp_path / name, tmp_path / "moved" / name)
    moved = {name: (str(tmp_path / "moved" / name),) for name in ("real", "train", "test")}
    second = begun(tmp_path, settings=("machine.threads=2",), **moved)
    for run, real, threads in ((first, tmp_path, 1), (second, tmp_path / "moved", 2)):
        (folder, cell, name) = worker_command(run, "-", None)[-3:]
        again = reopen(Path(folder), name)
        assert cell == "-" and again.inputs == run.inputs
        assert {(job.config.data.real, job.config.machine.threads) for job in again.jobs} == {
            ((str(real / "real"),), threads)
        }
        assert [job.hash for job in again.jobs] == [job.hash for job in first.jobs]


def test_weights_that_runs_begin_with_are_of_their_identity(tmp_path: Path) -> None:
    """Named defect: other weights under the same name were the same study, and finished cells of them were its own."""
    for name, seed in (("a", 0), ("b", 1)):
        encoder = build_encoder(Config().with_settings(STEPS).encoder_spec, seed=seed)
        (tmp_path / name).mkdir()
        save_file(dict(encoder.backbone.state_dict()), tmp_path / name / "begin.safetensors")
    fresh = begun(tmp_path / "plain", tiny_study()).jobs[0]
    weights = f"init_from={tmp_path}/a/begin.safetensors"
    run = begun(tmp_path, settings=(weights,))
    key = "weights begin.safetensors"
    hashed = run.inputs.fingerprints[key]
    assert [job.config.init_hash for job in run.jobs] == [hashed] * 3 and run.jobs[0].shared[key] == hashed
    assert run.jobs[0].hash != fresh.hash and key not in fresh.shared
    (tmp_path / "c").mkdir()
    shutil.copy(tmp_path / "a" / "begin.safetensors", tmp_path / "c")
    moved = begun(tmp_path, settings=(weights.replace("/a/", "/c/"),))
    assert [job.hash for job in moved.jobs] == [job.hash for job in run.jobs]
    assert str(tmp_path) not in (tmp_path / "out" / "study.json").read_text()
    other = weights.replace("/a/", "/b/")
    with pytest.raises(StudyError, match=r"holds a study of other weights begin.safetensors; choose"):
        begun(tmp_path, settings=(other,))
    with pytest.raises(ConfigError, match=f"its weights have the hash {hashed}, not beef"):
        begun(tmp_path, settings=(weights, "init_hash=beef"))
    levels = {name: Level(images="real", settings=(text,)) for name, text in (("a", weights), ("b", other))}
    with pytest.raises(StudyError, match="other weights begin.safetensors have that name too; rename one of them"):
        begun(tmp_path, tiny_study(levels))
    with pytest.raises(CheckpointError, match="gone"):
        begun(tmp_path, settings=("init_from=gone.safetensors",))
