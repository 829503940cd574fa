"""Does a supervised run learn? By its cross-entropy against that of equal logits, ln C nats for C classes.

`gain` is 1 - loss / ln C, medians over the last quarter; small runs of the recipe demo with labels (batch 64, width 96,
depth 1; photographs: 16 classes, digits: 10) that were left alone, or had another optimizer.base_lr than 0.004:

    run                           gain   top-1 of the views
    photographs, 52 steps         .19           .31
    photographs, 200 steps        .46           .61
    digits, 52 steps              .062          .20
    digits, 200 steps             .19           .35
    photographs, base_lr 1e-10   -.003          .07
    photographs, base_lr 1e-6    -.002          .07
    photographs, base_lr 1e-5     .002          .10
    photographs, base_lr 1e-4     .041          .17
"""

from collections.abc import Iterator

from syn2co.core.findings import Finding
from syn2co.diagnostics.evidence import Evidence
from syn2co.diagnostics.learning import MIN_RECORDS, MIN_STEPS, too_short
from syn2co.diagnostics.suspects import assignment, suspects

FLAT_GAIN = 0.02  # base_lr 1e-5: .002; left alone: .062 after 52 steps


def classification(evidence: Evidence) -> Iterator[Finding]:
    """Yield the one verdict on what the loss of a supervised run shows."""
    if evidence.step < MIN_STEPS or len(evidence.phase) < MIN_RECORDS:
        yield too_short(evidence)
        return
    loss, line, top1 = (evidence.late(name) for name in ("loss", "uninformative", "top1"))
    gain = 1 - loss / line
    numbers = {"loss": loss, "uninformative": line, "top1": top1, "gain": gain}
    reason = (
        f"cross-entropy {loss:.2f} nats, {line:.2f} where all classes are equal; top-1 of the training views "
        f"{100 * top1:.0f} %"
    )
    if gain >= FLAT_GAIN:
        yield Finding("healthy", "pass", reason, numbers)
        return
    config = evidence.config
    rate = config.optimizer.base_lr * (4 if gain > -FLAT_GAIN else 0.25)  # above its line: too large
    advice = tuple(suspects(config)) or (
        f"set {assignment('optimizer.base_lr', rate)} in a new run",
        "look at the labels: names of folders that say nothing about their images give nothing to learn",
    )
    yield Finding("flat", "fail", reason, numbers, advice)
