"""Findings, the numbers in words: one per check; only a defect can fail, and a comparison warns at most.

Defects can fail: leaks, copies, duplicates, dead or broken images. Unlikeness to real images warns at most: procedural
images are useful though nobody takes them for photographs.
"""

from collections import Counter
from collections.abc import Iterator

from syn2co.audits.comparisons import coverage, diversity, not_measured, separability, storage_traces
from syn2co.audits.fidelity import TAIL
from syn2co.audits.health import class_counts
from syn2co.audits.results import Results
from syn2co.audits.thresholds import COPIED_SHARE, DEAD_SHARE, MEMORIZED_SHARE, REPEATED_SHARE, UNEVEN
from syn2co.core.findings import Finding, Level
from syn2co.images.near_copies import CopySearch
from syn2co.images.source import SyntheticSource


def findings(results: Results) -> tuple[Finding, ...]:
    """Return all verdicts, in the order in which they matter."""
    defects = (_leak, _copies, _memorization, _dead, _duplicates, _classes)
    comparisons = (diversity, coverage, separability, storage_traces, not_measured)
    return tuple(finding for check in (*defects, *comparisons) for finding in check(results))


def _leak(results: Results) -> Iterator[Finding]:
    if results.leaks is None:
        yield Finding(
            "leak", "warn", "Leak was not checked: no evaluation images were given.", advice=("Name them: --against.",)
        )
        return
    leaks, count = results.leaks, len(results.synthetic)
    varied, leaked = len(results.leaked_sources), len(results.leaked)
    known = (
        f" By their manifest {_images(varied)} {_are(varied, 'a variation', 'variations')} of evaluation images."
        * bool(varied)
    )
    known += " The generator learned from the evaluation images." * results.learned_from_against
    if leaked or results.learned_from_against:
        yield Finding(
            "leak",
            "fail",
            f"{_at_least(leaks)}{_images(leaked)} of {count} {_are(leaked)} in the evaluation set "
            f"({leaks.exact} pixel by pixel, {leaks.near} changed{_changes(leaks)}).{known}",
            advice=("Remove them before training, or every score on that set is too good.",),
        )
    else:
        words = f"None of {_images(count)} is in the evaluation set."
        yield Finding("leak", "pass", words) if leaks.complete else _crowded("leak", words)
    yield from _near_evaluation(results)


def _near_evaluation(results: Results) -> Iterator[Finding]:
    """Say whether the images lie nearer to single evaluation images than these lie to each other."""
    if results.near_against is None:
        return
    memory = results.near_against.memorization
    words = (
        f"{100 * memory.share:.1f} % of the images lie conspicuously near one evaluation image; among evaluation "
        f"images it is {100 * TAIL:.0f} % by definition ({results.near_against.words.partition(':')[0]})."
    )
    if memory.low <= 2 * TAIL:
        yield Finding("near evaluation", "pass", words)
        return
    level: Level = "fail" if memory.share > MEMORIZED_SHARE else "warn"
    advice = (
        "Those that are not among the leaks may be crops, turns or other changes that no hash knows; compare the pairs "
        "below."
    )
    yield Finding("near evaluation", level, words, advice=(advice,))


def _at_least(search: CopySearch) -> str:
    return "" if search.complete else "At least "


def _changes(search: CopySearch) -> str:
    """Return the commonest changes of near copies in words, led by a colon."""
    changes = Counter(copy.change or "stored again" for copy in search.copies if not copy.exact)
    return f": {', '.join(f'{count} {change}' for change, count in changes.most_common(4))}" if changes else ""


def _copies(results: Results) -> Iterator[Finding]:
    if results.taken is None or results.real is None:
        yield Finding(
            "copies",
            "warn",
            "Copies of training images were not checked: none were given.",
            advice=("Name them: --real.",),
        )
        return
    taken, count = results.taken, len(results.synthetic)
    ordered = f" {_images(results.ordered)} more repeat the image that they were ordered to vary." * bool(
        results.ordered
    )
    if not taken.copies:
        words = f"None of {_images(count)} is a copy of one of the {len(results.real)} real images.{ordered}"
        yield Finding("copies", "pass", words) if taken.complete else _crowded("copies", words)
        return
    level: Level = "fail" if len(taken.copies) > COPIED_SHARE * count else "warn"
    yield Finding(
        "copies",
        level,
        f"{_at_least(taken)}{_images(len(taken.copies))} of {count} {_are(len(taken.copies), 'a copy', 'copies')} of "
        f"real images ({taken.exact} pixel by pixel, {taken.near} changed{_changes(taken)}).{ordered}",
        advice=("Do not publish them as new images; train the generator shorter or on more images.",),
    )


