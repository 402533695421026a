"""The three calls every device makes again and again, answered the same way by Django's views and by nodes/frequent_calls.py."""

from __future__ import annotations

from dataclasses import dataclass, field

from nodes import queries
from nodes.agent import protocol
from nodes.errors import Malformed, Unauthenticated
from nodes.models import Device
from nodes.services import identity, leases, liveness, metering, owner_limits, peers, tunnels


@dataclass(frozen=True)
class Answer:
    """What to say over HTTP."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def caller(authorization: str) -> Device:
    """Return the device that signed the JWT in an `Authorization: Bearer` header, which was heard with it.

    Raises:
        Unauthenticated, Replayed, DeviceRevoked, Busy: as identity.authenticate.
    """
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("Send Authorization: Bearer with a JWT signed by the device.")
    device = identity.authenticate(token)
    liveness.mark_online(device)
    return device


def compact_jws(body: bytes) -> str:
    """Raises: Malformed: it cannot be one."""
    try:
        return body.decode("ascii").strip()
    except UnicodeDecodeError:
        raise Malformed("The body is not a compact JWS.") from None


def desired(device: Device, *, known: str) -> Answer:
    """GET → 200 Desired with an ETag, or 304 when the agent has just that (`known`)."""
    tunnels.give_ports(device)
    # The name is taken first: what changes in between is in the body, and the next poll finds another name.
    beside = queries.desired_beside_leases(device)
    etag = queries.desired_etag(device, beside=beside)
    if known == etag:
        return Answer(304, headers={"ETag": etag})
    body = protocol.to_json(queries.desired_of(device, beside=beside))
    return Answer(200, body, {"ETag": etag, "Cache-Control": "no-store", "Content-Type": "application/json"})


def readings(device: Device, body: bytes) -> Answer:
    """POST a JWS over ReadingBatch → 200 Accepted. Raises as metering.ingest."""
    accepted = metering.ingest(device=device, jws=compact_jws(body))
    return Answer(200, protocol.to_json(accepted), {"Content-Type": "application/json"})


def report(device: Device, body: bytes) -> Answer:
    """POST Report → 204.

    Raises:
        Malformed: not the agreed form, or it makes no sense.
    """
    try:
        said = protocol.from_json(protocol.Report, body)
    except protocol.ProtocolError as error:
        raise Malformed(str(error)) from None
    liveness.note_load(device, said)
    owner_limits.hear(device=device, report=said)
    peers.hear(device=device, report=said)
    leases.handle_report(device=device, report=said)
    return Answer(204)
