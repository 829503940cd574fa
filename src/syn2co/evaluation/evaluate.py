"""`evaluate`: any number of protocols over one encoder and its baselines, on the same test images.

Axes: N training images, M test images.
"""

import itertools
import json
from collections.abc import Container, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from syn2co.core.errors import EvaluationError
from syn2co.core.hints import nearest
from syn2co.data.open import SCHEMES, open_images
from syn2co.evaluation.baselines import RawPixels, baselines_of
from syn2co.evaluation.bootstrap import DRAWS, bootstrap_mean
from syn2co.evaluation.features import check_finite, encoder_hash, exact_float32, extract
from syn2co.evaluation.protocols.knn import knn
from syn2co.evaluation.protocols.linear import linear
from syn2co.evaluation.protocols.protocol import Features, Protocol, ProtocolResult
from syn2co.evaluation.results import EvaluationReport, Score, make_folder
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.evaluation.splits import Specs, Splits, identical_rows, make_splits, refuse_overlap
from syn2co.images.image_set import ImageSet
from syn2co.models.encoder import Encoder
from syn2co.models.load import load_encoder
from syn2co.runtime import distributed
from syn2co.runtime.determinism import describe
from syn2co.runtime.device import choose_device

PROTOCOLS: dict[str, Protocol] = {"knn": knn, "linear": linear}


