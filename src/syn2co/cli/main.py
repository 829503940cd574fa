"""The command line: thin, every command is one library call. Heavy imports stay inside the commands."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from syn2co import __version__
from syn2co.cli.audits import audit
from syn2co.cli.sets import COMMANDS
from syn2co.core.errors import Syn2CoError

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def _first_rank() -> bool:
    """Return whether this process speaks for all; the process group has been left when a command prints."""
    return os.environ.get("RANK", "0") == "0"


class _Group(click.Group):
    """Commands in the order of work rather than of the alphabet, and the nearest name for an unknown one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            from syn2co.core.hints import nearest

            ctx.fail(f"there is no command '{args[0]}'{nearest(args[0], self.commands)}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Group, context_settings=HELP)
@click.version_option(__version__, prog_name="syn2co")
def cli() -> None:
    """Train vision transformers without labels, with synthetic hard negatives.

    \b
    syn2co demo                                                    see it work, offline, in minutes
    syn2co pretrain --recipe synco-deit-s --real photos --out runs/photos
    syn2co evaluate runs/photos --train labelled/train --test labelled/test
    """


@cli.command()
@click.option("--recipe", help="Named complete settings; `syn2co recipes` lists them.")
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), help="JSON settings, such as a run's config.json."
)
@click.option(
    "--real",
    "real",
    multiple=True,
    metavar="SRC",
    help="Images: folder, tar, builtin:photos, torchvision:NAME, hf:NAME; repeatable; instead of the recipe's.",
)
@click.option(
    "--synthetic",
    "synthetic",
    multiple=True,
    metavar="SRC",
    help="Synthetic images: data set of `syn2co generate`, procedural:PROGRAM:COUNT; repeatable.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Run folder; the same command goes on with it."
)
@click.option("--set", "settings", multiple=True, metavar="A.B=C", help="Change one setting; repeatable.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def pretrain(
    recipe: str | None,
    config_file: Path | None,
    real: tuple[str, ...],
    synthetic: tuple[str, ...],
    out: Path,
    settings: tuple[str, ...],
    quiet: bool,
) -> None:
    """Pretrain an encoder on unlabelled images; the same command resumes a run that was stopped.

    Real and synthetic images mix as settings say, such as --set mix.ratio=0.5.
    Many ranks: torchrun --nproc-per-node 8 -m syn2co pretrain ...
    """  # fmt: skip
    if (recipe is None) == (config_file is None):
        raise click.UsageError("give either --recipe NAME or --config FILE")
    from syn2co.pretraining.train import pretrain as run

    chosen: Any = config_file or recipe
    done = run(chosen, out=out, real=real, synthetic=synthetic, settings=settings, progress=not quiet)
    if _first_rank():
        click.echo(
            f"{done.folder}: {done.steps} steps done. Next: syn2co evaluate {done.folder} --train SRC --test SRC"
        )


@cli.command()
@click.argument("encoder")
@click.option(
    "--train", "train", multiple=True, required=True, metavar="SRC", help="Labelled images: the bank; repeatable."
)
@click.option(
    "--test", "test", multiple=True, required=True, metavar="SRC", help="Labelled images that are scored; repeatable."
)
@click.option("--also", multiple=True, metavar="ENCODER", help="Another encoder for the same table; repeatable.")
@click.option("--protocols", default="knn,linear", show_default=True, help="Which scores, separated by commas.")
@click.option(
    "--baselines/--no-baselines", default=True, show_default=True, help="Score raw pixels and a random encoder too."
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for evaluation.json and evaluation.md.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Of the encoder.",
)
@click.option("--seed", default=0, show_default=True, help="Of the bootstrap and of the held-out part.")
@click.option("--batch-size", default=256, show_default=True, help="Images a forward pass.")
@click.option("--workers", default=0, show_default=True, help="Processes that decode images; 0: this one.")
@click.option("--max-broken-share", default=0.01, show_default=True, help="More broken images are refused.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def evaluate(encoder: str, protocols: str, quiet: bool, **options: Any) -> None:
    """Score ENCODER (run folder, checkpoint file or timm:NAME) on labelled images, with baselines and intervals."""
    from rich.console import Console

    from syn2co.evaluation.evaluate import evaluate as run

    report = run(encoder, protocols=[name.strip() for name in protocols.split(",")], progress=not quiet, **options)
    if _first_rank():
        Console().print(report.table())


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the findings and their numbers as JSON.")
def doctor(run: Path, as_json: bool) -> None:
    """Say in words whether the run folder RUN is healthy, and what to change if it is not."""
    from syn2co.diagnostics.diagnose import diagnose

    diagnosis = diagnose(run)
    click.echo(diagnosis.to_json() if as_json else diagnosis.text())


@cli.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/demo"), show_default=True)
@click.option("--pretrain-only", is_flag=True, help="One longer run on the photographs alone, about five minutes.")
@click.option("--set", "settings", multiple=True, metavar="A.B=C", help="Change one setting of the recipe; repeatable.")
def demo(out: Path, pretrain_only: bool, settings: tuple[str, ...]) -> None:
    """Make synthetic images, look at them, pretrain with and without, score; offline, at most ten minutes."""
    from syn2co.demonstration.demo import demo as run

    run(out, pretrain_only=pretrain_only, settings=settings)


@cli.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the resolved settings of NAME as JSON, for --config.")
def recipes(name: str | None, as_json: bool) -> None:
    """List the recipes, or print the settings of one."""
    from syn2co.pretraining.recipes import RECIPES, recipe

    if as_json and name is None:
        raise click.UsageError("--json needs the name of a recipe")
    if name is not None:
        click.echo(recipe(name).to_json(), nl=False)
        return
    width = max(map(len, RECIPES))
    for known, make in RECIPES.items():
        click.echo(f"{known:<{width}}  {(make.__doc__ or '').splitlines()[0]}")


for _command in (*COMMANDS, audit):
    cli.add_command(_command)


def main() -> None:
    """Run the command line: 0 done, 2 an error that the user can mend, 130 and 143 after Ctrl-C and SIGTERM.

    Idle threads sleep instead of spinning: another busy process on the machine then costs training a quarter of its
    speed, not two thirds (two cores).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported
    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Syn2CoError as error:
        if _first_rank() or error.one_rank:
            click.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.exceptions.Abort):
        sys.exit(130)
