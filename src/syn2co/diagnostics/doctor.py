"""Diagnosis of a run, in words: `doctor` reads a run folder, judges it and says which setting to change."""

from pathlib import Path

from syn2co.core.paths import user_path
from syn2co.diagnostics.classification import classification
from syn2co.diagnostics.diagnosis import Diagnosis
from syn2co.diagnostics.evidence import Evidence, read_evidence
from syn2co.diagnostics.learning import learning, unstable, warmup
from syn2co.diagnostics.negatives import masked, negatives
from syn2co.diagnostics.state import broken_images, damaged, dark_images, nonfinite, starved, stopped_early, unfinished

CHECKS = (
    nonfinite, damaged, learning, warmup, unstable, negatives, masked, starved, broken_images, dark_images,
    stopped_early, unfinished,
)  # fmt: skip
SUPERVISED_CHECKS = (
    nonfinite,
    damaged,
    classification,
    warmup,
    starved,
    broken_images,
    dark_images,
    stopped_early,
    unfinished,
)


def doctor(run: str | Path) -> Diagnosis:
    """Return the diagnosis of a run from its folder; nothing is changed, and the run may still be under way.

    A supervised run is judged by its cross-entropy; collapse, stability and negatives are judged in contrastive runs.

    Args:
        run: run folder of `pretrain`.

    Returns:
        The findings in the order of the checks, each with its reason and what to do.

    Raises:
        ConfigError: if `run` is no run folder, or its config or metrics cannot be read.

    Example:
        >>> small = ["training.steps=1", "training.batch=8", "queue.size=64", "negatives.hardest=16", "heads.hidden=64"]
        >>> run = syn2co.pretrain("demo", out="run", real=["builtin:digits:test"], settings=small, progress=False)
        >>> doctor(run.folder).headline
        'negatives on (too short to tell)'
    """
    return judge(read_evidence(user_path(run)), str(run))


def judge(evidence: Evidence, run: str) -> Diagnosis:
    """Return the diagnosis of a run, which is given as `run`, by what was read of it."""
    checks = SUPERVISED_CHECKS if evidence.config.training.objective == "supervised" else CHECKS
    findings = tuple(finding for check in checks for finding in check(evidence))
    return Diagnosis(run, evidence.summary(), findings)
