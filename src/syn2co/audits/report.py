"""Everything that an audit found, as values and as JSON; pages are made in `reports`."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from syn2co.audits.duplicates import Duplicates
from syn2co.audits.findings import findings
from syn2co.audits.health import class_counts, effective_classes
from syn2co.audits.image_sets import AuditedSet, AuditError
from syn2co.audits.results import Results
from syn2co.audits.separability import storage
from syn2co.audits.table import Row, rows
from syn2co.audits.thresholds import THRESHOLDS
from syn2co.core.findings import LEVELS, Finding
from syn2co.images.near_copies import CopySearch

FORMAT = 3
"""3: copies have a change in words instead of `mirrored`; leaks have sources and memorization."""


@dataclass(frozen=True)
class AuditReport:
    """Everything that an audit found; `body` holds what goes into audit.json."""

    body: dict[str, Any]
    findings: tuple[Finding, ...]
    """One verdict per check."""
    table: tuple[Row, ...]
    """Rows of the report's table of numbers."""
    results: Results
    """What the checks measured, from which the verdicts follow."""

    @property
    def images(self) -> int:
        """Synthetic images that can be read."""
        return self.body["sides"]["synthetic"]["images"]

    @property
    def leaks(self) -> int:
        """Synthetic images that are in the evaluation set, or are variations of an image there."""
        return len(self.results.leaked)

    @property
    def against(self) -> list[str]:
        """The names of the evaluation sources."""
        return self.body["sides"].get("against", {}).get("sources", [])

    @property
    def headline(self) -> str:
        """One sentence for all: how many checks are bad, worth a look, and fine."""
        checks = {level: [f.check for f in self.findings if f.level == level] for level in LEVELS}
        if checks["fail"]:
            return f"Fix this before use: {', '.join(checks['fail'])}."
        if checks["warn"]:
            return f"Nothing is broken; have a look at: {', '.join(checks['warn'])}."
        return "Nothing to complain about."

    def finding(self, check: str) -> Finding:
        """Return the verdict of one check.

        Raises:
            AuditError: if there is no such check in this report.
        """
        for finding in self.findings:
            if finding.check == check:
                return finding
        raise AuditError(f"{check}: the report has no such check; it has {', '.join(f.check for f in self.findings)}")

    def text(self) -> str:
        """Return the verdicts as lines for the terminal."""
        return "\n".join([self.headline, *(line for finding in self.findings for line in finding.lines())])

    def to_json(self) -> str:
        """Return all numbers, thresholds and verdicts; equal for equal images and settings, without absolute paths."""
        return json.dumps(self.body, indent=2, sort_keys=True) + "\n"


def make_report(results: Results) -> AuditReport:
    """Return the report on some results."""
    verdicts = findings(results)
    body = {
        "format": FORMAT,
        "settings": {"seed": results.seed, "max_images": results.max_images, "thresholds": THRESHOLDS},
        "sides": {side.role: _side(side, results) for side in results.sides},
        "findings": [asdict(finding) for finding in verdicts],
        "leak": _leak(results),
        "copies": _found(results.taken, results.synthetic, results.real),
        "ordered_copies": results.ordered,
        "duplicates": _duplicates(results.duplicates, results.synthetic),
        "real_duplicates": _counts(results.real_duplicates),
        "health": _health(results),
        "classes": _classes(results.synthetic),
        "space": None if results.space is None else results.space.metadata,
        "diversity": None
        if results.alone is None
        else {"vendi": results.alone.vendi, "nearest": results.alone.nearest},
        "compared": _compared(results),
    }
    return AuditReport(_rounded(body), verdicts, rows(results), results)


def _side(side: AuditedSet, results: Results) -> dict[str, Any]:
    return {
        "sources": list(side.names),
        "images": len(side),
        "broken": len(side.images.quarantined),
        "fingerprint": side.images.fingerprint,
        "labels_used": side.labels_used,
        "groups": side.groups is not None,
        **storage(side, results.scans[side.role].sizes),
    }


def _found(search: CopySearch | None, first: AuditedSet, second: AuditedSet | None) -> dict[str, Any] | None:
    """Return the numbers and names of copies."""
    if search is None or second is None:
        return None
    listed = [
        {
            "image": first.name(copy.first),
            "of": second.name(copy.second),
            "exact": copy.exact,
            "change": copy.change,
            "correlation": copy.agreement,
        }
        for copy in search.copies
    ]
    return {"exact": search.exact, "near": search.near, "complete": search.complete, "images": listed}


def _leak(results: Results) -> dict[str, Any] | None:
    """Return the numbers and names of leaks: found in the pixels, known from the manifests, and by nearness."""
    copies = _found(results.leaks, results.synthetic, results.against)
    if copies is None or results.against is None:
        return None
    near = results.near_against
    return {
        **copies,
        "sources": [[results.synthetic.name(one), results.against.name(two)] for one, two in results.leaked_sources],
        "learned": results.learned_from_against,
        "memorization": None
        if near is None
        else {
            "share": near.memorization.share,
            "low": near.memorization.low,
            "threshold": near.memorization.threshold,
            "space": near.space,
        },
    }


def _counts(duplicates: Duplicates | None) -> dict[str, Any] | None:
    if duplicates is None:
        return None
    return {
        "exact": len(duplicates.exact),
        "near": len(duplicates.near),
        "within_groups": duplicates.within_groups,
        "complete": duplicates.complete,
    }


def _duplicates(duplicates: Duplicates, side: AuditedSet) -> dict[str, Any]:
    named = {
        kind: [[side.name(one), side.name(two)] for one, two in pairs]
        for kind, pairs in (("exact_pairs", duplicates.exact), ("near_pairs", duplicates.near))
    }
    return {**(_counts(duplicates) or {}), **named}


def _health(results: Results) -> dict[str, Any]:
    health, side = results.health, results.synthetic
    return {
        **{kind: [side.name(row) for row in getattr(health, kind)] for kind in ("black", "constant", "noise")},
        "broken": [{"name": name, "reason": reason} for name, reason in health.broken],
    }


def _classes(side: AuditedSet) -> dict[str, Any] | None:
    counts = class_counts(side)
    return {"counts": counts, "effective": effective_classes(counts)} if counts else None


def _compared(results: Results) -> dict[str, Any] | None:
    compared = results.compared
    if compared is None:
        return None
    memory = compared.memorization
    return {
        "images_each": compared.equal,
        "real_images": len(compared.real_rows),
        "fidelity": asdict(compared.fidelity),
        "fidelity_of_real": asdict(compared.yardstick),
        "real_vendi": compared.vendi,
        "real_nearest": compared.nearest,
        "memorization": {
            "share": memory.share,
            "low": memory.low,
            "threshold": memory.threshold,
            "median_ratio": float(sorted(memory.ratios)[len(memory.ratios) // 2]),
            "variations_of_nearest": sum(compared.of_nearest),
        },
        "auc": asdict(compared.auc),
        "trace_auc": {**asdict(compared.traces), "pixels": compared.trace_size},
    }


def _rounded(value: Any) -> Any:
    """Return the same with floats of six significant digits, so that the last bits of a sum do not show."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
