"""The agent's home folder: what is in it, and the settings the owner may edit.

config.json   who this device is, where the portal is, the owner's limits          (written at enrolment)
device.key    Ed25519 private key, PEM, mode 0600
desired.json  the last desired state, so that a portal out of reach stops nothing  (mode 0600: holds apps' secrets)
meters.json   cumulative counters, see meter.py
ballast       1 MiB of nothing, given up bit by bit when the disk is full, see files.py
directory.sqlite3  where every name is served, signed; see directory_store.py
self_stop.json     leases this device stopped itself while it was cut off      (absent: none)
mode.json     the owner's switch: paused or draining, see intake.py                 (absent: open)
traffic.json  bytes of this month, for the owner's limit
outbox/       signed readings the portal has not confirmed yet, see outbox.py
receipts/     signed wipe receipts the portal has not confirmed yet
archives/     image archives while they are downloaded
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field
from pathlib import Path

from nodes.agent import files, limits
from nodes.agent.errors import SetupError
from nodes.agent.protocol import Limits, ProtocolError, from_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config:
    """Settings of one device. Unknown names in the file are ignored; missing ones take these defaults."""

    device_id: str
    portal_url: str
    link_url: str
    instructions_per_second: int  # measured at enrolment; turns CPU time into `compute`
    publish_address: str = "0.0.0.0"  # noqa: S104 (the gateway reaches the device over the network)
    port_first: int = 20_000  # published ports come from this range, so that a router needs one rule
    port_last: int = 29_999
    allow_outbound: bool = False  # whether apps that ask for it may call out to the internet
    dns_servers: tuple[str, ...] = (
        "1.1.1.1",
        "9.9.9.9",
    )  # for those apps; the LAN's own resolver is out of their reach
    subnet_pool: str = "10.231.0.0/16"  # each app's bridge takes 8 addresses of it
    engine: str = "unix:///var/run/docker.sock"
    runtime: str = ""  # container runtime; empty: the Engine's default
    limits: Limits = field(
        default_factory=Limits
    )  # hold whatever the portal says; `interchain-node limits` changes them
    release_key: str = ""  # whose signature on a version of the agent is trusted; came at enrolment
    directory_key: str = ""  # the directory's first key; came at enrolment, or with the first answer
    directory_port: int = 19_420  # the directory is served here, or on one of the next twenty; 0: not served
    flushed_bytes_per_second: int = (
        0  # of the disk Docker's data is on, pinned by the owner; 0: measured (disk_pace.py)
    )
    link_key: str = ""  # by which the portal proves itself over the link; came at enrolment, or with the first proof

    @property
    def own_limits(self) -> Limits:
        """The limits of this file, `allow_outbound` among them."""
        return dataclasses.replace(self.limits, outbound=self.limits.outbound and self.allow_outbound)


@dataclass(frozen=True)
class Home:
    """Paths of one agent's folder."""

    root: Path
    config: Path = field(init=False)
    key: Path = field(init=False)
    desired: Path = field(init=False)
    meters: Path = field(init=False)
    outbox: Path = field(init=False)
    receipts: Path = field(init=False)
    archives: Path = field(init=False)
    mode: Path = field(init=False)
    traffic: Path = field(init=False)
    self_stop: Path = field(init=False)
    authorities: Path = field(init=False)  # the system's, one file each (tls.py)
    removed: Path = field(init=False)  # an empty file once the portal has said that this device was removed
    directory: Path = field(init=False)
    disk_pace: Path = field(init=False)  # what was measured of the disk

    def __post_init__(self) -> None:
        for name in ("desired", "meters", "config", "mode", "traffic", "self_stop"):
            object.__setattr__(self, name, self.root / f"{name}.json")
        for name in ("outbox", "receipts", "archives"):
            object.__setattr__(self, name, self.root / name)
        object.__setattr__(self, "key", self.root / "device.key")
        for name in ("removed", "authorities"):
            object.__setattr__(self, name, self.root / name)
        object.__setattr__(self, "disk_pace", self.root / "disk-pace.json")
        object.__setattr__(self, "directory", self.root / "directory.sqlite3")

    def create(self) -> Home:
        """Make the folders, readable by their owner alone."""
        for folder in (self.root, self.outbox, self.receipts, self.archives):
            files.private_folder(folder)
        return self


def load(home: Home) -> Config:
    """Return the settings of an enrolled device.

    Raises:
        SetupError: the device is not enrolled, or the file is damaged.
    """
    document = files.read_json(home.config)
    if document is None:
        raise SetupError(
            f"This device is not enrolled: {home.config} is missing or damaged. Copy the command from the device page."
        )
    try:
        return from_json(Config, document)
    except ProtocolError as error:
        raise SetupError(f"{home.config} is damaged ({error}). Correct it, or enrol the device again.") from error


def save(home: Home, config: Config) -> None:
    files.write_json(home.config, dataclasses.asdict(config))


class OwnLimits:
    """The owner's limits as `config.json` has them now: what is typed while the agent runs holds within seconds."""

    def __init__(self, home: Home, config: Config) -> None:
        self._home, self._stamp = home, _stamp(home.config)
        self.now = config.own_limits

    def look(self) -> bool:
        """Read the file if it was written since; returns whether the limits are others now. A damaged file changes nothing."""
        stamp, before = _stamp(self._home.config), self.now
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            found = load(self._home).own_limits
        except SetupError as error:
            log.warning("The owner's limits stay as they were: %s", error)
            return False
        faults = limits.faults(found)
        if faults:
            log.warning("The owner's limits stay as they were. %s: %s", self._home.config, faults)
            return False
        self.now = found
        return found != before


def _stamp(path: Path) -> "tuple[int, ...]":
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino
