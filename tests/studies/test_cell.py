"""A cell: what its hash depends on, whose images its set is made of, and the commands that repeat it."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_folders import paint
from tiny_studies import ALONE, HALF, LEVELS, UNTRAINED, tiny_inputs, tiny_study

from syn2co.core.errors import ConfigError, StudyError
from syn2co.data.training_data import open_training_data
from syn2co.evaluation.stored_report import read_report
from syn2co.studies.cell import CellJob, cell_job
from syn2co.studies.cell_run import run_cell
from syn2co.studies.commands import commands_of
from syn2co.studies.grid import Level, Study
from syn2co.studies.inputs import StudyInputs
from syn2co.studies.run import begin
from syn2co.synthesis.generation.plan import open_real

INPUTS = StudyInputs(
    real=("real",),
    train=("train",),
    test=("test",),
    sources={"clone": "/here/clone", "other": "/here/other"},
    fingerprints={"real": "r", "train": "a", "test": "b", "source clone": "c", "source other": "o", "transfer x": "t"},
    counts={"real": 16, "train": 16, "test": 16},
)
EVERY = {
    **LEVELS,
    "clone": Level(images="synthetic", source="clone"),
    "then": Level(images="then", source="fitted", share=0.5, real_images=12),
    "flow": Level(images="replace", source="flow", share=1.0, real_images=12),
    "synthetic": Level(images="synthetic", source="flow", real_images=12),
}


def job_of(name: str, study: Study | None = None, seed: int = 0, **inputs: Any) -> CellJob:
    study = study or tiny_study(EVERY)
    cell = next(cell for cell in study.cells([seed]) if cell.levels["images"] == name)
    return cell_job(cell, INPUTS.model_copy(update=inputs))


def changed(**changes: Any) -> dict[str, Any]:
    return {"study": tiny_study(EVERY, **changes)}


def level(**changes: Any) -> dict[str, Any]:
    return {"study": tiny_study({**EVERY, HALF: EVERY[HALF].model_copy(update=changes)})}


def content(**changes: str) -> dict[str, Any]:
    return {"fingerprints": {**INPUTS.fingerprints, **changes}}


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1}, {"settings": ("training.temperature=0.1",)}, changed(settings=("queue.size=256",)),
        level(real_images=11), level(share=0.25), level(source="procedural"), level(settings=("views=weak",)),
        level(images="then"), changed(generated=13), changed(protocols=("linear",)), {"evaluation": ("seed=1",)},
        changed(generators={"fitted": {"format": "jpg"}}), {"evaluation": ("robustness.max_images=5",)},
        changed(evaluation=("precision=bfloat16",)), changed(recipe="moby-cifar10"), content(real="x"),
        content(train="x"), content(test="x"), content(**{"transfer x": "x"}), {"settings": ("init_from=weights.pth",)},
        {"evaluation": ("variants.imagenet-a=x",)},
    ],
)  # fmt: skip
def test_the_hash_depends_on_whatever_determines_the_scores(changes: dict[str, Any]) -> None:
    assert job_of(HALF, **changes).hash != job_of(HALF).hash


@pytest.mark.parametrize(
    "changes",
    [
        changed(seeds=5), changed(name="n", title="t", contrasts=()),
        {"study": tiny_study({"first": Level(images="untrained"), **EVERY})}, {"real": ("/elsewhere/photos",)},
        {"train": ("/elsewhere/a",)}, {"settings": ("machine.threads=2", "machine.device=cpu")},
        {"evaluation": ("workers=2", "device=cpu", "cache_gib=0", "batch_size=9", "data_root=/data", "download=true")},
        content(**{"source clone": "x"}), {"sources": {"clone": "/there/clone"}}, {"counts": {"real": 99}},
        changed(generators={"fitted": {"work": {"workers": 2, "batch": 3}}}),
    ],
)  # fmt: skip
def test_the_hash_depends_on_nothing_else(changes: dict[str, Any]) -> None:
    assert job_of(HALF, **changes).hash == job_of(HALF).hash


def test_the_hash_depends_on_the_content_of_its_own_source() -> None:
    assert job_of("clone", **content(**{"source clone": "x"})).hash != job_of("clone").hash
    assert job_of("clone", **content(**{"source other": "x"})).hash == job_of("clone").hash


def test_every_kind_of_images_sets_the_mix() -> None:
    mixes = {name: job_of(name).config.mix for name in EVERY}
    assert [mix.max_real for mix in mixes.values()] == [12, 12, None, None, 12, 12, None]
    assert mixes[HALF].ratio is not None and mixes[HALF].ratio.start == 0.5
    assert mixes["then"].then == 0.5 and mixes["flow"].replace is not None and mixes["flow"].replace.start == 1.0
    assert {name: job_of(name).config.data.synthetic for name in (ALONE, HALF, "clone")} == {
        ALONE: (), HALF: (), "clone": ("/here/clone",),
    }  # fmt: skip
    assert job_of("synthetic").config.data.real == () and job_of(ALONE).config.data.real == ("real",)
    assert job_of(UNTRAINED).images is job_of(ALONE).images is job_of("clone").images is None


def test_a_set_is_made_of_the_real_images_of_its_cell_alone() -> None:
    for name in (HALF, "then", "flow", "synthetic"):
        images = job_of(name, seed=3).images
        assert images is not None and (images.max_real, images.seed) == (12, 3)
    for number in (1, 3):  # named defect: the generator's own count was that of the variations too
        generators = {"flow": {"work": {"count": 99}}}
        images = job_of("flow", tiny_study(EVERY, generators=generators, variations=number)).images
        assert images is not None and images.vary and images.per_subject == number
        assert images.work.count == 12 * number
    images = job_of(HALF).images
    assert images is not None and images.work.count == 12 and images.size == 32


def test_a_set_is_of_a_subset_that_settings_name_too() -> None:
    """Named defect: with mix.max_real among the study's settings the generator learned from all images."""
    some = Level(images="mixed", source="fitted", share=0.5)
    study = tiny_study({ALONE: Level(images="real"), HALF: some}, settings=("mix.max_real=9",))
    images = job_of(HALF, study).images
    assert images is not None and images.max_real == 9
    images = job_of(HALF, study, settings=("mix.max_real=7",)).images
    assert images is not None and images.max_real == 7
    images = job_of(
        HALF, tiny_study({ALONE: Level(images="real"), HALF: some.model_copy(update={"source": "procedural"})})
    ).images
    assert images is not None and images.max_real is None, "it learns from none"


