"""Apps and their releases. A release never changes: another number is another release."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models

from marketplace.errors import Frozen
from nodes.agent.protocol import Profile, Runtime


class App(models.Model):
    """Something a publisher runs here. `slug` is the label of its stable host name, so it is unique on the site."""

    publisher = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="apps")
    name = models.CharField(max_length=80)
    slug = models.SlugField(max_length=40, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name", "id")

    def __str__(self) -> str:
        return self.name


class HealthKind(models.TextChoices):
    TCP = "tcp", "The port accepts a connection"
    HTTP = "http", "GET on the path answers 200–399"


class ProfileChoice(models.TextChoices):
    BASELINE = Profile.BASELINE.value, "Baseline: ordinary public images run as they are"
    RESTRICTED = Profile.RESTRICTED.value, "Restricted: non-root, read-only, no capabilities"


class RuntimeChoice(models.TextChoices):
    RUNC = Runtime.RUNC.value, "runc: the app calls the device's own kernel, as Docker apps mostly do"
    PREFER_GVISOR = "prefer-gvisor", "gVisor where a device has it, otherwise runc"
    GVISOR = Runtime.GVISOR.value, "gVisor only: a kernel of its own answers the app's calls"


class Release(models.Model):
    """One immutable, numbered version of an app: which image, and how it runs."""

    app = models.ForeignKey(App, on_delete=models.CASCADE, related_name="releases")
    number = models.PositiveIntegerField()
    image_reference = models.CharField(max_length=300, blank=True)
    archive_sha256 = models.CharField(max_length=64, blank=True)
    archive_bytes = models.BigIntegerField(default=0)
    image_id = models.CharField(max_length=80, blank=True)
    port = models.PositiveIntegerField()
    memory_bytes = models.BigIntegerField()
    cpu_millis = models.PositiveIntegerField()
    disk_bytes = models.BigIntegerField()
    environment = models.JSONField(default=dict, blank=True)
    secrets_encrypted = models.TextField(
        blank=True, help_text="JSON of names and values, encrypted; never shown again."
    )
    secret_names = models.JSONField(default=list, blank=True)
    health_kind = models.CharField(max_length=4, choices=HealthKind.choices, default=HealthKind.TCP)
    health_path = models.CharField(max_length=200, default="/")
    ready_path = models.CharField(max_length=200, blank=True)
    health_interval_seconds = models.PositiveIntegerField(default=5)
    health_timeout_seconds = models.PositiveIntegerField(default=2)
    health_start_seconds = models.PositiveIntegerField(default=60)
    volume_path = models.CharField(max_length=200, blank=True)
    profile = models.CharField(max_length=12, choices=ProfileChoice.choices, default=ProfileChoice.BASELINE)
    outbound = models.BooleanField(default=False)
    encrypted = models.BooleanField(
        default=False, help_text="Only on devices that keep its data encrypted on their disk."
    )
    runtime = models.CharField(max_length=13, choices=RuntimeChoice.choices, default=RuntimeChoice.RUNC)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ("app", "-number")
        constraints = (
            models.UniqueConstraint(fields=("app", "number"), name="release_number_once"),
            models.CheckConstraint(
                name="release_has_one_image",
                condition=(models.Q(image_reference="") & ~models.Q(archive_sha256=""))
                | (~models.Q(image_reference="") & models.Q(archive_sha256="")),
            ),
            models.CheckConstraint(name="release_port_range", condition=models.Q(port__gte=1, port__lte=65535)),
        )

    def __str__(self) -> str:
        return f"{self.app} release {self.number}"

    @property
    def image_label(self) -> str:
        """What a person recognises the image by."""
        return self.image_reference or f"uploaded archive {self.archive_sha256[:12]}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.pk:
            raise Frozen("A release never changes. Add another release instead.")
        super().save(*args, **kwargs)
