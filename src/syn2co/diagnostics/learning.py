"""Does the encoder learn? Healthy, flat, frozen, collapsing, diverging, above its line, or too short to tell.

The thresholds stand between measured runs of the recipes demo and synco-cifar10 (float32 or bfloat16, CPU) that were
left alone, and shrunk demo runs (120 steps of 64, width 96, depth 2, K = 1024) that were sabotaged. `gain` is
1 - real_loss / uninformative line; medians over the last quarter:

    run                               gain   effective rank   feature_std of its maximum   embedding_std
    demo, 497 to 1494 steps        .26 - .38       16 - 30             .67 - .98               .81 - .91
    synco-cifar10, 2020 steps            .23            46                   .71                     .83
    moby-cifar10, 2180 steps             .25            46                   .68                     .90
    demo shrunk                         .084           9.1                   .81                     .76
    the same, batch 32                  .067           8.1                   .92                     .77
    demo and cifar10, step 40      .03 - .10       14 - 52
    base_lr 1e-10, 1e-6, 1e-5    0, .002, .016        14.7                   .98                     .76
    base_lr 1e-4                        .040          14.2                   .97                     .76
    temperature 50, 5, 1      .001, .011, .042         8.7                   .89                     .78
    temperature 0.01                    -.45           8.4                   .82                     .79
    views of pure noise                -.002          29.7                   .72                     .84
    base_lr 0.1 (of 0.004)              .068           5.7                   .75                     .84
    base_lr 1                           .010           3.6                   .15                     .63
    base_lr 10                          .002           4.4                   .60                     .80
    weight_decay 200, lr 0.04           .031           2.5                   .07                     .76
    weights x 0.9 a step               -.002           1.9                  1e-8                     .76
    matrices x 0.8 a step               .000           2.2                   .17                     .76
    loss without negatives, lr 0.05     .015           5.3                   .83                     .85

embedding_std does not see the collapse of an encoder, since BN in the projector rescales whatever is left; its
threshold, and it alone, was not met by any run and stands for heads that send all keys to one point.
"""

from collections.abc import Iterator
from math import isnan
from statistics import median

from syn2co.core.findings import Finding
from syn2co.diagnostics.evidence import Evidence
from syn2co.diagnostics.suspects import assignment, suspects, usual
from syn2co.pretraining.run import long_warmup

MIN_STEPS, MIN_RECORDS = 50, 4
FLAT_GAIN = 0.02  # sabotaged: at most .016; left alone: .03 after 40 steps
ABOVE_GAIN = -0.15  # random embeddings: -.01 at width 128, -.05 at width 64; temperature 0.01: -.45
FROZEN_SUM = 1e-4  # sum of lr over steps; .00007 learned next to nothing (gain .016), .0007 did (gain .04)
RANK_ROWS = 64  # all ranks above are of this many images; fewer images span fewer directions
LOW_RANK, LOW_GAIN = 5.0, 0.05  # left alone: rank 9.1, 6.3 at depth 1; sabotaged: at most 4.4, with a gain up to .031
NO_RANK = 2.5  # whatever the gain: weight_decay 200 at depth 1 had rank 1.2 and a gain of .08
MIN_FEATURE_SHARE = 0.25  # left alone: at least .67; sabotaged: .17 and less (or the rank tells)
MIN_EMBEDDING_STD = 0.2
BEST_GAIN, LOST_SHARE = 0.04, 0.5  # left alone: .12 is lost at most; base_lr 0.1: .37, recovering; no negatives: .75
GROWTH = 10.0  # gradient norm; left alone: .9 to 1.7; all weights x 0.9 a step: 18; last projector matrix alone: 28


def learning(evidence: Evidence) -> Iterator[Finding]:
    """Yield the one verdict on what the loss and the features show."""
    if evidence.step < MIN_STEPS or len(evidence.phase) < MIN_RECORDS:
        yield too_short(evidence)
        return
    verdicts = (_collapsing, _frozen, _above, _diverging, _flat)
    yield next((finding for verdict in verdicts if (finding := verdict(evidence))), _healthy(evidence))


