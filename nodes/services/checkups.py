"""What a device, or a computer that is about to become one, found when it examined itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from django.db import transaction
from django.utils import timezone

from nodes.agent import gvisor
from nodes.agent.protocol import Check, Runtime
from nodes.errors import Malformed
from nodes.models import Device
from nodes.services import enrolment, texts

MOST_CHECKS = 40
LENGTHS = {"name": 40, "message": 400, "mend": 300}


def take(*, device: Device, checks: Iterable[Check]) -> None:
    """Keep the newest of each name, in the order they first came.

    Raises:
        Malformed: more checks than there are.
    """
    new = [_cleaned(check) for check in checks]
    with transaction.atomic():
        locked = Device.objects.select_for_update().only("pk", "checks", "capacity").get(pk=device.pk)
        known = {check["name"]: check for check in locked.checks}
        known.update({str(check["name"]): check for check in new})
        if len(known) > MOST_CHECKS:
            raise Malformed(f"CheckReport.checks: more than {MOST_CHECKS}.")
        Device.objects.filter(pk=device.pk).update(
            checks=list(known.values()), checked_at=timezone.now(), **_runtimes(locked, new)
        )


def _runtimes(device: Device, checks: list[dict[str, str | bool]]) -> dict[str, object]:
    """Return what the checks change of the runtimes the device offers: what worked at enrolment may not any more, or now."""
    told = next((bool(check["ok"]) for check in checks if check["name"] == gvisor.NAME), None)
    if told is None:
        return {}
    runtimes = [Runtime.RUNC.value] + [Runtime.GVISOR.value] * told
    return {"has_gvisor": told, "capacity": {**device.capacity, "runtimes": runtimes}}


def take_with_token(*, token: str, checks: Iterable[Check]) -> None:
    """The same while a computer is being set up: the token of the install command speaks for it.

    Raises:
        TokenUnknown, TokenUsed, TokenExpired: it speaks for nobody (any more).
        Malformed: as `take`.
    """
    take(device=enrolment.check_token(token).device, checks=checks)


def _cleaned(check: Check) -> dict[str, str | bool]:
    document = dataclasses.asdict(check)
    return {name: texts.clean(value, LENGTHS[name]) if name in LENGTHS else value for name, value in document.items()}
