"""Findings: what was checked, how it stands, why, and what to do. Audits and the doctor speak in them alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["pass", "info", "warn", "fail"]
LEVELS: tuple[Level, ...] = ("pass", "info", "warn", "fail")


@dataclass(frozen=True)
class Finding:
    """Outcome of one check: "pass", "info" (good to know), "warn" (decide for yourself) or "fail" (fix it first)."""

    check: str
    level: Level
    reason: str
    evidence: Mapping[str, float] = field(default_factory=dict)
    """The numbers behind the reason, by name."""
    advice: tuple[str, ...] = ()
    """Advice, one sentence each."""

    def lines(self) -> list[str]:
        """Return the finding as lines for the terminal.

        Example:
            >>> print(*Finding("leaks", "fail", "2 images", advice=("remove them",)).lines(), sep="\\n")
            FAIL leaks: 2 images
                 -> remove them
        """
        return [
            f"{self.level.upper():<4} {self.check}: {self.reason}",
            *(f"     -> {advice}" for advice in self.advice),
        ]
