"""Keeps containers away from the owner's device, network and, unless allowed, from everything else.

A bridge's name tells its policy (sandbox.py), so the rules are the same few whatever runs, they hold from the moment a bridge
exists, and agents sharing a machine agree on them:

    icn-*   only answers leave: new connections out of these bridges are dropped
    ico-*   may open connections to the internet, never to private, link-local (cloud metadata) or multicast addresses,
            not to port 25, and no more than 4,096 at a time
    both    nothing of the device itself may be reached (INPUT), and only the published port leads in

Published ports keep working: what comes in is not new on its way out. If the rules cannot be set, nothing is started.

Apps' bridges have no IPv6 (sandbox.py). Where the kernel has it, rules drop whatever comes out of them all the same: a bridge of the
device has a link-local address by itself, and only the kernel keeps a container from answering it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from nodes.agent import computer
from nodes.agent.errors import SetupError
from nodes.agent.sandbox import CLOSED_PREFIX, OUTBOUND_PREFIX

FORWARD_CHAIN, INPUT_CHAIN = "INTERCHAIN-FORWARD", "INTERCHAIN-INPUT"
PRIVATE_RANGES = (  # RFC 6890: nothing here is the internet
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "168.63.129.16/32",  # Azure tells its machines their secrets here, at a public address
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
)
CONNECTIONS = 4096  # of one app at a time: a sixteenth of the smallest table Linux makes on a computer of 4 GB
WAIT_SECONDS = "5"  # for the lock other programs hold while they change rules
PREFIXES = (CLOSED_PREFIX, OUTBOUND_PREFIX)
_ANSWERS = "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"


def rules() -> "list[str]":
    """Return the rules of our two chains for IPv4, in order, as iptables-restore takes them."""
    forward = [f"-A {FORWARD_CHAIN} {_ANSWERS}", f"-A {FORWARD_CHAIN} -i {CLOSED_PREFIX}+ -j DROP"]
    forward += [f"-A {FORWARD_CHAIN} -d {net} -i {OUTBOUND_PREFIX}+ -j DROP" for net in PRIVATE_RANGES]
    # A stranger's program must not send mail from the owner's address.
    forward.append(f"-A {FORWARD_CHAIN} -i {OUTBOUND_PREFIX}+ -p tcp -m tcp --dport 25 -j DROP")
    # Where forwarding was on before Docker came, Docker below version 28 lets the owner's network route to every port of an app.
    forward += [f"-A {FORWARD_CHAIN} -o {prefix}+ -m conntrack ! --ctstate DNAT -j DROP" for prefix in PREFIXES]
    # The device's table of connections is one for all; full, it cuts the owner off as well.
    many = f"-m connlimit --connlimit-above {CONNECTIONS} --connlimit-mask 32 --connlimit-saddr"
    forward.append(f"-A {FORWARD_CHAIN} -i {OUTBOUND_PREFIX}+ {many} -j DROP")
    return [*forward, f"-A {INPUT_CHAIN} {_ANSWERS}", *_drops(INPUT_CHAIN)]


def rules_6() -> "list[str]":
    """Return the rules for IPv6: nothing leaves."""
    return [*_drops(FORWARD_CHAIN), *_drops(INPUT_CHAIN)]


def _drops(chain: str) -> "list[str]":
    return [f"-A {chain} -i {prefix}+ -j DROP" for prefix in PREFIXES]


class Firewall:
    """Sets the rules once, then only looks whether they still stand."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._families = families()

    def ensure(self) -> bool:
        """Make the rules stand; returns whether anything had to be done.

        Raises:
            SetupError: they cannot be set; nothing may run.
        """
        with self._lock, _one_agent_at_a_time():
            changed = [family.ensure() for family in self._families]
            return any(changed)


