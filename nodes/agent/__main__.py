"""`python -m nodes.agent` is `interchain-node`."""

from __future__ import annotations

import sys
from pathlib import Path

WORK = ["run", "--home"]


def main() -> int:
    """Run what was typed. The launcher's own words go past the command line's parser: it would stay in memory for good."""
    words = sys.argv[1:]
    if len(words) == len(WORK) + 1 and words[: len(WORK)] == WORK:
        from nodes.agent import process_settings

        process_settings.ensure()
        from nodes.agent import work

        return work.main(Path(words[-1]))
    from nodes.agent import cli

    return cli.main(words)


if __name__ == "__main__":
    sys.exit(main())
