#!/bin/sh
# Makes this computer an Interchain device. Run as root: apps are kept off your network by firewall rules only root can set.
# Undo all of it with: interchain-node uninstall
set -eu

# The portal writes these two when it hands this script out.
PORTAL='__PORTAL_URL__'
TOKEN='__TOKEN__'

say() { printf '%s\n' "$*"; }
fail() { printf 'Not installed: %s\n' "$*" >&2; exit 1; }

# check NAME COMMAND FOUND MISSING MEND: what is found ticks on the device's page; what is missing ends the installation.
check() {
    if sh -c "$2" >/dev/null 2>&1; then tell "$1" true "$3" ""; else tell "$1" false "$4" "$5"; fail "$4 $5"; fi
}
tell() {
    command -v curl >/dev/null || return 0
    words=$(printf '%s' "$3" | tr -d '"\\')
    body="{\"token\":\"$TOKEN\",\"checks\":[{\"name\":\"$1\",\"ok\":$2,\"message\":\"$words\",\"mend\":\"$4\"}]}"
    curl -fsS -m 5 -o /dev/null -H 'Content-Type: application/json' -d "$body" "$PORTAL/api/node/v1/install-checks" 2>/dev/null || true
}

# All in one function, called at the end: half a script, after a download that broke off, does nothing.
set_up() {
if [ "$(id -u)" = 0 ]; then BASE=${INTERCHAIN_NODE_DIR:-/opt/interchain-node}; else BASE=${INTERCHAIN_NODE_DIR:-$HOME/.interchain-node}; fi
HOME_DIR=$BASE/home

say "1/5  Looking at this computer"
check linux '[ "$(uname -s)" = Linux ]' "This computer runs Linux." "Interchain devices run Linux; this is $(uname -s)." ""
check root '[ "$(id -u)" = 0 ]' "The installation runs as root." "root is needed to keep apps off your network." "Put sudo before sh and try again."
check python 'python3 -c "import sys; sys.exit(sys.version_info < (3, 9))"' "Python is here." "Python 3.9 or newer is missing." "Type: apt-get install python3 python3-venv (Fedora: dnf install python3)"
check venv 'python3 -c "import venv, ensurepip"' "Python can make environments." "Python's venv is missing." "Type: apt-get install python3-venv"
check docker 'command -v docker || [ -S /var/run/docker.sock ]' "Docker is here." "Docker is missing." "Type: apt-get install docker.io (Fedora: dnf install moby-engine), and start it: systemctl enable --now docker"
check firewall 'command -v iptables || [ -x /usr/sbin/iptables ]' "iptables is here." "iptables is missing." "Type: apt-get install iptables (Fedora: dnf install iptables-nft)"

say "2/5  Downloading the agent"
mkdir -p "$BASE/versions"
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
VERSION=$(basename "$WHEEL" | cut -d- -f2)

say "3/5  Installing version $VERSION in $BASE"
# Each version has an environment of its own, so that an update can go back (nodes/agent/update.py).
VENV=$BASE/versions/$VERSION
[ -x "$VENV/bin/python" ] || python3 -m venv "$VENV"
"$VENV/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check --upgrade --force-reinstall --no-deps "$WHEEL" &&
    "$VENV/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check "$WHEEL" ||
    fail "pip could not install the agent; its last lines say why."
rm -f "$WHEEL"
ln -sfn "versions/$VERSION" "$BASE/current"
NODE=$BASE/current/bin/interchain-node

say "4/5  Enrolling this device"
"$NODE" enrol --home "$HOME_DIR" --portal "$PORTAL" --token "$TOKEN" "$@" ||
    fail "mend what the lines above say, then run the same command again."

say "5/5  Starting"
if [ -d /run/systemd/system ]; then
    "$NODE" service --home "$HOME_DIR" --units
    say "This device is enrolled and running. See how it is: interchain-node status"
elif [ "${INTERCHAIN_NODE_START:-yes}" = yes ]; then
    "$NODE" service --home "$HOME_DIR"
    nohup "$BASE/launch" >>"$BASE/agent.log" 2>&1 &
    say "This device is enrolled and running until the next reboot (there is no systemd here). Its log: $BASE/agent.log"
    say "To start it at boot, run this then: $BASE/launch"
else
    "$NODE" service --home "$HOME_DIR"
    say "This device is enrolled. Start it with: $BASE/launch"
fi
say "Remove everything again with: $NODE uninstall --home $HOME_DIR"
}

set_up "$@"
