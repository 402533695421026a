"""The portal as the agent sees it: typed calls, typed errors. Callers never see HTTP.

Raises `PortalUnreachable` (try again later) or `PortalRefused` (look at `permanent`). Longer than 300 lines because it is every call there is,
and all of them share one connection.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import logging
import random
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from nodes.agent import backoff, connecting, files, protocol, tls, wording
from nodes.agent.diagnosis import of_device
from nodes.agent.errors import (
    AgentError,
    Cancelled,
    LeaseError,
    PortalRefused,
    PortalUnreachable,
    SetupError,
    plainly,
)
from nodes.agent.keys import DeviceKey

if TYPE_CHECKING:
    from nodes.agent import records

log = logging.getLogger(__name__)
CALL_SECONDS = 15.0
CONNECT_SECONDS = (
    6.0  # shorter: each further try of TCP comes twice as late, and a network that is back is to be noticed
)
HEALTH_PATH = "/healthz"  # what load balancers ask
ANSWER_BYTES = 4 * 2**20
CHUNK_BYTES = 2**16
ATTEMPTS = 4
LONGEST_SLEEP_SECONDS = 60.0  # between two attempts of one call
T = TypeVar("T")


class _Plain(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = connecting.connect(self.host, self.port, seconds=self.timeout or CALL_SECONDS)


class _Secure(http.client.HTTPSConnection):
    def connect(self) -> None:
        plain = connecting.connect(self.host, self.port, seconds=self.timeout or CALL_SECONDS)
        self.sock = tls.context().wrap_socket(plain, server_hostname=connecting.name_of(self.host))


class Portal:
    """Calls of one device over one kept connection. Safe to call from any thread, one call at a time."""

    def __init__(
        self, url: str, *, device_id: str = "", key: "DeviceKey | None" = None, seconds: float = CALL_SECONDS
    ) -> None:
        """Args: url: as people type it. `device_id` and `key` are needed for every call but `enrol`. seconds: longest silence.

        Raises:
            SetupError: it is not the address of a portal.
        """
        self.url = url.rstrip("/")
        self._parts = urllib.parse.urlsplit(self.url)
        if self._parts.scheme not in ("http", "https") or not self._parts.hostname:
            raise SetupError(f"{url!r} is not the address of a portal; one looks like https://portal.example")
        self._device_id, self._key, self._seconds = device_id, key, seconds
        self._connection: "http.client.HTTPConnection | None" = None
        self._lock = threading.Lock()
        self._clock_offset = 0.0  # the portal's clock minus ours, learnt when it refuses our tokens
        self._etag = self._directory_etag = ""

    def now(self) -> float:
        """Return seconds since 1970 by the portal's clock, as far as we know it."""
        return time.time() + self._clock_offset

    @property
    def clock_ahead_seconds(self) -> float:
        """How much later it is by this device's clock than by the portal's, where that was learnt; else 0."""
        return -self._clock_offset

    def token(self, **claims: str) -> str:
        """Return a JWT good for one request or one link."""
        if self._key is None:
            raise AgentError("This call needs an enrolled device.")
        return self._key.token(device_id=self._device_id, audience=self.url, now=self.now(), **claims)

    def enrol(self, enrolment: protocol.Enrolment) -> protocol.Enrolled:
        answer = self._call("POST", protocol.ENROL_PATH, protocol.to_json(enrolment), signed=False)
        return _understood(protocol.Enrolled, answer)

    def desired(self) -> "protocol.Desired | None":
        """Return what the portal wants, or None if that did not change since the last call."""
        answer = self._call("GET", protocol.DESIRED_PATH, headers={"If-None-Match": self._etag} if self._etag else {})
        if answer.status == 304:
            return None
        desired = _understood(protocol.Desired, answer)
        self._etag = answer.etag
        return desired

    def report(self, report: protocol.Report) -> None:
        self._call("POST", protocol.REPORT_PATH, protocol.to_json(report))

    def checks(self, report: protocol.CheckReport) -> None:
        """Tell what the device looks like; with a token in the report, before there is a key."""
        path = protocol.INSTALL_CHECKS_PATH if report.token else protocol.CHECKS_PATH
        self._call("POST", path, protocol.to_json(report), signed=not report.token)

    def change_key(self, jws: str) -> None:
        self._call("POST", protocol.KEY_PATH, jws.encode(), kind="application/jose")

    def leave(self) -> None:
        """Remove this device from the portal for good."""
        self._call("POST", protocol.LEAVE_PATH, b"")

    def release(self) -> protocol.ReleaseOffer:
        return _understood(protocol.ReleaseOffer, self._call("GET", protocol.RELEASE_PATH))

    def download_release(self, sha256: str, to: Path, *, most: int) -> None:
        """Write a version's wheel to a file. The caller checks what it is."""
        self._download(protocol.RELEASE_FILE_PATH + sha256, to, most=most, cancelled=threading.Event())

    def directory(self, since: int) -> "records.DirectoryDelta | None":
        """Return what changed in the directory after a place in its order, or None if nothing did."""
        from nodes.agent import records

        known = {"If-None-Match": self._directory_etag} if self._directory_etag else {}
        answer = self._call("GET", f"{protocol.DIRECTORY_PATH}?since={since}", headers=known)
        if answer.status == 304:
            return None
        self._directory_etag = answer.etag
        return _understood(records.DirectoryDelta, answer)

    def suspect(self, suspicion: "records.Suspicion") -> None:
        self._call("POST", protocol.SUSPECT_PATH, protocol.to_json(suspicion))

    def mode(self, wish: protocol.ModeWish) -> None:
        self._call("POST", protocol.MODE_PATH, protocol.to_json(wish))

    def readings(self, jws: str) -> protocol.Accepted:
        answer = self._call("POST", protocol.READINGS_PATH, jws.encode(), kind="application/jose")
        return _understood(protocol.Accepted, answer)

    def receipt(self, jws: str) -> None:
        self._call("POST", protocol.RECEIPTS_PATH, jws.encode(), kind="application/jose")

    def snapshot_access(self, wish: protocol.SnapshotAccessWish) -> protocol.SnapshotAccess:
        answer = self._call("POST", protocol.SNAPSHOT_ACCESS_PATH, protocol.to_json(wish))
        return _understood(protocol.SnapshotAccess, answer)

    def snapshot(self, jws: str) -> None:
        self._call("POST", protocol.SNAPSHOTS_PATH, jws.encode(), kind="application/jose")

    def spot_check(self, jws: str) -> None:
        self._call("POST", protocol.SPOT_CHECK_PATH, jws.encode(), kind="application/jose")

    def download(self, sha256: str, to: Path, *, most: int, cancelled: threading.Event) -> None:
        """Write an image archive to a file. The caller checks what it is.

        Args:
            most: bytes the portal said it has; one more ends the download.
        """
        self._download(protocol.ARCHIVE_PATH + sha256, to, most=most, cancelled=cancelled)

    def _download(self, path: str, to: Path, *, most: int, cancelled: threading.Event) -> None:
        connection = self._connect(timeout=60.0)
        try:
            answer = _send(connection, "GET", self._path(path), None, self._signed())
            if answer.status != 200:
                raise _refusal(answer.status, answer.read(ANSWER_BYTES), backoff.asked(answer.getheader("Retry-After")))
            with to.open("wb") as out:
                for chunk in _chunks(answer, most):
                    if cancelled.is_set():
                        raise Cancelled("The portal no longer wants this image.")
                    out.write(chunk)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in files.DISK_FULL:
                raise LeaseError(protocol.Reason.DEVICE_ERROR, of_device(error)) from error
            raise PortalUnreachable(f"The download from the portal broke off: {error}") from error
        finally:
            connection.close()

    def answers(self) -> bool:
        """Whether it gives any answer over a new connection, be it that it cannot serve now."""
        with self._lock:
            self._drop()
            try:
                self._exchange("GET", HEALTH_PATH, None, {})
            except (OSError, http.client.HTTPException):
                return False
            finally:
                self._drop()
        return True

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _call(
        self,
        method: str,
        path: str,
        body: "bytes | None" = None,
        *,
        kind: str = "application/json",
        signed: bool = True,
        headers: "dict[str, str] | None" = None,
    ) -> "_Answer":
        """Send one request; a kept connection that went stale and a clock that is wrong get a second try at once."""
        extra = {"Content-Type": kind, "Accept": "application/json", **(headers or {})}
        with self._lock:
            for attempt in (1, 2):
                fresh = self._connection is None
                try:
                    answer = self._exchange(method, path, body, {**extra, **(self._signed() if signed else {})})
                except (OSError, http.client.HTTPException) as error:
                    self._drop()
                    if fresh or attempt == 2:
                        raise PortalUnreachable(f"{self.url} cannot be reached ({plainly(error)})") from error
                    continue
                if answer.status == 401 and attempt == 1 and self._learn_clock(answer.date):
                    continue
                break
        if answer.status >= 300 and answer.status != 304:
            raise _refusal(answer.status, answer.data, answer.retry_after)
        return answer

    def _exchange(self, method: str, path: str, body: "bytes | None", headers: "dict[str, str]") -> "_Answer":
        if self._connection is None:
            connection = self._connect(timeout=min(CONNECT_SECONDS, self._seconds))
            connection.connect()
            connection.sock.settimeout(self._seconds)
            self._connection = connection
        response = _send(self._connection, method, self._path(path), body, headers)
        answer = _Answer(response)
        if response.will_close:
            self._drop()
        return answer

    def _connect(self, *, timeout: float) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            return _Secure(host, port, timeout=timeout, context=tls.context())
        return _Plain(host, port, timeout=timeout)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _path(self, path: str) -> str:
        return self._parts.path.rstrip("/") + path

    def _signed(self) -> "dict[str, str]":
        return {"Authorization": f"Bearer {self.token()}"}

    def _learn_clock(self, date: str) -> bool:
        """Correct our clock by the portal's answer; returns whether that may have been why it refused us."""
        try:
            offset = email.utils.parsedate_to_datetime(date).timestamp() - time.time()
        except (TypeError, ValueError):
            return False
        if abs(offset - self._clock_offset) < protocol.CLOCK_SKEW_SECONDS / 2:
            return False
        log.warning("%s Going by the portal's. %s", wording.clock(-offset), wording.SET_CLOCK)
        self._clock_offset = offset
        return True


