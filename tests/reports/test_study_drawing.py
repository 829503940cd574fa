"""Figures and tables of a study's page: what one seed shows, what is cut, and values that are not finite."""

import html
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import study_pages

from syn2co.reports.study_figures import compared, first_drawn
from syn2co.reports.study_labels import StudyLabels
from syn2co.reports.study_page import write_study_page
from syn2co.reports.study_tables import cells_table, contrasts_table, provenance_table
from syn2co.studies.answers import StudyAnswers, answer
from syn2co.studies.results import CellResult, ScoreKey, StudyResults

KNN = ScoreKey("knn", "")


def results_without(out: Callable[[CellResult], bool], **changed: object) -> StudyResults:
    """The study of `study_pages` without some of its cells."""
    results = study_pages.results(study_pages.study(**changed) if changed else None)
    return StudyResults(results.study, tuple(cell for cell in results.cells if not out(cell)))


def is_late_8000(cell: CellResult) -> bool:
    """Of the cell with half flow and 8,000 real images, all seeds but 0."""
    return (cell.levels["images"], cell.levels["real images"]) == ("half flow", "8000") and cell.seed > 0


def page_of(results: StudyResults, folder: Path) -> str:
    return html.unescape(write_study_page(answer(results), folder).read_text(encoding="utf-8"))


def figure_of(page: str, name: str) -> str:
    """One drawing with its caption."""
    return page[page.index(f'id="{name}-wide-d"') :].split("</figure>")[0]


def labels_of(answers: StudyAnswers) -> StudyLabels:
    return StudyLabels(answers.results, answers.headline)


def changed_cells(results: StudyResults, change: Callable[[CellResult], CellResult]) -> StudyResults:
    return replace(results, cells=tuple(map(change, results.cells)))


def test_one_seed_among_contrasts_is_drawn_otherwise_and_named_in_the_caption(tmp_path: Path) -> None:
    figure = figure_of(page_of(results_without(is_late_8000), tmp_path), "contrasts")
    wide = figure.split("</svg>")[0]
    assert wide.count('class="hollow once bar"') == wide.count('class="hollow once mark"') == 1
    assert "Intervals are corrected for all 4 primary contrasts that were planned (Holm)." in figure
    assert "Diamonds: 1 contrast with one seed, 95 % over the test images alone and not corrected" in figure


def test_without_one_seed_nothing_of_it_is_said(tmp_path: Path) -> None:
    page = page_of(study_pages.results(), tmp_path)
    assert "one seed" not in figure_of(page, "contrasts") and "one seed" not in figure_of(page, "headline")
    assert ' once"' not in page and ' once bar"' not in page


def test_contrasts_of_one_seed_alone_are_not_called_corrected(tmp_path: Path) -> None:
    figure = figure_of(page_of(study_pages.results(seeds=1), tmp_path), "contrasts")
    assert "Intervals are 95 % over the test images alone and not corrected" in figure and "Holm" not in figure


def test_points_of_one_seed_are_hollow_in_the_headline_and_said(tmp_path: Path) -> None:
    figure = figure_of(page_of(results_without(is_late_8000), tmp_path), "headline")
    wide = figure.split("</svg>")[0]
    assert len(re.findall(r'class="s\d once mark"', wide)) == len(re.findall(r'class="s\d once bar"', wide)) == 1
    assert "at most 3; bars are 95 % intervals over seeds and test images. Hollow with dashed bars" in figure


def test_the_random_encoder_of_one_seed_is_named_so(tmp_path: Path) -> None:
    late = results_without(lambda cell: cell.levels["images"] == "untrained" and cell.seed > 0)
    assert "random encoder, one seed" in figure_of(page_of(late, tmp_path), "headline")


def test_without_an_axis_one_seed_is_hollow_too(tmp_path: Path) -> None:
    figure = figure_of(page_of(results_without(is_late_8000, axis=None, versus=None), tmp_path), "headline")
    assert figure.split("</svg>")[0].count('class="s0 once mark"') == 1 and "Hollow with dashed bars" in figure


def test_the_number_of_seeds_is_that_of_the_drawn_score(tmp_path: Path) -> None:
    def lacks_knn(cell: CellResult) -> CellResult:
        rows = [row for row in cell.report.rows if cell.seed < 2 or row.protocol != "knn"]
        return replace(cell, report=replace(cell.report, rows=tuple(rows)))

    figure = figure_of(page_of(changed_cells(study_pages.results(), lacks_knn), tmp_path), "headline")
    assert "at most 2; bars" in figure


