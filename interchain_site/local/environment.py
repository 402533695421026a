"""The `.env` of a site on this machine: secrets made once, addresses written at each start (names as in `dotenv-sample`)."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from interchain_site.local.ports import Ports

GATEWAY_DOMAIN = "apps.localhost"
TUNNEL_PORTS = 100
# What a person trying it out wants to see within minutes; production's defaults are in settings.py.
QUICK = {
    "EPOCH_SECONDS": "60",
    "EARNINGS_HOLD_SECONDS": "60",
    "ADDRESS_HOLD_SECONDS": "60",
    "WITHDRAWAL_CARD_HOLD_SECONDS": "60",
    "READING_INTERVAL_SECONDS": "10",
}


def write(path: Path, *, data: Path, ports: Ports, settings: Mapping[str, str]) -> dict[str, str]:
    """Write the file (mode 0600), keeping the secrets it has; return its values.

    Args:
        settings: what this site wants different.
    """
    known = read(path)
    values = {
        "DEBUG": "1",
        "DATA_DIR": str(data),
        "SECRET_KEY": known.get("SECRET_KEY") or secrets.token_urlsafe(50),
        "FIELD_ENCRYPTION_KEYS": known.get("FIELD_ENCRYPTION_KEYS")
        or base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "STRIPE_SECRET_KEY": known.get("STRIPE_SECRET_KEY") or f"sk_test_{secrets.token_hex(16)}",
        "STRIPE_WEBHOOK_SECRET": known.get("STRIPE_WEBHOOK_SECRET") or f"whsec_{secrets.token_hex(16)}",
        **addresses(ports),
        **QUICK,
        **settings,
    }
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write("# Written by bin/run at each start; the secrets are kept.\n")
        file.writelines(f"{name}={value}\n" for name, value in values.items())
    partial.rename(path)
    return values


def addresses(ports: Ports) -> dict[str, str]:
    """Return the settings that follow from where the servers listen."""
    stripe = f"http://127.0.0.1:{ports.stripe}"
    return {
        "PORTAL_URL": f"http://localhost:{ports.web}",
        "REDIS_URL": f"redis://127.0.0.1:{ports.valkey}/0",
        "STRIPE_API_BASE": stripe,
        "CSP_FORM_ACTION": stripe,
        "ETHEREUM_RPC_URL": f"http://127.0.0.1:{ports.anvil}",
        "GATEWAY_DOMAIN": GATEWAY_DOMAIN,
        "GATEWAY_PUBLIC_URL": f"http://{GATEWAY_DOMAIN}:{ports.gateway}",
        "GATEWAY_ADMIN_URL": f"http://127.0.0.1:{ports.gateway_admin}",
        "GATEWAY_LISTEN": f"127.0.0.1:{ports.gateway}",
        "TUNNEL_PORT": str(ports.tunnel),
        "TUNNEL_LISTEN": f"127.0.0.1:{ports.tunnel}",
        "TUNNEL_CLIENT_HOST": "127.0.0.1",
        # Below what the kernel hands out, and seldom another site's.
        "TUNNEL_PORT_FIRST": str(12_000 + ports.tunnel % 70 * TUNNEL_PORTS),
        "TUNNEL_PORTS": str(TUNNEL_PORTS),
    }


def read(path: Path) -> dict[str, str]:
    """Return the values in a dotenv file; none when it is not there."""
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def process_environment(path: Path) -> dict[str, str]:
    """Return the environment of a site's programs: this one's, without any setting of ours, plus the name of the file."""
    ours = {*read(path), "DATABASE_URL", "EMAIL_URL"}
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    return {**inherited, "INTERCHAIN_ENV_FILE": str(path), "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
