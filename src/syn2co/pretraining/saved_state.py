"""State of a run in a checkpoint: what a resume or an extension must find there."""

from typing import Any

from pydantic import BaseModel

from syn2co.core.errors import CheckpointError
from syn2co.core.json_files import JsonError, check_shape
from syn2co.core.settings import Count
from syn2co.runtime.checkpoint import Checkpoint, Step


class _RunState(BaseModel):
    step: Step
    total_steps: Step
    steps_per_epoch: Step
    images: Count
    config_hash: str
    data_fingerprint: str
    averages: dict[str, list[float]]
    machine: dict[str, Any]


def run_state(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the state of a run's checkpoint.

    Raises:
        CheckpointError: if it is the state of something else, such as a flow's training.
    """
    try:
        return check_shape(checkpoint.state, _RunState)
    except JsonError as error:
        raise CheckpointError(
            f"{checkpoint.path.name}: holds no state of a run (it {error}); take it out of this folder"
        ) from None
