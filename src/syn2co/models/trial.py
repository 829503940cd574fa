"""A trial of an encoder before it is trained: one training pass, after which everything is as it was."""

import random

import numpy as np
import torch

from syn2co.core.errors import ConfigError
from syn2co.models.drop_path import set_drop_path
from syn2co.models.encoder import Encoder


@torch.no_grad()
def try_training_pass(encoder: Encoder) -> None:
    """Refuse an encoder that cannot be trained on its images, or whose training pass no restart could repeat.

    Dropout as a layer is refused when the encoder is built; as a function it only shows in the state of the random
    generators, which it moves.

    Args:
        encoder: on the CPU and not yet synchronized over ranks; its buffers and its mode stay as they are.

    Raises:
        ConfigError: if the pass fails, or has moved a state.

    Example:
        >>> from syn2co.models.encoder import build_encoder
        >>> from syn2co.models.settings import EncoderSettings
        >>> options = {"patch_size": 16, "embed_dim": 32, "depth": 1, "num_heads": 2}
        >>> small = EncoderSettings(name="vit_tiny_patch16_224", options=options, size=32)
        >>> try_training_pass(build_encoder(small, seed=0))
    """
    name, side, training = encoder.spec.name, encoder.image_size, encoder.training
    buffers = {key: value.clone() for key, value in encoder.named_buffers()}
    images = torch.arange(2 * side * side * 3).view(2, side, side, 3).to(torch.uint8)
    set_drop_path(encoder.drop_layers, torch.ones(len(encoder.drop_layers), 2))
    before = _random_states()
    try:
        encoder.train()(encoder.preprocess(images))
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConfigError(
            f"encoder.name = {name}: cannot be trained at views.size = {side} ({reason}); choose another size or "
            "encoder"
        ) from None
    finally:
        moved = _random_states() != before
        encoder.train(training)
        for key, value in encoder.named_buffers():
            value.copy_(buffers[key])
    if moved:
        raise ConfigError(
            f"encoder.name = {name}: draws random numbers in training that no restart could repeat; set its rates to "
            '0, as in encoder.options={"drop_rate": 0}, and use encoder.drop_path, or choose another encoder'
        )


def _random_states() -> tuple[object, ...]:
    """Return the states of the generators of torch, NumPy and Python."""
    kind, keys, *rest = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), kind, np.asarray(keys).tobytes(), *rest, random.getstate()
