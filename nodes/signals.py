"""What happens to leases, told to whoever listens. Sent inside the transaction of the change, by `nodes.services` only."""

from __future__ import annotations

from django.dispatch import Signal

lease_changed = Signal()
"""A lease moved or its reason changed. Arguments: lease_id (UUID), workload_id (UUID), state (str), reason (str)."""

leases_opened = Signal()
"""Leases were opened, all at once. Arguments: workload_ids (list of UUID)."""

slot_vacant = Signal()
"""Slots of these workloads have nobody (nodes/services/election.py). Arguments: workload_ids (list of UUID)."""

rollout_ended = Signal()
"""A new release of a workload is everywhere, was rolled back or dropped. Arguments: workload_id (UUID)."""

workload_wiped = Signal()
"""Nothing of a workload is left on any device. Arguments: workload_id (UUID), receipt (the last device's JWS,
str; "" when the last device was removed by its owner and cannot be asked)."""

snapshots_wiped = Signal()
"""Nothing is left of a workload's snapshots. Arguments: workload_id (UUID), receipt (str: the portal's JWS, by its directory key)."""
