"""Did the run come through? Non-finite stop, damaged checkpoints, waiting for data, broken images, not finished.

Measured share of time waiting for data, median over a run: .02 to .04 in runs left alone (recipes demo and
synco-cifar10), .07 in the shrunk demo; with 3 and 20 ms of sleep in each read .50 and .85.
"""

from collections.abc import Iterator
from statistics import median

from syn2co.core.cpus import available_cpus
from syn2co.core.findings import Finding
from syn2co.diagnostics.evidence import Evidence
from syn2co.diagnostics.suspects import assignment
from syn2co.images.decode import NEARLY_BLACK
from syn2co.images.quarantine import FEW_BROKEN, MAX_BROKEN_SHARE

MAX_WAIT = 0.25


def nonfinite(evidence: Evidence) -> Iterator[Finding]:
    """Yield a finding if the run stopped on a loss or gradient that was not finite."""
    step, config = evidence.nonfinite_step, evidence.config
    if step is None:
        return
    if evidence.step > step:
        reason = f"step {step} was not finite once; the run was repeated from a checkpoint and is past it"
        yield Finding("non-finite once", "info", reason, {"step": step})
        return
    reason = f"the run stopped at step {step} on a loss or gradient that was not finite; it would do so again"
    precise = (
        ()
        if config.training.precision != "bfloat16"
        else (f"set {assignment('training.precision', 'float32')} in a new run",)
    )
    yield Finding(
        "non-finite", "fail", reason, {"step": step},
        (
            f"look at the images of the batch, listed in nonfinite-step-{step}.json",
            f"set {assignment('optimizer.base_lr', config.optimizer.base_lr / 4)} in a new run",
            f"set {assignment('optimizer.warmup_epochs', max(1.0, 2 * config.optimizer.warmup_epochs))} in a new run",
            *precise,
        ),
    )  # fmt: skip


def damaged(evidence: Evidence) -> Iterator[Finding]:
    """Yield a finding if checkpoint files do not verify."""
    if evidence.refused is not None and not evidence.damaged:
        yield Finding("unreadable checkpoint", "fail", evidence.refused)
    if not evidence.damaged:
        return
    names, numbers = ", ".join(evidence.damaged), {"files": len(evidence.damaged)}
    if evidence.no_checkpoint_verifies:
        advice = ("copy one back from elsewhere, or start again: " + evidence.command + "-again",)
        yield Finding("damaged checkpoint", "fail", f"no checkpoint verifies: {names}", numbers, advice)
    else:
        reason = f"{names} does not verify; step {evidence.saved_step} does, and the run resumes from there"
        yield Finding("damaged checkpoint", "info", reason, numbers)


def starved(evidence: Evidence) -> Iterator[Finding]:
    """Yield a finding if training waits for images for a large share of the time."""
    waits = evidence.series("data_wait")
    if len(waits) < 3:  # the first ones hold the start of the loading processes
        return
    wait, speed = median(waits), evidence.late("images_per_second")
    if wait < MAX_WAIT:
        return
    speeds = f"{speed:.0f} images/s, {speed / (1 - wait):.0f} without"
    reason = f"{100 * wait:.0f} % of the time goes to waiting for images ({speeds})"
    machine = evidence.config.machine
    workers = 2 * machine.workers if machine.workers else max(2, min(8, available_cpus()))
    advice = [
        f"the same command resumes with --set {assignment('machine.workers', workers)} (the result stays the same)"
    ]
    if machine.cache != "always":
        advice.append("with --set machine.cache=always, if the decoded images fit in memory")
    advice.append("put the images on a faster disk, shrink them once, or pack them into tar files")
    yield Finding("starved", "fail", reason, {"data_wait": wait, "images_per_second": speed}, tuple(advice))


def broken_images(evidence: Evidence) -> Iterator[Finding]:
    """Yield a finding if images were quarantined; a problem if they are many."""
    count = sum(evidence.quarantined.values())
    if not count:
        return
    images = evidence.images or (evidence.steps_per_epoch or 0) * evidence.config.training.batch
    share = count / (count + images)
    first = max(evidence.quarantined, key=lambda reason: evidence.quarantined[reason])
    reason = f"{count} images ({100 * share:.2g} %) were left out, most often: {first}; quarantine.jsonl lists them"
    many = share > MAX_BROKEN_SHARE and count > FEW_BROKEN
    limit = assignment("data.max_broken_share", MAX_BROKEN_SHARE)
    advice = (f"repair or remove them; {limit} refuses a run on so many",) if many else ()
    numbers = {"quarantined": count, "share": share}
    yield Finding("broken images", "fail" if many else "info", reason, numbers, advice)


def dark_images(evidence: Evidence) -> Iterator[Finding]:
    """Yield a finding if most images are nearly black: values of 12 bits read as ones of 16."""
    if evidence.dark:
        reason = f"{evidence.dark} images are nearly black, with no value above {NEARLY_BLACK} of 255"
        advice = ("if their 16-bit files hold values of 12 bits, name the source 12bit:SOURCE in a new run",)
        yield Finding("dark images", "warn", reason, {"dark": evidence.dark}, advice)


def stopped_early(evidence: Evidence) -> Iterator[Finding]:
    """Yield a note if the online k-NN score ended the run before its last planned step."""
    if evidence.stopped_early:
        reason = f"no better k-NN in {evidence.config.online_knn.patience} scores"
        done = f"step {evidence.step}" + (f" of {evidence.total}" if evidence.total else "")
        yield Finding("stopped early", "info", f"{reason}; {done}", {"step": evidence.step})


def unfinished(evidence: Evidence) -> Iterator[Finding]:
    """Yield a note if the run is under way, or stopped before its end and can be resumed."""
    stopped = evidence.nonfinite_step is not None and evidence.step <= evidence.nonfinite_step
    if evidence.finished or stopped:
        return
    done = f"step {evidence.step}" + (f" of {evidence.total}" if evidence.total else "")
    numbers = {"step": evidence.step, **({"total": evidence.total} if evidence.total else {})}
    if evidence.running:
        yield Finding("running", "info", f"{done}, and a process is at work in this folder", numbers)
        return
    saved = (
        "it starts from the beginning" if evidence.saved_step is None else f"it resumes from step {evidence.saved_step}"
    )
    yield Finding("unfinished", "info", f"{done}; nothing is running", numbers, (f"{evidence.command}   ({saved})",))
