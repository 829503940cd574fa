"""One micro-batch of supervised training: the reference with labels, trained by the same engine as Syn2Co.

Images, order, views, drop path, first weights of the encoder, optimizer and steps are those of a contrastive run of the
same settings. The label takes the place of target branch, queues and heads: a linear classifier follows the encoder.
Both views of an image are classified, since the online encoder of Syn2Co is trained on both of them too: with one of
them the reference would see half of the pixels.

Axes: B images of this rank's part of the micro-batch, C classes, N images of the run.
"""

import math
from operator import attrgetter

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from syn2co.core.settings import setting_names
from syn2co.data.batch import Batch
from syn2co.models.heads import build_classifier
from syn2co.objective import Queue
from syn2co.pretraining.config import Config
from syn2co.pretraining.health import feature_std, measure_sources
from syn2co.pretraining.labels import ClassLabels
from syn2co.pretraining.step import AUTOCAST, StepOutput, StepPosition, drop_uniforms, place
from syn2co.runtime.distributed import all_gather_rows

CONTRASTIVE = ("heads", "queue", "negatives", "training.temperature", "training.momentum")
"""Settings and groups of settings that supervised training does not use."""


class Supervised(nn.Module):
    """Encoder and classifier (`online`), and the label of every image of the run; no target branch and no queues."""

    def __init__(self, config: Config, labels: ClassLabels, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.online = build_classifier(
            config.encoder_spec, len(labels.classes), drop_path=config.encoder.drop_path, seed=config.seed
        )
        self.register_buffer("labels", torch.from_numpy(labels.numbers), persistent=False)
        if config.machine.activation_checkpointing:
            self.online.encoder.checkpoint_activations()
        place(self, config.training.precision, device)
        self.queues: list[Queue] = []
        self.seed, self.precision = config.seed, config.training.precision
        self.label_smoothing, self.mixed = config.supervised.label_smoothing, bool(config.data.synthetic)

    def update_target(self, momentum: float) -> None:
        """Do nothing: there is no target branch."""

    def training_step(self, online: nn.Module, batch: Batch, position: StepPosition, *, negatives: bool) -> StepOutput:
        """Return the mean loss of this rank's images and the measurements; `negatives` is without effect.

        loss_i = (CE(logits of view 1, y_i) + CE(logits of view 2, y_i)) / 2, with label smoothing e
        CE(z, y) = -sum_c (e / C + (1 - e) [c = y]) log softmax(z)_c.

        Source of label smoothing: arXiv:1512.00567, Sec. 7.
        """
        dtype = AUTOCAST[self.precision]
        with torch.autocast(batch.views.device.type, dtype=dtype, enabled=dtype is not None):
            one, two, features = online(batch.views, drop_uniforms(self.online.encoder, batch, position, self.seed))
        labels = self.get_buffer("labels")[batch.indices]
        # Outside of autocast: the loss is computed in float32 at least.
        views = [logits.to(torch.promote_types(logits.dtype, torch.float32)) for logits in (one, two)]
        parts = [cross_entropy(z, labels, reduction="none", label_smoothing=self.label_smoothing) for z in views]
        loss = (parts[0] + parts[1]) / 2
        measured = _measure(loss.detach(), views, labels)
        measured["feature_std"] = feature_std(all_gather_rows(features, equal=True))
        if self.mixed:
            measured |= measure_sources(loss.detach(), batch.synthetic)
        return StepOutput(loss.mean(), measured, (), features)


def unused_settings(config: Config) -> list[str]:
    """Return the settings of contrastive training that are not at their defaults, and of no use here."""
    names = [name for name in setting_names(Config) if name.startswith(CONTRASTIVE)]
    usual = Config()
    return [name for name in names if attrgetter(name)(config) != attrgetter(name)(usual)]


def _measure(loss: Tensor, views: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
    """Return loss, loss of equal logits (ln C, at any smoothing), and the share of views that are classified right."""
    right = torch.stack([(logits.detach().argmax(1) == labels).to(loss.dtype).mean() for logits in views])
    uninformative = loss.new_full((), math.log(views[0].shape[1]))
    return {"loss": loss.mean(), "uninformative": uninformative, "top1": right.mean()}
