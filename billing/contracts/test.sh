#!/bin/sh
# Everything about the contracts: format, unit, fuzz and invariant tests, the gas snapshot.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
"$here/forge" fmt --check
"$here/forge" test
"$here/forge" snapshot --check .gas-snapshot --match-contract GasTest
