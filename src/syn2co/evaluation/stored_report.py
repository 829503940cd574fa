"""Scores read back from evaluation.json, with one value per test image.

Axes: M test images, R draws of the training labels.
"""

from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import decompressobj
from zlib import error as ZlibError

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, Field

from syn2co.core.errors import EvaluationError
from syn2co.core.json_files import JsonError, check_shape, read_json
from syn2co.core.paths import is_folder, user_path
from syn2co.core.settings import Count
from syn2co.evaluation.results import FORMAT, EvaluationReport
from syn2co.evaluation.scores import Score


class _ScoreFile(BaseModel):
    """JSON of one score, whose values per test image are packed."""

    protocol: str
    encoder: str
    data: str
    metric: str
    value: float
    low: float
    high: float
    n_test: Count
    n_train: Count
    seed: int
    draws: int = Field(ge=0, le=2**20)
    setting: str
    protocol_hash: str
    data_fingerprint: str
    encoder_hash: str
    percent: bool
    higher_is_better: bool
    details: dict[str, Any]


class _ReportFile(BaseModel):
    """JSON of a report; its other names are metadata."""

    classes: dict[str, list[str]]
    notes: list[str]
    scores: list[_ScoreFile]


_PACKED = {"correct", "values"}
_OF_REPORT = {"format", "classes", "notes", "mean_ranks", "scores"}


def read_report(path: str | Path) -> EvaluationReport:
    """Return the report that `EvaluationReport.write` left in a folder, or in an evaluation.json.

    Classes named per image (`predicted`, `labels`) are not stored and come back as None.

    Raises:
        EvaluationError: if there is none, it is damaged, or of another format.
    """
    path = user_path(path)
    file = path / "evaluation.json" if is_folder(path) else path
    try:
        body = read_json(file)
    except OSError as error:
        raise EvaluationError(f"{file.name}: cannot be read ({error.strerror}); evaluate with --out first") from None
    except JsonError as error:
        raise EvaluationError(f"{file.name}: is damaged (it {error}); evaluate again") from None
    return report_of(body, file.name)


def report_of(body: Any, name: str) -> EvaluationReport:
    """Return the report of the JSON of `EvaluationReport.to_json`.

    Raises:
        EvaluationError: if it is of another format, or a part is missing.
    """
    version = body.get("format") if isinstance(body, dict) else None
    if version != FORMAT:
        raise EvaluationError(f"{name}: has format {version}, this version reads {FORMAT}; evaluate again")
    try:
        check_shape(body, _ReportFile)
        rows = tuple(_score(dict(row)) for row in body["scores"])
        classes = {data: tuple(names) for data, names in body["classes"].items()}
        metadata = {key: value for key, value in body.items() if key not in _OF_REPORT}
        return EvaluationReport(rows, tuple(body["notes"]), metadata, classes)
    except JsonError as error:
        raise EvaluationError(f"{name}: is damaged (it {error}); evaluate again") from None
    except (AttributeError, KeyError, TypeError, ValueError, ZlibError) as error:
        raise EvaluationError(f"{name}: is damaged ({type(error).__name__}: {error}); evaluate again") from None


def _score(row: dict[str, Any]) -> Score:
    packed = {key: row.pop(key) for key in _PACKED & row.keys()}
    return Score(**row, values=_unpacked(packed, row["n_test"], row["draws"]))


def _unpacked(packed: Mapping[str, str], images: int, draws: int) -> Float[np.ndarray, "*R M"]:
    if "correct" in packed:
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(packed["correct"]), np.uint8))
        if not 0 <= len(bits) - images < 8:
            raise ValueError(f"{len(bits)} values for {images} test images")
        return bits[:images].astype(np.float64)
    whole = decompressobj().decompress(b64decode(packed["values"]), 4 * images * draws + 4)  # a few bytes may be GiB
    values = np.frombuffer(whole, "<f4").astype(np.float64)
    return values.reshape(draws, images) if values.size != images else values
