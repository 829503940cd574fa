"""The run folder: config, metrics, checkpoints, quarantine and mix of one run; a run of other settings is refused."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from syn2co.core.errors import CheckpointError, ConfigError, DataError
from syn2co.core.files import is_temporary, write_atomically
from syn2co.core.hints import shortened
from syn2co.core.locks import LOCK
from syn2co.core.progress import note
from syn2co.images.image_set import ImageSet
from syn2co.images.quarantine import BrokenSet
from syn2co.models.state import load_exactly
from syn2co.pretraining.config import CONFIG, NOT_HASHED, Config, load_config
from syn2co.pretraining.extension import EXTENSIONS, extensions
from syn2co.pretraining.metrics import FILE, Averages
from syn2co.pretraining.run import Method, TrainingState
from syn2co.pretraining.saved_state import run_state
from syn2co.runtime import distributed
from syn2co.runtime.checkpoint import FOLDER, Checkpoint, newest_checkpoint, save_checkpoint
from syn2co.runtime.determinism import differences
from syn2co.runtime.optimizer import optimizer_tensors, restore_optimizer

MIX = "mix.json"
PRECISION = "precision.json"
QUARANTINE = "quarantine.jsonl"
_HARMLESS = {LOCK, QUARANTINE, ".DS_Store", "Thumbs.db", "desktop.ini"}


@contextmanager
def broken_listed(folder: Path) -> Iterator[None]:
    """List the broken images in the run folder, should they be too many to begin."""
    try:
        yield
    except BrokenSet as error:
        raise error.listed_in(folder / QUARANTINE) from None


def _is_harmless(path: Path) -> bool:
    return path.name in _HARMLESS or is_temporary(path.name)


def begun_config(folder: Path) -> Config | None:
    """Return the config of the run that has begun in a folder, None if none has."""
    return load_config(folder / CONFIG) if (folder / CONFIG).exists() and _has_begun(folder) else None


def _has_begun(folder: Path) -> bool:
    return any((folder / name).exists() for name in (FOLDER, FILE))


def prepare_run_folder(folder: Path, config: Config) -> Checkpoint | None:
    """Make `folder` the run folder of `config` and return the checkpoint to resume from, if there is one.

    A start that failed before the first step leaves a folder that any config may take over.

    Raises:
        ConfigError: if the folder holds a run of another config, or things that are not a run.
        CheckpointError: if its checkpoints are all damaged.
    """
    saved = folder / CONFIG
    begun = _has_begun(folder)
    if saved.exists():
        other = load_config(saved)
        if other.hash != config.hash and begun:
            raise ConfigError(
                f"--out {folder.name}: holds a run of another config ({first_difference(other, config)}); "
                "choose another folder, or repeat its own settings with --config"
            )
    elif distributed.is_main() and not all(map(_is_harmless, folder.glob("*"))):
        raise ConfigError(f"--out {folder.name}: is not empty and holds no run; choose another folder")
    distributed.barrier()
    if distributed.is_main() and not (begun and saved.exists()):
        write_atomically(saved, config.to_json())
    damaged: list[Path] = []
    checkpoint = newest_checkpoint(folder, damaged=damaged)
    for path in damaged if distributed.is_main() else []:
        note(f"{path.name} is damaged; resuming from an earlier checkpoint")
    checkpoint_name = checkpoint and checkpoint.path.name
    if distributed.broadcast_object(checkpoint_name) != checkpoint_name:
        error = CheckpointError(
            f"--out {folder.name}: rank {distributed.rank()} does not find the checkpoint that rank 0 resumes from; "
            "the run folder must lie on a file system that all machines share"
        )
        error.one_rank = True
        raise error
    return checkpoint


def save(folder: Path, now: TrainingState, config: Config, provenance: dict[str, Any]) -> None:
    """Save everything that a resume bit for bit needs."""
    model = now.model
    tensors: dict[str, Tensor] = dict(model.state_dict())
    for number, queue in enumerate(model.queues, start=1):
        tensors |= {f"queue{number}.{name}": tensor for name, tensor in queue.state_dict().items()}
    tensors |= optimizer_tensors(model.online, now.optimizer)
    state = {
        **provenance,
        "seed": config.seed,
        "recipe": config.recipe,
        "config_hash": config.hash,
        "config": config.model_dump(mode="json", exclude={"machine"}),
        "encoder": config.encoder_spec.model_dump(mode="json"),
        "averages": now.averages.sums,
    }
    save_checkpoint(folder, now.step, tensors, state, keep=config.machine.keep)


def restore(
    checkpoint: Checkpoint, model: Method, optimizer: torch.optim.Optimizer, config: Config, provenance: dict[str, Any]
) -> tuple[int, Averages]:
    """Put the checkpoint's state into the model and the optimizer; return the step and the open averages.

    Raises:
        DataError: if the images or their labels are not those that the run began with.
        CheckpointError: if it is a checkpoint of another run, or a tensor is missing or of another shape.
    """
    state, tensors = run_state(checkpoint), dict(checkpoint.tensors)
    extended = state["config_hash"] != config.hash
    if extended:
        _refuse_unless_extended(checkpoint, config)
    if state["data_fingerprint"] != provenance["data_fingerprint"]:
        where = "data.real and data.synthetic" if "mix" in provenance else "data.real"
        raise DataError(
            f"{where}: the images are not those that the run began with ({state['images']} then, "
            f"{provenance['images']} now, or other names or sizes); restore them, or start a new run"
        )
    if state.get("label_fingerprint") != provenance.get("label_fingerprint"):
        raise DataError(
            "data.real: the labels are not those that the run began with, though the images are; restore them, or "
            "start a new run"
        )
    for name in ("steps_per_epoch",) if extended else ("steps_per_epoch", "total_steps"):
        if state[name] != provenance[name]:
            raise CheckpointError(
                f"{checkpoint.path.name}: has {name} = {state[name]}, and this run {provenance[name]}; it was changed "
                "after it was written: take it out of this folder"
            )
    changed = differences(state["machine"], provenance["machine"])
    if changed and distributed.is_main():
        note("resumed on another machine, so the last bits may differ: " + ", ".join(changed))
    what = checkpoint.path.name
    weights = {name: tensor for name, tensor in tensors.items() if name.startswith(("online.", "target."))}
    load_exactly(model, weights, what)
    for number, queue in enumerate(model.queues, start=1):
        prefix = f"queue{number}."
        queue_state = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        if queue_state.keys() != queue.state_dict().keys():
            raise CheckpointError(f"{what}: holds no queue of view {number}; it cannot be resumed")
        queue.load_state_dict(queue_state)
    restore_optimizer(model.online, optimizer, tensors)
    return state["step"], Averages(state["averages"])


def _refuse_unless_extended(checkpoint: Checkpoint, config: Config) -> None:
    """Refuse a checkpoint of another config, unless this run is that run made longer at this very step."""
    state, name = checkpoint.state, checkpoint.path.name
    step = extensions(checkpoint.path.parents[1]).get(state["config_hash"])
    if step is None:
        raise CheckpointError(
            f"{name}: is a checkpoint of a run with other settings (config hash {shortened(state['config_hash'])}, "
            f"this run has {config.hash}); take it out of this run's folder"
        )
    if step != state["step"]:
        raise CheckpointError(
            f"{name}: is of step {state['step']}, and {EXTENSIONS} says that the run was made longer at step {step}, "
            "whose checkpoint is lost; restore that from a copy, or begin a new run"
        )


def write_mix(folder: Path, provenance: dict[str, Any]) -> None:
    """Write the provenance of the mix: sources, ratio, and whether labels went in; nothing where nothing is mixed."""
    if provenance:
        write_atomically(folder / MIX, json.dumps(provenance, indent=2) + "\n")


def write_precision(folder: Path, config: Config, precision: str) -> None:
    """Write the precision that a run computes in where it asks for another one, before a checkpoint says so."""
    if distributed.is_main() and precision == config.training.precision:
        (folder / PRECISION).unlink(missing_ok=True)
    elif distributed.is_main():
        write_atomically(folder / PRECISION, json.dumps({"precision": precision}) + "\n")


def write_nonfinite(folder: Path, images: ImageSet, step: int, values: dict[str, float], indices: Tensor) -> Path:
    """Write down which images were in the batch whose loss or gradient was not finite (all ranks must call it)."""
    path = folder / f"nonfinite-step-{step}.json"
    everyone = distributed.all_gather_rows(indices).tolist()
    if distributed.is_main():
        entries = [{"index": index, "name": images.name(index)} for index in everyone]
        printable = {name: repr(value) for name, value in values.items()}
        write_atomically(path, json.dumps({"step": step, "measured": printable, "images": entries}, indent=1) + "\n")
    return path


def first_difference(one: Config, other: Config, *, words: tuple[str, str] = ("there", "now")) -> str:
    """Return the first setting in which two configs differ; `words` say where each of them is."""
    left, right = (_flat(config.model_dump(mode="json", exclude=NOT_HASHED)) for config in (one, other))
    name = next((name for name in sorted(left.keys() | right.keys()) if left.get(name) != right.get(name)), None)
    if name is None:
        return "another number of sources in data.real or data.synthetic"
    return f"{name} = {left.get(name, 'not set')} {words[0]}, {right.get(name, 'not set')} {words[1]}"


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Return every setting as the JSON that the hash is made of, in which 1 and 1.0 differ."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        nested = isinstance(value, dict) and value
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": json.dumps(value)}
    return flat
