"""`bin/run`: set up what is missing, start a whole Interchain, say where it is, stop all of it on Ctrl-C."""

from __future__ import annotations

import argparse
import functools
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from interchain_site.local import cuts, demo, images, npm, smoke, system
from interchain_site.local.site import DEVICES, Site
from interchain_site.local.steps import ROOT, Steps, Stop

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, a service manager, a closed terminal


def main(arguments: list[str]) -> int:
    """Run until interrupted; return the exit code."""
    options = parser().parse_args(arguments)
    if not 0 <= (options.port or 0) <= 65535 - 80:
        raise Stop(f"--port {options.port} is not a port: choose 1024 to 65455.")
    if options.cut or options.mend:
        print(cuts.ask(options.data.resolve(), options.cut or options.mend, away=bool(options.cut)))
        return 0
    for number in ENDINGS:
        signal.signal(number, _interrupt)
    steps = Steps()
    set_up_machine(steps)
    if options.smoke:
        return smoke.main(steps)
    site = Site(options.data, port=options.port, settings=_settings(options), say=_say)
    try:
        start(site, steps, empty=options.empty)
        print(welcome(site, steps.seconds), flush=True)
        cuts.follow(site, threading.Event())
    except KeyboardInterrupt:
        pass
    finally:
        for number in ENDINGS:
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave half of it running
        if site.is_open:
            print("\nStopping …", end="", flush=True)
        site.close()
        if site.is_open:
            print(f" all stopped: no process and no container is left. The data is kept in {_short(site.data)}.")
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    found = argparse.ArgumentParser(prog="bin/run", description=__doc__)
    found.add_argument(
        "--empty", action="store_true", help="no demo accounts, apps or device; only the operator's login"
    )
    found.add_argument(
        "--port", type=int, metavar="N", help="the portal's port (8000); the gateway listens 80 above it"
    )
    found.add_argument(
        "--data", type=Path, default=ROOT / "var", metavar="DIR", help="where the site keeps everything (var/)"
    )
    found.add_argument("--epoch-seconds", type=int, metavar="N", help="length of a settlement epoch (60)")
    found.add_argument(
        "--cut",
        metavar="DEVICE",
        choices=[*DEVICES],
        help=f"in a site that runs: switch one of its devices off ({', '.join(DEVICES)})",
    )
    found.add_argument("--mend", metavar="DEVICE", choices=[*DEVICES], help="switch it on again")
    found.add_argument(
        "--smoke", action="store_true", help="do the main job once on a site of its own, print a receipt, exit"
    )
    return found


def set_up_machine(steps: Steps) -> None:
    """Install and start what every site needs from the machine."""
    steps.do("System packages", lambda: system.install((*system.DOCKER, *system.SNAPSHOTS)))
    steps.do("npm packages (Ethereum node, contracts)", npm.install)
    steps.do("Docker Engine", system.start_engine)


def start(site: Site, steps: Steps, *, empty: bool) -> None:
    """Start a site, with its demo data unless it is to be empty."""
    site.open()
    cuts.forget(site.data)
    if not empty and not (site.data / "demo.done").exists():
        for app in images.APPS:
            steps.do(f"Image of the {app.slug} app", functools.partial(images.archive, app, site.data / "images"))
    demo.remember_operator(site, site.start(steps))
    if site.devices():
        steps.do("Node agents", site.start_agents)
    if not empty:
        demo.fill(site, steps)
    site.write_run_file(accounts=str(site.data / demo.FILE))


def welcome(site: Site, seconds: float) -> str:
    """Return what a person reads when everything runs."""
    lines = ["", f"Interchain runs after {seconds:.0f} s. Open {site.url}", ""]
    lines += [f"  {person.role:<10} {person.email:<28} {person.password}" for person in demo.people(site)]
    lines += [
        "",
        f"  Admin      {site.url}/admin/ (the operator's login)",
        f"  Apps       {site.gateway_url.replace('://', '://<name>.')}",
        f"  Test card  4242 4242 4242 4242, any date to come, any CVC; e-mails are files in {_short(site.mail)}",
        f"  Logs       {_short(site.data / 'log')}",
        "",
        f"To see a failover, open {site.url}/apps/{images.TWO_REPLICAS[0]}/ as the publisher; in another terminal: bin/run --cut second",
        "",
        "Ctrl-C stops all of it and keeps the data.",
    ]
    return "\n".join(lines)


def _settings(options: argparse.Namespace) -> dict[str, str]:
    return {"EPOCH_SECONDS": str(options.epoch_seconds)} if options.epoch_seconds else {}


def _say(line: str) -> None:
    print(f"  !  {line}", file=sys.stderr, flush=True)


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
