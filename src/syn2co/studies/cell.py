"""A cell of a study and all that determines it: the config of its run, its synthetic images, its evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from json import dumps
from pathlib import Path

from syn2co.core.errors import ConfigError, StudyError
from syn2co.data.mixing import choose_mode, epoch_sides, switch_epoch
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.pretraining.config import Config
from syn2co.pretraining.recipes import recipe
from syn2co.studies.grid import GENERATORS, Cell
from syn2co.studies.inputs import StudyInputs, evaluation_settings, weights_key
from syn2co.studies.portable import SPEED_ALONE, portable_settings, portable_values
from syn2co.synthesis.generators.registry import load_generator
from syn2co.synthesis.sets.settings import SynthesisSettings, WorkSettings

SHARES = {"mixed": "ratio", "then": "then", "replace": "replace"}
"""Setting of `mix` that takes a level's share."""


OF_SOME = ("source ", "weights ")
"""Beginnings of the names of content that not all cells take."""


@dataclass(frozen=True)
class CellJob:
    """A cell with all that determines it: the config of its run, its synthetic images, its evaluation."""

    cell: Cell
    config: Config
    """Of its run; of the untrained encoder, what the runs share."""
    images: SynthesisSettings | None
    """The set that is made for it, if one is."""
    inputs: StudyInputs
    evaluation: EvaluationSettings

    @cached_property
    def hash(self) -> str:
        """12 hex digits of everything that determines the scores, and of nothing else."""
        evaluation = self.evaluation.model_dump(mode="json", exclude={*SPEED_ALONE, "variants"})
        body = {
            "config": self.config.hash,
            "init_from": portable_values(self.config.init_from),
            "images": self.cell.level.images,
            "set": self._set,
            "protocols": self.cell.study.protocols,
            "evaluation": {**evaluation, "variants": sorted(self.evaluation.variants)},
            "content": self._content,
        }
        return blake2b(dumps(body, sort_keys=True).encode(), digest_size=6).hexdigest()

    @property
    def _set(self) -> str | None:
        """The settings of the set that is made, but for those of the work alone."""
        images = self.images
        if images is None:
            return None
        settings = images.model_dump_json(exclude={"work": {*WorkSettings.model_fields} - {"count"}})
        # Since then small warps are rendered at twice their side: cells of other images have another hash.
        small = images.generator == "procedural" and images.size < 64 and "supersampling" not in images.options
        return f"{settings} supersampled" if small else settings

    @property
    def _content(self) -> dict[str, str]:
        """Fingerprints of the images that the cell takes; of the sources of levels, of its own alone."""
        content, source = self.inputs.fingerprints, f"source {self.cell.level.source}"
        return {name: print for name, print in content.items() if name == source or not name.startswith(OF_SOME)}

    @property
    def shared(self) -> dict[str, str]:
        """What cells must have in common to be averaged, beside the levels: images, and settings that were added."""
        return {
            **{f"images ({name})": content for name, content in self._content.items()},
            **self._weights,
            "settings": " ".join(portable_settings(self.inputs.settings)),
        }

    @property
    def images_seen(self) -> float:
        """Images that its run sees in all, as far as they are counted; none if untrained."""
        mix, data, training = self.config.mix, self.config.data, self.config.training
        if self.cell.level.images == "untrained":
            return 0
        if training.steps:
            return training.batch * training.steps
        counts, source = self.inputs.counts, f"source {self.cell.level.source}"
        made = counts.get(source, 0) if self.images is None else self.images.work.count or 0
        most = {
            "real": min(counts["real"], mix.max_real or counts["real"]),
            "synthetic": min(made, mix.max_synthetic or made),
        }
        mode = choose_mode(mix, real=bool(data.real), synthetic=bool(data.synthetic) or self.images is not None)
        return training.epochs * (mix.epoch_images or sum(most[side] for side in epoch_sides(mode)))

    @property
    def _weights(self) -> dict[str, str]:
        """Name and hash of the weights that the run begins with, if there are any; other levels may have others."""
        config = self.config
        return {weights_key(config.init_from): config.init_hash} if config.init_from and config.init_hash else {}

    def set_folder(self, study: Path) -> Path:
        """Return the folder of the cell's synthetic images; cells of equal sets share it."""
        assert self.images is not None
        name = blake2b(str(self._set).encode(), digest_size=4).hexdigest()
        kind = "-variations" if self.images.vary else ""
        return (
            study / "sets" / f"{self.images.generator}{kind}-{self.images.max_real or 'all'}-s{self.images.seed}-{name}"
        )


