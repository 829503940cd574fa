"""The file of a fitted or trained model: arrays and JSON facts in one safetensors file, written whole or not at all."""

import json
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from syn2co.core.errors import CheckpointError, ConfigError, DataError
from syn2co.core.files import why_not_written, write_whole
from syn2co.core.json_files import parse_json

FORMAT = 1
Arrays = Mapping[str, np.ndarray]


def model_hash(arrays: Arrays) -> str:
    """Return 16 hex digits of names, shapes and values: what the manifest calls the model."""
    hasher = blake2b(digest_size=8)
    for name, array in sorted(arrays.items()):
        hasher.update(f"{name} {array.dtype.str} {list(array.shape)}\n".encode())
        hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()


def write_model(path: Path, arrays: Arrays, metadata: Mapping[str, Any]) -> None:
    """Write arrays and facts: temporary file in the same folder, fsync, rename.

    Raises:
        CheckpointError: if the disk is full or the folder cannot be written; what was there stays as it is.
    """
    from safetensors.numpy import save

    text = json.dumps({"format": FORMAT, "hash": model_hash(arrays), **metadata}, sort_keys=True)
    data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata={"model": text})
    try:
        write_whole(path, data, alone=True)
    except OSError as error:
        raise CheckpointError(f"{path.name}: the model cannot be written ({why_not_written(error)})") from None


def read_model(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and facts of a model file.

    Raises:
        CheckpointError: if the file is damaged or something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = parse_json((file.metadata() or {})["model"], _Described)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        intact = metadata["format"] == FORMAT and metadata["hash"] == model_hash(arrays)
    except (SafetensorError, OSError, KeyError, ValueError):
        intact = False
    if not intact:
        raise CheckpointError(f"{path.name}: is damaged or not a model of syn2co; delete it and the model is made anew")
    return arrays, metadata


class _Described(BaseModel):
    """JSON facts of a model file, as far as every model has them."""

    format: int
    hash: str


def refuse_other(what: str, there: Mapping[str, Any], now: Mapping[str, Any], fingerprint: str | None) -> None:
    """Refuse a model of other settings or, where the images are at hand (`fingerprint`), of other images.

    `there` holds "settings" and "fingerprint", `now` the settings asked for.

    Raises:
        ConfigError: naming the first setting that differs.
        DataError: if the images differ.
    """
    settings = there["settings"]
    wanted = json.loads(json.dumps(now))
    for name in sorted(settings.keys() | wanted.keys()):
        if settings.get(name) != wanted.get(name):
            raise ConfigError(
                f"{name} = {wanted.get(name, 'not set')}: the model in {what} was made with "
                f"{settings.get(name, 'not set')}; repeat that setting or choose another folder"
            )
    if fingerprint is not None and there["fingerprint"] != fingerprint:
        raise DataError(
            f"{what}: the model was made from other images than those given now; give the same images or choose "
            "another folder"
        )
