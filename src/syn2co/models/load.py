"""Encoders from checkpoints and from timm."""

from pathlib import Path

from torch import Tensor, nn

from syn2co.core.errors import CheckpointError
from syn2co.models.encoder import Encoder, build_encoder
from syn2co.models.settings import EncoderSettings


def load_encoder(path: str | Path, *, branch: str = "online") -> Encoder:
    """Return the trained encoder of a run folder or checkpoint file, in eval mode, on the CPU.

    Args:
        path: a run folder (its newest intact checkpoint), a checkpoint file, or `timm:NAME` for timm's pretrained
            weights, which timm fetches from the model hub.
        branch: "online" (the one that MoBY evaluates) or "target" (its moving average); without effect on `timm:NAME`.

    Returns:
        An encoder: `encoder(encoder.preprocess(images))` gives features [B, d] of uint8 images [B, S, S, 3].

    Raises:
        CheckpointError: if there is no readable checkpoint or its weights do not fit the encoder that it names.

    Example:
        >>> small = ["training.steps=1", "training.batch=8", "queue.size=64", "negatives.hardest=16", "heads.hidden=64"]
        >>> run = syn2co.pretrain("demo", out="run", real=["builtin:digits:test"], settings=small, progress=False)
        >>> encoder = load_encoder(run.folder)
        >>> encoder(encoder.preprocess(torch.zeros(2, 32, 32, 3, dtype=torch.uint8))).shape
        torch.Size([2, 192])
    """
    if branch not in ("online", "target"):
        raise CheckpointError(f"branch = {branch}: must be 'online' or 'target'")
    if str(path).startswith("timm:"):
        return _pretrained(str(path).removeprefix("timm:"))
    from syn2co.runtime.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(Path(path))
    settings = EncoderSettings.model_validate(checkpoint.state["encoder"])
    encoder = build_encoder(settings, seed=0)
    prefix = f"{branch}.encoder."
    weights = {n.removeprefix(prefix): t for n, t in checkpoint.tensors.items() if n.startswith(prefix)}
    load_exactly(encoder, weights, f"{Path(path).name}: the {branch} encoder")
    encoder.provenance = {
        "weights": Path(path).name, "branch": branch, "step": checkpoint.state["step"],
        "config_hash": checkpoint.state["config_hash"],
        **{key: value for key, value in checkpoint.state.get("mix", {}).items() if key in ("labels", "generators")},
    }  # fmt: skip
    return encoder.eval()


def _pretrained(name: str) -> Encoder:
    import timm

    if not timm.is_model(name):
        build_encoder(EncoderSettings(name=name), seed=0)  # raises with the nearest names
    data = timm.data.resolve_data_config(timm.get_pretrained_cfg(name).to_dict())  # type: ignore[union-attr]
    settings = EncoderSettings(name=name, size=data["input_size"][-1], mean=data["mean"], std=data["std"])
    encoder = build_encoder(settings, seed=0)
    try:
        encoder.backbone = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # the hub's client raises errors of many libraries
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        raise CheckpointError(
            f"timm:{name}: its weights cannot be fetched ({first}); check the network, or give a run folder"
        ) from None
    encoder.provenance = {"weights": f"timm:{name}"}
    return encoder.eval()


def load_exactly(module: nn.Module, tensors: dict[str, Tensor], what: str) -> None:
    """Load `tensors` into `module`; every name and shape must match.

    Raises:
        CheckpointError: naming the first tensor that is missing, unknown or of another shape.
    """
    expected = module.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors:
            raise CheckpointError(f"{what}: the checkpoint has no tensor '{name}'; it is of another model")
        if name not in expected:
            raise CheckpointError(f"{what}: the checkpoint's tensor '{name}' is unknown to this model")
        if expected[name].shape != tensors[name].shape:
            raise CheckpointError(
                f"{what}: tensor '{name}' has shape {list(tensors[name].shape)} in the checkpoint, "
                f"but {list(expected[name].shape)} in this model"
            )
    module.load_state_dict(tensors)
