"""`syn2co evaluate`, `embed` and `cache`: scores and features of encoders. Each is one library call."""

from pathlib import Path
from typing import Any

import click

from syn2co.cli.options import SourceCommand, UserPath, branch_option, extraction_options
from syn2co.cli.ranks import first_rank
from syn2co.core.paths import lies_there, user_path

PROTOCOLS = (
    "knn", "linear", "linear-augmented", "linear-moby-as-released", "few-shot", "fine-tune", "fine-tune-few",
    "robustness", "variants", "calibration", "adversarial", "retrieval", "dense", "health",
)  # fmt: skip
"""Names of protocols for the help, which must not import torch."""


@click.command(cls=SourceCommand)
@click.argument("encoders", nargs=-1, required=True, metavar="ENCODER...")
@click.option(
    "--train",
    "train",
    multiple=True,
    metavar="SRC",
    help="Labeled images: k-NN neighbors, and what heads are fitted to; one source or several.",
)
@click.option("--test", "test", multiple=True, metavar="SRC", help="Labeled images that are scored; several.")
@click.option(
    "--transfer",
    multiple=True,
    metavar="NAME",
    help="Another data set: cifar10, ..., a folder, or NAME=TRAIN,TEST; repeatable or a,b,c.",
)
@click.option(
    "--protocols",
    default="knn,linear",
    show_default=True,
    help=f"Which scores, separated by commas: {', '.join(PROTOCOLS)}; syn2co is the authors' own suite.",
)
@click.option(
    "--baselines/--no-baselines", default=True, show_default=True, help="Score raw pixels and a random encoder too."
)
@click.option("--out", type=UserPath(), help="Folder for tables (JSON, CSV, Markdown) and pictures.")
@click.option(
    "--seed",
    default=0,
    show_default=True,
    help="Seed of the bootstrap, of the held-out part and of the random encoder.",
)
@click.option(
    "--data-root", default=None, metavar="DIR", help="Folder with the data sets that are named, else $SYN2CO_DATA."
)
@click.option("--download", is_flag=True, help="Let torchvision fetch named data sets that are not there.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Change a setting; repeatable.")
@extraction_options
def evaluate(
    encoders: tuple[str, ...],
    train: tuple[str, ...],
    test: tuple[str, ...],
    transfer: tuple[str, ...],
    protocols: str,
    out: Path | None,
    quiet: bool,
    assignments: tuple[str, ...],
    **settings: Any,
) -> None:
    """Score each ENCODER with 95 % intervals, beside baselines, on the same test images.

    An ENCODER is a run folder, a checkpoint, an export, timm:NAME, timm:NAME:FILE, or reference.
    """
    from rich.console import Console

    from syn2co.evaluation.settings import EvaluationSettings
    from syn2co.reports.evaluation import evaluate as run

    names = [name.strip() for name in protocols.split(",") if name.strip()]
    sets = [
        name.strip()
        for item in transfer
        for name in ([item] if "=" in item or lies_there(user_path(item)) else item.split(","))
    ]
    chosen = EvaluationSettings.parse(settings).with_settings(assignments)
    report = run(
        encoders,
        train or None,
        test or None,
        protocols=names,
        transfer=sets,
        settings=chosen,
        out=out,
        progress=not quiet,
    )
    if first_rank():
        Console().print(report.table())


@click.command()
@click.argument("encoder")
@click.argument("images", nargs=-1, required=True, metavar="SRC...")
@click.option("--out", required=True, type=UserPath(), help="File to write, NAME.parquet.")
@click.option("--tokens", is_flag=True, help="Write the patch tokens instead of pooled features.")
@branch_option
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@extraction_options
def embed(
    encoder: str,
    images: tuple[str, ...],
    out: Path,
    tokens: bool,
    branch: str,
    force: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Write features of the images SRC to a Parquet file with their names and labels.

    ENCODER is a run folder, a checkpoint, an export, timm:NAME, timm:NAME:FILE, or reference. Labels are not needed.
    """
    from syn2co.evaluation.embed import embed as run
    from syn2co.evaluation.settings import EvaluationSettings

    chosen = EvaluationSettings.parse(settings)
    done = run(encoder, images, out, tokens=tokens, branch=branch, settings=chosen, force=force, progress=not quiet)
    if first_rank():
        shape = (
            f"{done.width} features"
            if done.grid is None
            else "{} x {} tokens of {} features".format(*done.grid, done.width)
        )
        left_out = f"; {done.left_out} broken images left out" if done.left_out else ""
        click.echo(f"{done.path}: {done.images} images, {shape} each{left_out}")


@click.command()
@click.option("--clear", is_flag=True, help="Delete every cached feature.")
@click.option("--clear-remote", is_flag=True, help="Delete every fetched tar that no living process reads.")
def cache(clear: bool, clear_remote: bool) -> None:
    """Show or empty the cache of clean features and of tars fetched from a URL.

    `evaluate --set cache_gib=0` does without features; $SYN2CO_REMOTE_CACHE_GB bounds the tars.
    """
    from rich.filesize import decimal

    from syn2co.evaluation.feature_cache import cache as run

    content = run(clear=clear, clear_remote=clear_remote)
    click.echo(
        f"{content.files} files of features, {decimal(content.nbytes)}, and {content.tars} tars from a URL, "
        f"{decimal(content.tar_nbytes)}, in {content.folder}"
    )
