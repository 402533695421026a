"""What the portal and an agent say to each other: frozen dataclasses, plain JSON, no Django (docs/agent-protocol.md).

Longer than 300 lines because it is the whole wire and both sides read it as one page.
Everything goes over HTTPS under `/api/node/v1/`; the WebSocket at `/link/` carries only "look again" and liveness.
Each request but enrolment carries `Authorization: Bearer <JWT>` signed with the device's Ed25519 key (JOSE algorithm
`Ed25519`, RFC 9864, which replaced the ambiguous `EdDSA`), claims `iss` = device id, `aud` = portal URL, `iat`, `exp` ≤ 60 s later, `jti` used once.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

PROTOCOL_VERSION = 1

ENROL_PATH = "/api/node/v1/enrol"  # POST Enrolment → Enrolled
DESIRED_PATH = "/api/node/v1/desired"  # GET, If-None-Match → Desired (200 with ETag) or 304
REPORT_PATH = "/api/node/v1/report"  # POST Report → 204
READINGS_PATH = "/api/node/v1/readings"  # POST a JWS (compact) over ReadingBatch → Accepted
RECEIPTS_PATH = "/api/node/v1/receipts"  # POST a JWS (compact) over WipeReceipt → 204
MODE_PATH = "/api/node/v1/mode"  # POST ModeWish → 204: the owner, at the device, pauses or resumes it at the portal too
CHECKS_PATH = "/api/node/v1/checks"  # POST CheckReport → 204
INSTALL_CHECKS_PATH = (
    "/api/node/v1/install-checks"  # the same before there is a key: the token in it speaks for the device
)
KEY_PATH = "/api/node/v1/key"  # POST a JWS over KeyChange, signed with the old key → 204
SNAPSHOT_ACCESS_PATH = "/api/node/v1/snapshot-access"  # POST SnapshotAccessWish → SnapshotAccess
SNAPSHOTS_PATH = "/api/node/v1/snapshots"  # POST a JWS over SnapshotReport → 204
REPOSITORY_PATH = "/api/node/snapshots/"  # + workload id + "/": a restic REST repository (restic's rest.md), Basic auth
SPOT_CHECK_PATH = "/api/node/v1/spot-check"  # POST a JWS over SpotCheckAnswer → 204
LEAVE_PATH = "/api/node/v1/leave"  # POST nothing → 204: the owner, at the device, removes it
RELEASE_PATH = "/api/node/v1/release"  # GET → ReleaseOffer, the version this device should run
RELEASE_FILE_PATH = "/api/node/v1/releases/"  # GET + sha256 → that version's wheel
ARCHIVE_PATH = "/api/node/v1/archives/"  # GET + sha256 → the image archive of a workload leased to this device
DIRECTORY_PATH = "/api/node/v1/directory"  # GET ?since=N, If-None-Match → records.DirectoryDelta with ETag, or 304
SUSPECT_PATH = "/api/node/v1/suspects"  # POST records.Suspicion → 204: a client found an endpoint dead
# WebSocket; first message from the agent is the JWT, with three more claims: `nonce`, for the portal to prove itself
# (LinkProof), `portal_key`, the link key the agent knows, and `agent`, a UUID of this run of it. The portal sends {"type": "look"},
# {"type": "ping", "id"} to be answered at once by {"type": "pong", "id"}, and {"type": "twin"} when another agent has the same
# key. A close reason that begins with "retry-after=N" asks the agent to stay away for so many seconds.
LINK_PATH = "/link/"

SIGNATURE_ALGORITHM = "Ed25519"
JWT_LIFETIME_SECONDS = 60
CLOCK_SKEW_SECONDS = 30
MAX_READINGS_PER_BATCH = 100
MAX_BODY_BYTES = 256 * 1024
LOG_TAIL_LINES = 20
ENCRYPTION_CHECK = "volume_encryption"  # the Check by which a device says that it encrypts apps' data
LOG_TAIL_BYTES = 4096


class Meter(str, Enum):
    """What is measured (DESIGN §4). The quantity is a whole number of the base unit and only ever grows within a lease."""

    TRANSFER = "transfer"  # bytes in + out of the app's port
    STORAGE = "storage"  # byte-seconds held by the volume
    COMPUTE = "compute"  # instructions executed
    UPTIME = "uptime"  # milliseconds running and healthy
    ACTIVE_USER = "active_user"  # distinct clients in a UTC month; counted at the gateway, never by an agent


class Method(str, Enum):
    """How a reading was taken; kept with it as evidence."""

    CGROUP = "cgroup"  # kernel counter of the container's own cgroup
    PERF = "perf"  # hardware instruction counter of the cgroup
    CALIBRATED = "calibrated"  # CPU time × the device's benchmarked instruction rate
    INTERFACE = "interface"  # counters of the container's network interface
    VOLUME = "volume"  # bytes the volume holds × time
    CLOCK = "clock"  # the agent's monotonic clock while healthy
    GATEWAY = "gateway"  # counted by the portal's gateway


class Action(str, Enum):
    """What the portal wants of a lease."""

    RUN = "run"
    STANDBY = "standby"  # everything ready, container created, not started
    STOP = "stop"
    WIPE = "wipe"


class Profile(str, Enum):
    """Sandbox profiles, named as Kubernetes' Pod Security Standards name them."""

    RESTRICTED = "restricted"
    BASELINE = "baseline"


