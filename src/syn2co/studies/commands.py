"""Commands that repeat a cell by hand; sources go by their names, without the folders that they lie in.

Of sources with one name, as many folders are kept as tell them apart.
"""

from collections.abc import Iterable, Mapping
from shlex import quote

from syn2co.pretraining.recipes import recipe
from syn2co.studies.cell import CellJob, cell_settings
from syn2co.studies.portable import distinct_names, paths_in, portable_settings, portable_source

IMAGES, RUN = "images", "run"


def commands_of(job: CellJob) -> list[str]:
    """Return the command lines that make the images of a cell, train and score it; none for the untrained encoder.

    They are for a shell in a folder that has the sources under their names.
    """
    level = job.cell.level
    if level.images == "untrained":
        return []
    names = _names(job)
    made = [] if job.images is None else _generate(job, names)
    synthetic = [IMAGES] if made else [portable_source(source, names) for source in job.config.data.synthetic]
    return [*made, _pretrain(job, synthetic, names), _evaluate(job, names)]


def _names(job: CellJob) -> dict[str, str]:
    """Return the names of the study's sources and of the paths in the settings of the cell, none of them twice."""
    paths = paths_in([*_run_settings(job), *_evaluation_settings(job)])
    sources = [*job.inputs.paths, *job.config.data.synthetic, *paths]
    return distinct_names(sources, reserved=(IMAGES, f"{IMAGES}.json", RUN))


def _run_settings(job: CellJob) -> list[str]:
    return [*cell_settings(job.cell), *job.inputs.settings]


def _evaluation_settings(job: CellJob) -> list[str]:
    return [*job.cell.study.evaluation, *job.inputs.evaluation]


def _generate(job: CellJob, names: Mapping[str, str]) -> list[str]:
    assert job.images is not None
    settings = quote(job.images.model_dump_json(exclude_defaults=True))
    real = () if job.images.generator == "procedural" else job.inputs.real
    return [
        f"echo {settings} > {IMAGES}.json",
        _line(
            f"syn2co generate --config {IMAGES}.json --out {IMAGES}",
            real=[portable_source(source, names) for source in real],
        ),
    ]


def _pretrain(job: CellJob, synthetic: Iterable[str], names: Mapping[str, str]) -> str:
    study = job.cell.study
    real = [portable_source(source, names) for source in job.config.data.real]
    settings = _run_settings(job)
    if recipe(study.recipe).data.real and not real:
        settings.append("data.real=[]")
    command = f"syn2co pretrain --recipe {quote(study.recipe)} --out {RUN}"
    return _line(command, real=real, synthetic=synthetic, set=portable_settings(settings, names))


def _evaluate(job: CellJob, names: Mapping[str, str]) -> str:
    inputs = job.inputs
    sides = {
        option: [portable_source(source, names) for source in sources]
        for option, sources in (("train", inputs.train), ("test", inputs.test), ("transfer", inputs.transfer))
    }
    command = f"syn2co evaluate {RUN} --no-baselines --protocols {','.join(job.cell.study.protocols)}"
    return _line(command, **sides, set=portable_settings(_evaluation_settings(job), names))


def _line(command: str, **options: Iterable[str]) -> str:
    """Return the command with each option given once a value."""
    words = [f"--{name} {quote(value)}" for name, values in options.items() for value in values]
    return " ".join([command, *words])
