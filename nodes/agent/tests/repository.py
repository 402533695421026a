"""restic repositories over HTTP for the agent's tests (restic's REST protocol, version 2), which can be held in the middle of a copy."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping

Answer = tuple[int, bytes, dict[str, str]]
LONGEST_SECONDS = 120


class Repositories:
    """Kept in memory. `hold(n)` answers n more pieces of data, and lets those after them wait until `release()`."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.waiting = 0
        self._free = threading.Event()
        self._free.set()
        self._allowed = 0
        self._lock = threading.Lock()

    def hold(self, after: int) -> None:
        with self._lock:
            self._allowed, self.waiting = after, 0
            self._free.clear()

    def release(self) -> None:
        self._free.set()

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Args: path: `<workload id>/<kind>/<name>`."""
        workload_id, kind, name, *_ = [*path.partition("?")[0].rstrip("/").split("/"), "", ""]
        folder, key = f"{workload_id}/{kind}/", f"{workload_id}/{kind}/{name}"
        if kind == "data" and name and method in ("GET", "POST"):
            self._wait()
        if method == "POST":
            if name and hashlib.sha256(body).hexdigest() != name:
                return 400, b"not what its name says", {}
            if kind:
                self.files[key] = body
            return 200, b"", {}
        if method == "DELETE":
            return (200 if self.files.pop(key, None) is not None else 404), b"", {}
        if not name and kind != "config":
            mine = {each: data for each, data in self.files.items() if each.startswith(folder)}
            listed = [{"name": each.removeprefix(folder), "size": len(data)} for each, data in mine.items()]
            return 200, json.dumps(listed).encode(), {"Content-Type": "application/vnd.x.restic.rest.v2"}
        data = self.files.get(key)
        if data is None:
            return 404, b"", {}
        wanted = re.match(r"bytes=(\d+)-(\d+)?", headers.get("Range") or "")
        if wanted and method == "GET":
            return 206, data[int(wanted[1]) : int(wanted[2]) + 1 if wanted[2] else None], {}
        return 200, data, {}

    def _wait(self) -> None:
        with self._lock:
            self._allowed -= 1
            if self._free.is_set() or self._allowed >= 0:
                return
            self.waiting += 1
        self._free.wait(LONGEST_SECONDS)
