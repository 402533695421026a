"""What an owner types on an enrolled device: `interchain-node pause | drain | resume | limits | logs`.

Each works whether the agent runs or not, and without the portal: the files in the device's folder are what counts.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodes.agent import capacity, files, gvisor, keys, limits, rotation, switch, trials, wording
from nodes.agent import config as configuration
from nodes.agent.config import Config, Home
from nodes.agent.errors import AgentError, SetupError
from nodes.agent.protocol import Hours, Limits, Mode, ModeWish, Runtime

if TYPE_CHECKING:
    from nodes.agent.docker_executor import DockerExecutor

SERVICE = "interchain-node"
DEVICE_REVOKED = "device_revoked"
LOG_NAME = "agent.log"  # beside the home folder, where there is no systemd
DRAINED_POLL_SECONDS = 2.0
UNITS = {
    "cpu_millis": (1000, "cores"),
    "memory_bytes": (2**30, "GiB"),
    "disk_bytes": (2**30, "GiB"),
    "transfer_bytes_per_month": (10**9, "GB"),
}
LABELS = {
    "cpu_millis": "Processor",
    "memory_bytes": "Memory",
    "disk_bytes": "Disk",
    "transfer_bytes_per_month": "Traffic a month",
    "hours": "Hours",
    "time_zone": "Time zone",
    "drain_minutes": "Apps move away",
    "profiles": "Sandboxes accepted",
    "outbound": "Apps may call out",
    "blocked_images": "Images not accepted",
}
SWITCHED = {
    Mode.OPEN: "This device takes apps.",
    Mode.PAUSED: "This device takes no new apps. What runs goes on. To take apps again: interchain-node resume",
    Mode.DRAINING: "This device takes no new apps, and what runs moves away. To take apps again: interchain-node resume",
}


def pause(parsed: argparse.Namespace) -> int:
    """Take no new apps; what runs goes on. Holds until `resume`, whatever the portal says."""
    return _switch(parsed, Mode.PAUSED)


def drain(parsed: argparse.Namespace) -> int:
    """Take no new apps and let what runs move away; after some minutes what is left is stopped, its data kept."""
    code = _switch(parsed, Mode.DRAINING)
    home = Home(Path(parsed.home))
    if parsed.wait:
        if not is_running(home):
            raise SetupError("Nothing moves away while the agent does not run. Start it, then repeat this.")
        executor = executor_of(configuration.load(home), home)
        while executor.observe():
            time.sleep(DRAINED_POLL_SECONDS)
        say("Nothing runs here any more.")
    return code


def resume(parsed: argparse.Namespace) -> int:
    """Take apps again, here and at the portal."""
    code = _switch(parsed, Mode.OPEN)
    home = Home(Path(parsed.home))
    settings = configuration.load(home)
    try:
        portal_of(settings, home).mode(ModeWish(Mode.OPEN))
    except AgentError as error:
        if getattr(error, "code", "") == DEVICE_REVOKED:
            raise SetupError(wording.REMOVED) from error
        say(f"The portal could not be told ({error}). If the device's page says paused, resume it there.")
    return code


def _switch(parsed: argparse.Namespace, mode: Mode) -> int:
    home = Home(Path(parsed.home))
    configuration.load(home)
    switch.write(home.mode, mode)
    say(SWITCHED[mode])
    if not is_running(home):
        say("The agent does not run now; it keeps to this when it starts.")
    if home.removed.exists():
        raise SetupError(wording.REMOVED)
    return 0


def show_limits(parsed: argparse.Namespace) -> int:
    """Show or change this device's own limits; they hold whatever the portal says, within seconds."""
    home = Home(Path(parsed.home))
    settings = configuration.load(home)
    changed = _changed(settings, parsed)
    if changed != settings:
        faults = limits.faults(changed.limits)
        if faults:
            raise SetupError("\n".join(f"{name}: {text}" for name, text in faults.items()))
        configuration.save(home, changed)
        if not parsed.json:
            say("Saved. They hold " + ("within seconds." if is_running(home) else "from the agent's next start."))
    own = dataclasses.asdict(changed.own_limits)
    if parsed.json:
        say(json.dumps(own, indent=1))
        return 0
    for name, value in own.items():
        say(f"  {LABELS[name]:22} {_shown(name, value)}")
    return 0


def _changed(settings: Config, parsed: argparse.Namespace) -> Config:
    changes: dict[str, Any] = {}
    for name, option, unit in (
        ("cpu_millis", parsed.cpu_millis, 1),
        ("memory_bytes", parsed.memory_mib, 2**20),
        ("disk_bytes", parsed.disk_gib, 2**30),
        ("transfer_bytes_per_month", parsed.transfer_gb, 10**9),
        ("drain_minutes", parsed.drain_minutes, 1),
    ):
        if option is not None:
            changes[name] = option * unit
    for name in ("time_zone", "profiles", "blocked_images", "hours"):
        if getattr(parsed, name) is not None:
            changes[name] = getattr(parsed, name)
    settings = dataclasses.replace(settings, limits=dataclasses.replace(settings.limits, **changes))
    if parsed.outbound is not None:
        return dataclasses.replace(settings, allow_outbound=parsed.outbound)
    return settings


