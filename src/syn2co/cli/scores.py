"""`syn2co evaluate`: scores of encoders. One library call."""

from pathlib import Path
from typing import Any

import click

from syn2co.cli.ranks import first_rank
from syn2co.images.quarantine import MAX_BROKEN_SHARE


@click.command()
@click.argument("encoder")
@click.option(
    "--train", "train", multiple=True, required=True, metavar="SRC", help="Labeled images: the bank; repeatable."
)
@click.option(
    "--test", "test", multiple=True, required=True, metavar="SRC", help="Labeled images that are scored; repeatable."
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
    help="Precision of the encoder.",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    help="Seed of the bootstrap, of the held-out part and of the random encoder.",
)
@click.option("--batch-size", default=256, show_default=True, help="Images per forward pass.")
@click.option("--workers", default=0, show_default=True, help="Processes that decode images; 0: this one.")
@click.option(
    "--max-broken-share",
    default=MAX_BROKEN_SHARE,
    show_default=True,
    help="Refuse a source with a larger share of broken images.",
)
@click.option("--quiet", is_flag=True, help="No progress bar.")
def evaluate(
    encoder: str,
    train: tuple[str, ...],
    test: tuple[str, ...],
    also: tuple[str, ...],
    protocols: str,
    out: Path | None,
    quiet: bool,
    **settings: Any,
) -> None:
    """Score ENCODER (run folder, checkpoint file or timm:NAME) on labeled images, with baselines and intervals."""
    from rich.console import Console

    from syn2co.evaluation.evaluate import evaluate as run
    from syn2co.evaluation.settings import EvaluationSettings

    names = [name.strip() for name in protocols.split(",")]
    chosen = EvaluationSettings.parse(settings)
    report = run(encoder, train, test, protocols=names, also=also, settings=chosen, out=out, progress=not quiet)
    if first_rank():
        Console().print(report.table())