def test_cells_of_equal_sets_share_a_folder(tmp_path: Path) -> None:
    assert job_of(HALF).set_folder(tmp_path) == job_of("then").set_folder(tmp_path)
    others = [job_of(HALF, seed=1), job_of(HALF, **level(real_images=11)), job_of("flow"), job_of("synthetic")]
    folders = {job.set_folder(tmp_path) for job in (job_of(HALF), *others)}
    assert len(folders) == 5 and {folder.parent for folder in folders} == {tmp_path / "sets"}


@pytest.mark.parametrize("broken", [False, True])
def test_run_and_generator_take_the_same_images(tmp_path: Path, broken: bool) -> None:
    """By content: a broken file, or a limit of pixels, must not move the numbers of one of them."""
    inputs = tiny_inputs(tmp_path)
    settings = ()
    if broken:
        (tmp_path / "real" / "blue" / "0.png").write_bytes(b"no image")
        settings = ("data.max_broken_share=0.5",)
    job = begin(tiny_study(LEVELS), inputs.model_copy(update={"settings": settings}), tmp_path / "out").jobs[1]
    assert job.images is not None
    data = open_training_data(
        job.config.data.model_copy(update={"synthetic": ()}),
        job.config.mix.model_copy(update={"ratio": None}),
        seed=job.config.seed,
        batch=8,
        size=32,
    )
    subset = open_real(job.inputs.open_real(job.config.data), job.images)
    assert subset is not None
    in_run = sorted(data.images.name(int(index)) for index in data.mixer.real)
    assert in_run == sorted(map(subset.name, range(len(subset)))) and len(in_run) == 12


