"""Give a running site its demo data, step by step (`manage.py seed_demo` does the work inside)."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from interchain_site.local.seed_people import DemoPerson
from interchain_site.local.site import DEVICES, Site
from interchain_site.local.steps import Steps, Stop

FILE = "accounts.json"  # logins and API tokens of the demo accounts, for tools; mode 0600
ONLINE_SECONDS = 30


def remember_operator(site: Site, said: str) -> None:
    """Keep the staff account that `prepare_site` printed; every site has it."""
    remember(site, json.loads(said.splitlines()[-1])["operator"])


def fill(site: Site, steps: Steps) -> None:
    """Make the demo accounts, enrol this machine as three devices, buy NTC, register the apps and deploy one, once per data folder."""
    done = site.data / "demo.done"
    if done.exists():
        return
    made: dict[str, Any] = {}
    wanted = ("people", *(() if len(site.devices()) == len(DEVICES) else ("devices",)))
    steps.do("Demo accounts", lambda: made.update(_seed(site, *wanted)))
    remember(site, made["people"])
    if len(site.devices()) < len(DEVICES):
        steps.do("This machine as three devices of the owner", lambda: _enrol(site, made["devices"]))
        steps.do("Node agents", site.start_agents)
    steps.do("NTC bought by card, demo apps, two of them deployed", lambda: _deploy(site))
    done.touch()


def people(site: Site) -> list[DemoPerson]:
    """Return the accounts of a site, with their passwords and API tokens."""
    return [DemoPerson(**row) for row in json.loads((site.data / FILE).read_text())]


def _seed(site: Site, *parts: str) -> dict[str, Any]:
    return dict(json.loads(site.manage("seed_demo", *parts).splitlines()[-1]))


def _enrol(site: Site, tokens: dict[str, str]) -> None:
    for device, token in tokens.items():
        if not site.device_id(device):
            site.enrol_agent(token, device)


def _deploy(site: Site) -> None:
    """Deploying needs the device online, which takes the agent a moment."""
    give_up_at = time.monotonic() + ONLINE_SECONDS
    while True:
        try:
            _seed(site, "balance", "apps")
            return
        except Stop:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(1)


def remember(site: Site, rows: list[dict[str, str]]) -> None:
    """Add accounts to the file of logins."""
    path = site.data / FILE
    known = {row["role"]: row for row in json.loads(path.read_text())} if path.exists() else {}
    known |= {row["role"]: row for row in rows}
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(list(known.values()), file, indent=1)
