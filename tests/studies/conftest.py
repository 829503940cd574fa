"""A real SLURM of one node for the tests of jobs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm_node
from slurm_node import SlurmUnavailable


@pytest.fixture(scope="module")
def slurm() -> Iterator[Path]:
    try:
        with slurm_node.slurm_node() as folder:
            yield folder
    except SlurmUnavailable as error:
        pytest.skip(str(error))
