"""Results of a study merged from any number of folders, never averaged across differences."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from syn2co.core.errors import StudyError
from syn2co.core.versions import __version__
from syn2co.studies.grid import Cell, Study, text
from syn2co.studies.result_files import parse_cell, read_definition
from syn2co.studies.results import CELLS, FAILED, RESULT, CellResult, FailedCell, ScoreKey, StudyResults, key_of

_AGAIN = "; delete its folder to run it again"


def read_study(folders: str | Path | Sequence[str | Path]) -> StudyResults:
    """Return the results of a study from one folder or several that hold parts of it.

    Args:
        folders: folders of `syn2co study`, or a study.json beside cells/NAME.json.

    Returns:
        The study and its finished cells; notes name whatever is left out and why.

    Raises:
        StudyError: if a folder holds no study, or they hold different studies.
    """
    several = [folders] if isinstance(folders, str | Path) else list(folders)
    studies = [(Path(folder), read_definition(Path(folder))) for folder in several]
    study = studies[0][1]
    for folder, other in studies[1:]:
        if _grid(other) != _grid(study):
            raise StudyError(
                f"{folder.name}: holds another study than {studies[0][0].name} ({other.name}, {study.name}); give "
                "folders of one study"
            )
    notes: list[str] = []
    files = [path for folder, _ in studies for path in _files(folder)]
    parsed = [(path, _parse_noted(path, notes)) for path in files]
    results = [one for _, one in parsed]
    cells = _distinct([one for one in results if isinstance(one, CellResult)], notes)
    kept = _comparable(cells, study, notes)
    finished, averaged = {key_of(cell) for cell in cells}, {key_of(cell) for cell in kept}
    failed = {key_of(one): one for one in results if isinstance(one, FailedCell) and key_of(one) not in averaged}
    left_out = tuple(cell for cell in cells if key_of(cell) not in averaged)
    most = max([*(other.seeds for _, other in studies), *(cell.seed + 1 for cell in kept)])
    study = study.model_copy(update={"seeds": most})
    torn = [_slug(path) for path, one in parsed if one is None and path.exists()]
    unreadable = tuple(_named(torn, study, finished | failed.keys()))
    return StudyResults(study, kept, tuple(failed.values()), tuple(notes), left_out, unreadable)


def _distinct(cells: Sequence[CellResult], notes: list[str]) -> list[CellResult]:
    """Return each cell once, the first of those that stand in several folders."""
    firsts: dict[tuple[str, str], CellResult] = {}
    for cell in cells:
        first = firsts.setdefault((cell.cell, cell.version), cell)
        if first is not cell and _scores(first) != _scores(cell):
            name = f"{text(cell.levels)}, seed {cell.seed}"
            notes.append(f"{name}: stands here twice with other scores; the first is taken")
    return list(firsts.values())


def _scores(cell: CellResult) -> str:
    """Return the scores of a cell as JSON, without the machine that they were computed on."""
    return replace(cell.report, metadata={}, notes=()).to_json()


def _files(folder: Path) -> list[Path]:
    """Return the files of cells, finished and failed, in a folder; cells/NAME/run has other files."""
    return sorted(
        path for pattern in ("*.json", f"*/{RESULT}", f"*/{FAILED}") for path in (folder / CELLS).glob(pattern)
    )


def _slug(path: Path) -> str:
    """Return what the name of a cell's file, or of its folder, says of the cell: all but the hash at its end."""
    name = path.parent.name if path.name in (RESULT, FAILED) else path.stem
    return name.rpartition("-")[0]


def _named(slugs: Sequence[str], study: Study, known: Set[tuple[Any, ...]]) -> Iterator[Cell]:
    """Yield the planned cells that slugs name, but for known ones and those whose slug is another one's too."""
    cells = [(cell.slug, cell) for cell in study.cells()] if slugs else []
    count, torn = Counter(slug for slug, _ in cells), set(slugs)
    for slug, cell in cells:
        if slug in torn and count[slug] == 1 and key_of(cell) not in known:
            yield cell


def _parse_noted(path: Path, notes: list[str]) -> "CellResult | FailedCell | None":
    """Return what a file holds; if it cannot be read, a note says so, unless whoever resumes the cell deleted it."""
    try:
        return parse_cell(path)
    except StudyError as error:
        notes += [f"{error}; it is left out"] if path.exists() else []
        return None


def _grid(study: Study) -> dict[str, Any]:
    return study.model_dump(exclude={"seeds"})


