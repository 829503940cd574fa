"""The folder of a flow: flow.json says what is there, flow.safetensors is the model, checkpoints/ its training.

Axis letters: N images, S side in pixels.
"""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from pydantic import BaseModel

from syn2co.core.errors import CheckpointError, DataError
from syn2co.core.files import write_atomically
from syn2co.core.json_files import JsonError, read_json
from syn2co.core.locks import only_run_in
from syn2co.core.progress import Bar
from syn2co.images.image_set import ImageSet
from syn2co.models.state import load_exactly
from syn2co.runtime.checkpoint import FOLDER
from syn2co.runtime.device import choose_device
from syn2co.synthesis.generators.conditions import Conditions, assign
from syn2co.synthesis.generators.flow.network import Velocity, build_velocity
from syn2co.synthesis.generators.flow.options import FlowOptions
from syn2co.synthesis.generators.flow.training import train
from syn2co.synthesis.generators.model_file import model_hash, read_model, refuse_other, write_model
from syn2co.synthesis.generators.real_images import choose, squares, thumbnail
from syn2co.synthesis.sets.spec import Context

FILE, DESCRIPTION = "flow.safetensors", "flow.json"
LARGEST = 64
"""Largest side in pixels that is trained at unless told otherwise."""
SAMPLING = {"sampling_steps", "guidance", "noise_level", "save_steps"}
"""Settings that do not change the model."""


def open_model(options: FlowOptions, context: Context) -> tuple[Velocity, Conditions, int, str]:
    """Return the trained network, its conditions, the side it works at and its hash; see `flow.open_generator`."""
    size = options.train_size or options.multiple(min(context.size, LARGEST))
    settings = {**options.model_dump(mode="json", exclude=SAMPLING), "train_size": size, "seed": context.seed}
    folder = context.folder
    described = None if folder is None else _described(folder)
    if described is not None:
        fingerprint = None if context.real is None else context.real.fingerprint
        refuse_other(DESCRIPTION, described, settings, fingerprint)
    if folder is None or described is None or described["model"] is None:
        arrays, metadata = _train(options, context, settings, size)
    else:
        arrays, metadata = _finished(folder, described)
    conditions = Conditions.restore(arrays, metadata)
    return _velocity(options, arrays, conditions, size, context), conditions, size, model_hash(arrays)


def _described(folder: Path) -> dict[str, Any] | None:
    """Return what the model folder says it holds, None if it holds no model."""
    path = folder / DESCRIPTION
    try:
        return read_json(path, _Description)
    except FileNotFoundError:
        if (folder / FILE).exists() or (folder / FOLDER).exists():
            raise CheckpointError(
                f"{DESCRIPTION}: is missing in the model folder {folder.name}, which holds a flow; restore the file "
                "or choose another folder"
            ) from None
        return None
    except (OSError, JsonError):
        raise CheckpointError(
            f"{DESCRIPTION}: does not describe a flow; restore the file or choose another folder"
        ) from None


class _Description(BaseModel):
    """JSON of what a model folder says that it holds."""

    settings: dict[str, Any]
    fingerprint: str | None
    model: str | None


def _finished(folder: Path, described: dict[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and facts of a finished model."""
    path = folder / FILE
    if not path.exists():
        raise CheckpointError(
            f"{FILE}: is missing in the model folder {folder.name}; restore it, or choose another folder to train anew"
        )
    arrays, metadata = read_model(path)
    if metadata["hash"] != described["model"]:
        raise CheckpointError(
            f"{FILE}: is another model than {DESCRIPTION} describes; restore both, or choose another folder"
        )
    return arrays, metadata


def _train(
    options: FlowOptions, context: Context, settings: dict[str, Any], size: int
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and facts of a model trained now; leave them in the model folder, if there is one."""
    if context.real is None:
        raise DataError("real: the flow is not trained yet and no images were given; name some with --real")
    with contextlib.nullcontext() if context.folder is None else only_run_in(context.folder):
        begun = {"settings": settings, "fingerprint": context.real.fingerprint, "model": None}
        if context.folder is not None:
            write_atomically(context.folder / DESCRIPTION, json.dumps(begun, indent=2) + "\n")
        arrays, metadata = _trained(options, context, begun, size)
        if context.folder is not None:
            write_model(context.folder / FILE, arrays, metadata)
            ended = {**begun, "model": model_hash(arrays)}
            write_atomically(context.folder / DESCRIPTION, json.dumps(ended, indent=2) + "\n")
            shutil.rmtree(context.folder / FOLDER, ignore_errors=True)
    return arrays, metadata


def _trained(
    options: FlowOptions, context: Context, state: dict[str, Any], size: int
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    images = choose(context.real, options.max_images, "flow", context.seed)
    pixels = _read(images, size, context.progress)
    thumbnails = np.stack([thumbnail(square) for square in pixels]).reshape(len(pixels), -1)
    conditions, labels = assign(options.condition, images, thumbnails, clusters=options.clusters, seed=context.seed)
    mean = train(
        _network(options, conditions, size, context.seed).to(choose_device(context.device)),
        pixels,
        labels,
        options,
        seed=context.seed,
        folder=context.folder,
        state=state,
        progress=context.progress,
    )
    weights = {name: tensor.cpu().numpy() for name, tensor in mean.state_dict().items()}
    return weights | conditions.arrays, {**conditions.metadata, **state, "images": len(images)}


def _read(images: ImageSet, size: int, progress: bool) -> UInt8[np.ndarray, "N S S 3"]:
    """Return all images as squares."""
    pixels = np.empty((len(images), size, size, 3), np.uint8)
    with Bar("read the images", len(images), show=progress) as bar:
        for index, square in enumerate(squares(images, size)):
            pixels[index] = square
            bar.advance()
    return pixels


def _network(options: FlowOptions, conditions: Conditions, size: int, seed: int) -> Velocity:
    return build_velocity(
        size=size,
        channels=options.channels,
        blocks=options.blocks,
        attention=options.attention,
        conditions=len(conditions.names),
        seed=seed,
    )


def _velocity(
    options: FlowOptions, arrays: dict[str, np.ndarray], conditions: Conditions, size: int, context: Context
) -> Velocity:
    """Return the network with the weights of a model file, ready to sample."""
    velocity = _network(options, conditions, size, context.seed)
    weights = {name: torch.from_numpy(array) for name, array in arrays.items() if name not in conditions.arrays}
    load_exactly(velocity, weights, FILE)
    return velocity.to(choose_device(context.device)).eval()
