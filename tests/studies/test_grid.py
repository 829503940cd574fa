"""Studies as values: levels merged, cells in the order of their worth, errors in one sentence."""

import re

import pytest
from pydantic import ValidationError

from syn2co.studies.grid import Cell, Contrast, Level, Study

FACTORS = {
    "encoder": {"small": Level(settings=("a=1",)), "large": Level(settings=("a=2",))},
    "images": {"real": Level(images="real"), "half": Level(images="mixed", source="flow", share=0.5)},
}


def study(**changes: object) -> Study:
    values = {
        "name": "s", "title": "?", "recipe": "demo", "factors": FACTORS, "seeds": 2,
        "baseline": {"encoder": "small", "images": "real"},
    }  # fmt: skip
    return Study.model_validate({**values, **changes})


def contrast(name: str, one: dict[str, str], other: dict[str, str] | None = None) -> Contrast:
    return Contrast(name=name, question="enough", one=one, other=other or {})


def names(cells: list[Cell]) -> list[str]:
    return [f"{cell.levels['encoder']} {cell.levels['images']} {cell.seed}" for cell in cells]


def test_the_baseline_and_the_primary_contrasts_come_first_seed_by_seed() -> None:
    one = contrast("large", {"encoder": "large", "images": "half"}, {"encoder": "large"})
    assert names(study(contrasts=[one]).cells()) == [
        "small real 0", "large real 0", "large half 0", "small real 1", "large real 1", "large half 1",
        "small half 0", "small half 1",
    ]  # fmt: skip


def test_without_contrasts_the_baseline_comes_first() -> None:
    cells = study(baseline={"images": "half", "encoder": "large"}, seeds=1).cells()
    assert names(cells) == ["large half 0", "small real 0", "small half 0", "large real 0"]
    assert list(cells[0].levels) == ["encoder", "images"], "in the order of the factors, whatever that of the baseline"


def test_a_cell_of_two_contrasts_comes_once() -> None:
    two = [contrast("half", {"images": "half"}), contrast("large", {"encoder": "large"})]
    cells = study(contrasts=two, seeds=1).cells()
    assert names(cells) == ["small real 0", "small half 0", "large real 0", "large half 0"]
    assert names(study(contrasts=two).cells(seeds=[7])) == [name[:-1] + "7" for name in names(cells)]


def test_only_leaves_out_what_fits_no_pattern() -> None:
    patterns = ({"images": ("real",)}, {"encoder": ("large",), "images": ("half",)})
    cells = study(only=patterns, seeds=1).cells()
    assert names(cells) == ["small real 0", "large real 0", "large half 0"]


def test_a_later_factor_overrides_and_settings_add_up() -> None:
    factors = {
        "images": {"half": Level(images="mixed", source="flow", share=0.5, settings=("x=1", "y=1"))},
        "source": {"fitted": Level(source="fitted", settings=("x=2",))},
        "views": {"strong": Level()},
    }
    one = study(factors=factors, baseline={name: next(iter(levels)) for name, levels in factors.items()})
    level = one.cells()[0].level
    assert level == Level(images="mixed", source="fitted", share=0.5, settings=("x=1", "y=1", "x=2"))


def test_images_are_real_unless_a_level_says_otherwise() -> None:
    factors = {"views": {"strong": Level()}}
    cell = study(factors=factors, baseline={"views": "strong"}).cells()[0]
    assert cell.level.images == "real" and cell.text == "views strong, seed 0"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"baseline": {"images": "real"}}, "baseline: names no level of encoder; name one"),
        (
            {"baseline": {"encoder": "small", "imags": "real"}},
            "baseline: there is no factor 'imags'; did you mean images?",
        ),
        (
            {"baseline": {"encoder": "small", "images": "reel"}},
            "baseline: images has no level 'reel'; did you mean real?",
        ),
        (
            {"contrasts": [contrast("c", {"images": "haf"})]},
            "contrast 'c': images has no level 'haf'; did you mean half?",
        ),
        (
            {"contrasts": [contrast("c", {"images": "xyz"})]},
            "contrast 'c': images has no level 'xyz'; it is one of real, half",
        ),
        ({"contrasts": [contrast("c", {"images": "half"})] * 2}, "contrasts: 'c' is named twice"),
        ({"contrasts": [contrast("c", {"images": "real"})]}, "contrast 'c': compares a cell with itself"),
        (
            {"contrasts": [contrast("c", {"images": "half"})], "only": [{"images": ["real"]}]},
            "contrast 'c': encoder small, images half is left out by `only`",
        ),
        ({"only": [{"image": ["real"]}]}, "only: there is no factor 'image'; did you mean images?"),
        ({"only": [{"images": ["reals"]}]}, "only: images has no level 'reals'; did you mean real?"),
        ({"only": [{"images": []}]}, "only: leaves out every cell; name levels that go together"),
        ({"axis": "real images"}, "real images: is no factor of the study; it has encoder, images"),
    ],
)
def test_a_wrong_study_is_refused_in_one_sentence(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(sentence)):
        study(**changes)


def test_dots_in_names_of_levels_part_nothing() -> None:
    """Named defect: the hint at 0.50 looked for a level that ends in 50."""
    factors = {"share": {"0.5": Level(), "1.50": Level()}}
    with pytest.raises(ValidationError, match=re.escape("no level '0.50'; did you mean 0.5?")):
        study(factors=factors, baseline={"share": "0.50"})


def test_a_name_that_two_factors_share_comes_with_its_factor() -> None:
    levels = {"none": Level(), "all": Level()}
    study = Study(
        name="x", title="?", recipe="demo", factors={"negatives": levels, "views": {"none": Level(), "weak": Level()}},
        baseline={"negatives": "none", "views": "none"},
    )  # fmt: skip
    names = [cell.level_names for cell in study.cells([0])]
    assert names == [
        ["negatives none", "views none"],
        ["negatives none", "weak"],
        ["all", "views none"],
        ["all", "weak"],
    ]
