"""Results of a study: one JSON file a cell, read from any number of folders and never averaged across differences."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from syn2co.core.errors import ConfigError, EvaluationError, StudyError
from syn2co.core.files import write_atomically
from syn2co.core.json_files import JsonError, check_shape, read_json
from syn2co.core.versions import __version__
from syn2co.evaluation.results import EvaluationReport
from syn2co.evaluation.scores import Score
from syn2co.evaluation.stored_report import report_of
from syn2co.studies.grid import Cell, Levels, Study, text

FORMAT = 1
_AGAIN = "; delete its folder to run it again"
STUDY, CELLS, RESULT, FAILED = "study.json", "cells", "cell.json", "failed.json"


@dataclass(frozen=True)
class Cost:
    """Seconds of one cell, and what they made."""

    training_seconds: float = 0.0
    """Wall time of the training loop."""
    generation_seconds: float = 0.0
    """Wall time of fitting, training and sampling the generator; a set that several cells share counts in each."""
    evaluation_seconds: float = 0.0
    images_made: int = 0
    """Synthetic images stored for the cell."""
    processors: str = ""
    """The processor and the threads or ranks that the times are of."""

    @property
    def seconds(self) -> float:
        """All of them."""
        return self.training_seconds + self.generation_seconds + self.evaluation_seconds


@dataclass(frozen=True)
class CellResult:
    """One finished cell."""

    cell: str
    """Hash of what determines it."""
    levels: Levels
    seed: int
    report: EvaluationReport
    cost: Cost = Cost()
    steps: int = 0
    """Optimizer steps that were taken."""
    health: Mapping[str, Any] = field(default_factory=dict)
    """Headline and findings of the doctor; empty for the untrained encoder."""
    curves: Sequence[Mapping[str, Any]] = ()
    """At most 100 records of metrics.jsonl."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Resolved settings of the run."""
    commands: Sequence[str] = ()
    """Commands that repeat the cell by hand."""
    shared: Mapping[str, str] = field(default_factory=dict)
    """What cells must have in common to be averaged: fingerprints of their images, settings that were added."""
    version: str = __version__

    def score(self, protocol: str, data: str) -> Score | None:
        """Return one score, None if the cell has none of that protocol on that data set."""
        return next((row for row in self.report.rows if (row.protocol, row.data) == (protocol, data)), None)

    def write(self, folder: Path) -> None:
        """Write cell.json into the cell's folder."""
        body = {
            "format": FORMAT,
            **{name: value for name, value in asdict(self).items() if name != "report"},
            "evaluation": json.loads(self.report.to_json()),
        }
        write_atomically(folder / RESULT, json.dumps(body, separators=(",", ":")) + "\n")


