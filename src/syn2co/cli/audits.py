"""`syn2co audit`: the command line of `syn2co.reports.audit`."""

from pathlib import Path
from typing import Any

import click

from syn2co.audits.limits import MAX_IMAGES
from syn2co.cli.options import SourceCommand, UserPath


@click.command(cls=SourceCommand)
@click.argument("synthetic", nargs=-1, required=True, metavar="SRC...")
@click.option("--real", multiple=True, metavar="SRC", help="Images that the generator may have seen; several.")
@click.option("--against", multiple=True, metavar="SRC", help="Evaluation images that must not occur (leak); several.")
@click.option(
    "--encoder", metavar="RUN", help="Compare in the features of a run folder, checkpoint, timm:NAME or reference."
)
@click.option("--out", type=UserPath(), help="Folder of the report; default runs/audit/NAME-OF-FIRST-SOURCE.")
@click.option(
    "--max-images", default=MAX_IMAGES, show_default=True, help="Images of each side whose features are compared."
)
@click.option("--allow-leak", is_flag=True, help="Report images of the evaluation set, but do not fail.")
@click.option(
    "--fail-on",
    type=click.Choice(["fail", "warn"]),
    help="Exit with 2 if a check fails, or warns too; without it only a leak does.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all numbers as JSON.")
@click.option(
    "--device", default="auto", show_default=True, help="Device of the encoder: auto, cpu, cuda, cuda:N or mps."
)
@click.option("--seed", default=0, show_default=True, help="Seed of the choice of images.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def audit(
    synthetic: tuple[str, ...],
    real: tuple[str, ...],
    against: tuple[str, ...],
    out: Path | None,
    fail_on: str | None,
    as_json: bool,
    encoder: str | None,
    quiet: bool,
    **settings: Any,
) -> None:
    """Look for copies, leaks, duplicates and dead images in SRC, and compare them to real images.

    SRC is a data set folder, a folder of images, or tar files; several are one set.
    """
    from syn2co.audits.image_sets import AuditError
    from syn2co.audits.settings import AuditSettings
    from syn2co.reports.audit import LeakError
    from syn2co.reports.audit import audit as run

    folder = out or Path("runs") / "audit" / default_name(synthetic[0])
    try:
        report = run(
            synthetic,
            real=real or None,
            against=against or None,
            encoder=encoder,
            settings=AuditSettings.parse(settings),
            out=folder,
            progress=not quiet,
        )
    except LeakError as error:
        _print(error.report, as_json, folder)
        raise
    _print(report, as_json, folder)
    levels = {None: (), "fail": ("fail",), "warn": ("fail", "warn")}[fail_on]
    bad = [finding.check for finding in report.findings if finding.level in levels]
    if bad:
        raise AuditError(f"--fail-on {fail_on}: {', '.join(bad)}; see {folder.name}/audit.html, or leave --fail-on out")


def default_name(source: str) -> str:
    """Return a folder name for the report on a source: its last part in letters, digits, dots, - and _."""
    last = source.rstrip("/").replace("\\", "/").rpartition("/")[2]
    safe = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in last).strip(".-")
    return safe or "images"


def _print(report: Any, as_json: bool, folder: Path) -> None:
    if as_json:
        click.echo(report.to_json(), nl=False)
        return
    click.echo(report.text())
    click.echo(f"Page: {folder / 'audit.html'}")
