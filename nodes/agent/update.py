"""Puts another version of the agent in this one's place: one that the release key signed, and back again if it does not come up.

Steps: 1. the offer: keys from the one we trust to the one that signed, then the manifest; 2. the wheel, held to the manifest's
SHA-256; 3. an environment of its own beside ours; 4. it starts and can read this device's files; 5. `update/trying` names both;
6. `current` changes; 7. goodbye. The launcher (service.py) starts the new one and, unless that removes `trying` in time, goes back.
A kill at any step leaves the old version running or the launcher in step 7.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from nodes.agent import __version__, files, jws
from nodes.agent import config as configuration
from nodes.agent.config import Home
from nodes.agent.errors import AgentError
from nodes.agent.protocol import Manifest, ProtocolError, ReleaseKeyChange, ReleaseOffer, from_json
from nodes.agent.server_api import Portal, patiently

log = logging.getLogger(__name__)
UP_AFTER_SECONDS = 10.0  # a version that reports after so long has come up
RETRY_SECONDS = 3600.0  # after an update that could not be prepared
MOST_BYTES = 20 * 2**20
INSTALL_SECONDS = 600.0


class UpdateRefused(AgentError):
    """What is offered is not signed as it must be, not what was signed, or older than what runs."""


class Updater:
    """Updates of one installed agent. Does nothing for one that was not installed by `install.sh` (a container, a checkout)."""

    def __init__(
        self, home: Home, *, portal: "Callable[[], Portal]", restart: "Callable[[], None]", prefix: str = sys.prefix
    ) -> None:
        """Args: portal: makes a connection of our own. restart: ends this process; the launcher starts the next."""
        self._home, self._portal, self._restart = home, portal, restart
        self._base, self._version_folder = home.root.resolve().parent, Path(prefix).resolve()
        self._folder = self._base / "update"
        self._began, self._not_before = time.monotonic(), 0.0
        self._thread: "threading.Thread | None" = None
        self._is_up = False

    @property
    def possible(self) -> bool:
        """Whether this agent lies where an update can replace it."""
        return self._version_folder.parent == self._base / "versions" and (self._base / "current").is_symlink()

    @property
    def failure(self) -> str:
        """Which version did not come up here, "" if none."""
        previous, failed = self._read("failed")
        return f"{failed} did not come up; {previous} runs again." if failed else ""

    def reported(self) -> None:
        """A report of this version arrived: once it has run a little, it has come up."""
        if self._is_up or not self.possible or time.monotonic() - self._began < UP_AFTER_SECONDS:
            return
        self._is_up = True
        previous, new = self._read("trying")
        if not new:
            return
        (self._folder / "trying").unlink(missing_ok=True)
        if new == __version__:
            (self._folder / "failed").unlink(missing_ok=True)
            log.info("Updated from %s to %s.", previous, new)
            self._tidy({previous, new})

    def want(self, version: str) -> None:
        """Begin an update to this version, in a thread of its own, unless it runs, failed here, or one is under way."""
        busy = self._thread is not None and self._thread.is_alive()
        if not version or not self.possible or not self._is_up or busy or not newer(version, __version__):
            return
        if self._read("failed")[1] == version or time.monotonic() < self._not_before:
            return
        self._thread = threading.Thread(target=self._try, args=(version,), name="update", daemon=True)
        self._thread.start()

    def _try(self, version: str) -> None:
        try:
            self.run(version)
        except (AgentError, OSError, subprocess.SubprocessError) as error:
            log.error("The agent could not be updated to %s: %s", version, error)
            self._not_before = time.monotonic() + RETRY_SECONDS

    def run(self, version: str) -> None:
        """Take the seven steps.

        Raises:
            UpdateRefused: the offer is not to be trusted.
            PortalUnreachable, OSError, subprocess.SubprocessError: it could not be prepared.
        """
        portal = self._portal()
        settings = configuration.load(self._home)
        offer: ReleaseOffer = patiently(portal.release)
        key, manifest = trusted(offer, settings.release_key)
        if manifest.version != version or not newer(version, __version__):
            raise UpdateRefused(f"Version {manifest.version} is offered; {version} was named and {__version__} runs.")
        files.private_folder(self._folder)
        wheel = self._folder / f"interchain_node-{version}-py3-none-any.whl"
        try:
            patiently(lambda: portal.download_release(manifest.sha256, wheel, most=manifest.size))
            _hold_to(manifest, wheel)
            environment = self._install(version, wheel)
        finally:
            wheel.unlink(missing_ok=True)
        if key != settings.release_key:
            configuration.save(self._home, dataclasses.replace(configuration.load(self._home), release_key=key))
        files.write_atomic(self._folder / "trying", f"{self._version_folder.name}\n{version}\n".encode())
        beside = self._base / "current.next"
        beside.unlink(missing_ok=True)
        beside.symlink_to(Path("versions") / environment.name)
        os.replace(beside, self._base / "current")
        files.sync_folder(self._base)
        log.info("Version %s is in place; making way for it.", version)
        self._restart()

    def _install(self, version: str, wheel: Path) -> Path:
        environment = self._base / "versions" / version
        files.remove_folder(environment)
        python = getattr(sys, "_base_executable", sys.executable)
        _do([python, "-m", "venv", str(environment)])
        pip = [
            str(environment / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-cache-dir",  # an uninstall would leave it behind
            "--disable-pip-version-check",
        ]
        _do([*pip, str(wheel)])
        _do([str(environment / "bin" / "interchain-node"), "selftest", "--home", str(self._home.root.resolve())])
        return environment

    def _read(self, name: str) -> "tuple[str, str]":
        try:
            previous, new, *_ = (self._folder / name).read_text().split("\n")
            return previous, new
        except (OSError, ValueError):
            return "", ""

    def _tidy(self, keep: "set[str]") -> None:
        for folder in (self._base / "versions").iterdir():
            if folder.name not in keep:
                files.remove_folder(folder)


def trusted(offer: ReleaseOffer, key: str) -> "tuple[str, Manifest]":
    """Return the key in force, found from the one we trust by the statements of each, and what it signed.

    Raises:
        UpdateRefused: no way leads there, or the manifest is not of that key.
    """
    if not key:
        raise UpdateRefused("This device was enrolled without a release key. Install the agent anew to update it.")
    for statement in offer.keys:
        change = _change(statement, key)
        key = change.new_key if change is not None else key
    try:
        manifest = from_json(Manifest, jws.verified(offer.manifest, key))
    except (ProtocolError, ValueError) as error:
        raise UpdateRefused(f"The offered version is not signed by the release key ({error}).") from error
    if manifest.kind != Manifest.kind:
        raise UpdateRefused("What is offered is signed, but is no version of the agent.")
    return key, manifest


def _change(statement: str, key: str) -> "ReleaseKeyChange | None":
    """Return the change if this key signed it; one of an earlier key is passed over."""
    try:
        change = from_json(ReleaseKeyChange, jws.verified(statement, key))
    except (ProtocolError, ValueError):
        return None
    return change if change.kind == ReleaseKeyChange.kind and change.old_key == key else None


def newer(version: str, than: str) -> bool:
    """Whether a version of dotted numbers is newer than another; what is no version is not."""
    try:
        return [int(part) for part in version.split(".")] > [int(part) for part in than.split(".")]
    except ValueError:
        return False


def _hold_to(manifest: Manifest, wheel: Path) -> None:
    data = wheel.read_bytes()
    if len(data) != manifest.size or hashlib.sha256(data).hexdigest() != manifest.sha256:
        raise UpdateRefused(f"The download is not the file that was signed for version {manifest.version}.")


def _do(command: "list[str]") -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False, env=environment, cwd="/"
    )
    if done.returncode != 0:
        raise UpdateRefused(f"{Path(command[0]).name} {' '.join(command[1:3])}: {done.stderr.strip()[-500:]}")
