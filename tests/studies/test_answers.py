"""Answers of a study on scores of known truth: verdicts, sentences, and notes on whatever is missing."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from studies import SCORES, study_results

from syn2co.studies.answers import StudyAnswers, answer
from syn2co.studies.comparisons import CellPair, ContrastResult, MissingContrast, ScoreTable, exploratory_comparisons
from syn2co.studies.grid import Contrast, axis_numbers
from syn2co.studies.results import FailedCell, ScoreKey, StudyResults
from syn2co.studies.statistics import ONE_SEED, difference, holm, holm_levels

KNN, LINEAR = ScoreKey("knn", "given"), ScoreKey("linear", "given")
ROBUST, DIGITS = ScoreKey("robustness", "given"), ScoreKey("knn", "digits")
AT_500 = Contrast(
    name="half of the images made by the flow instead of 500 real ones alone", question="enough",
    one={"images": "half flow"}, other={},
)  # fmt: skip
AT_2000 = Contrast(
    name="the same with 2,000 real ones", question="enough", one={"images": "half flow", "real images": "2000"},
    other={"real images": "2000"},
)  # fmt: skip
AT_8000 = Contrast(
    name="the same with 8,000 real ones", question="enough", one={"images": "half flow", "real images": "8000"},
    other={"real images": "8000"},
)  # fmt: skip
RATIO = Contrast(
    name="half of the images synthetic instead of none", question="ratio", one={"images": "half flow"}, other={}
)

AGAINST_RANDOM = Contrast(
    name="real images against a random encoder", question="random", one={}, other={"images": "random encoder"}
)
MORE = "More real images alone help up to 8000, the largest number (exploratory)."
ALL = [("half flow", 500, seed) for seed in range(3)]
"""The cells of one side of `AT_500` and `RATIO`."""


def first(answers: StudyAnswers, key: ScoreKey = KNN) -> ContrastResult:
    return next(result for result in answers.contrasts if result.key == key)


def test_a_clear_difference_is_resolved_in_one_sentence() -> None:
    result = first(answer(study_results({"half flow": [0.1, 0, 0]}, contrasts=[AT_500], seeds=5)))
    value, low, high = (f"{number:+.1f}" for number in (result.difference.value, result.low, result.high))
    assert result.resolved and result.primary and result.low > 0
    assert result.sentence == (
        "Half of the images made by the flow instead of 500 real ones alone: "
        f"{value} points of k-NN [{low}, {high}], 5 seeds: resolved."
    )


def test_a_resolved_interval_never_seems_to_touch_zero() -> None:
    """Named defect: [-2.9, +0.0] stood beside "resolved", for -0.004 is no number of one digit."""
    result = first(answer(study_results({"half flow": [0.1, 0, 0]}, contrasts=[AT_500], seeds=5)))
    assert replace(result, low=-2.94, high=-0.004).ends == "[-2.9, -0.004]"
    assert replace(result, low=0.03, high=2.0).ends == "[+0.03, +2.0]"
    assert replace(result, low=-2.94, high=0.004, resolved=False).ends == "[-2.9, +0.0]"


def test_a_harm_is_resolved_for_the_worse() -> None:
    answers = answer(study_results({"half flow": [-0.1, 0, 0]}, contrasts=[AT_500], seeds=5))
    assert "5 seeds: resolved, for the worse. Real only, real images: " in answers.sentences["enough"]
    assert not first(answers).better


def test_no_difference_is_not_resolved_and_says_what_could_have_been() -> None:
    result = first(answer(study_results({"half flow": [0, 0, 0]}, contrasts=[AT_500], images=10_000)))
    change = result.difference
    assert not result.resolved and change.smallest is not None and change.seeds_for_one_point is not None
    assert result.sentence.endswith(
        f"; 3 seeds could have resolved {change.smallest:.1f} points, one point would take "
        f"{change.seeds_for_one_point} seeds."
    )
    assert "not resolved (" in result.sentence


def test_too_few_test_images_are_named() -> None:
    """The gain differs per image, so more seeds alone never resolve one point."""
    results = study_results({"half flow": [0, 0, 0]}, contrasts=[AT_500], images=50, seeds=5)
    results = with_values(results, lambda arm, seed, values: np.arange(50) % 2 if arm == "half flow" else values)
    assert "one point takes more test images than these 50" in first(answer(results)).sentence


def with_values(results: StudyResults, change: object) -> StudyResults:
    """The results with other values: change(arm, seed, values)."""
    cells = []
    for cell in results.cells:
        rows = tuple(
            replace(row, values=np.asarray(change(cell.levels["images"], cell.seed, row.values), float))  # type: ignore[operator]
            for row in cell.report.rows
        )
        cells.append(replace(cell, report=replace(cell.report, rows=rows)))
    return replace(results, cells=tuple(cells))


def test_numbers_are_those_of_the_statistics_in_percent() -> None:
    results = study_results({"half flow": [0.1, 0, 0]}, contrasts=[AT_500])
    one, other = (
        np.stack([cell.report.rows[0].values for cell in results.of(results.study.complete(side)).values()])
        for side in (AT_500.one, AT_500.other)
    )
    expected, result = difference(one, other), first(answer(results)).difference
    assert (result.value, result.low, result.high) == pytest.approx(
        (100 * expected.value, 100 * expected.low, 100 * expected.high)
    )
    assert (result.p, result.seeds_for_one_point) == (expected.p, expected.seeds_for_one_point)
    assert result.smallest == pytest.approx(100 * (expected.smallest or 0))


def test_holm_is_over_the_primary_contrasts_of_one_score() -> None:
    gains = {"half flow": [0.06, 0.04, 0.0], "quarter flow": [0.05, 0.0, 0.0]}
    answers = answer(study_results(gains, contrasts=[AT_500, AT_2000, AT_8000]))
    for key in SCORES:
        for primary in (True, False):
            family = [one for one in answers.contrasts if one.key == key and one.primary is primary]
            assert len(family) == (3 if primary else 6), "also every two numbers of real images alone"
            assert [one.adjusted_p for one in family] == holm([one.difference.p for one in family])
            assert [one.resolved for one in family] == [one.adjusted_p <= 0.05 for one in family]
            assert all((one.low > 0 or one.high < 0) == one.resolved for one in family)


def test_a_contrast_without_a_p_counts_in_the_correction() -> None:
    """Named defect: the family was the contrasts with two seeds or more, so that missing cells made claims stronger."""
    contrasts = [AT_500, AT_2000, AT_8000]
    without = [("half flow", 2000, 1), ("half flow", 2000, 2), *[("half flow", 8000, seed) for seed in range(3)]]
    answers = answer(study_results({"half flow": [0.1, 0, 0]}, contrasts=contrasts, without=without))
    at_500, at_2000 = (result for result in answers.contrasts if result.key == KNN and result.primary)
    p = [at_500.difference.p, 1, 1]
    assert at_500.adjusted_p == holm(p)[0] == 3 * at_500.difference.p
    assert (at_500.low, at_500.high) == at_500.difference.interval(holm_levels(p)[0])
    assert at_500.low < at_500.difference.low
    assert (at_2000.adjusted_p, at_2000.difference.seeds, at_2000.resolved) == (1, 1, False)
    assert (at_2000.low, at_2000.high) == (at_2000.difference.low, at_2000.difference.high)  # is not tested


def test_a_missing_cell_never_resolves_more() -> None:
    gains = {"half flow": [0.03, 0.03, 0.03]}
    contrasts = [AT_500, AT_2000, AT_8000]
    whole = answer(study_results(gains, contrasts=contrasts))
    without = [("half flow", 8000, seed) for seed in range(3)]
    part = answer(study_results(gains, contrasts=contrasts, without=without))
    for one, two in zip(whole.contrasts[:2], part.contrasts[:2], strict=True):
        assert one.name == two.name and one.difference == two.difference
        assert one.adjusted_p <= two.adjusted_p and one.resolved >= two.resolved


def test_what_could_be_resolved_is_at_the_corrected_level() -> None:
    """Named defect: the interval was corrected and "could have resolved" was not, so that the two contradicted."""
    answers = answer(study_results({"half flow": [0, 0, 0]}, contrasts=[AT_500, AT_2000, AT_8000], seed_effect=0.02))
    family = [result for result in answers.contrasts if result.key == KNN and result.primary]
    for result, level in zip(family, holm_levels([result.difference.p for result in family]), strict=True):
        change = result.difference
        assert level > 0.98 and not result.resolved and change.smallest is not None
        assert change.smallest == pytest.approx(float(change.spread.smallest(3, error=1 - level)))
        assert abs(change.value) < (result.high - result.low) / 2 < change.smallest
        seeds = change.seeds_for_one_point
        assert seeds is not None and float(change.spread.smallest(seeds, error=1 - level)) <= 1
    least = max(result.difference.smallest or 0 for result in family)
    assert f"; 3 seeds could have resolved {least:.1f} points" in answers.sentences["enough"]


def test_comparisons_with_one_seed_are_named_as_such() -> None:
    """Named defect: "one seed" stood behind the list of all that are not resolved, whichever they were."""
    without = [("half flow", 2000, seed) for seed in (1, 2)]
    contrasts = [AT_500, AT_2000, AT_8000]
    results = study_results({"half flow": [0.2, 0.1, 0]}, contrasts=contrasts, without=without, seeds=3, images=5000)
    answers = answer(results)
    at_500, at_2000, at_8000 = answers.contrasts[:3]
    text = answers.sentences["enough"]
    assert text.startswith(f"{MORE} 1 of 3 comparisons is resolved (points of k-NN). Resolved: {at_500.brief}. ")
    assert f" Not resolved: {at_8000.brief}; 3 seeds could have resolved " in text
    assert f". Not tested ({ONE_SEED}): {at_2000.brief}." in text
    assert "better with 500 real images, not resolved with 8000, one seed with 2000." in text


def test_several_comparisons_are_counted_and_told_apart() -> None:
    answers = answer(
        study_results({"half flow": [0.12, 0.0, -0.12]}, contrasts=[AT_500, AT_2000, AT_8000], seeds=5, images=3000)
    )
    at_500, at_2000, at_8000 = answers.contrasts[:3]
    text = answers.sentences["enough"]
    assert text.startswith(f"{MORE} 2 of 3 comparisons are resolved (points of k-NN). Resolved: {at_500.brief}")
    assert f"Resolved, for the worse: {at_8000.brief}. Not resolved: {at_2000.brief}; 5 seeds could" in text


def test_nothing_resolved_is_said() -> None:
    answers = answer(study_results({"half flow": [0, 0, 0]}, contrasts=[AT_500, AT_2000]))
    text = answers.sentences["enough"]
    assert text.startswith(f"{MORE} None of 2 comparisons is resolved (points of k-NN). Not resolved: ")
    assert "(the least certain one)" in answers.sentences["enough"]


def test_lower_can_be_better() -> None:
    results = study_results({"half flow": [0.1, 0, 0]}, contrasts=[AT_500], seeds=5, lower_is_better=["knn"])
    result = first(answer(results))
    assert result.difference.value < 0 and result.resolved and result.better
    assert result.difference.improvement > 0.99
    assert "points of k-NN, where lower is better, [" in result.sentence and result.sentence.endswith("resolved.")
    assert (answer(results).best(KNN) or {})["real images"] == "8000"  # of the smallest error


def test_a_score_that_is_no_percent_has_its_own_digits() -> None:
    results = study_results({"half flow": [0.1, 0, 0]}, contrasts=[AT_500], seeds=5)
    cells = [
        replace(cell, report=replace(cell.report, rows=tuple(replace(row, percent=False) for row in cell.report.rows)))
        for cell in results.cells
    ]
    result = first(answer(replace(results, cells=tuple(cells))))
    assert f"{result.difference.value:+.2g} in k-NN [" in result.sentence
    assert abs(result.difference.value) < 1


def test_one_seed_resolves_nothing_and_says_so() -> None:
    answers = answer(study_results({"half flow": [0.3, 0, 0]}, contrasts=[AT_500], seeds=1))
    result = first(answers)
    assert result.low > 0 and not result.resolved
    assert f"over the test images; {ONE_SEED}. Real only, real images: " in answers.sentences["enough"]
    assert answers.sentences["enough"].count(", one seed, exploratory") == 2
    assert any(note.endswith(ONE_SEED) for note in answers.notes)


def test_only_common_seeds_are_paired_and_a_note_says_so() -> None:
    results = study_results({"half flow": [0.1, 0, 0]}, contrasts=[AT_500], without=[("half flow", 500, 1)])
    answers = answer(results)
    assert first(answers).difference.seeds == 2
    expected = f"{AT_500.name}: paired by seeds 0, 2; seed 1 is in one of the two cells alone and left out"
    assert expected in answers.notes


def test_left_out_seeds_are_said_once_for_all_scores_and_comparisons() -> None:
    gains, missing = {"half flow": [0.1, 0, 0]}, [("half flow", number, 1) for number in (500, 2000)]
    results = study_results(gains, contrasts=[AT_500, AT_2000], without=missing)
    notes = [note for note in answer(results).notes if "paired by" in note]
    seeds = "paired by seeds 0, 2; seed 1 is in one of the two cells alone and left out"
    assert notes == [f"{AT_500.name}, {AT_2000.name}: {seeds}"]


def test_left_out_seeds_of_one_score_name_it() -> None:
    results = study_results({"half flow": [0.1, 0, 0]}, contrasts=[AT_500])
    arm, cells = results.study.complete(AT_500.one), []
    for cell in results.cells:
        rows = [row for row in cell.report.rows if (cell.levels, cell.seed, row.protocol) != (arm, 1, "linear")]
        cells.append(replace(cell, report=replace(cell.report, rows=tuple(rows))))
    (note,) = [note for note in answer(replace(results, cells=tuple(cells))).notes if "paired by" in note]
    assert note.startswith(f"{AT_500.name}: paired by seeds 0, 2; ") and note.endswith("left out (linear probe)")


def test_missing_cells_are_no_answer_yet() -> None:
    missing = [("half flow", 500, seed) for seed in range(3)]
    answers = answer(study_results({"half flow": [0, 0, 0]}, contrasts=[AT_500, AT_2000], without=missing))
    assert f"Not run yet: {AT_500.name}." in answers.sentences["enough"]
    assert any(note.startswith("3 of 18 cells are not finished: ") for note in answers.notes)
    assert answers.estimate({"real images": "500", "images": "half flow"}, KNN) is None


@pytest.mark.parametrize(
    "reason", ["failed", "left out", "unreadable", "no such score", "no common seed", "not run yet"]
)
def test_a_comparison_without_a_result_is_named_by_its_reason(reason: str) -> None:
    """Named defect: all of them were "not run yet"."""
    contrasts, without = [AT_500, AT_2000], ALL if reason in ("failed", "left out", "unreadable", "not run yet") else []
    no_score = [(*cell, KNN) for cell in ALL] if reason == "no such score" else []
    if reason == "no common seed":
        without = [("half flow", 500, 0), ("half flow", 500, 1), ("real only", 500, 2)]
    results = study_results({"half flow": [0, 0, 0]}, contrasts=contrasts, without=without, no_score=no_score)
    every = study_results({"half flow": [0, 0, 0]}, contrasts=contrasts).of(results.study.complete(AT_500.one))
    if reason == "failed":
        failed = [FailedCell(cell.cell, cell.levels, cell.seed, "no memory") for cell in every.values()]
        results = replace(results, failed=tuple(failed))
    if reason == "left out":
        results = replace(results, left_out=tuple(every.values()))
    if reason == "unreadable":
        results = replace(results, unreadable=tuple(cell for cell in results.study.cells() if cell.seed in every))
    answers = answer(results)
    assert answers.questions["enough"].missing == [MissingContrast(AT_500.name, reason)]
    assert f" {reason[0].upper()}{reason[1:]}: {AT_500.name}." in answers.sentences["enough"]
    assert ("Not run yet" in answers.sentences["enough"]) == (reason == "not run yet")
    unfinished = [note for note in answers.notes if "cells are not finished" in note]
    assert bool(unfinished) == (reason in ("not run yet", "no common seed"))


def test_nothing_finished_is_no_crash() -> None:
    results = study_results({"half flow": [0, 0, 0]}, contrasts=[AT_500, RATIO])
    answers = answer(replace(results, cells=()))
    assert answers.sentences["enough"] == f"No answer yet. Not run yet: {AT_500.name}."
    assert (answers.estimates, answers.contrasts, answers.headline, answers.best(KNN)) == ([], [], None, None)


def test_failed_cells_and_the_readers_notes_reach_the_notes() -> None:
    results = study_results({"half flow": [0, 0, 0]}, contrasts=[AT_500], without=[("half flow", 500, 1)])
    failed = FailedCell("x", {"real images": "500", "images": "half flow"}, 1, "the loss is not finite")
    answers = answer(replace(results, failed=(failed,), notes=("a cell of another version is left out",)))
    assert answers.notes[:2] == [
        "a cell of another version is left out",
        "real images 500, images half flow, seed 1: failed (the loss is not finite)",
    ]
    assert not any("not finished" in note for note in answers.notes)


def test_a_score_that_some_cells_lack_is_noted() -> None:
    results = study_results({"half flow": [0.1, 0, 0]}, contrasts=[AT_500], no_score=[("half flow", 500, 2, ROBUST)])
    answers = answer(results)
    name = "accuracy on corrupted images"
    assert f"{name}: no finite score in real images 500, images half flow, seed 2" in answers.notes
    assert (first(answers, ROBUST).difference.seeds, first(answers).difference.seeds) == (2, 3)


def test_draws_of_labels_are_averaged_per_image() -> None:
    results = study_results({"half flow": [0.1, 0, 0]}, contrasts=[AT_500])
    drawn = with_values(results, lambda arm, seed, values: np.stack([values, 1 - values, values]))
    plain, of_draws = (answer(one).estimate(results.cells[0].levels, KNN) for one in (results, drawn))
    assert plain is not None and of_draws is not None
    assert of_draws.estimate.value == pytest.approx((plain.estimate.value + 100) / 3)


def test_a_share_stays_within_its_bounds() -> None:
    results = study_results({}, alone=(0.4, 0.5, 0.99), seeds=2, seed_effect=0.05, images=100)
    estimate = answer(results).estimate({"real images": "8000", "images": "real only"}, KNN)
    assert estimate is not None and estimate.estimate.high == 100.0 and estimate.estimate.low < 99


def test_exploratory_differences_are_against_the_baseline_at_the_same_number() -> None:
    results = study_results({"half flow": [0.2, 0.2, 0.2]}, contrasts=[AT_500], seeds=5)
    pairs = exploratory_comparisons(results.study)
    assert [pair.name for pair in pairs] == [
        "2000 instead of 500", "half flow instead of real only, real images 2000",
        "8000 instead of 500", "half flow instead of real only, real images 8000",
        "8000 instead of 2000",
    ]  # fmt: skip
    explored = [result for result in answer(results).contrasts if not result.primary and "flow" in result.name]
    assert all(result.resolved and "(exploratory)" in result.sentence for result in explored)
    assert all(result.question is None for result in explored)


def test_where_contrasts_run_along_the_axis_so_do_exploratory_differences() -> None:
    from syn2co.studies.shipped.ratio import study

    names = [pair.name for pair in exploratory_comparisons(study)]
    assert names[0] == "0.1 instead of 0"
    assert "0.5 instead of 0, real images 4000" in names and "4000 instead of 500, synthetic share 0" in names


def test_enough_says_where_faking_stops_to_help_and_what_it_is_worth() -> None:
    """At 500 the mix scores what 1,000 real images alone do: halfway to 2,000 on the logarithm."""
    answers = answer(
        study_results(
            {"half flow": [0.1, 0.0, -0.1]}, alone=(0.3, 0.5, 0.7), contrasts=[AT_500, AT_2000, AT_8000], seeds=5,
            images=10_000,
        )
    )  # fmt: skip
    text = answers.sentences["enough"]
    assert "Half flow: better with 500 real images, not resolved with 2000, worse with 8000." in text
    worth = text.partition("500 real images with half flow are worth about ")[2]
    number, low, high = (
        int(word.strip("[].,").replace(",", "")) for word in worth.split() if word[-1:].isdigit() or "]" in word
    )
    assert low < 1000 < high and 900 <= number <= 1100
    assert "2000 real images with" not in text


@pytest.mark.parametrize(
    ("gain", "words"),
    [(0.5, "are worth more than 8,000 alone (exploratory)."), (0.0, "")],
    ids=["above the curve", "no gain"],
)
def test_worth_is_said_only_as_far_as_the_curve_supports_it(gain: float, words: str) -> None:
    results = study_results(
        {"half flow": [gain, 0, 0]}, alone=(0.2, 0.25, 0.3), contrasts=[AT_500], seeds=5, images=5000
    )
    text = answer(results).sentences["enough"]
    assert words in text and ("worth" in text) == bool(words)


def test_a_flat_curve_gives_a_lower_bound() -> None:
    """The upper end of the interval never comes down to zero."""
    results = study_results(
        {"half flow": [0.045, 0, 0]}, alone=(0.4, 0.44, 0.445), contrasts=[AT_500], seeds=5, images=10_000
    )
    assert "500 real images with half flow are worth at least " in answer(results).sentences["enough"]


def test_an_axis_without_numbers_has_no_worth() -> None:
    study = study_results({"half flow": [0, 0, 0]}).study
    assert list(axis_numbers(study)) == ["500", "2000", "8000"]
    assert axis_numbers(study.model_copy(update={"axis": "images"})) == {}
    assert axis_numbers(study.model_copy(update={"axis": None})) == {}


def best_share(answers: StudyAnswers, number: int = 500) -> str:
    """The sentence on the best share with so many real images, without its beginning."""
    return answers.sentences["ratio"].partition(f"With real images {number}, the best share")[2].partition(" With ")[0]


def test_more_real_images_alone_are_compared_with_the_fewest() -> None:
    """Named defect: whether more real images help at all, which is the question, was in no comparison."""
    answers = answer(study_results({"half flow": [0, 0, 0]}, alone=(0.3, 0.5, 0.3), contrasts=[AT_500], seeds=5))
    results = {result.name: result for result in answers.contrasts if result.key == KNN and not result.primary}
    more, many = results["2000 instead of 500"], results["8000 instead of 500"]
    assert more.resolved and more.better and not many.resolved
    number = more.number(more.difference.value)
    text = answers.sentences["enough"].partition("Real only, real images: ")[2]
    assert text.startswith(f"2000 against 500 {number} {more.ends}, resolved, exploratory; 8000 against 500 ")
    assert "not resolved, exploratory." in text


@pytest.mark.parametrize(
    ("alone", "least"),
    [((0.3, 0.5, 0.5), "2000"), ((0.5, 0.5, 0.4), "500"), ((0.3, 0.3, 0.5), ""), ((0.3, 0.5, 0.7), "")],
)
def test_the_least_number_that_no_larger_one_beats_is_enough(alone: tuple[float, ...], least: str) -> None:
    """Named defect: larger numbers were compared with the smallest alone, so that none but that could be enough."""
    results = study_results({"half flow": [0, 0, 0]}, alone=alone, contrasts=[AT_500], seeds=5, images=10_000)
    answers = answer(results)
    pairs = [one for one in answers.contrasts if one.key == KNN and one.name.endswith(f" instead of {least}")]
    most = max((pair.high for pair in pairs), default=0.0)
    assert answers.questions["enough"].first == (
        f"No gain from more than {least} real images alone is resolved (up to {max(0, most):+.1f} points remain "
        "possible; exploratory)."
        if least
        else MORE
    )
    assert answers.sentences["enough"].startswith(answers.questions["enough"].first)


def test_errors_that_fall_are_gains_too() -> None:
    results = study_results(
        {"half flow": [0, 0, 0]}, alone=(0.3, 0.5, 0.5), contrasts=[AT_500], seeds=5, lower_is_better=["knn"]
    )
    answers = answer(results)
    (pair,) = [one for one in answers.contrasts if one.key == KNN and one.name == "8000 instead of 2000"]
    assert answers.questions["enough"].first.startswith(
        f"No gain from more than 2000 real images alone is resolved (up to {max(0, -pair.low):+.1f} points remain "
    )


@pytest.mark.parametrize("lacking", ["seeds", "a cell"])
def test_one_seed_or_a_missing_cell_make_no_number_enough(lacking: str) -> None:
    without = [("real only", 8000, seed) for seed in range(5)] if lacking == "a cell" else []
    results = study_results(
        {"half flow": [0, 0, 0]}, alone=(0.5, 0.5, 0.5), contrasts=[AT_500], seeds=1 if lacking == "seeds" else 5,
        without=without,
    )  # fmt: skip
    assert answer(results).questions["enough"].first == ""


def test_a_number_that_the_study_leaves_out_hides_no_answer() -> None:
    """Named defect: the answer to how many are enough was empty for good, with all planned cells finished."""
    results = study_results({"half flow": [0, 0, 0]}, alone=(0.5, 0.5, 0.5), contrasts=[AT_500], seeds=5)
    only = ({"images": ("half flow",)}, {"images": ("real only",), "real images": ("500", "2000")})
    kept = [cell for cell in results.cells if cell.levels != {"images": "real only", "real images": "8000"}]
    study = results.study.model_copy(update={"only": only})
    text = answer(replace(results, study=study, cells=tuple(kept))).questions["enough"].first
    assert text.startswith("No gain from more than 500 real images alone is resolved")


def test_numbers_alone_are_compared_only_where_that_is_the_question() -> None:
    """Named defect: every study with numbers along its axis had more comparisons to be corrected for."""
    study = study_results({"half flow": [0, 0, 0]}, contrasts=[RATIO]).study
    assert "8000 instead of 2000" not in [pair.name for pair in exploratory_comparisons(study)]
    asked = study.model_copy(update={"contrasts": (AT_500,)})
    assert "8000 instead of 2000" in [pair.name for pair in exploratory_comparisons(asked)]
    faked = asked.model_copy(update={"baseline": {"real images": "500", "images": "half flow"}})
    assert "8000 instead of 2000" not in [pair.name for pair in exploratory_comparisons(faked)]


def test_one_number_of_real_images_is_not_said_to_be_enough() -> None:
    results = study_results({"half flow": [0.1]}, alone=(0.5,), numbers=(500,), contrasts=[AT_500], seeds=5)
    assert answer(results).questions["enough"].first == ""


def test_each_number_of_real_images_has_a_best_share() -> None:
    """Named defect: the sentence was of 500 real images alone, and did not say so."""
    gains = {"quarter flow": [0.05, 0, 0], "half flow": [0.1, 0, 0.1], "flow alone": [-0.1, 0, 0.2]}
    answers = answer(study_results(gains, contrasts=[RATIO], seeds=5))
    assert best_share(answers).startswith(" of synthetic images is 50 % (k-NN ")
    assert best_share(answers, 8000).startswith(" of synthetic images is 100 % (k-NN ")
    (against,) = [part for part in best_share(answers, 8000).split("; ") if "against 50 %" in part]
    table, levels = ScoreTable(answers.results, KNN), {"real images": "8000"}
    pair = CellPair("", None, {**levels, "images": "flow alone"}, {**levels, "images": "half flow"})
    shares = ("real only", "quarter flow", "half flow", "flow alone")
    others = [
        CellPair("", None, {"real images": number, "images": one}, {"real images": number, "images": other})
        for number in ("500", "2000", "8000")
        for one, other in combinations(shares, 2)
        if (number, one, other) != ("8000", "half flow", "flow alone")
    ]
    beside = [*others, *exploratory_comparisons(answers.results.study)]
    assert len(others) == 17
    result = table.compare([pair], primary=False, beside=beside)[0]
    assert result.ends in against, "corrected over all that was not planned"


def test_what_cells_differ_in_is_said() -> None:
    """Named defect: cells of unequal steps, or of several versions of torch, were compared without a word."""
    results = study_results({"half flow": [0, 0, 0]}, contrasts=[AT_500])
    assert not any("differ" in note for note in answer(results).notes)
    machines = [{"torch": "2.14.1", "device": "cpu"}, *[{"torch": "2.13.0", "device": "cpu"}] * 17]
    cells = []
    for number, (cell, machine) in enumerate(zip(results.cells, machines, strict=True)):
        said = ("frost", *(["a set is missing"] if number == 2 else []))
        report = replace(cell.report, metadata={"machine": machine}, notes=said)
        cells.append(replace(cell, steps=2900 if number == 4 else 3000, report=report))
    notes = answer(replace(results, cells=tuple(cells))).notes
    assert "cells took from 2,900 to 3,000 steps, and differ by that too" in notes
    assert "cells were scored by different torch: 17 by 2.13.0, 1 by 2.14.1" in notes
    assert not any("device" in note for note in notes)
    version = f"syn2co {cells[0].version}"
    unknown = "was not recorded; there may have been several"
    assert f"which state of {version} ran 18 of 18 cells {unknown}" in notes, "never silently taken for one"
    for number, said in ((1, "17 of 18"), (9, "9 of 18")):
        files = [replace(cell, source_hash="1b67" if place < number else "") for place, cell in enumerate(cells)]
        some = answer(replace(results, cells=tuple(files))).notes
        assert f"which state of {version} ran {said} cells {unknown}" in some
        assert not any("different states" in note for note in some)
    files = [replace(cell, source_hash="1b67" if place else "a00d") for place, cell in enumerate(cells)]
    several = answer(replace(results, cells=tuple(files))).notes
    assert f"cells were run by different states of {version}: 17 by 1b67, 1 by a00d" in several
    assert not any("not recorded" in note for note in several)
    asks = {name: {"config": {"training": {"precision": name}}} for name in ("bfloat16", "float32")}
    for number, other, said in (
        (5, asks["bfloat16"], "13 of 18 cells that ask for bfloat16"),  # the five are from before it was recorded
        (5, asks["float32"], "13 of 13 cells that ask for bfloat16"),  # the precision is what is studied
        (0, {}, ""),  # all alike
    ):
        emulated = {**asks["bfloat16"], "precision": "float32"}
        mixed = [replace(cell, **(other if place < number else emulated)) for place, cell in enumerate(cells)]
        unlike = [note for note in answer(replace(results, cells=tuple(mixed))).notes if "trained in" in note]
        assert len(unlike) == bool(said), unlike
        if said:
            assert unlike[0].startswith(f"{said} were trained in float32, since their device only emulates bfloat16;")
    as_asked = [replace(cell, **asks["bfloat16" if place < 5 else "float32"]) for place, cell in enumerate(cells)]
    assert not any("trained in" in note for note in answer(replace(results, cells=tuple(as_asked))).notes)
    assert not any("precision" in note for note in notes)
    assert notes[-2:] == ["frost", "a set is missing (1 of 18 cells)"], "what the evaluations said"


@pytest.mark.parametrize(("seeds", "said"), [(1, False), (2, True), (4, True), (5, False)])
def test_synthetic_negatives_compared_with_few_seeds_are_noted(seeds: int, said: bool) -> None:
    """With one seed nothing is compared at all, and another note says so."""
    about = AT_500.model_copy(update={"question": "negatives"})
    gains = {"half flow": [0.0, 0.0, 0.0]}
    notes = answer(study_results(gains, contrasts=[about], seeds=seeds)).notes
    few = f"synthetic negatives are compared with {seeds} seeds; an effect so small asks for 5 or more"
    assert (few in notes) is said
    assert few not in answer(study_results(gains, contrasts=[AT_500], seeds=seeds)).notes


def test_the_best_ratio_is_held_against_none_and_its_neighbors() -> None:
    gains = {
        "quarter flow": [0.05, 0, 0],
        "half flow": [0.1, 0, 0],
        "flow alone": [-0.1, 0, 0],
        "flow, then real": [0.3, 0, 0],
    }
    answers = answer(study_results(gains, contrasts=[RATIO], seeds=5))
    result, text = first(answers), best_share(answers)
    assert text.startswith(" of synthetic images is 50 % (k-NN ")
    assert f"against 0 % {result.number(result.difference.value)} {result.ends}, resolved; against 25 % " in text
    assert "against 100 % " in text and text.count("exploratory") == 2


def test_no_faking_can_be_the_best_ratio() -> None:
    gains = {"quarter flow": [-0.1, 0, 0], "half flow": [-0.2, 0, 0], "flow alone": [-0.3, 0, 0]}
    text = best_share(answer(study_results(gains, contrasts=[RATIO], seeds=5)))
    assert text.startswith(" of synthetic images is 0 % (") and text.count("against") == 1


def test_a_planned_comparison_counts_in_whichever_direction() -> None:
    """Named defect: with no faking as the best share, its neighbor's primary contrast was called exploratory."""
    contrast = RATIO.model_copy(update={"one": {"images": "quarter flow"}})
    gains = {"quarter flow": [-0.1, 0, 0], "half flow": [-0.2, 0, 0], "flow alone": [-0.3, 0, 0]}
    answers = answer(study_results(gains, contrasts=[contrast], seeds=5))
    result, text = first(answers), best_share(answers)
    low, high = result.number(-result.high), result.number(-result.low)
    assert f"against 25 % {result.number(-result.difference.value)} [{low}, {high}], resolved." in text
    assert "exploratory" not in text
    assert (result.reverse.one, result.reverse.other, result.reverse.low) == (result.other, result.one, -result.high)
    assert result.reverse.better and result.reverse.difference.improvement > 0.99


