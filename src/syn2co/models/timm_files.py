"""Encoders of timm: from its model hub, from a folder as its hub has them, and from a file of weights."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

from torch import Tensor

from syn2co.core.errors import CheckpointError, ConfigError
from syn2co.core.json_files import JsonError, JsonObject, read_json
from syn2co.core.paths import is_file
from syn2co.core.progress import note
from syn2co.images.resize import Interpolation
from syn2co.models.encoder import Encoder, build_encoder
from syn2co.models.settings import IMAGENET_MEAN, IMAGENET_STD, EncoderSettings
from syn2co.models.state import load_exactly
from syn2co.models.weight_files import read_weight_file

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
OWN = "syn2co.json"
"""File by which an export of ours is known; see `models.export_folder`."""
FORMAT = 1
"""Format of that file."""
_RECOMPUTED = ("attn_mask", "relative_position_index", "relative_coords_table")
"""Buffers that older files hold and that a network now computes."""


class EvaluationTransform(NamedTuple):
    """Size, normalization and crop under which timm evaluates a network."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_pct: float
    crop_mode: str
    interpolation: str

    @classmethod
    def of(cls, pretrained_cfg: Mapping[str, Any]) -> "EvaluationTransform":
        """Return the transform of a config of timm, with timm's defaults for what it lacks."""
        import timm

        data = timm.data.resolve_data_config({}, pretrained_cfg=dict(pretrained_cfg))  # type: ignore[attr-defined]
        names = ("mean", "std", "crop_pct", "crop_mode", "interpolation")
        return cls(data["input_size"][-1], *(data[name] for name in names))


def is_timm_folder(folder: Path) -> bool:
    """Return whether a folder holds an export of ours or a network as timm's hub has it."""
    return is_file(folder / OWN) or "architecture" in _read_json(folder / CONFIG)


def pretrained_encoder(name: str) -> Encoder:
    """Return a network of timm with its pretrained weights, which are fetched from the model hub.

    Raises:
        ConfigError: if timm has no such model.
        CheckpointError: if the weights cannot be fetched.
    """
    import timm

    encoder, transform = _untrained(name)
    try:
        encoder.backbone = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # the hub's client raises errors of many libraries
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        raise CheckpointError(
            f"timm:{name}: its weights cannot be fetched ({first}); check the network, or give a run folder"
        ) from None
    encoder.model_args = {}
    _crop_as(encoder, transform, f"timm:{name}")
    encoder.provenance = {"weights": f"timm:{name}"}
    return encoder.eval()


def encoder_of_file(name: str, path: Path, *, trust: bool = False) -> Encoder:
    """Return timm's network `name` with the weights of a file in any layout of `models.weight_files`.

    A file by timm's names is evaluated as the network's config says, one of another layout as its authors evaluate it.

    Raises:
        ConfigError: if timm has no such model.
        CheckpointError: if the file cannot be read or does not fit the network.
    """
    file = read_weight_file(path, trust=trust)
    encoder, transform = _untrained(name, *([] if file.layout.interpolation is None else [IMAGENET_MEAN, IMAGENET_STD]))
    weights = without_classifier(encoder, renamed(file.tensors, encoder))
    load_exactly(encoder.backbone, weights, f"{path.name} as timm's {name}")
    if file.layout.interpolation is not None:
        transform = transform._replace(crop_pct=0.875, crop_mode="center", interpolation=file.layout.interpolation)
    _crop_as(encoder, transform, path.name)
    encoder.provenance = {"weights": f"timm:{name}:{path.name}", "layout": file.layout.name}
    return encoder.eval()


def encoder_of_folder(folder: Path) -> tuple[Encoder, dict[str, Any]]:
    """Return the encoder in an export of ours or a folder as timm's hub has it, and the record of its run.

    Raises:
        CheckpointError: if the folder holds no safetensors weights, they do not fit the network that it names, or its
            JSON files are damaged or of another version.
    """
    marker = _read_own(folder / OWN) if (folder / OWN).is_file() else {}
    if not (folder / WEIGHTS).is_file():
        reason = "an ONNX export, which is not read back" if marker.get("to") == "onnx" else f"no {WEIGHTS}"
        raise CheckpointError(f"{folder.name}: holds {reason}; give an export to timm or hf, or a run folder")
    if marker:
        encoder = build_encoder(read_encoder_settings(marker["encoder"], f"{folder.name}/{OWN}"), seed=0)
        encoder.crop_ratio, encoder.interpolation = marker["crop_ratio"], marker["interpolation"]
        encoder.squash = marker.get("squash") is True
    else:
        settings, transform = _described(folder)
        encoder = build_encoder(settings, seed=0)
        _crop_as(encoder, transform, folder.name)
    weights = without_classifier(encoder, read_weight_file(folder / WEIGHTS).tensors)
    load_exactly(encoder.backbone, weights, f"{folder.name}/{WEIGHTS}")
    encoder.provenance = {"weights": folder.name, **marker.get("provenance", {})}
    return encoder.eval(), marker.get("run", {})


