"""Launchers' variables count together or not at all, and one module reads them."""

import re
from itertools import combinations
from pathlib import Path

import pytest

import syn2co
from syn2co.core.errors import ConfigError
from syn2co.core.launcher import Launcher, launcher

WHOLE = {"RANK": "3", "WORLD_SIZE": "8", "MASTER_ADDR": "node-1", "MASTER_PORT": "29500"}
NODE = {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RESTART_COUNT": "4", "TORCHELASTIC_RUN_ID": "none"}


def test_a_complete_set_by_hand() -> None:
    assert launcher(WHOLE) == Launcher(rank=3, size=8, address=("node-1", 29500))
    whole = Launcher(3, 8, local_rank=1, local_size=2, torchrun=True, address=("node-1", 29500))
    assert launcher(WHOLE | NODE) == whole


def test_left_overs_are_none() -> None:
    for kept in range(len(WHOLE)):
        for names in combinations(WHOLE, kept):
            assert launcher({name: WHOLE[name] for name in names} | NODE) == Launcher()


@pytest.mark.parametrize("variable, value, sentence", [
    ("RANK", "one", "RANK = one: must be a whole number"),
    ("WORLD_SIZE", "-2", "WORLD_SIZE = -2: must be a whole number"),
    ("RANK", "8", "RANK = 8: must be below WORLD_SIZE = 8"),
    ("LOCAL_RANK", "", "LOCAL_RANK = : must be a whole number"),
])  # fmt: skip
def test_variables_that_cannot_be(variable: str, value: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"^{sentence}; start with torchrun"):
        launcher(WHOLE | NODE | {variable: value})


def test_no_other_module_reads_them() -> None:
    """`sharding` alone, which takes its two from whoever has set them, and needs both."""
    named = re.compile(r"\b(RANK|WORLD_SIZE|LOCAL_RANK|LOCAL_WORLD_SIZE|MASTER_ADDR|TORCHELASTIC_\w+)\b[\"']")
    sources = Path(syn2co.__file__).parent.rglob("*.py")
    assert {path.name for path in sources if named.search(path.read_text())} == {"launcher.py", "sharding.py"}
