"""The page of a study: answers first, every number with its interval, nothing hidden, nothing private."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import study_pages

from syn2co.core.errors import FileError
from syn2co.reports.page_parts import public_text
from syn2co.reports.study_labels import StudyLabels
from syn2co.reports.study_page import _range, verdicts, write_study_page
from syn2co.reports.study_tables import against_best
from syn2co.studies.answers import StudyAnswers, answer
from syn2co.studies.grid import Contrast, Level, Study
from syn2co.studies.results import Cost, FailedCell, ScoreKey, StudyResults
from syn2co.studies.statistics import holm

KNN = ScoreKey("knn", "")


class Text(HTMLParser):
    """Words of a page without markup, styles and scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words, self.hidden, self.tags = list[str](), 0, list[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        self.hidden += tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in ("style", "script")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(results: StudyResults, folder: Path, **more: object) -> str:
    return write_study_page(answer(results), folder, **more).read_text(encoding="utf-8")  # type: ignore[arg-type]


def labels_of(answers: StudyAnswers) -> StudyLabels:
    return StudyLabels(answers.results, answers.headline)


@pytest.fixture(scope="module")
def answers() -> StudyAnswers:
    return answer(study_pages.results())


MORE = "More real images alone help up to 8000, the largest number (exploratory)."


def test_the_answers_come_first_with_badges_in_words(answers: StudyAnswers) -> None:
    several = verdicts(answers, labels_of(answers))
    badges = {verdict.question: (verdict.kind, verdict.badge) for verdict in several}
    assert badges == {
        "Does pretraining beat a random encoder?": ("good", "✓ resolved"),
        "How many real images are enough, and do faked ones help?": ("open", "≈ 2 of 3 resolved"),
        "Does it hold on corrupted images?": ("open", "≈ 2 of 3 resolved"),
        "Does it transfer to other data?": ("open", "≈ 2 of 3 resolved"),
    }
    enough = next(verdict for verdict in several if verdict.question.startswith("How many"))
    assert enough.lead.startswith(f"{MORE} Faked ones: better in 2 of 3 comparisons (+")
    assert enough.more and enough.more in enough.full and enough.lead not in enough.full
    robust = next(verdict for verdict in several if "corrupted" in verdict.question)
    assert robust.lead.startswith("Better in 2 of 3 comparisons (+")  # the random encoder is no way of faking
    assert robust.more.startswith("Real images against a random encoder: +") and robust.more in robust.full


def test_one_seed_is_said_and_resolves_nothing(tmp_path: Path) -> None:
    results = study_pages.results(seeds=1)
    several = verdicts(answer(results), labels_of(answer(results)))
    assert {verdict.badge for verdict in several} == {"one seed"}
    assert several[1].lead.startswith("None of 3 comparisons is resolved (one seed): measured ")
    text = Text(page_of(results, tmp_path)).text
    assert "one seed says nothing about training" in text and "✓ resolved" not in text


def test_comparisons_that_lack_cells_are_counted() -> None:
    results = study_pages.results()
    cells = [
        cell for cell in results.cells if (cell.levels["images"], cell.levels["real images"]) != ("half flow", "8000")
    ]
    answers = answer(StudyResults(results.study, tuple(cells)))
    enough = next(one for one in verdicts(answers, labels_of(answers)) if one.question.startswith("How many"))
    assert enough.lead.startswith(f"{MORE} Faked ones: better in all 2 comparisons (") and enough.lead.endswith(
        ", 1 not run yet."
    )
    assert (enough.kind, enough.badge) == ("open", "≈ 2 of 3 resolved")


@pytest.mark.parametrize(
    ("number", "start", "end"),
    [
        ("8000", "better in 1 of 2 comparisons (+", " points), one seed in 1, 1 failed."),
        ("500", "none of 2 comparisons is resolved (1 with one seed): measured −", " points, 1 failed."),
    ],
)
def test_comparisons_of_one_seed_and_without_a_result_are_counted_by_their_reason(
    number: str, start: str, end: str
) -> None:
    """Named defect: the line said "not resolved" of one seed, and "not run yet" of failed cells."""
    levels = {"images": "half flow", "real images": number}
    results = study_pages.results(failed=tuple(FailedCell("x", levels, seed, "no memory") for seed in range(3)))
    once = {"images": "half flow", "real images": "2000"}
    cells = tuple(cell for cell in results.cells if cell.levels != once or cell.seed == 0)
    answers = answer(StudyResults(results.study, cells, results.failed))
    enough = next(one for one in verdicts(answers, labels_of(answers)) if one.question.startswith("How many"))
    assert enough.lead.startswith(f"{MORE} Faked ones: {start}") and enough.lead.endswith(end)


def test_a_failed_and_a_missing_cell_stand_near_the_top(tmp_path: Path) -> None:
    failed = FailedCell("x", {"images": "half flow", "real images": "8000"}, 2, "TrainingError: loss at step 12")
    results = study_pages.results(failed=(failed,))
    results = StudyResults(results.study, results.cells[:-1], results.failed, ("cell.json: is of another version",))
    text = Text(page_of(results, tmp_path)).text
    top = text[: text.index("The figure behind the answers")]
    assert "Before you cite this" in top
    for words in ("failed (TrainingError: loss at step 12)", "not finished", "cell.json: is of another version"):
        assert words in top
    assert "2 of 3 seeds" in text  # in the table, at the cells themselves


def test_the_headline_has_a_curve_per_level_and_the_random_encoder_as_a_line(tmp_path: Path) -> None:
    page = page_of(study_pages.results(), tmp_path)
    assert "half flow, 500 real images: " in page and "random encoder: " in page
    assert page.count('<rect class="band"') == 2  # once for the desk, once for the phone
    assert "untrained, 2,000" not in page


def test_without_an_axis_every_cell_is_a_row_of_the_headline(tmp_path: Path) -> None:
    page = page_of(study_pages.results(study_pages.study(axis=None, versus=None)), tmp_path)
    figure = page[page.index('id="headline-wide-d"') :].split("</svg>")[0]
    assert figure.count('class="point"') == 10


def test_an_axis_with_a_level_that_is_no_number_leaves_no_cell_out(tmp_path: Path) -> None:
    factors = study_pages.study().factors
    with_all = {**factors, "real images": {**factors["real images"], "all": Level()}}
    results = study_pages.results(study_pages.study(factors=with_all))
    page = page_of(results, tmp_path)
    figure = page[page.index('id="headline-wide-d"') :].split("</svg>")[0]
    assert figure.count('class="point"') == len(labels_of(answer(results)).combinations)


def test_best_and_not_resolved_against_it_by_hand(answers: StudyAnswers) -> None:
    """8,000 real images: 66.0, 66.2 and 66.0 true points are not told apart; 500 are 9 points behind."""
    labels = labels_of(answers)
    marks = against_best(answers, labels, KNN)
    by_cell = {labels.cell(levels): marks.get(number, "") for number, levels in enumerate(labels.combinations)}
    large = {name: mark for name, mark in by_cell.items() if "8000" in name}
    assert sorted(large.values()) == ["best", "tied", "tied"]
    assert not any(mark for name, mark in by_cell.items() if " 500 " in name or "untrained" in name)


def test_missing_cells_make_no_mark_stronger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Named defect: the correction of "best" was over the finished cells alone."""
    results, families = study_pages.results(), list[list[float]]()
    cells = tuple(cell for cell in results.cells if cell.levels["images"] != "half flow")
    answers = answer(StudyResults(results.study, cells))
    monkeypatch.setattr("syn2co.reports.study_tables.holm", lambda p: families.append([*p]) or holm(p))
    against_best(answers, labels_of(answers), KNN)
    (family,) = families
    assert len(family) == len(list(results.study.combinations())) - 1 == 9 and family[-3:] == [1.0] * 3


def test_a_range_of_several_units_keeps_them_apart(answers: StudyAnswers) -> None:
    """Named defect: the unit of the first difference stood for all."""
    one, other = (result for result in answers.contrasts[:2])
    change = replace(other.difference, value=0.125)
    assert _range([replace(other, percent=False, difference=change), one]) == f"{_range([one])}, +0.12"


def test_lower_is_better_where_it_is(tmp_path: Path) -> None:
    results = study_pages.results()
    for cell in results.cells:
        for row in cell.report.rows:
            object.__setattr__(row, "higher_is_better", False)
    answers = answer(results)
    labels = labels_of(answers)
    best = next(number for number, mark in against_best(answers, labels, KNN).items() if mark == "best")
    assert labels.combinations[best]["images"] == "untrained"
    page = page_of(answers.results, tmp_path)
    assert "lower is better" in page and "← better · points · worse →" in page


def test_names_are_escaped_and_paths_are_not_shown(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    study = study_pages.study(title=evil, name='"><img src=x>')
    failed = FailedCell("x", {"images": "half flow", "real images": "8000"}, 2, f"DataError: /home/me/cifar {evil}")
    page = page_of(study_pages.results(study, failed=(failed,)), tmp_path)
    assert evil not in page and "<img src=x" not in page
    assert "/home/me" not in page and "/scratch" not in page and str(tmp_path) not in page
    assert "--real cifar --set seed=0 --out run" in page


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("--real /home/me/photos", "--real photos"),
        ("--real=/a/b/c.tar,/d/e", "--real=c.tar,e"),
        ("C:\\Users\\me\\photos is empty", "photos is empty"),
        ("~/photos/cats", "cats"),
        ("/data is empty", "data is empty"),
        ("1 / 2 of the images, torch/nn, https://a.org/b/c", "1 / 2 of the images, torch/nn, https://a.org/b/c"),
    ],
)
def test_public_text_keeps_the_last_part_of_absolute_paths_alone(text: str, public: str) -> None:
    assert public_text(text) == public


def test_pictures_cost_health_and_hashes_are_there(tmp_path: Path) -> None:
    png = b"\x89PNG not really"
    page = page_of(study_pages.results(), tmp_path, pictures={"real beside synthetic": png})
    text = Text(page).text
    assert 'alt="real beside synthetic"' in page
    assert "0 of 27 runs have a problem." in text
    assert "1.5 h" in text and "180,000 images made" in text  # 27 runs of 1.5 h; 18 sets of 10,000
    for words in ("given-images", "knn-hash", "realonly-500-0", "real images: fingerprint of cifar"):
        assert words in text


def test_the_rule_of_comparison_and_all_versions_are_told(tmp_path: Path) -> None:
    """Named defect: the page did not say that runs are compared at equal steps, nor which torch they ran on."""
    results = study_pages.results()
    text = Text(page_of(results, tmp_path)).text
    assert f"Rule of comparison: equal steps, {max(cell.steps for cell in results.cells):,} in every run" in text
    stopped = [
        replace(cell, steps=cell.steps + 10 * number, config={"online_knn": {"patience": 3}}, source_hash="1b6717",
                precision="float32",
                report=replace(cell.report, metadata={"machine": {"torch": "2.14.1", "device": "cpu"}}))
        if cell.steps else cell
        for number, cell in enumerate(results.cells)
    ]  # fmt: skip
    text = Text(page_of(replace(results, cells=tuple(stopped)), tmp_path)).text
    steps = sorted(cell.steps for cell in stopped if cell.steps)
    ended = f"runs end where their online k-NN stands still; they took {steps[0]:,} to {steps[-1]:,} steps."
    assert f"Rule of comparison: {ended}" in text
    assert f"syn2co {stopped[-1].version} (1b6717), torch 2.14.1, trained in float32" in text
    unequal = [replace(cell, config={}) for cell in stopped]
    text = Text(page_of(replace(results, cells=tuple(unequal)), tmp_path)).text
    assert "Rule of comparison: none, since runs took " in text
    epochs = [replace(cell, config={"training": {"epochs": 20.0, "steps": None}}) for cell in stopped]
    text = Text(page_of(replace(results, cells=tuple(epochs)), tmp_path)).text
    assert (
        f"Rule of comparison: equal epochs, 20.0 in every run, which took {steps[0]:,} to {steps[-1]:,} steps." in text
    )


@pytest.mark.parametrize(
    ("mixed", "said"),
    [
        ({"mode": "union", "max_real": 400, "max_synthetic": 100}, " and at most 500 distinct images."),
        ({"mode": "union", "max_real": 500, "max_synthetic": 500}, ", whatever images it sees."),
        ({"mode": "union", "max_real": 400, "max_synthetic": None}, ", whatever images it sees."),
        ({"mode": "real", "max_real": 500, "max_synthetic": None}, ", whatever images it sees."),
    ],
)
def test_equal_distinct_images_are_told(tmp_path: Path, mixed: dict[str, object], said: str) -> None:
    """Where sides differ and their sum does not; the runs of one side alone are no such comparison."""
    results = study_pages.results()
    alone = {"mode": "real", "max_real": 500, "max_synthetic": None}
    cells = [
        replace(cell, config={"mix": alone if cell.levels["images"] == "real only" else mixed}, steps=3000)
        if cell.steps else cell
        for cell in results.cells
    ]  # fmt: skip
    text = Text(page_of(replace(results, cells=tuple(cells)), tmp_path)).text
    assert f"Rule of comparison: equal steps, 3,000 in every run{said}" in text


@pytest.mark.parametrize("odd", ["on", [1], 3, None])
def test_a_file_of_odd_settings_and_an_odd_machine_has_a_page(tmp_path: Path, odd: object) -> None:
    """Named defect: the page of such a cell was a traceback."""
    results = study_pages.results()
    cells = [
        replace(cell, config={"online_knn": odd}, report=replace(cell.report, metadata={"machine": odd}))
        for cell in results.cells
    ]
    assert "Rule of comparison: equal steps" in Text(page_of(replace(results, cells=tuple(cells)), tmp_path)).text


def test_comparisons_of_real_images_alone_are_not_called_faked() -> None:
    given = study_pages.study()
    pairs = [("2000", "500"), ("8000", "500")]
    contrasts = [
        Contrast(
            name=f"{one} against {other}", question="enough", one={"real images": one}, other={"real images": other}
        )
        for one, other in pairs
    ]
    answers = answer(study_pages.results(given.model_copy(update={"contrasts": tuple(contrasts)})))
    enough = next(one for one in verdicts(answers, labels_of(answers)) if one.question.startswith("How many"))
    assert "As planned: better in all 2 comparisons" in enough.lead


def test_every_curve_shades_its_window_and_has_the_uninformative_line(tmp_path: Path) -> None:
    results = study_pages.results()
    page = page_of(results, tmp_path)
    training = page.partition('<section id="training">')[2].partition("</section>")[0]
    trained = {tuple(cell.levels.values()) for cell in results.cells if cell.curves}
    opened = [record["step"] for record in results.cells[-1].curves if record.get("synthetic")]
    assert len(trained) > 1 and training.count('class="window"') == len(trained)
    assert training.count(f"synthetic negatives from step {min(opened)} to {max(opened)} (shaded)") >= len(trained)
    assert training.count("uninformative") > len(trained)


def test_every_link_of_the_contents_has_its_section(tmp_path: Path) -> None:
    """Named defect: supervised runs have no loss over real negatives, and their page a link to no section."""
    results = study_pages.results()
    curves = tuple({**record, "real_loss": None} for record in results.cells[0].curves)
    supervised = tuple(replace(cell, curves=curves if cell.curves else ()) for cell in results.cells)
    for cells in (results.cells, supervised):
        page = page_of(replace(results, cells=cells), tmp_path)
        for anchor in re.findall(r'href="#([\w-]+)"', page):
            assert f'id="{anchor}"' in page
        assert ('href="#training"' in page) == (cells is results.cells)


def test_cost_is_told_in_core_and_gpu_hours(tmp_path: Path) -> None:
    """A tenth of an hour on two ranks of three threads is 0.6 core hours, or 0.2 GPU hours."""
    results = study_pages.results()
    first, second, *rest = results.cells

    def told(*processors: str) -> str:
        costs = [Cost(training_seconds=360, processors=text) for text in processors]
        cells = [replace(cell, cost=cost) for cell, cost in zip((first, second), costs, strict=True)]
        return Text(page_of(replace(results, cells=tuple(cells)), tmp_path)).text

    text = told("cpu, 3 threads, 2 ranks", "NVIDIA H100, 80GB, 3 threads, 2 ranks")
    assert "12.0 min of wall time in all" in text and "; 0.6 core hours; 0.2 GPU hours; 0 images made." in text
    assert "0.60 core h" in text and "0.20 GPU h" in text
    text = told("cpu, 3 threads, 2 ranks", "a machine")
    assert " hours; 0 images" not in text and "0.60 core h" in text


def test_mass_and_hardness_are_means_over_the_last_quarter(tmp_path: Path) -> None:
    page = page_of(study_pages.results(), tmp_path)
    assert "adversarial, half flow · 500 real images: 0.12" in page
    assert "interpolated, half flow · 500 real images: 0.3" in page


def test_a_page_of_too_many_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="study.html: would have .* MB, at most 5 are allowed"):
        page_of(study_pages.results(), tmp_path, pictures={"large": bytes(5_000_000)})
    assert not (tmp_path / "study.html").exists()


def test_a_large_study_stays_below_the_limit(tmp_path: Path) -> None:
    """60 kinds of images x 3 numbers x 3 seeds: 540 runs with 100 records each."""
    names = {f"mix {number}": Level(images="mixed", share=0.5) for number in range(58)}
    base = study_pages.study()
    changed = study_pages.study(factors=base.factors | {"images": base.factors["images"] | names}, only=())
    study_pages.TRUTH.update({name: study_pages.TRUTH["half flow"] for name in names})
    path = write_study_page(answer(study_pages.results(changed, seeds=3)), tmp_path)
    assert path.stat().st_size < 5_000_000


def test_an_empty_study_and_a_score_without_values_have_pages(tmp_path: Path) -> None:
    text = Text(page_of(StudyResults(study_pages.study(), ()), tmp_path)).text
    assert "no comparison yet" in text and "30 of 30 cells are not finished" in text
    results = study_pages.results()
    for cell in results.cells:
        object.__setattr__(cell.report.rows[1], "values", np.empty(0))
    assert "linear" in Text(page_of(results, tmp_path)).text


def test_a_study_of_one_factor(tmp_path: Path) -> None:
    study = Study(
        name="negatives", title="Do synthetic negatives help?", recipe="demo", axis=None,
        factors={"images": {"real only": Level(), "half flow": Level(images="mixed", source="flow", share=0.5)},
                 "real images": {"2000": Level(real_images=2000)}},
        baseline={"images": "real only", "real images": "2000"}, seeds=2,
    )  # fmt: skip
    text = Text(page_of(study_pages.results(study, seeds=2), tmp_path)).text
    assert "half flow" in text and "No finished cell answers a question" in text
