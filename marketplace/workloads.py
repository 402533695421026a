"""Turn a release into the plain workload that devices know; nodes never learns what an app is."""

from __future__ import annotations

import uuid

from marketplace.models import Release, RuntimeChoice
from marketplace.services.publishing import read_secrets
from nodes.agent.protocol import HealthCheck, Image, Profile, Runtime, Workload


def workload_for(release: Release, *, deployment_id: uuid.UUID | None = None) -> Workload:
    """Return the workload of a release, secrets included, under the deployment's id (a fresh one to ask "would it fit?").

    Raises:
        Undecryptable: a secret's key is gone.
    """
    return Workload(
        id=str(deployment_id or uuid.uuid4()),
        name=release.app.slug,
        image=Image(
            reference=release.image_reference,
            archive_sha256=release.archive_sha256,
            archive_bytes=release.archive_bytes,
            image_id=release.image_id,
        ),
        port=release.port,
        memory_bytes=release.memory_bytes,
        cpu_millis=release.cpu_millis,
        disk_bytes=release.disk_bytes,
        environment={**release.environment, **read_secrets(release)},
        health=HealthCheck(
            kind=release.health_kind,
            path=release.health_path,
            ready_path=release.ready_path,
            interval_seconds=release.health_interval_seconds,
            timeout_seconds=release.health_timeout_seconds,
            start_seconds=release.health_start_seconds,
        ),
        profile=Profile(release.profile),
        volume_path=release.volume_path,
        outbound=release.outbound,
        encrypted=release.encrypted,
        runtime=Runtime.RUNC if release.runtime == RuntimeChoice.RUNC else Runtime.GVISOR,
        runtime_optional=release.runtime == RuntimeChoice.PREFER_GVISOR,
    )
