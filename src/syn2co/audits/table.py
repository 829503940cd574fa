"""The numbers of an audit as rows: synthetic, real beside it, and what good looks like."""

from typing import NamedTuple

from syn2co.audits.results import Results
from syn2co.audits.thresholds import AUC_EASY, COPIED_SHARE, DEAD_SHARE, REPEATED_SHARE


class Row(NamedTuple):
    """One number, ready to be read."""

    name: str
    value: str
    real: str
    good: str


def rows(results: Results) -> tuple[Row, ...]:
    """Return all rows that can be filled."""
    return (*_counted(results), *_measured(results))


def _counted(results: Results) -> list[Row]:
    duplicates, dead = results.duplicates, results.health
    real = results.real_duplicates
    empty = len(dead.black) + len(dead.constant) + len(dead.noise)
    table = [
        Row("images", f"{len(results.synthetic)}", "" if results.real is None else f"{len(results.real)}", ""),
        Row("broken", f"{len(dead.broken)}", "", "0"),
        Row("black, of one color, noise", f"{empty}", "", f"0; bad above {100 * DEAD_SHARE:.0f} %"),
        Row(
            "duplicates, exact + near",
            f"{len(duplicates.exact)} + {len(duplicates.near)}",
            "" if real is None else f"{len(real.exact)} + {len(real.near)}",
            f"below {100 * REPEATED_SHARE:.0f} %, or twice the real share",
        ),
    ]
    if results.leaks is not None:
        table.append(Row("leaks, exact + near", f"{results.leaks.exact} + {results.leaks.near}", "", "0"))
        table.append(Row("variations of evaluation images", f"{len(results.leaked_sources)}", "", "0"))
    if results.near_against is not None:
        share = 100 * results.near_against.memorization.share
        table.append(Row("near one evaluation image", f"{share:.1f} %", "1.0 %", "up to 2 %"))
    if results.taken is not None:
        good = f"0; bad above {100 * COPIED_SHARE:.0f} %"
        table.append(Row("copies of real, exact + near", f"{results.taken.exact} + {results.taken.near}", "", good))
    return table


def _measured(results: Results) -> list[Row]:
    if results.alone is None:
        return []
    other = results.compared
    vendi = Row("Vendi score", f"{results.alone.vendi:.1f}", f"{other.vendi:.1f}" if other else "", "the real one")
    near = f"{results.alone.nearest:.3f}"
    nearest = Row("mean nearest distance", near, f"{other.nearest:.3f}" if other else "", "the real one")
    if other is None:
        return [vendi, nearest]
    table = [Row("memorization", f"{100 * other.memorization.share:.1f} %", "1.0 %", "up to 2 %"), vendi, nearest]
    for name in ("precision", "recall", "density", "coverage"):
        best = f"{getattr(other.yardstick, name):.2f}"
        table.append(Row(name, f"{getattr(other.fidelity, name):.2f}", best, "the real one"))
    for name, auc in (("probe AUC", other.auc), ("storage AUC", other.traces)):
        value = f"{auc.value:.2f} ({auc.low:.2f} to {auc.high:.2f})"
        table.append(Row(name, value, "0.50", f"0.5; easy above {AUC_EASY:.1f}"))
    return table
