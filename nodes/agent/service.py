"""What starts the agent and keeps it running: a launcher that goes back to the last version, and systemd's units.

BASE/launch                       starts `current`, again whenever it ends
BASE/current → versions/0.1.0     the version that runs; an update changes this link as one step
BASE/versions/0.1.0/              a virtual environment each
BASE/update/                      what an update leaves for the launcher and the next version (update.py)
BASE/home/                        the device's key and files (config.py)
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from nodes.agent import computer

NAME = "interchain-node"
UNITS = Path("/etc/systemd/system")
LINK = Path("/usr/local/bin") / NAME
UP_SECONDS = 120

LAUNCHER = """#!/bin/sh
# Starts the Interchain agent, again whenever it ends. A version that was just put in place has a while to come up,
# which it says by removing update/trying; if it does not, the one before takes its place back.
BASE='{base}'
cd "$BASE" || exit 1
echo $$ >launch.pid
child=
stopped=
trap 'stopped=yes; [ -n "$child" ] && kill -TERM "$child" 2>/dev/null' TERM INT
trap '[ -n "$child" ] && kill -USR1 "$child" 2>/dev/null' USR1
trap '[ -n "$child" ] && kill -USR2 "$child" 2>/dev/null' USR2
alive() {{ kill -0 "$child" 2>/dev/null; }}

while [ -z "$stopped" ]; do
    current/bin/{name} run --home home &
    child=$!
    left=${{INTERCHAIN_UP_SECONDS:-{up_seconds}}}
    while [ -e update/trying ] && [ "$left" -gt 0 ] && alive && [ -z "$stopped" ]; do
        sleep 1
        left=$((left - 1))
    done
    if [ -e update/trying ] && [ -z "$stopped" ]; then
        previous=$(sed -n 1p update/trying)
        echo "The new version did not come up. Going back to $previous." >&2
        kill -KILL "$child" 2>/dev/null
        wait "$child"
        ln -sfn "versions/$previous" current.back && mv -T current.back current
        mv update/trying update/failed
        continue
    fi
    # A signal ends `wait` early; the agent may still be saying goodbye.
    while alive; do wait "$child"; done
    wait "$child"
    [ -n "$stopped" ] || [ -e update/trying ] || sleep 5
done
rm -f launch.pid
"""

UNIT = """[Unit]
Description=Interchain device: runs other people's apps in Docker
Documentation={portal}
After=docker.service network-online.target
Wants=docker.service network-online.target

[Service]
ExecStart={base}/launch
Restart=always
RestartSec=5
TimeoutStopSec=30
# Apps belong to Docker, not to this unit: they go on while the agent restarts.
KillMode=process

# The agent is root because only root sets firewall rules, reads apps' counters and measures their volumes.
# It keeps of root what these need, and sees the rest of the computer read-only or not at all.
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL CAP_SYS_PTRACE CAP_SYS_ADMIN
# CAP_SYS_ADMIN attaches loop devices (apps' volumes) and counts instructions (perf) on kernels before 5.8. No line here may hide /sys/fs/cgroup: the counters are there.
ProtectSystem=strict
ReadWritePaths={base} -/run/lock -/run/xtables.lock -{docker_root} -/var/lib/containerd
# Where Docker uses the containerd of the system, apps' writable layers lie there.
ProtectHome=read-only
PrivateTmp=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=no
ProtectControlGroups=no
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
# An app's network is set up from inside it.
RestrictNamespaces=net
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service @network-io perf_event_open
UMask=0077

[Install]
WantedBy=multi-user.target
"""

SLEEP_UNIT = """[Unit]
Description=Interchain device: say goodbye before sleep
Before=sleep.target
StopWhenUnneeded=yes

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=-/bin/systemctl kill --kill-who=main --signal=USR1 {name}.service
ExecStop=-/bin/systemctl kill --kill-who=main --signal=USR2 {name}.service

[Install]
WantedBy=sleep.target
"""


def unit(base: Path, *, portal: str, docker_root: str = "/var/lib/docker") -> str:
    return UNIT.format(base=base, portal=portal, docker_root=docker_root)


def sleep_unit() -> str:
    return SLEEP_UNIT.format(name=NAME)


def write_launcher(base: Path) -> Path:
    """Put the launcher in its place and return it."""
    path = base / "launch"
    path.write_text(LAUNCHER.format(base=base, name=NAME, up_seconds=UP_SECONDS))
    path.chmod(0o755)
    return path


def install(base: Path, *, portal: str, docker_root: str) -> None:
    """Write and start the units. As root, with systemd."""
    (UNITS / f"{NAME}.service").write_text(unit(base, portal=portal, docker_root=docker_root))
    (UNITS / f"{NAME}-sleep.service").write_text(sleep_unit())
    for arguments in (["daemon-reload"], ["enable", "--quiet", NAME, f"{NAME}-sleep"], ["restart", NAME]):
        subprocess.run(["systemctl", *arguments], check=True)


def remove() -> None:
    """Stop the service and remove its units and the command; it is fine if they are gone."""
    if any((UNITS / f"{name}.service").exists() for name in (NAME, f"{NAME}-sleep")) and computer.program("systemctl"):
        subprocess.run(
            ["systemctl", "disable", "--now", "--quiet", NAME, f"{NAME}-sleep"], check=False, capture_output=True
        )
        for name in (NAME, f"{NAME}-sleep"):
            (UNITS / f"{name}.service").unlink(missing_ok=True)
        subprocess.run(["systemctl", "daemon-reload"], check=False, capture_output=True)


def link_command(base: Path) -> None:
    """Let the owner type `interchain-node`, wherever they are."""
    if os.geteuid() == 0 and LINK.parent.is_dir() and not (LINK.exists() and not LINK.is_symlink()):
        LINK.unlink(missing_ok=True)
        LINK.symlink_to(base / "current" / "bin" / NAME)


def unlink_command(base: Path) -> None:
    if LINK.is_symlink() and str(base) in os.readlink(LINK):
        LINK.unlink()
