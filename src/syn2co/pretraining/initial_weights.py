"""Weights that a run begins with, and their place in its identity: a config's hash depends on their content."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from syn2co.core.errors import CheckpointError, ConfigError
from syn2co.core.files import write_atomically
from syn2co.core.progress import note
from syn2co.models.import_weights import InitialWeights, read_initial_weights, start_from
from syn2co.models.provenance import source_names
from syn2co.pretraining.config import Config, load_config
from syn2co.pretraining.run import Method
from syn2co.runtime import distributed
from syn2co.runtime.checkpoint import FOLDER, Checkpoint

RECORD = "init.json"
_CONFIG = "config.json"


def with_initial_weights(config: Config, folder: Path, *, trust: bool) -> tuple[Config, InitialWeights | None]:
    """Return the config with the hash of the weights that `init_from` names, and the weights.

    They are None if a run that has a checkpoint resumes: the hash is then the one that it began with, whatever became
    of its source.

    Raises:
        CheckpointError: if the weights cannot be read and no run that began with them resumes.
        ConfigError: if `init_hash` is set and the weights have another, if ranks read others, or if timm has no such
            network.
    """
    source = config.init_from
    if source is None:
        return config, None
    began_with = distributed.broadcast_object(distributed.main_first(lambda: _hash_of_run(folder, source)))
    if began_with is not None and config.init_hash in (None, began_with):
        if distributed.is_main():
            _say_if_changed(source, began_with, trust)
        return config.model_copy(update={"init_hash": began_with}), None
    weights = distributed.main_first(lambda: read_initial_weights(source, trust=trust))
    _refuse_unlike_ranks(weights)
    if config.init_hash not in (None, weights.hash):
        raise ConfigError(
            f"init_from = {weights.source}: its weights have the hash {weights.hash}, and init_hash = "
            f"{config.init_hash}; give the weights that the config was written with, or set init_hash=null"
        )
    return config.model_copy(update={"init_hash": weights.hash}), weights


def _refuse_unlike_ranks(weights: InitialWeights) -> None:
    """Refuse ranks with other weights than rank 0; only one of the branches is made equal later."""
    hashes = distributed.all_gather_objects(weights.hash)
    for rank, other in enumerate(hashes):
        if other != hashes[0]:
            raise ConfigError(
                f"init_from = {weights.source}: rank {rank} reads weights with the hash {other}, and rank 0 "
                f"{hashes[0]}; give all machines the same ones, which must not change during the start"
            )


def begin_with(model: Method, weights: InitialWeights, folder: Path) -> None:
    """Load what fits into every branch of the model, say what does not, and write both down in the run folder.

    Raises:
        CheckpointError: if nothing fits.
    """
    branches = (getattr(model, name, None) for name in ("online", "target"))
    fit = start_from([branch.encoder for branch in branches if branch is not None], weights)
    if distributed.is_main():
        note(f"init_from = {weights.source} ({weights.layout}): {fit.sentence()}")
        if weights.labels != "none":
            answer = {"used": "labels went"}.get(weights.labels, "nobody knows whether labels went")
            note(f"init_from = {weights.source}: {answer} into these weights, so scores of this run may owe to labels")
        write_atomically(folder / RECORD, json.dumps({**weights.provenance, **asdict(fit)}, indent=2) + "\n")


def init_provenance(weights: InitialWeights | None, checkpoint: Checkpoint | None) -> dict[str, Any]:
    """Return what checkpoints say of the weights that the run began with; nothing if it began with none."""
    if checkpoint is not None:
        return {"init": checkpoint.state["init"]} if "init" in checkpoint.state else {}
    return {} if weights is None else {"init": weights.provenance}


def _say_if_changed(source: str, began_with: str, trust: bool) -> None:
    """Say that the source has other weights now, such as a run that trained on, or none that can be read."""
    try:
        hash_now = read_initial_weights(source, trust=trust).hash
        reason = f"its weights have the hash {hash_now} now, and had {began_with} when this run began"
    except (CheckpointError, ConfigError) as error:
        hash_now, reason = None, f"its weights cannot be read now ({error})"
    if hash_now != began_with:
        note(f"init_from = {source_names([source])[0]}: {reason}; the run resumes from its own checkpoint all the same")


def _hash_of_run(folder: Path, source: str) -> str | None:
    """Return the hash of the weights that the run in a folder began with, if it has checkpoints and that source."""
    if not (folder / _CONFIG).is_file() or not any((folder / FOLDER).glob("step-*.safetensors")):
        return None
    saved = load_config(folder / _CONFIG)
    return saved.init_hash if saved.init_from == source else None
