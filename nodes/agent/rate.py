"""How often somebody may ask: token buckets, in a table that does not grow."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict


class Rate:
    """So many a second, and a burst of them at once, for each of the last `most` askers."""

    def __init__(self, per_second: float, burst: float, *, most: int = 1024) -> None:
        self._per_second, self._burst, self._most = per_second, burst, most
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, who: str, now: float, cost: float = 1.0) -> bool:
        """Take `cost` from the asker's bucket if it holds so much."""
        left, at = self._buckets.pop(who, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_second)
        allowed = left >= cost
        self._buckets[who] = (left - cost if allowed else left, now)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return allowed


def asker(address: str) -> str:
    """Return who counts as one asker: an IPv4 address, or an IPv6 network of one site."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    if known.version == 4:
        return address
    if known.ipv4_mapped is not None:
        return str(known.ipv4_mapped)
    return str(ipaddress.ip_network((known, 64), strict=False))
