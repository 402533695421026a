"""What a failing disk, a bad line or a liar makes of a signed batch."""

from __future__ import annotations

import base64
import dataclasses
import re
from contextlib import suppress

from nodes.agent import protocol
from nodes.agent.outbox import _payload
from nodes.agent.protocol import ReadingBatch


def doubled(batch: ReadingBatch) -> tuple[protocol.Reading, ...]:
    return tuple(dataclasses.replace(reading, total=2 * reading.total + 1000) for reading in batch.readings)


def flipped(text: str, bit: int) -> str:
    """Return the text with one of its bits another."""
    data = bytearray(text.encode())
    data[bit // 7 % len(data)] ^= 1 << bit % 7
    return data.decode()


def higher_totals(jws: str) -> list[str]:
    """Return what a batch can become by one flipped bit with which it is read, and a total is higher.

    There may be nothing of the kind, for instance when it was damaged before: then it has any bit flipped.
    """
    try:
        head, payload, signature = jws.split(".")
        said = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        totals = [reading.total for reading in _payload(jws).readings]
    except (ValueError, protocol.ProtocolError):
        return [flipped(jws, len(jws) * 7 // 2)]
    digits = [
        at
        for found in re.finditer(rb'"total": ?(\d)', said)
        for at in (found.start(1) * 4 // 3, found.start(1) * 4 // 3 + 1)
    ]
    candidates = []
    for at in digits:
        for bit in range(7):
            other = f"{payload[:at]}{chr(ord(payload[at]) ^ 1 << bit)}{payload[at + 1 :]}"
            with suppress(ValueError, protocol.ProtocolError):
                read = [reading.total for reading in _payload(f"{head}.{other}.{signature}").readings]
                if read != totals and all(now >= was for now, was in zip(read, totals, strict=True)):
                    candidates.append(f"{head}.{other}.{signature}")
    return candidates or [flipped(jws, len(head) * 7 + 7)]
