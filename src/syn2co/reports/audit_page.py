"""The audit as one page of HTML that needs nothing else: pictures are embedded, nothing is fetched."""

from base64 import b64encode
from html import escape
from typing import TYPE_CHECKING

from syn2co.audits.thresholds import Finding
from syn2co.reports.audit_sections import Section, Thumbnail

if TYPE_CHECKING:
    from syn2co.audits.report import AuditReport

BADGES = {"ok": "✓ OK", "look": "? LOOK", "bad": "✗ BAD"}
STYLE = """
:root { --ink: #222; --soft: #666; --line: #ddd; --ok: #00694b; --look: #7a4a00; --bad: #a32a00; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: var(--ink); background: #fff;
  margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 66rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .25rem; }
p { margin: .25rem 0 1rem; max-width: 46rem; }
.soft { color: var(--soft); font-size: .92rem; }
.verdicts { list-style: none; margin: 1.25rem 0; padding: 0; border-top: 1px solid var(--line); }
.verdicts li { display: grid; grid-template-columns: 5.2rem 8rem 1fr; gap: .25rem .75rem; padding: .6rem 0;
  border-bottom: 1px solid var(--line); }
.verdicts b { font-weight: 600; }
.badge { font-size: .8rem; font-weight: 700; border: 1.5px solid; border-radius: 4px; padding: .1rem .4rem;
  align-self: start; justify-self: start; white-space: nowrap; }
.badge.ok { color: var(--ok); } .badge.look { color: var(--look); border-style: dashed; }
.badge.bad { color: #fff; background: var(--bad); border-color: var(--bad); }
.advice { color: var(--soft); }
.strips { display: flex; flex-wrap: wrap; gap: .75rem; }
.strips.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(76px, 1fr)); gap: .35rem; }
.strip { display: flex; gap: .35rem; max-width: 100%; }
.strip.wide { width: 100%; }
.strip.several { border: 1px solid var(--line); border-radius: 6px; padding: .4rem; }
figure { margin: 0; width: 96px; flex: 0 1 auto; min-width: 0; }
.sheet figure { width: 100%; }
figure.chart { width: 44rem; max-width: 100%; }
img { display: block; width: 100%; height: auto; border-radius: 3px; }
img.tiny { image-rendering: pixelated; }
figcaption { font-size: .75rem; line-height: 1.3; color: var(--soft); margin-top: .2rem;
  overflow-wrap: break-word; }
details { margin: .75rem 0; font-size: .88rem; }
summary { cursor: pointer; }
table { border-collapse: collapse; width: 100%; font-size: .94rem; }
th, td { text-align: left; padding: .4rem .75rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
section + p.soft { margin-top: 1.5rem; }
td { font-variant-numeric: tabular-nums; }
@media (max-width: 40rem) {
  .verdicts li { grid-template-columns: 5.2rem 1fr; }
  .verdicts li div { grid-column: 1 / -1; }
  figure { width: 76px; } .strip { gap: .2rem; } figcaption { font-size: .66rem; }
  table.numbers, .numbers tbody, .numbers tr, .numbers td { display: block; }
  .numbers thead { display: none; }
  .numbers tr { border-bottom: 1px solid var(--line); padding: .5rem 0; }
  .numbers td { border: 0; padding: 0; }
  .numbers td:first-child { font-weight: 600; }
  .numbers td[data-label]:not(:empty)::before { content: attr(data-label) ": "; color: var(--soft); }
}
"""


def page(report: "AuditReport") -> str:
    """Return the whole page; every text from outside is escaped."""
    sides = report.body["sides"]
    sources = "; ".join(
        f"{role}: {', '.join(side['sources'])} ({side['images']} images)" for role, side in sides.items()
    )
    parts = [
        f"<h1>{escape(report.headline)}</h1>",
        f'<p class="soft">Audit of synthetic images. {escape(sources)}.</p>',
        f'<ul class="verdicts">{"".join(map(_verdict, report.findings))}</ul>',
        *map(_exhibit, report.sections),
        _numbers(report),
        _fingerprints(report),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>Audit: {escape(', '.join(sides['synthetic']['sources']))}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n{chr(10).join(parts)}\n</body>\n</html>\n"
    )


def _verdict(finding: Finding) -> str:
    advice = f' <span class="advice">{escape(finding.advice)}</span>' if finding.advice else ""
    return (
        f'<li><span class="badge {finding.mark}">{BADGES[finding.mark]}</span><b>{escape(finding.check)}</b>'
        f"<div>{escape(finding.sentence)}{advice}</div></li>\n"
    )


def _exhibit(exhibit: Section) -> str:
    bare = all(len(strip) == 1 and not any(p.caption or p.chart for p in strip) for strip in exhibit.strips)
    sheet = " sheet" if bare else ""
    strips = "".join(map(_strip, exhibit.strips))
    return (
        f"<section><h2>{escape(exhibit.title)}</h2><p>{escape(exhibit.words)}</p>"
        + (f'<div class="strips{sheet}">{strips}</div>' if strips else "")
        + _listed(exhibit)
        + "</section>"
    )


def _strip(strip: tuple[Thumbnail, ...]) -> str:
    several = "several" if len(strip) > 1 else "wide" if any(picture.chart for picture in strip) else ""
    return f'<div class="strip {several}">{"".join(map(_figure, strip))}</div>'


def _figure(picture: Thumbnail) -> str:
    data = b64encode(picture.data).decode()
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else ""
    style = "chart" if picture.chart else "image"
    tiny = ' class="tiny"' if picture.kind == "png" and not picture.chart else ""
    source = f"data:image/{picture.kind};base64,{data}"
    return f'<figure class="{style}"><img{tiny} alt="{escape(picture.alt)}" src="{source}">{caption}</figure>'


def _listed(exhibit: Section) -> str:
    if not exhibit.listed:
        return ""
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(reason)}</td></tr>" for name, reason in exhibit.listed)
    table = f"<table>{rows}</table>"
    return f"<details><summary>Names</summary>{table}</details>" if exhibit.strips else table


def _numbers(report: "AuditReport") -> str:
    head = "<thead><tr><th>number</th><th>synthetic</th><th>real</th><th>good is</th></tr></thead>"
    rows = "".join(
        f"<tr><td>{escape(row.name)}</td>"
        + "".join(
            f'<td data-label="{label}">{escape(text)}</td>'
            for label, text in (("synthetic", row.value), ("real", row.real), ("good is", row.good))
        )
        + "</tr>"
        for row in report.table
    )
    return (
        "<section><h2>All numbers</h2><p>The real column holds the same number for real images: what a perfect "
        f'generator would reach.</p><table class="numbers">{head}<tbody>{rows}</tbody></table></section>'
    )


def _fingerprints(report: "AuditReport") -> str:
    sides = report.body["sides"].items()
    lines = "<br>".join(escape(f"{role}: {side['fingerprint']}") for role, side in sides)
    settings = report.body["settings"]
    return f'<p class="soft">Fingerprints of the images<br>{lines}<br>seed {settings["seed"]}</p>'
