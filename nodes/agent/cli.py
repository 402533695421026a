"""`interchain-node enrol | run | doctor | status | pause | drain | resume | limits | logs`: what an owner types.

Longer than 300 lines because every option of every command is listed here.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nodes.agent import __version__, diagnosis, installation, owner, protocol, status, wording, work
from nodes.agent import config as configuration
from nodes.agent.checkup import NOT_TOLD
from nodes.agent.config import Config, Home
from nodes.agent.errors import AgentError, SetupError

if TYPE_CHECKING:
    from nodes.agent.server_api import Portal

INSTALLED_HOME = Path("/opt/interchain-node/home")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def main(arguments: "list[str] | None" = None) -> int:
    """Run one command; returns the exit code. Errors are one plain message each."""
    parser = make_parser()
    if not (sys.argv[1:] if arguments is None else arguments):
        parser.print_help()
        return 2
    parsed = parser.parse_args(arguments)
    work.log_to_stderr()
    try:
        code: int = parsed.command(parsed)
        return code
    except AgentError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    except BrokenPipeError:  # who read it has seen enough: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except PermissionError as error:
        print(f"{error.filename or 'That'} may be read by root only. Put sudo before the command.", file=sys.stderr)  # noqa: T201
        return 1
    except OSError as error:
        print(f"{diagnosis.of_device(error)} {error.filename or ''}".strip(), file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 130


def enrol(parsed: argparse.Namespace) -> int:
    """Make this machine a device: examine it, measure it, make its key, hand the token in."""
    from nodes.agent import benchmark, doctor, keys
    from nodes.agent.engine import Engine
    from nodes.agent.firewall import Firewall
    from nodes.agent.perf import Perf
    from nodes.agent.server_api import Portal, patiently

    home = Home(Path(parsed.home)).create()
    if home.config.exists():
        known = configuration.load(home)
        _say(f"Already enrolled as device {known.device_id}. To enrol anew, delete {home.root} first.")
        return 0
    portal = Portal(parsed.portal)
    checks = doctor.examine(Engine(parsed.engine), Firewall(), folder=home.root, portal_url=parsed.portal)
    for check in checks:
        _say(doctor.line(check))
    _tell(portal, protocol.CheckReport(tuple(checks), parsed.token))
    if any(check.needed and not check.ok for check in checks):
        raise SetupError("This computer cannot be a device yet: see FAIL above.")
    _say("Measuring this device …")
    measured = benchmark.run(home.root)
    offered, own = owner.offered(
        home, parsed, perf=Perf().available, holds={check.name for check in checks if check.ok}
    )
    key = keys.create(home.key)
    request = protocol.Enrolment(
        parsed.token,
        key.public_x,
        __version__,
        offered,
        measured,
        endpoint_host=parsed.endpoint_host,
        limits=own,
        tunnel=parsed.tunnel,
    )
    done: protocol.Enrolled = patiently(lambda: portal.enrol(request))
    configuration.save(home, _settings(parsed, done, measured.instructions_per_second, own))
    _say(f"Enrolled as device {done.device_id}. Start it with: interchain-node run --home {home.root}")
    return 0


def _settings(parsed: argparse.Namespace, done: protocol.Enrolled, rate: int, own: protocol.Limits) -> Config:
    address = parsed.publish_address or ("127.0.0.1" if parsed.endpoint_host in LOOPBACK else Config.publish_address)
    return Config(
        device_id=done.device_id,
        portal_url=done.portal_url,
        link_url=done.link_url,
        instructions_per_second=rate,
        publish_address=address,
        allow_outbound=parsed.allow_outbound,
        engine=parsed.engine,
        limits=dataclasses.replace(own, outbound=True),  # `allow_outbound` says it already
        release_key=done.release_key,
        directory_key=done.directory_key,
        directory_port=parsed.directory_port,
        link_key=done.link_key,
    )


def run(parsed: argparse.Namespace) -> int:
    """Work until SIGTERM or Ctrl-C. Apps keep running afterwards."""
    return work.run(Path(parsed.home))


def start(parsed: argparse.Namespace) -> int:
    """Enrol if this is the first time, then run: what a container of the agent does."""
    home = Home(Path(parsed.home))
    if not home.config.exists():
        if not parsed.portal or not parsed.token:
            raise SetupError("This device is not enrolled. Give --portal and --token, from the device's page.")
        code = enrol(parsed)
        if code:
            return code
    # In a fresh interpreter: what enrolment took in memory is given back.
    os.execv(sys.executable, [sys.executable, "-m", "nodes.agent", "run", "--home", str(home.root)])  # noqa: S606


def examine(parsed: argparse.Namespace) -> int:
    """Print whether this machine may run strangers' programs, and what to mend; an enrolled device's page shows it too."""
    from nodes.agent import doctor
    from nodes.agent.engine import Engine
    from nodes.agent.firewall import Firewall

    home = Home(Path(parsed.home))
    settings = configuration.load(home) if home.config.exists() else None
    checks = doctor.examine(
        Engine(settings.engine if settings else parsed.engine),
        Firewall(),
        folder=home.root if home.root.exists() else None,
        portal_url=settings.portal_url if settings else parsed.portal,
    )
    told = True
    if settings is not None:
        checks += [doctor.directory(settings), *status.version_checks(home)]
        told, removed = _tell(owner.portal_of(settings, home), protocol.CheckReport(tuple(checks)))
        if removed:
            what, _, mend = wording.REMOVED.partition(" Take")
            checks.append(protocol.Check("registration", False, what, f"Take{mend}"))
            told = True
    if parsed.json:
        _say(json.dumps([dataclasses.asdict(check) for check in checks], indent=1))
    else:
        for check in checks:
            _say(doctor.line(check))
    if not told:
        return NOT_TOLD
    return 0 if all(check.ok or not check.needed for check in checks) else 1


def spot_check(parsed: argparse.Namespace) -> int:
    """Do the work of a spot check; the agent calls it."""
    from nodes.agent import benchmark

    digests, seconds = benchmark.chain(parsed.seed, parsed.rounds)
    _say(json.dumps({"digests": digests, "milliseconds": int(seconds * 1000)}))
    return 0


def _tell(portal: "Portal", report: protocol.CheckReport) -> "tuple[bool, bool]":
    """Let the device's page show what was found; a portal out of reach is among the checks already.

    Returns:
        whether the portal was told, and whether it has removed this device.
    """
    log = logging.getLogger("nodes.agent.server_api")
    log.setLevel(logging.ERROR)  # a clock that is off is among the checks too
    try:
        portal.checks(report)
    except AgentError as error:
        removed = getattr(error, "code", "") == owner.DEVICE_REVOKED
        if not removed:
            logging.getLogger(__name__).info("The portal was not told: %s", error)
        return False, removed
    finally:
        log.setLevel(logging.NOTSET)
    return True, False


def make_parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    parser = argparse.ArgumentParser(
        prog="interchain-node", description="Lends this computer to Interchain.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command, arguments in COMMANDS:
        help_text = (command.__doc__ or "").split("\n")[0]
        if name in INTERNAL:  # without `help` it is not listed
            sub = commands.add_parser(name, description=help_text, allow_abbrev=False)
        else:
            sub = commands.add_parser(
                name, help=help_text.replace("%", "%%"), description=help_text, allow_abbrev=False
            )
        sub.set_defaults(command=command)
        sub.add_argument("--home", default=str(default_home()), help="folder of this device's key and settings")
        if arguments is not None:
            arguments(sub)
    return parser


def default_home() -> Path:
    """Return the folder the install script uses, or one of this person's own."""
    chosen = os.environ.get("INTERCHAIN_NODE_HOME")
    if chosen:
        return Path(chosen)
    # Only root may look into the installation; that this person may not is said when something in there is read.
    return INSTALLED_HOME if INSTALLED_HOME.parent.exists() else Path.home() / ".interchain-node" / "home"


