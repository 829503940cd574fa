"""Weights that a run begins with: read from anywhere, loaded as far as they fit, and listed where they do not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from syn2co.core.errors import CheckpointError
from syn2co.core.hints import first_names
from syn2co.core.paths import is_folder, user_path
from syn2co.models.encoder import Encoder
from syn2co.models.load import load_with_record
from syn2co.models.provenance import source_names
from syn2co.models.reference import is_reference
from syn2co.models.state import weights_hash
from syn2co.models.timm_files import OWN, WEIGHTS, is_timm_folder, renamed
from syn2co.models.weight_files import read_weight_file
from syn2co.runtime.checkpoint import is_checkpoint

OURS = "syn2co"
LEAST = 0.5
"""Share of the encoder's numbers, counters left out, that must fit: less are the weights of another network."""


@dataclass(frozen=True)
class InitialWeights:
    """Weights of an encoder by timm's names.

    Attributes: `source`, their name without its folder; `layout`, how the file holds them; `hash`, of their content;
    `labels`, whether labels went into them ("used", "none", "unknown"); `left_out`, other parts of the file.
    """

    tensors: dict[str, Tensor]
    source: str
    layout: str
    hash: str
    labels: str = "unknown"
    left_out: tuple[str, ...] = ()

    @property
    def provenance(self) -> dict[str, str]:
        """Return what checkpoints and model cards say of them."""
        return {"source": self.source, "layout": self.layout, "hash": self.hash, "labels": self.labels}


@dataclass(frozen=True)
class InitialFit:
    """Names of tensors that fit and load, that the file lacks, that the encoder lacks, and whose shapes differ."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    other_shape: tuple[str, ...]
    left_out: tuple[str, ...]
    """Parts of the file that are no part of the encoder, such as a projector."""

    def sentence(self) -> str:
        """Return what was loaded and what was not, in one sentence."""
        return f"{len(self.loaded)} tensors loaded" + (f"; {self.rest()}" if self.rest() else "")

    def rest(self) -> str:
        """Return what was not loaded, or nothing."""
        lists = {
            "of another shape": self.other_shape, "not in the file": self.missing,
            "not in the encoder": self.unknown, "left out": self.left_out,
        }  # fmt: skip
        return "; ".join(f"{title}: {first_names(names, 3)}" for title, names in lists.items() if names)


def read_initial_weights(source: str | Path, *, trust: bool = False) -> InitialWeights:
    """Return the encoder's weights in a run, an export, a network of timm, or a file of any known layout.

    Args:
        source: a run folder or checkpoint (its online encoder), an export or a folder of timm's hub, `timm:NAME`,
            `reference`, or a file of weights (`models.weight_files`).
        trust: read a file that is a pickle too; of that, tensors and plain values alone.

    Raises:
        CheckpointError: if there is nothing readable, or it is a pickle without `trust`, or of no known layout.
        ConfigError: if timm has no such network.
    """
    text = str(source)
    path = Path(source) if text.startswith("timm:") else user_path(source)
    (name,) = source_names([text])
    if text.startswith("timm:") or is_reference(text) or _is_ours(path) or is_timm_folder(path):
        encoder, record = load_with_record(source, trust=trust)
        labels = record.get("labels", "used" if is_reference(text) else "unknown")
        layout = OURS if _is_ours(path) or (path / OWN).is_file() else encoder.provenance.get("layout", "timm")
        tensors = dict(encoder.backbone.state_dict())
        return InitialWeights(tensors, name, layout, weights_hash(tensors), labels)
    file = read_weight_file(path, trust=trust)
    return InitialWeights(file.tensors, name, file.layout.name, weights_hash(file.tensors), left_out=file.left_out)


def start_from(encoders: Sequence[Encoder], weights: InitialWeights) -> InitialFit:
    """Load what fits by name and shape into each of the encoders, which are of one network, in place.

    Raises:
        CheckpointError: if less than half of the encoder's numbers fit. Counters of batch norm, whose shape is always
            the same, do not count.
    """
    encoder = encoders[0]
    expected, given = encoder.backbone.state_dict(), renamed(weights.tensors, encoder)
    fit = _compare(expected, given, weights.left_out)
    sizes = {name: tensor.numel() for name, tensor in expected.items() if tensor.is_floating_point()}
    share = sum(sizes.get(name, 0) for name in fit.loaded) / sum(sizes.values())
    if share < LEAST:
        if share:
            reason = f"only {100 * share:.1f} % of {encoder.spec.name} are in it ({fit.rest()}), not half"
        else:
            names = f"{first_names(given, 3)}) fits {encoder.spec.name} ({first_names(expected, 3)}"
            reason = f"none of its {len(given)} tensors ({names}) by name and shape"
        raise CheckpointError(
            f"init_from = {weights.source}: {reason}; choose the network that it is of with encoder.name and "
            "encoder.options"
        )
    for other in encoders:
        other.backbone.load_state_dict({name: given[name] for name in fit.loaded}, strict=False)
    return fit


def _compare(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], left_out: tuple[str, ...]) -> InitialFit:
    both = [name for name in expected if name in given]
    return InitialFit(
        loaded=tuple(name for name in both if expected[name].shape == given[name].shape),
        missing=tuple(name for name in expected if name not in given),
        unknown=tuple(name for name in given if name not in expected),
        other_shape=tuple(
            f"{name} {list(given[name].shape)} instead of {list(expected[name].shape)}"
            for name in both
            if expected[name].shape != given[name].shape
        ),
        left_out=left_out,
    )


def _is_ours(path: Path) -> bool:
    """Return whether a path is a run folder, a checkpoint of ours, or the weights of an export of ours."""
    if is_folder(path):
        return not is_timm_folder(path)
    return is_checkpoint(path) or (path.name == WEIGHTS and (path.parent / OWN).is_file())
