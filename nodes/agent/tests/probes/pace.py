"""How much a neighbour gets done while somebody abuses the device; used by the test and by bench/sandbox."""

from __future__ import annotations

import os
import re
import statistics
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from nodes.agent.tests.probes.scene import App, Gone

STORMS = ("forks", "memory", "disk", "logs", "processor", "packets")
MORE_STORMS = ("flushes", "entries", "reads", "lookups")  # for the bench only
SETTLE_SECONDS = 0.2


@dataclass
class Pace:
    """What was done a second, in windows with and without the abuse, in turns."""

    calm: dict[str, list[float]] = field(default_factory=dict)
    stormy: dict[str, list[float]] = field(default_factory=dict)

    def ratio(self, what: str) -> float:
        """Return the median with the abuse by the median without."""
        return statistics.median(self.stormy[what]) / statistics.median(self.calm[what])

    def best_ratio(self, what: str) -> float:
        """Return the same of the best windows: what else the machine does spoils single ones, seldom all."""
        return max(self.stormy[what]) / max(self.calm[what])


def measure(neighbour: App, abuser: App, storm: str, *, rounds: int, seconds: float) -> Pace:
    """Let the neighbour work in turns with and without a storm in the abuser."""
    pace = Pace()
    for _ in range(rounds):
        _window(neighbour, seconds, pace.calm)
        abuser.wait()
        began = time.monotonic()
        abuser.ask("storm", storm, f"{seconds + 0.5:.1f}")
        time.sleep(SETTLE_SECONDS)
        _window(neighbour, seconds, pace.stormy)
        time.sleep(max(0.0, began + seconds + 0.8 - time.monotonic()))
    return pace


def _window(neighbour: App, seconds: float, into: dict[str, list[float]]) -> None:
    """A third of the time each: computing, writing to disk, answering over the network."""
    answer = neighbour.ask("work", f"{seconds * 2 / 3:.2f}")
    found = {name: float(value) for name, value in re.findall(r"(processor|disk) ([\d.]+)", answer.text)}
    found["network"] = requests_a_second(neighbour, seconds / 3)
    for name, value in found.items():
        into.setdefault(name, []).append(value)


def requests_a_second(app: App, seconds: float) -> float:
    """Return how many pages it served, one after the other.

    The caller stands for others' computers. So it comes by the app's own address, without the proxy Docker has on the loopback only, and
    goes before everybody on this computer: what it cannot get of the processors is no loss of the app's.
    """
    page = f"http://{app.label('address')}:{app.lease.workload.port}/"
    with _first_in_line():
        began, served = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            try:
                with urllib.request.urlopen(page, timeout=5) as response:
                    served += response.status == 200
            except OSError as error:
                raise Gone(str(error)) from error
        return served / (time.monotonic() - began)


@contextmanager
def _first_in_line() -> Iterator[None]:
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, -10)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, usual)
