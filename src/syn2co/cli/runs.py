"""The commands for runs: pretrain, estimate, doctor, demo, recipes, settings. Each is one library call."""

from contextlib import nullcontext, suppress
from inspect import cleandoc
from pathlib import Path
from typing import Any

import click

from syn2co.cli.options import Duration, SourceCommand, UserPath
from syn2co.cli.ranks import first_rank


@click.command(cls=SourceCommand)
@click.option("--recipe", help="Named complete settings; `syn2co recipes` lists them [auto].")
@click.option("--config", "config_file", type=UserPath(), help="JSON settings, such as a run's config.json.")
@click.option(
    "--real",
    "real",
    multiple=True,
    metavar="SRC",
    help="Images: folder, tar, its URL, builtin:photos, torchvision:NAME, hf:NAME; several; instead of the recipe's.",
)
@click.option(
    "--synthetic",
    "synthetic",
    multiple=True,
    metavar="SRC",
    help="Synthetic images: data set of `syn2co generate`, procedural:PROGRAM:COUNT; several.",
)
@click.option("--out", required=True, type=UserPath(), help="Run folder; the same command resumes the run.")
@click.option("--set", "settings", multiple=True, metavar="A.B=C", help="Change one setting; repeatable.")
@click.option("--budget", type=Duration(), help="Time that the recipe auto fits its steps to, such as 2h or 90m.")
@click.option("--extend", is_flag=True, help="Make the finished run in --out longer: --set training.epochs=N.")
@click.option(
    "--init-from",
    metavar="WEIGHTS",
    help="Begin with these weights: run, export, timm:NAME, reference, or a file (timm, MoBY, MoCo v3, DINO).",
)
@click.option("--trust", is_flag=True, help="Read such a file even if it is a pickle; tensors and plain values alone.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def pretrain(
    recipe: str | None,
    config_file: Path | None,
    real: tuple[str, ...],
    synthetic: tuple[str, ...],
    out: Path,
    settings: tuple[str, ...],
    quiet: bool,
    **options: Any,
) -> None:
    """Pretrain an encoder; the same command resumes a run that was stopped.

    Without --recipe the settings are chosen from the images and the machine, and printed (the recipe auto).
    Labels of the images are ignored, but for the recipes supervised-*.

    Real and synthetic images mix as settings say, such as --set mix.ratio=0.5.
    --extend --set training.epochs=N makes the finished run in --out longer.
    Many ranks: torchrun --nproc-per-node 8 -m syn2co pretrain ...
    """  # fmt: skip
    config = _config(recipe, config_file, options.pop("budget"), options.pop("extend"))
    from syn2co.pretraining.train import pretrain as run

    if isinstance(config, str | Path) and not quiet:
        _say_what_it_takes(config, real, synthetic, settings, out)
    done = run(config, out=out, real=real, synthetic=synthetic, settings=settings, **options, progress=not quiet)
    if first_rank():
        steps = f"{done.steps} step" + "s" * (done.steps != 1)
        click.echo(f"{done.folder}: {steps} done. Next: syn2co evaluate {done.folder} --train SRC --test SRC")


def _config(recipe: str | None, config_file: Path | None, budget: float | None, extend: bool) -> Any:
    """Return the config that a run begins with or goes on with, as `syn2co.pretrain` takes it."""
    if recipe is not None and config_file is not None:
        raise click.UsageError("give either --recipe NAME or --config FILE")
    if extend and (recipe is not None or config_file is not None or budget is not None):
        raise click.UsageError("--extend takes the config of the run in --out; give --set training.epochs=N alone")
    if budget is not None and (config_file is not None or recipe not in (None, "auto")):
        raise click.UsageError("--budget is of the recipe auto; set training.steps or training.epochs for another one")
    if extend:
        from syn2co.pretraining.extension import Extend

        return Extend()
    if config_file is not None or recipe not in (None, "auto"):
        return config_file or recipe
    from syn2co.pretraining.auto import Auto

    return Auto(budget)


def _say_what_it_takes(
    recipe: str | Path, real: tuple[str, ...], synthetic: tuple[str, ...], settings: tuple[str, ...], out: Path
) -> None:
    """Print the estimate of a run that is about to begin; the recipe auto prints its own."""
    from syn2co.core.errors import Syn2CoError
    from syn2co.core.launcher import launcher
    from syn2co.core.progress import note
    from syn2co.pretraining.planner import forecast
    from syn2co.pretraining.train import resolved_config

    ranks, expected = launcher().size, None
    if launcher().rank == 0:
        # All ranks refuse what is wrong when the run begins; one that left before would be waited for.
        with suppress(Syn2CoError) if ranks > 1 else nullcontext():
            expected = forecast(resolved_config(recipe, real, synthetic, settings), out, ranks)
    for line in expected.text().splitlines() if expected else ():
        note(line)


