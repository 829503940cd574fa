"""`evaluate`: score encoders on labeled images, and write tables and pictures."""

from collections.abc import Sequence
from pathlib import Path

from syn2co.core.paths import user_path
from syn2co.core.settings import one_or_many
from syn2co.evaluation.evaluate import AnyEncoder, score
from syn2co.evaluation.results import EvaluationReport, make_folder
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.evaluation.splits import Specs
from syn2co.models.encoder import Encoder
from syn2co.reports.evaluation_pictures import draw_evaluation
from syn2co.runtime import distributed
from syn2co.runtime.device import choose_device


def evaluate(
    encoders: AnyEncoder | Sequence[AnyEncoder],
    train: Specs | None = None,
    test: Specs | None = None,
    *,
    protocols: str | Sequence[str] = ("knn", "linear"),
    transfer: str | Path | Sequence[str | Path] = (),
    settings: EvaluationSettings | None = None,
    out: str | Path | None = None,
    progress: bool = False,
) -> EvaluationReport:
    """Return the scores of frozen encoders with 95 % intervals, beside baselines, on the same test images.

    Under torchrun all ranks share the feature extraction and return the same report; the first one writes. Clean
    features are remembered in a cache (`syn2co.cache`), so that a second evaluation extracts nothing.

    Args:
        encoders: one or several, the first of which the others are compared with: encoders, or whatever `load_encoder`
            takes, such as a run folder, a checkpoint file, an export or `timm:NAME`.
        train: sources of labeled images as `open_images` takes them: the bank of k-NN, what heads are fitted to.
        test: sources that are scored; their classes match those of `train` by name.
        protocols: one name of a protocol or several; "syn2co" stands for the authors' own suite.
        transfer: one further data set or several: names such as "cifar10", or folders with train/ and test/ or val/.
        settings: None gives the defaults of `EvaluationSettings`.
        out: folder for evaluation.json, .csv and .md and for pictures, made if needed; None writes nothing.

    Returns:
        One row per data set, encoder and protocol, with one value per test image, and notes.

    Raises:
        EvaluationError: if a protocol or data set is unknown, both sides are the same images or share too many, a side
            has no labels, the training images have one class, or test images have a class that the training images
            lack.
        ConfigError: if the device is not there.
        DataError: if a source is missing, empty or too broken.
        CheckpointError: if there is no readable checkpoint, or its weights do not fit the encoder that it names.

    Example:
        >>> from syn2co.models.encoder import build_encoder
        >>> from syn2co.models.settings import EncoderSettings
        >>> vit = {"patch_size": 16, "embed_dim": 32, "depth": 1, "num_heads": 2}
        >>> encoder = build_encoder(EncoderSettings(name="vit_tiny_patch16_224", options=vit, size=32), seed=0)
        >>> alone = EvaluationSettings(baselines=False)
        >>> report = evaluate(encoder, "builtin:digits:train", "builtin:digits:test", protocols=["knn"], settings=alone)
        >>> report.rows[0].metric, report.rows[0].n_test
        ('top-1', 355)
    """
    settings = settings or EvaluationSettings()
    protocols, transfer = one_or_many(protocols), one_or_many(transfer)
    several = [encoders] if isinstance(encoders, Encoder | str | Path) else list(encoders)
    if out is not None:
        out = user_path(out)
        make_folder(out)  # before the work, not after it
    with distributed.session(choose_device(settings.device).type):
        report, tasks = score(
            several, train, test, protocols=protocols, transfer=transfer, settings=settings, progress=progress
        )
        writes = out is not None and distributed.is_main()
    if out is not None and writes:  # after the last collective: a full disk must not leave other ranks waiting
        report.write(user_path(out))
        draw_evaluation(report, tasks, user_path(out))
    return report
