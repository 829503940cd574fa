"""`syn2co demo`: both halves on photographs that ship with the dependencies; offline, minutes on two CPU cores."""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from syn2co.evaluation.results import EvaluationReport


def demo(
    out: str | Path = "runs/demo",
    *,
    pretrain_only: bool = False,
    settings: Sequence[str] = (),
    protocols: Sequence[str] = ("knn",),
    progress: bool = True,
) -> EvaluationReport:
    """Return the scores of encoders that were pretrained with and without synthetic images made here; write demo.html.

    Training and test patches are cut from different parts of the same photographs and share no pixel; the label, never
    trained on, is the photograph. A second call resumes, or shows again, what the first one did.

    Args:
        out: folder of the sets, runs, scores and pictures, made if needed.
        pretrain_only: make no images; one longer run on the photographs alone.
        settings: assignments that change the recipe "demo", such as "training.steps=100".
        protocols: of `evaluate`, in their order.
        progress: show bars on standard error; the table of scores is printed in any case.

    Returns:
        The scores, which evaluation.json in `out` holds too.

    Raises:
        Syn2CoError: as `generate`, `audit`, `pretrain` and `evaluate`.

    Example:
        >>> steps = ["training.steps=2"]  # without it the recipe's own number
        >>> report = demo(pretrain_only=True, settings=steps)  # doctest: +ELLIPSIS, +NORMALIZE_WHITESPACE
        Top-1 on the test images, 95 % bootstrap intervals...
        >>> [row.encoder for row in report.rows]
        ['syn2co', 'raw pixels', 'random init']
    """
    from syn2co.demonstration.faking import faking_demo
    from syn2co.demonstration.pretraining import pretraining_demo

    out, console, started = Path(out), Console(), time.monotonic()
    half = pretraining_demo if pretrain_only else faking_demo
    report = half(out, settings=settings, protocols=protocols, progress=progress)
    minutes = (time.monotonic() - started) / 60
    console.print(report.table())
    console.print(f"{minutes:.1f} minutes. Open {out / 'demo.html'}, or the pictures beside it.", highlight=False)
    return report
