"""One sentence per question of a study, from the comparisons and the scores of its headline."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from syn2co.evaluation.scores import Score
from syn2co.studies.best_share import best_shares
from syn2co.studies.comparisons import (
    GIVEN,
    CellPair,
    ContrastResult,
    MissingContrast,
    primary_comparisons,
    resolvable,
    shown,
)
from syn2co.studies.evidence import StudyEvidence
from syn2co.studies.how_many import enough, how_many
from syn2co.studies.results import ScoreKey
from syn2co.studies.statistics import ONE_SEED

ROBUST = ("robustness", "corrupt", "imagenet")
"""Beginnings of the protocols that score changed or other images of the same classes."""


@dataclass(frozen=True)
class QuestionAnswer:
    """What a study says to one question."""

    contrasts: Sequence[ContrastResult]
    """The comparisons on whose resolution it rests, of one score or several."""
    missing: Sequence[MissingContrast]
    """The planned ones among them that have no result, by score."""
    said: str
    """All of them in words."""
    more: str
    """What else is known; empty if nothing is."""
    first: str = ""
    """What answers the question before the comparisons do: how many real images are enough; empty if nothing does."""

    @property
    def text(self) -> str:
        """The whole answer."""
        return " ".join(part for part in (self.first, self.said, self.more) if part)


def question_answers(evidence: StudyEvidence) -> dict[str, QuestionAnswer]:
    """Return the answer to each question that the study asks or has scores for."""
    pairs, first = primary_comparisons(evidence.study), evidence.headline if evidence.tables else None
    answers: dict[str, QuestionAnswer] = {}
    more: dict[str, Callable[[StudyEvidence], list[str]]] = {"enough": how_many, "ratio": best_shares}
    for question in dict.fromkeys(contrast.question for contrast in evidence.study.contrasts):
        texts = more[question](evidence) if question in more and evidence.tables else []
        answer = _answer(evidence, [first], [pair for pair in pairs if pair.question == question], texts)
        answers[question] = replace(answer, first=enough(evidence) if question == "enough" and evidence.tables else "")
    rows = {key: table.some for key, table in evidence.tables.items()}
    transfer = transfer_scores(rows, evidence.study.protocols[0])
    trained = [pair for pair in pairs if pair.question != "random"] or pairs
    untrained = [pair for pair in pairs if pair not in trained]
    for question, keys in (("robust", robustness_scores(rows)), ("transfers", transfer)):
        if keys and pairs:
            apart = [text for key in keys if (text := _one_by_one(evidence, key, untrained))]
            answers[question] = _answer(evidence, keys, trained, apart)
    return answers


def _answer(
    evidence: StudyEvidence, keys: Sequence[ScoreKey | None], pairs: Sequence[CellPair], more: Sequence[str]
) -> QuestionAnswer:
    by_key = [(evidence.primary(key, pairs), evidence.missing(key, pairs)) for key in keys]
    return QuestionAnswer(
        [result for results, _ in by_key for result in results],
        [one for _, missing in by_key for one in missing],
        " ".join(summary(results, missing) for results, missing in by_key),
        " ".join(more),
    )


def _one_by_one(evidence: StudyEvidence, key: ScoreKey, pairs: Sequence[CellPair]) -> str:
    """Return a sentence for each comparison; those with a random encoder say nothing of the ways to train."""
    said = [result.sentence for result in evidence.primary(key, pairs)]
    return " ".join([*said, *_lacking(evidence.missing(key, pairs))])


def _lacking(missing: Sequence[MissingContrast]) -> list[str]:
    """Return a sentence per reason for which comparisons have no result."""
    reasons = dict.fromkeys(one.reason for one in missing)
    names = {reason: "; ".join(one.name for one in missing if one.reason == reason) for reason in reasons}
    return [f"{reason[:1].upper()}{reason[1:]}: {several}." for reason, several in names.items()]


def summary(results: Sequence[ContrastResult], missing: Sequence[MissingContrast]) -> str:
    """Return the comparisons of one score in words: which are resolved, which not, which have no result and why."""
    rest = "".join(f" {text}" for text in _lacking(missing))
    if len(results) < 2:
        return (results[0].sentence if results else "No answer yet.") + rest
    score, first = shown(results[0].key), results[0]
    lower = "" if first.higher_is_better else ", where lower is better"
    unit = f"points of {score}" if first.percent else score
    better, worse = ([one for one in results if one.resolved and one.better is side] for side in (True, False))
    open_ones = [result for result in results if result.tested and not result.resolved]
    once = [result for result in results if not result.tested]
    parts = {"Resolved": better, "Resolved, for the worse": worse, "Not resolved": open_ones,
             f"Not tested ({ONE_SEED})": once}  # fmt: skip
    said = [f"{title}: {'; '.join(one.brief for one in several)}{_closing(several) if several is open_ones else ''}."
            for title, several in parts.items() if several]  # fmt: skip
    count = len(better) + len(worse)
    text = f"{count or 'None'} of {len(results)} comparisons {'is' if count < 2 else 'are'} resolved ({unit}{lower})."
    return " ".join([text, *said]) + rest


def _closing(results: Sequence[ContrastResult]) -> str:
    """Return what those that are not resolved could have shown at best, by the one that was measured worst."""
    known = [result for result in results if result.difference.smallest is not None]
    if not known:
        return ""
    worst = max(known, key=lambda result: result.difference.smallest or 0)
    return f"; {resolvable(worst)}{' (the least certain one)' if len(known) > 1 else ''}"


def robustness_scores(rows: Mapping[ScoreKey, Score]) -> list[ScoreKey]:
    """Return the accuracies on changed or other images of the same classes, or else whatever there is of them."""
    keys = [key for key in rows if key.protocol.startswith(ROBUST) and key.data in GIVEN]
    return [key for key in keys if rows[key].percent and rows[key].higher_is_better] or keys


def transfer_scores(rows: Mapping[ScoreKey, Score], protocol: str) -> list[ScoreKey]:
    """Return one score of each other data set: that of the study's first protocol, or else the first there is."""
    first: dict[str, ScoreKey] = {}
    for key in rows:
        if key.data not in GIVEN and (key.data not in first or key.protocol == protocol):
            first[key.data] = key
    return list(first.values())
