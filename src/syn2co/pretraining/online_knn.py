"""The optional k-NN score while training, on labeled images that the loss never sees.

Axes: N labeled images of a side.
"""

from fractions import Fraction

import numpy as np
from jaxtyping import Int64

from syn2co.core import keyed_rng
from syn2co.core.errors import DataError, EvaluationError
from syn2co.core.progress import note
from syn2co.data.open import open_images
from syn2co.evaluation.crops import decoding_threads
from syn2co.evaluation.near_overlap import near_overlap
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.evaluation.splits import make_splits, refuse_overlap
from syn2co.models.encoder import Encoder
from syn2co.pretraining.config import Config
from syn2co.runtime.distributed import is_main


class OnlineKnn:
    """Scores the online encoder every few epochs; the run is left unchanged.

    Raises:
        DataError: if they allow no honest score: no labels, more than 1 % of the queries in the bank, a class unknown
            to the bank, or more classes than `max_images`.
    """

    def __init__(self, config: Config) -> None:
        settings = config.online_knn
        self.every, self.patience = settings.every_epochs, settings.patience
        self.precision = "bfloat16" if config.training.precision == "bfloat16" else "float32"
        share, most = config.data.max_broken_share, EvaluationSettings().max_overlap
        bank, queries = (open_images(side, max_broken_share=share) for side in (settings.train, settings.test))
        try:
            refuse_overlap(bank, queries)
            splits = make_splits(bank, queries, max_overlap=most)
            if len(splits.classes) > settings.max_images:
                raise EvaluationError(
                    f"online_knn.max_images = {settings.max_images}: must be at least the {len(splits.classes)} "
                    "classes; raise it"
                )
            labels = splits.train_labels, splits.test_labels
            rows = [_by_class(of_side.numpy(), settings.max_images, config.seed) for of_side in labels]
            self.bank, self.queries = splits.train.subset(rows[0]), splits.test.subset(rows[1])
            self.bank_labels, self.query_labels = (side[part] for side, part in zip(labels, rows, strict=True))
            notes = near_overlap(
                self.bank, self.queries, most, threads=decoding_threads(None), sides="train and test", adjustable=False
            )
        except EvaluationError as error:
            raise DataError(f"online_knn: {error}") from None
        for line in (*splits.notes, *notes) if is_main() else ():
            note(f"online_knn: {line}")

    def due(self, step: int, steps_per_epoch: int, total: int) -> bool:
        """Return whether `step` is the first at or after a multiple of `every` epochs, or the last."""
        every = Fraction(str(self.every)) * steps_per_epoch  # in steps, exactly: 0.3 // 0.1 is 2 in floats
        return step == total or step // every > (step - 1) // every

    def score(self, encoder: Encoder) -> float:
        """Return the top-1 accuracy in percent of 20 weighted neighbors; the encoder comes back in train mode."""
        from syn2co.evaluation.features import extract
        from syn2co.evaluation.protocols.knn import knn_accuracy

        bank, queries = (extract(encoder, part, precision=self.precision) for part in (self.bank, self.queries))
        encoder.train()
        return knn_accuracy(bank, self.bank_labels, queries, self.query_labels, k=20)


def _by_class(labels: Int64[np.ndarray, " N"], most: int, seed: int) -> Int64[np.ndarray, " n"]:
    """Return at most `most` rows in order, drawn evenly from the classes; all of a class that has too few."""
    order = keyed_rng.permutation(len(labels), "online k-NN", seed)
    order = order[np.argsort(labels[order], kind="stable")]
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    turn = np.arange(len(order)) - np.repeat(starts, counts)  # the how manyth of its class
    return np.sort(order[np.argsort(turn, kind="stable")[:most]])
