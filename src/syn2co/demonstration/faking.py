"""The whole demo: fake images and negatives, look at them, and see what each does at equal steps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from syn2co.core.keyed_rng import permutation
from syn2co.data.open import open_images
from syn2co.demonstration.pretraining import PICTURES, TEST, TRAIN, draw
from syn2co.evaluation.results import EvaluationReport
from syn2co.pretraining.config import Config
from syn2co.pretraining.recipes import recipe
from syn2co.pretraining.train import pretrain
from syn2co.reports.audit import audit
from syn2co.reports.demo_page import write_page
from syn2co.reports.evaluation import evaluate
from syn2co.reports.figures import image_rows, save
from syn2co.synthesis.generation.generate import generate
from syn2co.synthesis.sets.settings import SynthesisSettings

STEPS = 300  # of each run: six of them fit into ten minutes on two slow cores
COUNT = 2240  # images of each generator; runs on real images see as many distinct patches as both make together
GENERATORS: dict[str, dict[str, Any]] = {
    "procedural": {"generator": "procedural"},
    "fitted": {"generator": "fitted"},
}
IMAGES: dict[str, dict[str, Any]] = {
    "real": {"real": True, "synthetic": False},
    "synthetic": {"real": False, "synthetic": True},
    "mixed": {"real": True, "synthetic": True},
}
NEGATIVES = "+synthetic-negatives"  # how the runs with synthetic negatives are called


def faking_demo(out: Path, *, settings: Sequence[str], protocols: Sequence[str], progress: bool) -> EvaluationReport:
    """Make procedural and fitted images, audit them, train on real, synthetic and mixed images, with and without
    synthetic negatives, at equal steps, and write scores, findings and pictures into `out`; return the scores.
    """
    folders = [out / "synthetic" / name for name in GENERATORS]
    for folder in folders:
        chosen = {**GENERATORS[folder.name], "size": 32, "work": {"count": COUNT}}
        generate(SynthesisSettings.parse(chosen), folder, real=[TRAIN], progress=progress)
    looked = audit(folders, real=[TRAIN], against=[TEST], out=out / "audit", progress=progress)
    grid = {
        name + suffix: _config(name, bool(suffix), folders, settings) for name in IMAGES for suffix in ("", NEGATIVES)
    }
    runs = [pretrain(config, out=out / "runs" / name, progress=progress).folder for name, config in grid.items()]
    report = evaluate(runs, [TRAIN], [TEST], protocols=protocols, out=out, progress=progress)
    draw(grid["real" + NEGATIVES], report, out, f"runs/real{NEGATIVES}")
    _draw_images(folders, out)
    write_page(out, _intro(report), report, {"synthetic.png": _CAPTION, **PICTURES}, _findings(report, looked.headline))
    return report


_CAPTION = (
    "Real patches, procedural images (leaves, spectra, fractals, warps and their mixtures: no data went in) and images "
    "fitted to the real patches (their spectra and colors, phases drawn)."
)


def _config(images: str, negatives: bool, folders: Sequence[Path], settings: Sequence[str]) -> Config:
    """Return the demo's recipe on some of the images, with its synthetic negatives or none."""
    config = recipe("demo").with_settings([f"training.steps={STEPS}", "machine.save_minutes=1"])
    which = IMAGES[images]
    data = {
        "real": (TRAIN,) if which["real"] else (),
        "synthetic": tuple(map(str, folders)) if which["synthetic"] else (),
    }
    config = config.model_copy(update={"data": config.data.model_copy(update=data)})
    if which["real"]:
        config = config.with_settings([f"mix.max_real={COUNT * len(GENERATORS)}"])
    if which["real"] and which["synthetic"]:
        config = config.with_settings(["mix.ratio=0.5"])
    if not negatives:
        config = config.with_settings([f"negatives.{kind}=0" for kind in config.negatives.counts])
    return config.with_settings(settings)


def _draw_images(folders: Sequence[Path], out: Path) -> None:
    """Draw real patches above those of each generator."""
    rows: dict[str, list[np.ndarray]] = {}
    for name, source in (("real", TRAIN), *((folder.name, folder) for folder in folders)):
        images = open_images([source])
        rows[name] = [images.read(int(i)) for i in permutation(len(images), "demo pictures", name)[:12]]
    save(image_rows(rows), out / "synthetic.png")


def _intro(report: EvaluationReport) -> str:
    return (
        "Six vision transformers, trained without labels for equally many steps: on patches of photographs, on "
        "synthetic images, and on both (half and half); with MoBY's negatives alone and with six kinds of synthetic "
        f"ones. The score: name the photograph of {report.rows[0].n_test} patches that none of them saw."
    )


def _findings(report: EvaluationReport, audited: str) -> list[str]:
    """Return what the comparisons say, in points of percent with 95 % intervals."""
    protocol = report.rows[0].protocol
    pairs = [
        ("Synthetic negatives, on real images", "real" + NEGATIVES, "real"),
        ("Synthetic images instead of real ones", "synthetic", "real"),
        ("Half of the images synthetic", "mixed", "real"),
        ("Synthetic images against none at all", "synthetic", "random init"),
        ("Both fakes together, against real images alone", "mixed" + NEGATIVES, "real"),
    ]
    lines = [f"Audit of the synthetic images: {audited} (audit/audit.html)"]
    for what, one, other in pairs:
        if {one, other} <= {row.encoder for row in report.rows}:
            gap = report.compare(one, other, protocol)
            told = "told apart from chance" if gap.low > 0 or gap.high < 0 else "not told apart from chance"
            lines.append(f"{what}: {gap.value:+.1f} points ({gap.low:+.1f} to {gap.high:+.1f}; {told}, one seed).")
    return lines
