"""`evaluate`: any number of protocols over one encoder and its baselines, on the same test images.

Axes: N training images, M test images.
"""

import difflib
import itertools
import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from syn2co.core.errors import EvaluationError
from syn2co.data.open import SCHEMES, open_images
from syn2co.evaluation.baselines import RawPixels, baselines_of
from syn2co.evaluation.bootstrap import DRAWS, bootstrap_mean
from syn2co.evaluation.features import PRECISIONS, check_finite, encoder_hash, exact_float32, extract
from syn2co.evaluation.protocols.knn import knn
from syn2co.evaluation.protocols.linear import linear
from syn2co.evaluation.protocols.protocol import Features, Protocol, ProtocolResult
from syn2co.evaluation.results import EvaluationReport, Score, make_folder
from syn2co.evaluation.splits import Specs, Splits, identical_rows, make_splits, refuse_overlap
from syn2co.images.image_set import ImageSet
from syn2co.models.encoder import Encoder
from syn2co.models.load import load_encoder
from syn2co.runtime import distributed
from syn2co.runtime.determinism import describe
from syn2co.runtime.device import choose_device

PROTOCOLS: dict[str, Protocol] = {"knn": knn, "linear": linear}


@dataclass(frozen=True)
class _Settings:
    protocols: tuple[str, ...]
    seed: int
    device: torch.device
    precision: str
    batch_size: int
    workers: int
    progress: bool


def evaluate(
    encoder: Encoder | str | Path,
    train: Specs,
    test: Specs,
    *,
    protocols: Sequence[str] = ("knn", "linear"),
    baselines: bool = True,
    also: Sequence[Encoder | str | Path] = (),
    seed: int = 0,
    device: str = "auto",
    precision: str = "float32",
    batch_size: int = 256,
    workers: int = 0,
    max_broken_share: float = 0.01,
    out: str | Path | None = None,
    progress: bool = False,
) -> EvaluationReport:
    """Return the scores of a frozen encoder on labeled images, with intervals, beside its free baselines.

    `encoder` is an encoder, a run folder, a checkpoint file or `timm:NAME`; so are those of `also`, which join the same
    table. `train` and `test` are image sources whose classes match by name. With `out`, evaluation.json and
    evaluation.md are written there. More broken images than `max_broken_share` are refused. Under torchrun all ranks
    share the feature extraction and return the same report; the first one writes.

    Raises:
        EvaluationError: if a setting is unknown, or the data allow no honest score.
        DataError: if a source is missing, empty or too broken.
        CheckpointError: if there is no readable checkpoint, or its weights do not fit the encoder that it names.
    """
    _check(protocols, precision, batch_size, workers)
    chosen = choose_device(device)
    if out is not None:
        make_folder(Path(out))  # before the work, not after it
    with distributed.session(chosen.type):
        settings = _Settings(tuple(dict.fromkeys(protocols)), seed, chosen, precision, batch_size, workers, progress)
        encoders = _encoders([encoder, *also], baselines, seed)
        sides = [_open(specs, workers, max_broken_share) for specs in (train, test)]
        refuse_overlap(*sides)
        report = _score_all(encoders, make_splits(*sides), settings, (train, test))
        if out is not None and distributed.is_main():
            report.write(Path(out))
        distributed.barrier()
    return report


def _check(protocols: Sequence[str], precision: str, batch_size: int, workers: int) -> None:
    known = ", ".join(PROTOCOLS)
    if isinstance(protocols, str) or not protocols:
        raise EvaluationError(f"protocols = {protocols!r}: must be a list of at least one of {known}")
    for name in protocols:
        if name not in PROTOCOLS:
            near = difflib.get_close_matches(name, PROTOCOLS, 1)
            hint = f"did you mean {near[0]}?" if near else f"choose among {known}"
            raise EvaluationError(f"protocols: '{name}' is unknown, known are {known}; {hint}")
    if precision not in PRECISIONS:
        raise EvaluationError(f"precision = {precision}: must be {' or '.join(PRECISIONS)}")
    if batch_size < 1:
        raise EvaluationError(f"batch_size = {batch_size}: must be at least 1; the default is 256")
    if workers < 0:
        raise EvaluationError(f"workers = {workers}: must be 0 (read in this process) or more")


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


