"""What is wrong with a run, in words: `doctor` reads a run folder, judges it and says which setting to change."""

from pathlib import Path

from syn2co.diagnostics.diagnosis import Diagnosis
from syn2co.diagnostics.evidence import read_evidence
from syn2co.diagnostics.learning import learning, unstable
from syn2co.diagnostics.negatives import masked, negatives
from syn2co.diagnostics.state import broken_images, damaged, nonfinite, starved, unfinished

CHECKS = (nonfinite, damaged, learning, unstable, negatives, masked, starved, broken_images, unfinished)


def doctor(run: str | Path) -> Diagnosis:
    """Return what the metrics and the folder of a run say about it; nothing is changed, a live run may be asked.

    Raises:
        ConfigError: if `run` is no run folder, or its config or metrics cannot be read.
    """
    evidence = read_evidence(Path(run))
    findings = tuple(finding for check in CHECKS for finding in check(evidence))
    return Diagnosis(str(run), evidence.summary(), findings)
