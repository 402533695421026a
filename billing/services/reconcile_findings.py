"""What one comparison found: facts in words, differences in words, or why it could not be made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from billing.states import ReconcileOutcome

MOST_NAMED = 20


@dataclass
class Check:
    """One comparison. `facts` explain what was compared and what is under way; `differences` name what is wrong."""

    name: str
    facts: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    unread: str = ""

    def differ(self, *words: str) -> None:
        """Note differences; of very many only the first are named."""
        for one in words:
            if len(self.differences) < MOST_NAMED:
                self.differences.append(one)
            elif len(self.differences) == MOST_NAMED:
                self.differences.append("… and more of the same.")

    @property
    def outcome(self) -> ReconcileOutcome:
        if self.differences:
            return ReconcileOutcome.DIFFERENCE
        return ReconcileOutcome.INCOMPLETE if self.unread else ReconcileOutcome.CLEAN

    def as_json(self) -> dict[str, Any]:
        findings = [*self.differences, *([self.unread] if self.unread else [])]
        return {"name": self.name, "outcome": str(self.outcome), "findings": findings, "facts": self.facts}
