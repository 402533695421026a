"""Devices that owners lend, and the one-use tokens that enrol them."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from nodes import reliability
from nodes.agent import protocol
from nodes.agent.protocol import ENCRYPTION_CHECK, Mode
from nodes.regions import Region
from nodes.states import DeviceState


class Device(models.Model):
    """One computer of an owner. The columns `reserved_*` are the sum of its leases, kept under this row's lock."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="devices")
    name = models.CharField(max_length=60)
    region = models.CharField(max_length=16, choices=Region.choices)
    state = models.CharField(max_length=10, choices=DeviceState.choices, default=DeviceState.PENDING)
    public_key = models.CharField(
        max_length=43, blank=True, help_text="Ed25519 JWK x, base64url; empty until enrolled."
    )
    agent_version = models.CharField(max_length=40, blank=True)
    endpoint_host = models.CharField(max_length=255, blank=True, help_text="Where the gateway reaches it.")
    capacity = models.JSONField(default=dict, blank=True, help_text="protocol.Capacity as enrolled.")
    has_gvisor = models.BooleanField(default=False, help_text="Its newest examination ran a container under gVisor.")
    benchmark = models.JSONField(default=dict, blank=True, help_text="protocol.Benchmark as enrolled.")
    cpu_millis = models.BigIntegerField(default=0)
    memory_bytes = models.BigIntegerField(default=0)
    disk_bytes = models.BigIntegerField(default=0)
    reserved_cpu_millis = models.BigIntegerField(default=0)
    reserved_memory_bytes = models.BigIntegerField(default=0)
    reserved_disk_bytes = models.BigIntegerField(default=0)
    limits = models.JSONField(default=dict, blank=True, help_text="protocol.Limits the owner set on the device's page.")
    local_limits = models.JSONField(default=dict, blank=True, help_text="protocol.Limits of the device's own file.")
    local_mode = models.CharField(
        max_length=10, default=Mode.OPEN.value, help_text="protocol.Mode as the device has it."
    )
    local_reason = models.CharField(max_length=200, blank=True)
    transfer_month = models.CharField(max_length=7, blank=True, help_text="2026-11, where the owner is.")
    transfer_bytes = models.BigIntegerField(default=0, help_text="Of that month; kept while there is a limit.")
    checks = models.JSONField(default=list, blank=True, help_text="Newest protocol.Check of each name.")
    checked_at = models.DateTimeField(null=True, blank=True)
    goodbye = models.CharField(
        max_length=10, blank=True, help_text="protocol.Goodbye it left with; empty once it is back."
    )
    previous_key = models.CharField(
        max_length=43, blank=True, help_text="Its key before; good until previous_key_until."
    )
    previous_key_until = models.DateTimeField(null=True, blank=True)
    new_key_wanted = models.BooleanField(default=False, help_text="The owner asked for a fresh key.")
    can_update = models.BooleanField(default=False, help_text="The agent can replace itself.")
    update_failure = models.CharField(max_length=200, blank=True, help_text="Which version did not come up there.")
    reliability = models.PositiveSmallIntegerField(
        default=reliability.NEWCOMER, help_text="In thousandths, from what was seen of it (nodes/reliability.py)."
    )
    directory_port = models.PositiveIntegerField(default=0, help_text="Where it serves the directory; 0: nowhere.")
    directory_answers = models.BooleanField(default=False, help_text="It did when it was asked last.")
    directory_probed_at = models.DateTimeField(null=True, blank=True)
    tunnelled = models.BooleanField(default=False, help_text="Clients come to it through tunnels it opens.")
    can_tunnel = models.BooleanField(default=False, help_text="It has an ssh client.")
    reached_at = models.DateTimeField(null=True, blank=True, help_text="When the portal first reached an app on it.")
    twin_seen_at = models.DateTimeField(
        null=True, blank=True, help_text="When two agents with its key were last here at once."
    )
    created_at = models.DateTimeField()
    enrolled_at = models.DateTimeField(null=True, blank=True)
    last_seen_at = models.DateTimeField(null=True, blank=True, help_text="Saved now and then; Redis is fresher.")

    class Meta:
        ordering = ("created_at", "id")
        indexes = (models.Index(fields=["state", "memory_bytes"], name="device_candidates"),)
        constraints = (
            models.CheckConstraint(condition=Q(state__in=DeviceState.values), name="device_state_known"),
            models.UniqueConstraint(fields=["public_key"], condition=~Q(public_key=""), name="device_key_once"),
            models.CheckConstraint(
                condition=Q(state__in=[DeviceState.PENDING, DeviceState.REVOKED]) | ~Q(public_key=""),
                name="device_enrolled_has_key",
            ),
            models.CheckConstraint(
                condition=Q(reserved_cpu_millis__gte=0, reserved_cpu_millis__lte=F("cpu_millis")),
                name="device_cpu_not_over_committed",
            ),
            models.CheckConstraint(
                condition=Q(reserved_memory_bytes__gte=0, reserved_memory_bytes__lte=F("memory_bytes")),
                name="device_memory_not_over_committed",
            ),
            models.CheckConstraint(
                condition=Q(reserved_disk_bytes__gte=0, reserved_disk_bytes__lte=F("disk_bytes")),
                name="device_disk_not_over_committed",
            ),
            models.CheckConstraint(
                condition=Q(local_mode__in=[mode.value for mode in Mode]), name="device_local_mode_known"
            ),
            models.CheckConstraint(condition=Q(transfer_bytes__gte=0), name="device_transfer_not_negative"),
            models.CheckConstraint(condition=Q(reliability__lte=1000), name="device_reliability_in_thousandths"),
            models.CheckConstraint(
                condition=Q(previous_key="") | Q(previous_key_until__isnull=False), name="device_previous_key_ends"
            ),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def is_authenticated(self) -> bool:
        """A device that got through the API's authentication is a caller like any other (REST framework asks)."""
        return True

    @property
    def cpu_cores(self) -> str:
        return f"{self.cpu_millis / 1000:g}"

    @property
    def reserved_cpu_cores(self) -> str:
        return f"{self.reserved_cpu_millis / 1000:g}"

    @property
    def million_instructions_per_second(self) -> int:
        return self.instructions_per_second // 10**6

    @property
    def both_limits(self) -> tuple[protocol.Limits, protocol.Limits]:
        """The owner's limits from the device's page and from its own file; each is asked, so the stricter wins."""
        return protocol.from_json(protocol.Limits, self.limits), protocol.from_json(protocol.Limits, self.local_limits)

    @property
    def instructions_per_second(self) -> int:
        """The rate of one core: as spot checks have proven it, else as measured at enrolment; 0 while not enrolled."""
        return int(self.benchmark.get("proven_rate") or self.benchmark.get("instructions_per_second", 0))

    @property
    def rates(self) -> tuple[tuple[datetime | None, int], ...]:
        """Every rate that was in force, oldest first, with when it was proven; None: from the beginning."""
        changes = self.benchmark.get("rates")
        if not changes:
            return ((None, self.instructions_per_second),)
        return tuple((datetime.fromisoformat(since) if since else None, int(rate)) for since, rate in changes)

    def had(self, amount: str) -> int:
        """Return an amount of protocol.Capacity as the device had it when it enrolled; 0 when it did not say."""
        return int(self.capacity.get(amount, 0))

    @property
    def encrypts_volumes(self) -> bool:
        """Whether it proved, by doing it, that it keeps apps' data encrypted on its disk."""
        return any(check.get("name") == ENCRYPTION_CHECK and check.get("ok") for check in self.checks)


class EnrolmentToken(models.Model):
    """Lets one computer become this device, once. Only the token's hash is kept."""

    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="tokens")
    token_hash = models.CharField(max_length=64, unique=True, help_text="SHA-256, hex.")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return f"for {self.device_id}"


class DeviceKey(models.Model):
    """Every key a device ever signed with, so that old evidence can be checked and no key serves twice."""

    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="keys")
    public_key = models.CharField(max_length=43, unique=True, help_text="Ed25519 JWK x, base64url.")
    statement = models.TextField(
        blank=True, help_text="JWS of the key before that named this one; empty for the first."
    )
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True, help_text="From when on only evidence is checked with it.")

    class Meta:
        ordering = ("began_at", "id")

    def __str__(self) -> str:
        return f"{self.public_key[:8]}… of {self.device_id}"
