"""Frozen features of a whole image set, equal on any number of ranks, and the hash of the encoder that gave them.

Axes: N images of the set, n images of this rank, B images of a batch, S side of an image in pixels, D features, T patch
tokens.
"""

import contextlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple, Protocol, TypedDict, Unpack

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from syn2co.core.errors import EvaluationError
from syn2co.core.float32 import exact_float32
from syn2co.core.progress import Bar
from syn2co.evaluation.crops import CropReader, CropTransform, crop_batches
from syn2co.images.image_set import ImageSet
from syn2co.models.state import weights_hash
from syn2co.models.tokens import encoder_tokens
from syn2co.runtime import distributed

PRECISIONS = ("float32", "bfloat16")


class FeatureEncoder(Protocol):
    """Interface that evaluation asks of an encoder, an `nn.Module` besides, as `models.Encoder` is."""

    @property
    def image_size(self) -> int: ...

    @property
    def crop_ratio(self) -> float: ...

    def preprocess(self, images: UInt8[Tensor, "B S S 3"]) -> Tensor: ...


def share_of_batches(images: int, batch_size: int, rank: int, ranks: int) -> list[list[int]]:
    """Return the batches of image indices that one rank reads: whole batches, a contiguous run of them, no padding.

    Batches are those of a single rank, so every image meets the same neighbors and gives the same bits on 1 rank or 8.
    """
    total = -(-images // batch_size)
    mine = range(total * rank // ranks, total * (rank + 1) // ranks)
    return [list(range(b * batch_size, min(images, (b + 1) * batch_size))) for b in mine]


class ExtractionOptions(TypedDict, total=False):
    """Keywords of `extract` that fix how it works; only `precision` changes more than the last bits."""

    device: torch.device | None
    """Where the encoder runs; None (the default) is where it is."""
    precision: str
    """One of `PRECISIONS`; default float32. bfloat16 is autocast."""
    batch_size: int
    """Images per forward pass, default 256."""
    workers: int | None
    """Threads that decode images in the background; None (the default) is one per core, 0 none."""


class _Extraction(NamedTuple):
    device: torch.device | None = None
    precision: str = "float32"
    batch_size: int = 256
    workers: int | None = None


@torch.no_grad()
def extract(
    encoder: nn.Module,
    images: ImageSet,
    *,
    transform: CropTransform | None = None,
    tokens: bool = False,
    progress: str | None = None,
    **options: Unpack[ExtractionOptions],
) -> Float[Tensor, "N D"] | Float[Tensor, "N T D"]:
    """Return the features of all images in their order, in float32 on the CPU, on every rank.

    Each image is resized and center-cropped to the encoder's own size. The encoder runs in eval mode (no drop path, BN
    by its running statistics) on the device and is put back as it was. The ranks share the work and meet once, at the
    end.

    Args:
        encoder: a `FeatureEncoder`.
        images: the set; labels are not used.
        transform: changes the uint8 crop of an image, given its index: a corruption, say. Threads call it.
        tokens: return the patch tokens, row after row of the image, instead of pooled features.
        progress: title of a bar on the first rank.
        options: see `ExtractionOptions`.

    Returns:
        One row per image: D features, or T tokens of D features.

    Raises:
        DataError: if an image that was readable when the set was opened no longer is, on any rank.
        EvaluationError: if tokens are asked of an encoder without patch tokens.
        Interrupted: on all ranks, after a signal that `Interrupts` remembers on one of them.
    """
    how = _Extraction(**options)
    batches = share_of_batches(len(images), how.batch_size, distributed.rank(), distributed.world_size())
    total = sum(map(len, batches))
    show = progress is not None and distributed.is_main()
    rows, done = torch.empty(0), 0
    parts = _features(encoder, crop_reader(encoder, images, transform), batches, how, tokens)
    with distributed.ending_together(), closing(parts), Bar(progress or "", total, show=show) as bar:
        for features in parts:
            if done == 0:
                rows = torch.empty(total, *features.shape[1:])  # not a list of parts: joining would hold all twice
            rows[done : done + len(features)] = features
            done += len(features)
            bar.advance(len(features))
    return _gather(rows, 3 if tokens else 2)


@torch.no_grad()
def stream(
    encoder: nn.Module, images: ImageSet, *, tokens: bool = False, **options: Unpack[ExtractionOptions]
) -> Generator[Float[Tensor, "B ..."], None, None]:
    """Yield what `extract` returns piece after piece, on every rank: memory for a batch of each rank at once.

    Close the generator to end its threads. All ranks take the same number of steps.

    Raises:
        DataError: if an image that was readable when the set was opened no longer is.
        EvaluationError: if tokens are asked of an encoder without patch tokens.
    """
    how = _Extraction(**options)
    batches = share_of_batches(len(images), how.batch_size, 0, 1)
    ranks = distributed.world_size()
    mine = batches[distributed.rank() :: ranks]
    parts = _features(encoder, crop_reader(encoder, images, None), mine, how, tokens)
    with closing(parts):
        for _ in range(-(-len(batches) // ranks)):
            yield _gather(next(parts, torch.empty(0)), 3 if tokens else 2)


def crop_reader(encoder: nn.Module, images: ImageSet, transform: CropTransform | None) -> CropReader:
    """Return the crops of `images` as the encoder sees them."""
    seen: Any = encoder
    interpolation: Any = getattr(seen, "interpolation", "bilinear")  # raw pixels have no choice
    squash = getattr(seen, "squash", False)
    return CropReader(images, seen.image_size, seen.crop_ratio, interpolation, transform, squash)


def _features(
    encoder: nn.Module, reader: CropReader, batches: Sequence[Sequence[int]], how: _Extraction, tokens: bool
) -> Generator[Float[Tensor, "B ..."], None, None]:
    """Yield the features of each batch in float32 on the CPU, one batch late, so that a GPU never waits for it."""
    device = how.device or _home(encoder)
    gpu = device.type == "cuda"
    call: Any = encoder
    late: tuple[Tensor, Any] | None = None
    crops = crop_batches(reader, batches, workers=how.workers, pin=gpu)
    with frozen(encoder, device), exact_float32(), closing(crops):
        for pixels in crops:
            with torch.autocast(device.type, torch.bfloat16, enabled=how.precision == "bfloat16"):
                inputs = call.preprocess(pixels)
                features = encoder_tokens(encoder, inputs)[0] if tokens else call(inputs)
            copy = features.float().to("cpu", non_blocking=gpu)
            event = torch.cuda.current_stream(device).record_event() if gpu else None
            if late is not None:
                yield _arrived(*late)
            late = copy, event
        if late is not None:
            yield _arrived(*late)


def _arrived(copy: Tensor, event: Any) -> Tensor:
    """Return what was copied from a GPU once it is there; elsewhere there is no event, and it is."""
    if event is not None:
        event.synchronize()
    return copy


def _gather(rows: Float[Tensor, "n ..."], axes: int) -> Float[Tensor, "N ..."]:
    """Return the rows of all ranks, which their hosts exchange; one without a batch learns the other sizes."""
    if rows.ndim < axes:
        rows = rows.reshape(0, *[0] * (axes - 1))
    if not distributed.active():
        return rows
    device = distributed.talking_device()  # the tokens of a set need not fit into a GPU
    sizes = distributed.all_reduce_max(torch.tensor(rows.shape[1:], device=device)).tolist()
    return distributed.all_gather_rows(rows.reshape(len(rows), *sizes).to(device)).cpu()


def _home(encoder: nn.Module) -> torch.device:
    return next(tensor.device for tensor in (*encoder.parameters(), *encoder.buffers()))


@contextlib.contextmanager
def frozen(encoder: nn.Module, device: torch.device) -> Iterator[None]:
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
    return weights_hash(encoder.state_dict())