class Runtime(str, Enum):
    """What stands between an app and the device's kernel."""

    RUNC = "runc"  # namespaces, cgroups and seccomp: the app calls the device's own kernel
    GVISOR = "gvisor"  # gVisor: a kernel of its own, in user space, answers the app's calls


class Mode(str, Enum):
    """Whether a device takes apps."""

    OPEN = "open"
    PAUSED = "paused"  # takes no new ones; what runs goes on
    DRAINING = "draining"  # takes none, and what runs moves away
    CLOSED = "closed"  # outside its hours, or the month's traffic is used up: nothing runs


class Goodbye(str, Enum):
    """Why a device closes its link: the reason of the WebSocket's close frame."""

    STOP = "stop"  # the agent was stopped; apps go on
    UPDATE = "update"  # the agent is back in a moment
    SHUTDOWN = "shutdown"
    SLEEP = "sleep"
    UNINSTALL = "uninstall"


class Observed(str, Enum):
    """What the agent sees of a lease."""

    PREPARING = "preparing"
    RUNNING = "running"  # started and the health check passes
    UNHEALTHY = "unhealthy"
    READY = "ready"  # a standby: could start at once
    STOPPED = "stopped"  # no container; the volume is kept
    WIPED = "wiped"  # nothing is left; a receipt was sent
    FAILED = "failed"  # will not run without a change; `reason` says why


class Reason(str, Enum):
    """Why a lease is not running, in a word a program can use; `Status.message` says it to a person."""

    NONE = ""
    IMAGE_NOT_FOUND = "image_not_found"
    IMAGE_INVALID = "image_invalid"  # the digest or the archive is not what was released
    START_FAILED = "start_failed"
    EXITED = "exited"
    OUT_OF_MEMORY = "out_of_memory"
    OUT_OF_DISK = "out_of_disk"  # volume and writable layer hold more than `disk_bytes`
    WRONG_PORT = "wrong_port"  # runs, but nothing listens on the released port
    UNHEALTHY = "unhealthy"  # listens, but the health check fails
    DEVICE_ERROR = "device_error"  # Docker or the disk of the device failed
    DECLINED = "declined"  # the device's owner does not take it (now); it belongs elsewhere


@dataclass(frozen=True)
class HealthCheck:
    """Lives: `http`: GET path answers 200–399; `tcp`: the port accepts. Ready: so does `ready_path`, where there is one.

    What does not live is restarted. What is not ready only gets no requests, and its uptime does not count.
    """

    kind: str = "tcp"
    path: str = "/"
    interval_seconds: int = 5
    timeout_seconds: int = 2
    start_seconds: int = 60  # how long a start may take before it counts as failed
    ready_path: str = ""  # empty: what lives is ready


@dataclass(frozen=True)
class Image:
    """Exactly one image. `reference` is `name@sha256:…`; or `archive_sha256` names a `docker save` file the portal keeps,
    whose image has the id `image_id` (sha256:…)."""

    reference: str = ""
    archive_sha256: str = ""
    archive_bytes: int = 0
    image_id: str = ""


@dataclass(frozen=True)
class Workload:
    """One thing to run; all a device is told. `nodes` never learns what an app is."""

    id: str  # UUID; stays the same across generations and devices
    name: str  # label of its stable host name, e.g. "blog" → blog.apps.example
    image: Image
    port: int
    memory_bytes: int
    cpu_millis: int  # 1000 = one core
    disk_bytes: int
    environment: dict[str, str] = field(default_factory=dict)  # secrets included; never logged
    health: HealthCheck = field(default_factory=HealthCheck)
    profile: Profile = Profile.BASELINE
    volume_path: str = ""  # where the app keeps data; empty: no volume
    outbound: bool = False
    encrypted: bool = False  # its data is kept encrypted, or it does not run
    runtime: Runtime = Runtime.RUNC
    runtime_optional: bool = False  # where the device does not have that runtime, runc will do


