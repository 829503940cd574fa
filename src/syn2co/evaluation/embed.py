"""`embed`: features of images written to a Parquet file, with the names of the images and where the features come from.

Axes: B images of a batch, G images of a row group, D features, T patch tokens.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from syn2co.core.errors import EvaluationError, FileError
from syn2co.core.files import atomic_file, why_not_written
from syn2co.core.paths import printable, weights_path
from syn2co.core.progress import Bar, note
from syn2co.core.versions import __version__
from syn2co.data.open import open_images
from syn2co.evaluation.crops import decoding_threads
from syn2co.evaluation.features import check_finite, encoder_hash, stream
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.evaluation.splits import Specs
from syn2co.images.image_set import ImageSet
from syn2co.models.encoder import Encoder
from syn2co.models.load import load_encoder
from syn2co.models.provenance import source_name
from syn2co.models.tokens import token_grid
from syn2co.runtime import distributed
from syn2co.runtime.alike import refuse_unlike, refuse_unlike_software
from syn2co.runtime.device import choose_device, slow_precision

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

SUFFIX = ".parquet"
_GROUP_BYTES = 2**26  # features of a row group, which is what the memory holds


class Embedded(NamedTuple):
    """What `embed` has written."""

    path: Path
    """The Parquet file."""
    images: int
    """Images in the file."""
    width: int
    """Width D of a feature or of a token."""
    grid: tuple[int, int] | None
    """Rows and columns of the patch tokens; None for pooled features."""
    left_out: int
    """Images that are broken."""


def embed(
    encoder: Encoder | str | Path,
    images: Specs,
    out: str | Path,
    *,
    tokens: bool = False,
    branch: str = "online",
    settings: EvaluationSettings | None = None,
    force: bool = False,
    progress: bool = False,
) -> Embedded:
    """Write the features of a frozen encoder to a Parquet file, one row per image, in the order of the sources.

    Columns: `name`, the image's name below its source; `source`, without the folder that it lies in; `class`, if the
    images have labels (null for those without one); `feature`, a fixed-size list of float32: D features, or T x D
    values of the patch tokens, row after row of the image. The schema's metadata hold, as JSON under `syn2co`: hash,
    provenance and crop of the encoder, precision, fingerprint of the data, `width` D, `grid` (rows, columns) of the
    tokens, and the version of syn2co. Under torchrun all ranks share the work and the first one writes.

    Args:
        encoder: an encoder, a run folder, a checkpoint file or any other name that `load_encoder` takes.
        images: sources as `open_images` takes them.
        out: a file whose name ends in .parquet; its folder is made if needed. It appears when it is whole.
        tokens: write patch tokens instead of pooled features.
        branch: "online" or "target", for a run or checkpoint.
        settings: None gives the defaults; device, precision, batch_size, workers and max_broken_share count.
        force: replace a file that is there.

    Returns:
        The path, number of images, width, grid, and number of broken images that were left out.

    Raises:
        EvaluationError: if `out` is no name of a Parquet file or there already, pyarrow is not installed, tokens are
            asked of an encoder without patch tokens, or features are not finite.
        ConfigError: if the device is not there.
        DataError: if a source is missing, empty or too broken.
        CheckpointError: if there is no readable checkpoint, or its weights do not fit the encoder that it names.
        FileError: if the file cannot be written; one that was there is unchanged.

    Example:
        >>> from syn2co.models.encoder import build_encoder
        >>> from syn2co.models.settings import EncoderSettings
        >>> vit = {"patch_size": 16, "embed_dim": 32, "depth": 1, "num_heads": 2}
        >>> encoder = build_encoder(EncoderSettings(name="vit_tiny_patch16_224", options=vit, size=32), seed=0)
        >>> embedded = embed(encoder, "builtin:digits:test", "digits.parquet")
        >>> embedded.images, embedded.width
        (355, 32)
        >>> import pyarrow.parquet
        >>> pyarrow.parquet.read_table("digits.parquet").column_names
        ['name', 'source', 'class', 'feature']
    """
    path, settings = weights_path(out), settings or EvaluationSettings()
    _check(path, force)
    device = choose_device(settings.device)
    with distributed.session(device.type):
        for line in slow_precision(settings.precision, device) if distributed.is_main() else ():
            note(line)
        refuse_unlike_software(device)
        network = encoder if isinstance(encoder, Encoder) else load_encoder(encoder, branch=branch)
        width, grid = token_grid(network) if tokens else (network.width, None)
        workers, share = decoding_threads(settings.workers), settings.max_broken_share
        opened = distributed.main_first(lambda: open_images(images, workers=workers, max_broken_share=share))
        refuse_unlike(
            lambda: {
                "weights": encoder_hash(network), "images": opened.fingerprint, "tokens": tokens,
                "precision": settings.precision, "batch_size": settings.batch_size,
            }
        )  # fmt: skip
        table = _Table(opened, _sources(images), width, grid, _metadata(network, opened, settings.precision))
        rows = stream(
            network, opened, tokens=tokens, device=device, precision=settings.precision,
            batch_size=settings.batch_size, workers=settings.workers,
        )  # fmt: skip
        with closing(rows), Bar("features", len(opened), show=progress and distributed.is_main()) as bar:
            checked = _checked(rows, opened, network.spec.name, bar)
            if distributed.is_main():
                _write(path, table, checked)
            for _ in checked:  # the other ranks have their share of the work
                pass
        distributed.barrier()
    return Embedded(path, len(opened), width, grid, len(opened.quarantined))


def _check(path: Path, force: bool) -> None:
    """Refuse a file that could not be written, before the work."""
    if path.suffix != SUFFIX:
        raise EvaluationError(
            f"--out {path.name}: features are written as Parquet; give the file a name that ends in {SUFFIX}"
        )
    if path.is_dir():
        raise EvaluationError(f"--out {path.name}: this is a folder; name a file in it, such as features{SUFFIX}")
    if path.exists() and not force:
        raise EvaluationError(
            f"--out {path.name}: this file is already there; name another one or replace it by --force"
        )
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise EvaluationError(
            f"--out {path.name}: Parquet needs the package pyarrow, which is not installed; pip install 'syn2co[embed]'"
        ) from None


def _sources(specs: Specs) -> list[str]:
    return [printable(source_name(spec)) for spec in ([specs] if isinstance(specs, str | Path) else specs)]


def _metadata(encoder: Encoder, images: ImageSet, precision: str) -> dict[str, Any]:
    return {
        "syn2co": __version__,
        "encoder": {
            "name": encoder.spec.name, "hash": encoder_hash(encoder), "image_size": encoder.image_size,
            "crop_ratio": encoder.crop_ratio, "interpolation": getattr(encoder, "interpolation", "bilinear"),
            "squash": getattr(encoder, "squash", False), "provenance": encoder.provenance,
        },
        "precision": precision,
        "data_fingerprint": images.fingerprint,
        "images": len(images),
        "left_out": len(images.quarantined),
    }  # fmt: skip


def _checked(
    rows: Iterator[Float[Tensor, "B ..."]], images: ImageSet, encoder: str, bar: Bar
) -> Iterator[Float[Tensor, "B _"]]:
    """Yield the features as one flat row per image, all of them numbers."""
    done = 0
    for part in rows:
        flat = part.flatten(1)
        check_finite(flat, images.subset(range(done, done + len(flat))), encoder)
        done += len(flat)
        bar.advance(len(flat))
        yield flat


class _Table(NamedTuple):
    """Columns of the file but for the features."""

    images: ImageSet
    sources: Sequence[str]
    width: int
    grid: tuple[int, int] | None
    metadata: dict[str, Any]

    @property
    def values(self) -> int:
        """Numbers per image."""
        return self.width if self.grid is None else self.width * self.grid[0] * self.grid[1]

    @property
    def labeled(self) -> bool:
        return bool((self.images.labels >= 0).any())

    def schema(self) -> "pa.Schema":
        import pyarrow as pa

        fields = [pa.field("name", pa.string()), pa.field("source", pa.string())]
        if self.labeled:
            fields.append(pa.field("class", pa.string()))
        fields.append(pa.field("feature", pa.list_(pa.float32(), self.values)))
        metadata = {**self.metadata, "sources": list(self.sources), "width": self.width, "grid": self.grid}
        return pa.schema(fields, {"syn2co": json.dumps(metadata, sort_keys=True)})

    def rows(self, first: int, features: Float[np.ndarray, "B _"]) -> list["pa.Array"]:
        """Return the columns of the images first, first + 1, ..."""
        import pyarrow as pa

        indices = range(first, first + len(features))
        named = [self.images.name(index).partition(":") for index in indices]
        columns = [pa.array([name for _, _, name in named]), pa.array([self.sources[int(s)] for s, _, _ in named])]
        if self.labeled:
            labels = self.images.labels[indices.start : indices.stop].tolist()
            classes = [printable(name) for name in self.images.classes]
            columns.append(pa.array([classes[n] if n >= 0 else None for n in labels], pa.string()))
        columns.append(pa.FixedSizeListArray.from_arrays(pa.array(features.reshape(-1)), self.values))
        return columns


def _write(path: Path, table: _Table, rows: Iterator[Float[Tensor, "B _"]]) -> None:
    """Write the file whole or not at all."""
    from pyarrow.parquet import ParquetWriter

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as temporary:
            schema = table.schema()
            repeated: Any = [name for name in schema.names if name in ("source", "class")]  # features never do
            with ParquetWriter(temporary, schema, use_dictionary=repeated) as writer:
                _write_groups(writer, table, rows)
    except OSError as error:
        raise FileError(f"--out {path.name}: cannot be written ({why_not_written(error)})") from None


def _write_groups(writer: "ParquetWriter", table: _Table, rows: Iterator[Float[Tensor, "B _"]]) -> None:
    import pyarrow as pa

    first = 0
    for group in _grouped(rows):
        columns = table.rows(first, group.numpy())
        writer.write_batch(pa.record_batch(columns, schema=writer.schema), len(group))
        first += len(group)


def _grouped(rows: Iterator[Float[Tensor, "B _"]]) -> Iterator[Float[Tensor, "G _"]]:
    """Yield whole batches joined to row groups of at least `_GROUP_BYTES`."""
    held: list[Tensor] = []
    for part in rows:
        held.append(part)
        if sum(kept.nbytes for kept in held) >= _GROUP_BYTES:
            yield torch.cat(held)
            held.clear()
    if held:
        yield torch.cat(held)
