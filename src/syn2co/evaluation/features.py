"""Frozen features of a whole image set, equal on any number of ranks, and the hash of the encoder that gave them.

Axes: N images of the set, n images of this rank, B images of a batch, S side of an image in pixels, D features.
"""

import contextlib
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from syn2co.core.errors import DataError, EvaluationError
from syn2co.core.processes import use_one_thread
from syn2co.core.progress import Bar
from syn2co.images.image_set import ImageSet
from syn2co.images.resize import resize_and_crop
from syn2co.runtime import distributed

PRECISIONS = ("float32", "bfloat16")


class FeatureEncoder(Protocol):
    """Interface that evaluation asks of an encoder, an `nn.Module` besides, as `models.Encoder` is."""

    @property
    def image_size(self) -> int: ...

    @property
    def crop_ratio(self) -> float: ...

    def preprocess(self, images: UInt8[Tensor, "B S S 3"]) -> Tensor: ...


class _Crops(Dataset[Tensor]):
    """A batch of image indices to evaluation crops; an error comes back as a value, so that it crosses processes."""

    def __init__(self, images: ImageSet, size: int, crop_ratio: float) -> None:
        self.images = images
        self.size = size
        self.crop_ratio = crop_ratio

    def __getitems__(self, indices: list[int]) -> Tensor | DataError:
        crops = np.empty((len(indices), self.size, self.size, 3), np.uint8)
        try:
            for row, index in enumerate(indices):
                crops[row] = resize_and_crop(self.images.read(index), self.size, self.crop_ratio)
        except DataError as error:
            return error
        return torch.from_numpy(crops)


def share_of_batches(images: int, batch_size: int, rank: int, ranks: int) -> list[list[int]]:
    """Return the batches of image indices that one rank reads: whole batches, a contiguous run of them, no padding.

    Batches are those of a single rank, so every image meets the same neighbors and gives the same bits on 1 rank or 8.
    """
    total = -(-images // batch_size)
    mine = range(total * rank // ranks, total * (rank + 1) // ranks)
    return [list(range(b * batch_size, min(images, (b + 1) * batch_size))) for b in mine]


@torch.no_grad()
def extract(
    encoder: nn.Module,
    images: ImageSet,
    *,
    device: torch.device | None = None,
    precision: str = "float32",
    batch_size: int = 256,
    workers: int = 0,
    progress: str | None = None,
) -> Float[Tensor, "N D"]:
    """Return the features of all images in their order, in float32 on the CPU, on every rank.

    Each image is resized and center-cropped to the encoder's own size. The encoder runs in eval mode (no drop path, BN
    by its running statistics) on `device` (default: where it is) and is put back as it was. The ranks share the work
    and meet once, at the end. `progress` is the title of a bar on the first rank.

    Raises:
        DataError: if an image that was readable when the set was opened no longer is.
    """
    device = device or _home(encoder)
    batches = share_of_batches(len(images), batch_size, distributed.rank(), distributed.world_size())
    loader = DataLoader(
        _Crops(images, encoder.image_size, encoder.crop_ratio),  # type: ignore[arg-type]
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_same,
        pin_memory=device.type == "cuda",
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # torch would draw a seed for its workers from ambient state
    )
    total = sum(map(len, batches))
    show = progress is not None and distributed.is_main()
    parts: list[Tensor] = []
    with _frozen(encoder, device), exact_float32(), Bar(progress or "", total, show=show) as bar:
        for crops in loader:
            if isinstance(crops, DataError):
                raise crops
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                parts.append(encoder(encoder.preprocess(crops)).float().cpu())  # type: ignore[operator]
            bar.advance(len(crops))
        width = parts[0].shape[1] if parts else 0
    return _gather(torch.cat(parts) if parts else torch.empty(0, width), device)


def _gather(rows: Float[Tensor, "n D"], device: torch.device) -> Float[Tensor, "N D"]:
    """Return the rows of all ranks; a rank that got no batch learns the width from the others."""
    if not distributed.active():
        return rows
    width = torch.tensor([rows.shape[1]], device=device)
    width = int(distributed.all_reduce_max(width))
    return distributed.all_gather_rows(rows.reshape(len(rows), width).to(device)).cpu()


def _home(encoder: nn.Module) -> torch.device:
    return next(tensor.device for tensor in (*encoder.parameters(), *encoder.buffers()))


@contextlib.contextmanager
def _frozen(encoder: nn.Module, device: torch.device) -> Iterator[None]:
    """Put the encoder on `device` and every part of it in eval mode inside the block, then back."""
    modes = [(module, module.training) for module in encoder.modules()]
    home = _home(encoder)
    encoder.eval().to(device)
    try:
        yield
    finally:
        encoder.to(home)
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Make float32 mean float32 on CUDA inside the block: no TF32, whatever training has set."""
    matmul, conv = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, conv


def check_finite(features: Float[Tensor, "N D"], images: ImageSet, encoder: str) -> None:
    """Refuse features that are not numbers.

    Raises:
        EvaluationError: naming how many images give NaN or infinity, and the first of them.
    """
    bad = (~torch.isfinite(features).all(dim=1)).nonzero().flatten()
    if len(bad):
        raise EvaluationError(
            f"{encoder}: {len(bad)} of {len(features)} images give features that are NaN or infinite "
            f"(first: {images.name(int(bad[0]))}); the weights are broken or overflow in this precision, so evaluate "
            "an earlier checkpoint or use float32"
        )


def encoder_hash(encoder: nn.Module) -> str:
    """Return 32 hex digits of the names, types, shapes and bytes of all tensors in the encoder's state."""
    hasher = blake2b(digest_size=16)
    for name, tensor in sorted(encoder.state_dict().items()):
        hasher.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        hasher.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()


def _same(crops: Any) -> Any:
    return crops


def _start_worker(_: int) -> None:
    use_one_thread()
