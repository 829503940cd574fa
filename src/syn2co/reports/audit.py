"""`audit`: look at synthetic images from all sides, write the pages, and refuse a leak."""

from pathlib import Path

from syn2co.audits.audit import measure
from syn2co.audits.image_sets import AuditError, Specs
from syn2co.audits.report import AuditReport
from syn2co.audits.settings import AuditSettings
from syn2co.core.paths import user_path
from syn2co.reports.audit_page import write_audit


def audit(
    synthetic: Specs,
    *,
    real: Specs | None = None,
    against: Specs | None = None,
    encoder: str | Path | None = None,
    settings: AuditSettings | None = None,
    out: str | Path | None = None,
    progress: bool = False,
) -> AuditReport:
    """Return the findings on synthetic images: defects, copies and leaks, and the comparison to real images.

    Nothing of the images is changed. Hashes are taken of all of them, features of at most `settings.max_images` of each
    side, chosen by the seed.

    Args:
        synthetic: data set folders, or any sources as `open_images` takes them.
        real: images that the generator may have seen, for memorization, diversity, and how easily the two are told
            apart; None leaves these out.
        against: images that an evaluation will use and that must not occur, neither changed by ordinary preprocessing
            nor as the source of a variation; None leaves the search for leaks out.
        encoder: a run folder, a checkpoint file, `timm:NAME` or `reference`, whose features are compared; None compares
            pixels.
        settings: None gives the defaults of `AuditSettings`.
        out: folder for audit.json, audit.md and audit.html, made if needed; None writes nothing.

    Returns:
        The report: `headline`, one finding per check, and all numbers.

    Raises:
        AuditError: if images of `against` occur, or a manifest names them as sources, and `settings.allow_leak` is
            False (after the report was written; the error has it as `report`), or if a source names no images.
        DataError: if a source is missing or none of its images can be read.
        CheckpointError: if there is no such encoder, or the report cannot be written.

    Example:
        >>> info = syn2co.generate(syn2co.SynthesisSettings(size=16), "leaves", count=4)
        >>> report = audit(info.folder)
        >>> report.images, report.finding("broken").level
        (4, 'pass')
    """
    settings = settings or AuditSettings()
    report = measure(synthetic, real=real, against=against, encoder=encoder, settings=settings, progress=progress)
    if out is not None:
        write_audit(report, user_path(out))
    if report.finding("leak").level == "fail" and not settings.allow_leak:
        raise LeakError(report, out is not None)
    return report


class LeakError(AuditError):
    """Images of the evaluation set were found among the synthetic ones."""

    def __init__(self, report: AuditReport, written: bool) -> None:
        self.report = report
        where = "audit.html shows them; " if written else ""
        results = report.results
        least = "" if results.leaks is None or results.leaks.complete else "at least "
        learned = ", and its generator learned from the evaluation images" * results.learned_from_against
        varied = " or variations of them" * bool(results.leaked_sources)
        super().__init__(
            f"{least}{report.leaks} of {report.images} synthetic images are images of the evaluation set{varied} "
            f"({', '.join(report.against)}){learned}: scores on it would be too good; {where}remove them, or allow it "
            "with --allow-leak"
        )
