"""Inputs of a study: images to train on, labeled images to score on, and what a user changes of all its runs."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from syn2co.core.errors import StudyError
from syn2co.core.files import write_atomically
from syn2co.core.json_files import JsonError, JsonObject, read_json
from syn2co.core.keyed_rng import digest
from syn2co.core.locks import hold
from syn2co.core.paths import lies_there, user_path
from syn2co.core.settings import Settings, one_or_many
from syn2co.core.urls import is_url
from syn2co.core.versions import __version__
from syn2co.data.named_source import split_bits
from syn2co.data.open import open_images
from syn2co.data.settings import DataSettings
from syn2co.evaluation.crops import decoding_threads
from syn2co.evaluation.data_sets import DATA_SETS
from syn2co.evaluation.near_overlap import near_overlap
from syn2co.evaluation.protocols.registry import PROTOCOLS
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.evaluation.splits import Specs, make_splits, refuse_overlap
from syn2co.evaluation.suites import choose_suite
from syn2co.images.image_set import ImageSet
from syn2co.models.import_weights import read_initial_weights
from syn2co.models.provenance import source_name, source_names
from syn2co.studies.grid import GENERATORS, Study
from syn2co.studies.portable import portable_settings, portable_source, portable_values, sources_of
from syn2co.studies.result_files import read_definition
from syn2co.studies.results import FORMAT, STUDY

LOCK = ".study-lock"


class StudyInputs(Settings):
    """Sources of a study; inputs-*.json holds them beside study.json, which holds nothing of this machine.

    Example:
        >>> digits = ["builtin:digits:train"]
        >>> inputs = StudyInputs(real=digits, train=digits, test=["builtin:digits:test"])
        >>> inputs.train, inputs.transfer
        (('builtin:digits:train',), ())
    """

    real: tuple[str, ...]
    """Real images that the runs and the generators may draw from."""
    train: tuple[str, ...]
    """Labeled images: the bank of k-NN, what heads are fitted to."""
    test: tuple[str, ...]
    """Labeled images that are scored."""
    transfer: tuple[str, ...] = ()
    """Further data sets, as `evaluate` takes them."""
    settings: tuple[str, ...] = ()
    """Settings of all runs, after the study's own, such as "machine.threads=1"."""
    evaluation: tuple[str, ...] = ()
    """Settings of the evaluation, after the study's own."""
    sources: dict[str, str] = {}
    """The path of each synthetic source that a level names."""
    fingerprints: dict[str, str] = {}
    """Content of real, train and test, of every transfer set, of every source of a level, and of weights that runs
    begin with."""
    counts: dict[str, int] = {}
    """Number of images of real, train and test, and of every source of a level."""

    @property
    def paths(self) -> list[str]:
        """Every source once, as it was given: real, train and test, both sides of each transfer set, those of levels.

        Messages may hold any of them; pages must not. One with a range, such as 12bit:scans, is there without it too;
        transfer sets by name, such as "cifar10", are not.
        """
        transfer = [source for item in self.transfer if item not in DATA_SETS for source in sources_of(item)]
        sources = [*self.real, *self.train, *self.test, *transfer, *self.sources.values()]
        return list(dict.fromkeys(text for source in filter(None, sources) for text in (source, _without_bits(source))))

    def with_fingerprints(self, study: Study, data: DataSettings, weights: Iterable[str] = ()) -> "StudyInputs":
        """Open every source once and return the inputs with fingerprints and numbers of their images.

        Args:
            study: the grid, whose protocols say what the labeled images must have.
            data: how the runs open real images.
            weights: all that runs begin with, as `init_from` takes it.

        Raises:
            CheckpointError: if weights cannot be read.
            DataError: if a source is missing, empty or too broken.
            StudyError: if two weights have one name.
            EvaluationError: if the images cannot be scored, because there are no labels say.
        """
        settings = evaluation_settings(study, self)
        suite = choose_suite(study.protocols, self.train, self.test, self.transfer, settings)
        opened = {
            "real": self.open_real(data),
            "train": _open(self.train, settings),
            "test": _open(self.test, settings),
        }
        if any(PROTOCOLS[name].needs == "classes" for name in suite.protocols):
            refuse_overlap(opened["train"], opened["test"])
            splits = make_splits(opened["train"], opened["test"], max_overlap=settings.max_overlap)
            threads = decoding_threads(settings.workers)
            near_overlap(
                splits.train, splits.test, settings.max_overlap, threads=threads
            )  # each score repeats the note
        content = {name: images.fingerprint for name, images in opened.items()}
        for other in suite.data[1:]:
            sides = (_open(side, settings).fingerprint for side in (other.train, other.test))
            content[f"transfer {other.name}"] = digest(*sides).hex()
        for name, path in self.sources.items():
            images = opened[f"source {name}"] = open_images(path, cache="never")
            content[f"source {name}"] = images.fingerprint
        for path in dict.fromkeys(weights):
            hashed = read_initial_weights(path).hash
            if content.setdefault(key := weights_key(path), hashed) != hashed:
                raise StudyError(f"init_from = {path}: other {key} have that name too; rename one of them")
        counts = {name: len(images) for name, images in opened.items()}
        return self.model_copy(update={"fingerprints": content, "counts": counts})

    def open_real(self, data: DataSettings) -> ImageSet:
        """Return the real images under the numbers that they have in a run with these settings."""
        return open_images(
            list(self.real),
            max_pixels=data.max_pixels,
            max_broken_share=data.max_broken_share,
            check=data.check,
            cache="never",
        )


