"""The commands for synthetic images: plan, generate, verify, replay. Each is one library call."""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from syn2co.cli.options import SourceCommand, UserPath
from syn2co.core.errors import ConfigError
from syn2co.core.launcher import launcher


def _recipe_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say what is to be made."""
    options = [
        click.option("--generator", help="procedural, fitted, flow, diffusion, or your own path.py:function."),
        click.option("--count", type=click.IntRange(min=1), help="Images of the set; it may grow later."),
        click.option("--size", type=int, help="Side of the images in pixels [128]."),
        click.option("--classes", help="A file of class names or ImageNet synsets, or imagenet-1k."),
        click.option("--captions", help="A file of captions: a line each, JSONL or CSV."),
        click.option("--vary", is_flag=True, default=None, help="Make variations of the real images."),
        click.option("--real", multiple=True, metavar="SRC", help="Real images to learn from or to vary; several."),
        click.option("--max-real", type=click.IntRange(min=1), help="At most this many of them, as mix.max_real does."),
        click.option("--config", "config_file", type=UserPath(), help="JSON settings, such as a recipe.json."),
        click.option("--set", "settings", multiple=True, metavar="A.B=C", help="Change one setting; repeatable."),
        click.option("--workers", type=click.IntRange(min=0), help="Processes that make images [0: this one]."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def _settings(
    config_file: Path | None, settings: tuple[str, ...], workers: int | None, count: int | None, **named: Any
) -> Any:
    """Return the settings of a command: the file's, then the named options, then --set in order."""
    from syn2co.synthesis.sets.settings import SynthesisSettings, load_settings
    from syn2co.synthesis.sets.spec import refuse_unnamed_file

    base = SynthesisSettings() if config_file is None else load_settings(config_file)
    named_here = named.get("generator") or any(text.partition("=")[0].strip() == "generator" for text in settings)
    if config_file is not None and not named_here:
        refuse_unnamed_file(base.generator, f"--config {config_file.name}")
    values = base.model_dump(mode="json")
    values |= {name: value for name, value in named.items() if value is not None}
    values["work"] |= {name: value for name, value in (("workers", workers), ("count", count)) if value is not None}
    chosen = SynthesisSettings.parse(values)
    try:
        return chosen.with_settings(settings)
    except ConfigError:
        _refuse_bare_options(chosen.generator, settings)
        raise


def _refuse_bare_options(generator: str, settings: tuple[str, ...]) -> None:
    """Refuse an option of the generator that was given as a setting of the set, with its full name."""
    from syn2co.synthesis.generators.registry import load_generator
    from syn2co.synthesis.sets.settings import SynthesisSettings

    options = load_generator(generator).options.model_fields.keys() - SynthesisSettings.model_fields.keys()
    for assignment in settings:
        name = assignment.partition("=")[0].strip()
        if name in options:
            raise ConfigError(
                f"--set {name}: there is no such setting of the set; the generator {generator} has an option of this "
                f"name: --set options.{assignment.strip()}"
            )


def _write_lines(out: Path, lines: Iterable[str]) -> None:
    """Write a file whole or not at all, without holding it."""
    from syn2co.core.files import atomic_file
    from syn2co.synthesis.generation.locks import writing_to

    with writing_to(out), atomic_file(out) as path, open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(lines)


@click.command(cls=SourceCommand)
@_recipe_options
@click.option("--json", "as_json", is_flag=True, help="Print the jobs, one JSON object per line.")
@click.option("--out", type=UserPath(), help="Write the jobs to this JSONL file.")
def plan(real: tuple[str, ...], as_json: bool, out: Path | None, **options: Any) -> None:
    """Show what would be made: how many images and shards, the first jobs, disk and time."""
    from syn2co.synthesis.generation.plan import open_real
    from syn2co.synthesis.generation.plan import plan as run
    from syn2co.synthesis.generation.preview import job_as_json, preview

    settings = _settings(**options)
    images = open_real(real, settings)
    jobs = run(settings, real=images or ())
    if not as_json and out is None:
        click.echo(preview(jobs, None, images or ()).text())
        return
    lines = (json.dumps(job_as_json(job), sort_keys=True) + "\n" for job in jobs)
    if out is None:
        sys.stdout.writelines(lines)
        return
    _write_lines(out, lines)
    click.echo(f"{out}: {len(jobs)} jobs")


@click.command(cls=SourceCommand)
@_recipe_options
@click.option("--out", required=True, type=UserPath(), help="Folder; the same command resumes the set.")
@click.option("--shard", metavar="I/N", help="Make part I (from 1) of N; auto: by torchrun's rank or the SLURM task.")
@click.option("--dry-run", is_flag=True, help="Show what would be made, and make nothing.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def generate(real: tuple[str, ...], out: Path, shard: str | None, dry_run: bool, quiet: bool, **options: Any) -> None:
    """Make a set of synthetic images, or what it lacks; with a larger --count it grows.

    Many machines: the same command on each with --shard 1/8, 2/8, ..; or --shard auto in torchrun or a SLURM array.
    """
    settings = _settings(**options)
    if dry_run:
        from syn2co.synthesis.generation.plan import open_real, plan_in
        from syn2co.synthesis.generation.preview import preview

        images = open_real(real, settings)
        click.echo(preview(plan_in(out, settings, images), out, images or ()).text())
        return
    from rich.filesize import decimal

    from syn2co.synthesis.generation.generate import generate as run

    done = run(settings, out, real=real, shard=shard, progress=launcher().local_rank == 0 and not quiet)
    again = "--set work.retry_skipped=8 tries them again"
    skipped = f", {done.skipped} skipped and listed in skipped.jsonl ({again})" if done.skipped else ""
    state = "complete" if done.complete else f"{done.shards} shard{'s' * (done.shards != 1)} done, others are missing"
    click.echo(f"{out}: {done.images} of {done.planned} images{skipped}, {decimal(done.bytes)}, {state}")


@click.command()
@click.argument("out", type=UserPath())
@click.option("--quiet", is_flag=True, help="No progress bar.")
def verify(out: Path, quiet: bool) -> None:
    """Check every file, image and manifest line of the data set OUT; exit 2 if something is wrong."""
    from syn2co.synthesis.generation.verify import verify as run

    verification = run(out, progress=not quiet)
    click.echo(verification.text())
    if not verification.valid:
        sys.exit(2)


@click.command(cls=SourceCommand)
@click.argument("out", type=UserPath())
@click.argument("id")
@click.option("--real", multiple=True, metavar="SRC", help="The real images, if the image is a variation; several.")
@click.option("--generator", help="Where your own path.py:function lies now.")
@click.option("--set", "settings", multiple=True, metavar="A.B=C", help="Such as options.model=PATH; repeatable.")
@click.option("--out", "to", type=UserPath(), help="Write the image made now to this file, NAME.png.")
def replay(
    out: Path, id: str, real: tuple[str, ...], generator: str | None, settings: tuple[str, ...], to: Path | None
) -> None:
    """Make the image ID of the data set OUT again and compare; exit 2 if it is not the same."""
    from syn2co.synthesis.generation.replay import replay as run

    replayed = run(out, id, real=real, generator=generator, settings=settings, to=to)
    click.echo(replayed.text())
    if not replayed.same:
        sys.exit(2)


COMMANDS = (plan, generate, verify, replay)
