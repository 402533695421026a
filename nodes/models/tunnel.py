"""Which port of the tunnel server leads to which lease."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from nodes.models.lease import Lease


class TunnelPort(models.Model):
    """Given to one lease of a device that cannot be reached from outside, while it may run."""

    lease = models.OneToOneField(Lease, on_delete=models.CASCADE, related_name="tunnel_port")
    port = models.PositiveIntegerField(unique=True)

    class Meta:
        ordering = ("port",)
        constraints = (models.CheckConstraint(condition=Q(port__gte=1024, port__lte=65535), name="tunnel_port_range"),)

    def __str__(self) -> str:
        return str(self.port)
