"""What was found, in words, and the program's answer."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field

PROVEN = "PROVEN"
FALSE = "FALSE"
MISSING = "MISSING"  # could be proven, but not from what is here: no node was asked, not settled yet, not deep enough

EXIT_PROVEN, EXIT_FALSE, EXIT_UNREADABLE, EXIT_MISSING = 0, 1, 2, 3


@dataclass
class Report:
    """Findings in order, and what no file can prove (`trusted`)."""

    subject: str
    findings: list[tuple[str, str]] = field(default_factory=list)
    trusted: list[str] = field(default_factory=list)

    def proven(self, words: str) -> None:
        self.findings.append((PROVEN, words))

    def false(self, words: str) -> None:
        self.findings.append((FALSE, words))

    def missing(self, words: str) -> None:
        self.findings.append((MISSING, words))

    def check(self, holds: bool, words: str, otherwise: str) -> bool:
        """Note that something holds, or that it does not; returns which."""
        (self.proven if holds else self.false)(words if holds else otherwise)
        return holds

    @property
    def exit_code(self) -> int:
        kinds = {kind for kind, _ in self.findings}
        if FALSE in kinds:
            return EXIT_FALSE
        return EXIT_MISSING if MISSING in kinds or PROVEN not in kinds else EXIT_PROVEN

    def text(self) -> str:
        """Return everything as lines for a terminal."""
        lines = [plain(self.subject), ""]
        lines += [_paragraph(kind, words) for kind, words in self.findings]
        if self.trusted:
            lines += ["", "What this file cannot prove:"]
            lines += [_paragraph("-", words) for words in self.trusted]
        verdict = {
            EXIT_PROVEN: "Everything that can be proven is proven.",
            EXIT_FALSE: "NOT PROVEN: something in this file is false. Keep the file and ask Interchain about it.",
            EXIT_MISSING: "NOT PROVEN YET: nothing is false, but something could not be checked.",
        }
        return "\n".join([*lines, "", verdict[self.exit_code]])


def ntc(units: int) -> str:
    """Return base units as NTC, all nine decimals."""
    return f"{units // 10**9:,}.{units % 10**9:09d} NTC"


def dollars(nano_usd: int) -> str:
    """Return nano-dollars as dollars, all nine decimals."""
    return f"${nano_usd // 10**9:,}.{nano_usd % 10**9:09d}"


def plain(text: str) -> str:
    """Show control and other invisible characters as `?`: words of a file must not move the cursor or write our lines."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _paragraph(head: str, words: str) -> str:
    return textwrap.fill(plain(words), width=110, initial_indent=f"{head:8} ", subsequent_indent=" " * 9)
