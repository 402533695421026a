"""How fast this device is: measured at enrolment, and proven by spot checks later (nodes/agent/spot_checks.py).

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
from collections.abc import Callable, Iterable
from pathlib import Path

from nodes.agent.protocol import Benchmark

LINES = 10_000
SAMPLE_BYTES = 400_000
INSTRUCTIONS = 162_400_000  # of one bz2.compress(sample(), 9)
RUNS = 5
COPY_BYTES = 64 * 2**20
DISK_BYTES = 32 * 2**20


def sample() -> bytes:
    """Return the fixed text: words that repeat, digits that do not."""
    lines = (hashlib.sha256(str(number).encode()).hexdigest() for number in range(LINES))
    return _text(line[:24] for line in lines)


def chain(seed: str, rounds: int) -> "tuple[tuple[str, ...], float]":
    """Compress one text after another, each made from what the last one came to, so that none can be begun early.

    Args:
        seed: 32 bytes in hex.

    Returns:
        The digest of each round in hex, and the processor seconds all of it took.
    """
    digests: "list[str]" = []
    began = time.thread_time()
    for _ in range(rounds):
        seed = round_digest(seed)
        digests.append(seed)
    return tuple(digests), time.thread_time() - began


def round_digest(seed: str) -> str:
    """Return what one round makes of a seed: the hash of a text like `sample()`, drawn from the seed, compressed."""
    drawn = hashlib.shake_256(bytes.fromhex(seed)).hexdigest(12 * LINES)
    text = _text(drawn[at : at + 24] for at in range(0, 24 * LINES, 24))
    return hashlib.sha256(bz2.compress(text, 9)).hexdigest()


def _text(digits: "Iterable[str]") -> bytes:
    return "\n".join(f"interchain node {each}" for each in digits).encode()[:SAMPLE_BYTES]


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
