"""Results of a study without any run: right and wrong answers drawn from a known truth."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from syn2co.core.keyed_rng import generator
from syn2co.evaluation.results import EvaluationReport
from syn2co.evaluation.scores import Score
from syn2co.studies.grid import Contrast, Level, Study
from syn2co.studies.results import CellResult, ScoreKey, StudyResults

ARMS = {
    "real only": Level(images="real"),
    "quarter flow": Level(images="mixed", source="flow", share=0.25),
    "half flow": Level(images="mixed", source="flow", share=0.5),
    "flow alone": Level(images="synthetic", source="flow"),
    "flow, then real": Level(images="then", source="flow", share=0.5),
    "random encoder": Level(images="untrained"),
}
SCORES = {
    ScoreKey("knn", "given"): 0.0,
    ScoreKey("linear", "given"): 0.05,
    ScoreKey("robustness", "given"): -0.1,
    ScoreKey("knn", "digits"): 0.1,
}
"""Scores of every cell, with what each adds to the truth."""


def curve_study(
    arms: Collection[str],
    numbers: Sequence[int] = (500, 2000, 8000),
    *,
    seeds: int = 3,
    contrasts: Sequence[Contrast] = (),
) -> Study:
    """A study of the numbers of real images (its axis) and of ways to add faked ones (its curves)."""
    return Study(
        name="curve",
        title="How many images are enough?",
        recipe="demo",
        factors={
            "real images": {str(number): Level(real_images=number) for number in numbers},
            "images": {arm: ARMS[arm] for arm in arms},
        },
        baseline={"real images": str(numbers[0]), "images": "real only"},
        contrasts=tuple(contrasts),
        seeds=seeds,
        axis="real images",
        versus="images",
    )


def study_results(
    gains: Mapping[str, Sequence[float]],
    *,
    alone: Sequence[float] = (0.40, 0.50, 0.60),
    numbers: Sequence[int] = (500, 2000, 8000),
    contrasts: Sequence[Contrast] = (),
    seeds: int = 3,
    images: int = 2000,
    seed_effect: float = 0.004,
    lower_is_better: Collection[str] = (),
    without: Collection[tuple[str, int, int]] = (),
    no_score: Collection[tuple[str, int, int, ScoreKey]] = (),
) -> StudyResults:
    """Return a finished study whose true scores are known.

    Args:
        gains: per arm, what it adds to the share of right answers at each number of real images.
        alone: share of right answers of real images alone at each number.
        numbers: levels of the axis.
        contrasts: primary ones.
        seeds: seeds of every cell.
        images: test images of every score.
        seed_effect: standard deviation of a seed's effect on that share.
        lower_is_better: protocols whose values are turned into errors.
        without: (arm, number, seed) of the cells that are missing.
        no_score: (arm, number, seed, score) that their cells lack.
    """
    arms = {"real only": [0.0] * len(numbers), **gains}
    study = curve_study(list(arms), numbers, seeds=seeds, contrasts=contrasts)
    cells = []
    for cell in study.cells():
        arm, number = cell.levels["images"], int(cell.levels["real images"])
        if (arm, number, cell.seed) in without:
            continue
        index = list(numbers).index(number)
        effect = seed_effect * generator("study, seed", arm, number, cell.seed).standard_normal()
        rows = [
            _score(
                key,
                alone[index] + arms[arm][index] + offset + effect,
                (arm, number, cell.seed),
                images,
                lower_is_better,
            )
            for key, offset in SCORES.items()
            if (arm, number, cell.seed, key) not in no_score
        ]
        report = EvaluationReport(tuple(rows), (), {})
        cells.append(CellResult(f"{arm} {number} {cell.seed}", cell.levels, cell.seed, report))
    return StudyResults(study, tuple(cells))


def _score(
    key: ScoreKey, share: float, cell: tuple[str, int, int], images: int, lower_is_better: Collection[str]
) -> Score:
    difficulty = 0.3 * (generator("study, images", *key).random(images) - 0.5)
    right = generator("study, answers", *key, *cell).random(images) < share + difficulty
    lower = key.protocol in lower_is_better
    values = (right != lower).astype(np.float64)
    return Score(
        protocol=key.protocol, encoder="run", data=key.data, metric="top-1", value=100 * float(values.mean()), low=0.0,
        high=100.0, n_test=images, n_train=100, seed=0, draws=1, setting="", protocol_hash=f"p {key.protocol}",
        data_fingerprint=f"d {key.data}", encoder_hash=" ".join(map(str, cell)), higher_is_better=not lower,
        values=values,
    )  # fmt: skip
