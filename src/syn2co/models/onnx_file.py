"""ONNX files of encoders, by torch's dynamo exporter, checked in onnxruntime.

Axes: B images, S side of an image in pixels, d features.
"""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from syn2co.core import keyed_rng
from syn2co.core.errors import CheckpointError, ConfigError
from syn2co.models.encoder import Encoder

TOLERANCE = 1e-4
BATCHES = (1, 3)
_NEEDED = ("onnx", "onnxruntime", "onnxscript")


def require_onnx() -> None:
    """Refuse to begin without the libraries.

    Raises:
        ConfigError: naming those that are not installed.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(f"--to onnx: needs {', '.join(missing)}, which is not installed; pip install 'syn2co[onnx]'")


def write_onnx(encoder: Encoder, path: Path, record: dict[str, Any]) -> float:
    """Write the encoder as an ONNX file and return its largest difference from torch.

    Input "images" [B, 3, S, S], float32, normalized; output "features" [B, d]; B is free. Mean, std and the crop stand
    in the metadata of the file, beside `record`.

    Raises:
        CheckpointError: if the exporter cannot express the network, onnxruntime cannot run it, or features differ by
            more than 1e-4 (relative to the largest feature if that exceeds 1) for one image or for three.
    """
    images = _images(encoder, 2)
    try:
        with _quiet():
            program = torch.onnx.export(
                _Features(encoder.backbone).eval(),
                (images,),
                dynamo=True,
                dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
                input_names=["images"],
                output_names=["features"],
                verbose=False,
            )
    except Exception as error:  # the exporter has many classes of errors and none for all
        raise CheckpointError(
            f"--to onnx: {encoder.spec.name} cannot be exported ({_first_line(error)}); use --to timm"
        ) from None
    assert program is not None
    program.model.metadata_props.update(_metadata(encoder, record))
    program.save(path)
    try:
        outputs = _features(path, encoder)
    except Exception as error:  # onnxruntime's errors have no class in common but this
        raise CheckpointError(
            f"--to onnx: onnxruntime cannot run {encoder.spec.name} ({_first_line(error)}); nothing was written, use "
            "--to timm"
        ) from None
    return _check(encoder, outputs)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


class _Features(nn.Module):
    """The network with an argument that is called "images", whatever timm calls it."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B d"]:
        return self.backbone(images)


def _metadata(encoder: Encoder, record: dict[str, Any]) -> dict[str, str]:
    spec = encoder.spec
    return {
        "input": "images: float32 [batch, 3, side, side], RGB / 255, minus mean, divided by std",
        "output": "features: float32 [batch, width]",
        "side": str(encoder.image_size), "width": str(encoder.width),
        "mean": json.dumps(spec.mean), "std": json.dumps(spec.std),
        "crop_ratio": repr(encoder.crop_ratio), "interpolation": encoder.interpolation,
        "crop_mode": "squash" if encoder.squash else "center",
        "architecture": spec.name, "provenance": json.dumps(record),
    }  # fmt: skip


def _features(path: Path, encoder: Encoder) -> dict[int, np.ndarray]:
    """Return the features in onnxruntime by the size of the batch; their shape is what the file makes of it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session: Any = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return {batch: session.run(["features"], {"images": _images(encoder, batch).numpy()})[0] for batch in BATCHES}


def _check(encoder: Encoder, features: Mapping[int, np.ndarray]) -> float:
    """Return the largest difference from torch over features by the size of the batch, or refuse it."""
    worst = 0.0
    for batch, outputs in features.items():
        images = _images(encoder, batch)
        with torch.no_grad():
            expected = encoder(images).numpy()
        difference = float(np.abs(outputs - expected).max()) if outputs.shape == expected.shape else float("inf")
        allowed = TOLERANCE * max(1.0, float(np.abs(expected).max()))
        if not difference <= allowed:
            raise CheckpointError(
                f"--to onnx: features of {encoder.spec.name} in onnxruntime differ by {difference:.2g} at batch "
                f"{batch}, and at most {allowed:.2g} is allowed; nothing was written, use --to timm"
            )
        worst = max(worst, difference)
    return worst


def _images(encoder: Encoder, batch: int) -> Float[Tensor, "B 3 S S"]:
    side = encoder.image_size
    pixels = keyed_rng.generator("onnx", batch).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
    return encoder.preprocess(torch.from_numpy(pixels))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's own warnings and log lines from the user: what counts is checked afterwards."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
