"""Files of a study as they are read: its definition and the JSON of its cells, each checked before it is used."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from syn2co.core.errors import ConfigError, EvaluationError, StudyError
from syn2co.core.json_files import JsonError, check_shape, read_json
from syn2co.evaluation.stored_report import report_of
from syn2co.studies.grid import Study
from syn2co.studies.results import FORMAT, STUDY, CellResult, Cost, FailedCell


def read_definition(folder: Path) -> Study:
    """Return the study whose folder this is.

    Raises:
        StudyError: if it is none, or study.json is damaged or of another format.
    """
    path = folder / STUDY
    try:
        body = read_json(path, _StudyFile)
        if body.get("format", FORMAT) != FORMAT:
            raise StudyError(f"{folder.name}/{STUDY}: has format {body['format']}, this version reads {FORMAT}")
        return Study.parse(body["study"])
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
        StudyError: as `parse_cell`, and if it is no result of a finished cell.
    """
    result = parse_cell(path)
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


def parse_cell(path: Path) -> CellResult | FailedCell:
    """Return what the file of a cell holds.

    Raises:
        StudyError: if it cannot be read or is of another format.
    """
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
    except OSError as error:
        raise StudyError(f"{name}: cannot be read ({error.strerror or error})") from None
    except (JsonError, EvaluationError, TypeError) as error:
        raise StudyError(f"{name}: cannot be read ({error})") from None


class _StudyFile(BaseModel):
    """JSON of study.json, as far as a reader needs it."""

    format: int = FORMAT
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


class _FindingFile(BaseModel):
    """JSON of one finding of `doctor`, as far as a study shows it."""

    check: str
    level: str
    reason: str


class _HealthFile(BaseModel):
    """JSON of a run's health; an untrained encoder has none."""

    headline: str = ""
    findings: list[_FindingFile] = []


class _CellFile(BaseModel):
    """JSON of a finished cell, without its format; the scores are `report_of`'s."""

    cell: str
    levels: dict[str, str]
    seed: int = Field(ge=0, lt=10_000)  # a study plans all seeds up to the largest
    evaluation: dict[str, Any]
    cost: _CostFile
    steps: int
    health: _HealthFile
    curves: list[dict[str, Any]]
    config: dict[str, Any]
    commands: list[str]
    shared: dict[str, str]
    version: str
    source_hash: str = ""
    precision: str = ""
