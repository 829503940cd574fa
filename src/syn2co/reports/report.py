"""`report`: one page for a run, a study, an audit or an evaluation."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from syn2co.core.errors import ConfigError, StudyError
from syn2co.core.paths import is_file, is_folder, user_path
from syn2co.core.progress import note
from syn2co.core.settings import one_or_many
from syn2co.evaluation.stored_report import read_report
from syn2co.pretraining.run_folder import CONFIG
from syn2co.reports.evaluation_page import write_evaluation_page
from syn2co.reports.page_parts import public_text
from syn2co.reports.run_page import write_run_page
from syn2co.reports.run_summary import EVALUATION
from syn2co.reports.study_pictures import write_page_with_pictures
from syn2co.studies.answers import answer
from syn2co.studies.merge import read_study
from syn2co.studies.result_files import read_definition
from syn2co.studies.results import STUDY

AUDIT = "audit.json"
KINDS = {"study": STUDY, "run": CONFIG, "audit": AUDIT, "evaluation": EVALUATION}
"""The file by which a folder is known, by what it holds."""


def report(paths: str | Path | Sequence[str | Path], *, out: str | Path | None = None) -> list[Path]:
    """Write one page of HTML for each run, study, audit and evaluation, and return their paths.

    Folders that hold parts of one study become one page; its notes are printed on standard error too. A folder that
    holds a run and its evaluation gets both pages. The page of an audit is the one that `audit` wrote, because it shows
    images that the folder does not keep. Pictures on the page of a study are those that `study` keeps in its folder.

    Args:
        paths: folders of `pretrain`, `study`, `audit --out` and `evaluate --out`, in any order.
        out: folder for the pages, or a file NAME.html where there is one page; None is beside the data.

    Returns:
        The paths of the pages, in the order of the first folder of each.

    Raises:
        ConfigError: if a folder holds none of these, `out` is one file for several pages, or a run cannot be read.
        StudyError: if a study cannot be read.
        EvaluationError: if an evaluation cannot be read.
        FileError: if a page cannot be written.

    Example:
        >>> small = ["training.steps=1", "training.batch=8", "queue.size=64", "negatives.hardest=16", "heads.hidden=64"]
        >>> run = syn2co.pretrain("demo", out="run", real=["builtin:digits:test"], settings=small, progress=False)
        >>> [page.name for page in report(run.folder)]
        ['run.html']
    """
    several = list(map(user_path, one_or_many(paths)))
    pages = _pages(several)
    target = None if out is None else user_path(out)
    if target is not None and target.suffix == ".html" and len(pages) > 1:
        raise ConfigError(f"--out {target.name}: is one file for {len(pages)} pages; give a folder")
    written = []
    for number, (kind, folders) in enumerate(pages):
        where = folders[0]
        if target is not None:
            alone = len(pages) == 1
            where = target if alone else target / f"{number + 1}-{folders[0].resolve().name}-{kind}.html"
        written.append(_WRITERS[kind](folders, where))
    return written


def kinds_of(path: Path) -> list[str]:
    """Return what a folder holds: "study", "run", "audit", "evaluation".

    Raises:
        ConfigError: if it is none of them.
    """
    kinds = [kind for kind, name in KINDS.items() if is_file(path / name)]
    if not kinds:
        what = "holds no run, study, audit or evaluation" if is_folder(path) else "is no folder"
        raise ConfigError(
            f"PATH {path.name or path}: {what} ({', '.join(KINDS.values())}); give the --out folder of `syn2co "
            "pretrain`, `study`, `audit` or `evaluate`"
        )
    return kinds


def _pages(paths: Sequence[Path]) -> list[tuple[str, list[Path]]]:
    """Return the kind and the folders of each page; studies of one grid share a page."""
    pages: list[tuple[str, list[Path]]] = []
    studies: dict[str, list[Path]] = {}
    for path in paths:
        for kind in kinds_of(path):
            folders = [path]
            if kind == "study":
                folders = studies.setdefault(_grid(path), [])
                folders.append(path)
            if len(folders) == 1:
                pages.append((kind, folders))
    return pages


def _grid(folder: Path) -> str:
    """Return the study of a folder without its seeds, as text; its own path if that cannot be read."""
    try:
        study = read_definition(folder)
    except StudyError:
        return str(folder.resolve())  # read_study has the sentence for it
    return study.model_dump_json(exclude={"seeds"})


def _study(folders: Sequence[Path], where: Path) -> Path:
    answers = answer(read_study(folders))
    for sentence in answers.notes:
        note(public_text(sentence))
    return write_page_with_pictures(answers, where, folders)


def _evaluation(folders: Sequence[Path], where: Path) -> Path:
    return write_evaluation_page(read_report(folders[0]), where)


def _audit(folders: Sequence[Path], where: Path) -> Path:
    """Return the page of an audit where it lies, or a copy of it."""
    page = folders[0] / "audit.html"
    if not page.is_file():
        raise ConfigError(f"PATH {folders[0].name}: its audit.html is missing; run `syn2co audit` again")
    if where == folders[0]:
        return page
    copy = where if where.suffix == ".html" else where / page.name
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(page, copy)
    return copy


_WRITERS: Mapping[str, Callable[[Sequence[Path], Path], Path]] = {
    "study": _study,
    "run": lambda folders, where: write_run_page(folders[0], where),
    "audit": _audit,
    "evaluation": _evaluation,
}
