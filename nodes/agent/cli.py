"""`interchain-node enrol | run | status | doctor`: what an owner types."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path

from nodes.agent import __version__
from nodes.agent import config as configuration
from nodes.agent.config import Config, Home
from nodes.agent.errors import AgentError

DEFAULT_HOME = Path.home() / ".interchain-node" / "home"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def main(arguments: "list[str] | None" = None) -> int:
    """Run one command; returns the exit code. Errors are one plain message each."""
    parsed = make_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("websockets").setLevel(logging.WARNING)
    try:
        code: int = parsed.command(parsed)
        return code
    except AgentError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 130


def enrol(parsed: argparse.Namespace) -> int:
    """Make this machine a device: examine it, measure it, make its key, hand the token in."""
    from nodes.agent import benchmark, capacity, doctor, keys, protocol
    from nodes.agent.engine import Engine
    from nodes.agent.firewall import Firewall
    from nodes.agent.perf import Perf
    from nodes.agent.server_api import Portal, patiently

    home = Home(Path(parsed.home)).create()
    if home.config.exists():
        known = configuration.load(home)
        _say(f"Already enrolled as device {known.device_id}. To enrol anew, delete {home.root} first.")
        return 0
    doctor.require(doctor.examine(Engine(parsed.engine), Firewall()))
    _say("Measuring this device …")
    measured = benchmark.run(home.root)
    offered = capacity.measure(
        home.root,
        cpu_millis=parsed.cpu_millis,
        memory_bytes=parsed.memory_mib * 2**20,
        disk_bytes=parsed.disk_gib * 2**30,
        perf_counters=Perf().available,
    )
    key = keys.create(home.key)
    request = protocol.Enrolment(
        parsed.token, key.public_x, __version__, offered, measured, endpoint_host=parsed.endpoint_host
    )
    portal = Portal(parsed.portal)
    done: protocol.Enrolled = patiently(lambda: portal.enrol(request))
    configuration.save(home, _settings(parsed, done, measured.instructions_per_second))
    _say(f"Enrolled as device {done.device_id}. Start it with: interchain-node run --home {home.root}")
    return 0


def _settings(parsed: argparse.Namespace, done: "object", rate: int) -> Config:
    address = parsed.publish_address or ("127.0.0.1" if parsed.endpoint_host in LOOPBACK else Config.publish_address)
    return Config(
        device_id=done.device_id,  # type: ignore[attr-defined]
        portal_url=done.portal_url,  # type: ignore[attr-defined]
        link_url=done.link_url,  # type: ignore[attr-defined]
        instructions_per_second=rate,
        publish_address=address,
        allow_outbound=parsed.allow_outbound,
        engine=parsed.engine,
    )


def run(parsed: argparse.Namespace) -> int:
    """Work until SIGTERM or Ctrl-C. Apps keep running afterwards."""
    from nodes.agent.wiring import Node

    node = Node(Home(Path(parsed.home)))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: node.stop())
    node.run()
    return 0


def status(parsed: argparse.Namespace) -> int:
    """Print what this device runs, from Docker itself: true whether the agent runs or not."""
    from nodes.agent.docker_executor import DockerExecutor
    from nodes.agent.engine import Engine
    from nodes.agent.images import Images

    home = Home(Path(parsed.home))
    settings = configuration.load(home)
    engine = Engine(settings.engine)
    images = Images(engine, fetch=lambda image, path, cancelled: None, folder=home.archives)
    _say(f"Device {settings.device_id} of {settings.portal_url}")
    seen = DockerExecutor(settings, engine=engine, images=images).observe()
    for lease in seen.values():
        state = f"running on port {lease.host_port}" if lease.running else f"not running (exit code {lease.exit_code})"
        _say(f"  lease {lease.lease_id} generation {lease.generation}: {state}")
    if not seen:
        _say("  nothing runs here")
    return 0


def examine(parsed: argparse.Namespace) -> int:
    """Print whether this machine may run strangers' programs, and what to mend."""
    from nodes.agent import doctor
    from nodes.agent.engine import Engine
    from nodes.agent.firewall import Firewall

    checks = doctor.examine(Engine(parsed.engine), Firewall())
    for check in checks:
        _say(f"{'ok  ' if check.ok else 'FAIL' if check.needed else 'note'}  {check.message}")
    return 0 if all(check.ok or not check.needed for check in checks) else 1


def make_parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    parser = argparse.ArgumentParser(prog="interchain-node", description="Lends this computer to Interchain.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True)
    engine = os.environ.get("DOCKER_HOST", Config.engine)
    for name, command in (("enrol", enrol), ("run", run), ("status", status), ("doctor", examine)):
        sub = commands.add_parser(name, help=(command.__doc__ or "").split("\n")[0])
        sub.set_defaults(command=command)
        sub.add_argument("--home", default=str(DEFAULT_HOME), help="folder of this device's key and settings")
        sub.add_argument("--engine", default=engine, help="address of the Docker Engine")
        if name == "enrol":
            _enrol_arguments(sub)
    return parser


def _enrol_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--portal", required=True, help="address of the portal")
    sub.add_argument("--token", required=True, help="from the device page; used once")
    sub.add_argument("--endpoint-host", default="", help="name or address the gateway reaches this device by")
    sub.add_argument("--publish-address", default="", help="address apps' ports are opened on")
    sub.add_argument("--cpu-millis", type=int, default=0, help="processor to lend; 1000 is one core (default: all)")
    sub.add_argument("--memory-mib", type=int, default=0, help="memory to lend (default: 80 %%)")
    sub.add_argument("--disk-gib", type=int, default=0, help="disk to lend (default: half of what is free)")
    sub.add_argument("--allow-outbound", action="store_true", help="let apps that ask for it call out to the internet")


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201