def test_a_best_share_of_one_seed_says_so() -> None:
    gains = {"quarter flow": [0.05, 0, 0], "half flow": [0.2, 0, 0], "flow alone": [-0.1, 0, 0]}
    answers = answer(study_results(gains, contrasts=[RATIO], without=ALL[1:]))
    text = best_share(answers)
    assert text.startswith(" of synthetic images is 50 % (k-NN ") and ", one seed; others have up to 3): " in text
    assert text.count("], one seed") == 3 and "resolved" not in text and text.endswith(f"; {ONE_SEED}.")
    text = best_share(answer(study_results(gains, contrasts=[RATIO])))
    assert " %, 3 seeds): against 0 % " in text and "one seed" not in text


def test_a_best_share_without_a_common_seed_says_so() -> None:
    """Named defect: the sentence ended in "(k-NN 59.6 %): ."."""
    without = [("quarter flow", 500, 0), *[("real only", 500, seed) for seed in (1, 2)], ("half flow", 500, 0)]
    gains = {"quarter flow": [0.05, 0, 0], "half flow": [0.2, 0, 0]}
    text = answer(study_results(gains, contrasts=[RATIO], without=without)).sentences["ratio"]
    assert f"No common seed: {RATIO.name}." in text
    assert " %, 2 seeds): against 0 % no common seed; against 25 % " in text


