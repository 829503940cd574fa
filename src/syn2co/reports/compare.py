"""`compare`: runs, or a study's cells, side by side in the terminal."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.table import Table

from syn2co.core.errors import ConfigError
from syn2co.core.paths import user_path
from syn2co.core.settings import one_or_many
from syn2co.core.terminal import text_table
from syn2co.evaluation.bootstrap import paired_difference
from syn2co.evaluation.scores import Comparison, Score, comparable, number
from syn2co.reports.page_parts import PageTable, public_text
from syn2co.reports.report import kinds_of
from syn2co.reports.run_summary import RunSummary, read_run
from syn2co.reports.study_labels import StudyLabels
from syn2co.reports.study_tables import cells_table
from syn2co.studies.answers import answer
from syn2co.studies.merge import read_study

NOT_SET = "not set"
_MEASUREMENTS = (
    ("loss", ".3f"),
    ("real_loss", ".3f"),
    ("uninformative", ".3f"),
    ("effective_rank", ".1f"),
    ("embedding_std", ".2f"),
)


@dataclass(frozen=True)
class ComparedTable:
    """A part of a comparison: a title, titles of columns, and rows of texts whose first one is the row's name."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def rich(self) -> Table:
        """Return it for the terminal."""
        return text_table(self.columns, self.rows, title=self.title, title_justify="left")


@dataclass(frozen=True)
class RunComparison:
    """Runs, or the cells of a study, side by side."""

    tables: tuple[ComparedTable, ...]
    sentences: tuple[str, ...] = ()
    """Differences in words, or answers; then notes."""

    def table(self, title: str) -> ComparedTable | None:
        """Return the table of this title, None if there is none."""
        return next((table for table in self.tables if table.title == title), None)


def compare(paths: str | Path | Sequence[str | Path]) -> RunComparison:
    """Return runs side by side: settings that differ, how they trained, their health, and their scores if there are.

    Scores come from evaluation.json in a run's folder or beside it, under the name of the folder, or from the cell of a
    study that the run is of; their differences are paired on the test images. Of study folders it returns the cells
    with their intervals, and the answers.

    Args:
        paths: two run folders or more, or folders of one study.

    Returns:
        Tables by title and sentences; the command prints them.

    Raises:
        ConfigError: if there are less than two runs, runs and studies are mixed, or a folder is neither.
        StudyError: if the folders hold different studies.

    Example:
        >>> small = ["training.steps=1", "training.batch=8", "queue.size=64", "negatives.hardest=16", "heads.hidden=64"]
        >>> for seed in (0, 1):
        ...     settings = [*small, f"seed={seed}"]
        ...     _ = syn2co.pretrain(
        ...         "demo", out=f"seed{seed}", real=["builtin:digits:test"], settings=settings, progress=False
        ...     )
        >>> compare(["seed0", "seed1"]).table("Settings that differ").rows
        (('seed', '0', '1'),)
    """
    folders = list(map(user_path, one_or_many(paths)))
    kinds = [_kind(folder) for folder in folders]
    if set(kinds) == {"study"}:
        return _of_study(folders)
    if "study" in kinds:
        raise ConfigError("RUN...: are runs and studies together; compare runs with runs, and parts of one study")
    if len(folders) < 2:
        raise ConfigError(
            f"RUN {folders[0].name}: is one run; name another one to compare it with, or use `syn2co report`"
        )
    return _of_runs([read_run(folder) for folder in folders])


def _kind(folder: Path) -> str:
    kinds = kinds_of(folder)
    kind = next((kind for kind in kinds if kind in ("study", "run")), None)
    if kind is None:
        raise ConfigError(f"RUN {folder.name}: holds an {kinds[0]}; give run folders, or use `syn2co report`")
    return kind


def _of_runs(runs: Sequence[RunSummary]) -> RunComparison:
    names = _names(runs)
    scores = {name: [replace(row, encoder=name) for row in run.scores()] for name, run in zip(names, runs, strict=True)}
    tables = (_settings(names, runs), _training(names, runs), _scores(names, scores))
    return RunComparison(tuple(table for table in tables if table.rows), tuple(_differences(scores)))