def _open(specs: Specs, workers: int, max_broken_share: float) -> ImageSet:
    """Return the image set of `specs`; the first rank checks it and fills the cache that the others read."""
    return distributed.main_first(lambda: open_images(specs, workers=workers, max_broken_share=max_broken_share))


def _score_all(
    encoders: dict[str, nn.Module], splits: Splits, settings: _Settings, specs: tuple[Specs, Specs]
) -> EvaluationReport:
    rows: list[Score] = []
    values: dict[tuple[str, str], np.ndarray] = {}
    notes: dict[str, list[str]] = {}
    extra = [*splits.notes, *_labels_used(encoders)]
    for name, encoder in encoders.items():
        features = _features(name, encoder, splits, settings)
        for protocol in settings.protocols:
            with exact_float32():
                outcome = PROTOCOLS[protocol](features, settings.seed, settings.device)
            values[name, protocol] = outcome.values.numpy()
            rows.append(_score(name, protocol, outcome, features, encoder, splits, settings))
            for note in outcome.notes:
                notes.setdefault(note, []).append(name)
        if isinstance(encoder, RawPixels) and (same := identical_rows(features.train, features.test)):
            extra.append(f"{same} of {len(features.test)} test images have the very pixels of a training image")
    facts = {
        "train": _names(specs[0]),
        "test": _names(specs[1]),
        "classes": len(splits.classes),
        "precision": settings.precision,
        "encoders": {name: _origin(encoder) for name, encoder in encoders.items()},
        "machine": describe(settings.device),
    }
    return EvaluationReport(tuple(rows), values, (*extra, *_merge(notes, len(encoders))), facts)


def _labels_used(encoders: Mapping[str, nn.Module]) -> list[str]:
    """Return the note that every table repeats where labels went into synthetic images that were trained on."""
    provenances = {name: getattr(encoder, "provenance", {}) for name, encoder in encoders.items()}
    used = [name for name, provenance in provenances.items() if provenance.get("labels") == "used"]
    return [f"labels went into the synthetic images of {', '.join(used)}"] if used else []


def _merge(notes: Mapping[str, list[str]], encoders: int) -> list[str]:
    """Return each note once, led by the encoders that it is about unless it is about all."""
    return [note if len(names) == encoders else f"{', '.join(names)}: {note}" for note, names in notes.items()]


def _features(name: str, encoder: nn.Module, splits: Splits, settings: _Settings) -> Features:
    found = []
    for side, images in (("train", splits.train), ("test", splits.test)):
        title = f"{name}: {side} features" if settings.progress else None
        features = extract(
            encoder,
            images,
            device=settings.device,
            precision=settings.precision,
            batch_size=settings.batch_size,
            workers=settings.workers,
            progress=title,
        )
        check_finite(features, images, name)
        found.append(features)
    return Features(found[0], splits.train_labels, found[1], splits.test_labels, len(splits.classes))


def _score(
    name: str,
    protocol: str,
    outcome: ProtocolResult,
    features: Features,
    encoder: nn.Module,
    splits: Splits,
    settings: _Settings,
) -> Score:
    interval = bootstrap_mean(outcome.values.numpy(), seed=settings.seed).percent()
    return Score(
        protocol=protocol,
        encoder=name,
        metric=outcome.metric,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        n_test=len(features.test),
        n_train=len(features.train),
        seed=settings.seed,
        setting=outcome.setting,
        protocol_hash=_hash({**outcome.definition, "bootstrap": DRAWS, "precision": settings.precision}),
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
