"""Errors for the user: one sentence that names the setting or path, the value seen, what is allowed, what to do."""

import re

from syn2co.core.urls import without_shown_secrets

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Syn2CoError(Exception):
    """Something that the user can fix; the command line prints it in one line and exits with 2.

    It is no `ValueError`: code that expects one, of a parser say, must not take this error for it and pass over it.

    Ranks that find the same error say it once; `one_rank` marks what one rank alone has met, so that it speaks.
    """

    one_rank = False

    def __init__(self, *sentences: object) -> None:
        """Keep it in one line, without secrets: names from outside, with a newline or a password say, are in it."""
        super().__init__(*(_shown(part) if isinstance(part, str) else part for part in sentences))


class ConfigError(Syn2CoError):
    """A setting is unknown, out of range, or contradicts another one."""


class DataError(Syn2CoError):
    """An image source is missing, empty, unreadable or too small."""


class FileError(Syn2CoError):
    """A file cannot be written; what was there before is unchanged."""


class CheckpointError(FileError):
    """A checkpoint is missing, damaged, or does not fit the model or the run."""


class EvaluationError(Syn2CoError):
    """A score cannot be given honestly with these data or this encoder."""


class TrainingError(Syn2CoError):
    """Training must stop; the checkpoints saved so far stay."""


class SynthesisError(Syn2CoError):
    """Synthetic images cannot be made, stored or trusted; what was finished stays."""


class StudyError(Syn2CoError):
    """A study cannot be planned, run or read; its finished cells stay."""


def _shown(sentence: str) -> str:
    return _CONTROL.sub(_escaped, without_shown_secrets(sentence))


def _escaped(control: re.Match[str]) -> str:
    return control[0].encode("unicode_escape").decode()
