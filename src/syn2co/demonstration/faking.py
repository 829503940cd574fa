"""The whole demo: a small study of both fakes on patches of photographs, and its page."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from syn2co.core.cpus import available_cpus
from syn2co.core.keyed_rng import permutation
from syn2co.core.progress import note
from syn2co.data.open import open_images
from syn2co.demonstration.pretraining import TEST, TRAIN, demo_neighbors
from syn2co.reports.figures import image_rows, png, save
from syn2co.reports.study_pictures import store_pictures, stored_pictures, write_page_with_pictures
from syn2co.studies.answers import StudyAnswers, answer
from syn2co.studies.cell_run import RUN
from syn2co.studies.grid import Contrast, Level, Study
from syn2co.studies.inputs import StudyInputs
from syn2co.studies.run import StudyRun, begin, run_cells

LABELED = "builtin:photos:labeled"
NUMBERS = ("16", "64", "1024")
ALONE, HALF, FAKE, UNTRAINED = "real only", "half procedural", "procedural only", "untrained"
FEW, MANY = NUMBERS[0], NUMBERS[-1]
MOST_JOBS = 4
"""Most cells at the same time: each takes about a gigabyte."""
CAPTION = "Real patches, and procedural images: leaves, spectra, fractals, warps and mixtures; no data went into them."
NEIGHBORS = f"Test patches and their nearest labeled patches in the features of one run ({FEW} real patches, {HALF})."

STUDY = Study(
    name="demo",
    title="Does faking help on these photographs?",
    recipe="demo",
    settings=(
        *("training.steps=120", "mix.epoch_images=4480"),
        *("encoder.options.embed_dim=96", "encoder.options.depth=3"),
    ),
    factors={
        "real images": {number: Level(real_images=int(number)) for number in NUMBERS},
        "images": {
            ALONE: Level(images="real"),
            HALF: Level(images="mixed", source="procedural", share=0.5),
            FAKE: Level(images="synthetic", source="procedural"),
            UNTRAINED: Level(images="untrained"),
        },
        "negatives": {"all six": Level(), "none": Level(settings=("negatives=none",))},
    },
    only=(
        {"images": (ALONE, HALF), "negatives": ("all six",)},
        {"images": (FAKE, UNTRAINED), "real images": (FEW,), "negatives": ("all six",)},
        {"images": (ALONE,), "real images": (MANY,), "negatives": ("none",)},
    ),
    baseline={"real images": FEW, "images": ALONE, "negatives": "all six"},
    contrasts=(
        Contrast(
            name="images that never existed against an untrained encoder",
            question="random",
            one={"images": FAKE},
            other={"images": UNTRAINED},
        ),
        Contrast(
            name=f"{FEW} real patches with procedural images against the patches alone",
            question="enough",
            one={"images": HALF},
            other={"images": ALONE},
        ),
        Contrast(
            name=f"{MANY} real patches with procedural images against the patches alone",
            question="enough",
            one={"images": HALF, "real images": MANY},
            other={"images": ALONE, "real images": MANY},
        ),
        Contrast(
            name=f"{MANY} real patches against an untrained encoder",
            question="random",
            one={"images": ALONE, "real images": MANY},
            other={"images": UNTRAINED},
        ),
        Contrast(
            name=f"six kinds of synthetic negatives against none, {MANY} real patches",
            question="negatives",
            one={"images": ALONE, "real images": MANY},
            other={"images": ALONE, "real images": MANY, "negatives": "none"},
        ),
    ),
    protocols=("knn",),
    generated=2240,
    axis="real images",
    versus="images",
)


def faking_demo(out: Path, *, settings: Sequence[str], protocols: Sequence[str], progress: bool) -> StudyAnswers:
    """Run the demo's study in `out`, or what it lacks, and write study.html; return the answers."""
    study = STUDY.model_copy(update={"protocols": tuple(protocols)})
    machine = ("machine.tensorboard=false", "machine.save_minutes=1")
    inputs = StudyInputs(real=(TRAIN,), train=(LABELED,), test=(TEST,), settings=(*machine, *settings))
    run = begin(study, inputs, out)
    answers = answer(run_cells(run, jobs=min(MOST_JOBS, available_cpus()), progress=progress))
    if pictures := _pictures(run, out):
        store_pictures(out, {**stored_pictures(out), **pictures})
    write_page_with_pictures(answers, out, [out])
    return answers


def _pictures(run: StudyRun, out: Path) -> dict[str, bytes]:
    """Return real patches above procedural ones, and nearest neighbors in the features of the first mixed run.

    A picture that cannot be drawn is left out with a note, because its images were deleted say.
    """
    job = next((job for job in run.jobs if job.cell.level.images == "mixed" and run.is_done(job)), None)
    if job is None:  # each of them failed
        return {}
    made, run_folder = job.set_folder(run.folder), run.cell_folder(job) / RUN
    pictures: dict[str, bytes] = {}
    for caption, name, draw in (
        (CAPTION, "synthetic.png", lambda: _beside(made)),
        (NEIGHBORS, "neighbors.png", lambda: demo_neighbors(LABELED, TEST, run_folder)),
    ):
        try:
            figure = draw()
            save(figure, out / name)
            pictures[caption] = png(figure)
        except Exception as error:  # whatever it is must not take the answers, after minutes of cells
            note(f"a picture of the page is missing ({error})")
    return pictures


def _beside(made: Path) -> Figure:
    rows: dict[str, list[np.ndarray]] = {}
    for name, source in (("real", TRAIN), ("procedural", made)):
        images = open_images([source])
        rows[name] = [images.read(int(i)) for i in permutation(len(images), "demo pictures", name)[:12]]
    return image_rows(rows)