class Family:
    """The rules of one version of the internet protocol."""

    def __init__(self, program: str, rules: "list[str]", parents: "tuple[str, str]") -> None:
        """Args: parents: the chains that jump to ours, for what is forwarded and for what reaches the device."""
        self._program, self._rules = program, rules
        self.jumps = ((parents[0], FORWARD_CHAIN), (parents[1], INPUT_CHAIN))
        self._expected: "tuple[str, ...]" = ()

    def ensure(self) -> bool:
        """Make the rules stand; returns whether anything had to be done."""
        if self._expected and self._standing() == self._expected:
            return False
        self._apply()
        self._expected = self._standing()
        if len([line for line in self._expected if line.startswith("-A INTERCHAIN")]) != len(self._rules):
            raise SetupError("The firewall rules did not stay in place. Does another program manage iptables here?")
        return True

    def remove(self) -> None:
        """Take our two chains out; what is not there is passed over."""
        for parent, chain in self.jumps:
            for arguments in (("-D", parent, "-j", chain), ("-F", chain), ("-X", chain)):
                with contextlib.suppress(SetupError):
                    self._change(*arguments)

    def _apply(self) -> None:
        lines = self._list()
        if any(parent == "DOCKER-USER" and "-N DOCKER-USER" not in lines for parent, _ in self.jumps):
            raise SetupError(
                "The Docker Engine has no DOCKER-USER chain, so apps cannot be kept off your network. "
                "Start it without --iptables=false."
            )
        text = "\n".join(
            ["*filter", f":{FORWARD_CHAIN} - [0:0]", f":{INPUT_CHAIN} - [0:0]", *self._rules, "COMMIT", ""]
        )
        _run(f"{self._program}-restore", "--wait", WAIT_SECONDS, "--noflush", text=text)
        for parent, chain in self.jumps:
            # Inserted before the old one goes: no moment without the rule.
            self._change("-I", parent, "1", "-j", chain)
            while self._list().count(f"-A {parent} -j {chain}") > 1:
                position = _last_position(self._list(), parent, f"-j {chain}")
                self._change("-D", parent, str(position))

    def _standing(self) -> "tuple[str, ...]":
        """Return our rules and the two jumps to them as they are; a jump that is not first in its chain does not count."""
        lines = self._list()
        ours = [line for line in lines if line.startswith((f"-A {FORWARD_CHAIN} ", f"-A {INPUT_CHAIN} "))]
        for parent, _ in self.jumps:
            ours += [line for line in lines if line.startswith(f"-A {parent} ")][:1]
        return tuple(ours)

    def _list(self) -> "list[str]":
        return self._change("-S").splitlines()

    def _change(self, *arguments: str) -> str:
        return _run(self._program, "-w", WAIT_SECONDS, *arguments)


def families() -> "list[Family]":
    """Return the rules this kernel needs: for IPv4, and for IPv6 where it has that."""
    found = [Family("iptables", rules(), ("DOCKER-USER", "INPUT"))]
    if Path("/proc/net/if_inet6").exists():
        # Docker has a DOCKER-USER chain for IPv6 only where it was told to; our own place is before all of its.
        found.append(Family("ip6tables", rules_6(), ("FORWARD", "INPUT")))
    return found


@contextlib.contextmanager
def _one_agent_at_a_time() -> "Iterator[None]":
    """Agents sharing a machine take turns: a rule's position is only good until somebody else changes the chain."""
    folder = Path("/run/lock") if Path("/run/lock").is_dir() else Path("/tmp")  # noqa: S108 (no content)
    try:
        file = (folder / "interchain-firewall").open("a")
    except OSError:  # not root: setting the rules says so in better words
        yield
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _last_position(lines: "list[str]", parent: str, ending: str) -> int:
    chain = [line for line in lines if line.startswith(f"-A {parent} ")]
    return max(index for index, line in enumerate(chain, start=1) if line.endswith(ending))


def _run(program: str, *arguments: str, text: "str | None" = None) -> str:
    try:
        return computer.run(program, *arguments, package="iptables", text=text)
    except SetupError as error:
        words = f"The firewall cannot be set, so apps cannot be kept off your network: {error}"
        raise SetupError(words if os.geteuid() == 0 else f"{words} Run the agent as root.") from error
