"""A verdict with its numbers and its advice, and all verdicts on one run."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["good", "note", "problem"]
MARKS = {"good": "ok", "note": "--", "problem": "!!"}


@dataclass(frozen=True)
class Finding:
    """One verdict, such as "flat": why, the numbers behind it, and what to do (each naming a setting and a value)."""

    verdict: str
    level: Level
    reason: str
    evidence: Mapping[str, float]
    advice: tuple[str, ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """All findings on a run; `text` for people, `to_json` for programs."""

    run: str
    summary: str
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether the run is seen to learn and nothing is a problem; a run too short to tell is not healthy yet."""
        return any(f.verdict == "healthy" for f in self.findings) and not self._of_level("problem")

    @property
    def verdicts(self) -> tuple[str, ...]:
        """The verdict words in the order of the findings."""
        return tuple(finding.verdict for finding in self.findings)

    @property
    def headline(self) -> str:
        """The problems, or else what is good, and the notes: "flat, starved" or "healthy (unfinished)"."""
        main = self._of_level("problem") or self._of_level("good")
        notes = ", ".join(self._of_level("note"))
        if not main:
            return notes
        return ", ".join(main) + (f" ({notes})" if notes else "")

    def text(self) -> str:
        """Return lines for the terminal: the headline, then each finding with its reason and what to do."""
        lines = [f"{self.run}: {self.headline}", f"   {self.summary}"]
        for finding in self.findings:
            lines.append(f"{MARKS[finding.level]} {finding.verdict}: {finding.reason}")
            lines += [f"   -> {advice}" for advice in finding.advice]
        return "\n".join(lines)

    def to_json(self) -> str:
        """Return everything as an indented JSON object."""
        body: dict[str, Any] = {
            "run": self.run,
            "healthy": self.healthy,
            "headline": self.headline,
            "summary": self.summary,
            "findings": [asdict(finding) for finding in self.findings],
        }
        return json.dumps(body, indent=2)

    def _of_level(self, level: Level) -> list[str]:
        return list(dict.fromkeys(finding.verdict for finding in self.findings if finding.level == level))
