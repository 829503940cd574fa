"""The one process that speaks for all ranks of a run."""

import click

from syn2co.core.errors import ConfigError, Syn2CoError
from syn2co.core.launcher import Launcher, launcher


def first_rank() -> bool:
    """Return whether this process speaks for all; the process group has been left when a command prints."""
    return _launched().rank == 0


def say(error: Syn2CoError) -> None:
    """Print an error once: by the first rank if all have met it, else by the rank that has."""
    launched, text = _launched(), f"{type(error).__name__}: {error}"
    alone = launched.rank == 0 or error.one_rank
    if alone:
        click.echo(text, err=True)
    if launched.size == 1 or error.one_rank:
        return
    from syn2co.runtime import process_group

    if not (process_group.joined or process_group.first_says(text) or alone):  # those that joined mark it themselves
        click.echo(f"rank {launched.rank}: {text}", err=True)


def _launched() -> Launcher:
    try:
        return launcher()
    except ConfigError:  # it is to be read
        return Launcher()
