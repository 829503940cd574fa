"""Commands that repeat a cell by hand; sources go by their names, without the folders that they lie in."""

from collections.abc import Iterable
from shlex import quote

from syn2co.pretraining.recipes import recipe
from syn2co.studies.cell import CellJob, cell_settings
from syn2co.studies.portable import portable_settings, portable_source

IMAGES = "images"


def commands_of(job: CellJob) -> list[str]:
    """Return the command lines that make the images of a cell, train and score it; none for the untrained encoder.

    They are for a shell in a folder that has the sources under their names.
    """
    level = job.cell.level
    if level.images == "untrained":
        return []
    made = [] if job.images is None else _generate(job)
    synthetic = [IMAGES] if made else job.config.data.synthetic
    return [*made, _pretrain(job, synthetic), _evaluate(job)]


def _generate(job: CellJob) -> list[str]:
    assert job.images is not None
    settings = quote(job.images.model_dump_json(exclude_defaults=True))
    real = () if job.images.generator == "procedural" else job.inputs.real
    return [
        f"echo {settings} > {IMAGES}.json",
        _line(f"syn2co generate --config {IMAGES}.json --out {IMAGES}", real=real),
    ]


def _pretrain(job: CellJob, synthetic: Iterable[str]) -> str:
    study, real = job.cell.study, job.config.data.real
    settings = [*cell_settings(job.cell), *job.inputs.settings]
    if recipe(study.recipe).data.real and not real:
        settings.append("data.real=[]")
    command = f"syn2co pretrain --recipe {quote(study.recipe)} --out run"
    return _line(command, real=real, synthetic=synthetic, set=portable_settings(settings))


def _evaluate(job: CellJob) -> str:
    study, inputs = job.cell.study, job.inputs
    settings = portable_settings([*study.evaluation, *inputs.evaluation])
    command = f"syn2co evaluate run --no-baselines --protocols {','.join(study.protocols)}"
    return _line(command, train=inputs.train, test=inputs.test, transfer=inputs.transfer, set=settings)


def _line(command: str, **options: Iterable[str]) -> str:
    """Return the command with each option given once a value."""
    words = [
        f"--{name} {quote(value if name == 'set' else portable_source(value))}"
        for name, values in options.items()
        for value in values
    ]
    return " ".join([command, *words])