def unstable(evidence: Evidence) -> Iterator[Finding]:
    """Yield a finding if the gradient norm of the second half shoots up against that of the second quarter."""
    norms = evidence.series("gradient_norm")
    if len(norms) < 8:
        return
    before, after = median(norms[len(norms) // 4 : len(norms) // 2]), max(norms[len(norms) // 2 :])
    if after >= GROWTH * before > 0:
        numbers = {"gradient_norm_before": before, "gradient_norm_largest": after}
        reason = f"the gradient norm rose from {before:.3g} to {after:.3g}, {after / before:.0f} times"
        clip = () if evidence.config.optimizer.clip else (f"set {assignment('optimizer.clip', 5.0)} in a new run",)
        yield Finding("unstable", "fail", reason, numbers, (*clip, *_calmer(evidence)))


def warmup(evidence: Evidence) -> Iterator[Finding]:
    """Yield a finding if the warm-up takes more than half of the run, or of one of its phases."""
    total, per_epoch = evidence.total or 0, evidence.steps_per_epoch
    if total < MIN_STEPS or not per_epoch:
        return
    long = long_warmup(evidence.config, per_epoch, total, evidence.switch_step)
    if long is not None:
        shorter = assignment("optimizer.warmup_epochs", long.epochs)
        advice = (f"set {shorter} in a new run, or train longer (training.epochs)",)
        yield Finding("long warm-up", "fail", long.reason, {"steps_per_epoch": per_epoch, "total": total}, advice)


def _gain(evidence: Evidence) -> float:
    return 1 - evidence.late("real_loss") / evidence.late("uninformative")


def _numbers(evidence: Evidence) -> dict[str, float]:
    names = ("real_loss", "uninformative", "embedding_std", "feature_std", "effective_rank", "positive")
    values = {name: evidence.late(name) for name in names}
    return {name: value for name, value in values.items() if not isnan(value)}


def _loss(evidence: Evidence) -> str:
    return (
        f"real-negatives loss {evidence.late('real_loss'):.2f}, uninformative line {evidence.late('uninformative'):.2f}"
    )


def too_short(evidence: Evidence) -> Finding:
    """Return the note that there are too few steps or records to tell anything."""
    records = len(evidence.phase)
    reason = f"{evidence.step} steps and {records} metrics record{'s' * (records != 1)}; "
    reason += f"it takes {MIN_STEPS} and {MIN_RECORDS}"
    advice = ()
    if evidence.finished:
        raised = max(10 * evidence.step, 1000)
        advice = (f"train longer: set {assignment('training.steps', raised)} in a new run",)
    elif evidence.step >= MIN_STEPS:
        advice = (f"log more often: the same command with --set {assignment('machine.log_steps', 10)}",)
    return Finding("too short to tell", "info", reason, {"steps": evidence.step}, advice)


def _collapsing(evidence: Evidence) -> Finding | None:
    signs = []
    training = evidence.config.training
    expected = LOW_RANK if _gain(evidence) < LOW_GAIN else NO_RANK
    expected *= min(1.0, training.batch / training.micro_batches / RANK_ROWS)
    rank, spread, features = (evidence.late(name) for name in ("effective_rank", "embedding_std", "feature_std"))
    largest = max(evidence.series("feature_std"), default=0.0)
    if rank < expected:
        signs.append(f"the features fill {rank:.1f} directions (effective rank; at least {expected:.2g} is expected)")
    if spread < MIN_EMBEDDING_STD:
        signs.append(f"the keys are almost one point (embedding_std {spread:.2g}; 1 is spread, 0 is collapsed)")
    if features < MIN_FEATURE_SHARE * largest:
        signs.append(f"the features shrank from a standard deviation of {largest:.2g} to {features:.2g}")
    if not signs:
        return None
    numbers = {**_numbers(evidence), "feature_std_largest": largest}
    return Finding("collapsing", "fail", "; ".join(signs), numbers, _calmer(evidence))


def _above(evidence: Evidence) -> Finding | None:
    gain = _gain(evidence)
    if not gain < ABOVE_GAIN:
        return None
    reason = f"{_loss(evidence)}: guessing would be better, as a low temperature punishes every confident error"
    config = evidence.config
    warmer = assignment(
        "training.temperature", max(usual(config).training.temperature, 4 * config.training.temperature)
    )
    advice = tuple(suspects(config)) or (f"set {warmer} in a new run", *_calmer(evidence))
    return Finding("above its line", "fail", reason, {**_numbers(evidence), "gain": gain}, advice)


def _diverging(evidence: Evidence) -> Finding | None:
    pairs = [
        1 - record["real_loss"] / record["uninformative"]
        for record in evidence.phase
        if record.get("real_loss") is not None and record.get("uninformative")
    ]
    best = max((median(pairs[at : at + 3]) for at in range(len(pairs) - 2)), default=0.0)
    lost = 1 - _gain(evidence) / best if best >= BEST_GAIN else 0.0
    if lost < LOST_SHARE:
        return None
    reason = f"{_loss(evidence)}: it was {100 * best:.0f} % under its line and has lost {100 * lost:.0f} % of that"
    numbers = {**_numbers(evidence), "best_gain": best, "gain": _gain(evidence)}
    return Finding("diverging", "fail", reason, numbers, _calmer(evidence))


def _frozen(evidence: Evidence) -> Finding | None:
    """Return a finding if nothing is learned because the weights have hardly moved, or not yet."""
    gain, config = _gain(evidence), evidence.config
    if gain >= FLAT_GAIN:
        return None
    start = evidence.phase_start
    rates, steps = evidence.series("lr"), [start, *(record["step"] for record in evidence.phase)]
    moved = sum(lr * (now - before) for lr, now, before in zip(rates, steps[1:], steps[:-1], strict=False))
    largest = max(rates, default=0.0)
    numbers = {**_numbers(evidence), "gain": gain, "lr_largest": largest, "lr_sum": moved}
    warmup = round(config.optimizer.warmup_epochs * (evidence.steps_per_epoch or 0))
    done = evidence.step - start
    if done < warmup and not evidence.finished:
        reason = f"{_loss(evidence)}, in the warm-up (step {done} of {warmup}); ask again after it"
        return Finding("too short to tell", "info", reason, numbers)
    if moved >= FROZEN_SUM:
        return None
    normal = usual(config).optimizer.base_lr
    raised = f"set {assignment('optimizer.base_lr', normal)} in a new run; it is {config.optimizer.base_lr:g} here"
    advice = _warm_less(evidence) if config.optimizer.base_lr >= 0.1 * normal else (raised,)
    reason = f"{_loss(evidence)}; the learning rate was at most {largest:.2g}, so next to nothing moved"
    return Finding("frozen", "fail", reason, numbers, advice)


def _flat(evidence: Evidence) -> Finding | None:
    gain, config = _gain(evidence), evidence.config
    if gain >= FLAT_GAIN:
        return None
    reason = (
        f"{_loss(evidence)}: {100 * gain:.1f} % under it after {evidence.step} steps, and the embeddings are spread"
    )
    advice = tuple(suspects(config)) or (
        "look at the images: noise, or all alike, gives nothing to learn",
        f"make the views easier: set {assignment('views.crop_scale', [0.2, 1.0])} in a new run",
        f"set {assignment('optimizer.base_lr', 4 * config.optimizer.base_lr)} in a new run",
    )
    return Finding("flat", "fail", reason, {**_numbers(evidence), "gain": gain}, advice)


def _healthy(evidence: Evidence) -> Finding:
    gain, rank = _gain(evidence), evidence.late("effective_rank")
    reason = f"{_loss(evidence)}, {100 * gain:.0f} % under it; effective rank {rank:.1f}"
    return Finding("healthy", "pass", reason, {**_numbers(evidence), "gain": gain})


def _warm_less(evidence: Evidence) -> tuple[str, ...]:
    epochs = 0.1 * (evidence.total or evidence.step) / (evidence.steps_per_epoch or 1)
    shorter = assignment("optimizer.warmup_epochs", min(epochs, evidence.config.optimizer.warmup_epochs))
    return (f"the run ends in its warm-up: set {shorter} in a new run, or train longer (training.epochs)",)


def _calmer(evidence: Evidence) -> tuple[str, ...]:
    """Return the settings that stand out, or else a quarter of the learning rate and a longer warm-up."""
    optimizer = evidence.config.optimizer
    return tuple(suspects(evidence.config)) or (
        f"set {assignment('optimizer.base_lr', optimizer.base_lr / 4)} in a new run",
        f"set {assignment('optimizer.warmup_epochs', max(1.0, 2 * optimizer.warmup_epochs))} in a new run",
    )
