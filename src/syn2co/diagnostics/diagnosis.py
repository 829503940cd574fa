"""All findings on one run."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from syn2co.core.findings import Finding, Level


@dataclass(frozen=True)
class Diagnosis:
    """All findings on a run; `text` for people, `to_json` for programs."""

    run: str
    """The run's folder, as it was given."""
    summary: str
    """How far the run is, in one line."""
    findings: tuple[Finding, ...]
    """One per check, with its reason and what to do."""

    @property
    def healthy(self) -> bool:
        """Whether the run is seen to learn and nothing is a problem; a run too short to tell is not healthy yet."""
        return any(f.check == "healthy" for f in self.findings) and not self._of_level("fail")

    @property
    def checks(self) -> tuple[str, ...]:
        """The names of the findings in the order of the findings."""
        return tuple(finding.check for finding in self.findings)

    @property
    def headline(self) -> str:
        """The problems, or else what is good, and the notes: "flat, starved" or "healthy (unfinished)"."""
        main = self._of_level("fail") or self._of_level("pass")
        notes = ", ".join(self._of_level("info"))
        if not main:
            return notes
        return ", ".join(main) + (f" ({notes})" if notes else "")

    def text(self) -> str:
        """Return lines for the terminal: the headline, then each finding with its reason and what to do."""
        lines = [f"{self.run}: {self.headline}", f"   {self.summary}"]
        lines += [line for finding in self.findings for line in finding.lines()]
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
        return list(dict.fromkeys(finding.check for finding in self.findings if finding.level == level))
