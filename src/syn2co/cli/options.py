"""Options that several commands share, each written once."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from syn2co.images.quarantine import MAX_BROKEN_SHARE

Command = TypeVar("Command", bound=Callable[..., Any])

branch_option = click.option(
    "--branch",
    type=click.Choice(["online", "target"]),
    default="online",
    show_default=True,
    help="Encoder of a run: the trained one, or its moving average.",
)
_EXTRACTION = (
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps."),
    click.option(
        "--precision",
        type=click.Choice(["float32", "bfloat16"]),
        default="float32",
        show_default=True,
        help="Precision of the encoder; features are float32.",
    ),
    click.option("--batch-size", default=256, show_default=True, help="Images per forward pass."),
    click.option(
        "--workers",
        type=click.IntRange(min=0),
        default=None,
        help="Threads that decode in the background; 0: none [one per core].",
    ),
    click.option(
        "--max-broken-share",
        default=MAX_BROKEN_SHARE,
        show_default=True,
        help="Refuse a source with a larger share of broken images.",
    ),
    click.option("--quiet", is_flag=True, help="No progress bar."),
)


def extraction_options(command: Command) -> Command:
    """Add --quiet and the settings of `EvaluationSettings` that every extraction of features has."""
    for option in reversed(_EXTRACTION):
        command = option(command)
    return command
