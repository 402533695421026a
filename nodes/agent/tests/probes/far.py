"""What a container must not reach, made real: services on the device, and a host behind it with addresses of every kind."""

from __future__ import annotations

import ctypes
import os
import selectors
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

NAMESPACE, LINK = "icprobe", "icprobe0"
LAN, LINK_LOCAL, METADATA = "192.168.78.2", "169.254.77.2", "169.254.169.254"
PUBLIC = "203.0.113.130"  # RFC 5737: stands for the internet
ROUTED = {"192.168.78.1/24": LAN, "169.254.77.1/24": LINK_LOCAL, "203.0.113.129/25": PUBLIC}
WEB, MAIL, SUBMISSION, NAMES = 80, 25, 587, 53
CLONE_NEWNET = 0x40000000


class Listeners:
    """Sockets that note who came. One thread for all of them."""

    def __init__(self) -> None:
        self.arrived: list[tuple[str, str]] = []  # (label of the socket, address of the caller)
        self._selector = selectors.DefaultSelector()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, label: str, kind: socket.SocketKind, address: tuple[str, int], family: int = socket.AF_INET) -> int:
        """Listen; returns the port."""
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        if kind is socket.SOCK_STREAM:
            listening.listen(64)
        listening.setblocking(False)
        self._selector.register(listening, selectors.EVENT_READ, label)
        return int(listening.getsockname()[1])

    def add_abstract(self, label: str, name: str) -> None:
        """Listen on a socket that has a name but no file."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind("\0" + name)
        listening.listen(8)
        listening.setblocking(False)
        self._selector.register(listening, selectors.EVENT_READ, label)

    def seen(self, label: str) -> list[str]:
        return [peer for name, peer in list(self.arrived) if name.startswith(label)]

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(5)
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            for key, _ in self._selector.select(0.2):
                with suppress(OSError):
                    self._note(key.fileobj, key.data)  # type: ignore[arg-type]

    def _note(self, listening: socket.socket, label: str) -> None:
        if listening.type == socket.SOCK_STREAM:
            connection, peer = listening.accept()
            connection.close()
        else:
            _, peer = listening.recvfrom(2048)
        self.arrived.append((label, str(peer[0]) if peer else ""))


@contextmanager
def far_host(listeners: Listeners) -> Iterator[None]:
    """A network namespace behind the device, reached by routing; what arrives there is noted as `far …`."""
    remove()
    try:
        _ip("netns", "add", NAMESPACE)
        _ip("link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", NAMESPACE)
        _ip("link", "set", LINK, "up")
        for here, there in ROUTED.items():
            _ip("addr", "add", here, "dev", LINK)
            _ip("-n", NAMESPACE, "addr", "add", f"{there}/{here.partition('/')[2]}", "dev", "eth0")
        _ip("-n", NAMESPACE, "addr", "add", f"{METADATA}/32", "dev", "eth0")
        for link in ("eth0", "lo"):
            _ip("-n", NAMESPACE, "link", "set", link, "up")
        _ip("-n", NAMESPACE, "route", "add", "default", "via", "203.0.113.129")
        _ip("route", "add", f"{METADATA}/32", "dev", LINK)
        with inside(NAMESPACE):
            for port in (WEB, MAIL, SUBMISSION, NAMES):
                listeners.add(f"far tcp {port}", socket.SOCK_STREAM, ("0.0.0.0", port))
            listeners.add("far udp", socket.SOCK_DGRAM, ("0.0.0.0", NAMES))
        yield
    finally:
        remove()


def remove() -> None:
    """Remove the host, also one that a killed run has left."""
    for arguments in (("link", "del", LINK), ("netns", "del", NAMESPACE)):
        subprocess.run(["ip", *arguments], check=False, capture_output=True)


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread's new sockets belong to the namespace until the block ends."""
    library = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as before, open(f"/run/netns/{namespace}") as there:
        try:
            if library.setns(there.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            yield
        finally:
            library.setns(before.fileno(), CLONE_NEWNET)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