def _json_argument(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true", help="for programs")


def _doctor_arguments(sub: argparse.ArgumentParser) -> None:
    _engine_argument(sub)
    _json_argument(sub)
    sub.add_argument("--portal", default="", help="address of the portal, on a device that is not enrolled yet")


def _engine_argument(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--engine", default=os.environ.get("DOCKER_HOST", Config.engine), help="address of the Docker Engine"
    )


def _enrol_arguments(sub: argparse.ArgumentParser) -> None:
    _engine_argument(sub)
    sub.add_argument("--portal", required=True, help="address of the portal")
    sub.add_argument("--token", required=True, help="from the device page; used once")
    sub.add_argument("--endpoint-host", default="", help="name or address the gateway reaches this device by")
    sub.add_argument(
        "--tunnel", action="store_true", help="it cannot be reached from outside: open tunnels (needs ssh)"
    )
    sub.add_argument("--publish-address", default="", help="address apps' ports are opened on")
    sub.add_argument(
        "--directory-port", type=int, default=Config.directory_port, help="where the directory is served; 0: nowhere"
    )
    sub.add_argument("--cpu-millis", type=int, default=0, help="processor to lend; 1000 is one core (default: all)")
    sub.add_argument("--memory-mib", type=int, default=0, help="memory to lend (default: 80 %%)")
    sub.add_argument("--disk-gib", type=int, default=0, help="disk to lend (default: half of what is free)")
    sub.add_argument("--allow-outbound", action="store_true", help="let apps that ask for it call out to the internet")


def _limits_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--cpu-millis", type=int, help="1000 is one core")
    sub.add_argument("--memory-mib", type=int)
    sub.add_argument("--disk-gib", type=int)
    sub.add_argument("--transfer-gb", type=int, help="a month, in and out")
    sub.add_argument("--hours", type=owner.parse_hours, help='"Mon-Fri 18:00-08:00, Sat 00:00-24:00", or always')
    sub.add_argument("--time-zone", help="for the hours and the month, e.g. America/New_York")
    sub.add_argument("--drain-minutes", type=int, help="before closing time, in which apps move away")
    sub.add_argument("--profiles", type=_list, help="sandboxes accepted: restricted,baseline")
    sub.add_argument("--blocked-images", type=_list, help="names or patterns, separated by commas; '' for none")
    sub.add_argument("--outbound", type=_yes, metavar="yes|no", help="apps that ask for it may call out")
    _json_argument(sub)


def _list(text: str) -> "tuple[str, ...]":
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _yes(text: str) -> bool:
    if text.lower() not in ("yes", "no"):
        raise argparse.ArgumentTypeError("say yes or no")
    return text.lower() == "yes"


def _drain_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--wait", action="store_true", help="return when nothing runs here any more")


def _uninstall_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--yes", action="store_true", help="do not ask")
    sub.add_argument("--keep-volumes", action="store_true", help="leave apps' data where it is")
    sub.add_argument("--without-docker", action="store_true", help="Docker is gone: leave in it what is in it")


def _service_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--units", action="store_true", help="also write and start the systemd service")


def _start_arguments(sub: argparse.ArgumentParser) -> None:
    _enrol_arguments(sub)
    for action in sub._actions:
        if action.dest in ("portal", "token"):
            action.required, action.default = False, ""


def _spot_check_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("seed")
    sub.add_argument("rounds", type=int)


def _logs_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("-n", "--lines", type=int, default=100)
    sub.add_argument("-f", "--follow", action="store_true")


_say = owner.say
INTERNAL = ("service", "selftest", "spot-check")  # typed by install.sh and by the agent itself
COMMANDS = (
    ("enrol", enrol, _enrol_arguments),
    ("run", run, None),
    ("doctor", examine, _doctor_arguments),
    ("status", status.show, _json_argument),
    ("pause", owner.pause, None),
    ("drain", owner.drain, _drain_arguments),
    ("resume", owner.resume, None),
    ("limits", owner.show_limits, _limits_arguments),
    ("rotate-key", owner.rotate_key, None),
    ("logs", owner.logs, _logs_arguments),
    ("uninstall", installation.uninstall, _uninstall_arguments),
    ("start", start, _start_arguments),
    ("service", installation.install_service, _service_arguments),
    ("selftest", installation.selftest, None),
    ("spot-check", spot_check, _spot_check_arguments),
)
