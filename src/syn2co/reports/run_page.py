"""The page of a run: its diagnosis, the loss, the k-NN score, the negatives, the views, the settings."""

import io
from dataclasses import replace
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from syn2co.core import keyed_rng
from syn2co.core.cpus import available_cpus
from syn2co.core.errors import Syn2CoError
from syn2co.core.findings import Finding
from syn2co.data.loader import views_of
from syn2co.data.training_data import TrainingData, open_training_data
from syn2co.pretraining.config import Config
from syn2co.pretraining.preparation import in_phases
from syn2co.pretraining.recipes import RECIPES, recipe
from syn2co.pretraining.run_folder import QUARANTINE
from syn2co.reports.figures import view_grid
from syn2co.reports.line_chart import LineChart
from syn2co.reports.page_parts import Column, Item, PageTable, page_file, public_text, write_page
from syn2co.reports.run_summary import RunSummary, read_run
from syn2co.reports.svg import Axis, figure
from syn2co.reports.training_figures import curve, gaps, loss_chart, negatives_charts

_VIEWS = 6
_BADGES = {
    "fail": ("bad", "✗ problem"),
    "warn": ("open", "? look"),
    "pass": ("good", "✓ good"),
    "info": ("once", "i note"),
}
_MEASUREMENTS = {
    "effective_rank": "effective rank of the features",
    "embedding_std": "spread of the keys (1: even, 0: collapsed)",
    "positive": "cosine of query and key",
    "gradient_norm": "norm of the gradient",
    "lr": "learning rate",
    "images_per_second": "images per second",
}


def write_run_page(run: Path, out: Path) -> Path:
    """Write the page of a run folder, one HTML file that fetches nothing; the run may still be under way.

    Args:
        run: folder of `pretrain`.
        out: the file, or the folder in which it becomes run.html.

    Returns:
        The path of the page.

    Raises:
        ConfigError: if `run` is no run folder, or its config or metrics cannot be read.
        FileError: if the page cannot be written.
    """
    summary = read_run(run)
    pictures, missing = _views(summary.folder, summary.config)
    findings = [(*_BADGES[finding.level], _public(finding)) for finding in summary.diagnosis.findings]
    negatives = negatives_charts({summary.name: [summary.records]})
    return write_page(
        page_file(out, "run.html"),
        "run.html.j2",
        pictures=pictures,
        title=f"{summary.name}: {summary.diagnosis.headline}",
        kicker=f"Run · {summary.diagnosis.summary}",
        contents=[],
        findings=findings,
        notes=missing,
        loss=_loss(summary),
        knn=_knn(summary),
        sources=_by_source(summary),
        measurements=_measurements(summary),
        negatives=negatives,
        changed=_changed(summary),
        settings=_settings(summary),
        hash=summary.config.hash,
        folder=summary.name,
    )


def _public(finding: Finding) -> dict[str, object]:
    advice = [public_text(sentence) for sentence in finding.advice]
    return {"check": finding.check, "reason": public_text(finding.reason), "advice": advice}


def _loss(summary: RunSummary) -> Markup | None:
    if not summary.records:
        return None
    metric = "loss" if summary.config.training.objective == "supervised" else "real_loss"
    runs = {summary.name: summary.records}
    chart = loss_chart(summary.name, runs, metric=metric, height=360)
    return figure(chart, "loss", caption=gaps(runs, metric))


def _knn(summary: RunSummary) -> Markup | None:
    if not summary.knn:
        return None
    line = curve("k-NN", summary.knn, "knn", 2, marked=True)
    spoken = "; ".join(point.tip for point in line.points)
    chart = LineChart("Online k-NN score", spoken, [line], Axis("steps", reach=(0.0,)), Axis("top-1 (%)"), height=260)
    return figure(chart, "knn")


def _by_source(summary: RunSummary) -> Markup | None:
    """Return the loss of real and of synthetic rows in a mixed run."""
    names = ("real", "synthetic")
    lines = [curve(name, summary.records, f"loss/{name}", number) for number, name in enumerate(names)]
    lines = [line for line in lines if line.end is not None]
    if not lines:
        return None
    spoken = "; ".join(line.end.tip for line in lines if line.end)
    chart = LineChart("Loss by source", spoken, lines, Axis("steps", reach=(0.0,)), Axis("loss (nats)"), height=260)
    return figure(chart, "sources")


def _measurements(summary: RunSummary) -> list[tuple[str, Markup]]:
    panels = []
    for metric, title in _MEASUREMENTS.items():
        line = curve(title, summary.records, metric, 0)
        if line.end is not None:
            chart = LineChart(title, line.end.tip, [line], Axis("steps", reach=(0.0,)), Axis(), height=220)
            panels.append((title, figure(chart, metric.replace("_", "-"), small=True)))
    return panels


def _views(folder: Path, config: Config) -> tuple[dict[str, bytes], list[str]]:
    """Return two views of some images as a picture, or why there are none."""
    if any("://" in source for source in (*config.data.real, *config.data.synthetic)):
        return {}, ["No views of images are shown: they lie at a URL, and a report fetches nothing."]
    try:
        data = _training_data(folder, config)
        order = data.mixer.order(0)
        chosen = order[keyed_rng.permutation(len(order), "pictures of a report", config.seed)[:_VIEWS]]
        views = views_of(data.images, config.views, data.mixer, data.codec, [(0, int(key)) for key in chosen])
        shown = [data.images.read(int(index)) for index in data.mixer.view_images(0, chosen)[0]]
    except (Syn2CoError, OSError) as error:
        return {}, [f"No views of images are shown: {public_text(str(error))}"]
    rows = list(zip(shown, *views, strict=True))
    return {"Two views of each image, as the first epoch sees them": _png(view_grid(rows))}, []


def _training_data(folder: Path, config: Config) -> TrainingData:
    """Return what the run read, under the same numbers, checked only if they depend on the check."""
    numbered_by_check = bool(config.data.synthetic) or (folder / QUARANTINE).exists()
    return in_phases(
        open_training_data(
            config.data.model_copy(update={"check": config.data.check and numbered_by_check}),
            config.mix,
            seed=config.seed,
            batch=config.training.batch,
            size=config.views.size,
            cache="never",
            workers=available_cpus(),
        ),
        config,
    )


def _png(drawn: Figure) -> bytes:
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", dpi=110, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def _changed(summary: RunSummary) -> list[tuple[str, str, str]]:
    """Return the settings that the run has otherwise than its recipe: name, the run's value, the recipe's."""
    if summary.config.recipe not in RECIPES:
        return []
    base = recipe(summary.config.recipe)
    start = replace(summary, config=base, precision=base.training.precision).settings
    return [(name, value, start.get(name, "")) for name, value in summary.settings.items() if start.get(name) != value]


def _settings(summary: RunSummary) -> PageTable:
    rows = [[Item(name), Item(value)] for name, value in summary.settings.items()]
    return PageTable(
        "Every setting of the run; paths have their last part alone", [Column("setting"), Column("value")], rows
    )
