"""Studies by name or from a file: the shipped ones can be run, a broken file is one sentence."""

import re
from pathlib import Path

import pytest

from syn2co.core.errors import StudyError
from syn2co.evaluation.data_sets import DATA_SETS
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.evaluation.suites import choose_suite
from syn2co.objective.counts import KINDS, PRESETS
from syn2co.pretraining.config import Config
from syn2co.studies.cell import cell_job
from syn2co.studies.grid import GENERATORS
from syn2co.studies.inputs import StudyInputs
from syn2co.studies.load import SHIPPED, load_study

HEAD = "from syn2co.studies import Contrast, Level, Study\n"
STUDY = """study = Study(
    name="mine", title="?", recipe="demo", factors={"images": {"real": Level(), "none": Level(images="untrained")}},
    baseline={"images": "real"}, %s
)
"""


@pytest.mark.parametrize("name", SHIPPED)
def test_every_cell_of_a_shipped_study_can_be(name: str) -> None:
    """No setting contradicts another, no two cells are one run, and the subsets lie one inside the other."""
    study = load_study(name)
    inputs = StudyInputs(real=("real",), train=("train",), test=("test",), counts={"real": 50_000})
    jobs = [cell_job(cell, inputs) for cell in study.cells()]
    assert len({job.hash for job in jobs}) == len(jobs) == study.seeds * len(list(study.combinations()))
    assert study.contrasts and study.cells()[0].levels == study.baseline
    sources = {job.cell.level.source for job in jobs}
    assert name == "paper" or sources <= {None, *GENERATORS}
    for job in jobs:
        if job.images is not None and job.images.generator != "procedural":
            drawn = job.config.mix.max_real or job.cell.level.real_images
            assert job.images.max_real == drawn is not None and job.images.seed == job.config.seed


def configs(name: str, recipe: str, *without: str) -> dict[tuple[str, ...], Config]:
    """Return the config of each cell of a shipped study's first seed by its levels, those of some factors left out."""
    study = load_study(name).with_settings([f"recipe={recipe}"])
    inputs = StudyInputs(real=("real",), train=("train",), test=("test",), counts={"real": 50_000})
    jobs = [cell_job(cell, inputs) for cell in study.cells([0])]
    return {
        tuple(level for factor, level in job.cell.levels.items() if factor not in without): job.config for job in jobs
    }


RECIPES = ("moby-cifar10", "synco-cifar10", "mochi-deit-s", "synco-deit-s", "synco-vit-s-released", "demo")


@pytest.mark.parametrize("recipe", RECIPES)
def test_levels_of_negatives_have_their_counts_whatever_the_recipe(recipe: str) -> None:
    """Named defect: with a recipe that has synthetic negatives "none" kept them, and a single kind was not alone."""
    counts = {level: config.negatives.counts for (level,), config in configs("negatives", recipe).items()}
    zero = dict.fromkeys(KINDS, 0)
    expected = {"none": zero, "all six": PRESETS["as-released"]._asdict(), "MoCHI": PRESETS["mochi"]._asdict()}
    assert counts == expected | {kind: {**zero, kind: 256} for kind in KINDS}


@pytest.mark.parametrize("recipe", RECIPES)
def test_levels_of_the_paper_are_the_same_whatever_the_recipe(recipe: str) -> None:
    given, shipped = configs("paper", recipe), configs("paper", load_study("paper").recipe)
    assert {levels: config.encoder for levels, config in given.items()} == {
        levels: config.encoder for levels, config in shipped.items()
    }
    for (_, _, level), config in given.items():
        preset = {"none": "none", "MoCHI": "mochi", "all six": "as-intended"}[level]
        assert config.negatives.counts == PRESETS[preset]._asdict()
        assert level == "none" or (config.negatives.start, config.negatives.stop) == (30, 100)


@pytest.mark.parametrize("recipe", RECIPES)
def test_group_masks_are_on_and_off_whatever_the_recipe(recipe: str) -> None:
    """Named defect: with a recipe as released "masked" had no mask, as "unmasked"."""
    masks = {
        level: config.negatives.mask_groups for (level,), config in configs("views", recipe, "images", "views").items()
    }
    assert masks == {"masked": True, "unmasked": False}


