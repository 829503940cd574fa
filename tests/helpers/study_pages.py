"""A study of known results for the pages: scores, curves, costs and corruptions without any training."""

import math
from collections.abc import Mapping

import numpy as np

from syn2co.core import keyed_rng
from syn2co.evaluation.results import EvaluationReport
from syn2co.evaluation.scores import Score
from syn2co.objective.counts import KINDS
from syn2co.studies.grid import Contrast, Level, Study
from syn2co.studies.results import CellResult, Cost, FailedCell, StudyResults

IMAGES = 800
CORRUPTIONS = ("gaussian_noise", "defocus_blur", "frost", "jpeg_compression")
TRUTH = {  # accuracy by images and real images
    "untrained": {"500": 35.0, "2000": 35.0, "8000": 35.0},
    "real only": {"500": 52.0, "2000": 61.0, "8000": 66.0, "all": 67.0},
    "half flow": {"500": 59.0, "2000": 64.0, "8000": 66.2, "all": 67.0},
    "flow, then real": {"500": 57.0, "2000": 63.5, "8000": 66.0, "all": 67.0},
}


def study(**changed: object) -> Study:
    """Return a study of four kinds of images at three numbers of real ones."""
    return Study.parse(
        {
            "name": "enough",
            "title": "How many real images are enough, with and without faking?",
            "recipe": "synco-cifar10",
            "factors": {
                "images": {
                    "untrained": Level(images="untrained"),
                    "real only": Level(images="real"),
                    "half flow": Level(images="mixed", source="flow", share=0.5),
                    "flow, then real": Level(images="then", source="flow", share=0.5),
                },
                "real images": {number: Level(real_images=int(number)) for number in ("500", "2000", "8000")},
            },
            "baseline": {"images": "real only", "real images": "2000"},
            "contrasts": [
                Contrast(name="real images against a random encoder", question="random",
                         one={"images": "real only"}, other={"images": "untrained"}),
                *(Contrast(name=f"half of the images made by the flow, {number} real ones", question="enough",
                           one={"images": "half flow", "real images": number}, other={"real images": number})
                  for number in ("500", "2000", "8000")),
            ],
            "only": [{"images": ["untrained"], "real images": ["2000"]},
                     {"images": ["real only", "half flow", "flow, then real"]}],
            "protocols": ["knn", "linear", "robustness"],
            "seeds": 3,
            "axis": "real images",
            "versus": "images",
        } | changed
    )  # fmt: skip


def results(given: Study | None = None, *, seeds: int = 3, failed: tuple[FailedCell, ...] = ()) -> StudyResults:
    """Return finished cells of all levels and seeds, but for the cells that failed."""
    given = given or study(seeds=seeds)
    left_out = {(tuple(cell.levels.values()), cell.seed) for cell in failed}
    cells = [
        cell_result(cell.levels, cell.seed)
        for cell in given.cells(range(seeds))
        if (tuple(cell.levels.values()), cell.seed) not in left_out
    ]
    return StudyResults(given, tuple(cells), failed)


def cell_result(levels: Mapping[str, str], seed: int) -> CellResult:
    """Return one finished cell with its scores around the truth."""
    images, number = levels["images"], levels["real images"]
    truth = TRUTH[images][number] + float(keyed_rng.generator("seed", seed, images, number).normal(0, 0.5))
    rows = [
        _row("knn", "", truth), _row("linear", "", truth + 3), _row("knn", "cifar100", truth - 25),
        _row("robustness", "", truth - 12, _corrupted(truth)),
    ]  # fmt: skip
    trained = images != "untrained"
    report = EvaluationReport(tuple(rows), (), {}, {})
    return CellResult(
        cell=f"{images}-{number}-{seed}".replace(" ", ""),
        levels=dict(levels),
        seed=seed,
        report=report,
        cost=Cost(5400 * trained, 900 * ("flow" in images), 240, 10_000 * ("flow" in images), "EPYC, 1 thread"),
        steps=4000 * trained,
        health={"headline": "healthy", "findings": []} if trained else {},
        curves=_curves(truth, seed) if trained else (),
        config={"queue": {"size": 4096}},
        shared={"real images": "fingerprint of /home/me/cifar"},
        commands=[
            f"syn2co pretrain --recipe synco-cifar10 --real /home/me/cifar --set seed={seed} --out /scratch/x/run"
        ],
    )


def _row(protocol: str, data: str, percent: float, details: Mapping[str, object] | None = None) -> Score:
    ranks = keyed_rng.permutation(IMAGES, "difficulty", protocol, data)  # the same images are hard for all
    values = (ranks < IMAGES * percent / 100).astype(np.float64)
    return Score(
        protocol=protocol, encoder="run", data=data, metric="top-1", value=100 * values.mean(), low=percent - 2,
        high=percent + 2, n_test=IMAGES, n_train=5000, seed=0, draws=1, setting="k=20",
        protocol_hash=f"{protocol}-hash", data_fingerprint=f"{data or 'given'}-images",
        encoder_hash="encoder", details=details or {}, values=values,
    )  # fmt: skip


def _corrupted(truth: float) -> dict[str, object]:
    accuracy = {
        name: [truth - 3 * severity - place for severity in (1, 3, 5)] for place, name in enumerate(CORRUPTIONS)
    }
    return {"accuracy": accuracy, "severities": [1, 3, 5], "clean": truth, "groups": {}}


def _curves(truth: float, seed: int) -> list[dict[str, object]]:
    records = []
    for step in range(40, 4001, 40):
        loss = 16.6 - truth / 12 * (1 - math.exp(-step / 900)) + 0.05 * math.sin(step + seed)
        opened = step > 500
        kinds = {f"mass/{kind}": 0.02 * (place + 1) for place, kind in enumerate(KINDS)} if opened else {}
        kinds |= {f"hardness/{kind}": 0.3 + 0.08 * place for place, kind in enumerate(KINDS)} if opened else {}
        records.append({"step": step, "epoch": step / 40, "loss": loss + 0.2, "real_loss": loss, "uninformative": 16.6,
                        "synthetic": opened, "effective_rank": 40.0, **kinds})  # fmt: skip
    return records
