"""`syn2co demo`: the main job on photographs that ship with the dependencies; offline, minutes on two CPU cores."""

import html
import time
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from syn2co.config import Config
from syn2co.evaluation import EvaluationReport, evaluate
from syn2co.evaluation.features import extract
from syn2co.evaluation.knn import neighbours
from syn2co.files import write_atomically
from syn2co.images import ImageSet, open_images
from syn2co.images.views import two_views
from syn2co.keyed import permutation
from syn2co.metrics import read_metrics
from syn2co.models import load_encoder
from syn2co.pictures import bars, loss_curve, nearest_neighbours, save, view_grid
from syn2co.recipes import recipe
from syn2co.train import pretrain

RUN = "syn2co"  # the folder, and the name in the tables
TRAIN, TEST = "builtin:photos:train", "builtin:photos:test"
PICTURES = {
    "views.png": "Two views of the same patch: what the encoder learns to recognise as one image.",
    "loss.png": "The loss over real negatives leaves its uninformative line: the encoder is learning.",
    "neighbours.png": "Test patches and their nearest training patches in the features; green: of the same photograph.",
    "scores.png": "How often the photograph is named from a patch that was never seen, with 95 % intervals.",
}


def demo(
    out: str | Path = "runs/demo",
    *,
    settings: Sequence[str] = (),
    protocols: Sequence[str] = ("knn",),
    progress: bool = True,
) -> EvaluationReport:
    """Pretrain without labels, score, and write pictures and demo.html into `out`; return the scores.

    Training and test patches are cut from different parts of the same photographs and share no pixel; the label, never
    trained on, is the photograph. A second call goes on with, or shows again, what the first one did.

    Raises:
        Syn2CoError: as `pretrain` and `evaluate`.
    """
    out, console, started = Path(out), Console(), time.monotonic()
    config = recipe("demo").with_settings(settings)
    run = pretrain(config, out=out / RUN, progress=progress)
    report = evaluate(run.folder, [TRAIN], [TEST], protocols=protocols, out=out, progress=progress)
    draw(config, report, out)
    minutes = (time.monotonic() - started) / 60
    write_atomically(out / "demo.html", page(report, out, run.steps))
    console.print(report.table())
    console.print(f"{minutes:.1f} minutes. Open {out / 'demo.html'}, or the pictures beside it.", highlight=False)
    return report


def draw(config: Config, report: EvaluationReport, out: Path) -> None:
    """Draw the views, the loss, the nearest neighbours and the scores of a finished demo into `out`."""
    bank, queries = open_images([TRAIN]), open_images([TEST])
    rows = permutation(len(bank), "demo pictures", config.seed)[:8]
    shown = [(bank.read(i), *two_views(bank.read(i), config.views, seed=config.seed, epoch=0, index=i)) for i in rows]
    save(view_grid(shown), out / "views.png")
    save(loss_curve(read_metrics(out / RUN)), out / "loss.png")
    save(bars(report.rows), out / "scores.png")
    save(_neighbours(bank, queries, out / RUN, config.seed), out / "neighbours.png")


def _neighbours(bank: ImageSet, queries: ImageSet, run: Path, seed: int) -> Figure:
    encoder = load_encoder(run)
    chosen = sorted(permutation(len(queries), "demo neighbours", seed)[:8])
    some = queries.subset(chosen)
    _, found = neighbours(extract(encoder, bank), extract(encoder, some), 6)
    return nearest_neighbours(
        [some.read(i) for i in range(len(some))],
        [[bank.read(int(j)) for j in row] for row in found],
        np.array([some.classes[label] for label in some.labels]),
        np.array([[bank.classes[bank.labels[j]] for j in row] for row in found]),
    )


def page(report: EvaluationReport, out: Path, steps: int) -> str:
    """Return one HTML page with the scores and the pictures inside, to be opened without a server."""
    rows = "".join(
        f"<tr><td>{html.escape(score.encoder)}</td><td>{html.escape(score.protocol)}</td>"
        f"<td>{score.value:.1f} %</td><td>{score.low:.1f} to {score.high:.1f}</td></tr>"
        for score in report.rows
    )
    figures = "".join(
        f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,'
        f'{b64encode((out / name).read_bytes()).decode()}"><figcaption>{html.escape(caption)}</figcaption></figure>'
        for name, caption in PICTURES.items()
        if (out / name).exists()
    )
    return _PAGE.format(rows=rows, figures=figures, steps=steps, n=report.rows[0].n_test)


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>syn2co demo</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}}
table{{border-collapse:collapse}}td,th{{padding:.3rem .9rem;border-bottom:1px solid #ddd;text-align:left}}
img{{max-width:100%}}figure{{margin:2rem 0}}figcaption{{color:#555}}</style>
<h1>syn2co demo</h1><p>A vision transformer trained for {steps} steps without labels on patches of photographs,
with six kinds of synthetic hard negatives. The score: name the photograph of {n} patches that it never saw.</p>
<table><tr><th>encoder</th><th>protocol</th><th>top-1</th><th>95 % interval</th></tr>{rows}</table>{figures}</html>
"""
