"""Are the synthetic negatives, and the real ones, in the loss?

Measured share of softmax mass of all kinds together: recipes demo and synco-cifar10 .35 to .78, demo shrunk .59; one
interpolated negative a query .009. Masked share: 0 to .0002 in all of them (1 / images, as a queue holds few repeats);
a run on 3 images .33. The papers keep the window open for 23 % of the run; .05 is ours.
"""

from collections.abc import Iterator
from statistics import median
from typing import Any

from syn2co.core.findings import Finding
from syn2co.diagnostics.evidence import Evidence
from syn2co.diagnostics.suspects import assignment, usual
from syn2co.objective import KINDS

MIN_MASS = 0.03
MIN_WINDOW = 0.05
MAX_MASKED = 0.2
OFF = "negatives off"


def negatives(evidence: Evidence) -> Iterator[Finding]:
    """Yield a finding if the synthetic negatives are not in the loss, or are there and weigh nothing."""
    if not evidence.config.negatives.total:
        yield _no_counts(evidence)
        return
    share = _window_share(evidence)
    if share is not None and share < MIN_WINDOW:
        yield _narrow(evidence, share)
        return
    active = [record for record in evidence.records if record.get("synthetic")]
    if active:
        yield from _weightless(evidence, active)
    if evidence.records and not evidence.records[-1].get("synthetic"):
        yield _closed(evidence, active)


def masked(evidence: Evidence) -> Iterator[Finding]:
    """Yield a finding if many real negatives are of the query's own group; above one half a run stops."""
    share = max(evidence.series("masked_share")[-3:], default=0.0)
    if share < MAX_MASKED:
        return
    reason = (
        f"{100 * share:.0f} % of the real negatives are of the query's own group and left out; above 50 % a run stops"
    )
    advice = [
        "add images of other groups to data.real",
        f"set {assignment('negatives.mask_groups', False)} in a new run, if the groups are wrong",
    ]
    if evidence.images and evidence.config.queue.size > evidence.images:
        advice.insert(
            0, f"set {assignment('queue.size', evidence.images)} in a new run: more keys than images repeat them"
        )
    yield Finding("masked", "fail", reason, {"masked_share": share}, tuple(advice))


def _no_counts(evidence: Evidence) -> Finding:
    counts = {kind: n for kind, n in usual(evidence.config).negatives.counts.items() if n}
    if not counts:
        reason = "plain MoBY by its settings: all counts of synthetic negatives are 0"
        return Finding("no synthetic negatives", "info", reason, {"count": 0})
    settings = " ".join(f"--set {assignment(f'negatives.{kind}', n)}" for kind, n in counts.items())
    reason = f"all counts are 0, and recipe {evidence.config.recipe} has {sum(counts.values())} per query"
    return Finding(OFF, "fail", reason, {"count": 0}, (f"in a new run: {settings}",))


def _window_share(evidence: Evidence) -> float | None:
    """Return the share of the whole run's steps whose window is open; None while its length is unknown."""
    if not (evidence.total and evidence.steps_per_epoch):
        return None
    settings, epochs = evidence.config.negatives, evidence.total / evidence.steps_per_epoch
    stop = epochs if settings.stop is None else min(settings.stop, epochs)
    return max(0.0, stop - settings.start) / epochs


def _narrow(evidence: Evidence, share: float) -> Finding:
    settings = evidence.config.negatives
    epochs = (evidence.total or 0) / (evidence.steps_per_epoch or 1)
    stop = "the end" if settings.stop is None else f"{settings.stop:g}"
    percent = f"{100 * share:.1f} % of the {epochs:.3g} epochs"
    reason = f"the window is open from epoch {settings.start:g} to {stop}, for {percent}"
    whole = f"--set {assignment('negatives.start', 0.0)} --set {assignment('negatives.stop', None)}"
    return Finding(OFF, "fail", reason, {"window_share": share}, (f"in a new run: {whole} (the whole run)",))


def _weightless(evidence: Evidence, active: list[dict[str, Any]]) -> Iterator[Finding]:
    masses = [
        sum(record.get(f"mass/{kind}") or 0.0 for kind in KINDS) for record in active[-max(3, len(active) // 4) :]
    ]
    mass, total = median(masses), evidence.config.negatives.total
    if mass >= MIN_MASS:
        reason = f"on, with {100 * mass:.0f} % of the softmax mass ({total} per query)"
        yield Finding("negatives on", "pass", reason, {"mass": mass})
        return
    reason = f"{total} a query carry {100 * mass:.2g} % of the softmax mass, so they change next to nothing"
    settings = " ".join(f"--set {assignment(f'negatives.{kind}', 128)}" for kind in KINDS[:3])
    yield Finding(OFF, "fail", reason, {"mass": mass, "count": total}, (f"in a new run: {settings}",))


def _closed(evidence: Evidence, active: list[dict[str, Any]]) -> Finding:
    settings, per_epoch = evidence.config.negatives, evidence.steps_per_epoch or 1
    epoch = evidence.records[-1]["step"] / per_epoch
    numbers = {"epoch": epoch, "start": settings.start}
    if settings.stop is not None and epoch >= settings.stop:
        reason = f"the window closed at epoch {settings.stop:g}, as its settings say (negatives.stop)"
        return Finding("window closed", "info", reason, {**numbers, "stop": settings.stop})
    if epoch <= settings.start + 1 / per_epoch:
        opens = round(settings.start * per_epoch)
        reason = (
            f"synthetic negatives join at epoch {settings.start:g} (step {opens}, negatives.start); now {epoch:.3g}"
        )
        return Finding("window not open yet", "info", reason, numbers)
    reason = f"the settings open the window at epoch {settings.start:g}, and the metrics say it is shut at {epoch:.3g}"
    advice = "the folder's config.json is not what trained it: start a new run with `--config`"
    return Finding(OFF, "fail", reason, {**numbers, "records_on": len(active)}, (advice,))
