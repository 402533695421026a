#!/bin/sh
# Makes this computer an Interchain device. Run as root: apps are kept off your network by firewall rules only root can set.
# Undo with: systemctl disable --now interchain-node; rm -rf /opt/interchain-node /etc/systemd/system/interchain-node.service
set -eu

# The portal writes these two when it hands this script out.
PORTAL='__PORTAL_URL__'
TOKEN='__TOKEN__'

say() { printf '%s\n' "$*"; }
fail() { printf 'Not installed: %s\n' "$*" >&2; exit 1; }

if [ "$(id -u)" = 0 ]; then BASE=${INTERCHAIN_NODE_DIR:-/opt/interchain-node}; else BASE=${INTERCHAIN_NODE_DIR:-$HOME/.interchain-node}; fi
HOME_DIR=$BASE/home

say "1/5  Looking at this computer"
[ "$(uname -s)" = Linux ] || fail "Interchain devices run Linux; this is $(uname -s)."
[ "$(id -u)" = 0 ] || fail "root is needed to keep apps off your network. Put 'sudo' before 'sh' and try again."
command -v python3 >/dev/null || fail "Python is missing. Type: apt-get install python3 python3-venv"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' || fail "Python 3.9 or newer is needed; this is $(python3 --version)."
python3 -c 'import venv, ensurepip' 2>/dev/null || fail "Python's venv is missing. Type: apt-get install python3-venv"
command -v docker >/dev/null || [ -S /var/run/docker.sock ] || fail "Docker is missing. Type: apt-get install docker.io"
command -v iptables >/dev/null || [ -x /usr/sbin/iptables ] || fail "iptables is missing. Type: apt-get install iptables"

say "2/5  Downloading the agent"
mkdir -p "$BASE"
chmod 700 "$BASE"
WHEEL=$(python3 - "$PORTAL/install/agent.whl" "$BASE" <<'PYTHON'
import io, pathlib, sys, urllib.request, zipfile
url, folder = sys.argv[1:]
try:
    data = urllib.request.urlopen(url, timeout=60).read()
    names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    info = next(name.split("/")[0] for name in names if ".dist-info/" in name)
except (OSError, zipfile.BadZipFile, StopIteration) as error:
    sys.exit(f"{url}: {error}")
path = pathlib.Path(folder) / info.replace(".dist-info", "-py3-none-any.whl")
path.write_bytes(data)
print(path)
PYTHON
) || fail "the agent could not be downloaded from $PORTAL."

say "3/5  Installing it in $BASE"
[ -x "$BASE/venv/bin/python" ] || python3 -m venv "$BASE/venv"
"$BASE/venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade "$WHEEL" ||
    fail "pip could not install the agent; its last lines say why."
rm -f "$WHEEL"

say "4/5  Enrolling this device"
"$BASE/venv/bin/interchain-node" enrol --home "$HOME_DIR" --portal "$PORTAL" --token "$TOKEN" "$@" ||
    fail "the lines above say why. Mend it and run the same command again."

say "5/5  Starting"
if [ -d /run/systemd/system ]; then
    cat >/etc/systemd/system/interchain-node.service <<UNIT
[Unit]
Description=Interchain device
After=docker.service network-online.target
Wants=docker.service network-online.target

[Service]
ExecStart=$BASE/venv/bin/interchain-node run --home $HOME_DIR
Restart=always
RestartSec=5
# Apps belong to Docker, not to this unit: they go on while the agent restarts.
KillMode=process
Environment=MALLOC_ARENA_MAX=1

[Install]
WantedBy=multi-user.target
UNIT
    systemctl daemon-reload
    systemctl enable --quiet interchain-node
    systemctl restart interchain-node
    say "This device is enrolled and running. Its log: journalctl -u interchain-node"
elif [ "${INTERCHAIN_NODE_START:-yes}" = yes ]; then
    MALLOC_ARENA_MAX=1 nohup "$BASE/venv/bin/interchain-node" run --home "$HOME_DIR" >>"$BASE/agent.log" 2>&1 &
    say "This device is enrolled and running until the next reboot (there is no systemd here). Its log: $BASE/agent.log"
    say "To start it at boot, run this then: $BASE/venv/bin/interchain-node run --home $HOME_DIR"
else
    say "This device is enrolled. Start it with: $BASE/venv/bin/interchain-node run --home $HOME_DIR"
fi