def test_the_random_encoder_stands_apart_on_other_images() -> None:
    """Named defect: "measured -3.2 to +17.2 points" of faking, where +17.2 was the random encoder."""
    contrasts, gains = [AGAINST_RANDOM, AT_500, AT_2000], {"half flow": [0, 0, 0], "random encoder": [-0.3] * 3}
    answers = answer(study_results(gains, contrasts=contrasts, seeds=5))
    for question, key in (("robust", ROBUST), ("transfers", DIGITS)):
        one, random = answers.questions[question], first(answers, key)
        assert random.name == AGAINST_RANDOM.name and random.resolved
        assert [result.name for result in one.contrasts] == [AT_500.name, AT_2000.name]
        assert one.said.startswith("None of 2 comparisons is resolved") and AGAINST_RANDOM.name not in one.said
        assert one.more == random.sentence and answers.sentences[question] == f"{one.said} {one.more}"
    alone = answer(study_results(gains, contrasts=[AGAINST_RANDOM])).questions["robust"]
    assert (len(alone.contrasts), alone.more) == (1, "")
    lacking = [("random encoder", 500, seed) for seed in range(3)]
    lacking = answer(study_results(gains, contrasts=contrasts, without=lacking)).questions["robust"]
    assert lacking.more == f"Not run yet: {AGAINST_RANDOM.name}." and not lacking.missing


