"""`syn2co demo`: both fakes on photographs that ship with the dependencies; offline, minutes on two CPU cores."""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from syn2co.core.errors import StudyError
from syn2co.core.paths import user_path
from syn2co.core.settings import one_or_many


def demo(
    out: str | Path | None = None,
    *,
    pretrain_only: bool = False,
    settings: str | Sequence[str] = (),
    protocols: str | Sequence[str] = ("knn",),
    progress: bool = True,
) -> Path:
    """Ask on patches of photographs whether faking helps: a small study with three seeds, and its page.

    Encoders are pretrained on few and more real patches, with and without procedural images, with and without synthetic
    negatives. Training and test patches are cut from different parts of the same photographs and share no pixel; the
    label, never trained on, is the photograph. A second call resumes, or shows again, what the first one did.

    Args:
        out: folder of the study, made if needed; None is runs/demo, or runs/demo-pretraining if `pretrain_only`.
        pretrain_only: no study; one longer run on the photographs alone, and a page of it.
        settings: one assignment or several that change every run, such as "training.steps=100".
        protocols: of `evaluate`, one or several in their order.
        progress: show bars on standard error; the answers are printed in any case.

    Returns:
        The page.

    Raises:
        StudyError: if cells failed; the page is there and says why.
        Syn2CoError: as `study`, `generate`, `pretrain` and `evaluate`.

    Example:
        >>> steps = ["training.steps=2"]  # without it the recipe's own number
        >>> page = demo(pretrain_only=True, settings=steps)  # doctest: +ELLIPSIS, +NORMALIZE_WHITESPACE
        Top-1 on the test images, 95 % bootstrap intervals...
        >>> page.name
        'demo.html'
    """
    from syn2co.demonstration.faking import faking_demo
    from syn2co.demonstration.pretraining import pretraining_demo
    from syn2co.reports.study_page import QUESTIONS

    out = user_path(out or ("runs/demo-pretraining" if pretrain_only else "runs/demo"))
    console, started = Console(), time.monotonic()
    settings, protocols = one_or_many(settings), one_or_many(protocols)
    failed = 0
    if pretrain_only:
        report = pretraining_demo(out, settings=settings, protocols=protocols, progress=progress)
        console.print(report.table())
        page = out / "demo.html"
    else:
        answers = faking_demo(out, settings=settings, protocols=protocols, progress=progress)
        answered = (f"{QUESTIONS[question]} {sentence}" for question, sentence in answers.sentences.items())
        for line in (*answered, *answers.notes):
            console.print(line, highlight=False, markup=False)
        page, failed = out / "study.html", len(answers.results.failed)
    minutes = (time.monotonic() - started) / 60
    console.print(f"{minutes:.1f} minutes. Open {page}.", markup=False, highlight=False)
    if failed:
        raise StudyError(f"{failed} of the demo's cells failed; the page says why")
    return page
