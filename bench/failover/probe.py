"""A client that asks again and again, and what it saw around a moment."""

from __future__ import annotations

import http.client
import threading
import time
from dataclasses import dataclass, field

EVERY_SECONDS = 0.05
PATIENCE_SECONDS = 30


@dataclass
class Probe:
    """Asks one address in turn, each request over a connection of its own."""

    port: int
    host: str = "127.0.0.1"
    name: str = ""
    seen: list[tuple[float, float, bool]] = field(default_factory=list)  # began, ended, whether it was a 200

    def __enter__(self) -> Probe:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(PATIENCE_SECONDS + 5)

    def _run(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            began = time.monotonic()
            good = answers(self.port, self.host, self.name)
            self.seen.append((began, time.monotonic(), good))

    def next_answer(self, after: float, seconds: float) -> float | None:
        """Wait for the first 200 that ended after a moment; returns the seconds since, None when none came in time."""
        while time.monotonic() < after + seconds:
            for _, ended, good in list(self.seen):
                if good and ended > after:
                    return ended - after
            time.sleep(0.02)
        return None

    def slowest(self, after: float) -> float:
        """Return how long the slowest request took that ended after a moment."""
        return max((ended - began for began, ended, _ in self.seen if ended > after), default=0.0)

    def failed(self, after: float) -> int:
        return sum(1 for _, ended, good in self.seen if ended > after and not good)


def answers(port: int, host: str = "127.0.0.1", name: str = "", timeout: float = PATIENCE_SECONDS) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", "/", headers={"Host": name} if name else {})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
