"""`audit`: look at synthetic images from all sides, write the pages, and refuse a leak."""

from pathlib import Path

from syn2co.audits.audit import measure
from syn2co.audits.image_sets import AuditError, Specs
from syn2co.audits.report import AuditReport
from syn2co.reports.audit_page import write_audit


def audit(
    synthetic: Specs,
    *,
    real: Specs | None = None,
    against: Specs | None = None,
    encoder: str | Path | None = None,
    max_images: int = 5000,
    allow_leak: bool = False,
    out: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: bool = False,
) -> AuditReport:
    """Return what is wrong with synthetic images, and how they compare to real ones.

    `synthetic` are sources as `open_images` takes them, or data set folders. `real` are the images that the generator
    may have seen (memorization, diversity, how easily the two are told apart); `against` are those that an evaluation
    will use and that must not occur (leak). Hashes are taken of all images, features of at most `max_images` of each
    side, chosen by `seed`. `encoder` is a run folder, a checkpoint file or timm:NAME; without one, pixels are compared.
    With `out`, audit.json, audit.md and audit.html are written there. Nothing of the images is changed.

    Raises:
        AuditError: if images of `against` occur and `allow_leak` is False (after the report was written; the error has
            it as `report`), or if a setting is out of range.
        DataError: if a source is missing or none of its images can be read.
        CheckpointError: if there is no such encoder, or the report cannot be written.
    """
    report = measure(
        synthetic,
        real=real,
        against=against,
        encoder=encoder,
        max_images=max_images,
        seed=seed,
        device=device,
        progress=progress,
    )
    if out is not None:
        write_audit(report, Path(out))
    if report.leaks and not allow_leak:
        raise LeakError(report, out is not None)
    return report


class LeakError(AuditError):
    """Images of the evaluation set were found among the synthetic ones."""

    def __init__(self, report: AuditReport, written: bool) -> None:
        self.report = report
        where = "audit.html shows them; " if written else ""
        super().__init__(
            f"{report.leaks} of {report.images} synthetic images are images of the evaluation set "
            f"({', '.join(report.against)}): scores on it would be too good; {where}remove them, or allow it with "
            "--allow-leak"
        )
