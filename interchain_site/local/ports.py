"""Ports of a site: which are free, and who has the one that is not."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from interchain_site.local.steps import Stop

GATEWAY_ABOVE_WEB = 80  # 8000 → 8080


@dataclass(frozen=True)
class Ports:
    """Where each server of a site listens on loopback; only `web` and `gateway` are for people."""

    web: int
    gateway: int
    gateway_admin: int
    valkey: int
    anvil: int
    stripe: int
    tunnel: int


def choose(remembered: Path, *, web: int | None = None) -> Ports:
    """Return the site's ports: those of its last start where they are still free, fresh ones else, and write them down.

    Args:
        remembered: file of the last start.
        web: what the person asked for; 0 for any free one; None for last time's.

    Raises:
        Stop: the port of the portal or of the gateway is taken.
    """
    last: dict[str, int] = json.loads(remembered.read_text()) if remembered.exists() else {}
    if web == 0:
        wanted = {"web": last.get("web") or free(), "gateway": last.get("gateway") or free()}
    else:
        web = web or last.get("web") or 8000
        wanted = {"web": web, "gateway": web + GATEWAY_ABOVE_WEB}
        if last.get("web") == web:
            wanted["gateway"] = last["gateway"]
    for name, port in wanted.items():
        if not is_free(port):
            owner = who_listens(port)
            raise Stop(
                f"Port {port} (the {name}'s) is in use{f' by {owner}' if owner else ''}. Choose another: bin/run --port N"
            )
    inner = {name: last.get(name, 0) for name in ("gateway_admin", "valkey", "anvil", "stripe", "tunnel")}
    ports = Ports(**wanted, **{name: port if port and is_free(port) else free() for name, port in inner.items()})
    remembered.write_text(json.dumps(asdict(ports)))
    return ports


def free() -> int:
    """Return a TCP port of 127.0.0.1 nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Tell whether this program could listen on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except PermissionError:
            raise Stop(f"Port {port} needs root. Choose one above 1024: bin/run --port N") from None
        except (OSError, OverflowError):
            return False
    return not answers(port)


def answers(port: int) -> bool:
    """Tell whether something accepts on the port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.5):
        return True
    return False


def who_listens(port: int) -> str:
    """Return `name (process 123)` of the listener, as far as Linux lets this user see it; else nothing."""
    inodes = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else []:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*") if inodes else []:
        with contextlib.suppress(OSError):
            if any(os.readlink(handle) in inodes for handle in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
    return ""
