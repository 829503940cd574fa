"""Provenance of weights: the run that they come from, and whether labels went in; no absolute path."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from syn2co.core.files import public_path
from syn2co.core.paths import printable
from syn2co.core.urls import is_url, without_secrets


def provenance_of(state: Mapping[str, Any], weights: str, branch: str) -> dict[str, Any]:
    """Return where the weights of a checkpoint come from, by its state; reports show it."""
    mix = state.get("mix", {})
    return {
        "weights": weights, "branch": branch, "step": state["step"], "config_hash": state.get("config_hash"),
        **{key: state[key] for key in ("objective", "init") if key in state},
        **{key: mix[key] for key in ("labels", "generators") if key in mix},
    }  # fmt: skip


def run_record(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model card says of a run, by the state of its checkpoint; a fact that it lacks is left out."""
    config, mix = state.get("config", {}), state.get("mix", {})
    data = config.get("data", {})
    record = {
        "recipe": state.get("recipe"), "config_hash": state.get("config_hash"), "seed": state.get("seed"),
        "step": state.get("step"), "total_steps": state.get("total_steps"), "images": state.get("images"),
        "real": source_names(data.get("real", ())), "synthetic": source_names(data.get("synthetic", ())),
        "generators": mix.get("generators", []), "licenses": mix.get("licenses", {}), "labels": labels_of(state),
        "init": state.get("init"), "written_by": state.get("machine", {}).get("syn2co"),
    }  # fmt: skip
    return {name: fact for name, fact in record.items() if fact is not None}


def labels_of(state: Mapping[str, Any]) -> str:
    """Return "used", "none" or "unknown": whether labels went into the weights of a checkpoint.

    They may have gone into the loss (supervised), into synthetic images, or into the weights that the run began with.
    """
    ways = [
        "used" if state.get("objective") == "supervised" else "none",
        state.get("mix", {}).get("labels", "none"),
        state.get("init", {}).get("labels", "none"),
    ]
    return next((answer for answer in ("used", "unknown") if answer in ways), "none")


def source_names(specs: Iterable[str]) -> list[str]:
    """Return sources of images without the folders that they lie in.

    Example:
        >>> source_names(["/data/birds", "builtin:digits:train", "hf:/data/sets/cars", "https://host/sets/birds.tar"])
        ['birds', 'builtin:digits:train', 'hf:cars', 'birds.tar']
    """
    return [source_name(str(spec)) for spec in specs]


def source_name(spec: str | Path) -> str:
    """Return a source or an encoder without the folder that it lies in: reports must not tell where it was."""
    text = without_secrets(str(spec))
    if is_url(text):
        return printable(text.rstrip("/").rpartition("/")[2])
    if scheme := re.match(r"[a-z]{2,}:", text):  # one letter is a drive of Windows
        name, *parts = text[scheme.end() :].split(":")
        parts = [Path(part).name for part in parts] if scheme[0] == "timm:" else parts  # timm:NAME:FILE
        return scheme[0] + ":".join(public_path(part) for part in (name, *parts))
    return printable(os.path.basename(os.path.realpath(text)) or text)  # a link to itself stops Path.resolve
