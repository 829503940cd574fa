"""The demo's page: scores and pictures in one HTML file that opens without a server."""

import html
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path

from syn2co.core.files import write_atomically
from syn2co.evaluation.results import EvaluationReport


def write_page(
    out: Path, intro: str, report: EvaluationReport, pictures: Mapping[str, str], findings: Sequence[str] = ()
) -> None:
    """Write demo.html into `out`: what was done, the scores, the findings, and the pictures (file -> caption)."""
    rows = "".join(
        f"<tr><td>{html.escape(score.encoder)}</td><td>{html.escape(score.protocol)}</td>"
        f"<td>{score.value:.1f} %</td><td>{score.low:.1f} to {score.high:.1f}</td></tr>"
        for score in report.rows
    )
    items = "".join(f"<li>{html.escape(finding)}</li>" for finding in findings)
    figures = "".join(
        f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,'
        f'{b64encode((out / name).read_bytes()).decode()}"><figcaption>{html.escape(caption)}</figcaption></figure>'
        for name, caption in pictures.items()
        if (out / name).exists()
    )
    page = _PAGE.format(
        intro=html.escape(intro), rows=rows, items=f"<ul>{items}</ul>" if items else "", figures=figures
    )
    write_atomically(out / "demo.html", page)


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>syn2co demo</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}}
table{{border-collapse:collapse}}td,th{{padding:.3rem .9rem;border-bottom:1px solid #ddd;text-align:left}}
img{{max-width:100%}}figure{{margin:2rem 0}}figcaption{{color:#555}}</style>
<h1>syn2co demo</h1><p>{intro}</p>
<table><tr><th>encoder</th><th>protocol</th><th>top-1</th><th>95 % interval</th></tr>{rows}</table>
{items}{figures}</html>
"""