def _comparable(cells: list[CellResult], study: Study, notes: list[str]) -> tuple[CellResult, ...]:
    """Return the cells of the commonest version whose scores have the commonest form each; note the rest."""
    known = list(study.combinations())
    kept = [cell for cell in cells if cell.levels in known]
    if len(kept) < len(cells):
        left_out = len(cells) - len(kept)
        notes.append(f"{left_out} of {len(cells)} cells have levels that are not in the study, and are left out")
    ours_first = sorted((cell.version for cell in kept), key=lambda version: version != __version__)
    version = _commonest(ours_first)
    of_version = [cell for cell in kept if cell.version == version]  # they alone say what is usual
    forms: dict[ScoreKey, list[tuple[str, str]]] = {}
    for cell in of_version:
        for key, form in _forms(cell).items():
            forms.setdefault(key, []).append(form)
    usual = {key: _commonest(several) for key, several in forms.items()}
    names = {name for cell in of_version for name in cell.shared}
    shared = {name: _commonest(cell.shared[name] for cell in of_version if name in cell.shared) for name in names}
    reasons = [_odd(cell, version, usual, shared) for cell in kept]
    usable = {key_of(cell) for cell, reason in zip(kept, reasons, strict=True) if not reason}
    for cell, reason in zip(kept, reasons, strict=True):
        if reason:
            again = version == __version__ != cell.version and key_of(cell) not in usable
            notes.append(f"{text(cell.levels)}, seed {cell.seed}: is left out ({reason}{_AGAIN if again else ''})")
    kept = _once([cell for cell, reason in zip(kept, reasons, strict=True) if not reason], notes)
    kept.sort(key=lambda cell: (known.index(cell.levels), cell.seed))
    for protocol, data in usual:
        lacking = [cell for cell in kept if cell.score(protocol, data) is None]
        if lacking:
            where = f" on {data}" if data else ""
            notes.append(f"{protocol}{where}: {len(lacking)} of {len(kept)} cells have no such score")
    return tuple(kept)


def _commonest(values: Iterable[Any]) -> Any:
    """Return the commonest value, the first of equals; None of nothing."""
    return next(iter([value for value, _ in Counter(values).most_common(1)]), None)


def _forms(cell: CellResult) -> dict[ScoreKey, tuple[str, str]]:
    return {
        ScoreKey(row.protocol, row.data): (row.protocol_hash, f"{row.data_fingerprint} {row.n_test}")
        for row in cell.report.rows
    }


def _odd(cell: CellResult, version: str, usual: Mapping[ScoreKey, tuple[str, str]], shared: Mapping[str, str]) -> str:
    """Return why a cell must not be averaged with the others; empty if it may be."""
    if cell.version != version:
        return f"made by version {cell.version}, most are by {version}"
    if others := [name for name in cell.shared if cell.shared[name] != shared[name]]:
        return f"has other {', '.join(sorted(others))} than most cells"
    for key, form in _forms(cell).items():
        if form != usual[key]:
            what = "form of the protocol" if form[0] != usual[key][0] else "test or training images"
            return f"{key.protocol} has another {what} than most cells"
    return ""


def _once(cells: list[CellResult], notes: list[str]) -> list[CellResult]:
    """Return one cell per levels and seed: the one whose settings most others have, the first by hash of equals."""
    groups: dict[tuple[Any, ...], list[CellResult]] = {}
    for cell in sorted(cells, key=lambda cell: cell.cell):
        groups.setdefault(key_of(cell), []).append(cell)
    settings = {cell.cell: dict(_leaves(cell.config)) for cell in cells}
    usual = Counter(setting for values in settings.values() for setting in values.items())
    kept = []
    for several in groups.values():
        differ = {name for one in several for name, _ in settings[one.cell].items() ^ settings[several[0].cell].items()}
        best = max(several, key=lambda one: sum(usual[name, settings[one.cell].get(name, "")] for name in differ))
        kept.append(best)
        for one in several:
            if one is not best:
                differing = settings[one.cell].items() ^ settings[best.cell].items()
                names = sorted({name for name, _ in differing})[:3]
                by = ", ".join(f"{name} = {settings[one.cell].get(name, 'none')}" for name in names)
                by = by or "other synthetic images or initial weights"
                notes.append(f"{text(one.levels)}, seed {one.seed}: was run with {by} too; that one is left out")
    return kept


def _leaves(values: Mapping[str, Any], under: str = "") -> Iterator[tuple[str, str]]:
    """Yield the name of each setting with its value as JSON."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{under}{name}.")
        else:
            yield f"{under}{name}", json.dumps(value)
