"""Findings on how synthetic images compare to real ones: they warn at most, for none of them is a defect."""

from collections.abc import Iterator

from syn2co.audits.limits import ENOUGH
from syn2co.audits.results import Results
from syn2co.audits.separability import storage
from syn2co.audits.thresholds import AUC_EASY, COVERED_SHARE, RECALLED_SHARE, VENDI_SHARE
from syn2co.core.findings import Finding


def not_measured(results: Results) -> Iterator[Finding]:
    """Name the checks of sides that have too few images for features."""
    checks = ["near evaluation"] * (results.against is not None and results.near_against is None)
    if results.real is not None and results.compared is None:
        checks += ["memorization", "diversity", "coverage", "separability", "storage"]
    if checks:
        names = {"against": "evaluation"}
        few = [f"{len(side)} {names.get(side.role, side.role)} ones" for side in results.sides if len(side) < ENOUGH]
        words = f"Not measured: {', '.join(checks)}. They take {ENOUGH} images of each side; here are {', '.join(few)}."
        yield Finding("too few images", "info", words)


def diversity(results: Results) -> Iterator[Finding]:
    """Say whether the images are as varied as real ones."""
    if results.compared is None or results.alone is None:
        return
    ratio = results.alone.vendi / results.compared.vendi
    words = (
        f"The images are worth {results.alone.vendi:.1f} entirely different ones, as many real ones "
        f"{results.compared.vendi:.1f} (Vendi score); the nearest other image is {results.alone.nearest:.2f} away, "
        f"for real ones {results.compared.nearest:.2f}."
    )
    if ratio < VENDI_SHARE or results.alone.nearest < results.compared.nearest / 2:
        yield Finding(
            "diversity", "warn", words, advice=("More prompts, programs or clusters help more than more images.",)
        )
    else:
        yield Finding("diversity", "pass", words)


def coverage(results: Results) -> Iterator[Finding]:
    """Say how much of the real images the synthetic ones surround."""
    if results.compared is None:
        return
    rates, best = results.compared.fidelity, results.compared.yardstick
    words = (
        f"{100 * rates.coverage:.0f} % of the real images have a synthetic one among their neighbors (other real "
        f"images: {100 * best.coverage:.0f} %), and {100 * rates.recall:.0f} % lie within the range of the synthetic "
        f"ones ({100 * best.recall:.0f} %); {100 * rates.precision:.0f} % of the synthetic images lie within the range "
        f"of the real ones ({100 * best.precision:.0f} %)."
    )
    good = rates.coverage >= COVERED_SHARE * best.coverage and rates.recall >= RECALLED_SHARE * best.recall
    advice = "Expected of procedural images; else the generator misses kinds of images or what makes them differ."
    yield Finding("coverage", "pass" if good else "warn", words, advice=() if good else (advice,))


def separability(results: Results) -> Iterator[Finding]:
    """Say how easily the two are told apart by their contents."""
    if results.compared is None:
        return
    auc = results.compared.auc
    words = (
        f"A linear classifier tells real from synthetic with an AUC of {auc.value:.2f} ({auc.low:.2f} to "
        f"{auc.high:.2f}; 0.5 is a guess, 1 is always right)."
    )
    advice = "Mixed with real images, a network may learn the difference instead of what is depicted."
    good = auc.value <= AUC_EASY
    yield Finding("separability", "pass" if good else "warn", words, advice=() if good else (advice,))


def storage_traces(results: Results) -> Iterator[Finding]:
    """Say whether files, sizes or fine texture give the synthetic images away."""
    if results.compared is None or results.real is None:
        return
    one, two = (storage(side, results.scans[side.role].sizes) for side in (results.synthetic, results.real))
    parts, settings = [], []
    if set(one["files"]) != set(two["files"]):
        parts.append(f"files ({_kinds(one['files'])} against {_kinds(two['files'])})")
        settings.append("--set mix.jpeg_quality=90")
    if one["median_size"] != two["median_size"]:
        parts.append(f"sizes ({_size(one['median_size'])} against {_size(two['median_size'])} pixels)")
        settings.append(f"--set mix.canvas={min(*one['median_size'], *two['median_size'])}")
    auc = results.compared.traces
    words = (
        f"Traces of storage alone (spectrum and block grid) give an AUC of {auc.value:.2f} ({auc.low:.2f} to "
        f"{auc.high:.2f})."
    )
    if parts:
        yield Finding(
            "storage",
            "warn",
            f"Synthetic and real images differ in {' and '.join(parts)}: the network can read the codec. {words}",
            advice=(f"Bring both to one size and codec when they are mixed: {' '.join(settings)}.",),
        )
    elif auc.value > AUC_EASY:
        yield Finding(
            "storage",
            "warn",
            f"Files and sizes are alike. {words}",
            advice=(
                "The fine texture differs: blur, noise or blocks that real images lack; --set mix.canvas and "
                "mix.jpeg_quality bring both to one size and codec.",
            ),
        )
    else:
        yield Finding("storage", "pass", f"Files and sizes are alike. {words}")


def _kinds(files: dict[str, int]) -> str:
    return " and ".join(files)


def _size(size: list[int]) -> str:
    return f"{size[0]} x {size[1]}"
