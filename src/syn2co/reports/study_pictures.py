"""Pictures of a study's page: real beside synthetic images, nearest neighbors; a file of the folder keeps them."""

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from pydantic import BaseModel

from syn2co.core.errors import FileError
from syn2co.core.files import write_atomically
from syn2co.core.json_files import JsonError, read_json
from syn2co.core.keyed_rng import permutation
from syn2co.core.progress import note
from syn2co.data.open import open_images
from syn2co.evaluation.features import extract
from syn2co.evaluation.protocols.knn import neighbors
from syn2co.images.image_set import ImageSet
from syn2co.models.load import load_encoder
from syn2co.reports.figures import Image, image_rows, nearest_neighbors, png
from syn2co.reports.page_parts import public_text
from syn2co.reports.study_page import write_study_page
from syn2co.studies.answers import StudyAnswers
from syn2co.studies.cell import CellJob
from syn2co.studies.cell_run import RUN
from syn2co.studies.run import StudyRun

PICTURES = "pictures.json"
FORMAT = 1
MOST_SETS, ROW = 4, 10
BANK, QUERIES, NEIGHBORS = 500, 6, 5
LARGEST = 700_000
"""Bytes of a picture; one with more gets a palette of 256 colors, and is left out if that does not help."""


def write_page_with_pictures(answers: StudyAnswers, out: Path, folders: Iterable[Path]) -> Path:
    """Write the page of a study with the pictures that its folders keep; without them if it would be too large.

    Args:
        answers: of `syn2co.studies.answers.answer`.
        out: the file, or the folder in which it becomes study.html.
        folders: folders of the study; the first one with pictures gives them.

    Returns:
        The path of the page.

    Raises:
        FileError: if it cannot be written.
    """
    pictures = next(filter(None, map(stored_pictures, folders)), None)
    try:
        return write_study_page(answers, out, pictures=pictures)
    except FileError:
        if pictures is None:
            raise
        return write_study_page(answers, out)


def stored_pictures(folder: Path) -> dict[str, bytes]:
    """Return what `store_pictures` wrote, caption -> PNG; nothing if the file is missing or damaged."""
    try:
        stored = read_json(folder / PICTURES, _PicturesFile)["pictures"]
        return {caption: base64.b64decode(text, validate=True) for caption, text in stored.items()}
    except (OSError, JsonError, ValueError):
        return {}


def store_pictures(folder: Path, pictures: Mapping[str, bytes]) -> None:
    """Write pictures.json, caption -> PNG, which goes wherever the folder is copied."""
    texts = {caption: base64.b64encode(data).decode() for caption, data in pictures.items()}
    write_atomically(folder / PICTURES, json.dumps({"format": FORMAT, "pictures": texts}) + "\n")


class _PicturesFile(BaseModel):
    """JSON of pictures.json."""

    format: int
    pictures: dict[str, str]


def draw_pictures(run: StudyRun) -> dict[str, bytes]:
    """Return thumbnails of a study's images, caption -> PNG: of what is there, and of as few as a page takes.

    Real images above those of each synthetic set, at most four, and test images beside their nearest labeled ones in
    the features of one run. Which images are shown depends on their numbers alone.

    Args:
        run: the study, whose finished cells are looked at; a picture whose images are gone is left out.
    """
    jobs = [job for job in run.jobs if job.cell.level.images != "untrained" and run.is_done(job)]
    pictures: dict[str, bytes] = {}
    for draw in (_beside, _nearest) if jobs else ():
        try:
            caption, figure = draw(run, jobs)
            pictures[public_text(caption)] = small_png(figure)
        except Exception as error:  # whatever it is must not take the answers, after hours of cells
            note(f"a picture of the page is missing ({error})")
    return {caption: data for caption, data in pictures.items() if len(data) <= LARGEST}


def _beside(run: StudyRun, jobs: Sequence[CellJob]) -> tuple[str, Figure]:
    """Return some real images above some of each synthetic set."""
    sources = {"real": run.inputs.real}
    for job in jobs:
        vary = job.images is not None and job.images.vary
        name = f"{job.cell.level.source}{' variations' if vary else ''}"
        made = job.config.data.synthetic if job.images is None else (str(job.set_folder(run.folder)),)
        stored = job.images is None or Path(made[0]).is_dir()  # of merged folders, or after a clearing, some are not
        if made and stored and len(sources) <= MOST_SETS:
            sources.setdefault(name, made)
    rows = {name: _some(open_images(list(specs), check=False), name) for name, specs in sources.items()}
    kinds = "Real and synthetic images" if len(rows) > 1 else "Real images"
    return f"{kinds} of the study, drawn by chance.", image_rows(rows)


def _some(images: ImageSet, name: str) -> list[Image]:
    return [images.read(int(index)) for index in permutation(len(images), "study pictures", name)[:ROW]]


def _nearest(run: StudyRun, jobs: Sequence[CellJob]) -> tuple[str, Figure]:
    """Return test images beside their nearest labeled ones in the features of a run, a mixed one if there is any."""
    jobs = [job for job in jobs if (run.cell_folder(job) / RUN).is_dir()] or jobs
    job = next((job for job in jobs if job.cell.level.images != "real"), jobs[0])
    sides = [open_images(list(specs), check=False) for specs in (job.inputs.train, job.inputs.test)]
    labeled = [images.subset(np.flatnonzero(images.labels >= 0)) for images in sides]
    bank, queries = (
        images.subset(np.sort(permutation(len(images), "study neighbors", side)[:most]))
        for images, side, most in zip(labeled, ("train", "test"), (BANK, QUERIES), strict=True)
    )
    figure = neighbors_figure(bank, queries, run.cell_folder(job) / RUN, min(NEIGHBORS, len(bank)))
    caption = f"Test images and their nearest of {len(bank)} labeled images in the features of one run"
    return f"{caption} ({job.cell.text}).", figure


def neighbors_figure(bank: ImageSet, queries: ImageSet, run: Path, count: int) -> Figure:
    """Return some test images beside their nearest labeled ones in the features of a run.

    Args:
        bank: labeled images.
        queries: labeled images, one a row.
        run: folder of the run.
        count: neighbors of each.
    """
    encoder = load_encoder(run)
    _, rows = neighbors(extract(encoder, bank), extract(encoder, queries), count)
    return nearest_neighbors(
        [queries.read(i) for i in range(len(queries))],
        [[bank.read(int(j)) for j in row] for row in rows],
        np.array([queries.classes[label] for label in queries.labels]),
        np.array([[bank.classes[bank.labels[j]] for j in row] for row in rows]),
    )


def small_png(figure: Figure) -> bytes:
    """Return a figure as PNG, with a palette of 256 colors if it would be large."""
    data = png(figure)
    if len(data) <= LARGEST:
        return data
    from PIL import Image as PillowImage

    buffer = io.BytesIO()
    PillowImage.open(io.BytesIO(data)).convert("RGB").quantize(256).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
