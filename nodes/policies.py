"""Who may see and change a device: its owner, nobody else. Staff use Django admin."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser

from interchain_site.core.models import User
from nodes.errors import NotFound
from nodes.models import Device


def check_can_manage(user: User | AnonymousUser, device: Device) -> None:
    """Raise `NotFound` unless the device is this person's; a stranger does not even learn that it exists."""
    if device.owner_id != user.pk:
        raise NotFound("You have no such device.")


def can_manage(user: User | AnonymousUser, device: Device) -> bool:
    return device.owner_id == user.pk
