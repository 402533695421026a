"""Shapes of the publisher's API, in and out. Amounts in dollars and NTC are decimal text; sizes are bytes."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from billing.api.serializers import NtcField
from marketplace.api.fields import AmountField, NanoUsdField, TextsField
from marketplace.estimates import ExpectedUse
from marketplace.models import HealthKind, ProfileChoice, RuntimeChoice
from marketplace.services.publishing import ReleaseSpec
from marketplace.states import DeploymentState, Desired
from nodes.agent.protocol import Meter
from nodes.models import MOST_REPLICAS, Snapshot
from nodes.states import SnapshotState

_METERS = [meter.value for meter in Meter]
_DEFAULT = ReleaseSpec()
_USE = ExpectedUse()
_BIG = 2**62


class ErrorOut(serializers.Serializer[Any]):
    code = serializers.CharField(help_text="Short and stable, for programs.")
    message = serializers.CharField(help_text="What happened and what to do next.")

    def get_fields(self) -> dict[str, Any]:
        # `fields` is a name of the class itself, so it cannot be declared as the others are.
        return {**super().get_fields(), "fields": serializers.DictField(child=serializers.CharField())}


class AppIn(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=80)
    slug = serializers.CharField(
        max_length=40, required=False, allow_blank=True, default="", help_text="First part of the host name."
    )


class AppOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    slug = serializers.CharField()
    created_at = serializers.DateTimeField()


class DomainIn(serializers.Serializer[Any]):
    host = serializers.CharField(max_length=253)


class DomainOut(serializers.Serializer[Any]):
    host = serializers.CharField()
    record_name = serializers.CharField(help_text="Where the TXT record goes.")
    record_text = serializers.CharField(help_text="What it says.")
    proven_at = serializers.DateTimeField(allow_null=True)
    checked_at = serializers.DateTimeField(allow_null=True)
    message = serializers.CharField(help_text="What the last look found; empty when all is well.")


class ReleaseIn(serializers.Serializer[Any]):
    """`image_reference` by digest, or `archive` in a multipart form beside the same fields (dictionaries as JSON text)."""

    image_reference = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")
    port = serializers.IntegerField(min_value=1, max_value=65535, default=_DEFAULT.port)
    memory_bytes = serializers.IntegerField(min_value=1, max_value=_BIG, default=_DEFAULT.memory_bytes)
    cpu_millis = serializers.IntegerField(
        min_value=1, max_value=2**31 - 1, default=_DEFAULT.cpu_millis, help_text="Thousandths of a core."
    )
    disk_bytes = serializers.IntegerField(min_value=0, max_value=_BIG, default=_DEFAULT.disk_bytes)
    environment = TextsField(required=False, default=dict)
    secrets = TextsField(required=False, default=dict, help_text="Encrypted; never shown again.")
    keep_secrets = serializers.BooleanField(default=False, help_text="Take over the last release's secrets.")
    health_kind = serializers.ChoiceField(choices=HealthKind.choices, default=HealthKind.TCP)
    health_path = serializers.CharField(max_length=200, default="/")
    ready_path = serializers.CharField(
        max_length=200,
        required=False,
        allow_blank=True,
        default="",
        help_text="While GET of it does not answer 200–399, the app gets no requests, but is not restarted.",
    )
    health_interval_seconds = serializers.IntegerField(min_value=1, max_value=300, default=5)
    health_timeout_seconds = serializers.IntegerField(min_value=1, max_value=60, default=2)
    health_start_seconds = serializers.IntegerField(min_value=1, max_value=600, default=60)
    volume_path = serializers.CharField(max_length=200, required=False, allow_blank=True, default="")
    profile = serializers.ChoiceField(choices=ProfileChoice.choices, default=ProfileChoice.BASELINE)
    outbound = serializers.BooleanField(default=False)
    encrypted = serializers.BooleanField(
        default=False, help_text="Only on devices that keep its data encrypted on their disk."
    )
    runtime = serializers.ChoiceField(choices=RuntimeChoice.choices, default=RuntimeChoice.RUNC)

    def spec(self) -> ReleaseSpec:
        """Return what was sent in the service's words."""
        return ReleaseSpec(**{name: value for name, value in self.validated_data.items() if name != "archive"})