def test_corrupted_images_and_other_data_have_sentences() -> None:
    answers = answer(study_results({"half flow": [0.1, 0, 0]}, contrasts=[AT_500], seeds=5))
    assert "points of accuracy on corrupted images [" in answers.sentences["robust"]
    assert "points of k-NN on digits [" in answers.sentences["transfers"]
    assert list(answers.sentences) == ["enough", "robust", "transfers"]


def test_the_study_s_first_protocol_is_the_headline() -> None:
    results = study_results({"half flow": [0.1, 0, 0]}, contrasts=[AT_500])
    study = results.study.model_copy(update={"protocols": ("linear", "knn")})
    assert answer(replace(results, study=study)).headline == LINEAR
    assert not any("which decides" in note for note in answer(replace(results, study=study)).notes)
    study = results.study.model_copy(update={"protocols": ("few-shot",)})
    answers = answer(replace(results, study=study))
    assert answers.headline == KNN
    assert "no cell has numbers of few-shot, which decides; the answers are about k-NN instead" in answers.notes


def test_a_cell_without_any_score_is_noted() -> None:
    no_score = [("half flow", 500, 1, key) for key in SCORES]
    answers = answer(study_results({"half flow": [0.1, 0, 0]}, contrasts=[AT_500], no_score=no_score))
    assert "real images 500, images half flow, seed 1: finished without any score" in answers.notes


