"""The page of an evaluation: the scores with their intervals, the comparisons, corruptions, notes and hashes."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from syn2co.evaluation.results import EvaluationReport
from syn2co.evaluation.scores import Comparison, Score, number
from syn2co.reports.page_parts import Column, Item, PageTable, finite, page_file, plural, public_text, write_page
from syn2co.reports.robustness_figures import corruption_table, severity_chart
from syn2co.reports.row_chart import ChartRow, Mark, RowChart
from syn2co.reports.svg import Axis, figure


def write_evaluation_page(report: EvaluationReport, out: Path) -> Path:
    """Write the page of an evaluation, one HTML file that fetches nothing.

    Args:
        report: of `evaluate`, or of `read_report`.
        out: the file, or the folder in which it becomes evaluation.html.

    Returns:
        The path of the page.

    Raises:
        FileError: if it cannot be written.
    """
    encoders = list(dict.fromkeys(row.encoder for row in report.rows))
    comparisons = report.comparisons()
    corrupted = {row.encoder: row.details for row in report.rows
                 if row.protocol == "robustness" and not row.data and row.details.get("accuracy")}  # fmt: skip
    first = report.rows[0]
    return write_page(
        page_file(out, "evaluation.html"),
        "evaluation.html.j2",
        pictures={},
        title=_title(report.rows, encoders),
        kicker=f"Evaluation · {plural(len(encoders), 'encoder')} · {plural(first.n_test, 'test image')}",
        contents=[],
        leads=_leads(comparisons, encoders[0]),
        notes=[public_text(note) for note in report.notes],
        dots=_dots(report.rows, encoders),
        scores=_scores(report.rows),
        comparisons=_comparisons(comparisons),
        severities=severity_chart(corrupted),
        corruptions=corruption_table(corrupted),
        ranks=_ranks(report, encoders),
        hashes=_hashes(report.rows),
    )


def _title(rows: Sequence[Score], encoders: Sequence[str]) -> str:
    others = f" and {plural(len(encoders) - 1, 'other encoder')}" if len(encoders) > 1 else ""
    return f"Scores of {encoders[0]}{others}"


def _leads(comparisons: Sequence[Comparison], leader: str) -> list[tuple[str, str, str]]:
    """Return badge and sentence of the first encoder against each other one in the first protocol that both have."""
    several: dict[str, Comparison] = {}
    for comparison in comparisons:
        if comparison.first.encoder == leader:
            several.setdefault(comparison.second.encoder, comparison)
    badges = {"~": ("open", "≈ not told apart"), "<": ("good", "✓ told apart"), ">": ("good", "✓ told apart")}
    return [(*badges[one.sign], one.text) for one in several.values()]


def _dots(rows: Sequence[Score], encoders: Sequence[str]) -> Markup | None:
    """Return the scores in percent with their intervals, a row per protocol and data set."""
    percent = [row for row in rows if row.percent]
    titles = dict.fromkeys(_protocol(row) for row in percent)
    lines = []
    for title in titles:
        marks = []
        for row in (row for row in percent if _protocol(row) == title):
            tip = f"{row.encoder}, {title}: {row.value:.1f} % [{row.low:.1f}, {row.high:.1f}]"
            marks.append(Mark(row.value, finite(row.low), finite(row.high), encoders.index(row.encoder), tip))
        lines.append(ChartRow(title, marks))
    if not lines:
        return None
    spoken = "; ".join(mark.tip for line in lines for mark in line.marks)
    names = [(name, style) for style, name in enumerate(encoders)]
    chart = RowChart("Scores by protocol", spoken, lines, Axis("%, with 95 % intervals"), names=names)
    return figure(
        chart, "scores", caption="Intervals are over the test images; one pretraining seed says nothing more."
    )


def _protocol(row: Score) -> str:
    metric = "" if row.metric.lower() in row.protocol.lower() else f", {row.metric}"
    lower = "" if row.higher_is_better else ", lower is better"
    return f"{row.protocol}{metric}{f' on {row.data}' if row.data else ''}{lower}"


def _scores(rows: Sequence[Score]) -> PageTable:
    columns = [Column("encoder"), Column("protocol"), Column("score", True)]
    columns += [Column("test images", True), Column("setting")]
    several = []
    for row in rows:
        unit = " %" if row.percent else ""
        interval = f"[{number(row.low, row.percent)}, {number(row.high, row.percent)}]"
        several.append(
            [Item(row.encoder), Item(_protocol(row)),
             Item(f"{number(row.value, row.percent)}{unit}", row.value, interval),
             Item(f"{row.n_test:,}", row.n_test), Item(public_text(row.setting))]
        )  # fmt: skip
    return PageTable("Scores with 95 % intervals", columns, several)


def _comparisons(comparisons: Sequence[Comparison]) -> PageTable:
    columns = [Column("first"), Column("second"), Column("score"), Column("first − second", True), Column("verdict")]
    rows = []
    for one in comparisons:
        change, form = one.difference, "+.1f" if one.first.percent else "+.2g"
        verdict = {"~": "not told apart", "<": "first is better", ">": "second is better"}[one.sign]
        interval = f"[{change.low:{form}}, {change.high:{form}}]"
        rows.append([Item(one.first.encoder), Item(one.second.encoder), Item(_protocol(one.first)),
                     Item(f"{change.value:{form}}", change.value, interval), Item(verdict)])  # fmt: skip
    return PageTable("Differences, paired on the same test images, not corrected for their number", columns, rows)


def _ranks(report: EvaluationReport, encoders: Sequence[str]) -> PageTable | None:
    ranks = report.mean_ranks()
    if not ranks:
        return None
    rows = [[Item(name), *(Item(f"{ranks[protocol][name]:.2f}", ranks[protocol][name]) for protocol in ranks)]
            for name in encoders]  # fmt: skip
    return PageTable("Mean rank over data sets, 1 is best", [Column("encoder"), *map(Column, ranks)], rows)


def _hashes(rows: Sequence[Score]) -> PageTable:
    columns = [Column(name) for name in ("encoder", "protocol", "data", "encoder hash", "protocol hash", "data hash")]
    several = [
        [Item(row.encoder), Item(row.protocol), Item(row.data or "given"), Item(row.encoder_hash),
         Item(row.protocol_hash), Item(row.data_fingerprint)]
        for row in rows
    ]  # fmt: skip
    return PageTable("Hashes of encoders, protocols and data", columns, several)