@pytest.mark.parametrize("name", SHIPPED)
def test_the_score_that_decides_is_one_that_cells_have(name: str, tmp_path: Path) -> None:
    """Named defect: the paper's was the suite "syn2co", a name that no score has."""
    study = load_study(name)
    (tmp_path / DATA_SETS["cifar10"].folder).mkdir(parents=True)
    settings = EvaluationSettings(data_root=str(tmp_path))
    suite = choose_suite(study.protocols, ["train"], ["test"], (), settings)
    assert suite.protocols[0] == study.protocols[0]
    if name == "paper":
        authors = choose_suite(["syn2co", "knn", "robustness"], ["train"], ["test"], (), settings)
        assert study.protocols[0] == "linear" and "variants" in suite.protocols
        assert [data.name for data in suite.data] == ["given", "cifar10"]
        assert (set(suite.protocols), suite.data, suite.notes) == (
            set(authors.protocols), authors.data, authors.notes,
        )  # fmt: skip


def test_a_shipped_study_names_numbers_that_it_needs() -> None:
    inputs = StudyInputs(real=("real",), train=("train",), test=("test",), counts={"real": 1000})
    with pytest.raises(StudyError, match="real images 2000, .*: takes 2000 real images, and --real has 1000"):
        [cell_job(cell, inputs) for cell in load_study("enough").cells()]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("study = 3", "my.py: defines no `study = Study(...)`"),
        ("x = 3", "my.py: defines no `study = Study(...)`"),
        ("study = Study(", "my.py: cannot be run (SyntaxError: '(' was never closed (my.py, line 2)); correct it"),
        ("1 / 0", "my.py: cannot be run (ZeroDivisionError: division by zero); correct it"),
        ("raise SystemExit(3)", "my.py: cannot be run (SystemExit: 3); correct it"),
        ("import nothing_of_this_name", "my.py: cannot be run (ModuleNotFoundError"),
        (STUDY % "seed=3", "my.py: seed: there is no such field of Study; did you mean seeds?"),
        (STUDY % "seeds=0", "my.py: seeds of Study: Input should be greater than or equal to 1"),
        (STUDY % "axis='imags'", "my.py: imags: is no factor of the study; it has images"),
        (STUDY % "contrasts=[Contrast(name='a', question='enough', one={'images': 'non'}, other={})]",
         "my.py: contrast 'a': images has no level 'non'; did you mean none?"),
        ("Level(image='real')", "my.py: image: there is no such field of Level; did you mean images?"),
    ],
)  # fmt: skip
def test_a_broken_file_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "my.py").write_text(HEAD + text)
    with pytest.raises(StudyError, match=re.escape(sentence)) as caught:
        load_study(tmp_path / "my.py")
    assert "\n" not in str(caught.value)


def test_a_file_may_change_a_shipped_study(tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(
        "from syn2co.studies.shipped.ratio import study as shipped\n"
        "study = shipped.model_copy(update={'name': 'mine', 'seeds': 2})\n"
    )
    study = load_study(str(tmp_path / "my.py"))
    assert (study.name, study.seeds, study.factors) == ("mine", 2, load_study("ratio").factors)
    assert load_study(study) is study


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("enugh", "enugh: there is no study of this name; did you mean enough?"),
        ("xyzzy", "xyzzy: there is no study of this name; shipped are small, enough, ratio, negatives, views, paper"),
        ("gone.py", "gone.py: there is no such file; correct the path of the study"),
    ],
)
def test_a_wrong_name_is_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(StudyError, match=re.escape(sentence)):
        load_study(name)


def test_the_page_says_what_the_shipped_studies_need() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "study.md").read_text(encoding="utf-8")
    rows = {row[0]: row[1:] for row in re.findall(r"^\| `(\w+)` \|.*\| ([\d,]+|any) \| (\d+) \|$", page, re.MULTILINE)}
    assert tuple(rows) == SHIPPED
    for name, (images, cells) in rows.items():
        study = load_study(name)
        numbers = [cell.level.real_images or 0 for cell in study.cells()]
        assert int(cells) == len(numbers), name
        assert max(numbers) == (0 if images == "any" else int(images.replace(",", ""))), name
