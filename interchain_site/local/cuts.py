"""Cut a device of a running site off, as when its power fails, and let it come back: `bin/run --cut DEVICE`, `bin/run --mend DEVICE`.

The command leaves a file in the site's folder; the site's own process acts on it, because it is the one that would start the agent again.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from pathlib import Path

from interchain_site.local.site import DEVICES, Site
from interchain_site.local.steps import Stop

LOOK_SECONDS = 0.2
ANSWER_SECONDS = 30


def folder(data: Path) -> Path:
    """Return where a site's cuts are asked for: one file for each device that is to be away."""
    return data / "cut"


def forget(data: Path) -> None:
    """Forget what was cut before. To be called before the site can be found by `ask`, which would be forgotten, too."""
    folder(data).mkdir(parents=True, exist_ok=True)
    for file in folder(data).iterdir():
        file.unlink()
    (data / "away.json").unlink(missing_ok=True)


def follow(site: Site, ended: threading.Event) -> None:
    """Cut devices off and let them come back as files appear and go, until ended. Needs `forget` before."""
    asked = folder(site.data)
    away: set[str] = set()
    while not ended.wait(LOOK_SECONDS):
        wanted = {file.name for file in asked.iterdir()} & set(site.devices())
        for device in wanted - away:
            cut(site, device)
        for device in away - wanted:
            site.supervisor.resume(DEVICES[device])
        away = wanted
        (site.data / "away.json").write_text(json.dumps(sorted(away)))


def cut(site: Site, device: str) -> None:
    """Kill a device's agent and its containers, without a goodbye."""
    site.supervisor.pause(DEVICES[device], signal.SIGKILL)
    site.kill_containers(device)


def ask(data: Path, device: str, *, away: bool) -> str:
    """Ask the site that runs in a folder for a cut or its end, wait until it is done, and return what to look at.

    Raises:
        Stop: no site runs there, it has no such device, or it does not answer.
    """
    run = data / "run.json"
    if not run.exists():
        raise Stop(f"No site runs in {data}. Start it with bin/run, then type this in another terminal")
    if device not in DEVICES or not (data / DEVICES[device] / "config.json").exists():
        known = [name for name, home in DEVICES.items() if (data / home / "config.json").exists()]
        raise Stop(f"There is no device {device}. There are: {', '.join(known) or 'none'}")
    file = folder(data) / device
    file.touch() if away else file.unlink(missing_ok=True)
    give_up_at = time.monotonic() + ANSWER_SECONDS
    while (device in _away(data)) != away:
        if time.monotonic() > give_up_at:
            raise Stop(f"The site in {data} did not do it in {ANSWER_SECONDS} s; see its logs in {data / 'log'}")
        time.sleep(LOOK_SECONDS)
    portal = json.loads(run.read_text())["portal_url"]
    if away:
        return (
            f"The {device} device is off: agent and containers killed. What follows: {portal}/apps/ and the app's page"
        )
    return f"The {device} device is on again."


def _away(data: Path) -> list[str]:
    try:
        return list(json.loads((data / "away.json").read_text()))
    except (OSError, ValueError):
        return []
