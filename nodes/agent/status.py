"""How a device is, for its owner at the device: `interchain-node status`, in words or as JSON.

Everything is asked where it is true: Docker what runs, the portal whether it answers and still knows this device, the folder's lock
whether the agent is at work. What cannot be had is said, and the rest is told all the same.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodes.agent import __version__, doctor, keys, limits, owner, switch, wording
from nodes.agent import config as configuration
from nodes.agent.config import Config, Home
from nodes.agent.engine import Engine
from nodes.agent.errors import AgentError
from nodes.agent.loop import stored_desired
from nodes.agent.protocol import Check, Desired, Mode
from nodes.agent.traffic import Traffic

if TYPE_CHECKING:
    import argparse

    from nodes.agent.reconcile import Seen
    from nodes.agent.update import Updater

PORTAL_SECONDS = 5.0
UPDATES_ITSELF = "An installed agent changes to it by itself; one installed with Docker is updated by a newer image."
FINE, WRONG, NOT_RUNNING = 0, 1, 3  # exit codes; 3 as systemctl's
WORDS = {
    Mode.OPEN: "This device takes apps.",
    Mode.PAUSED: "This device takes no new apps. What runs goes on.",
    Mode.DRAINING: "This device takes no new apps, and what runs moves away.",
    Mode.CLOSED: "Nothing runs on this device now.",
}


@dataclass(frozen=True)
class App:
    """One lease that Docker has here."""

    name: str
    lease_id: str
    generation: int
    running: bool
    port: int
    exit_code: int


@dataclass(frozen=True)
class Status:
    """What `--json` prints. Fields are added, never changed."""

    device_id: str
    portal_url: str
    version: str
    agent_runs: bool
    portal_answers: bool
    removed: bool  # the portal no longer knows this device
    docker_answers: bool
    mode: Mode
    mode_reason: str
    traffic_month_bytes: int
    traffic_month_limit_bytes: int  # 0: none
    wanted_version: str  # "" where it is the one that runs
    apps: "tuple[App, ...]"
    problems: "tuple[str, ...]"  # each with what mends it
    clock_ahead_seconds: int = 0  # of the portal's, where it is off by more than both can live with
    update_failure: str = ""  # which version did not come up here, and which runs instead


def show(parsed: "argparse.Namespace") -> int:
    """Print how this device is. Exit code: 0 all is well, 1 something is wrong (it says what), 3 the agent does not run."""
    home = Home(Path(parsed.home))
    found = look(home, configuration.load(home))
    owner.say(json.dumps(dataclasses.asdict(found), indent=1) if parsed.json else "\n".join(lines(found)))
    if not found.agent_runs:
        return NOT_RUNNING
    return WRONG if found.problems else FINE


def look(home: Home, settings: Config) -> Status:
    """Return how the device is now."""
    desired, runs = stored_desired(home) or Desired(), owner.is_running(home)
    problems = [] if runs else [f"The agent does not run. Start it: {_start(home)}"]
    portal = _portal(settings, home)
    problems += portal.problems
    seen: "dict[str, Seen] | None" = None
    info: "dict[str, Any]" = {}
    try:
        seen, info = owner.executor_of(settings, home).observe(), Engine(settings.engine).call("GET", "/info")
    except AgentError as error:
        problems.append(str(error))
    checks = [doctor.disk(home.root, info), *version_checks(home)]
    problems += [f"{check.message} {check.mend}" for check in checks if not check.ok and check.needed]
    standing, used, most = _standing(home, settings, desired)
    names = {lease.lease_id: lease.workload.name for lease in desired.leases}
    return Status(
        device_id=settings.device_id,
        portal_url=settings.portal_url,
        version=__version__,
        agent_runs=runs,
        portal_answers=portal.answers,
        removed=portal.removed,
        docker_answers=seen is not None,
        mode=standing.mode,
        mode_reason=standing.reason,
        traffic_month_bytes=used,
        traffic_month_limit_bytes=most,
        wanted_version=desired.release if desired.release != __version__ else "",
        apps=tuple(_app(lease, names.get(lease.lease_id, "")) for lease in (seen or {}).values()),
        problems=tuple(problems),
        clock_ahead_seconds=portal.clock_ahead_seconds,
        update_failure=_updater(home).failure,
    )


def lines(found: Status) -> "list[str]":
    """Return it in words: what is well, how much is lent, what runs, and last what is wrong."""
    told = [f"Device {found.device_id} of {found.portal_url}, agent {found.version}"]
    told += ["The agent runs."] if found.agent_runs else []
    told += ["The portal answers."] if found.portal_answers and not found.removed else []
    if found.wanted_version and not found.update_failure:
        told.append(f"Version {found.wanted_version} is meant for this device. {UPDATES_ITSELF}")
    if not found.removed:
        told.append(f"{WORDS[found.mode]} {found.mode_reason}".strip())
    if found.traffic_month_limit_bytes:
        used, most = found.traffic_month_bytes / 1e9, found.traffic_month_limit_bytes / 1e9
        told.append(f"Traffic this month: {used:.1f} of {most:.1f} GB")
    told += [f"  {_words(app)}" for app in found.apps]
    if found.docker_answers and not found.apps:
        told.append("Nothing runs here.")
    return [*told, *(f"! {problem}" for problem in found.problems)]


def _words(app: App) -> str:
    state = f"running on port {app.port}" if app.running else f"not running (exit code {app.exit_code})"
    return f"{app.name or 'an app'}: {state} (lease {app.lease_id}, generation {app.generation})"


def _app(seen: "Seen", name: str) -> App:
    return App(name, seen.lease_id, seen.generation, seen.running, seen.host_port, seen.exit_code)


def version_checks(home: Home) -> "list[Check]":
    """Return whether this agent is the version the portal means for the device; nothing where it means none."""
    desired = stored_desired(home) or Desired()
    updater = _updater(home)
    if updater.failure:
        mend = "It is not tried again; the next version is. Its log says why: interchain-node logs"
        return [Check("version", False, f"Version {updater.failure}", mend)]
    if not desired.release or desired.release == __version__:
        return []
    message = f"Version {desired.release} is meant for this device, {__version__} runs."
    return [Check("version", False, message, UPDATES_ITSELF, needed=False)]


def _updater(home: Home) -> "Updater":
    from nodes.agent.update import Updater

    return Updater(home, portal=lambda: owner.portal_of(configuration.load(home), home), restart=lambda: None)


@dataclass(frozen=True)
class _Portal:
    """What asking the portal came to."""

    answers: bool
    removed: bool = False
    problems: "tuple[str, ...]" = ()
    clock_ahead_seconds: int = 0


def _portal(settings: Config, home: Home) -> _Portal:
    from nodes.agent import server_api

    server_api.log.setLevel(logging.ERROR)  # what it says of the clock is said here
    try:
        key = keys.load(home.key)
        portal = server_api.Portal(settings.portal_url, device_id=settings.device_id, key=key, seconds=PORTAL_SECONDS)
        portal.release()
    except AgentError as error:
        code = getattr(error, "code", "")
        if code == owner.DEVICE_REVOKED:
            return _Portal(answers=True, removed=True, problems=(wording.REMOVED,))
        mend = "" if code else " Apps go on; the agent keeps trying. If it lasts: interchain-node doctor"
        return _Portal(bool(code), home.removed.exists(), (f"{error}.{mend}".replace("..", "."),))
    finally:
        server_api.log.setLevel(logging.NOTSET)
    off = round(portal.clock_ahead_seconds)
    problems = (f"{wording.clock(off)} The agent goes by the portal's. {wording.SET_CLOCK}",) if off else ()
    return _Portal(answers=True, problems=problems, clock_ahead_seconds=off)


def _standing(home: Home, settings: Config, desired: Desired) -> "tuple[limits.Standing, int, int]":
    """Return whether the device takes apps and why not, and the month's traffic with its limit."""
    now = datetime.now(timezone.utc)
    chosen = switch.read(home.mode)
    found = [limits.Standing(chosen.mode, "Typed here; `interchain-node resume` opens it." if chosen.since else "")]
    found.append(limits.Standing(desired.mode, "Chosen on its page." if desired.mode is not Mode.OPEN else ""))
    used, most = 0, 0
    for each in (settings.own_limits, desired.limits):
        used = Traffic(home.traffic).used(limits.month(each, now))
        found += [limits.by_clock(each, now), limits.by_traffic(each, used)]
        most = min(filter(None, (most, each.transfer_bytes_per_month)), default=0)
    return limits.strictest(found), used, most


def _start(home: Home) -> str:
    launcher = home.root.resolve().parent / "launch"
    if owner.has_systemd() and launcher.exists():
        return f"systemctl start {owner.SERVICE}"
    if launcher.exists():
        return str(launcher)
    container = os.environ.get("INTERCHAIN_NODE_HOME") and Path("/.dockerenv").exists()
    return f"docker start {owner.SERVICE}" if container else f"{owner.SERVICE} run --home {home.root}"