def evaluate(
    encoder: Encoder | str | Path,
    train: Specs,
    test: Specs,
    *,
    protocols: Sequence[str] = ("knn", "linear"),
    also: Sequence[Encoder | str | Path] = (),
    settings: EvaluationSettings | None = None,
    out: str | Path | None = None,
    progress: bool = False,
) -> EvaluationReport:
    """Return the scores of a frozen encoder on labeled images, in percent with 95 % intervals, beside its baselines.

    Under torchrun all ranks share the feature extraction and return the same report; the first one writes.

    Args:
        encoder: an encoder, a run folder, a checkpoint file or `timm:NAME`.
        train: sources of labeled images as `open_images` takes them: the bank of k-NN, what the probe is fitted to.
        test: sources that are scored; their classes match those of `train` by name.
        protocols: names of `PROTOCOLS`, at least one.
        also: further encoders for the same table, of the kinds that `encoder` may be.
        settings: None gives the defaults of `EvaluationSettings`.
        out: folder for evaluation.json and evaluation.md, made if needed; None writes nothing.

    Returns:
        One row per encoder and protocol, the correctness of each test image, and notes.

    Raises:
        EvaluationError: if a protocol is unknown, both sides are the same images, a side has no labels, the training
            images have one class, or test images have a class that the training images lack.
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
    _check(protocols)
    chosen = choose_device(settings.device)
    if out is not None:
        make_folder(Path(out))  # before the work, not after it
    with distributed.session(chosen.type):
        job = _Job(tuple(dict.fromkeys(protocols)), settings, chosen, progress)
        encoders = _encoders([encoder, *also], settings.baselines, settings.seed)
        sides = [_open(specs, settings) for specs in (train, test)]
        refuse_overlap(*sides)
        report = _score_all(encoders, make_splits(*sides), job, (train, test))
        if out is not None and distributed.is_main():
            report.write(Path(out))
        distributed.barrier()
    return report


class _Job(NamedTuple):
    """One evaluation: protocols, settings, device."""

    protocols: tuple[str, ...]
    settings: EvaluationSettings
    device: torch.device
    progress: bool


def _check(protocols: Sequence[str]) -> None:
    known = ", ".join(PROTOCOLS)
    if isinstance(protocols, str) or not protocols:
        raise EvaluationError(f"protocols = {protocols!r}: must be a list of at least one of {known}")
    for name in protocols:
        if name not in PROTOCOLS:
            hint = nearest(name, PROTOCOLS) or f"; choose among {known}"
            raise EvaluationError(f"protocols: '{name}' is unknown, known are {known}{hint}")


def _encoders(given: Sequence[Encoder | str | Path], baselines: bool, seed: int) -> dict[str, nn.Module]:
    """Return every encoder of the table under a name of its own."""
    named: dict[str, nn.Module] = {}
    for item in given:
        loaded = item if isinstance(item, Encoder) else load_encoder(item)
        named[_free_name("encoder" if isinstance(item, Encoder) else _short(item), named)] = loaded
    if baselines:
        first = next(iter(named.values()))
        assert isinstance(first, Encoder)
        for name, module in baselines_of(first, seed=seed).items():
            named[_free_name(name, named)] = module
    return named


def _free_name(name: str, taken: Container[str]) -> str:
    numbered = (f"{name} ({number})" for number in itertools.count(2))
    return next(candidate for candidate in itertools.chain([name], numbered) if candidate not in taken)


def _open(specs: Specs, settings: EvaluationSettings) -> ImageSet:
    """Return the image set of `specs`; the first rank checks it and fills the cache that the others read."""
    share, workers = settings.max_broken_share, settings.workers
    return distributed.main_first(lambda: open_images(specs, workers=workers, max_broken_share=share))


def _score_all(
    encoders: dict[str, nn.Module], splits: Splits, job: _Job, specs: tuple[Specs, Specs]
) -> EvaluationReport:
    rows: list[Score] = []
    values: dict[tuple[str, str], np.ndarray] = {}
    notes: dict[str, list[str]] = {}
    extra = [*splits.notes, *_labels_used(encoders)]
    for name, encoder in encoders.items():
        features = _features(name, encoder, splits, job)
        for protocol in job.protocols:
            with exact_float32():
                outcome = PROTOCOLS[protocol](features, job.settings.seed, job.device)
            values[name, protocol] = outcome.values.numpy()
            rows.append(_score(name, protocol, outcome, features, encoder, splits, job))
            for note in outcome.notes:
                notes.setdefault(note, []).append(name)
        if isinstance(encoder, RawPixels) and (same := identical_rows(features.train, features.test)):
            extra.append(f"{same} of {len(features.test)} test images have the very pixels of a training image")
    metadata = {
        "train": _names(specs[0]),
        "test": _names(specs[1]),
        "classes": len(splits.classes),
        "precision": job.settings.precision,
        "encoders": {name: _origin(encoder) for name, encoder in encoders.items()},
        "machine": describe(job.device),
    }
    return EvaluationReport(tuple(rows), values, (*extra, *_merge(notes, len(encoders))), metadata)


def _labels_used(encoders: Mapping[str, nn.Module]) -> list[str]:
    """Return the note that every table repeats where labels went into synthetic images that were trained on."""
    provenances = {name: getattr(encoder, "provenance", {}) for name, encoder in encoders.items()}
    used = [name for name, provenance in provenances.items() if provenance.get("labels") == "used"]
    return [f"labels went into the synthetic images of {', '.join(used)}"] if used else []


def _merge(notes: Mapping[str, list[str]], encoders: int) -> list[str]:
    """Return each note once, led by the encoders that it is about unless it is about all."""
    return [note if len(names) == encoders else f"{', '.join(names)}: {note}" for note, names in notes.items()]


def _features(name: str, encoder: nn.Module, splits: Splits, job: _Job) -> Features:
    sides = []
    for side, images in (("train", splits.train), ("test", splits.test)):
        title = f"{name}: {side} features" if job.progress else None
        features = extract(
            encoder,
            images,
            device=job.device,
            precision=job.settings.precision,
            batch_size=job.settings.batch_size,
            workers=job.settings.workers,
            progress=title,
        )
        check_finite(features, images, name)
        sides.append(features)
    return Features(sides[0], splits.train_labels, sides[1], splits.test_labels, len(splits.classes))


def _score(
    name: str,
    protocol: str,
    outcome: ProtocolResult,
    features: Features,
    encoder: nn.Module,
    splits: Splits,
    job: _Job,
) -> Score:
    interval = bootstrap_mean(outcome.values.numpy(), seed=job.settings.seed).percent()
    return Score(
        protocol=protocol,
        encoder=name,
        metric=outcome.metric,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        n_test=len(features.test),
        n_train=len(features.train),
        seed=job.settings.seed,
        setting=outcome.setting,
        protocol_hash=_hash({**outcome.definition, "bootstrap": DRAWS, "precision": job.settings.precision}),
        data_fingerprint=splits.fingerprint,
        encoder_hash=encoder_hash(encoder),
        details=outcome.details,
    )


def _hash(definition: dict[str, Any]) -> str:
    return blake2b(json.dumps(definition, sort_keys=True).encode(), digest_size=16).hexdigest()


def _names(specs: Specs) -> list[str]:
    """Return the sources without the folders that they lie in: a report must not tell where on a machine data are."""
    return [_short(spec) for spec in ([specs] if isinstance(specs, str | Path) else specs)]


def _short(spec: str | Path) -> str:
    scheme, colon, rest = str(spec).partition(":")
    if colon and scheme in (*SCHEMES, "timm"):
        return f"{scheme}:{Path(rest).name if Path(rest).is_absolute() else rest}"
    return Path(spec).resolve().name


def _origin(encoder: Any) -> dict[str, Any]:
    """Return where the weights come from, and the crop that the encoder saw."""
    return {
        "image_size": encoder.image_size, "crop_ratio": encoder.crop_ratio, **getattr(encoder, "provenance", {}),
    }  # fmt: skip
