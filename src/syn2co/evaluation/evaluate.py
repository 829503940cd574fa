"""`score`: any number of protocols over encoders, baselines and data sets, on the same test images.

Axes: M test images, R draws of the training labels.
"""

import itertools
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import nn

from syn2co.core.errors import EvaluationError
from syn2co.core.float32 import exact_float32
from syn2co.data.open import open_images
from syn2co.evaluation.baselines import baselines_of
from syn2co.evaluation.bootstrap import DRAWS, Interval, interval_of
from syn2co.evaluation.crops import decoding_threads
from syn2co.evaluation.data_sets import size_notes
from syn2co.evaluation.feature_cache import GIB, FeatureCache
from syn2co.evaluation.features import encoder_hash
from syn2co.evaluation.kept_results import KeptResults
from syn2co.evaluation.near_overlap import near_overlap
from syn2co.evaluation.protocols.protocol import NotApplicable, ProtocolResult, Task
from syn2co.evaluation.protocols.registry import PROTOCOLS
from syn2co.evaluation.results import EvaluationReport
from syn2co.evaluation.scores import Score
from syn2co.evaluation.segmentation import find_masks, image_folders
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.evaluation.splits import Specs, Splits, make_splits, refuse_overlap, unlabeled_splits
from syn2co.evaluation.suites import DataSet, choose_suite
from syn2co.images.image_set import ImageSet
from syn2co.models.encoder import Encoder
from syn2co.models.load import load_encoder
from syn2co.models.provenance import source_name
from syn2co.runtime import distributed
from syn2co.runtime.alike import refuse_unlike, refuse_unlike_software
from syn2co.runtime.determinism import describe
from syn2co.runtime.device import choose_device, slow_precision

AnyEncoder = Encoder | str | Path


def score(
    encoders: Sequence[AnyEncoder],
    train: Specs | None,
    test: Specs | None,
    *,
    protocols: Sequence[str],
    transfer: Sequence[str | Path],
    settings: EvaluationSettings,
    progress: bool,
    kept: KeptResults | None = None,
) -> tuple[EvaluationReport, dict[str, Task]]:
    """Return the scores of frozen encoders and baselines, and the first encoder's task per data set.

    Arguments and errors as `syn2co.evaluate`; nothing is written but what each protocol found, by `kept`, so that the
    same call resumes. Call it inside a `distributed.session`: all ranks share the extraction and return the
    same report.
    """
    suite = choose_suite(protocols, train, test, transfer, settings)
    job = _Job(suite.protocols, settings, choose_device(settings.device), progress, kept or KeptResults(None))
    _refuse_unlike_ranks(job, [data.name for data in suite.data])
    named = _encoders(encoders, settings.baselines, settings.seed)
    refuse_unlike(lambda: {f"weights of {name}": encoder_hash(encoder) for name, encoder in named.items()})
    job.notes += [*suite.notes, *_labels_used(named), *slow_precision(settings.precision, job.device)]
    tasks: dict[str, Task] = {}
    for data in suite.data:
        splits = _open_splits(data, suite.protocols, settings)
        _refuse_other_images(data, splits)
        job.notes += [f"{data.name}: {note}" if data.name else note for note in splits.notes]
        if data.published is not None:
            job.notes += [f"{data.name}: {note}" for note in data.published.notes]
            job.notes += size_notes(data.published, splits.train, splits.test)
        job.classes[data.name] = splits.classes
        for number, task in enumerate(_tasks(named, data, splits, job)):
            _score_encoder(task, data, job)
            if number == 0:
                tasks[data.name] = task
    if not job.rows:
        raise EvaluationError(f"--protocols: none of them could score these encoders: {'; '.join(job.merged_notes(0))}")
    notes = (*job.notes, *job.merged_notes(len(named)))
    return EvaluationReport(tuple(job.rows), notes, _metadata(suite.data, named, job), job.classes), tasks


@dataclass
class _Job:
    """One evaluation: protocols, settings, device, and what came out so far."""

    protocols: tuple[str, ...]
    settings: EvaluationSettings
    device: torch.device
    progress: bool
    kept: KeptResults
    rows: list[Score] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    of_encoders: dict[str, list[str]] = field(default_factory=dict)
    """Notes of protocols, and the encoders that each is about."""

    def note(self, text: str, encoder: str) -> None:
        names = self.of_encoders.setdefault(text, [])
        if encoder not in names:
            names.append(encoder)

    def merged_notes(self, encoders: int) -> list[str]:
        """Return each note once, led by the encoders that it is about unless it is about all."""
        return [
            note if len(names) == encoders else f"{', '.join(names)}: {note}"
            for note, names in self.of_encoders.items()
        ]


