"""Commands about the installation itself: what `install.sh` and an update call, and its removal by the owner."""

from __future__ import annotations

import argparse
from pathlib import Path

from nodes.agent import __version__, keys
from nodes.agent import config as configuration
from nodes.agent.config import Config, Home
from nodes.agent.errors import SetupError
from nodes.agent.loop import stored_desired
from nodes.agent.owner import say


def selftest(parsed: argparse.Namespace) -> int:
    """Say whether this version can work with this device's files; asked before an update takes its place."""
    from nodes.agent import wiring

    home = Home(Path(parsed.home))
    configuration.load(home)
    keys.load(home.key)
    stored_desired(home)
    say(f"{wiring.__name__} of {__version__} can start here.")
    return 0


def uninstall(parsed: argparse.Namespace) -> int:
    """Remove the agent and everything it brought: apps, their data, networks, firewall rules, images, service, files."""
    from nodes.agent import uninstall as removal

    home = Home(Path(parsed.home))
    settings = configuration.load(home)
    held = [] if parsed.without_docker else _held(settings)
    if held and not parsed.keep_volumes:
        apps = "1 app keeps" if len(held) == 1 else f"{len(held)} apps keep"
        say(f"{apps} data here. It is deleted and cannot be had back; --keep-volumes keeps it.")
    if not parsed.yes and input("Remove everything? Type yes: ").strip().lower() != "yes":
        say("Nothing was removed.")
        return 1
    left = removal.run(home, keep_volumes=parsed.keep_volumes, without_docker=parsed.without_docker)
    for item in left:
        say(f"Still there: {item}")
    say(f"{'Everything else of Interchain' if left else 'Interchain'} is gone from this computer.")
    return 1 if left else 0


def _held(settings: Config) -> "list[str]":
    """Return the volumes of this device. Raises: SetupError: Docker does not answer."""
    from nodes.agent import volumes
    from nodes.agent.engine import Engine, EngineDown

    try:
        return volumes.names(settings.device_id, Engine(settings.engine))
    except EngineDown as error:
        raise SetupError(
            f"{error}. Without it what apps left in Docker cannot be removed; to leave that there: --without-docker"
        ) from error


def install_service(parsed: argparse.Namespace) -> int:
    """Write the launcher and, where there is systemd, the service; `install.sh` calls it."""
    from nodes.agent import service
    from nodes.agent.engine import Engine

    home = Home(Path(parsed.home))
    settings = configuration.load(home)
    base = home.root.resolve().parent
    service.write_launcher(base)
    if parsed.units:
        root = Engine(settings.engine).call("GET", "/info").get("DockerRootDir") or "/var/lib/docker"
        service.link_command(base)
        service.install(base, portal=settings.portal_url, docker_root=root)
    return 0
