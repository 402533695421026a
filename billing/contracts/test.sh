#!/bin/sh
# Everything about the contracts: format, unit, fuzz and invariant tests, what the calls cost. A changed cost fails.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
"$here/forge" fmt --check
"$here/forge" test --gas-snapshot-check=true