def _refuse_unlike_ranks(job: _Job, data: Sequence[str]) -> None:
    """Refuse ranks with other software, settings, protocols or data sets than rank 0: they would mix two answers."""
    refuse_unlike_software(job.device)
    settings = job.settings.model_dump(mode="json", exclude={"device", "workers", "cache_gib", "data_root", "variants"})
    variants = sorted(job.settings.variants)
    refuse_unlike(lambda: {"protocols": job.protocols, "data sets": data, **settings, "variants": variants})


def _refuse_other_images(data: DataSet, splits: Splits) -> None:
    """Refuse ranks with other images than rank 0."""
    refuse_unlike(lambda: {f"images of {data.name or 'the evaluation'}": splits.fingerprint})


def _encoders(given: Sequence[AnyEncoder], baselines: bool, seed: int) -> dict[str, nn.Module]:
    """Return every encoder of the table under a name of its own."""
    if not given:
        raise EvaluationError("encoders: the list is empty; give at least one run folder, checkpoint or encoder")
    named: dict[str, nn.Module] = {}
    for item in given:
        loaded = item if isinstance(item, Encoder) else load_encoder(item)
        named[_free_name("encoder" if isinstance(item, Encoder) else source_name(item), named)] = loaded
    if baselines:
        first = next(iter(named.values()))
        assert isinstance(first, Encoder)
        for name, module in baselines_of(first, seed=seed).items():
            named[_free_name(name, named)] = module
    return named


def _free_name(name: str, taken: Container[str]) -> str:
    numbered = (f"{name} ({number})" for number in itertools.count(2))
    return next(candidate for candidate in itertools.chain([name], numbered) if candidate not in taken)


def _open_splits(data: DataSet, protocols: Sequence[str], settings: EvaluationSettings) -> Splits:
    """Return both sides of a data set, checked to be different: test images that were stored again are counted."""
    splits = _both_sides(data, protocols, settings)
    threads = decoding_threads(settings.workers)
    with distributed.ending_together():  # every rank reads all images, and one may have a slower disk
        notes = near_overlap(splits.train, splits.test, settings.max_overlap, threads=threads)
    return replace(splits, notes=(*splits.notes, *notes))


def _both_sides(data: DataSet, protocols: Sequence[str], settings: EvaluationSettings) -> Splits:
    """Return both sides of a data set, labeled if a protocol needs labels, with masks if one needs masks."""
    needs = {PROTOCOLS[name].needs for name in protocols}
    if "masks" in needs:
        folders = image_folders(data.train, "train"), image_folders(data.test, "test")
        train, test = (_open(part, settings) for part in folders)
        refuse_overlap(train, test)
        masks = find_masks((folders[0], train), (folders[1], test))
        return unlabeled_splits(train, test, masks=masks, max_overlap=settings.max_overlap)
    train, test = (_open(specs, settings) for specs in (data.train, data.test))
    refuse_overlap(train, test)
    make = make_splits if "classes" in needs else unlabeled_splits
    return make(train, test, max_overlap=settings.max_overlap)


def _open(specs: Specs, settings: EvaluationSettings) -> ImageSet:
    """Return the image set of `specs`; the first rank checks it and fills the cache that the others read."""
    share, workers = settings.max_broken_share, decoding_threads(settings.workers)
    return distributed.main_first(lambda: open_images(specs, workers=workers, max_broken_share=share))


def _tasks(named: Mapping[str, nn.Module], data: DataSet, splits: Splits, job: _Job) -> Iterator[Task]:
    """Yield the task of each encoder on one data set; they share what `once` makes for one of them."""
    first = Task(
        name="", encoder=nn.Identity(), splits=splits, settings=job.settings, device=job.device,
        cache=FeatureCache(int(job.settings.cache_gib * GIB)), metric=data.metric, progress=job.progress,
        encoders=named,
    )  # fmt: skip
    yield from (first.peer(name) for name in named)