def _shown(name: str, value: Any) -> str:
    if name == "hours":
        return ", ".join(hours_text(Hours(**hours)) for hours in value) or "always"
    if isinstance(value, (tuple, list)):
        return ", ".join(value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value == 0 and name != "drain_minutes":
        return "no limit of its own"
    if name == "drain_minutes":
        return f"{value} minutes before the hours end"
    return f"{value / UNITS[name][0]:,.3g} {UNITS[name][1]}" if name in UNITS else str(value)


def hours_text(hours: Hours) -> str:
    """Return "Mon 09:00-17:00"."""
    return f"{limits.DAYS[hours.day][:3]} {hours.opens // 60:02d}:{hours.opens % 60:02d}-{hours.closes // 60:02d}:{hours.closes % 60:02d}"


def parse_hours(text: str) -> "tuple[Hours, ...]":
    """Read `Mon-Fri 18:00-08:00, Sat 00:00-24:00`, or `always`.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    if text.strip().lower() in ("", "always"):
        return ()
    short = [day[:3].lower() for day in limits.DAYS]
    found: "list[Hours]" = []
    try:
        for part in text.split(","):
            days, times = part.split()
            first, _, last = days.lower().partition("-")
            opens, closes = (int(end.split(":")[0]) * 60 + int(end.split(":")[1]) for end in times.split("-"))
            start, end = short.index(first[:3]), short.index((last or first)[:3])
            found += [Hours(day % 7, opens, closes) for day in range(start, end + (7 if end < start else 0) + 1)]
    except (ValueError, IndexError):
        raise argparse.ArgumentTypeError(f"{text!r} is not like: Mon-Fri 18:00-08:00, Sat 00:00-24:00") from None
    return tuple(found)


def rotate_key(parsed: argparse.Namespace) -> int:
    """Replace this device's key: the old one names the new, the portal takes both for a week."""
    home = Home(Path(parsed.home))
    configuration.load(home)
    rotation.ask(home)
    say("The agent makes a new key " + ("within a minute." if is_running(home) else "when it starts."))
    return 0


def logs(parsed: argparse.Namespace) -> int:
    """Show the agent's log."""
    beside, more = Path(parsed.home).parent / LOG_NAME, ["-f"] if parsed.follow else []
    if beside.exists() and not beside.stat().st_size and not parsed.follow:
        say(f"{beside} is empty: nothing worth telling has happened. How this device is: {SERVICE} status")
        return 0
    if beside.exists():
        command = ["tail", "-n", str(parsed.lines), *more, str(beside)]
    elif has_systemd() and shutil.which("journalctl"):
        command = ["journalctl", "-u", SERVICE, "-n", str(parsed.lines), *more]
    else:
        raise SetupError(
            f"There is no log here: neither a journal of {SERVICE} nor {beside}. "
            f"An agent installed with Docker has its log there: docker logs {SERVICE}"
        )
    return subprocess.run(command, check=False).returncode


def has_systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def is_running(home: Home) -> bool:
    """Whether an agent is at work in this folder."""
    try:
        files.lock(home.root / "lock").close()
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def executor_of(settings: Config, home: Home) -> "DockerExecutor":
    """Return what says which leases Docker has here; it can fetch nothing."""
    from nodes.agent.docker_executor import DockerExecutor
    from nodes.agent.engine import Engine
    from nodes.agent.images import Images

    engine = Engine(settings.engine)
    images = Images(engine, fetch=lambda image, path, cancelled: None, folder=home.archives)
    return DockerExecutor(settings, engine=engine, images=images)


def portal_of(settings: Config, home: Home) -> "Any":
    """Return the portal, spoken to as this device."""
    from nodes.agent.server_api import Portal

    return Portal(settings.portal_url, device_id=settings.device_id, key=keys.load(home.key))


def offered(home: Home, parsed: argparse.Namespace, *, perf: bool, holds: "set[str]") -> "tuple[Any, Limits]":
    """Return what a new device offers, and the same as its own limits: the portal can never take more.

    Args:
        holds: names of the checks that passed.
    """
    measured = capacity.measure(
        home.root,
        cpu_millis=parsed.cpu_millis,
        memory_bytes=parsed.memory_mib * 2**20,
        disk_bytes=parsed.disk_gib * 2**30,
        perf_counters=perf,
    )
    runtimes = (*measured.runtimes, Runtime.GVISOR.value) if gvisor.NAME in holds else measured.runtimes
    measured = dataclasses.replace(
        measured, volume_quota=trials.VOLUMES in holds, layer_quota=trials.LAYERS in holds, runtimes=runtimes
    )
    own = Limits(measured.cpu_millis, measured.memory_bytes, measured.disk_bytes)
    return measured, dataclasses.replace(own, outbound=parsed.allow_outbound)


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def stop_running(home: Home, *, seconds: float = 30.0) -> bool:
    """End the agent at work in this folder; returns whether none is left."""
    pid = _pid(home)
    if pid:
        os.kill(pid, 15)
    until = time.monotonic() + seconds
    while is_running(home) and time.monotonic() < until:
        time.sleep(0.1)
    return not is_running(home)


def _pid(home: Home) -> int:
    """Return the process that holds the folder's lock, 0 if none does."""
    try:
        return int((home.root / "lock").read_text() or 0) if is_running(home) else 0
    except (OSError, ValueError):
        return 0