class ReleaseUploadIn(ReleaseIn):
    archive = serializers.FileField(required=False, help_text="What `docker save` makes; .tar or .tar.gz.")


class ReleaseOut(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    image_reference = serializers.CharField()
    archive_sha256 = serializers.CharField()
    image_id = serializers.CharField()
    port = serializers.IntegerField()
    memory_bytes = serializers.IntegerField()
    cpu_millis = serializers.IntegerField()
    disk_bytes = serializers.IntegerField()
    environment = serializers.DictField(child=serializers.CharField())
    secret_names = serializers.ListField(child=serializers.CharField())
    health_kind = serializers.ChoiceField(choices=HealthKind.choices)
    health_path = serializers.CharField()
    ready_path = serializers.CharField(allow_blank=True)
    health_interval_seconds = serializers.IntegerField()
    health_timeout_seconds = serializers.IntegerField()
    health_start_seconds = serializers.IntegerField()
    volume_path = serializers.CharField()
    profile = serializers.ChoiceField(choices=ProfileChoice.choices)
    outbound = serializers.BooleanField()
    encrypted = serializers.BooleanField()
    runtime = serializers.ChoiceField(choices=RuntimeChoice.choices)
    created_at = serializers.DateTimeField()


class ExpectedUseIn(serializers.Serializer[Any]):
    cpu_seconds_per_hour = AmountField(default=_USE.cpu_seconds_per_hour)
    transfer_gb_per_hour = AmountField(default=_USE.transfer_gb_per_hour)
    stored_gb = AmountField(default=_USE.stored_gb)
    monthly_active_users = serializers.IntegerField(min_value=0, max_value=10**9, default=0)
    replicas = serializers.IntegerField(
        min_value=1,
        max_value=MOST_REPLICAS,
        default=1,
        help_text="Each runs on a device of its own and uses what is expected; active users are those of the app.",
    )

    def use(self) -> ExpectedUse:
        """Return what was sent as the estimate takes it."""
        return ExpectedUse(**{name: self.validated_data[name] for name in ExpectedUse.__dataclass_fields__})


class DeployIn(ExpectedUseIn):
    release = serializers.IntegerField(
        required=False, min_value=1, max_value=2**31 - 1, help_text="Its number; the newest when left out."
    )
    standby = serializers.BooleanField(default=False, help_text="One more device keeps the app ready to start.")


class ScaleIn(serializers.Serializer[Any]):
    replicas = serializers.IntegerField(min_value=1, max_value=MOST_REPLICAS)
    standby = serializers.BooleanField(default=False, help_text="One more device keeps the app ready to start.")


class RedeployIn(serializers.Serializer[Any]):
    release = serializers.IntegerField(required=False, min_value=1, max_value=2**31 - 1)


class SpansOut(serializers.Serializer[Any]):
    hour = NanoUsdField()
    day = NanoUsdField()
    month = NanoUsdField(help_text="30 days.")


class NtcSpansOut(serializers.Serializer[Any]):
    hour = NtcField()
    day = NtcField()
    month = NtcField()


class MeterEstimateOut(SpansOut):
    meter = serializers.ChoiceField(choices=_METERS)


class EstimateOut(serializers.Serializer[Any]):
    """Dollars, and NTC at the rate in force (null while there is none). The publisher pays `total`."""

    meters = MeterEstimateOut(many=True, source="rows")
    owner = SpansOut()
    commission = SpansOut()
    total = SpansOut()
    total_ntc = NtcSpansOut(source="total_units", allow_null=True)
    cpu_second = NanoUsdField(
        source="result.cpu_second_nano_usd", help_text="What one second of one core costs, commission included."
    )
    instructions_per_second = serializers.IntegerField(source="result.instructions_per_second")
    available_ntc = NtcField(source="available_units")
    covered = serializers.BooleanField(help_text="Whether the balance covers the first hour.")


class EventOut(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    kind = serializers.CharField()
    message = serializers.CharField()


class DeploymentOut(serializers.Serializer[Any]):
    id = serializers.UUIDField(source="deployment.pk")
    state = serializers.ChoiceField(choices=DeploymentState.choices, source="deployment.state")
    desired = serializers.ChoiceField(choices=Desired.choices, source="deployment.desired")
    state_changed_at = serializers.DateTimeField(source="deployment.state_changed_at")
    reason = serializers.CharField(source="deployment.reason")
    message = serializers.CharField(source="deployment.message")
    log_tail = serializers.CharField(source="deployment.log_tail")
    url = serializers.CharField(help_text="Where it answers; empty while it does not.")
    release = serializers.IntegerField(source="deployment.release.number")
    rolling = serializers.BooleanField(source="deployment.rolling", help_text="The release is taking over.")
    rollback_message = serializers.CharField(
        source="deployment.rollback_message", help_text="Why the last release was taken back; empty: it was not."
    )
    price_list = serializers.IntegerField(source="deployment.price_list.version")
    replicas = serializers.IntegerField(source="deployment.replicas")
    standby = serializers.BooleanField(source="deployment.standby")
    device = serializers.CharField(source="lease.device_name", default="", help_text="Of the replica that is best off.")
    lease_id = serializers.UUIDField(source="deployment.lease_id", allow_null=True)
    grace_ends_at = serializers.DateTimeField(source="deployment.grace_ends_at", allow_null=True)
    wipe_receipts = serializers.ListField(child=serializers.CharField(), source="deployment.wipe_receipts")
    created_at = serializers.DateTimeField(source="deployment.created_at")
    deleted_at = serializers.DateTimeField(source="deployment.deleted_at", allow_null=True)


class MeterCostOut(serializers.Serializer[Any]):
    meter = serializers.ChoiceField(choices=_METERS)
    quantity = serializers.IntegerField(help_text="In base units: bytes, byte-seconds, instructions, ms, users.")
    usd = NanoUsdField(source="nano_usd")


class UsageOut(serializers.Serializer[Any]):
    """Everything the deployment has used and cost. Burn includes the commission."""

    meters = MeterCostOut(many=True, source="costs.meters")
    usd = NanoUsdField(source="costs.nano_usd", help_text="Without the commission.")
    owner_ntc = NtcField(source="costs.owner_units")
    commission_ntc = NtcField(source="costs.commission_units")
    total_ntc = NtcField(source="costs.units")
    burn_usd_per_hour = NanoUsdField(source="burn_nano_usd")
    burn_is_measured = serializers.BooleanField()
    available_ntc = NtcField(source="available_units")
    seconds_left = serializers.IntegerField(allow_null=True)


class PriceOut(serializers.Serializer[Any]):
    meter = serializers.ChoiceField(choices=_METERS)
    usd = serializers.DecimalField(max_digits=15, decimal_places=9)
    unit = serializers.CharField()


class PriceListOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    region = serializers.CharField()
    name = serializers.CharField()
    version = serializers.IntegerField()
    effective_at = serializers.DateTimeField()
    notice_days = serializers.IntegerField()
    prices = PriceOut(many=True)


class SnapshotOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    state = serializers.ChoiceField(choices=SnapshotState.choices)
    cause = serializers.ChoiceField(choices=Snapshot.Cause.choices)
    wanted_at = serializers.DateTimeField()
    taken_at = serializers.DateTimeField(allow_null=True, help_text="How old the data in it is.")
    volume_bytes = serializers.IntegerField(help_text="All of the data.")
    added_bytes = serializers.IntegerField(help_text="What the snapshot before did not have.")
    message = serializers.CharField(help_text="Why it was not taken; empty when all is well.")


class SnapshotsOut(serializers.Serializer[Any]):
    every_seconds = serializers.IntegerField(source="repository.every_seconds", help_text="0: only when asked for.")
    bytes = serializers.IntegerField(source="repository.bytes", help_text="What all of them hold together.")
    limit_bytes = serializers.IntegerField(source="repository.limit_bytes")
    keeps = serializers.CharField(help_text="Which are kept, in restic's words.")
    snapshots = SnapshotOut(many=True, help_text="The last fifty, newest first.")


class SnapshotScheduleIn(serializers.Serializer[Any]):
    every_seconds = serializers.IntegerField(
        min_value=0, max_value=_BIG, help_text="From five minutes to thirty days; 0: only when asked for."
    )


class SnapshotKeyOut(serializers.Serializer[Any]):
    password = serializers.CharField(help_text="Of the app's restic repository; keep it where the data is not.")