def test_tags_say_why_a_cell_is_not_compared_with_the_best() -> None:
    best = ("half flow", "8000")

    def perfect(cell: CellResult) -> CellResult:
        if (cell.levels["images"], cell.levels["real images"]) != best:
            return cell
        rows = [replace(row, values=np.ones_like(row.values)) for row in cell.report.rows]
        return replace(cell, report=replace(cell.report, rows=tuple(rows)))

    answers = answer(changed_cells(results_without(is_late_8000), perfect))
    assert tuple(answers.best(KNN)[name] for name in ("images", "real images")) == best  # type: ignore[index]
    table = cells_table(answers, labels_of(answers), [KNN], "scores")
    assert table is not None
    tags = {(row[0].text, row[1].text): row[2].tag for row in table.rows}
    assert tags.pop(best) == "best, 1 of 3 seeds"
    assert set(tags.values()) == {"not compared: the best has one seed"}


def test_cells_without_two_common_seeds_are_not_told_worse() -> None:
    other = ("flow, then real", "500")

    def apart(cell: CellResult) -> bool:
        is_other = (cell.levels["images"], cell.levels["real images"]) == other
        return cell.seed == 2 if is_other else cell.seed < 2 and cell.levels["real images"] == "8000"

    answers = answer(results_without(lambda cell: apart(cell) and cell.seed != 1))
    table = cells_table(answers, labels_of(answers), [KNN], "scores")
    assert table is not None
    tags = {(row[0].text, row[1].text): row[2].tag for row in table.rows}
    assert tags[other].startswith("not compared: less than two common seeds")


def test_one_seed_has_no_probability() -> None:
    answers = answer(results_without(is_late_8000))
    table = contrasts_table(labels_of(answers), answers.contrasts[:4], [KNN], "contrasts")
    cells = {row[0].text: row for row in table.rows}
    once = next(row for name, row in cells.items() if name.endswith("8000 real ones"))
    assert [item.text for item in once[2:6]] == ["not tested", "–", "one seed", "not known"]
    assert all(item.last for item in (once[2], once[3], once[5]))
    assert not any(item.last for item in cells["real images against a random encoder"][:4])


def test_the_minus_sign_is_one(tmp_path: Path) -> None:
    page = re.sub(r"<(style|script|pre)>.*?</\1>", "", page_of(study_pages.results(), tmp_path), flags=re.DOTALL)
    texts = re.findall(r">([^<]+)<", page)
    assert any("−" in text for text in texts)
    assert not [text for text in texts if re.search(r"(?:^|[\s\[(])-\d", text)]


def many_cells() -> StudyResults:
    return study_pages.results(study_pages.study(baseline={"images": "flow, then real", "real images": "2000"}))


def test_the_baseline_and_primary_contrasts_are_drawn_first_and_the_rest_is_said(tmp_path: Path) -> None:
    answers = answer(many_cells())
    order = [tuple(levels.values()) for levels in compared(answers, labels_of(answers))]
    assert order[0] == ("flow, then real", "2000") and len(order) == len(set(order)) == 10
    assert set(order[8:]) == {("real only", "500"), ("real only", "8000")}
    page = page_of(many_cells(), tmp_path)
    said = "The first 8 of 10 cells: the baseline, those of the primary contrasts, then others."
    assert said in figure_of(page, "severities")
    assert f"the highest of each row is underlined. {said}" in page
    assert "The first 8 of 9 cells" in page[page.index("Synthetic negatives by kind") :]


def test_nothing_is_said_where_nothing_is_cut() -> None:
    assert first_drawn(dict.fromkeys("abcdefgh", 0))[1] == ""
    kept, said = first_drawn(dict.fromkeys("abcdefghi", 0))
    assert "".join(kept) == "abcdefgh" and said.startswith("The first 8 of 9 cells")


def test_scores_whose_differences_are_not_drawn_are_counted(tmp_path: Path) -> None:
    def more(cell: CellResult) -> CellResult:
        rows = [replace(cell.report.rows[2], data=f"set {number}") for number in range(7)]
        return replace(cell, report=replace(cell.report, rows=(*cell.report.rows[:2], *rows)))

    page = page_of(changed_cells(study_pages.results(), more), tmp_path)
    assert "The first 6 of 7 scores." in page and 'id="transfer-5-wide-d"' in page


def with_curves(change: Mapping[str, Any]) -> StudyResults:
    """The first cell with a curve has this in two of its records."""
    results = study_pages.results()
    chosen = next(cell for cell in results.cells if cell.curves)
    curves = [{**record, **change} if number in (20, 21) else record for number, record in enumerate(chosen.curves)]
    return changed_cells(results, lambda cell: replace(cell, curves=curves) if cell is chosen else cell)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None, "many", 10**400])
