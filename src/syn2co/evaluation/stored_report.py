"""Scores read back from evaluation.json, with one value per test image.

Axes: M test images, R draws of the training labels.
"""

import json
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import decompress
from zlib import error as ZlibError

import numpy as np
from jaxtyping import Float

from syn2co.core.errors import EvaluationError
from syn2co.evaluation.results import FORMAT, EvaluationReport
from syn2co.evaluation.scores import Score

_PACKED = {"correct", "values"}
_OF_REPORT = {"format", "classes", "notes", "mean_ranks", "scores"}


def read_report(path: str | Path) -> EvaluationReport:
    """Return the report that `EvaluationReport.write` left in a folder, or in an evaluation.json.

    Classes named per image (`predicted`, `labels`) are not stored and come back as None.

    Raises:
        EvaluationError: if there is none, it is damaged, or of another format.
    """
    file = Path(path) / "evaluation.json" if Path(path).is_dir() else Path(path)
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise EvaluationError(f"{file.name}: cannot be read ({error.strerror}); evaluate with --out first") from None
    except ValueError as error:
        raise EvaluationError(f"{file.name}: is damaged ({error}); evaluate again") from None
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
        rows = tuple(_score(dict(row)) for row in body["scores"])
        classes = {data: tuple(names) for data, names in body["classes"].items()}
        metadata = {key: value for key, value in body.items() if key not in _OF_REPORT}
        return EvaluationReport(rows, tuple(body["notes"]), metadata, classes)
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
    values = np.frombuffer(decompress(b64decode(packed["values"])), "<f4").astype(np.float64)
    return values.reshape(draws, images) if values.size != images else values