def evaluation_settings(study: Study, inputs: StudyInputs) -> EvaluationSettings:
    """Return the settings of every evaluation of a study.

    Raises:
        ConfigError: if one is unknown or out of range.
    """
    own = EvaluationSettings(baselines=False).with_settings(study.evaluation)
    return own.with_settings(inputs.evaluation, option="--evaluation")


def weights_key(init_from: str) -> str:
    """Return the name of weights among the fingerprints, without their folder."""
    return f"weights {portable_values(init_from)}"


def _open(specs: Specs, settings: EvaluationSettings) -> ImageSet:
    return open_images(specs, max_broken_share=settings.max_broken_share, cache="never")


def _without_bits(source: str) -> str:
    return str(split_bits(source)[0])


def with_named_sources(study: Study, inputs: StudyInputs) -> tuple[Study, StudyInputs]:
    """Return the study with the sources of its levels by name, and the inputs with their paths.

    Raises:
        StudyError: if two sources have one name.
    """
    paths: dict[str, str] = dict(inputs.sources)
    factors = {factor: dict(levels) for factor, levels in study.factors.items()}
    for levels in factors.values():
        for name, level in levels.items():
            if level.source is None or level.source in (*GENERATORS, *inputs.sources):
                continue
            (path,) = as_specs((level.source,))
            short = source_name(path)
            if paths.setdefault(short, path) != path:
                raise StudyError(f"level {name!r}: two sources have the name {short}; rename one of the folders")
            levels[name] = level.model_copy(update={"source": short})
    return study.model_copy(update={"factors": factors}), inputs.model_copy(update={"sources": paths})


class ClusterSettings(Settings):
    """Jobs of a study on a cluster; see `studies.cluster.run_on_cluster`."""

    kind: Literal["slurm", "local", "debug"] = "slurm"
    """slurm; local is jobs as processes of this machine, debug one job after another."""
    minutes: int | None = Field(default=None, ge=1)
    """Time limit of a job; one that reaches it saves, and resumes. None is 120 with SLURM, else no end."""
    ranks: int = Field(default=1, ge=1)
    """Processes of a cell, started by torchrun inside its job, such as one per GPU."""
    options: dict[str, Any] = {}
    """Parameters of submitit, such as {"slurm_partition": "gpu", "gpus_per_node": 4}."""
    wait: bool = True
    """Wait until all jobs have ended; False returns after the submission, with SLURM alone."""


