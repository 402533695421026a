"""The trust file: the directory's key and whom to ask; and what this program learnt since, kept beside it.

    {"format": "interchain-trust-1", "key": JWK x, "statements": [...], "portal": "https://…", "seeds": ["host:port", …]}

It comes from the portal (`GET /directory/trust.json`) or from anybody you trust. The key in it is all that is believed.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from interchain_connect import records
from interchain_connect.records import BadRecord, Record, Trust

FORMAT = "interchain-trust-1"
LARGEST_FILE = 1024 * 1024
MOST_LEARNT = 64


class Unusable(Exception):
    """The trust file cannot be used; the text says why and what to do."""


class Known:
    """What this program knows: keys, nodes, and the newest record of each name it ever resolved."""

    def __init__(self, document: dict[str, Any], memory: Path | None = None) -> None:
        """Args: memory: a file of this program's own; None keeps nothing.

        Raises:
            Unusable: it is no trust file.
        """
        key, seeds, portal = document.get("key"), document.get("seeds", []), document.get("portal", "")
        statements = document.get("statements", [])
        if document.get("format") != FORMAT or not isinstance(key, str) or not isinstance(seeds, list):
            raise Unusable("This is no trust file. Get one from the portal: /directory/trust.json.")
        if not isinstance(portal, str) or not isinstance(statements, list):
            raise Unusable("The trust file is damaged. Get it again from the portal: /directory/trust.json.")
        self.trust = Trust(key, statements)
        self.seeds = [str(seed) for seed in seeds] + ([portal] if portal else [])
        self.learnt: list[str] = []
        self.newest: dict[str, Record] = {}
        self._memory = memory
        self._remember(key)

    def nodes(self) -> list[str]:
        """Return every node there is to ask."""
        return list(dict.fromkeys([*self.seeds, *self.learnt]))

    def take(self, record: Record) -> bool:
        """Take a checked record if it is newer than what is known of its name; returns whether it was."""
        held = self.newest.get(record.name)
        if held is not None and not records.supersedes(record, held):
            return False
        self.newest[record.name] = record
        self.save()
        return True

    def learn_nodes(self, nodes: tuple[str, ...]) -> None:
        self.learnt = list(dict.fromkeys([*nodes, *self.learnt]))[:MOST_LEARNT]
        self.save()

    def save(self) -> None:
        """Keep what was learnt, so that a later start never goes back and needs no portal. A full disk is no reason to stop."""
        if self._memory is None:
            return
        document = {
            "key": self.trust.first,
            "statements": self.trust.statements,
            "learnt": self.learnt,
            "records": [record.compact for record in self.newest.values()],
        }
        beside = self._memory.with_name(f".{self._memory.name}.{os.getpid()}")
        with suppress(OSError):
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(document))
            beside.replace(self._memory)

    def _remember(self, key: str) -> None:
        """Read the memory; nothing in it is believed that is not signed."""
        if self._memory is None:
            return
        found = _json(self._memory)
        if not isinstance(found, dict) or found.get("key") != key:
            return
        statements, learnt, compacts = (_list(found.get(name)) for name in ("statements", "learnt", "records"))
        self.trust.follow(statements)
        self.learnt = [node for node in learnt if isinstance(node, str)][:MOST_LEARNT]
        now = time.time()
        for compact in compacts:
            with suppress(BadRecord):
                record = records.read(compact, self.trust.keys(now), now)
                self.newest[record.name] = record


def load(path: Path, memory: Path | None = None) -> Known:
    """Return what a trust file says, with what was learnt since.

    Raises:
        Unusable: there is none, or it is damaged.
    """
    found = _json(path)
    if not isinstance(found, dict):
        raise Unusable(f"{path} is missing or damaged. Get it from the portal: /directory/trust.json.")
    return Known(found, memory)


def _json(path: Path) -> Any:
    try:
        if path.stat().st_size > LARGEST_FILE:
            return None
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