class _Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.etag = response.getheader("ETag") or ""
        self.date = response.getheader("Date") or ""
        self.retry_after = backoff.asked(response.getheader("Retry-After"))
        self.data = response.read(ANSWER_BYTES)
        if not response.isclosed():
            raise http.client.HTTPException("the answer is too long")


def patiently(call: "Callable[[], T]", *, attempts: int = ATTEMPTS, first_pause_seconds: float = 0.5) -> T:
    """Return what `call()` returns; try again, each time after a longer and slightly random pause, while that may help."""
    for attempt in range(1, attempts + 1):
        try:
            return call()
        except AgentError as error:
            if error.permanent or attempt == attempts:
                raise
            pause = first_pause_seconds * 2 ** (attempt - 1) * (0.5 + random.random())  # noqa: S311 (not a secret)
            time.sleep(max(pause, min(backoff.obey(error.retry_after), LONGEST_SLEEP_SECONDS)))
    raise AssertionError("unreachable")


def _send(
    connection: http.client.HTTPConnection, method: str, path: str, body: "bytes | None", headers: "dict[str, str]"
) -> http.client.HTTPResponse:
    connection.request(method, path, body, {"User-Agent": "interchain-node", **headers})
    return connection.getresponse()


def _understood(kind: "type[T]", answer: _Answer) -> T:
    try:
        return protocol.from_json(kind, answer.data)
    except protocol.ProtocolError as error:
        raise PortalUnreachable(f"The portal's answer cannot be understood ({error}). Is the address right?") from error


def _chunks(answer: http.client.HTTPResponse, most: int) -> Iterator[bytes]:
    size = 0
    while chunk := answer.read(CHUNK_BYTES):
        size += len(chunk)
        if size > most:
            raise http.client.HTTPException(f"it is longer than the {most} bytes it should have")
        yield chunk


def _refusal(status: int, data: bytes, retry_after: float) -> AgentError:
    try:
        document = json.loads(data)
        code, message = str(document["code"]), str(document["message"])
    except (ValueError, KeyError, TypeError):
        code, message = "unexplained", f"The portal answered {status} without a reason."
    error: AgentError = PortalRefused(status, code, message)
    if status >= 500:
        error = PortalUnreachable(f"The portal has a fault of its own ({status}): {message}")
    error.retry_after = retry_after
    return error
