"""Register apps and add releases."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils.text import slugify

from interchain_site.core import audit, secrets
from interchain_site.core.errors import Invalid
from interchain_site.core.models import User
from marketplace import policies, release_rules
from marketplace.errors import BadRelease
from marketplace.models import App, HealthKind, ProfileChoice, Release, RuntimeChoice
from nodes.services import archives


@dataclass(frozen=True)
class ReleaseSpec:
    """How a release runs. Exactly one image: a reference by digest here, or an archive beside it."""

    image_reference: str = ""
    port: int = 8080
    memory_bytes: int = 256 * 10**6
    cpu_millis: int = 500
    disk_bytes: int = 10**9
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    keep_secrets: bool = False  # take over the last release's secrets that are not given anew
    health_kind: str = HealthKind.TCP
    health_path: str = "/"
    ready_path: str = ""
    health_interval_seconds: int = 5
    health_timeout_seconds: int = 2
    health_start_seconds: int = 60
    volume_path: str = ""
    profile: str = ProfileChoice.BASELINE
    outbound: bool = False
    encrypted: bool = False
    runtime: str = RuntimeChoice.RUNC


@transaction.atomic
def register_app(*, name: str, slug: str = "", by: User) -> App:
    """Return a new app of `by`; the slug (from the name when empty) becomes its host name.

    Raises:
        NotAllowed; Invalid: the name or slug is not usable or taken, by field.
    """
    policies.check_can_publish(by)
    name = name.strip()
    slug = slug.strip().lower() or slugify(name)[: release_rules.SLUG_LENGTH].strip("-")
    release_rules.check_app(name, slug)
    try:
        with transaction.atomic():
            app = App.objects.create(publisher=by, name=name, slug=slug)
    except IntegrityError:
        raise Invalid(fields={"slug": f"“{slug}” is taken. Choose another address."}) from None
    audit.record("app_registered", subject=f"app:{app.pk}", by=by, slug=slug)
    return app


def add_release(*, app: App, spec: ReleaseSpec, archive: BinaryIO | None = None, by: User) -> Release:
    """Return the next release of an app. `archive` is a `docker save` file, kept by its hash.

    Raises:
        NotYours; BadRelease: what is wrong, by field; BadArchive (nodes): the file is not an image.
    """
    policies.check_can_change_app(by, app)
    release_rules.check_spec(spec, has_archive=archive is not None)
    stored = archives.store(archive) if archive is not None else None  # slow: before the transaction
    with transaction.atomic():
        App.objects.select_for_update().get(pk=app.pk)
        newest = app.releases.order_by("-number").first()
        confidential = _secrets(spec, newest)
        release = Release.objects.create(
            app=app,
            number=(app.releases.aggregate(n=Max("number"))["n"] or 0) + 1,
            image_reference=spec.image_reference,
            archive_sha256=stored.sha256 if stored else "",
            archive_bytes=stored.bytes if stored else 0,
            image_id=stored.image_id if stored else "",
            port=spec.port,
            memory_bytes=spec.memory_bytes,
            cpu_millis=spec.cpu_millis,
            disk_bytes=spec.disk_bytes,
            environment=dict(spec.environment),
            secrets_encrypted=secrets.encrypt(json.dumps(confidential)) if confidential else "",
            secret_names=sorted(confidential),
            health_kind=spec.health_kind,
            health_path=spec.health_path or "/",
            ready_path=spec.ready_path,
            health_interval_seconds=spec.health_interval_seconds,
            health_timeout_seconds=spec.health_timeout_seconds,
            health_start_seconds=spec.health_start_seconds,
            volume_path=spec.volume_path,
            profile=spec.profile,
            outbound=spec.outbound,
            encrypted=spec.encrypted,
            runtime=spec.runtime,
            created_by=by,
        )
        audit.record("release_added", subject=f"app:{app.pk}", by=by, number=release.number, image=release.image_label)
    return release


def read_secrets(release: Release) -> dict[str, str]:
    """Return a release's secrets in the clear, for a device only.

    Raises:
        Undecryptable: the key is gone from FIELD_ENCRYPTION_KEYS.
    """
    if not release.secrets_encrypted:
        return {}
    values: dict[str, str] = json.loads(secrets.decrypt(release.secrets_encrypted))
    return values


def _secrets(spec: ReleaseSpec, newest: Release | None) -> dict[str, str]:
    kept = read_secrets(newest) if spec.keep_secrets and newest is not None else {}
    merged = {**kept, **spec.secrets}
    twice = sorted(set(merged) & set(spec.environment))
    if twice:
        raise BadRelease(fields={"secrets": f"Named in both environment and secrets: {', '.join(twice)}."})
    return merged
