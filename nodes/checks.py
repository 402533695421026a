"""System checks about devices that are cut off: what two settings say together is mended at start."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from nodes.agent.executor import STOP_SECONDS


@register("interchain")
def check_self_stop(**_: Any) -> list[CheckMessage]:
    """E040: a device cut off must have ended its copies before the portal has others take over. 0 (never) is a choice."""
    latest = settings.LINK_TIMEOUT_SECONDS - STOP_SECONDS
    if not settings.SELF_STOP_SECONDS or 0 < settings.SELF_STOP_SECONDS <= latest:
        return []
    message = (
        f"A device that is cut off would go on after its apps were placed elsewhere: SELF_STOP_SECONDS "
        f"({settings.SELF_STOP_SECONDS}) and the {STOP_SECONDS} s an app may take to end are longer than "
        f"LINK_TIMEOUT_SECONDS ({settings.LINK_TIMEOUT_SECONDS})."
    )
    least = settings.SELF_STOP_SECONDS + STOP_SECONDS
    hint = f"Set SELF_STOP_SECONDS to {max(latest, 0)} or less (0: never), or LINK_TIMEOUT_SECONDS to {least} or more."
    return [Error(message, hint=hint, id="interchain.E040")]