def read_encoder_settings(values: Mapping[str, Any], what: str) -> EncoderSettings:
    """Return the settings of an encoder that a file of ours holds.

    Raises:
        CheckpointError: if this version has no such setting, or another range of it.
    """
    try:
        return EncoderSettings.parse(values, under="encoder.")
    except ConfigError as error:
        raise CheckpointError(f"{what}: {error}; use the version of syn2co that wrote it, or write it again") from None


def without_classifier(encoder: Encoder, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors without those of a classifier and those that the network computes."""
    named = encoder.backbone.pretrained_cfg.get("classifier") or ()  # type: ignore[union-attr]
    heads = [named] if isinstance(named, str) else list(named)
    expected = encoder.backbone.state_dict()
    return {
        name: tensor
        for name, tensor in tensors.items()
        if name in expected
        or not (any(name.startswith(f"{head.partition('.')[0]}.") for head in heads) or name.endswith(_RECOMPUTED))
    }


def renamed(tensors: dict[str, Tensor], encoder: Encoder) -> dict[str, Tensor]:
    """Return the tensors of a Swin transformer by timm's present names; anything else as it is.

    The authors' Swin (MoBY's too) merges patches at the end of stage n, timm at the start of stage n + 1.
    """
    expected = encoder.backbone.state_dict()
    first, second = "layers.0.downsample.", "layers.1.downsample."
    old, new = ([any(name.startswith(p) for name in names) for p in (first, second)] for names in (tensors, expected))
    if not old[0] or new != [False, True]:
        return tensors
    return {_next_stage(name) if ".downsample." in name else name: tensor for name, tensor in tensors.items()}


def _next_stage(name: str) -> str:
    layers, number, rest = name.split(".", 2)
    return f"{layers}.{int(number) + 1}.{rest}"


def _untrained(name: str, *normalization: tuple[float, float, float]) -> tuple[Encoder, EvaluationTransform]:
    """Return timm's network at its own size with random weights, and the transform of its config."""
    import timm

    if not timm.is_model(name):
        build_encoder(EncoderSettings(name=name), seed=0)  # raises with the nearest names
    transform = EvaluationTransform.of(timm.get_pretrained_cfg(name).to_dict())  # type: ignore[union-attr]
    mean, std = normalization or (transform.mean, transform.std)
    settings = EncoderSettings(name=name, size=transform.size, mean=mean, std=std)
    return build_encoder(settings, seed=0), transform


def _read_own(path: Path) -> dict[str, Any]:
    """Return what an export of ours says of itself, with everything in it that a reader needs."""
    what, marker = f"{path.parent.name}/{path.name}", _read_json(path)
    if marker and marker.get("format") != FORMAT:
        raise CheckpointError(
            f"{what}: was written by {marker.get('written_by', 'an unknown version')} in format "
            f"{marker.get('format')}, and this version reads format {FORMAT}; use that version, or export again"
        )
    groups = (marker.get(name, {}) for name in ("provenance", "run"))
    whole = (
        isinstance(marker.get("encoder"), dict)
        and isinstance(marker.get("crop_ratio"), float | int)
        and marker.get("interpolation") in get_args(Interpolation)
        and all(isinstance(group, dict) for group in groups)
    )
    if not whole:
        raise CheckpointError(f"{what}: is damaged, or no file of `syn2co export`; export again")
    return marker


def _described(folder: Path) -> tuple[EncoderSettings, EvaluationTransform]:
    """Return the settings and the transform of a folder that somebody else wrote; older ones have no pretrained_cfg."""
    config = _read_json(folder / CONFIG)
    try:
        transform = EvaluationTransform.of(config.get("pretrained_cfg") or config)
        return _settings(config, transform), transform
    except (ConfigError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder.name}/{CONFIG}: does not describe a network as timm's hub does ({error}); fetch it again, or "
            f"give timm:NAME:{WEIGHTS}"
        ) from None


def _settings(config: Mapping[str, Any], transform: EvaluationTransform) -> EncoderSettings:
    """Return the settings of a folder that somebody else wrote."""
    options = {name: value for name, value in (config.get("model_args") or {}).items() if name != "num_classes"}
    size = options.pop("img_size", transform.size)
    side = size if isinstance(size, int) else size[-1]
    return EncoderSettings.parse(
        {"name": config["architecture"], "options": options, "size": side, "mean": transform.mean, "std": transform.std}
    )


def _crop_as(encoder: Encoder, transform: EvaluationTransform, what: str) -> None:
    """Give the encoder timm's evaluation crop; what it cannot do is said and replaced."""
    # timm resizes the shorter side to the floor of size / crop_pct; the ratio of the two whole numbers gives the same.
    encoder.crop_ratio = encoder.image_size / math.floor(encoder.image_size / transform.crop_pct)
    if transform.interpolation == "bilinear" or transform.interpolation == "bicubic":
        encoder.interpolation = transform.interpolation
    else:
        note(f"{what}: is evaluated with bilinear interpolation instead of {transform.interpolation}")
    encoder.squash = transform.crop_mode == "squash"
    if transform.crop_mode not in ("center", "squash"):
        note(f"{what}: is evaluated with a center crop instead of timm's crop mode {transform.crop_mode}")


def _read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, or nothing if there is none."""
    try:
        return read_json(path, JsonObject)
    except (OSError, JsonError):
        return {}
