#!/bin/sh
# Run the static analyser over src/ and fail on any finding that SLITHER.md does not answer.
# The first run installs it into .slither/; after that no network is used.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
python="$here/.slither/bin/python"
if ! cmp -s "$here/requirements-slither.txt" "$here/.slither/installed.txt"; then
    python3 -m venv --clear "$here/.slither"
    "$python" -m pip install --quiet --requirement "$here/requirements-slither.txt"
    cp "$here/requirements-slither.txt" "$here/.slither/installed.txt"
fi
exec "$python" "$here/slither_findings.py"
