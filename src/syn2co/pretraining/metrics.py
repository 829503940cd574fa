"""Metrics of a run while it trains: metrics.jsonl, and the same numbers for TensorBoard."""

import contextlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from syn2co.core.errors import FileError
from syn2co.core.files import no_link, write_atomically
from syn2co.core.json_files import JsonError, read_json_lines
from syn2co.core.progress import note

FILE = "metrics.jsonl"


class Averages:
    """Running means by name between two log lines; its state goes into checkpoints, so a resume changes no line."""

    def __init__(self, state: Mapping[str, list[float]] | None = None) -> None:
        self.sums: dict[str, list[float]] = {name: list(pair) for name, pair in (state or {}).items()}

    def add(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            pair = self.sums.setdefault(name, [0.0, 0.0])
            pair[0] += value
            pair[1] += 1

    def take(self) -> dict[str, float]:
        """Return the means and start again."""
        means = {name: total / count for name, (total, count) in self.sums.items()}
        self.sums.clear()
        return means


def losses_by_source(means: Mapping[str, float]) -> dict[str, float]:
    """Return the means with "part/X" / "rows/X" as "loss/X"; without it where no row of X came."""
    scalars = {name: mean for name, mean in means.items() if not name.startswith(("part/", "rows/"))}
    for name, rows in means.items():
        kind = name.removeprefix("rows/")
        if kind != name and rows > 0:
            scalars[f"loss/{kind}"] = means[f"part/{kind}"] / rows
    return scalars


class MetricsWriter:
    """Append one JSON object a log step to metrics.jsonl; lines after `step` (of a killed run) are cut off first.

    Raises:
        FileError: if they cannot be written, the disk being full say; the checkpoints stay as they are.
    """

    def __init__(self, run: Path, step: int, *, tensorboard: bool) -> None:
        self.path = run / FILE
        records, damaged = read_sound_metrics(run)
        kept = [record for record in records if record["step"] <= step]
        if damaged:
            note(f"{FILE}: {damaged} lines are damaged and are left out of it; the checkpoints know nothing of them")
        write_atomically(self.path, "".join(_line(record) for record in kept))
        self.board = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            try:
                _order_events(run / "tensorboard")
                self.board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)
            except OSError as error:
                raise _cannot_write("tensorboard", error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.board is not None:
            with contextlib.suppress(OSError):  # a full disk has been reported by then
                self.board.close()

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record; it must have "step"."""
        try:
            with open(self.path, "a", encoding="utf-8", newline="\n", opener=no_link) as file:
                file.write(_line(record))
            if self.board is not None:
                for name, value in record.items():
                    if isinstance(value, int | float) and name != "step":
                        self.board.add_scalar(name, value, record["step"])
        except OSError as error:
            raise _cannot_write(FILE, error) from None


def _order_events(folder: Path) -> None:
    """Number the event files of earlier starts: TensorBoard reads in the order of names, and those begin with a time.

    Where the clock has gone back between two starts, it would pass over what was written after the later time.
    """
    for number, path in enumerate(sorted(folder.glob("events.out.tfevents.*"))):
        path.replace(folder / f"events.out.tfevents.{number:010d}.earlier")


def _cannot_write(name: str, error: OSError) -> FileError:
    return FileError(
        f"{name}: cannot be written ({error.strerror}); the checkpoints are intact: fix that and run the same command "
        "again"
    )


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the records of a run in order; a damaged line is left out (the run writes one torn by a crash again).

    Raises:
        FileError: if the file cannot be read.
    """
    return read_sound_metrics(run)[0]


class _Record(BaseModel):
    """JSON of one line: measurements at a step, null where one is not finite."""

    __pydantic_extra__: dict[str, float | bool | None]
    model_config = ConfigDict(extra="allow")
    step: int = Field(ge=0, lt=10**9)
    epoch: float = 0.0


def read_sound_metrics(run: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the records of a run, and the number of damaged lines but for one torn at the end.

    Raises:
        FileError: if the file cannot be read.
    """
    path = run / FILE
    try:
        lines = list(read_json_lines(path, _Record)) if path.exists() else []
    except OSError as error:
        raise FileError(f"{FILE}: cannot be read ({error.strerror}); fix that and try again") from None
    records = [line for line in lines if not isinstance(line, JsonError)]
    return records, sum(isinstance(line, JsonError) for line in lines[:-1])


def knn_scores(records: Iterable[Mapping[str, Any]], *, after: int, upto: int) -> list[float]:
    """Return the online k-NN scores of the steps after + 1 .. upto, in order."""
    return [line["knn"] for line in records if line.get("knn") is not None and after < line["step"] <= upto]


def stands_still(scores: Sequence[float], patience: int | None) -> bool:
    """Return whether none of the last `patience` scores is better than the best before them; never for None."""
    return patience is not None and len(scores) > patience and max(scores[-patience:]) <= max(scores[:-patience])


def _line(record: Mapping[str, Any]) -> str:
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
    return json.dumps(finite) + "\n"


def training_text(record: Mapping[str, Any]) -> str:
    """Return the numbers of one metrics record that a person watches."""
    loss = f"top-1 {100 * record['top1']:.0f} %" if "top1" in record else f"real {record['real_loss']:.2f}"
    mixed = f"synthetic {100 * record['drawn_synthetic']:.0f} %  " if "drawn_synthetic" in record else ""
    return (
        f"epoch {record['epoch']:.2f}  {mixed}loss {record['loss']:.2f}, {loss} "
        f"(line {record['uninformative']:.2f})  {record['images_per_second']:.0f} img/s  "
        f"data {100 * record['data_wait']:.0f} %"
    )