@dataclass(frozen=True)
class Restore:
    """Whose data the volume is to begin with: a snapshot, in place of whatever is in the volume."""

    snapshot_id: str = ""  # UUID; empty: leave the volume as it is
    restic_id: str = ""


@dataclass(frozen=True)
class DesiredLease:
    lease_id: str
    generation: int
    action: Action
    workload: Workload
    restore: Restore = field(default_factory=Restore)
    snapshot_id: str = ""  # UUID of a snapshot to be taken of its volume now; empty: none
    slot: int = 0  # which of the workload's replicas
    volume_key: str = field(
        default="", repr=False
    )  # base64url, 64 bytes; never on the device's disk, never in a log; empty: none


@dataclass(frozen=True)
class Hours:
    """One opening in the week: minutes of the day in the owner's time zone. One that closes before it opens ends the next day."""

    day: int  # 0 is Monday
    opens: int = 0
    closes: int = 1440


@dataclass(frozen=True)
class Limits:
    """What an owner lends. 0 means no limit of one's own; no hours mean always (nodes/agent/limits.py)."""

    cpu_millis: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0
    transfer_bytes_per_month: int = 0
    hours: tuple[Hours, ...] = ()
    time_zone: str = "UTC"
    drain_minutes: int = 10  # before closing time, in which apps move away
    profiles: tuple[str, ...] = ("restricted", "baseline")
    outbound: bool = True  # whether apps that ask for it may call out to the internet
    blocked_images: tuple[str, ...] = ()


@dataclass(frozen=True)
class SpotCheck:
    """Work given without notice, whose answer the portal can check: `benchmark.chain` from the seed, so many rounds."""

    id: str = ""  # UUID; empty: none
    seed: str = ""  # hex, 32 bytes
    rounds: int = 0


@dataclass(frozen=True)
class Tunnel:
    """Where a device that cannot be reached from outside lets its apps be reached: `ssh -R bind:port:…` for each lease."""

    host: str = ""
    port: int = 0
    host_key: str = ""  # as a line of known_hosts has it
    bind: str = ""
    ports: dict[str, int] = field(default_factory=dict, hash=False)  # lease id → port there


@dataclass(frozen=True)
class Desired:
    """All the portal wants of one device. A lease that is not listed is none of the portal's: stop it, keep its volume."""

    leases: tuple[DesiredLease, ...] = ()
    reading_interval_seconds: int = 30
    report_interval_seconds: int = 15
    poll_interval_seconds: int = 15
    limits: Limits = field(default_factory=Limits)  # the owner's, from the device's page; the device's own hold as well
    mode: Mode = Mode.OPEN  # what the owner chose on the device's page, so that `interchain-node status` can say it
    new_key: bool = False  # the owner asks for a fresh key
    release: str = ""  # the agent version this device should run; empty: the one it has
    tunnel: Tunnel = field(default_factory=Tunnel)
    spot_check: SpotCheck = field(default_factory=SpotCheck)
    instructions_per_second: int = 0  # the rate spot checks have proven; 0: as measured at enrolment
    self_stop_seconds: int = 0  # cut off for so long, the device stops its leases itself (self_stop.py); 0: never
    directory_interval_seconds: int = 30


@dataclass(frozen=True)
class Status:
    """What the agent sees of one lease now."""

    lease_id: str
    generation: int
    observed: Observed
    host_port: int = 0  # the one published port on the device; 0 while there is none
    reason: Reason = Reason.NONE
    message: str = ""
    log_tail: str = ""  # last lines the container wrote, at most LOG_TAIL_BYTES
    image_id: str = ""  # as its Docker names it: by its config, or in containerd's store by its manifest
    restarts: int = 0
    encrypted: bool = False  # its volume is encrypted on the device's disk
    runtime: str = ""  # a Runtime: what the container was made with; empty: there is none, or an older agent


