"""How fast this device is, measured once at enrolment.

`instructions_per_second` turns processor time into the `compute` meter where the kernel counts no instructions. The work is
compressing a fixed text with bzip2: plain C, one implementation everywhere, branches and memory in a usual mix. How many
instructions it takes was counted once with Valgrind (`docs/agent-protocol.md` has the command); the best of several runs
counts, so that whatever else the device does meanwhile is not charged to its owner.
"""

from __future__ import annotations

import bz2
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from nodes.agent.protocol import Benchmark

SAMPLE_BYTES = 400_000
INSTRUCTIONS = 162_400_000  # of one bz2.compress(sample(), 9)
RUNS = 5
COPY_BYTES = 64 * 2**20
DISK_BYTES = 32 * 2**20


def sample() -> bytes:
    """Return the fixed text: words that repeat, digits that do not."""
    lines = (hashlib.sha256(str(number).encode()).hexdigest() for number in range(10_000))
    return "\n".join(f"interchain node {line[:24]}" for line in lines).encode()[:SAMPLE_BYTES]


def run(folder: Path) -> Benchmark:
    """Measure for about two seconds, with a file in the folder that is removed again."""
    return Benchmark(
        instructions_per_second=instructions_per_second(),
        memory_bytes_per_second=_memory(),
        disk_bytes_per_second=_disk(folder),
    )


def instructions_per_second() -> int:
    text = sample()
    return int(INSTRUCTIONS / min(_timed(lambda: bz2.compress(text, 9), clock=time.thread_time) for _ in range(RUNS)))


def _memory() -> int:
    block = bytearray(COPY_BYTES)
    return int(COPY_BYTES / min(_timed(lambda: bytes(block), clock=time.perf_counter) for _ in range(RUNS)))


def _disk(folder: Path) -> int:
    path = folder / ".benchmark"
    block = os.urandom(2**20)

    def write() -> None:
        with path.open("wb") as out:
            for _ in range(DISK_BYTES // len(block)):
                out.write(block)
            out.flush()
            os.fsync(out.fileno())

    try:
        return int(DISK_BYTES / _timed(write, clock=time.perf_counter))
    finally:
        path.unlink(missing_ok=True)


def _timed(work: "Callable[[], object]", *, clock: "Callable[[], float]") -> float:
    began = clock()
    work()
    return max(1e-9, clock() - began)