def test_estimates_are_found_and_the_best_is_named() -> None:
    answers = answer(study_results({"half flow": [0.0, 0.0, 0.2]}))
    assert answers.best(KNN) == {"real images": "8000", "images": "half flow"}
    estimate = answers.estimate({"images": "real only", "real images": "500"}, DIGITS)
    assert estimate is not None and estimate.percent and estimate.estimate.seeds == 3
    assert estimate.estimate.low < 50 < estimate.estimate.high
    assert len(answers.estimates) == 6 * len(SCORES)


def test_a_score_that_is_no_number_is_left_out_and_noted() -> None:
    """Named defect: one cell with a NaN took the page of all the others with it."""
    results = study_results({"half flow": [0.1, 0, 0]}, contrasts=[AT_500])
    (cell,) = (
        one for one in results.cells if one.levels == {"real images": "500", "images": "half flow"} and one.seed == 2
    )
    rows = tuple(replace(row, values=row.values * np.nan) if row.protocol == "knn" else row for row in cell.report.rows)
    broken = replace(cell, report=replace(cell.report, rows=rows))
    answers = answer(replace(results, cells=tuple(broken if one is cell else one for one in results.cells)))
    assert "k-NN: no finite score in real images 500, images half flow, seed 2" in answers.notes
    assert first(answers).difference.seeds == 2
