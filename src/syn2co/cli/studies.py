"""`syn2co study`: one library call, or a preview of it."""

import sys
from pathlib import Path
from typing import Any

import click

from syn2co.cli.options import Duration, SourceCommand, UserPath


@click.command(cls=SourceCommand)
@click.argument("study", metavar="STUDY")
@click.option("--real", multiple=True, required=True, metavar="SRC", help="Images that runs and generators draw from.")
@click.option(
    "--train",
    multiple=True,
    required=True,
    metavar="SRC",
    help="Labeled images: k-NN neighbors, and what heads are fitted to; one source or several.",
)
@click.option("--test", multiple=True, required=True, metavar="SRC", help="Labeled images that are scored; several.")
@click.option(
    "--transfer", multiple=True, metavar="NAME", help="Another data set: cifar10, a folder, or NAME=TRAIN,TEST."
)
@click.option("--out", required=True, type=UserPath(), help="Folder; the same command resumes the study.")
@click.option("--dry-run", is_flag=True, help="Show cells, time by a few real steps, and disk; run nothing.")
@click.option("--budget", type=Duration(), help="Begin no comparison that would not end in this time, such as 2h.")
@click.option("--jobs", type=click.IntRange(min=1), help="Cells at the same time [1; on a cluster its limit].")
@click.option("--shard", metavar="I/N", help="Run part I (from 1) of N of the cells; `syn2co report` merges folders.")
@click.option(
    "--cluster", "kind", type=click.Choice(["slurm", "local", "debug"]), help="Run cells as jobs, through submitit."
)
@click.option("--minutes", type=click.IntRange(min=1), help="Time limit of a job [120 with SLURM, else none].")
@click.option("--ranks", type=click.IntRange(min=1), help="Processes per cell on a cluster, by torchrun [1].")
@click.option("--job", multiple=True, metavar="NAME=VALUE", help="Parameter of submitit: gpus_per_node=4; repeatable.")
@click.option("--no-wait", is_flag=True, help="Return once the jobs are submitted (slurm).")
@click.option("--seeds", type=click.IntRange(min=1), help="Number of seeds, in place of the study's.")
@click.option("--recipe", help="Recipe that the runs begin with, in place of the study's.")
@click.option("--set", "settings", multiple=True, metavar="A.B=C", help="Change one setting of all runs; repeatable.")
@click.option("--evaluation", multiple=True, metavar="A.B=C", help="Change one setting of the scores; repeatable.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
def study(
    study: str,
    out: Path,
    dry_run: bool,
    seeds: int | None,
    recipe: str | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Answer a question about faking on your images: run a grid of runs and write study.html.

    STUDY is small (1,024 images or more, a CPU), enough (how many real images?), ratio, negatives, views, paper (GPUs),
    or a Python file of yours. A finished cell never runs twice; a killed one resumes.
    """
    from syn2co.studies.inputs import StudyInputs, as_specs
    from syn2co.studies.load import load_study

    names = ("real", "train", "test")
    sources = {name: as_specs(options.pop(name)) for name in names}
    given = {name: tuple(options.pop(name)) for name in ("transfer", "settings", "evaluation")}
    inputs = StudyInputs.parse({**sources, **given})
    changes = {"seeds": seeds, "recipe": recipe}
    chosen = load_study(study).with_settings(
        [f"{name}={value}" for name, value in changes.items() if value is not None]
    )
    if dry_run:
        _preview(chosen, inputs, out, options)
        return
    from syn2co.reports.study import study as run
    from syn2co.reports.study_page import QUESTIONS

    cluster = _cluster(**{name: options.pop(name) for name in ("kind", "minutes", "ranks", "job", "no_wait")})
    answers = run(chosen, inputs, out=out, cluster=cluster, progress=not quiet, **options)
    for question, sentence in answers.sentences.items():
        click.echo(f"{QUESTIONS[question]} {sentence}")
    for note in answers.notes:
        click.echo(f"note: {note}")
    click.echo(f"{out / 'study.html'}: the page with every number")
    if failed := len(answers.results.failed):
        click.echo(f"{failed} cell{'s' * (failed != 1)} failed; the page says why", err=True)
        sys.exit(1)


def _preview(chosen: Any, inputs: Any, out: Path, options: dict[str, Any]) -> None:
    """Print what the open cells would cost, and how many of them a budget would begin."""
    from syn2co.studies.estimate import estimate_study
    from syn2co.studies.run import begin, cells_within

    run = begin(chosen, inputs, out, shard=options["shard"], write=False)
    estimate, budget = estimate_study(run), options["budget"]
    click.echo(estimate.text())
    if budget is not None:
        expected = {job.hash: seconds for job, seconds in zip(run.open_jobs, estimate.seconds, strict=True)}
        begun = cells_within(run, budget, expected, options["jobs"] or 1)
        click.echo(f"the budget would begin {begun} of {len(run.open_jobs)} cells, whole comparisons alone")
    if options["kind"] is not None:
        click.echo(f"times are of this machine, not of the {options['kind']} jobs, of which none was submitted")


def _cluster(kind: str | None, job: tuple[str, ...], no_wait: bool, **given: Any) -> Any:
    """Return the settings of the cluster, None if the cells run here."""
    given = {name: value for name, value in given.items() if value is not None}
    if kind is None:
        if given or job or no_wait:
            raise click.UsageError("--minutes, --ranks, --job and --no-wait are of --cluster; name one")
        return None
    from syn2co.studies.inputs import ClusterSettings

    settings = ClusterSettings.parse({"kind": kind, "wait": not no_wait, **given})
    return settings.with_settings([f"options.{assignment}" for assignment in job])


COMMANDS = (study,)