def _memorization(results: Results) -> Iterator[Finding]:
    if results.compared is None:
        return
    memory, variations = results.compared.memorization, sum(results.compared.of_nearest)
    count = len(memory.ratios)
    words = (
        f"{100 * memory.share:.1f} % of the images lie conspicuously near one real image; among real images it is "
        f"{100 * TAIL:.0f} % by definition ({count} against {len(results.compared.real_rows)} images)."
    )
    if variations > count / 2:
        yield Finding(
            "memorization", "pass", f"{words} They are variations of real images, so this is what was ordered."
        )
    elif memory.low <= 2 * TAIL:
        yield Finding("memorization", "pass", words)
    else:
        level: Level = "fail" if memory.share > MEMORIZED_SHARE else "warn"
        yield Finding(
            "memorization",
            level,
            words,
            advice=("Compare the pairs below; train the generator shorter or on more images.",),
        )


def _dead(results: Results) -> Iterator[Finding]:
    dead, count = results.health, len(results.synthetic)
    if dead.broken:
        share = len(dead.broken) / (count + len(dead.broken))
        yield Finding(
            "broken",
            "fail" if share > DEAD_SHARE else "warn",
            f"{_images(len(dead.broken))} of {count + len(dead.broken)} cannot be read and {_are(len(dead.broken))} "
            "left out of everything below.",
            advice=("Make them again.",),
        )
    else:
        yield Finding("broken", "pass", f"All {_images(count)} can be read." if count > 1 else "The image can be read.")
    kinds = {"black": dead.black, "of one color": dead.constant, "white noise": dead.noise}
    total = sum(map(len, kinds.values()))
    if total:
        listed = ", ".join(f"{len(rows)} {kind}" for kind, rows in kinds.items() if rows)
        level: Level = "fail" if total > DEAD_SHARE * count else "warn"
        yield Finding(
            "blank",
            level,
            f"{_images(total)} of {count} {'shows' if total == 1 else 'show'} nothing: {listed}.",
            advice=("Leave them out.", *_without_noise(results)),
        )
    else:
        yield Finding("blank", "pass", "No image is black, of one color or white noise.")


def _without_noise(results: Results) -> Iterator[str]:
    """Yield how to draw procedural images without noise, if it is theirs."""
    sources = results.synthetic.images.sources
    drawn = {name for source in sources if isinstance(source, SyntheticSource) for name in source.made_by}
    if results.health.noise and "procedural" in drawn:
        yield "Draw small procedural images with options.supersampling=2: lines finer than a pixel become noise."


def _duplicates(results: Results) -> Iterator[Finding]:
    repeats, count = results.duplicates, len(results.synthetic)
    total = len(repeats.exact) + len(repeats.near)
    beside = ""
    allowed = REPEATED_SHARE
    if results.real_duplicates is not None and results.real is not None:
        share = (len(results.real_duplicates.exact) + len(results.real_duplicates.near)) / len(results.real)
        beside = f" Of the real images it is {100 * share:.2f} %."
        allowed = max(allowed, 2 * share)
    if repeats.within_groups:
        beside += f" {_images(repeats.within_groups)} more repeat one of their own group, as variations may."
    words = (
        f"{_images(total)} of {count} ({100 * total / count:.2f} %) repeat another one ({len(repeats.exact)} pixel by "
        f"pixel, {len(repeats.near)} slightly changed).{beside}"
    )
    if not repeats.complete:  # the true number is larger, so the verdict is no milder
        level = "fail" if total > allowed * count else "warn"
        advice = "Many images look nearly alike; see the contact sheet, and leave the repeats out."
        yield Finding("duplicates", level, f"At least {words}", advice=(advice,))
    elif not total:
        yield Finding("duplicates", "pass", f"No image repeats another one.{beside}")
    else:
        level: Level = "fail" if total > allowed * count else "warn" if repeats.exact else "pass"
        yield Finding(
            "duplicates",
            level,
            words,
            advice=("Leave the repeats out; they only add weight.",) if level != "pass" else (),
        )


def _classes(results: Results) -> Iterator[Finding]:
    counts = class_counts(results.synthetic)
    used = " Somebody's labels were used to make them; say so beside every score." * results.synthetic.labels_used
    if not counts:
        if used:
            yield Finding("classes", "warn", f"The images have no classes.{used}")
        return
    least, most = min(counts.values()), max(counts.values())
    names = [name for name, number in counts.items() if number == least]
    sizes = f"{least} to {most} images" if least < most else f"{_images(most)} each"
    words = f"{len(counts)} classes with {sizes}.{used}"
    if least == 0 or most > UNEVEN * least:
        yield Finding("classes", "warn", words, advice=(f"Fewest: {', '.join(names[:3])}. Make more of them.",))
    else:
        yield Finding("classes", "pass", words)


def _crowded(check: str, words: str) -> Finding:
    return Finding(
        check,
        "warn",
        f"{words} But many images look so alike that not all pairs were compared.",
        advice=("See the contact sheet.",),
    )


def _images(count: int) -> str:
    return f"{count} image" if count == 1 else f"{count} images"


def _are(count: int, one: str = "", several: str = "") -> str:
    return f"is {one}".strip() if count == 1 else f"are {several}".strip()
