"""Results of protocols kept in a folder until the whole evaluation is done, so that an interrupted one resumes."""

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from hashlib import blake2b
from pathlib import Path

import torch

from syn2co.core.files import atomic_file, best_effort
from syn2co.core.versions import source_hash
from syn2co.evaluation.protocols.protocol import ProtocolResult, Task
from syn2co.runtime import distributed
from syn2co.runtime.determinism import describe

NEVER_KEPT = ("variants",)
"""Protocols whose images lie in folders that settings name alone: they may be others by the next call."""


class KeptResults:
    """What protocols returned, by all that it depends on; without a folder nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.seconds = 0.0
        """Wall time that what was kept had taken."""

    def fetch(
        self, protocol: str, task: Task, make: Callable[[Task], Sequence[ProtocolResult]]
    ) -> Sequence[ProtocolResult]:
        """Return the results of a protocol, made and kept if there are none; all ranks call this together."""
        if self.folder is None or protocol in NEVER_KEPT:
            return make(task)
        settings = task.settings.model_dump_json(exclude={"workers", "cache_gib"})
        key = (
            source_hash(), protocol, task.name, task.encoder_hash, task.splits.fingerprint, task.metric, settings,
            describe(task.device),
        )  # fmt: skip
        path = self.folder / f"{protocol}-{blake2b(repr(key).encode(), digest_size=8).hexdigest()}.pt"
        kept = _load(path)
        if not distributed.largest(int(kept is None)):  # the ranks share work: all of them take part, or none
            assert kept is not None
            self.seconds += kept[1]
            return kept[0]
        started = time.monotonic()
        made = make(task)
        if distributed.is_main():
            content = _packed(made, time.monotonic() - started)
            with best_effort("the scores so far cannot be kept, so an interrupted evaluation begins again"):
                self.folder.mkdir(parents=True, exist_ok=True)
                with atomic_file(path) as partial:
                    partial.write_bytes(content)
        return made


def _packed(results: Sequence[ProtocolResult], seconds: float) -> bytes:
    file, names = io.BytesIO(), [field.name for field in fields(ProtocolResult)]
    torch.save(([{name: getattr(result, name) for name in names} for result in results], seconds), file)
    return file.getvalue()


def _load(path: Path) -> tuple[list[ProtocolResult], float] | None:
    """Return what a file holds and the seconds that it took; None without one, or if it is damaged."""
    try:
        kept, seconds = torch.load(path, weights_only=True)
        return [ProtocolResult(**one) for one in kept], float(seconds)
    except Exception:  # a damaged file makes torch raise whatever its parser does
        return None
