"""Studies by name, or from a Python file of the user's."""

import runpy
from importlib import import_module
from pathlib import Path

from pydantic import ValidationError

from syn2co.core.errors import StudyError, Syn2CoError
from syn2co.core.hints import nearest
from syn2co.core.paths import is_file, user_path
from syn2co.core.settings import setting_names
from syn2co.studies.grid import Contrast, Level, Study

SHIPPED = ("small", "enough", "ratio", "negatives", "views", "paper")


def load_study(name: str | Path | Study) -> Study:
    """Return a shipped study, or the one that a Python file calls `study`.

    Args:
        name: one of `SHIPPED`, the path of a file such as my_study.py, or a study, which is returned as it is.

    Raises:
        StudyError: if there is no such study, or the file cannot be run or defines none.

    Example:
        >>> load_study("negatives").seeds
        5
    """
    if isinstance(name, Study):
        return name
    if str(name) in SHIPPED:
        return import_module(f"syn2co.studies.shipped.{name}").study
    if not str(name).endswith(".py"):
        hint = nearest(str(name), SHIPPED) or f"; shipped are {', '.join(SHIPPED)}, and a file of yours is NAME.py"
        raise StudyError(f"{name}: there is no study of this name{hint}")
    path = user_path(name)
    if not is_file(path):
        raise StudyError(f"{path.name}: there is no such file; correct the path of the study")
    try:
        study = runpy.run_path(str(path)).get("study")
    except ValidationError as error:
        raise StudyError(f"{path.name}: {_sentence(error)}") from None
    except Syn2CoError as error:
        raise StudyError(f"{path.name}: {error}") from None
    except (Exception, SystemExit) as error:  # whatever a file of the user's raises
        raise StudyError(f"{path.name}: cannot be run ({type(error).__name__}: {error}); correct it") from error
    if not isinstance(study, Study):
        raise StudyError(f"{path.name}: defines no `study = Study(...)`; see syn2co/studies/shipped for examples")
    return study


def _sentence(error: ValidationError) -> str:
    """Return the first complaint on a `Study`, `Level` or `Contrast` in one sentence."""
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        known = {kind.__name__: setting_names(kind) for kind in (Study, Level, Contrast)}
        return f"{name}: there is no such field of {error.title}{nearest(name, known.get(error.title, ()))}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{name} of {error.title}: {message}" if name else message
