"""A user's own generator: what it raises while it is opened is one sentence."""

from pathlib import Path

import pytest

from syn2co.core.errors import ConfigError, DataError
from syn2co.synthesis.generators.user_function import load_function
from syn2co.synthesis.sets.spec import Context

FILE = """
from syn2co.core.errors import DataError
from syn2co.synthesis import Settings

class Options(Settings):
    x: int = 1

def raises(options, context):
    raise RuntimeError("no such\\nweights")

def exits(options, context):
    raise SystemExit("bye")

def ours(options, context):
    raise DataError("images: are too few; add some")

def nothing(options, context):
    pass
"""


@pytest.mark.parametrize(
    ("function", "kind", "sentence"),
    [
        (
            "raises",
            ConfigError,
            r"generator = own.py:raises: it cannot be opened \(RuntimeError: no such weights\); fix",
        ),
        ("exits", ConfigError, r"generator = own.py:exits: it cannot be opened \(SystemExit: bye\); fix it"),
        ("ours", DataError, "images: are too few; add some"),
        ("nothing", ConfigError, "gives a NoneType and no syn2co.synthesis.Generator; return one"),
    ],
)
def test_a_generator_that_cannot_be_opened_is_one_sentence(
    function: str, kind: type[Exception], sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(FILE)
    spec = load_function(str(tmp_path / "own.py"), function)
    with pytest.raises(kind, match=sentence) as caught:
        spec.open(spec.options(), Context(size=16))
    assert "\n" not in str(caught.value)
