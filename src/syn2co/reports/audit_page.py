"""The pages of an audit: one of HTML that needs nothing else, and one of Markdown."""

from pathlib import Path

from syn2co.audits.image_sets import AuditError
from syn2co.audits.report import AuditReport
from syn2co.core.files import write_atomically
from syn2co.core.templates import render
from syn2co.reports.audit_sections import sections

BADGES = {"pass": "✓ PASS", "info": "i INFO", "warn": "? WARN", "fail": "✗ FAIL"}


def to_html(report: AuditReport) -> str:
    """Return one self-contained page with pictures of what was found: they are embedded, nothing is fetched."""
    return render(
        "reports/templates/audit.html.j2", badges=BADGES, sections=sections(report.results), **_values(report)
    )


def to_markdown(report: AuditReport) -> str:
    """Return the findings and the table of numbers as a short page."""
    return render("reports/templates/audit.md.j2", **_values(report))


def write_audit(report: AuditReport, folder: Path) -> None:
    """Write audit.json, audit.md and audit.html into `folder`, each whole or not at all.

    Raises:
        AuditError: if the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AuditError(
            f"--out {folder.name}: cannot be made a folder ({error.strerror}); choose another one"
        ) from None
    write_atomically(folder / "audit.json", report.to_json())
    write_atomically(folder / "audit.md", to_markdown(report))
    write_atomically(folder / "audit.html", to_html(report))


def _values(report: AuditReport) -> dict[str, object]:
    return {
        "headline": report.headline,
        "findings": report.findings,
        "table": report.table,
        "sides": report.body["sides"],
        "settings": report.body["settings"],
    }
