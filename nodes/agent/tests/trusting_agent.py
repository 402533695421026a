"""The agent, but it looks at the firewall for no other reason than Docker's absence: what it saw it believes for an hour, and every round
begins as if there were news, never because it was quiet, when it would look anyway.

`python -m nodes.agent.tests.trusting_agent … run --home FOLDER`
"""

from __future__ import annotations

import functools
import sys
import threading
from pathlib import Path
from typing import Any

from nodes.agent import loop, work


class News(threading.Event):
    """An event that has always happened by the end of the wait."""

    def wait(self, timeout: "float | None" = None) -> bool:
        super().wait(timeout)
        return True


def with_news(make: Any) -> Any:
    @functools.wraps(make)
    def made(self: loop.Agent, *arguments: Any, **named: Any) -> None:
        make(self, *arguments, **named)
        self._wake.__class__ = News

    return made


if __name__ == "__main__":
    loop.FIREWALL_SECONDS = 3600.0
    loop.Agent.__init__ = with_news(loop.Agent.__init__)  # type: ignore[method-assign]
    sys.exit(work.main(Path(sys.argv[-1])))
