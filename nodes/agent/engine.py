"""The Docker Engine's HTTP API over its socket. Only `docker_executor.py` and `images.py` use it; no HTTP shows beyond them.

This is the one place where we do without a library on purpose: the `docker` package with what it imports takes 11 MB of the
40 MB an idle agent may use, and brings five more packages to strangers' devices; the twelve calls we make are these lines. Longer than 300 lines because it is the whole of that client.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from nodes.agent import computer
from nodes.agent.errors import AgentError, plainly

SPOKEN = (
    1,
    44,
)  # of the API: Docker 25's, and the oldest that Docker 29 speaks; older Engines are spoken to in their own
CALL_SECONDS = 60.0
STREAM_SECONDS = 300.0  # silence of a pull or load that counts as failure
ANSWER_BYTES = 32 * 2**20
EMPTY_ARCHIVE = bytes(1024)  # a tar archive's end
ARCHIVE_BEGINNING = (
    16  # bytes of it by which Docker from version 28 tells how it is packed, before it does anything else
)


class EngineDown(AgentError):
    """No Engine answers on the socket.

    Attributes:
        what: what is the matter. mend: what to do about it; empty: nothing but to wait.
    """

    permanent = False

    def __init__(self, what: str, mend: str = "") -> None:
        super().__init__(f"{what} {mend}".strip())
        self.what, self.mend = what, mend


class EngineError(AgentError):
    """The Engine answered with an error.

    Attributes:
        status: HTTP status; 0 for an error inside a stream.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.permanent = 400 <= status < 500 and status != 409


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Unfinished:
    """A call the Engine waits in: it answers, even to refuse, only when the body has come to its end."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection

    def end(self) -> None:
        """End the body, and return when the Engine has done what there was to do.

        Raises:
            EngineError: it refused. EngineDown: it closed the connection.
        """
        try:
            self._connection.send(_chunk(EMPTY_ARCHIVE[ARCHIVE_BEGINNING:]) + _chunk(b""))
            answer = self._connection.getresponse()
            text = answer.read(65_536)
        except (OSError, http.client.HTTPException) as error:
            raise EngineDown(f"The Docker Engine stopped answering: {error}") from error
        if answer.status >= 400:
            raise EngineError(answer.status, _message(text))


class Engine:
    """One Engine. A connection lives for one call: on a local socket that costs 0.1 ms and no state can go stale."""

    def __init__(self, address: str) -> None:
        """Args: address: `unix:///path` or `tcp://host:port` (loopback only: the Engine's API is root on its machine)."""
        self._address = urllib.parse.urlsplit(address)
        if self._address.scheme not in ("unix", "tcp"):
            raise ValueError(f"{address!r} is not the address of an Engine; use unix:///var/run/docker.sock.")
        self._prefix = ""

    def call(
        self,
        method: str,
        path: str,
        body: "Mapping[str, Any] | None" = None,
        *,
        query: "Mapping[str, Any] | None" = None,
        timeout: float = CALL_SECONDS,
        ignore: "tuple[int, ...]" = (),
    ) -> Any:
        """Return the JSON of the answer, or None where there is none, or the status is one to ignore.

        Raises:
            EngineError, EngineDown
        """
        try:
            answer, connection = self._open(method, path, _json(body), query, timeout)
        except EngineError as error:
            if error.status in ignore:
                return None
            raise
        try:
            data = answer.read(ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise EngineDown(f"The Docker Engine stopped answering: {error}") from error
        finally:
            connection.close()
        return json.loads(data) if data else None

    def raw(self, path: str, *, query: "Mapping[str, Any] | None" = None) -> bytes:
        """Return the bytes of an answer that is not JSON (logs)."""
        answer, connection = self._open("GET", path, None, query, CALL_SECONDS)
        try:
            return answer.read(ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise EngineDown(f"The Docker Engine stopped answering: {error}") from error
        finally:
            connection.close()

    def stream(
        self,
        method: str,
        path: str,
        *,
        query: "Mapping[str, Any] | None" = None,
        body: "Iterable[bytes] | None" = None,
        timeout: float = STREAM_SECONDS,
    ) -> Iterator["dict[str, Any]"]:
        """Yield the JSON objects of a long answer as they come; closing the iterator closes the connection.

        Raises:
            EngineError: also for an error the Engine reports in the middle of the stream.
            EngineDown: also when nothing comes for `timeout` seconds.
        """
        answer, connection = self._open(method, path, body, query, timeout)
        try:
            for line in answer:
                if line.strip():
                    item = json.loads(line)
                    if "error" in item:
                        raise EngineError(0, str(item["error"]))
                    yield item
        except (OSError, http.client.HTTPException) as error:
            raise EngineDown(f"The Docker Engine stopped answering: {error}") from error
        finally:
            connection.close()

    def attach(self, path: str, *, query: "Mapping[str, Any]") -> socket.socket:
        """Return the socket over which a container's output comes, with the Engine's frames in it; it does not block.

        Raises:
            EngineError, EngineDown
        """
        headers = {"Connection": "Upgrade", "Upgrade": "tcp"}
        answer, connection = self._open("POST", path, None, query, CALL_SECONDS, headers)
        # A copy, because `answer` and `connection` close theirs. Bytes that came with the headers are lost with them.
        stream = connection.sock.dup()
        answer.close()
        connection.close()
        stream.setblocking(False)
        return stream

    @contextmanager
    def unfinished(self, method: str, path: str, *, query: "Mapping[str, Any]") -> "Iterator[Unfinished]":
        """Begin a call whose body is an archive, and leave the Engine waiting for it until the block ends; no entry of it is sent.

        Raises:
            EngineDown
        """
        if not self._prefix:
            self._negotiate()
        connection = self._connect(CALL_SECONDS)
        try:
            try:
                connection.putrequest(method, f"{self._prefix}{path}{_query(query)}")
                connection.putheader("Content-Type", "application/x-tar")
                connection.putheader("Transfer-Encoding", "chunked")
                connection.endheaders()
                connection.send(_chunk(EMPTY_ARCHIVE[:ARCHIVE_BEGINNING]))
            except OSError as error:
                raise EngineDown(*_why_silent(self._address.geturl(), error)) from error
            yield Unfinished(connection)
        finally:
            connection.close()

    def _open(
        self,
        method: str,
        path: str,
        body: "bytes | Iterable[bytes] | None",
        query: Any,
        timeout: float,
        headers: "Mapping[str, str] | None" = None,
    ) -> "tuple[http.client.HTTPResponse, http.client.HTTPConnection]":
        if not self._prefix:
            self._negotiate()
        return self._request(method, f"{self._prefix}{path}{_query(query)}", body, timeout, headers)

    def _negotiate(self) -> None:
        answer, connection = self._request("GET", "/version", None, CALL_SECONDS)
        try:
            theirs = json.loads(answer.read(ANSWER_BYTES))
        finally:
            connection.close()
        oldest, newest = (number(theirs.get(name) or "0.0") for name in ("MinAPIVersion", "ApiVersion"))
        # One that speaks only what came after ours is spoken to in the oldest it has: there is least in it that we do not know.
        major, minor = max(oldest, min(SPOKEN, newest))
        self._prefix = f"/v{major}.{minor}"

    def _request(
        self,
        method: str,
        target: str,
        body: "bytes | Iterable[bytes] | None",
        timeout: float,
        headers: "Mapping[str, str] | None" = None,
    ) -> "tuple[http.client.HTTPResponse, http.client.HTTPConnection]":
        connection = self._connect(timeout)
        chunked = body is not None and not isinstance(body, bytes)
        kind = "application/x-tar" if chunked else "application/json"
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # it has answered before it took all of the body
                connection.request(
                    method, target, body, {"Content-Type": kind, **(headers or {})}, encode_chunked=chunked
                )
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise EngineDown(*_why_silent(self._address.geturl(), error)) from error
        if answer.status >= 400:
            text = answer.read(65_536)
            connection.close()
            raise EngineError(answer.status, _message(text))
        return answer, connection

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        if self._address.scheme == "unix":
            return _Connection(self._address.path, timeout)
        return http.client.HTTPConnection(self._address.hostname or "127.0.0.1", self._address.port or 2375, timeout)


def number(version: str) -> "tuple[int, int]":
    """Return the first two numbers of a version of the API or of Docker itself; what is missing is 0."""
    found = [int(part) for part in re.findall("[0-9]+", version.partition("-")[0])[:2]]
    major, minor = (*found, 0, 0)[:2]
    return major, minor


def is_disk_full(error: Exception) -> bool:
    """Whether the Engine's own disk had no room, or no quota, for what was asked of it."""
    text = str(error).lower()
    return "no space left on device" in text or "disk quota exceeded" in text


def _why_silent(address: str, error: Exception) -> "tuple[str, str]":
    """Say why no Engine answers, and what to do: it is not there, does not run, or this person may not speak to it."""
    if isinstance(error, PermissionError):
        return f"You may not speak to Docker at {address}.", "Put sudo before the command."
    if isinstance(error, FileNotFoundError) and computer.program("dockerd") is None:
        mend = "Type: apt-get install docker.io (or see https://docs.docker.com/engine/install/)"
        return "No Docker Engine is installed.", mend
    return f"No Docker Engine answers at {address} ({plainly(error)}).", "Start it: systemctl start docker"


def filters(**wanted: "list[str]") -> "dict[str, str]":
    """Return the query that narrows a list, e.g. `filters(label=["a=b"])`."""
    return {"filters": json.dumps(wanted)}


def _json(body: "Mapping[str, Any] | None") -> "bytes | None":
    return None if body is None else json.dumps(body).encode()


def _chunk(data: bytes) -> bytes:
    """Return a piece of a body whose length nobody knows beforehand; without data, its end."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _query(query: "Mapping[str, Any] | None") -> str:
    return "?" + urllib.parse.urlencode(query) if query else ""


def _message(text: bytes) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.decode(errors="replace").strip()[:500] or "no reason given"
