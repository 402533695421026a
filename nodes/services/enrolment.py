"""How a computer becomes a device: the owner gets a one-use token, the agent trades it and its key for an identity."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.utils import timezone

from interchain_site.core import audit
from interchain_site.core.models import User
from nodes.agent import limits, protocol
from nodes.errors import Conflict, Invalid, TokenExpired, TokenUnknown, TokenUsed
from nodes.models import Device, EnrolmentToken
from nodes.policies import check_can_manage
from nodes.regions import Region
from nodes.services import device_keys, endpoints, texts
from nodes.services.plausibility import MOST_INSTRUCTIONS_PER_SECOND
from nodes.states import DeviceState, transition_device

TOKEN_LIFETIME = timedelta(hours=24)
TOKEN_PREFIX = "enrol_"  # noqa: S105
MOST_CAPACITY = {"cpu_millis": 1_024_000, "memory_bytes": 2**46, "disk_bytes": 2**52}
"""1,024 cores, 64 TiB and 4 PiB: a claim above is made up, and would lift every later bound on readings."""
MOST_LINK_BYTES_PER_SECOND = 12_500_000_000
"""100 Gbit/s."""


def create_device(*, owner: User, name: str, region: str) -> tuple[Device, str]:
    """Create a device that waits for its computer; returns it and its enrolment token, which is shown once.

    Raises:
        Invalid: the name is empty or the region unknown.
    """
    fields = {}
    name = " ".join(name.split())
    if not 1 <= len(name) <= 60:
        fields["name"] = "Give the device a name of 1 to 60 characters."
    if region not in Region.values:
        fields["region"] = f"Choose one of: {', '.join(Region.values)}."
    if fields:
        raise Invalid(fields=fields)
    with transaction.atomic():
        device = Device.objects.create(owner=owner, name=name, region=region, created_at=timezone.now())
        audit.record("device_created", subject=f"device:{device.pk}", by=owner)
        return device, _make_token(device)


def new_token(*, device: Device, by: User) -> str:
    """Return a fresh enrolment token for a device still waiting; earlier ones stop working.

    Raises:
        NotFound: it is not this person's device.
        Conflict: the device is enrolled already.
    """
    check_can_manage(by, device)
    with transaction.atomic():
        locked = Device.objects.select_for_update().get(pk=device.pk)
        if locked.state != DeviceState.PENDING:
            raise Conflict("This device is already enrolled.")
        locked.tokens.all().delete()
        audit.record("device_token_made", subject=f"device:{device.pk}", by=by)
        return _make_token(locked)


def check_token(token: str) -> EnrolmentToken:
    """Return the unused token.

    Raises:
        TokenUnknown, TokenUsed, TokenExpired: it cannot enrol a device (any more).
    """
    known = EnrolmentToken.objects.select_related("device").filter(token_hash=_hash(token)).first()
    if known is None:
        raise TokenUnknown
    if known.used_at is not None:
        raise TokenUsed
    if known.expires_at <= timezone.now() or known.device.state == DeviceState.REVOKED:
        raise TokenExpired
    return known


@transaction.atomic
def enrol(*, enrolment: protocol.Enrolment, seen_address: str) -> Device:
    """Trade a token for an identity. Sending the same again with the same key returns the same device.

    Raises:
        TokenUnknown, TokenUsed, TokenExpired: the token.
        Invalid: the key, the capacity, the benchmark or the host.
        Conflict: another device has this key.
    """
    # Locking the token's row makes two computers with one token take turns.
    known = EnrolmentToken.objects.select_for_update().filter(token_hash=_hash(enrolment.token)).first()
    if known is not None and known.used_at is not None and known.device.public_key == enrolment.public_key:
        return known.device
    device = check_token(enrolment.token).device
    _check(enrolment)
    now = timezone.now()
    host = endpoints.check_host(enrolment.endpoint_host, seen_address=seen_address)
    EnrolmentToken.objects.filter(token_hash=_hash(enrolment.token)).update(used_at=now)
    try:
        with transaction.atomic():
            transition_device(
                device,
                DeviceState.ONLINE,
                public_key=enrolment.public_key,
                agent_version=texts.clean(enrolment.agent_version, 40),
                endpoint_host=host,
                tunnelled=enrolment.tunnel,
                capacity=_as_json(enrolment.capacity),
                has_gvisor=protocol.Runtime.GVISOR.value in enrolment.capacity.runtimes,
                benchmark=_as_json(enrolment.benchmark),
                local_limits=json.loads(protocol.to_json(enrolment.limits)),
                cpu_millis=enrolment.capacity.cpu_millis,
                memory_bytes=enrolment.capacity.memory_bytes,
                disk_bytes=enrolment.capacity.disk_bytes,
                enrolled_at=now,
                last_seen_at=now,
            )
            device_keys.note_first(device, now=now)
    except IntegrityError:
        raise Conflict("This key belongs to another device. Remove the agent's key file and enrol again.") from None
    audit.record("device_enrolled", subject=f"device:{device.pk}", actor=f"device:{device.pk}", endpoint_host=host)
    return device


def _check(enrolment: protocol.Enrolment) -> None:
    fields = {}
    if not device_keys.is_key(enrolment.public_key):
        fields["public_key"] = "Not an Ed25519 public key (JWK x, base64url, 32 bytes)."
    capacity, benchmark = enrolment.capacity, enrolment.benchmark
    for name in ("cpu_millis", "memory_bytes", "disk_bytes"):
        if not 0 < getattr(capacity, name) <= MOST_CAPACITY[name]:
            fields[f"capacity.{name}"] = "Must be more than nothing, and no more than one computer has."
    if not 0 <= capacity.link_bytes_per_second <= MOST_LINK_BYTES_PER_SECOND:
        fields["capacity.link_bytes_per_second"] = "Not what a network interface is rated for."
    if not 0 < benchmark.instructions_per_second <= MOST_INSTRUCTIONS_PER_SECOND:
        fields["benchmark.instructions_per_second"] = "Not a rate a processor core can have. Run the benchmark again."
    if limits.faults(enrolment.limits):
        fields["limits"] = " ".join(limits.faults(enrolment.limits).values())
    if len(capacity.runtimes) > 20 or len(capacity.profiles) > 20:
        fields["capacity"] = "Too many entries."
    if fields:
        raise Invalid(fields=fields)


def _as_json(message: protocol.Capacity | protocol.Benchmark) -> dict[str, object]:
    document = dataclasses.asdict(message)
    cleaned = {
        name: texts.clean(value, 40)
        if isinstance(value, str)
        else [texts.clean(item, 40) for item in value]
        if isinstance(value, tuple)
        else value
        for name, value in document.items()
    }
    return dict(json.loads(json.dumps(cleaned)))


def _make_token(device: Device) -> str:
    # The prefix keeps a shell, or an option parser, from taking a token that begins with "-" for an option.
    token, now = TOKEN_PREFIX + secrets.token_urlsafe(32), timezone.now()
    EnrolmentToken.objects.create(
        device=device, token_hash=_hash(token), created_at=now, expires_at=now + TOKEN_LIFETIME
    )
    return token


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
