"""Projector, predictor, and the online and target branch; the classifier of supervised training."""

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from syn2co.core import keyed_rng
from syn2co.models.batch_norm import SyncBatchNorm, synchronize
from syn2co.models.drop_path import set_drop_path
from syn2co.models.encoder import Encoder, build_encoder
from syn2co.models.settings import EncoderSettings, HeadSettings
from syn2co.models.trial import try_training_pass
from syn2co.objective import unit_rows


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
        features = _encode(self.encoder, views, drop_uniforms)
        one, two = (self._embed(part) for part in features)
        return one, two, features[0].detach()

    def _embed(self, features: Tensor) -> Tensor:
        return unit_rows(self.predictor(self.projector(features)))


class Classifier(nn.Module):
    """Encoder and linear classifier: two views in, the logits of both out; views meet the encoder as in a `Branch`."""

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifier = nn.Linear(encoder.width, classes)
        # Small weights: the first loss is that of a network that knows nothing, the logarithm of the classes.
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(
        self, views: UInt8[Tensor, "2 B S S 3"], drop_uniforms: Float[Tensor, "L 2 B"]
    ) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"], Float[Tensor, "B d"]]:
        """Return the logits of view 1 and of view 2 and the features of view 1 (for health, detached)."""
        one, two = _encode(self.encoder, views, drop_uniforms)
        return self.classifier(one), self.classifier(two), one.detach()


def _encode(encoder: Encoder, views: Tensor, drop_uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Return the features of both views: in one call, or one call per view where batch norm would mix them."""
    layers = encoder.drop_layers
    if encoder.batch_norm:
        parts = []
        for view, uniforms in zip(views, drop_uniforms.unbind(1), strict=True):  # MoBY: statistics per view
            set_drop_path(layers, uniforms)
            parts.append(encoder(encoder.preprocess(view)))
        return parts[0], parts[1]
    set_drop_path(layers, drop_uniforms.flatten(1))
    one, two = encoder(encoder.preprocess(views.flatten(0, 1))).chunk(2)
    return one, two


def build_branches(
    settings: EncoderSettings, heads: HeadSettings, *, drop_path: float, seed: int
) -> tuple[Branch, Branch]:
    """Return the online and the target branch, with equal weights where both have them.

    Drop path is `drop_path` online and 0 in the target, set explicitly (timm's Swin defaults to 0.1).

    Raises:
        ConfigError: if the encoder cannot be built or trained.
    """
    online_encoder = build_encoder(settings, seed=seed, drop_path=drop_path)
    try_training_pass(online_encoder)
    target_encoder = build_encoder(settings, seed=seed, drop_path=0.0)
    with keyed_rng.torch_seed("weights", seed, "heads"):
        online = Branch(online_encoder, heads, predictor=True)
        target = Branch(target_encoder, heads, predictor=False)
    for encoder in (online_encoder, target_encoder):
        synchronize(encoder)
    target.load_state_dict(
        {name: value for name, value in online.state_dict().items() if not name.startswith("predictor.")}
    )
    return online, target.requires_grad_(False)


def build_classifier(settings: EncoderSettings, classes: int, *, drop_path: float, seed: int) -> Classifier:
    """Return encoder and classifier; the encoder starts with the weights that the online branch of a run has.

    Raises:
        ConfigError: if the encoder cannot be built or trained.
    """
    encoder = build_encoder(settings, seed=seed, drop_path=drop_path)
    try_training_pass(encoder)
    with keyed_rng.torch_seed("weights", seed, "classifier"):
        classifier = Classifier(encoder, classes)
    synchronize(encoder)
    return classifier