@click.command(cls=SourceCommand)
@click.argument("recipe", required=False)
@click.option("--config", "config_file", type=UserPath(), help="JSON settings in place of RECIPE.")
@click.option("--real", multiple=True, metavar="SRC", help="Real images, which are counted; several.")
@click.option("--images", type=click.IntRange(1), help="Number of images, in place of their sources.")
@click.option("--kind", help="Kind of GPU, such as h100 or a100 [this machine, by a few steps].")
@click.option("--gpus", type=click.IntRange(1), default=1, show_default=True, help="GPUs of that kind.")
@click.option("--set", "settings", multiple=True, metavar="A.B=C", help="Change one setting; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print all values as JSON.")
def estimate(recipe: str | None, config_file: Path | None, as_json: bool, **options: Any) -> None:
    """Say what a run of RECIPE will take: hours, memory of each device, disk, and what that rests on."""
    if (recipe is None) == (config_file is None):
        raise click.UsageError("give either RECIPE or --config FILE")
    from syn2co.pretraining.planner import estimate as plan

    result = plan(config_file or str(recipe), **options)
    click.echo(result.to_json() if as_json else result.text())


@click.command(cls=SourceCommand)
@click.argument("run", type=UserPath("give the --out folder of a `syn2co pretrain`"))
@click.option("--json", "as_json", is_flag=True, help="Print the findings and their numbers as JSON.")
def doctor(run: Path, as_json: bool) -> None:
    """Say in words whether the run folder RUN is healthy, and what to change if it is not."""
    from syn2co.diagnostics.doctor import doctor as diagnose

    diagnosis = diagnose(run)
    click.echo(diagnosis.to_json() if as_json else diagnosis.text())


@click.command(cls=SourceCommand)
@click.option("--out", type=UserPath(), help="Folder [runs/demo; with --pretrain-only runs/demo-pretraining].")
@click.option("--pretrain-only", is_flag=True, help="One longer run on the photographs alone, about five minutes.")
@click.option("--set", "settings", multiple=True, metavar="A.B=C", help="Change one setting of the recipe; repeatable.")
def demo(out: Path | None, pretrain_only: bool, settings: tuple[str, ...]) -> None:
    """Make synthetic images, look at them, pretrain with and without, score; offline, about 7 minutes.

    The time is of two free cores of an AMD EPYC with AVX2 alone. Up to four processes take about 1 GB each. The page is
    study.html in the folder --out: runs/demo/study.html.
    """
    from syn2co.demonstration.demo import demo as run

    run(out, pretrain_only=pretrain_only, settings=settings)


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the resolved settings of NAME as JSON, for --config.")
def recipes(name: str | None, as_json: bool) -> None:
    """List the recipes, or print the lab record and the settings of one."""
    from syn2co.pretraining.recipes import AUTO, RECIPES, recipe
    from syn2co.pretraining.recipes import recipes as listed

    if as_json and name is None:
        raise click.UsageError("--json needs the name of a recipe")
    if name is not None:
        config = recipe(name).to_json()
        click.echo(config if as_json else f"{cleandoc(RECIPES[name].__doc__ or '')}\n\n{config}", nl=False)
        return
    summaries = {AUTO: "Chosen from the images and the machine when a run begins; the default of pretrain."} | listed()
    width = max(map(len, summaries))
    for known, summary in summaries.items():
        click.echo(f"{known:<{width}}  {summary}")


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print them as a JSON list.")
def settings(name: str | None, as_json: bool) -> None:
    """Explain the settings that --set takes: type, default and meaning.

    NAME is a setting (queue.size) or a group (queue) of pretrain; generate, evaluate or audit for the settings of that
    command; or a generator (flow) for its options.
    """  # fmt: skip
    import json

    from syn2co.reports.reference import settings as explained

    explanations = explained(name)
    if as_json:
        click.echo(json.dumps([setting._asdict() for setting in explanations], indent=1))
        return
    for setting in explanations:
        click.echo(f"{click.style(setting.name, bold=True)} = {setting.default}  ({setting.kind})")
        click.echo(click.wrap_text(setting.meaning, 100, "    ", "    "))


COMMANDS = (pretrain, estimate, doctor, demo, recipes, settings)
