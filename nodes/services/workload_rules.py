"""What can be a workload at all."""

from __future__ import annotations

import re
from uuid import UUID

from nodes.agent.protocol import Workload
from nodes.errors import Invalid
from nodes.services import candidates

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")


def check_workload(workload: Workload) -> None:
    """Refuse what is no workload.

    Raises:
        Invalid: `fields` says what is wrong.
    """
    fields = {}
    try:
        UUID(workload.id)
    except ValueError:
        fields["id"] = "Not a UUID."
    if not _LABEL.match(workload.name):
        fields["name"] = "Not a label of a host name: a–z, 0–9 and - inside, at most 63."
    if not 1 <= workload.port <= 65535:
        fields["port"] = "Not a port from 1 to 65535."
    for name, least in (("cpu_millis", 1), ("memory_bytes", 1), ("disk_bytes", 0)):
        if not least <= getattr(workload, name) < 2**62:
            fields[name] = "Out of range."
    if not 1 <= len(candidates.image_key(workload)) <= 300:
        fields["image"] = "Neither a reference nor an archive."
    if fields:
        raise Invalid(fields=fields)