@dataclass(frozen=True)
class Report:
    statuses: tuple[Status, ...] = ()
    agent_version: str = ""
    load: dict[str, int] = field(default_factory=dict)  # memory_free_bytes, disk_free_bytes, cpu_percent, …
    mode: Mode = Mode.OPEN  # as the device itself has it: its switch, the hours and the month's traffic
    mode_reason: str = ""
    limits: Limits = field(default_factory=Limits)  # those of the device's own config.json
    can_update: bool = False  # whether this agent can put another version of itself in its place
    update_failure: str = ""  # which version did not come up here, and why
    directory_port: int = 0  # where this device serves the directory; 0: it does not
    can_tunnel: bool = False  # whether this computer has an ssh client


@dataclass(frozen=True)
class Reading:
    """One cumulative counter. `total` never falls within a lease; a resent or lost reading changes nothing."""

    lease_id: str
    generation: int
    meter: Meter
    total: int
    at: str  # ISO 8601 UTC
    method: Method


@dataclass(frozen=True)
class ReadingBatch:
    """Signed as one JWS. `id` is a UUID, the same when resent."""

    id: str
    device_id: str
    created_at: str
    readings: tuple[Reading, ...]


@dataclass(frozen=True)
class Accepted:
    """The agent may drop this batch. `duplicate`: it was stored before. `refused`: lease ids that are not this device's."""

    batch_id: str
    duplicate: bool = False
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class WipeReceipt:
    """Signed proof that a lease's container, volume and secrets are gone."""

    lease_id: str
    generation: int
    workload_id: str
    device_id: str
    wiped_at: str
    volume_bytes: int  # what the volume held before


@dataclass(frozen=True)
class Capacity:
    """What the device offers, after the owner's limits."""

    cpu_millis: int
    memory_bytes: int
    disk_bytes: int
    architecture: str = "amd64"
    cgroup_version: int = 1
    runtimes: tuple[str, ...] = ("runc",)  # those proven to work (gvisor.py)
    profiles: tuple[str, ...] = ("restricted", "baseline")
    perf_counters: bool = False
    volume_quota: bool = False  # the kernel holds a volume to `disk_bytes`; otherwise the agent looks
    layer_quota: bool = False  # the same of what a container writes beside its volume
    link_bytes_per_second: int = 0  # what its network interface is rated for, one way; 0: it does not say


@dataclass(frozen=True)
class Benchmark:
    """Measured at enrolment. `instructions_per_second` turns CPU time into `compute` where no counter exists."""

    instructions_per_second: int
    memory_bytes_per_second: int = 0
    disk_bytes_per_second: int = 0


@dataclass(frozen=True)
class Enrolment:
    token: str  # one use, from the device page
    public_key: str  # Ed25519 JWK `x`, base64url
    agent_version: str
    capacity: Capacity
    benchmark: Benchmark
    endpoint_host: str = ""  # where the gateway reaches this device; empty: the address the portal sees
    limits: Limits = field(default_factory=Limits)
    tunnel: bool = False  # it cannot be reached from outside; its owner said so


@dataclass(frozen=True)
class Enrolled:
    device_id: str
    portal_url: str
    link_url: str
    desired: Desired = field(default_factory=Desired)
    release_key: str = ""  # Ed25519 JWK `x`: whose signature on a version of the agent this device trusts
    directory_key: str = ""  # Ed25519 JWK `x`: the first key of the directory (records.py)
    link_key: str = ""  # Ed25519 JWK `x`: by which the portal proves over the link that it is the portal


@dataclass(frozen=True)
class PortalProof:
    """What the link key signs: this portal holds the link that this device opened with this nonce."""

    device_id: str
    portal_url: str
    nonce: str
    kind: str = "portal-proof"


@dataclass(frozen=True)
class LinkKeyChange:
    """Signed with the old link key: from now on the new one speaks for the portal."""

    old_key: str
    new_key: str
    created_at: str
    kind: str = "link-key"


@dataclass(frozen=True)
class LinkProof:
    """The portal's first message over a link whose JWT has a `nonce`; nothing it says counts before."""

    jws: str  # over PortalProof
    key: str  # that signed it
    statements: tuple[str, ...] = ()  # JWS over LinkKeyChange, oldest first: from the JWT's `portal_key` to `key`
    type: str = "proof"


@dataclass(frozen=True)
class Check:
    """One thing a device needs, or is better with."""

    name: str  # a word a program can use; the next check of the same name takes its place
    ok: bool
    message: str  # what was found, as a sentence
    mend: str = ""  # what to type or change
    needed: bool = True  # false: worth knowing, not worth refusing for


