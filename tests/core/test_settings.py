"""Values that a setting may have by its annotation."""

from collections.abc import Callable
from typing import Annotated, Literal

import pytest

from syn2co.core.errors import ConfigError
from syn2co.core.settings import Settings


def test_true_is_a_value_where_a_setting_may_have_it_and_odd_annotations_are_no_obstacle():
    class Options(Settings):
        edges: int | Literal[False] = False
        squares: tuple[Annotated[int, ["px"]], ...] = (1,)
        weight: int | bool = 1
        measure: Callable[[int], int] | None = None

    changed = Options().with_settings(["weight=true", "edges=false"])
    assert changed.weight is True and changed.edges is False
    assert Options.parse({"measure": abs, "squares": [2]}).squares == (2,)
    with pytest.raises(ConfigError, match=r"^squares = \[true\]: input should be numbers, not true or false$"):
        Options.parse({"squares": [True]})
