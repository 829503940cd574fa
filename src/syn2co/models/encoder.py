"""Encoders (any timm model), the projection and prediction heads, and the two branches that training compares.

Axes: B images, d features of the encoder, D embedding width, S side of an image in pixels.
"""

import inspect
import sys
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from syn2co.core import keyed_rng
from syn2co.core.errors import ConfigError
from syn2co.core.hints import nearest, shortened
from syn2co.core.transfer import PINNED
from syn2co.images.resize import Interpolation
from syn2co.models.batch_norm import has_batch_norm
from syn2co.models.drop_path import refuse_dropout, use_keyed_drop_path
from syn2co.models.init import _init_like_moco_v3
from syn2co.models.settings import EncoderSettings


class Encoder(nn.Module):
    """A timm backbone without its classifier: normalized images [B, 3, S, S] to features [B, d].

    Attributes: `width` d; `image_size` S; `spec`, the settings that built it; `model_args`, the options that timm took
    for it; `provenance`, where its weights come from (no absolute path); `crop_ratio`, the share of the shorter side
    that the evaluation crop keeps (all of a small image, 224 of 256 otherwise), `interpolation` of its resize, and
    whether it is to `squash` images to squares. Networks that were trained elsewhere have their own.
    """

    crop_ratio: float
    interpolation: Interpolation
    squash: bool

    def __init__(self, settings: EncoderSettings, drop_path: float) -> None:
        super().__init__()
        self.spec = settings
        self.backbone, self.model_args = _create_backbone(settings, drop_path)
        self.drop_layers = use_keyed_drop_path(self.backbone)
        refuse_dropout(self.backbone)
        self.batch_norm = has_batch_norm(self.backbone)
        self.provenance: dict[str, Any] = {"weights": "random"}
        self.crop_ratio = 1.0 if settings.image_size <= 64 else 0.875
        self.interpolation = "bilinear"
        self.squash = False
        self.register_buffer("mean", torch.tensor(settings.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(settings.std).view(3, 1, 1), persistent=False)

    @property
    def width(self) -> int:
        """Return d, which for some networks (MobileNetV3, say) is not the width of the last block."""
        return int(getattr(self.backbone, "head_hidden_size", None) or self.backbone.num_features)  # type: ignore[arg-type]

    @property
    def image_size(self) -> int:
        return self.spec.image_size

    def preprocess(self, images: UInt8[Tensor, "B S S 3"]) -> Float[Tensor, "B 3 S S"]:
        """Return the images on the encoder's device, scaled to [0, 1] and normalized, in the encoder's dtype."""
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        # Bytes are moved and scaled there: a quarter of the traffic of float32.
        # Only a GPU that copies from pinned memory may be late: elsewhere the bytes could be freed before.
        pinned = mean.device.type in PINNED
        scaled = images.to(mean.device, non_blocking=pinned).permute(0, 3, 1, 2).to(mean.dtype) / 255
        return ((scaled - mean) / std).contiguous()

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B d"]:
        return self.backbone(images)

    def checkpoint_activations(self) -> None:
        """Let the backward pass compute the activations within timm's blocks again, in place of keeping them.

        Raises:
            ConfigError: if timm has no blocks for this network, or statistics would follow each image twice.

        Source: arXiv:1604.06174.
        """
        if self.batch_norm:
            raise ConfigError(
                f"machine.activation_checkpointing = true: the running statistics of {self.spec.name} would count each "
                "image twice; set it to false"
            )
        try:
            self.backbone.set_grad_checkpointing(True)  # type: ignore[operator]
        except (AssertionError, AttributeError, NotImplementedError):
            raise ConfigError(
                f"machine.activation_checkpointing = true: timm cannot do this for {self.spec.name}; set it to false"
            ) from None


def copy_crop(encoder: Encoder, other: Encoder) -> None:
    """Give the other encoder the evaluation crop of the first one."""
    other.crop_ratio, other.interpolation, other.squash = encoder.crop_ratio, encoder.interpolation, encoder.squash


def _create_backbone(settings: EncoderSettings, drop_path: float) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network, and its options but for the classifier and drop path, which a trained one has no use for."""
    import timm

    if not timm.is_model(settings.name):
        hint = nearest(settings.name, timm.list_models(), most=3) or "; timm.list_models() names them all"
        raise ConfigError(f"encoder.name = {settings.name}: timm has no such model{hint}")
    _refuse_foreign_options(settings)
    options = {"num_classes": 0, "drop_path_rate": drop_path, "img_size": settings.image_size, **settings.options}
    optional = ["img_size"] if drop_path else ["img_size", "drop_path_rate"]  # networks of any size, without drop path
    while True:  # timm names one option that a network does not know at a time
        try:
            taken = {name: value for name, value in options.items() if name not in ("num_classes", "drop_path_rate")}
            return timm.create_model(settings.name, **options), taken
        except TypeError as error:
            refused = next((name for name in optional if name in options and name in str(error)), None)
            if refused is None:
                hint = "; set encoder.drop_path=0" if "drop_path_rate" in str(error) else ""
                raise ConfigError(
                    f"encoder: timm's {settings.name} refuses its options ({_reason(error)}){hint}"
                ) from None
            options.pop(refused)
        except Exception as error:  # a network's own code raises nearly anything on sizes and options that do not fit
            raise ConfigError(
                f"encoder: timm cannot build {settings.name} at views.size = {settings.image_size} "
                f"with {settings.options} ({_reason(error)})"
            ) from None


def _reason(error: Exception) -> str:
    """Return what timm or torch says, on one line."""
    return shortened(" ".join(str(error).split()), 300) or type(error).__name__


def _refuse_foreign_options(settings: EncoderSettings) -> None:
    """Refuse options that are not of the architecture, such as checkpoint_path: strangers' files have options too."""
    known = _architecture_options(settings.name)
    foreign = sorted(settings.options.keys() - known)
    if foreign:
        name, value = foreign[0], str(settings.options[foreign[0]])[:60]
        raise ConfigError(
            f"encoder.options.{name} = {value}: is no option of the architecture of {settings.name}"
            f"{nearest(name, known) or '; remove it'}"
        )


@cache
def _architecture_options(name: str) -> frozenset[str]:
    """Return the parameters of the modules that timm builds a network from; those of loading and fetching are none."""
    import timm
    from timm.models import model_entrypoint

    visible = vars(sys.modules[model_entrypoint(name).__module__]).values()
    built = {base for kind in visible if inspect.isclass(kind) and issubclass(kind, nn.Module) for base in kind.__mro__}
    names = {name for kind in built - {nn.Module, object} for name in inspect.signature(kind.__init__).parameters}
    return frozenset(names - {"self", "args"} - set(inspect.signature(timm.create_model).parameters))


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
