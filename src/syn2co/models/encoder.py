"""Encoders (any timm model), the projection and prediction heads, and the two branches that training compares.

Axes: B images, d features of the encoder, D embedding width, S side of an image in pixels.
"""

import difflib
import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from syn2co.core import keyed_rng
from syn2co.core.errors import CheckpointError, ConfigError
from syn2co.models.batch_norm import SyncBatchNorm, has_batch_norm, synchronise
from syn2co.models.drop_path import refuse_dropout, set_drop_path, use_keyed_drop_path
from syn2co.objective import unit_rows
from syn2co.pretraining.config import EncoderSettings, HeadSettings


class Encoder(nn.Module):
    """A timm backbone without its classifier: normalised images [B, 3, S, S] to features [B, d].

    Attributes: `width` d; `image_size` S; `crop_ratio` of the evaluation crop; `spec`, the settings that built it;
    `provenance`, where its weights come from (no absolute path).
    """

    def __init__(self, settings: EncoderSettings, drop_path: float) -> None:
        super().__init__()
        self.spec = settings
        self.backbone = _create_backbone(settings, drop_path)
        self.drop_layers = use_keyed_drop_path(self.backbone)
        refuse_dropout(self.backbone)
        self.batch_norm = has_batch_norm(self.backbone)
        self.provenance: dict[str, Any] = {"weights": "random"}
        self.register_buffer("mean", torch.tensor(settings.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(settings.std).view(3, 1, 1), persistent=False)

    @property
    def width(self) -> int:
        """Return d, which for some networks (MobileNetV3, say) is not the width of the last block."""
        return int(getattr(self.backbone, "head_hidden_size", None) or self.backbone.num_features)  # type: ignore[arg-type]

    @property
    def image_size(self) -> int:
        return self.spec.image_size

    @property
    def crop_ratio(self) -> float:
        """The share of the shorter side that the evaluation crop keeps: all of a small image, 224 of 256 otherwise."""
        return 1.0 if self.image_size <= 64 else 0.875

    def preprocess(self, images: UInt8[Tensor, "B S S 3"]) -> Float[Tensor, "B 3 S S"]:
        """Return the images on the encoder's device, scaled to [0, 1] and normalised, in the encoder's dtype."""
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        scaled = images.to(mean.device, non_blocking=True).permute(0, 3, 1, 2).to(mean.dtype) / 255
        return ((scaled - mean) / std).contiguous()

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B d"]:
        return self.backbone(images)


def _create_backbone(settings: EncoderSettings, drop_path: float) -> nn.Module:
    import timm

    if not timm.is_model(settings.name):
        near = difflib.get_close_matches(settings.name, timm.list_models(), n=3, cutoff=0.4)
        hint = f"; did you mean {', '.join(near)}?" if near else "; timm.list_models() names them all"
        raise ConfigError(f"encoder.name = {settings.name}: timm has no such model{hint}")
    options = {"num_classes": 0, "drop_path_rate": drop_path, "img_size": settings.image_size, **settings.options}
    optional = ["img_size"] if drop_path else ["img_size", "drop_path_rate"]  # networks of any size, without drop path
    while True:
        try:
            return timm.create_model(settings.name, **options)
        except TypeError as error:
            refused = next((name for name in optional if name in options and name in str(error)), None)
            if refused is None:
                hint = "; set encoder.drop_path=0" if "drop_path_rate" in str(error) else ""
                raise ConfigError(f"encoder: timm's {settings.name} refuses its options ({error}){hint}") from None
            options.pop(refused)
        except (ValueError, AssertionError) as error:
            raise ConfigError(
                f"encoder: timm cannot build {settings.name} at views.size = {settings.image_size} "
                f"with {settings.options} ({error})"
            ) from None


def build_encoder(settings: EncoderSettings, *, seed: int, drop_path: float = 0.0) -> Encoder:
    """Return an encoder with random weights that are a function of `seed`.

    Raises:
        ConfigError: if timm has no such model or refuses its options.
    """
    with keyed_rng.torch_seed("weights", seed, "encoder"):
        encoder = Encoder(settings, drop_path)
        if settings.init == "moco_v3":
            _init_like_moco_v3(encoder.backbone)
    return encoder


def sincos_positions(grid: tuple[int, int], width: int) -> Float[Tensor, "N d"]:
    """Return fixed 2-D sine-cosine position embeddings, one row a patch, row-major over the grid.

    omega_i = 10000^-(i / (d/4)); the columns are sin(x w), cos(x w), sin(y w), cos(y w). Source: MoCo v3,
    arXiv:2104.02057. Raises ConfigError if `width` is not a multiple of 4.
    """
    if width % 4:
        raise ConfigError(f"encoder: sine-cosine positions need a width that is a multiple of 4, not {width}")
    omega = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    x = columns.flatten()[:, None] * omega
    y = rows.flatten()[:, None] * omega
    return torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=1).float()


