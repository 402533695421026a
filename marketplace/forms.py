"""The publisher's forms. They only read what was typed; services say what is acceptable."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django import forms

from marketplace.estimates import ExpectedUse
from marketplace.models import App, HealthKind, ProfileChoice, Release, RuntimeChoice
from marketplace.services.publishing import ReleaseSpec
from nodes.models import MOST_REPLICAS

MB = 10**6
_FIELD_OF = {"memory_bytes": "memory_mb", "disk_bytes": "disk_mb", "cpu_millis": "cpu_cores"}


class DomainForm(forms.Form):
    """A form that can show a service's refusal beside its fields."""

    def refuse(self, message: str, fields: Mapping[str, str]) -> None:
        """Put a `DomainError` on the form: beside the fields it names, else on top."""
        for name, text in fields.items():
            field = _FIELD_OF.get(name, name)
            self.add_error(field if field in self.fields else None, text)
        if not fields:
            self.add_error(None, message)


class AppForm(DomainForm):
    name = forms.CharField(max_length=80, help_text="What you call it.")
    slug = forms.CharField(
        max_length=40,
        required=False,
        label="Address",
        help_text="The first part of its host name; made from the name when left empty. It cannot be changed later.",
    )


def _variables(text: str) -> dict[str, str]:
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise forms.ValidationError(f"Line {number} is not NAME=value.")
        found[name.strip()] = value
    return found


class VariablesField(forms.CharField):
    """`NAME=value`, one a line; returns a dict."""

    widget = forms.Textarea(attrs={"rows": 4, "spellcheck": "false", "autocomplete": "off", "class": "mono"})

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, strip=False, **kwargs)

    def clean(self, value: Any) -> Any:
        return _variables(super().clean(value) or "")


class ReleaseForm(DomainForm):
    image_reference = forms.CharField(
        required=False,
        max_length=300,
        label="Image by digest",
        help_text="For example registry.example/team/app@sha256:… The image must be public.",
    )
    archive = forms.FileField(
        required=False,
        label="Or upload an image",
        help_text="The file that “docker save app > app.tar” makes; .tar or .tar.gz.",
    )
    port = forms.IntegerField(min_value=1, max_value=65535, initial=8080, help_text="The one port your app listens on.")
    memory_mb = forms.IntegerField(min_value=1, initial=256, label="Memory, MB")
    cpu_cores = forms.DecimalField(
        min_value=Decimal("0.01"), max_digits=7, decimal_places=3, initial=Decimal("0.5"), label="Processor cores"
    )
    disk_mb = forms.IntegerField(
        min_value=0,
        initial=1000,
        label="Disk, MB",
        help_text="For its volume and what it writes. With more cores it may write faster; 8 MB a second at least.",
    )
    volume_path = forms.CharField(
        required=False,
        max_length=200,
        label="Data folder",
        help_text="Kept across restarts and releases, such as /data.",
    )
    environment = VariablesField(
        label="Environment", help_text="NAME=value, one on each line. Shown on the app's page."
    )
    secrets = VariablesField(label="Secrets", help_text="NAME=value, one on each line. Encrypted; never shown again.")
    keep_secrets = forms.BooleanField(required=False, initial=True, label="Keep the last release's secrets")
    health_kind = forms.ChoiceField(choices=HealthKind.choices, initial=HealthKind.TCP, label="It is healthy when")
    health_path = forms.CharField(required=False, initial="/", max_length=200, label="Health path")
    ready_path = forms.CharField(
        required=False,
        max_length=200,
        label="Ready path",
        help_text="While this path does not answer, the app gets no requests, but is not restarted. Empty: healthy is ready.",
    )
    health_interval_seconds = forms.IntegerField(min_value=1, initial=5, label="Check every, seconds")
    health_timeout_seconds = forms.IntegerField(min_value=1, initial=2, label="An answer may take, seconds")
    health_start_seconds = forms.IntegerField(min_value=1, initial=60, label="Starting may take, seconds")
    profile = forms.ChoiceField(choices=ProfileChoice.choices, initial=ProfileChoice.BASELINE, label="Sandbox")
    runtime = forms.ChoiceField(
        choices=RuntimeChoice.choices,
        initial=RuntimeChoice.RUNC,
        label="Between it and the device's kernel",
        help_text="gVisor costs some speed, and about 30 MB of the app's memory.",
    )
    outbound = forms.BooleanField(
        required=False,
        label="Needs to call out to the internet",
        help_text="Only devices whose owner allows it are chosen.",
    )
    encrypted = forms.BooleanField(
        required=False,
        label="Its data only on devices that encrypt it",
        help_text="Against a stolen disk; the owner of a running device could still read it. Without this, devices that can do it anyway.",
    )

    def spec(self) -> ReleaseSpec:
        """Return what was typed in the service's words."""
        data = dict(self.cleaned_data)
        data.pop("archive")
        data["memory_bytes"] = data.pop("memory_mb") * MB
        data["disk_bytes"] = data.pop("disk_mb") * MB
        data["cpu_millis"] = int(data.pop("cpu_cores") * 1000)
        data["health_path"] = data["health_path"] or "/"
        return ReleaseSpec(**data)

    @staticmethod
    def initial_from(release: Release) -> dict[str, Any]:
        """Return another release's settings to begin from; never its secrets."""
        same = ("port", "volume_path", "health_kind", "health_path", "ready_path", "health_interval_seconds", "health_timeout_seconds", "health_start_seconds", "profile", "runtime", "outbound", "encrypted")  # fmt: skip
        return {name: getattr(release, name) for name in same} | {
            "memory_mb": release.memory_bytes // MB,
            "disk_mb": release.disk_bytes // MB,
            "cpu_cores": Decimal(release.cpu_millis) / 1000,
            "environment": "\n".join(f"{name}={value}" for name, value in release.environment.items()),
        }


