"""What happens to an image that cannot be used: it leaves the set, with its name and a reason in words."""

from typing import NamedTuple

from syn2co.core.errors import DataError


class Quarantined(NamedTuple):
    """An image that was left out, and why."""

    name: str
    reason: str


class BrokenImage(DataError):
    """One image cannot be read; `reason` says why in words."""

    def __init__(self, reason: str, *, name: str = "image") -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple:
        return _rebuild, (self.reason, self.name)


def _rebuild(reason: str, name: str) -> BrokenImage:
    """Make the error again in another process (exceptions with keyword arguments do not pickle by themselves)."""
    return BrokenImage(reason, name=name)