def cell_job(cell: Cell, inputs: StudyInputs) -> CellJob:
    """Return what determines a cell.

    Raises:
        ConfigError: if its settings contradict each other.
        StudyError: if its levels do, such as mixed images without a source.
    """
    level = cell.level
    config = _with_weights(_config(cell, inputs), inputs)
    if config.seed != cell.seed:
        raise StudyError(f"seed = {config.seed}: is set by the study, which runs seeds 0, 1, ..; leave it out")
    begun = recipe(cell.study.recipe).data
    for name in ("real", "synthetic"):
        if getattr(config.data, name) != getattr(begun, name):
            raise StudyError(
                f"data.{name}: is set by the study, from --real and the sources of its levels; leave it out"
            )
    images, synthetic = None, ()
    if level.images in ("real", "untrained"):
        pass
    elif level.source is None or (level.images in SHARES and level.share is None):
        lacks = "a source" if level.source is None else "a share"
        raise StudyError(f"{cell.text}: images = {level.images} needs {lacks}; name one in a level")
    elif level.source in GENERATORS:
        images = _images(cell, level.source, config)
    else:
        synthetic = (inputs.sources.get(level.source, level.source),)
    sources = {"real": () if level.images == "synthetic" else inputs.real, "synthetic": synthetic}
    job = CellJob(cell, _with_sources(config, sources), images, inputs, evaluation_settings(cell.study, inputs))
    _refuse_impossible(job)
    return job


def _config(cell: Cell, inputs: StudyInputs) -> Config:
    """Return the config of a cell's run; an error that its levels cause names the cell."""
    base = recipe(cell.study.recipe)
    try:
        return base.with_settings([*cell_settings(cell), *inputs.settings])
    except ConfigError as error:
        base.with_settings([*cell.study.settings, *inputs.settings])
        raise ConfigError(f"{cell.text}: {error}") from None


def _refuse_impossible(job: CellJob) -> None:
    """Refuse a cell whose run would be refused: a contradictory mix, or more real images than there are."""
    cell, images, mix, data = job.cell, job.images, job.config.mix, job.config.data
    if cell.level.images == "untrained":
        return
    try:
        choose_mode(mix, real=bool(data.real), synthetic=bool(data.synthetic) or images is not None)
        steps, batch = job.config.training.steps, job.config.training.batch
        if mix.then is not None and mix.epoch_images and steps:  # else only the images tell
            switch_epoch(mix.then, total_steps=steps, steps_per_epoch=max(1, mix.epoch_images // batch))
    except ConfigError as error:
        raise StudyError(f"{cell.text}: {error}") from None
    most = max(mix.max_real or 0, (images and images.max_real) or 0)
    if most > job.inputs.counts.get("real", most):
        raise StudyError(
            f"{cell.text}: takes {most} real images, and --real has {job.inputs.counts['real']}; give more images, or "
            "a study of your own with smaller numbers"
        )


def cell_settings(cell: Cell) -> list[str]:
    """Return the settings of a cell's run on top of the recipe, but for the sources."""
    level, settings = cell.level, [*cell.study.settings, f"seed={cell.seed}"]
    if level.images in ("real", *SHARES) and level.real_images is not None:
        settings.append(f"mix.max_real={level.real_images}")
    if level.images in SHARES and level.share is not None:
        settings.append(f"mix.{SHARES[level.images]}={level.share}")
    return [*settings, *level.settings]


def _with_sources(config: Config, sources: Mapping[str, tuple[str, ...]]) -> Config:
    return config.model_copy(update={"data": config.data.model_copy(update=dict(sources))})


def _with_weights(config: Config, inputs: StudyInputs) -> Config:
    """Return the config with the hash of the weights that the run begins with, once it is known."""
    known = config.init_from and inputs.fingerprints.get(weights_key(config.init_from))
    if not known:
        return config
    if config.init_hash not in (None, known):
        raise ConfigError(f"init_from = {config.init_from}: its weights have the hash {known}, not {config.init_hash}")
    return config.model_copy(update={"init_hash": known})


def _images(cell: Cell, generator: str, config: Config) -> SynthesisSettings:
    """Return the settings of the set that is made for a cell, from exactly its real images."""
    level, study = cell.level, cell.study
    values = {"generator": generator, "size": config.views.size, **study.generators.get(generator, {})}
    settings = SynthesisSettings.parse(values).with_settings([f"seed={cell.seed}"])
    traits = load_generator(generator)
    real = level.real_images if level.images == "synthetic" else config.mix.max_real
    real = real if traits.learns else None
    if level.images == "replace":
        if "vary" not in traits.subjects:
            raise StudyError(
                f"{cell.text}: {generator} makes no variations of real images, as replace takes; name flow"
            )
        count = None if real is None else study.variations * real  # not the generator's, which is of unconditional sets
        work = settings.work.model_copy(update={"count": count})
        changes = {"vary": True, "per_subject": study.variations, "max_real": real, "work": work}
        return settings.model_copy(update=changes)
    work = settings.work.model_copy(update={"count": settings.work.count or study.generated})
    return settings.model_copy(update={"max_real": real, "work": work})
