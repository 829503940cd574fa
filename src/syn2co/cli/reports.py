"""`syn2co report` and `compare`: answers as pages and in the terminal. Each is one library call."""

from pathlib import Path

import click

from syn2co.cli.options import SourceCommand, UserPath

_MISSING = "give the --out folder of a `syn2co pretrain`, `study`, `audit` or `evaluate`"


@click.command(cls=SourceCommand)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=UserPath(_MISSING))
@click.option("--out", type=UserPath(), help="Folder or NAME.html; default: beside the data.")
def report(paths: tuple[Path, ...], out: Path | None) -> None:
    """Write one page for each PATH: a run, a study, an audit or an evaluation.

    Several folders that hold parts of one study become one page.
    """
    from syn2co.reports.report import report as run

    for page in run(paths, out=out):
        click.echo(f"Page: {page}")


@click.command(cls=SourceCommand)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=UserPath(_MISSING))
def compare(runs: tuple[Path, ...]) -> None:
    """Put runs side by side: settings that differ, training, health, scores; or show the cells of a study."""
    from rich.console import Console

    from syn2co.reports.compare import compare as run

    comparison = run(runs)
    console = Console()
    for table in comparison.tables:
        console.print(table.rich(), "")
    for sentence in comparison.sentences:
        console.print(sentence, markup=False, highlight=False)


COMMANDS = (report, compare)
