"""The first half of the demo: pretrain on patches of photographs without labels, score, draw."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from syn2co.core.keyed_rng import permutation
from syn2co.data.open import open_images
from syn2co.data.views import two_views
from syn2co.evaluation.results import EvaluationReport
from syn2co.pretraining.config import Config
from syn2co.pretraining.metrics import read_metrics
from syn2co.pretraining.recipes import recipe
from syn2co.pretraining.train import pretrain
from syn2co.reports.demo_page import write_page
from syn2co.reports.evaluation import evaluate
from syn2co.reports.figures import bars, loss_curve, save, view_grid
from syn2co.reports.study_pictures import neighbors_figure

RUN = "syn2co"  # the folder, and the name in the tables
TRAIN, TEST = "builtin:photos:train", "builtin:photos:test"
PICTURES = {
    "views.png": "Two views of the same patch: what the encoder learns to recognize as one image.",
    "loss.png": "The loss over real negatives leaves its uninformative line: the encoder is learning.",
    "neighbors.png": "Test patches and their nearest training patches in the features; green: of the same photograph.",
    "scores.png": "How often the photograph is named from a patch that was never seen, with 95 % intervals.",
}


def pretraining_demo(
    out: Path, *, settings: Sequence[str], protocols: Sequence[str], progress: bool
) -> EvaluationReport:
    """Pretrain with the demo's recipe, score, and write pictures and demo.html into `out`; return the scores."""
    config = recipe("demo").with_settings(settings)
    run = pretrain(config, out=out / RUN, progress=progress)
    report = evaluate(run.folder, [TRAIN], [TEST], protocols=protocols, out=out, progress=progress)
    draw(config, report, out, RUN)
    intro = (
        f"A vision transformer trained for {run.steps} steps without labels on patches of photographs, with six kinds "
        f"of synthetic hard negatives. The score: name the photograph of {report.rows[0].n_test} patches that it never "
        "saw."
    )
    write_page(out, intro, report, PICTURES)
    return report


def draw(config: Config, report: EvaluationReport, out: Path, run: str) -> None:
    """Draw the views, the loss and the nearest neighbors of one run, and the scores of all, into `out`."""
    bank = open_images([TRAIN])
    rows = permutation(len(bank), "demo pictures", config.seed)[:8]
    shown = [(bank.read(i), *two_views(bank.read(i), config.views, seed=config.seed, epoch=0, index=i)) for i in rows]
    save(view_grid(shown), out / "views.png")
    save(loss_curve(read_metrics(out / run)), out / "loss.png")
    save(bars(report.rows), out / "scores.png")
    save(demo_neighbors(TRAIN, TEST, out / run), out / "neighbors.png")


def demo_neighbors(train: str, test: str, run: Path) -> Figure:
    """Return test patches beside their nearest labeled ones in the features of a run."""
    queries = open_images([test])
    some = queries.subset(sorted(permutation(len(queries), "demo neighbours", 0)[:8]))
    return neighbors_figure(open_images([train]), some, run, 6)
