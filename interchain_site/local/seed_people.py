"""Who the demo accounts are. No Django: the process manager reads it too."""

from __future__ import annotations

from dataclasses import dataclass

PASSWORDS = {  # known to everybody on purpose; refused outside DEBUG
    "staff": "interchain-staff-demo",
    "publisher": "interchain-publisher-demo",
    "owner": "interchain-owner-demo",
    "buyer": "interchain-buyer-demo",
}


@dataclass(frozen=True)
class DemoPerson:
    """What a person needs to log in, and a tool to call the API."""

    role: str
    email: str
    password: str
    token: str


def email_of(role: str) -> str:
    """Return a demo account's address."""
    return f"{role}@example.com"