@pytest.mark.parametrize(
    ("one", "sentence"),
    [
        (Level(images="mixed", share=0.5), "images x, seed 0: images = mixed needs a source; name one in a level"),
        (Level(images="then", source="fitted"), "images x, seed 0: images = then needs a share; name one in a level"),
        (
            Level(images="replace", source="fitted", share=1.0),
            "images x, seed 0: fitted makes no variations of real images, as replace takes; name flow",
        ),
        (Level(images="real", real_images=17), "images x, seed 0: takes 17 real images, and --real has 16"),
        (
            Level(images="synthetic", source="fitted", real_images=17),
            "images x, seed 0: takes 17 real images, and --real has 16",
        ),
        (
            Level(images="real", settings=("mix.ratio=0.5",)),
            "images x, seed 0: mix.ratio: needs synthetic images",
        ),
        (
            Level(images="then", source="fitted", share=0.1),  # known before any image is made
            "images x, seed 0: mix.then = 0.1: leaves less than one epoch of 2 steps",
        ),
        (Level(settings=("seed=7",)), "seed = 7: is set by the study, which runs seeds 0, 1, ..; leave it out"),
        (
            Level(settings=('data.synthetic=["clone"]',)),
            "data.synthetic: is set by the study, from --real and the sources of its levels; leave it out",
        ),
    ],
)
def test_a_cell_that_cannot_be_is_refused(one: Level, sentence: str) -> None:
    with pytest.raises(StudyError, match=re.escape(sentence)):
        job_of("x", tiny_study({ALONE: LEVELS[ALONE], "x": one}))


def test_an_unknown_setting_of_a_level_names_the_cell() -> None:
    study = tiny_study({ALONE: LEVELS[ALONE], "x": Level(settings=("mix.rato=0.5",))})
    with pytest.raises(ConfigError, match="images x, seed 0: --set mix.rato: there is no such setting"):
        job_of("x", study)


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="^--set trainin.steps: there is no such setting; did you mean training.steps"
    ):
        job_of(ALONE, settings=("trainin.steps=3",))
    with pytest.raises(ConfigError, match="presicion: there is no such setting; did you mean precision"):
        job_of(ALONE, evaluation=("presicion=1",))


def test_commands_name_no_folder_of_this_machine() -> None:
    job = job_of(
        "clone",
        real=("/home/me/my photos",),
        train=("/home/me/train",),
        transfer=("cars=/home/me/a,/home/me/b", "/home/me/pets"),
        settings=("machine.threads=3", "init_from=/home/me/weights.pth", 'online_knn.train=["/home/me/t"]'),
        evaluation=("data_root=/home/me/data", "workers=1", "variants.imagenet-a=/home/me/a", "seed=1"),
    )
    text = "\n".join(commands_of(job))
    assert "/home" not in text and "threads" not in text and "workers" not in text
    pretrain, evaluate = map(shlex.split, commands_of(job))
    assert pretrain[pretrain.index("--synthetic") + 1] == "clone" and "--real" not in pretrain
    assert "init_from=weights.pth" in pretrain and 'online_knn.train=["t"]' in pretrain and "data.real=[]" in pretrain
    assert evaluate[-8:] == [
        "--transfer",
        "cars=a,b",
        "--transfer",
        "pets",
        "--set",
        "variants.imagenet-a=a",
        "--set",
        "seed=1",
    ]
    assert "'my photos'" in "\n".join(commands_of(job_of(HALF, real=("/home/me/my photos",))))
    assert commands_of(job_of(UNTRAINED)) == []


def options_of(line: str) -> dict[str, list[str]]:
    """Return the values of each option of a command, in order."""
    words, options = shlex.split(line), {}
    for option, value in zip(words, words[1:], strict=False):
        if option.startswith("--"):
            options.setdefault(option, []).append(value)
    return options


