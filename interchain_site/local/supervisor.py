"""The one process manager: starts programs, restarts what dies, stops all of it.

All starting happens in one thread that lives as long as the manager, because on Linux each program asks the kernel to be
ended when the thread that started it ends (`setpriv --pdeathsig`): nothing outlives a killed manager.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from interchain_site.local.steps import PRIVATE, Stop

TICK_SECONDS = 0.1
SLOWEST_RESTART_SECONDS = 10.0
MEANWHILE_SECONDS = 20.0
STEADY_SECONDS = 30.0  # a program that ran so long starts anew without waiting


@dataclass(frozen=True)
class Program:
    """One long-running program of a site."""

    name: str
    command: tuple[str, ...]
    ready: Callable[[], bool] = lambda: True
    ready_line: str = ""  # what it writes when it is ready; empty: nothing
    ready_seconds: float = 60
    stop_seconds: float = 10  # between being asked to end and being killed
    before: Callable[[], None] = lambda: None  # runs before each start, e.g. mends a half-written state file
    meanwhile: Callable[[], object] = lambda: None  # runs every MEANWHILE_SECONDS while it is up; must be quick


@dataclass
class _Running:
    program: Program
    process: subprocess.Popen[bytes] | None = None
    wanted: bool = True
    started_at: float = 0.0
    next_start_at: float = 0.0
    deaths: int = 0
    starts: int = 0
    meanwhile_at: float = 0.0
    log_from: int = 0  # where in its log the present start begins

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """Runs programs until `stop`; `say` receives one line for each death."""

    def __init__(
        self, *, env: Mapping[str, str], cwd: Path, logs: Path, say: Callable[[str], None] = lambda line: None
    ):
        self._env, self._cwd, self._logs, self._say = dict(env), cwd, logs, say
        self._items: dict[str, _Running] = {}
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="supervisor", daemon=True)
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, programs: Sequence[Program]) -> None:
        """Start programs side by side and return once every one is ready.

        Raises:
            Stop: one does not become ready in time; the message has its last line.
        """
        if not self._thread.is_alive():
            self._thread.start()
        with self._lock:
            self._items |= {program.name: _Running(program) for program in programs}
        for program in programs:
            self.wait_ready(program.name)

    def wait_ready(self, name: str) -> None:
        """Return once the program runs and answers.

        Raises:
            Stop: it does not in time.
        """
        item = self._items[name]
        give_up_at = time.monotonic() + item.program.ready_seconds
        while time.monotonic() < give_up_at:
            if item.alive() and item.program.ready() and self._said(item):
                return
            if item.deaths >= 3 and not item.alive():
                break
            time.sleep(0.05)
        raise Stop(f"{name} does not start: {self.last_line(name)} (all of it: {self.log(name)})")

    def pids(self) -> dict[str, int]:
        """Return the process id of each program that runs now."""
        with self._lock:
            return {name: item.process.pid for name, item in self._items.items() if item.process and item.alive()}

    def starts(self, name: str) -> int:
        """Return how often the program has been started."""
        return self._items[name].starts

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a program and all it started; the manager starts it again."""
        with self._lock, contextlib.suppress(ProcessLookupError):
            process = self._items[name].process
            if process is not None:
                os.killpg(process.pid, number)

    def pause(self, name: str, number: int = signal.SIGTERM) -> None:
        """End a program, by SIGKILL if that is the signal given, and leave it down until `resume`."""
        with self._lock:
            self._items[name].wanted = False
        if number == signal.SIGKILL:
            self.kill(name)
        self._end(self._items[name])

    def resume(self, name: str) -> None:
        """Start a paused program again and wait until it is ready."""
        self._items[name].wanted = True
        self.wait_ready(name)

    def stop(self) -> None:
        """End every program, last started first, and reap it; kills what does not end in time."""
        with self._lock:
            items = list(reversed(self._items.values()))
            for item in items:
                item.wanted = False
        for item in items:
            self._end(item)
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def log(self, name: str) -> Path:
        """Return where a program's output goes."""
        return self._logs / f"{name.replace(' ', '-')}.log"

    def last_line(self, name: str) -> str:
        """Return the last line a program wrote."""
        path = self.log(name)
        lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
        return lines[-1].strip() if lines else "it said nothing"

    def _said(self, item: _Running) -> bool:
        wanted = item.program.ready_line.encode()
        with self.log(item.program.name).open("rb") as log:
            log.seek(item.log_from)
            return wanted in log.read()

    def _loop(self) -> None:
        while not self._ended.wait(TICK_SECONDS):
            with self._lock:
                for item in self._items.values():
                    if item.wanted and not item.alive():
                        self._revive(item)
                    elif item.wanted and time.monotonic() > item.meanwhile_at:
                        item.meanwhile_at = time.monotonic() + MEANWHILE_SECONDS
                        item.program.meanwhile()

    def _revive(self, item: _Running) -> None:
        now = time.monotonic()
        if item.process is not None:
            code, item.process = item.process.returncode, None
            item.deaths = 1 if now - item.started_at > STEADY_SECONDS else item.deaths + 1
            item.next_start_at = now + min(SLOWEST_RESTART_SECONDS, 0.25 * 2 ** (item.deaths - 1))
            self._say(
                f"{item.program.name} ended ({_ending(code)}) and is started again: {self.last_line(item.program.name)}"
            )
        if now < item.next_start_at:
            return
        item.program.before()
        with self.log(item.program.name).open("ab") as log:
            item.log_from = log.tell()
            item.process = subprocess.Popen(
                [*_launcher(), *item.program.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                cwd=self._cwd,
                umask=PRIVATE,
                start_new_session=True,  # Ctrl-C reaches only the manager, which then ends all in order
            )
        item.started_at, item.starts = now, item.starts + 1

    def _end(self, item: _Running) -> None:
        process = item.process
        if process is None or process.poll() is not None:
            return
        for number, seconds in ((signal.SIGTERM, item.program.stop_seconds), (signal.SIGKILL, 10)):
            with contextlib.suppress(ProcessLookupError):
                if number == signal.SIGKILL:
                    os.killpg(process.pid, number)
                else:
                    process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
                break
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # whatever it left behind in its group


def _launcher() -> list[str]:
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
