"""Behind the doors: `python -m interchain_site.local run|test|check`, called by `bin/` once the virtualenv stands."""

from __future__ import annotations

import sys

from interchain_site.local.steps import Stop


def main() -> int:
    """Run one door and return its exit code."""
    door, arguments = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    try:
        if door == "check":
            from interchain_site.local import check

            return check.main(arguments)
        if door == "test":
            from interchain_site.local import suites

            return suites.main(arguments)
        if door == "run":
            from interchain_site.local import run

            return run.main(arguments)
    except Stop as stop:
        print(f"\nStopped: {stop}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    print("Use bin/run, bin/test or bin/check.", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