def write_study(folder: Path, study: Study, inputs: StudyInputs) -> None:
    """Write study.json and the inputs into the folder of a study; one that holds another study is refused.

    Inputs have a file per content: calls on other machines may name other folders, and their workers read their own.

    Raises:
        StudyError: if the folder holds another study, or this one of other images or settings.
        FileError: if it cannot be written.
    """
    path = folder / STUDY
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"--out {folder.name}: cannot be made a folder ({error.strerror}); choose another") from None
    with hold(folder / LOCK, wait=True):  # several shards may begin at once
        body = _definition(study, inputs)
        if path.exists():
            there = _read(path, _DefinitionFile)
            if differences := _differences(there, body):
                raise StudyError(
                    f"--out {folder.name}: holds a study of other {', '.join(differences)}; choose another folder, or "
                    "repeat what it began with"
                )
            body["study"]["seeds"] = max(read_definition(folder).seeds, body["study"]["seeds"])
        elif any(not entry.name.startswith(".") for entry in folder.iterdir()):
            raise StudyError(f"--out {folder.name}: is not empty and holds no study; choose another folder")
        write_atomically(path, json.dumps(body, indent=1) + "\n")
        write_atomically(folder / inputs_file(inputs), inputs.model_dump_json(indent=1) + "\n")


def inputs_file(inputs: StudyInputs) -> str:
    """Return the name of the file with these inputs in a study's folder."""
    return f"inputs-{digest(inputs.model_dump_json()).hex()[:8]}.json"


def _definition(study: Study, inputs: StudyInputs) -> dict[str, Any]:
    """Return the content of study.json: nothing of this machine."""
    return {
        "format": FORMAT,
        "written_by": f"syn2co {__version__}",
        "study": study.model_dump(mode="json"),
        "sources": {name: source_names(getattr(inputs, name)) for name in ("real", "train", "test")},
        "transfer": [portable_source(item) for item in inputs.transfer],
        "settings": portable_settings(inputs.settings),
        "evaluation": portable_settings(inputs.evaluation),
        "fingerprints": inputs.fingerprints,
    }


class _DefinitionFile(BaseModel):
    """JSON of study.json, as far as it is compared."""

    study: dict[str, Any]
    fingerprints: dict[str, Any] | None = None


def _differences(there: dict[str, Any], body: dict[str, Any]) -> list[str]:
    """Return the names of what differs; the number of seeds may, and the folders of the sources."""
    names: list[str] = []
    for part in ("study", "fingerprints"):
        one, other = there.get(part) or {}, body[part]
        differ = (name for name in sorted({*one, *other} - {"seeds"}) if one.get(name) != other.get(name))
        names += [name if part == "study" or name.startswith("weights ") else f"images ({name})" for name in differ]
    return names + [name for name in ("settings", "evaluation") if there.get(name) != body[name]]


def read_inputs(folder: Path, name: str) -> StudyInputs:
    """Return the inputs of that name in a study's folder.

    Raises:
        StudyError: if they are missing or damaged.
    """
    return StudyInputs.parse(_read(folder / name))


def _read(path: Path, shape: type[BaseModel] = JsonObject) -> dict[str, Any]:
    try:
        return read_json(path, shape)
    except (OSError, JsonError) as error:
        raise StudyError(f"{path.parent.name}/{path.name}: cannot be read ({error}); start the study again") from None


def as_specs(sources: str | Path | Sequence[str | Path]) -> tuple[str, ...]:
    """Return sources as text, folders and files as absolute paths, so that other processes find them.

    Example:
        >>> as_specs(["builtin:digits:test"])
        ('builtin:digits:test',)
    """
    return tuple(map(_as_spec, one_or_many(sources)))


def _as_spec(text: str) -> str:
    if is_url(text):
        return text
    source = str(split_bits(text)[0])
    if source != text:  # 12bit:SOURCE
        return text.removesuffix(source) + _as_spec(source)
    name, equals, sides = text.partition("=")  # NAME=TRAIN,TEST
    path = user_path(text)
    there = lies_there(path)
    if equals and not there:
        return f"{name}={','.join(map(_as_spec, sides.split(',')))}"
    return str(path.absolute()) if there else text
