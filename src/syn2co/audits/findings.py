"""What the numbers mean, in words: one verdict a check, "ok", "look" (decide for yourself) or "bad" (mend it first).

Defects can be bad: leaks, copies, duplicates, dead or broken images. How much the images look like real ones is never
bad, only worth a look: procedural images are useful though nobody takes them for photographs.
"""

from collections.abc import Iterator

from syn2co.audits.comparisons import coverage, diversity, separability, storage_traces
from syn2co.audits.fidelity import TAIL
from syn2co.audits.health import class_counts
from syn2co.audits.results import Results
from syn2co.audits.thresholds import COPIED_SHARE, DEAD_SHARE, MEMORISED_SHARE, REPEATED_SHARE, UNEVEN, Finding, Mark


def findings(results: Results) -> tuple[Finding, ...]:
    """Return all verdicts, in the order in which they matter."""
    defects = (_leak, _copies, _memorisation, _dead, _duplicates, _classes)
    return tuple(
        finding for check in (*defects, diversity, coverage, separability, storage_traces) for finding in check(results)
    )


def _leak(results: Results) -> Iterator[Finding]:
    if results.leaks is None:
        yield Finding("leak", "look", "Leak was not checked: no evaluation images were given.", "Name them: --against.")
        return
    found, count = results.leaks, len(results.synthetic)
    if found.copies:
        yield Finding(
            "leak",
            "bad",
            f"{_images(len(found.copies))} of {count} {_are(len(found.copies))} in the evaluation set "
            f"({found.exact} pixel by pixel, {found.near} slightly changed).",
            "Remove them before training, or every score on that set is too good.",
        )
    else:
        words = f"None of {_images(count)} is in the evaluation set."
        yield Finding("leak", "ok", words) if found.complete else _crowded("leak", words)


def _copies(results: Results) -> Iterator[Finding]:
    if results.taken is None or results.real is None:
        yield Finding(
            "copies", "look", "Copies of training images were not checked: none were given.", "Name them: --real."
        )
        return
    found, count = results.taken, len(results.synthetic)
    ordered = f" {_images(results.ordered)} more repeat the image that they were ordered to vary." * bool(
        results.ordered
    )
    if not found.copies:
        words = f"None of {_images(count)} is a copy of one of the {len(results.real)} real images.{ordered}"
        yield Finding("copies", "ok", words) if found.complete else _crowded("copies", words)
        return
    mark: Mark = "bad" if len(found.copies) > COPIED_SHARE * count else "look"
    yield Finding(
        "copies",
        mark,
        f"{_images(len(found.copies))} of {count} {_are(len(found.copies))} copies of real images ({found.exact} pixel "
        f"by pixel, {found.near} slightly changed).{ordered}",
        "Do not publish them as new images; train the generator shorter or on more images.",
    )


def _memorisation(results: Results) -> Iterator[Finding]:
    if results.compared is None:
        return
    found, own = results.compared.memorisation, sum(results.compared.own)
    count = len(found.ratios)
    words = (
        f"{100 * found.share:.1f} % of the images lie conspicuously near one real image; among real images it is "
        f"{100 * TAIL:.0f} % by definition ({count} against {len(results.compared.real_rows)} images)."
    )
    if own > count / 2:
        yield Finding("memorisation", "ok", f"{words} They are variations of real images, so this is what was ordered.")
    elif found.low <= 2 * TAIL:
        yield Finding("memorisation", "ok", words)
    else:
        mark: Mark = "bad" if found.share > MEMORISED_SHARE else "look"
        yield Finding(
            "memorisation", mark, words, "Compare the pairs below; train the generator shorter or on more images."
        )


def _dead(results: Results) -> Iterator[Finding]:
    found, count = results.health, len(results.synthetic)
    if found.broken:
        share = len(found.broken) / (count + len(found.broken))
        yield Finding(
            "broken",
            "bad" if share > DEAD_SHARE else "look",
            f"{_images(len(found.broken))} of {count + len(found.broken)} cannot be read and {_are(len(found.broken))} "
            "left out of everything below.",
            "Make them again.",
        )
    else:
        yield Finding("broken", "ok", f"All {_images(count)} can be read.")
    kinds = {"black": found.black, "of one colour": found.constant, "white noise": found.noise}
    total = sum(map(len, kinds.values()))
    if total:
        listed = ", ".join(f"{len(rows)} {kind}" for kind, rows in kinds.items() if rows)
        mark: Mark = "bad" if total > DEAD_SHARE * count else "look"
        yield Finding("blank", mark, f"{_images(total)} of {count} show nothing: {listed}.", "Leave them out.")
    else:
        yield Finding("blank", "ok", "No image is black, of one colour or white noise.")


def _duplicates(results: Results) -> Iterator[Finding]:
    found, count = results.duplicates, len(results.synthetic)
    total = len(found.exact) + len(found.near)
    beside = ""
    allowed = REPEATED_SHARE
    if results.real_duplicates is not None and results.real is not None:
        share = (len(results.real_duplicates.exact) + len(results.real_duplicates.near)) / len(results.real)
        beside = f" Of the real images it is {100 * share:.2f} %."
        allowed = max(allowed, 2 * share)
    if found.within_groups:
        beside += f" {_images(found.within_groups)} more repeat one of their own group, as variations may."
    words = (
        f"{_images(total)} of {count} ({100 * total / count:.2f} %) repeat another one ({len(found.exact)} pixel by "
        f"pixel, {len(found.near)} slightly changed).{beside}"
    )
    if not found.complete:
        yield Finding(
            "duplicates", "look", f"At least {words}", "Many images look nearly alike; see the contact sheet."
        )
    elif not total:
        yield Finding("duplicates", "ok", f"No image repeats another one.{beside}")
    else:
        mark: Mark = "bad" if total > allowed * count else "look" if found.exact else "ok"
        yield Finding("duplicates", mark, words, "Leave the repeats out; they only add weight." if mark != "ok" else "")


def _classes(results: Results) -> Iterator[Finding]:
    counts = class_counts(results.synthetic)
    used = " Somebody's labels were used to make them; say so beside every score." * results.synthetic.labels_used
    if not counts:
        if used:
            yield Finding("classes", "look", f"The images have no classes.{used}")
        return
    least, most = min(counts.values()), max(counts.values())
    names = [name for name, number in counts.items() if number == least]
    words = f"{len(counts)} classes with {least} to {most} images.{used}"
    if least == 0 or most > UNEVEN * least:
        yield Finding("classes", "look", words, f"Fewest: {', '.join(names[:3])}. Make more of them.")
    else:
        yield Finding("classes", "ok", words)


def _crowded(check: str, words: str) -> Finding:
    return Finding(
        check,
        "look",
        f"{words} But many images look so alike that not all pairs were compared.",
        "See the contact sheet.",
    )


def _images(count: int) -> str:
    return f"{count} image" if count == 1 else f"{count} images"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