@dataclass(frozen=True)
class FailedCell:
    """A cell that ended with an error."""

    cell: str
    levels: Levels
    seed: int
    reason: str

    def write(self, folder: Path) -> None:
        """Write failed.json into the cell's folder."""
        write_atomically(folder / FAILED, json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")


class ScoreKey(NamedTuple):
    """A score of the study: a protocol on a data set, the empty name for the given test images."""

    protocol: str
    data: str


@dataclass(frozen=True)
class StudyResults:
    """A study with what is finished of it."""

    study: Study
    cells: tuple[CellResult, ...]
    """Finished cells that may be averaged: of one version, one set of data and one form of each protocol."""
    failed: tuple[FailedCell, ...] = ()
    notes: tuple[str, ...] = ()
    """Sentences on whatever is missing, left out or different."""
    left_out: tuple[CellResult, ...] = ()
    """Finished cells that must not be averaged with the others."""
    unreadable: tuple[Cell, ...] = ()
    """Planned cells whose file cannot be read, by the name of the file or its folder."""

    def of(self, levels: Mapping[str, str]) -> dict[int, CellResult]:
        """Return the finished cells of these levels by seed, in order."""
        cells = [cell for cell in self.cells if cell.levels == levels]
        return {cell.seed: cell for cell in sorted(cells, key=lambda cell: cell.seed)}

    @property
    def scores(self) -> list[ScoreKey]:
        """Every protocol and data set of which at least one cell has a score."""
        keys = (ScoreKey(row.protocol, row.data) for cell in self.cells for row in cell.report.rows)
        return list(dict.fromkeys(keys))

    @property
    def missing(self) -> list[str]:
        """The planned cells that are not finished, in words."""
        finished = {_key(cell) for cell in self.cells}
        return [cell.text for cell in self.study.cells() if (*sorted(cell.levels.items()), cell.seed) not in finished]


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
    results = [_parse_noted(path, notes) for path in files]
    cells = _distinct([one for one in results if isinstance(one, CellResult)], notes)
    kept = _comparable(cells, study, notes)
    finished, averaged = {_key(cell) for cell in cells}, {_key(cell) for cell in kept}
    failed = {_key(one): one for one in results if isinstance(one, FailedCell) and _key(one) not in averaged}
    left_out = tuple(cell for cell in cells if _key(cell) not in averaged)
    most = max([*(other.seeds for _, other in studies), *(cell.seed + 1 for cell in kept)])
    study = study.model_copy(update={"seeds": most})
    torn = [_slug(path) for path, one in zip(files, results, strict=True) if one is None]
    unreadable = tuple(_named(torn, study, finished | failed.keys()))
    return StudyResults(study, kept, tuple(failed.values()), tuple(notes), left_out, unreadable)


def _distinct(cells: Sequence[CellResult], notes: list[str]) -> list[CellResult]:
    """Return each cell once, the first of those that stand in several folders."""
    firsts: dict[tuple[str, str], CellResult] = {}
    for cell in cells:
        first = firsts.setdefault((cell.cell, cell.version), cell)
        if first is not cell and first.report.to_json() != cell.report.to_json():
            name = f"{text(cell.levels)}, seed {cell.seed}"
            notes.append(f"{name}: stands here twice with other scores; the first is taken")
    return list(firsts.values())


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
        if slug in torn and count[slug] == 1 and _key(cell) not in known:
            yield cell


def _parse_noted(path: Path, notes: list[str]) -> "CellResult | FailedCell | None":
    """Return what a file holds; if it cannot be read, a note says so."""
    try:
        return _parse_cell(path)
    except StudyError as error:
        notes.append(f"{error}; it is left out")
        return None


def _key(cell: "CellResult | FailedCell | Cell") -> tuple[Any, ...]:
    return (*sorted(cell.levels.items()), cell.seed)


def _grid(study: Study) -> dict[str, Any]:
    return study.model_dump(exclude={"seeds"})


def read_definition(folder: Path) -> Study:
    """Return the study whose folder this is.

    Raises:
        StudyError: if it is none, or study.json is damaged.
    """
    path = folder / STUDY
    try:
        return Study.parse(read_json(path, _StudyFile)["study"])
    except OSError:
        raise StudyError(
            f"{folder.name}: holds no {STUDY}, so it is no study; give the --out of `syn2co study`"
        ) from None
    except JsonError as error:
        raise StudyError(f"{folder.name}/{STUDY}: {error}; restore it") from None
    except ConfigError as error:
        raise StudyError(f"{folder.name}/{STUDY}: is damaged ({error}); restore it") from None


def read_cell(path: Path) -> CellResult:
    """Return the result in one file.

    Raises:
        StudyError: if it cannot be read or is of another format.
    """
    result = _parse_cell(path)
    if not isinstance(result, CellResult):
        raise StudyError(f"{path.name}: is no result of a cell ({result.reason})")
    return result


def read_cost(path: Path) -> Cost | None:
    """Return the cost of a finished cell, None if there is none or its file is damaged; of another format, no cost.

    A file of another format is a result of another version of syn2co, and is not made again.
    """
    try:
        version = read_json(path, _CellVersion)["format"]
        return Cost() if version != FORMAT else read_cell(path).cost
    except (OSError, JsonError, StudyError):
        return None


def _parse_cell(path: Path) -> "CellResult | FailedCell":
    name = f"{path.parent.name}/{path.name}"
    try:
        body = read_json(path, _CellVersion)
        version = body.pop("format")
        if version != FORMAT:
            raise StudyError(f"{name}: has format {version}, this version reads {FORMAT}")
        if "evaluation" not in body:
            return FailedCell(**check_shape(body, _FailedFile))
        check_shape(body, _CellFile)
        report, cost = report_of(body.pop("evaluation"), name), Cost(**body.pop("cost"))
        return CellResult(**body, report=report, cost=cost)
    except (OSError, JsonError, EvaluationError, TypeError) as error:
        raise StudyError(f"{name}: cannot be read ({error})") from None


class _StudyFile(BaseModel):
    """JSON of study.json, as far as a reader needs it."""

    study: dict[str, Any]


class _CellVersion(BaseModel):
    """JSON of a cell of any version."""

    format: int


class _FailedFile(BaseModel):
    """JSON of a failed cell, without its format."""

    cell: str
    levels: dict[str, str]
    seed: int
    reason: str


class _CostFile(BaseModel):
    """JSON of a cell's cost."""

    model_config = ConfigDict(extra="forbid")
    training_seconds: FiniteFloat
    generation_seconds: FiniteFloat
    evaluation_seconds: FiniteFloat
    images_made: int
    processors: str


class _CellFile(BaseModel):
    """JSON of a finished cell, without its format; the scores are `report_of`'s."""

    cell: str
    levels: dict[str, str]
    seed: int = Field(ge=0, lt=10_000)  # a study plans all seeds up to the largest
    evaluation: dict[str, Any]
    cost: _CostFile
    steps: int
    health: dict[str, Any]
    curves: list[dict[str, Any]]
    config: dict[str, Any]
    commands: list[str]
    shared: dict[str, str]
    version: str


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
    usable = {_key(cell) for cell, reason in zip(kept, reasons, strict=True) if not reason}
    for cell, reason in zip(kept, reasons, strict=True):
        if reason:
            again = version == __version__ != cell.version and _key(cell) not in usable
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
    """Return one cell per levels and seed, the first by hash; the others are noted."""
    kept: dict[tuple[Any, ...], CellResult] = {}
    for cell in sorted(cells, key=lambda cell: cell.cell):
        key = _key(cell)
        if key in kept:
            notes.append(f"{text(cell.levels)}, seed {cell.seed}: was run with other settings too; one is left out")
        kept.setdefault(key, cell)
    return list(kept.values())