@dataclass(frozen=True)
class CheckReport:
    checks: tuple[Check, ...]
    token: str = ""  # while the device has no key yet


@dataclass(frozen=True)
class ModeWish:
    """The owner, at the device, wants the portal's own switch like this too."""

    mode: Mode


@dataclass(frozen=True)
class SnapshotAccessWish:
    lease_id: str


@dataclass(frozen=True)
class SnapshotAccess:
    """Opens one workload's repository for some hours: to read and add, not to remove."""

    user: str
    password: str
    key: str  # restic's own password, with which everything in it is encrypted


@dataclass(frozen=True)
class SnapshotReport:
    """Signed: that a snapshot was taken, or why not."""

    snapshot_id: str
    lease_id: str
    device_id: str
    taken_at: str  # ISO 8601 UTC; when it began
    restic_id: str = ""  # 64 hex digits; empty: it failed
    volume_bytes: int = 0
    added_bytes: int = 0
    message: str = ""


@dataclass(frozen=True)
class SpotCheckAnswer:
    """Signed, because it speaks for or against the device."""

    id: str
    device_id: str
    digests: tuple[str, ...]  # of each round's work, in order; hex
    processor_milliseconds: int


@dataclass(frozen=True)
class KeyChange:
    """Signed with the old key; `proof` is a JWS of the new key over the same statement without it."""

    device_id: str
    new_key: str  # Ed25519 JWK `x`
    proof: str = ""


@dataclass(frozen=True)
class Manifest:
    """What a release key signs for a version of the agent."""

    version: str
    sha256: str  # of the wheel
    size: int
    created_at: str
    kind: str = "agent-release"


@dataclass(frozen=True)
class ReleaseKeyChange:
    """Signed with the old release key: from now on the new one speaks for the agent's versions."""

    old_key: str
    new_key: str
    created_at: str
    kind: str = "release-key"


@dataclass(frozen=True)
class ReleaseOffer:
    manifest: str = ""  # a JWS over Manifest; empty: there is none for this device
    keys: tuple[str, ...] = ()  # JWS over ReleaseKeyChange, oldest first: from the enrolment's key to the manifest's


T = TypeVar("T")


class ProtocolError(ValueError):
    """A message does not have the agreed shape; the text names the field."""


def to_json(message: Any) -> bytes:
    """Return a dataclass of this module as canonical JSON (sorted keys, no spaces)."""
    return json.dumps(dataclasses.asdict(message), sort_keys=True, separators=(",", ":")).encode()


def from_json(kind: type[T], data: bytes | str | dict[str, Any]) -> T:
    """Return `kind` built from JSON, checking every type; unknown fields are ignored so that versions may differ.

    Raises:
        ProtocolError: it is not JSON, a field is missing or has the wrong type.
    """
    if not isinstance(data, dict):
        try:
            data = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"{kind.__name__}: not JSON") from error
    return typing.cast(T, _build(kind, data, kind.__name__))


def _build(kind: Any, value: Any, where: str) -> Any:
    # Most values of most messages; bool is an int in Python, and must not pass for a quantity.
    if type(value) is kind:
        return value
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, where)
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(value)
        except ValueError:
            raise ProtocolError(f"{where}: {value!r} is not one of {[item.value for item in kind]}") from None
    origin = getattr(kind, "__origin__", None)
    if origin is tuple:
        if not isinstance(value, list):
            raise ProtocolError(f"{where}: not a list")
        return tuple(_build(kind.__args__[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise ProtocolError(f"{where}: not an object")
        return {str(key): _build(kind.__args__[1], item, f"{where}.{key}") for key, item in value.items()}
    raise ProtocolError(f"{where}: not {kind.__name__}")


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ProtocolError(f"{where}: not an object")
    arguments = {}
    for name, hint, needed in _members(kind):
        if name in value:
            arguments[name] = _build(hint, value[name], f"{where}.{name}")
        elif needed:
            raise ProtocolError(f"{where}.{name}: missing")
    return kind(**arguments)


_MEMBERS: dict[Any, list[tuple[str, Any, bool]]] = {}


def _members(kind: Any) -> list[tuple[str, Any, bool]]:
    """Return name, type and whether it must be there, of each field."""
    if kind not in _MEMBERS:
        hints, missing = typing.get_type_hints(kind), dataclasses.MISSING
        _MEMBERS[kind] = [
            (item.name, hints[item.name], item.default is missing and item.default_factory is missing)
            for item in dataclasses.fields(kind)
        ]
    return _MEMBERS[kind]
