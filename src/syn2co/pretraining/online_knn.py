"""The optional k-NN score while training, on labeled images that the loss never sees."""

from syn2co.core import keyed_rng
from syn2co.core.errors import DataError, EvaluationError
from syn2co.data.open import open_images
from syn2co.evaluation.splits import make_splits, refuse_overlap
from syn2co.images.image_set import ImageSet
from syn2co.models.encoder import Encoder
from syn2co.pretraining.config import Config


class OnlineKnn:
    """Scores the online encoder every few epochs; the run is left unchanged.

    Raises:
        DataError: if they allow no honest score: no labels, the same images on both sides, a class unknown to the bank.
    """

    def __init__(self, config: Config) -> None:
        settings = config.online_knn
        self.every, self.patience = settings.every_epochs, settings.patience
        self.precision = "bfloat16" if config.training.precision == "bfloat16" else "float32"
        share = config.data.max_broken_share
        bank, queries = (
            _some(open_images(sources, max_broken_share=share), settings.max_images, config.seed)
            for sources in (settings.train, settings.test)
        )
        try:
            refuse_overlap(bank, queries)
            splits = make_splits(bank, queries)
        except EvaluationError as error:
            raise DataError(f"online_knn: {error}") from None
        self.bank, self.queries = splits.train, splits.test
        self.bank_labels, self.query_labels = splits.train_labels, splits.test_labels

    def due(self, step: int, steps_per_epoch: int, total: int) -> bool:
        """Return whether `step` is the first at or after a multiple of `every` epochs, or the last."""
        now, before = step / steps_per_epoch, (step - 1) / steps_per_epoch
        return step == total or now // self.every > before // self.every

    def score(self, encoder: Encoder) -> float:
        """Return the top-1 accuracy in percent of 20 weighted neighbors; the encoder comes back in train mode."""
        from syn2co.evaluation.features import extract
        from syn2co.evaluation.protocols.knn import knn_accuracy

        bank, queries = (extract(encoder, part, precision=self.precision) for part in (self.bank, self.queries))
        encoder.train()
        return knn_accuracy(bank, self.bank_labels, queries, self.query_labels, k=20)


def _some(images: ImageSet, most: int, seed: int) -> ImageSet:
    return images.subset(sorted(keyed_rng.permutation(len(images), "online k-NN", seed)[:most]))
