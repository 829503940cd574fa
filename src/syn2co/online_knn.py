"""The optional k-NN score while training, on labelled images that the loss never sees."""

import numpy as np

from syn2co import keyed
from syn2co.config import Config
from syn2co.errors import DataError
from syn2co.images import ImageSet, open_images
from syn2co.models import Encoder


class OnlineKnn:
    """Scores the online encoder every so many epochs; it changes nothing in the run.

    Raises:
        DataError: if some of its images have no label.
    """

    def __init__(self, config: Config) -> None:
        settings = config.online_knn
        self.every = settings.every_epochs
        self.precision = "bfloat16" if config.training.precision == "bfloat16" else "float32"
        self.bank, self.queries = (
            _some(open_images(sources), settings.max_images, config.seed) for sources in (settings.train, settings.test)
        )
        classes = sorted({*self.bank.classes, *self.queries.classes})
        self.bank_labels, self.query_labels = (_by_name(part, classes) for part in (self.bank, self.queries))

    def due(self, step: int, steps_per_epoch: int, total: int) -> bool:
        """Return whether `step` is the first at or after a multiple of `every` epochs, or the last."""
        now, before = step / steps_per_epoch, (step - 1) / steps_per_epoch
        return step == total or now // self.every > before // self.every

    def score(self, encoder: Encoder) -> float:
        """Return the top-1 accuracy in percent of 20 weighted neighbours; the encoder comes back in train mode."""
        from syn2co.evaluation.features import extract
        from syn2co.evaluation.knn import knn_accuracy

        bank, queries = (extract(encoder, part, precision=self.precision) for part in (self.bank, self.queries))
        encoder.train()
        return knn_accuracy(bank, self.bank_labels, queries, self.query_labels, k=20)


def _some(images: ImageSet, most: int, seed: int) -> ImageSet:
    return images.subset(sorted(keyed.permutation(len(images), "online k-NN", seed)[:most]))


def _by_name(images: ImageSet, classes: list[str]) -> np.ndarray:
    if not images.classes or (images.labels < 0).any():
        raise DataError("online_knn: some of its images have no label; name folders with one subfolder a class")
    lookup = np.array([classes.index(name) for name in images.classes])
    return lookup[images.labels]
