"""Feature spaces that images are compared in: the features of the user's own encoder, or pixels where there is none.

Axis letters: N images, D features, P pixel values.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from syn2co.audits.image_sets import AuditedSet, AuditError
from syn2co.core.progress import Bar
from syn2co.images.resize import resize_and_crop

SIDE = 32
COMPONENTS = 64

Rows = Float64[np.ndarray, "N D"]


@dataclass(frozen=True)
class FeatureSpace:
    """Features of some parts of the sides, and in words what they are."""

    parts: tuple[Rows, ...]
    words: str
    metadata: dict[str, Any]


def pixel_space(
    chosen: Sequence[tuple[AuditedSet, Int64[np.ndarray, " N"]]], *, progress: bool = False
) -> FeatureSpace:
    """Return the first 64 principal components of the images at 32 x 32 pixels, each scaled to unit variance.

    The components are those of all parts together, so that what only one of them shows is not lost.
    """
    pixels = [_pixels(side, rows, progress) for side, rows in chosen]
    parts = whiten(pixels, COMPONENTS)
    words = (
        f"pixels: {SIDE} x {SIDE}, the {parts[0].shape[1]} strongest principal components with unit variance. They "
        "show layout and color, little of what is depicted; name an encoder for that (--encoder)"
    )
    return FeatureSpace(parts, words, {"kind": "pixels", "side": SIDE, "components": parts[0].shape[1]})


def encoder_space(
    encoder: str | Path,
    chosen: Sequence[tuple[AuditedSet, Int64[np.ndarray, " N"]]],
    *,
    device: str = "auto",
    progress: bool = False,
) -> FeatureSpace:
    """Return the encoder's features of the images, scaled to unit length.

    Raises:
        CheckpointError: if there is no such encoder.
        AuditError: if it gives values that are not finite.
    """
    import torch

    from syn2co.evaluation.features import encoder_hash, extract
    from syn2co.models.load import load_encoder
    from syn2co.runtime.device import choose_device

    network, name = load_encoder(encoder), str(encoder) if str(encoder).startswith("timm:") else Path(encoder).name
    chosen_device = choose_device(device)
    parts = []
    for side, rows in chosen:
        title = f"{side.role}: features" if progress else None
        values = extract(network, side.images.subset(rows), device=chosen_device, progress=title)
        if not bool(torch.isfinite(values).all()):
            raise AuditError(
                f"{name}: this encoder gives features that are NaN or infinite; give an earlier checkpoint"
            )
        parts.append(torch.nn.functional.normalize(values.double(), dim=1).numpy())
    width = parts[0].shape[1]
    words = f"encoder {name}: {width} features of unit length"
    return FeatureSpace(
        tuple(parts), words, {"kind": "encoder", "encoder": name, "hash": encoder_hash(network), "width": width}
    )


def whiten(parts: Sequence[Rows], components: int) -> tuple[Rows, ...]:
    """Return the parts in the strongest principal components of all of them, each with unit variance.

    Components without variance are left out. The sign of a component makes its largest entry positive.
    """
    from scipy.linalg import eigh

    # Not scikit-learn's PCA: its exact solvers take 6 s where this takes 0.9 s (2,000 images), and its ARPACK draws the
    # empty directions of repeated images anew on each call and fails if all images are constant.
    together = np.concatenate(parts)
    mean = together.mean(axis=0)
    centered = together - mean
    few = len(centered) < centered.shape[1]  # then the eigenvectors follow from the smaller matrix of inner products
    matrix = (centered @ centered.T if few else centered.T @ centered) / len(centered)
    count = max(1, min(components, len(matrix), len(together) - 1))
    values, vectors = eigh(matrix, subset_by_index=[len(matrix) - count, len(matrix) - 1])
    values, vectors = values[::-1], vectors[:, ::-1]
    if few:
        vectors = centered.T @ vectors / np.sqrt(np.maximum(values * len(centered), 1e-12))
    kept = values > 1e-9 * max(values[0], 1e-9)
    kept[0] = True
    vectors = vectors[:, kept] / np.sqrt(np.maximum(values[kept], 1e-12))
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])]
    vectors = vectors * np.where(largest < 0, -1.0, 1.0)
    return tuple((part - mean) @ vectors for part in parts)


def _pixels(side: AuditedSet, rows: Int64[np.ndarray, " N"], progress: bool) -> Float64[np.ndarray, "N P"]:
    """Return the pixel values of some images at 32 x 32, in 0..1."""
    values = np.empty((len(rows), SIDE * SIDE * 3), np.float64)
    images = side.images.read_many(rows.tolist())
    with Bar(f"{side.role}: pixels", len(rows), show=progress) as bar, closing(images):
        for slot, image in enumerate(images):
            values[slot] = resize_and_crop(image, SIDE, 1.0).reshape(-1)
            bar.advance()
    return values / 255
