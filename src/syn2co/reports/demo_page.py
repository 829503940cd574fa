"""The demo's page: scores and pictures in one HTML file that opens without a server."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from syn2co.core.files import write_atomically
from syn2co.core.templates import render
from syn2co.evaluation.results import EvaluationReport


def write_page(
    out: Path, intro: str, report: EvaluationReport, pictures: Mapping[str, str], findings: Sequence[str] = ()
) -> None:
    """Write demo.html into `out`: what was done, the scores, the findings, and the pictures (file -> caption)."""
    shown = [(caption, (out / name).read_bytes()) for name, caption in pictures.items() if (out / name).exists()]
    page = render("reports/templates/demo.html.j2", intro=intro, scores=report.rows, findings=findings, pictures=shown)
    write_atomically(out / "demo.html", page)