@torch.no_grad()
def _init_like_moco_v3(vit: Any) -> None:
    """Give a timm ViT the weights and frozen positions of MoCo v3's (arXiv:2104.02057), in place.

    The patch projection is trained, as in the SynCo-v2 code; MoCo v3 itself also offers to freeze it.
    """
    if not (hasattr(vit, "patch_embed") and hasattr(vit, "cls_token") and hasattr(vit, "pos_embed")):
        raise ConfigError("encoder.init = moco_v3: only a timm vision transformer with a class token can be so started")
    for name, layer in vit.named_modules():
        if isinstance(layer, nn.Linear):
            fan = layer.out_features // 3 if name.endswith("qkv") else layer.out_features
            bound = math.sqrt(6 / (fan + layer.in_features))
            nn.init.uniform_(layer.weight, -bound, bound)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    patch = vit.patch_embed.proj
    bound = math.sqrt(6 / (patch.weight[0].numel() + patch.out_channels))
    nn.init.uniform_(patch.weight, -bound, bound)
    nn.init.zeros_(patch.bias)
    nn.init.normal_(vit.cls_token, std=1e-6)
    positions = sincos_positions(vit.patch_embed.grid_size, vit.embed_dim)
    vit.pos_embed.copy_(torch.cat([torch.zeros(1, vit.embed_dim), positions])[None])
    vit.pos_embed.requires_grad_(False)


def head(inputs: int, settings: HeadSettings) -> nn.Sequential:
    """Return Linear - BN - ReLU - Linear, the shape of both the projector and the predictor; no BN on the output."""
    return nn.Sequential(
        nn.Linear(inputs, settings.hidden),
        SyncBatchNorm(settings.hidden),
        nn.ReLU(inplace=True),
        nn.Linear(settings.hidden, settings.width),
    )


class Branch(nn.Module):
    """Encoder, projector and, in the online branch, predictor: two views in, two unit-length embeddings out.

    BN statistics are per view: a head never sees both views in one batch. An encoder without BN takes both views in
    one call.
    """

    def __init__(self, encoder: Encoder, heads: HeadSettings, *, predictor: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = head(encoder.width, heads)
        self.predictor = head(heads.width, heads) if predictor else nn.Identity()

    def forward(
        self, views: UInt8[Tensor, "2 B S S 3"], drop_uniforms: Float[Tensor, "L 2 B"]
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"], Float[Tensor, "B d"]]:
        """Return the embeddings of view 1 and of view 2 and the features of view 1 (for health, detached)."""
        features = self._encode(views, drop_uniforms)
        one, two = (self._embed(part) for part in features)
        return one, two, features[0].detach()

    def _encode(self, views: Tensor, drop_uniforms: Tensor) -> tuple[Tensor, Tensor]:
        layers = self.encoder.drop_layers
        if self.encoder.batch_norm:
            parts = []
            for view, uniforms in zip(views, drop_uniforms.unbind(1), strict=True):
                set_drop_path(layers, uniforms)
                parts.append(self.encoder(self.encoder.preprocess(view)))
            return parts[0], parts[1]
        set_drop_path(layers, drop_uniforms.flatten(1))
        one, two = self.encoder(self.encoder.preprocess(views.flatten(0, 1))).chunk(2)
        return one, two

    def _embed(self, features: Tensor) -> Tensor:
        return unit_rows(self.predictor(self.projector(features)))


def build_branches(
    settings: EncoderSettings, heads: HeadSettings, *, drop_path: float, seed: int
) -> tuple[Branch, Branch]:
    """Return the online and the target branch, with equal weights where both have them.

    Drop path is `drop_path` online and 0 in the target, set explicitly (timm's Swin defaults to 0.1).
    """
    online_encoder = build_encoder(settings, seed=seed, drop_path=drop_path)
    target_encoder = build_encoder(settings, seed=seed, drop_path=0.0)
    with keyed_rng.torch_seed("weights", seed, "heads"):
        online = Branch(online_encoder, heads, predictor=True)
        target = Branch(target_encoder, heads, predictor=False)
    for encoder in (online_encoder, target_encoder):
        synchronise(encoder)
    target.load_state_dict(
        {name: value for name, value in online.state_dict().items() if not name.startswith("predictor.")}
    )
    return online, target.requires_grad_(False)


def load_encoder(path: str | Path, *, branch: str = "online") -> Encoder:
    """Return the trained encoder of a run folder or checkpoint file, in eval mode, on the CPU.

    `timm:NAME` gives timm's pretrained weights instead (fetched from the model hub by timm). `branch` is "online"
    (what MoBY evaluates) or "target" (its moving average).

    Raises:
        CheckpointError: if there is no readable checkpoint or its weights do not fit the encoder that it names.
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
    fit_state(encoder, weights, f"{Path(path).name}: the {branch} encoder")
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


def fit_state(module: nn.Module, tensors: dict[str, Tensor], what: str) -> None:
    """Load `tensors` into `module`; every name and shape must match.

    Raises:
        CheckpointError: naming the first tensor that is missing, unknown or of another shape.
    """
    own = module.state_dict()
    for name in sorted(own.keys() | tensors.keys()):
        if name not in tensors:
            raise CheckpointError(f"{what}: the checkpoint has no tensor '{name}'; it is of another model")
        if name not in own:
            raise CheckpointError(f"{what}: the checkpoint's tensor '{name}' is unknown to this model")
        if own[name].shape != tensors[name].shape:
            raise CheckpointError(
                f"{what}: tensor '{name}' has shape {list(tensors[name].shape)} in the checkpoint, "
                f"but {list(own[name].shape)} in this model"
            )
    module.load_state_dict(tensors)
