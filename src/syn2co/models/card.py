"""The model card of an exported encoder, in Markdown, from the record of its run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from syn2co.core.errors import EvaluationError
from syn2co.core.json_files import JsonError, read_json
from syn2co.core.templates import render
from syn2co.core.versions import __version__
from syn2co.models.encoder import Encoder
from syn2co.models.state import weights_hash

SCORES = "evaluation.json"


class _ScoreRow(BaseModel):
    """JSON of one score, as far as a card shows it."""

    encoder: str
    data: str = ""
    protocol: str
    metric: str
    value: float
    low: float
    high: float
    n_test: int
    encoder_hash: str
    percent: bool = True


class _ScoresFile(BaseModel):
    """JSON of evaluation.json, likewise."""

    scores: list[_ScoreRow]


def model_card(encoder: Encoder, record: Mapping[str, Any], scores: Sequence[Mapping[str, Any]]) -> str:
    """Return the card; `record` is that of `models.provenance.run_record`, perhaps empty."""
    provenance = encoder.provenance
    rows = {
        "Network": f"{encoder.spec.name} {json.dumps(encoder.spec.options) if encoder.spec.options else ''}",
        "Features": f"{encoder.width} numbers per image",
        "Input": f"RGB of {encoder.image_size} x {encoder.image_size} px, {_transform(encoder)}",
        **_training(provenance, record),
        "Labels": _labels(provenance, record),
        "Generators of synthetic images": _generators(record),
    }
    return render(
        "models/templates/model_card.md.j2",
        title=provenance.get("weights", encoder.spec.name),
        rows={name: text for name, text in rows.items() if text},
        scores=[_cells(row, weights_hash(encoder.state_dict())) for row in scores],
        no_labels=record.get("labels") == "none",
        version=__version__,
    )


def read_scores(path: Path, encoder: Encoder) -> list[dict[str, Any]]:
    """Return the scores in an evaluation.json, in its order, if it has some of these very weights; else none.

    Raises:
        EvaluationError: if the file cannot be read or is no report of `syn2co evaluate`.
    """
    try:
        rows = read_json(path, _ScoresFile)["scores"]
    except OSError as error:
        raise EvaluationError(
            f"--scores {path.name}: cannot be read ({error.strerror}); give the {SCORES} of `syn2co evaluate --out`"
        ) from None
    except JsonError:
        raise EvaluationError(
            f"--scores {path.name}: holds no scores of this version; give the {SCORES} of `syn2co evaluate --out`"
        ) from None
    own_hash = weights_hash(encoder.state_dict())
    return rows if any(own_hash == row["encoder_hash"] for row in rows) else []


def _transform(encoder: Encoder) -> str:
    mean, std = ([round(value, 4) for value in values] for values in (encoder.spec.mean, encoder.spec.std))
    square = "squashed to a square, " if encoder.squash else ""
    return f"{encoder.interpolation}, {square}center crop of {encoder.crop_ratio:.3g}, mean {mean}, std {std}"


def _training(provenance: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, str]:
    steps = str(record.get("step", ""))
    if record.get("total_steps") not in (None, record.get("step")):
        steps += f" of {record['total_steps']}: the run was not finished"
    counted = f" ({record['images']} images in all)" if "images" in record else ""
    return {
        "Recipe": str(record.get("recipe", "")),
        "Config hash": str(record.get("config_hash", "")),
        "Seed": str(record.get("seed", "")),
        "Steps": steps,
        "Branch": str(provenance.get("branch", "")),
        "Real images": ", ".join(record["real"]) + counted if record.get("real") else "",
        "Synthetic images": ", ".join(record.get("synthetic", ())),
        "Started from": _start(record.get("init")),
        "Trained with": f"syn2co {record['written_by']}" if "written_by" in record else "",
    }


def _start(init: Mapping[str, Any] | None) -> str:
    if init is None:
        return ""
    return f"the weights {init['source']} (layout {init['layout']}, hash {init['hash']})"


def _labels(provenance: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    if provenance.get("objective") == "supervised":
        return "used: the network was trained to tell the classes"
    return {
        "used": "used, though not in the loss: do not call this network unsupervised",
        "none": "none used",
    }.get(record.get("labels", "unknown"), "unknown whether any were used")


def _generators(record: Mapping[str, Any]) -> str:
    """Return the generators with their licenses; the license of a model is that on its own card."""
    licenses = record.get("licenses", {})
    return "; ".join(
        f"{name} (license: {', '.join(licenses.get(name) or ['unknown'])})" for name in record.get("generators", ())
    )


def _cells(row: Mapping[str, Any], own_hash: str) -> list[str]:
    name = "this network" if row["encoder_hash"] == own_hash else row["encoder"]
    percent = row.get("percent", True)
    value, low, high = (f"{row[key]:{'.1f' if percent else '.3g'}}" for key in ("value", "low", "high"))
    return [
        name, str(row.get("data", "")), row["protocol"], row["metric"], f"{value} %" if percent else value,
        f"{low} to {high}", str(row["n_test"]),
    ]  # fmt: skip
