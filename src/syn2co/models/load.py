"""Encoders from checkpoints, exports, timm and files of weights."""

from pathlib import Path
from typing import Any

from syn2co.core.errors import CheckpointError
from syn2co.core.paths import is_file, user_path
from syn2co.models.encoder import Encoder, build_encoder
from syn2co.models.provenance import provenance_of, run_record, source_names
from syn2co.models.reference import is_reference, reference_encoder
from syn2co.models.state import load_exactly
from syn2co.models.timm_files import (
    WEIGHTS,
    encoder_of_file,
    encoder_of_folder,
    is_timm_folder,
    pretrained_encoder,
    read_encoder_settings,
)
from syn2co.models.weight_files import is_plain_safetensors
from syn2co.runtime.checkpoint import Checkpoint, load_checkpoint


def load_encoder(path: str | Path, *, branch: str = "online", trust: bool = False) -> Encoder:
    """Return a trained encoder, in eval mode, on the CPU.

    Args:
        path: a run folder (its newest intact checkpoint); a checkpoint file; an export folder of `syn2co export` or
            of timm's hub, or the model.safetensors in it; `timm:NAME` for timm's pretrained weights, which timm fetches
            from the model hub; `timm:NAME:FILE` for a file of weights, by timm's names or as MoBY, MoCo v3 and DINO
            save them; or `reference` (`reference:SIDE`) for the network of `syn2co[reference]`.
        branch: "online" (the one that MoBY evaluates) or "target" (its moving average), of run folders and checkpoints;
            any other source holds one encoder, which is the target only if it is an export of one.
        trust: read a FILE that is a pickle too; of that, tensors and plain values alone.

    Returns:
        An encoder: `encoder(encoder.preprocess(images))` gives features [B, d] of uint8 images [B, S, S, 3].

    Raises:
        CheckpointError: if there is no readable checkpoint, it has no such branch, or its weights do not fit the
            encoder that it names.
        ConfigError: if timm has no such network, or the package of the reference is not installed.

    Example:
        >>> small = ["training.steps=1", "training.batch=8", "queue.size=64", "negatives.hardest=16", "heads.hidden=64"]
        >>> run = syn2co.pretrain("demo", out="run", real=["builtin:digits:test"], settings=small, progress=False)
        >>> encoder = load_encoder(run.folder)
        >>> encoder(encoder.preprocess(torch.zeros(2, 32, 32, 3, dtype=torch.uint8))).shape
        torch.Size([2, 192])
    """
    return load_with_record(path, branch=branch, trust=trust)[0]


def load_with_record(
    path: str | Path, *, branch: str = "online", trust: bool = False
) -> tuple[Encoder, dict[str, Any]]:
    """Return the encoder of `load_encoder`, and the record of the run that it comes from as far as it is known."""
    if branch not in ("online", "target"):
        raise CheckpointError(f"branch = {branch}: must be 'online' or 'target'")
    path = path if str(path).startswith("timm:") else user_path(path)
    single = _single_encoder(path, trust)
    if single is not None:
        if branch == "target" and single[0].provenance.get("branch") != "target":
            raise CheckpointError(f"branch = target: {source_names([str(path)])[0]} holds one encoder; use 'online'")
        return single
    _refuse_nameless(Path(path))
    checkpoint = load_checkpoint(Path(path))
    return _of_checkpoint(checkpoint, Path(path).resolve().name, branch), run_record(checkpoint.state)


def _single_encoder(path: str | Path, trust: bool) -> tuple[Encoder, dict[str, Any]] | None:
    """Return the encoder of timm, the reference or an export, and its record; None for a checkpoint with branches."""
    text = str(path)
    if text.startswith("timm:"):
        name, colon, file = text.removeprefix("timm:").partition(":")
        return encoder_of_file(name, user_path(file), trust=trust) if colon else pretrained_encoder(name), {}
    if is_reference(text):
        return reference_encoder(text), {}
    folder = Path(path).parent if Path(path).name == WEIGHTS else Path(path)
    return encoder_of_folder(folder) if is_timm_folder(folder) else None


def _refuse_nameless(path: Path) -> None:
    """Refuse a file of weights that says nothing of the network that they are of."""
    if is_file(path) and (path.suffix in (".pth", ".pt", ".bin", ".tar") or is_plain_safetensors(path)):
        raise CheckpointError(
            f"{path.name}: holds weights and does not say of which network; give timm:NAME:{path.name}"
        )


def _of_checkpoint(checkpoint: Checkpoint, name: str, branch: str) -> Encoder:
    if branch == "target" and checkpoint.state.get("objective") == "supervised":
        raise CheckpointError(f"branch = target: {name} was trained with labels and has none; use 'online'")
    if "encoder" not in checkpoint.state:
        raise CheckpointError(
            f"{name}: is a checkpoint without an encoder, such as a flow's; give a run folder of `syn2co pretrain`"
        )
    settings = read_encoder_settings(checkpoint.state["encoder"], name)
    encoder = build_encoder(settings, seed=0)
    prefix = f"{branch}.encoder."
    weights = {n.removeprefix(prefix): t for n, t in checkpoint.tensors.items() if n.startswith(prefix)}
    load_exactly(encoder, weights, f"{name}: the {branch} encoder")
    encoder.provenance = provenance_of(checkpoint.state, name, branch)
    return encoder.eval()