class ExpectedUseForm(DomainForm):
    cpu_seconds_per_hour = forms.DecimalField(
        min_value=Decimal(0), max_value=10**6, max_digits=12, decimal_places=6, label="Processor seconds an hour"
    )
    transfer_gb_per_hour = forms.DecimalField(
        min_value=Decimal(0), max_value=10**6, max_digits=12, decimal_places=6, label="GB in and out an hour"
    )
    stored_gb = forms.DecimalField(
        min_value=Decimal(0), max_value=10**6, max_digits=12, decimal_places=6, label="GB stored"
    )
    monthly_active_users = forms.IntegerField(min_value=0, max_value=10**9, label="Active users a month")
    replicas = forms.IntegerField(
        min_value=1,
        max_value=MOST_REPLICAS,
        label="Replicas",
        help_text="Each runs on a device of its own and uses what you expect above. An app that keeps data runs once.",
    )

    def use(self) -> ExpectedUse:
        return ExpectedUse(**{name: self.cleaned_data[name] for name in ExpectedUse.__dataclass_fields__})

    @staticmethod
    def initial_of(use: ExpectedUse) -> dict[str, Any]:
        return {name: getattr(use, name) for name in ExpectedUse.__dataclass_fields__}


class ScaleForm(DomainForm):
    replicas = forms.IntegerField(min_value=1, max_value=MOST_REPLICAS, label="Replicas")
    standby = forms.BooleanField(required=False, label="Keep one more device ready")


class DeployForm(ExpectedUseForm):
    release = forms.ModelChoiceField(queryset=Release.objects.none(), empty_label=None)
    standby = forms.BooleanField(
        required=False,
        label="Keep one more device ready",
        help_text="It holds the image and a created container, and starts when another device is lost.",
    )
    field_order = ("release",)

    def __init__(self, *args: Any, app: App, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["release"]
        assert isinstance(field, forms.ModelChoiceField)  # noqa: S101
        field.queryset = app.releases.select_related("app").order_by("-number")
        field.label_from_instance = lambda release: f"Release {release.number}: {release.image_label[:60]}"  # type: ignore[method-assign,assignment]
