"""A trial pass: encoders whose training no restart could repeat are refused, and nothing is left changed."""

import numpy as np
import pytest
import torch

from syn2co.core.errors import ConfigError
from syn2co.models.encoder import build_encoder
from syn2co.models.heads import build_branches, build_classifier
from syn2co.models.settings import EncoderSettings, HeadSettings
from syn2co.models.trial import try_training_pass

HEADS = HeadSettings(hidden=12, width=6)
GHOST = EncoderSettings(name="ghostnet_050", size=32)  # calls F.dropout at rate 0.2, which is no layer


def test_dropout_as_a_function_is_refused_by_every_method():
    message = r"encoder.name = ghostnet_050: draws random numbers in training.*drop_rate"
    with pytest.raises(ConfigError, match=message):
        build_branches(GHOST, HEADS, drop_path=0.0, seed=0)
    with pytest.raises(ConfigError, match=message):
        build_classifier(GHOST, 3, drop_path=0.0, seed=0)


def test_without_its_rate_it_is_accepted_and_nothing_has_changed():
    encoder = build_encoder(GHOST.model_copy(update={"options": {"drop_rate": 0.0}}), seed=0)
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    drawn = torch.get_rng_state()
    try_training_pass(encoder)
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())
    assert encoder.training and torch.equal(torch.get_rng_state(), drawn)


@pytest.mark.parametrize("draw", [torch.rand, np.random.rand])
def test_every_generator_is_watched(draw, monkeypatch):
    encoder = build_encoder(GHOST.model_copy(update={"options": {"drop_rate": 0.0}}), seed=0)
    monkeypatch.setattr(encoder.backbone, "forward", lambda images: draw(1))
    with pytest.raises(ConfigError, match="draws random numbers"):
        try_training_pass(encoder)


def test_a_pass_that_fails_is_said_in_one_sentence(monkeypatch):
    encoder = build_encoder(GHOST, seed=0)
    monkeypatch.setattr(encoder.backbone, "forward", lambda images: images.view(7, 5))
    with pytest.raises(ConfigError, match=r"encoder.name = ghostnet_050: cannot be trained at views.size = 32 \(shape"):
        try_training_pass(encoder)