def test_commands_tell_sources_of_one_name_apart() -> None:
    """Named defect: --real photos/train and --train labeled/train were both called train."""
    job = job_of(
        "clone",
        real=("/home/me/photos/train",),
        train=("/home/me/labeled/train", "builtin:digits:train"),
        test=("/home/me/labeled/test",),
        transfer=("cars=/home/me/cars/train,/home/me/cars/test", "pets"),
        sources={"clone": "/home/me/clone"},
        settings=('online_knn.train=["/home/me/labeled/train"]', "init_from=/home/me/first/run"),
    )
    pretrain, evaluate = map(options_of, commands_of(job))
    assert pretrain["--synthetic"] == ["clone"] and "--real" not in pretrain
    assert 'online_knn.train=["labeled/train"]' in pretrain["--set"] and "init_from=first/run" in pretrain["--set"]
    assert evaluate["--train"] == ["labeled/train", "builtin:digits:train"] and evaluate["--test"] == ["labeled/test"]
    assert evaluate["--transfer"] == ["cars=cars/train,cars/test", "pets"]
    made, _, evaluate = map(options_of, commands_of(job_of(HALF, real=("/a/b/images",), train=("/a/b/images",)))[1:])
    assert (made["--out"], made["--real"], evaluate["--train"]) == (["images"], ["b/images"], ["b/images"])


@pytest.mark.parametrize("name", [HALF, "synthetic"])
def test_the_commands_repeat_a_cell(
    tmp_path: Path, name: str, run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run by hand in a folder with the sources under their names; the scores are equal, image by image."""
    sources = ("photos/train", "labeled/train", "labeled/test", "cars/train", "cars/test")
    for seed, source in enumerate(sources):
        paint(tmp_path / source, {"blue": 8, "red": 8 - seed % 2}, seed=seed)
    real, train, test, *cars = (str(tmp_path / source) for source in sources)
    inputs = StudyInputs(real=(real,), train=(train,), test=(test,), transfer=(f"cars={','.join(cars)}",))
    study = tiny_study({ALONE: LEVELS[ALONE], **{name: EVERY[name]}}, evaluation=("seed=3",))
    begun = begin(study, inputs, tmp_path / "out")
    job = next(job for job in begun.jobs if job.cell.levels["images"] == name)
    result = run_cell(job, begun.folder, tmp_path / "cell", progress=False)
    text = (tmp_path / "cell" / "cell.json").read_text()
    assert str(tmp_path) not in text + (tmp_path / "out" / "study.json").read_text()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("syn2co.reports.evaluation.draw_evaluation", lambda *_: None)
    echo, *others = json.loads(text)["commands"]
    words = shlex.split(echo)
    assert words[0] == "echo" and words[2] == ">"
    Path(words[3]).write_text(words[1])
    for line in others:
        program, *words = shlex.split(line)
        status, _, error = run(*words, *(["--out", "scores"] if words[0] == "evaluate" else []), "--quiet")
        assert program == "syn2co" and status == 0, error
    again = read_report("scores")
    assert [row.data for row in again.rows] == ["given", "cars"] == [row.data for row in result.report.rows]
    for one, two in zip(result.report.rows, again.rows, strict=True):
        assert (one.value, one.encoder_hash, one.protocol_hash) == (two.value, two.encoder_hash, two.protocol_hash)
        assert np.array_equal(one.values, two.values)


def test_cells_of_small_warps_are_none_of_those_before_these_were_smooth() -> None:
    drawn = {
        "first": Level(images="untrained"),
        "drawn": Level(images="synthetic", source="procedural", real_images=12),
    }
    new = job_of("drawn", tiny_study(drawn))
    old = job_of("drawn", tiny_study(drawn, generators={"procedural": {"options": {"supersampling": 1}}}))
    assert new.images is not None and new.images.size < 64
    assert str(new._set).endswith(" supersampled") and str(old._set).endswith("}")