def _names(runs: Sequence[RunSummary]) -> list[str]:
    """Return the folders' names, with their parents' where two are equal."""
    names = [run.name for run in runs]
    if len(set(names)) == len(names):
        return names
    return [f"{run.folder.resolve().parent.name}/{run.name}" for run in runs]


def _settings(names: Sequence[str], runs: Sequence[RunSummary]) -> ComparedTable:
    several = [run.settings for run in runs]
    rows = []
    for setting in dict.fromkeys(name for settings in several for name in settings):
        values = [settings.get(setting, NOT_SET) for settings in several]
        if len(set(values)) > 1:
            rows.append((setting, *values))
    return ComparedTable("Settings that differ", ("setting", *names), tuple(rows))


def _training(names: Sequence[str], runs: Sequence[RunSummary]) -> ComparedTable:
    rows = [("steps", *(str(run.last("step") or 0) for run in runs))]
    rows += [
        (metric.replace("_", " "), *(_text(run.last(metric), form) for run in runs)) for metric, form in _MEASUREMENTS
    ]
    rows.append(("images per second", *(_text(run.usual("images_per_second"), ".0f") for run in runs)))
    rows.append(("online k-NN %", *(_text(run.knn[-1]["knn"] if run.knn else None, ".1f") for run in runs)))
    rows = [row for row in rows if any(row[1:])]
    rows.append(("doctor", *(run.diagnosis.headline for run in runs)))
    return ComparedTable("Training", ("at the end", *names), tuple(rows))


def _text(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"


def _interval(row: Score) -> str:
    value, low, high = (number(part, row.percent) for part in (row.value, row.low, row.high))
    return f"{value} [{low}, {high}]"


def _scores(names: Sequence[str], scores: dict[str, list[Score]]) -> ComparedTable:
    keys = dict.fromkeys((row.protocol, row.data) for rows in scores.values() for row in rows)
    rows = []
    for protocol, data in keys:
        several = [_score(scores[name], protocol, data) for name in names]
        cells = ["" if row is None else _interval(row) for row in several]
        rows.append((f"{protocol} on {data}" if data else protocol, *cells))
    return ComparedTable("Scores with 95 % intervals over test images", ("score", *names), tuple(rows))


def _score(rows: Iterable[Score], protocol: str, data: str) -> Score | None:
    return next((row for row in rows if (row.protocol, row.data) == (protocol, data)), None)


def _differences(scores: dict[str, list[Score]]) -> Iterable[str]:
    """Yield the first run against each other one in every score that both have in the same form."""
    (_, leader), *others = scores.items()
    for _, rows in others:
        for one in leader:
            two = _score(rows, one.protocol, one.data)
            if two is None:
                continue
            if not comparable(one, two):
                yield f"{one.protocol}: {one.encoder} and {two.encoder} have other test images or another protocol"
                continue
            change = paired_difference(one.values, two.values, seed=one.seed)
            yield Comparison(one, two, change.percent() if one.percent else change).text


def _of_study(folders: Sequence[Path]) -> RunComparison:
    answers = answer(read_study(folders))
    labels = StudyLabels(answers.results, answers.headline)
    parts = {
        "Scores with 95 % intervals": labels.plain,
        "On changed test images": labels.robust,
        "On other data sets": labels.transfer,
    }
    tables = [cells_table(answers, labels, keys, title) for title, keys in parts.items()]
    compared = tuple(_plain(table) for table in tables if table is not None)
    return RunComparison(compared, tuple(map(public_text, (*answers.sentences.values(), *answers.notes))))


def _plain(table: PageTable) -> ComparedTable:
    rows = (tuple(" ".join(filter(None, (item.text, item.interval, item.tag))) for item in row) for row in table.rows)
    return ComparedTable(table.caption, tuple(column.title for column in table.columns), tuple(rows))
