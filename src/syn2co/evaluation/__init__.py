"""Scores of a frozen encoder, one file a protocol: features and labels in, scores with intervals out."""

from syn2co.evaluation.features import extract
from syn2co.evaluation.intervals import Interval, paired_difference
from syn2co.evaluation.knn import knn_accuracy, neighbours
from syn2co.evaluation.report import EvaluationReport, Score
from syn2co.evaluation.run import PROTOCOLS, evaluate

__all__ = [
    "PROTOCOLS",
    "EvaluationReport",
    "Interval",
    "Score",
    "evaluate",
    "extract",
    "knn_accuracy",
    "neighbours",
    "paired_difference",
]
