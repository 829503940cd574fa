"""Data sets and protocols of one evaluation: what was given, a list of transfer sets, or a published suite."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from syn2co.core.errors import EvaluationError
from syn2co.core.hints import nearest
from syn2co.core.paths import lies_there, user_path
from syn2co.core.settings import one_or_many
from syn2co.evaluation.data_sets import NamedDataSet, available
from syn2co.evaluation.protocols.registry import PROTOCOLS
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.evaluation.splits import Specs

AUTHORS = "syn2co"
"""Name of the authors' own suite among the protocols."""
AUTHORS_TRANSFER = ("cifar10", "cifar100", "flowers102", "pets", "food101")
"""Their transfer sets, each with a linear head (the history of their repository)."""


class DataSet(NamedTuple):
    """A training and a test side, the metric that the field reports on them, what is published of the data set, and
    the protocols that a suite does not ask of it.
    """

    name: str
    train: Specs
    test: Specs
    metric: str = "top-1"
    published: NamedDataSet | None = None
    left_out: tuple[str, ...] = ()


class Suite(NamedTuple):
    """Data sets and protocols of one evaluation, and notes on what is missing."""

    data: tuple[DataSet, ...]
    protocols: tuple[str, ...]
    notes: tuple[str, ...] = ()


def choose_suite(
    protocols: Sequence[str],
    train: Specs | None,
    test: Specs | None,
    transfer: Sequence[str | Path],
    settings: EvaluationSettings,
) -> Suite:
    """Return the data sets and protocols of an evaluation.

    The given sides come first, under no name; then every transfer set: NAME=TRAIN,TEST, a name of `data_sets` or a
    folder with train/ and test/ or val/. "syn2co" among the protocols stands for the authors' suite: a linear head on
    the given sides (they used ImageNet-100) with its robustness sets, and on their transfer sets; what the user has
    not is noted.

    Raises:
        EvaluationError: if a protocol or a data set is unknown, nothing is given to score on, one side is missing, or
            protocols need different kinds of data.
    """
    _check(protocols)
    if (train is None) != (test is None):
        given, missing = ("--train", "--test") if test is None else ("--test", "--train")
        raise EvaluationError(f"{missing}: is missing beside {given}; give both, or neither and --transfer")
    data = [] if train is None or test is None else [DataSet("", train, test)]
    data += _transfer_sets(transfer, settings)
    names, notes = [name for name in protocols if name != AUTHORS], []
    if AUTHORS in protocols:
        more, notes = _authors_sets(data, settings)
        left_out = () if "variants" in names else ("variants",)  # other images of ImageNet's classes
        data += [one._replace(left_out=left_out) for one in more]
        names += ["linear", "variants"]
    if not data:
        raise EvaluationError(
            "--train and --test: name no images to score on; give both, or data sets by name with --transfer"
            + (f" ({'; '.join(notes)})" if notes else "")
        )
    if len(data) > 1 and not data[0].name:
        data[0] = data[0]._replace(name="given")
    names_of_sets = [one.name for one in data]
    twice = next((name for name in names_of_sets if names_of_sets.count(name) > 1), None)
    if twice is not None:
        raise EvaluationError(f"--transfer: two data sets have the name {twice}; rename a folder, or leave one out")
    return Suite(tuple(data), tuple(dict.fromkeys(names)), tuple(notes))


def _check(protocols: Sequence[str]) -> None:
    known = ", ".join((*PROTOCOLS, AUTHORS))
    if not protocols:
        raise EvaluationError(f"protocols: names none; give at least one of {known}")
    for name in protocols:
        if name not in PROTOCOLS and name != AUTHORS:
            hint = nearest(name.lower(), (*PROTOCOLS, AUTHORS)) or "; choose one of them"
            raise EvaluationError(f"protocols: '{name}' is unknown, known are {known}{hint}")
    needs = {name: "classes" if name == AUTHORS else PROTOCOLS[name].needs for name in protocols}
    masks = [name for name, need in needs.items() if need == "masks"]
    classes = [name for name, need in needs.items() if need == "classes"]
    if masks and classes:
        raise EvaluationError(
            f"protocols: {masks[0]} needs folders of images and masks, {classes[0]} needs one folder a class; ask for "
            "them in two calls"
        )


def _transfer_sets(items: Sequence[str | Path], settings: EvaluationSettings) -> list[DataSet]:
    """Return the data sets that the user asked for; downloaded only with `settings.download`."""
    names = one_or_many(items)
    if not all(names):
        raise EvaluationError("--transfer: a name is empty; give names such as cifar10, or folders")
    given = [name for name in names if "=" in name and not lies_there(user_path(name))]
    there = available([name for name in names if name not in given], settings.data_root, download=settings.download)
    if there.missing:
        raise EvaluationError(f"--transfer: {there.note}")
    return [*map(_given_sides, given), *(_data_set(data) for data in there.have)]


def _given_sides(text: str) -> DataSet:
    """Return the data set of "NAME=TRAIN,TEST"."""
    name, _, sides = text.partition("=")
    train, comma, test = sides.partition(",")
    if not (re.fullmatch(r"[\w.-]+", name) and train and comma and test):
        raise EvaluationError(
            f"--transfer {text}: must be NAME=TRAIN,TEST, a name of letters and digits with two sources of labeled "
            "images; correct it"
        )
    return DataSet(name, train, test)


def _data_set(data: NamedDataSet) -> DataSet:
    return DataSet(data.name, data.train, data.test, data.metric, data)


def _authors_sets(given: Sequence[DataSet], settings: EvaluationSettings) -> tuple[list[DataSet], list[str]]:
    """Return the authors' transfer sets that lie on disk, and notes that name the rest."""
    wanted = [name for name in AUTHORS_TRANSFER if name not in {data.name for data in given}]
    there = available(wanted, settings.data_root, download=settings.download)
    notes = [f"syn2co: {there.note}"] if there.missing else []
    if all(data.name for data in given):
        notes.append("syn2co: no ImageNet-100 given as --train and --test, so its head and robustness are not scored")
    return [_data_set(data) for data in there.have], notes