def test_a_loss_that_is_not_finite_is_a_gap_and_said(tmp_path: Path, bad: Any) -> None:
    page = page_of(with_curves({"real_loss": bad}), tmp_path)
    assert page.count("<figcaption>Gaps: 2 records without a finite value.</figcaption>") == 1
    (path,) = [d for d in re.findall(r'class="s0 stroke" d="([^"]*)"', page) if d.count("M") == 2]
    assert path.count("L") == 96 and "nan" not in path  # 20 and 78 of 100 points


@pytest.mark.parametrize("name", ["mass/noise", "hardness/noise", "step", "uninformative"])
def test_other_values_of_a_curve_that_are_not_finite_lose_no_page(tmp_path: Path, name: str) -> None:
    page = page_of(with_curves({name: math.nan}), tmp_path)
    assert not re.search(r'[ML ]nan|="nan"|nan %', page)


def test_a_curve_of_gaps_alone_loses_no_page(tmp_path: Path) -> None:
    results = study_pages.results()
    curves = {cell.cell: [{**record, "real_loss": None} for record in cell.curves] for cell in results.cells}
    page = page_of(changed_cells(results, lambda cell: replace(cell, curves=curves[cell.cell])), tmp_path)
    assert 'id="curve-0-both-d"' not in page and "Cost" in page


@pytest.mark.parametrize("name", ["training_seconds", "images_made"])
def test_a_cost_that_is_no_number_is_not_known(tmp_path: Path, name: str) -> None:
    results = study_pages.results()
    first = results.cells[0]
    bad = replace(first, cost=replace(first.cost, **{name: math.nan}))
    page = page_of(changed_cells(results, lambda cell: bad if cell is first else cell), tmp_path)
    assert "Without 1 run of unknown cost." in page and re.search(r'data-sort="" class=" ">not known<', page)


@pytest.mark.parametrize(
    ("details", "said"),
    [
        ({"accuracy": {"frost": [50.0, None, 40.0]}, "clean": 60.0, "severities": [1, 3, 5]}, "Gaps: 1 point"),
        ({"accuracy": {"frost": [50.0, 45.0, 40.0]}, "clean": math.nan, "severities": [1, 3, 5]}, "Gaps: 1 point"),
        ({"accuracy": {"frost": None}, "clean": 60.0, "severities": [1, 3, 5]}, "Without 3 runs"),
        ({"accuracy": {"frost": [50.0]}, "clean": 60.0, "severities": [1, 3, 5]}, "Without 3 runs"),
        ({"accuracy": [], "clean": 60.0}, "Without 3 runs"),
    ],
)
def test_damaged_accuracies_by_corruption_are_left_out_and_said(
    tmp_path: Path, details: Mapping[str, Any], said: str
) -> None:
    def damaged(cell: CellResult) -> CellResult:
        if cell.levels != {"images": "real only", "real images": "2000"}:
            return cell
        rows = [replace(row, details=details) if row.details else row for row in cell.report.rows]
        return replace(cell, report=replace(cell.report, rows=tuple(rows)))

    assert said in figure_of(page_of(changed_cells(study_pages.results(), damaged), tmp_path), "severities")


def test_runs_without_commands_are_explained(tmp_path: Path) -> None:
    def as_stored(cell: CellResult) -> CellResult:
        return replace(cell, commands=()) if cell.levels["images"] == "untrained" else cell

    page = page_of(changed_cells(study_pages.results(), as_stored), tmp_path)
    assert "Commands of 27 of 30 runs" in page and "Untrained encoders have none: the study itself draws" in page


def test_hashes_tell_sets_apart() -> None:
    def made(cell: CellResult) -> CellResult:
        settings = f'echo \'{{"generator": "{cell.levels["images"]}"}}\' > images.json'
        return replace(cell, commands=[settings, *cell.commands] if "flow" in cell.levels["images"] else cell.commands)

    answers = answer(changed_cells(study_pages.results(), made))
    table = provenance_table(answers, labels_of(answers))
    column = [column.title for column in table.columns].index("set made for it")
    hashes = {row[0].text.split(" · ")[0]: row[column].text for row in table.rows}
    assert hashes["real only"] == "" and len({hashes["half flow"], hashes["flow, then real"]} - {""}) == 2


def test_names_with_commas_are_kept_apart_in_notes() -> None:
    results = study_pages.results()
    late = StudyResults(results.study, tuple(cell for cell in results.cells if cell.seed == 0))
    notes = answer(late).notes
    assert any(note.startswith("images untrained, real images 2000; images real only, real") for note in notes)
