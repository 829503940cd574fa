"""Writing the recipe and the list of skipped images of a data set folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from syn2co.core.files import write_whole
from syn2co.synthesis.generation.locks import lock
from syn2co.synthesis.sets.dataset_folder import (
    CARD,
    RECIPE,
    SHEET,
    SKIPPED,
    check_metadata,
    check_recipe,
    read_recipe,
    read_skipped,
    recipe_of,
)
from syn2co.synthesis.sets.job import Job
from syn2co.synthesis.sets.manifest import seal
from syn2co.synthesis.sets.plan import Plan
from syn2co.synthesis.sets.settings import SET


def save_recipe(folder: Path, plan: Plan, metadata: dict[str, Any]) -> None:
    """Write recipe.json unless it says the same already; the facts of the beginning stay."""
    with lock(folder, "recipe"):
        saved = read_recipe(folder)
        check_recipe(folder, saved, plan)
        check_metadata(folder, saved, metadata)
        recipe = recipe_of(plan, metadata if saved is None else saved[SET]["facts"])
        if recipe != saved:
            write_whole(folder / RECIPE, json.dumps(recipe, indent=2) + "\n", alone=True)


def grow_recipe(folder: Path, plan: Plan) -> None:
    """Save the larger count of a plan of whose images this call makes none; the card and the sheet are outdated then.

    Raises:
        ConfigError: if the folder holds another set meanwhile.
        OSError: if something cannot be written.
    """
    saved = read_recipe(folder)
    if saved is not None and saved[SET]["count"] < len(plan):
        save_recipe(folder, plan, saved[SET]["facts"])
        for name in (CARD, SHEET):
            (folder / name).unlink(missing_ok=True)


def record_skipped(folder: Path, plan: Plan, number: int, reasons: Sequence[tuple[int, Job, str]]) -> None:
    """Set what is skipped of one shard; the file is sorted by place and goes when it is empty."""
    with lock(folder, "skipped"):
        before = read_skipped(folder)
        after = {index: line for index, line in before.items() if index // plan.shard_size != number}
        for index, job, reason in reasons:
            line = {"index": index, "id": job.id, "subject": job.subject, "k": job.k, "reason": reason}
            after[index] = json.loads(seal(line))
        if after == before:
            return
        text = "".join(json.dumps(after[index], sort_keys=True) + "\n" for index in sorted(after))
        if text:
            write_whole(folder / SKIPPED, text, alone=True)
        else:
            (folder / SKIPPED).unlink()
