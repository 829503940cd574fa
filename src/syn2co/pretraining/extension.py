"""A finished run made longer: which configs may follow it, and the record of where it was."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import RootModel

from syn2co.core.errors import CheckpointError, ConfigError
from syn2co.core.files import write_atomically
from syn2co.core.json_files import JsonError, read_json
from syn2co.core.settings import Count
from syn2co.pretraining.config import CONFIG, Config, load_config
from syn2co.pretraining.metrics import knn_scores, read_metrics, stands_still
from syn2co.pretraining.saved_state import run_state
from syn2co.runtime.checkpoint import newest_checkpoint

EXTENSIONS = "extensions.json"


class Extend(NamedTuple):
    """The config of the finished run in the folder, made longer by the settings of the call, as `pretrain` takes it.

    Example:
        >>> small = ["training.batch=8", "queue.size=64", "negatives.hardest=16", "heads.hidden=64"]
        >>> digits = ["builtin:digits:test"]
        >>> run = syn2co.pretrain("demo", out="run", real=digits, settings=[*small, "training.steps=2"], progress=False)
        >>> syn2co.pretrain(Extend(), out="run", settings="training.steps=3", progress=False).steps
        3
    """


def longer_config(folder: Path, settings: str | Sequence[str]) -> Config:
    """Return the config of the run in a folder with its new length.

    Raises:
        ConfigError: if there is no run, or `settings` change anything that the hash names but the length.
    """
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"--extend {folder.name}: there is no run in this folder; train one first")
    old = load_config(folder / CONFIG)
    new = old.with_settings(settings)
    length = {"steps": old.training.steps, "epochs": old.training.epochs}
    if new.model_copy(update={"training": new.training.model_copy(update=length)}).hash != old.hash:
        raise ConfigError(
            f"--extend {folder.name}: only training.epochs, training.steps and machine may change; begin a new run "
            "with --init-from for anything else"
        )
    if new.mix.then is not None:
        raise ConfigError(
            f"mix.then = {new.mix.then:g}: the change to real images moves with the length; begin a new run"
        )
    return new


def extend(folder: Path, config: Config) -> None:
    """Give the finished run in a folder a longer config, and keep a record of the step at which that happened.

    A run that has this config already is left as it is, so that the same call resumes it.

    Raises:
        ConfigError: if the run is not finished, stopped early, or is not made longer.
        CheckpointError: if its checkpoints are damaged.
    """
    old = load_config(folder / CONFIG)
    if old.hash == config.hash:
        return
    checkpoint = newest_checkpoint(folder)
    state: dict[str, Any] = {} if checkpoint is None else run_state(checkpoint)
    step, total = state.get("step", 0), state.get("total_steps")
    if step != total and stands_still(knn_scores(read_metrics(folder), after=0, upto=step), old.online_knn.patience):
        raise ConfigError(
            f"--extend {folder.name}: the run stopped early at step {step} of {total}, since the online k-NN stood "
            f"still (online_knn.patience = {old.online_knn.patience}); begin a new run with --init-from"
        )
    if step != total or state["config_hash"] != old.hash:
        raise ConfigError(
            f"--extend {folder.name}: the run is not finished (step {step}{f' of {total}' if total else ''}); resume "
            f"it first: syn2co pretrain --config {folder / CONFIG} --out {folder}"
        )
    steps = config.training.steps or round(config.training.epochs * state["steps_per_epoch"])
    if steps <= step:
        raise ConfigError(
            f"--extend {folder.name}: {steps} steps are no more than the {step} that are done; raise "
            f"{'training.steps' if config.training.steps else 'training.epochs'}"
        )
    record = {**extensions(folder), old.hash: step}
    write_atomically(folder / EXTENSIONS, json.dumps(record, indent=2) + "\n")
    write_atomically(folder / CONFIG, config.to_json())


def extensions(folder: Path) -> dict[str, int]:
    """Return the step at which the run of each earlier config hash ended and a longer one went on.

    Raises:
        CheckpointError: if the record cannot be read.
    """
    path = folder / EXTENSIONS
    try:
        return read_json(path, _ExtensionsFile) if path.exists() else {}
    except (OSError, JsonError) as error:
        raise CheckpointError(f"{path.name}: cannot be read ({error}); restore it from a copy") from None


class _ExtensionsFile(RootModel[dict[str, Count]]):
    """JSON of extensions.json: the step at which the run of each earlier config hash ended."""
