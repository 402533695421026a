"""Eight addresses for each bridge, chosen so that agents sharing an Engine and the owner's own networks stay apart."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterator
from pathlib import Path

PREFIX_LENGTH = 29
TRIES = 64


def candidates(lease_id: str, pool: str, taken: "list[ipaddress.IPv4Network]") -> "Iterator[tuple[str, str]]":
    """Yield (subnet, container address) to try, the same order each time for the same lease.

    Docker refuses a subnet another of its networks has; then the next is tried.
    """
    whole = ipaddress.IPv4Network(pool)
    count = 2 ** (PREFIX_LENGTH - whole.prefixlen)
    start = int.from_bytes(hashlib.sha256(lease_id.encode()).digest()[:8], "big")
    for step in range(min(TRIES, count)):
        first = int(whole.network_address) + (start + step * 7919) % count * 2 ** (32 - PREFIX_LENGTH)
        subnet = ipaddress.IPv4Network((first, PREFIX_LENGTH))
        if not any(subnet.overlaps(other) for other in taken):
            yield str(subnet), container_address(str(subnet))


def container_address(subnet: str) -> str:
    """Return the address of the one container on the bridge; the one before it is the bridge's own."""
    return str(ipaddress.IPv4Network(subnet).network_address + 2)


def routed(route_file: Path = Path("/proc/net/route")) -> "list[ipaddress.IPv4Network]":
    """Return the networks this device has routes to, the default route left out."""
    found = []
    try:
        lines = route_file.read_text().splitlines()[1:]
    except OSError:
        return []
    for line in lines:
        columns = line.split()
        network, mask = (_little_endian(columns[1]), _little_endian(columns[7]))
        if mask:
            found.append(ipaddress.IPv4Network((network, bin(mask).count("1"))))
    return found


def _little_endian(text: str) -> int:
    return int.from_bytes(bytes.fromhex(text), "little")