def _score_encoder(task: Task, data: DataSet, job: _Job) -> None:
    """Add the rows of one encoder on one data set."""
    prefix = f"{data.name}: " if data.name else ""
    for protocol in (name for name in job.protocols if name not in data.left_out):
        try:
            with exact_float32():
                results = job.kept.fetch(protocol, task, PROTOCOLS[protocol].run)
        except NotApplicable as reason:
            job.note(f"{prefix}{protocol}: {reason}", task.name)
            continue
        for result in results:
            job.rows.append(_score(protocol, result, task, data))
            for note in result.notes:
                job.note(prefix + note, task.name)


def _score(protocol: str, result: ProtocolResult, task: Task, data: DataSet) -> Score:
    values, settings = result.values.double().numpy(), task.settings
    interval = interval_of(values, seed=settings.seed)
    if result.is_share:  # a linearization, or Student's t, may leave [0, 1]; the score cannot
        interval = Interval(interval.value, max(0.0, interval.low), min(1.0, interval.high))
    interval = interval.percent() if result.percent else interval
    definition = {**result.definition, "metric": result.metric, "bootstrap": DRAWS, "precision": settings.precision}
    return Score(
        protocol=result.name or protocol,
        encoder=task.name,
        data=data.name,
        metric=result.metric,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        n_test=values.shape[-1],
        n_train=len(task.splits.train) if result.n_train is None else result.n_train,
        seed=settings.seed,
        draws=len(values) if values.ndim == 2 else 1,
        setting=result.setting,
        protocol_hash=blake2b(json.dumps(definition, sort_keys=True).encode(), digest_size=16).hexdigest(),
        data_fingerprint=result.fingerprint or task.splits.fingerprint,
        encoder_hash=task.encoder_hash,
        percent=result.percent,
        higher_is_better=result.higher_is_better,
        details=result.details,
        values=values,
        predicted=None if result.predicted is None else result.predicted.numpy(),
        labels=None if result.predicted is None else task.splits.test_labels.numpy(),
    )


def _labels_used(encoders: Mapping[str, nn.Module]) -> list[str]:
    """Return the notes that every table repeats where labels went into an encoder."""
    provenances = {name: getattr(encoder, "provenance", {}) for name, encoder in encoders.items()}
    supervised = [name for name, provenance in provenances.items() if provenance.get("objective") == "supervised"]
    used = [name for name, provenance in provenances.items() if provenance.get("labels") == "used"]
    used = [name for name in used if name not in supervised]
    began = [name for name, provenance in provenances.items() if provenance.get("init", {}).get("labels") == "used"]
    notes = [f"{', '.join(supervised)}: trained with labels"] if supervised else []
    notes += [
        f"{name}: trained on {provenance['trained_on']}"
        for name, provenance in provenances.items()
        if "trained_on" in provenance
    ]
    notes += [f"labels went into the weights that {', '.join(began)} began with"] if began else []
    return notes + ([f"labels went into the synthetic images of {', '.join(used)}"] if used else [])


def _metadata(sets: Sequence[DataSet], encoders: Mapping[str, Any], job: _Job) -> dict[str, Any]:
    """Return data, settings, versions and origins: nothing that tells where on a machine anything lies."""
    settings = job.settings.model_dump(mode="json", exclude={"device", "workers", "cache_gib", "data_root", "variants"})
    return {
        "train": [name for data in sets for name in _names(data.train)],
        "test": [name for data in sets for name in _names(data.test)],
        "precision": job.settings.precision,
        "settings": settings,
        "encoders": {name: _origin(encoder) for name, encoder in encoders.items()},
        "machine": describe(job.device),
    }


def _names(specs: Specs) -> list[str]:
    """Return the sources without the folders that they lie in."""
    return [source_name(spec) for spec in ([specs] if isinstance(specs, str | Path) else specs)]


def _origin(encoder: Any) -> dict[str, Any]:
    """Return where the weights come from, and the crop that the encoder saw."""
    return {
        "image_size": encoder.image_size, "crop_ratio": encoder.crop_ratio,
        **({"interpolation": encoder.interpolation} if hasattr(encoder, "interpolation") else {}),
        **({"squash": True} if getattr(encoder, "squash", False) else {}),
        **getattr(encoder, "provenance", {}),
    }  # fmt: skip
