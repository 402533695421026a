"""A small portal over real HTTP and WebSocket: what the agent's tests and bench/deploy talk to.

It checks tokens and signatures as the real one must, keeps what it gets, and can be told to fail. Longer than 300 lines because
it is the whole portal an agent knows, one small method a path.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import ssl
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jws
from joserfc.errors import BadSignatureError
from joserfc.jwk import OKPKey
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from nodes.agent import keys, packaging, protocol, records
from nodes.agent.protocol import Desired, Enrolled, Enrolment, Meter, Reading, ReadingBatch, Report, Status, WipeReceipt
from nodes.agent.tests.repository import Repositories


class FakePortal:
    """One device's portal. Use as a context manager."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        """Args: tls: speak HTTPS and WSS with this certificate, as every portal but a test's does."""
        self._tls = tls
        self.device_id = str(uuid.uuid4())
        self.public_x = ""
        self.enrolment: Enrolment | None = None
        self.desired = Desired(reading_interval_seconds=1, report_interval_seconds=2, poll_interval_seconds=2)
        self.reports: list[tuple[float, Report]] = []
        self.batches: dict[str, ReadingBatch] = {}
        self.duplicates = 0
        self.readings: list[Reading] = []
        self.receipts: list[WipeReceipt] = []
        self.archives: dict[str, bytes] = {}
        self.tokens: set[str] = set()
        self.release_key = ""
        self.directory = records.DirectoryDelta(0)
        self.suspicions: list[records.Suspicion] = []
        self.link_signer = keys.fresh()  # proves that this is the portal the device enrolled with
        self.statements: tuple[str, ...] = ()  # from link keys before
        self.answers_links: Callable[[ServerConnection, dict[str, str]], bool] = self.prove
        self.closes_with: tuple[int, str] | None = None  # each new link, after the proof
        self.links_opened: list[float] = []
        self.claims: dict[str, str] = {}  # of the newest link's token
        self.offer = protocol.ReleaseOffer()
        self.release_files: dict[str, bytes] = {}
        self.left = False
        self.old_keys: list[str] = []  # still good
        self.key_change_answers = True
        self.goodbyes: list[tuple[int | None, str | None]] = []
        self.wishes: list[protocol.Mode] = []
        self.checks: list[protocol.CheckReport] = []
        self.spot_checks: list[protocol.SpotCheckAnswer] = []
        self.snapshots: list[protocol.SnapshotReport] = []
        self.repositories = Repositories()
        self.rejected: list[str] = []
        self.revoked = False  # its owner removed the device
        self.fail_with: int | None = None
        self.retry_after = ""
        self.asked: list[tuple[float, str]] = []  # every request, when and for what
        self.clock_offset = 0.0
        self.changed = threading.Condition()
        self._links: set[ServerConnection] = set()
        self._version = 1

    def __enter__(self) -> FakePortal:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        if self._tls is not None:
            self._http.socket = self._tls.wrap_socket(
                self._http.socket, server_side=True, do_handshake_on_connect=False
            )
        self._ws = serve(self._link, "127.0.0.1", 0, ssl=self._tls)
        for server in (self._http, self._ws):
            threading.Thread(target=server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._ws.shutdown()

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self._http.server_address[1]}"

    @property
    def link_url(self) -> str:
        return f"ws{'s' if self._tls else ''}://127.0.0.1:{self._ws.socket.getsockname()[1]}{protocol.LINK_PATH}"

    # --- what a test does ---------------------------------------------------------------------------------------------

    def want(self, *leases: protocol.DesiredLease, look: bool = True, **times: Any) -> None:
        """Set the desired state and wake the agent."""
        with self.changed:
            values = {**vars(self.desired), **times, "leases": leases}
            self.desired = Desired(**values)
            self._version += 1
        if look:
            self.look()

    def look(self) -> None:
        for link in list(self._links):
            with suppress(ConnectionClosed):  # an agent that was killed looks when it is back
                link.send(json.dumps({"type": "look"}))

    def drop(self) -> None:
        """End the device's link without a word."""
        self.wait(lambda: self._links, 10, "a link")
        for link in list(self._links):
            link.close()

    def status(self, lease_id: str) -> Status | None:
        """Return the newest status of a lease."""
        for _, report in reversed(self.reports):
            for status in report.statuses:
                if status.lease_id == lease_id:
                    return status
        return None

    def wait(self, condition: Callable[[], Any], seconds: float = 30, what: str = "") -> Any:
        """Return the condition's first true answer; it is asked after each message."""
        until = time.monotonic() + seconds
        with self.changed:
            while True:
                answer = condition()
                if answer:
                    return answer
                left = until - time.monotonic()
                if left <= 0:
                    last = self.reports[-1][1].statuses if self.reports else None
                    raise AssertionError(
                        f"not in {seconds:g} s: {what}; last report: {last}; rejected: {self.rejected}"
                    )
                self.changed.wait(min(left, 0.2))

    def wait_for(self, lease_id: str, observed: protocol.Observed, seconds: float = 30) -> Status:
        def reached() -> Status | None:
            status = self.status(lease_id)
            return status if status is not None and status.observed is observed else None

        return self.wait(reached, seconds, f"{lease_id} {observed.value}")

    def totals(self, lease_id: str) -> dict[Meter, int]:
        """Return the highest total of each meter."""
        found: dict[Meter, int] = {}
        for reading in self.readings:
            if reading.lease_id == lease_id:
                found[reading.meter] = max(found.get(reading.meter, 0), reading.total)
        return found

    @property
    def linked(self) -> bool:
        return bool(self._links)

    # --- what the agent asks ------------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        self.asked.append((time.monotonic(), path))
        if self.fail_with is not None:
            return self.fail_with, b"", {"Retry-After": self.retry_after} if self.retry_after else {}
        if (method, path) == ("POST", protocol.ENROL_PATH):
            return self._enrol(protocol.from_json(Enrolment, body))
        if path.startswith(protocol.REPOSITORY_PATH):
            return self.repositories.answer(method, path.removeprefix(protocol.REPOSITORY_PATH), headers, body)
        if path == "/install/agent.whl":
            return 200, packaging.build_archive(), {}
        if path == "/healthz":
            return 200, b"", {}
        if path == protocol.INSTALL_CHECKS_PATH:
            return self._check(headers, body)
        refusal = self._refuse(headers.get("Authorization", "").removeprefix("Bearer "))
        if refusal:
            self.rejected.append(refusal)
            return 401, _error("unauthenticated", refusal), {}
        if self.revoked:
            return 403, _error("device_revoked", "This device was removed."), {}
        if path.startswith(protocol.RELEASE_FILE_PATH):
            return 200, self.release_files[path.removeprefix(protocol.RELEASE_FILE_PATH)], {}
        if path.startswith(protocol.ARCHIVE_PATH):
            data = self.archives.get(path.removeprefix(protocol.ARCHIVE_PATH))
            return (200, data, {}) if data is not None else (404, _error("not_found", "no such archive"), {})
        return {
            ("GET", protocol.DESIRED_PATH): self._desired,
            ("POST", protocol.REPORT_PATH): self._report,
            ("POST", protocol.READINGS_PATH): self._readings,
            ("POST", protocol.RECEIPTS_PATH): self._receipt,
            ("GET", protocol.RELEASE_PATH): lambda headers, body: (200, protocol.to_json(self.offer), {}),
            ("POST", protocol.LEAVE_PATH): self._leave,
            ("GET", protocol.DIRECTORY_PATH): self._directory,
            ("POST", protocol.SUSPECT_PATH): self._suspect,
            ("POST", protocol.KEY_PATH): self._change_key,
            ("POST", protocol.MODE_PATH): self._wish,
            ("POST", protocol.CHECKS_PATH): self._check,
            ("POST", protocol.SPOT_CHECK_PATH): self._spot_check,
            ("POST", protocol.SNAPSHOT_ACCESS_PATH): self._open_snapshots,
            ("POST", protocol.SNAPSHOTS_PATH): self._snapshot,
        }[(method, path.partition("?")[0])](headers, body)

    def _enrol(self, enrolment: Enrolment) -> tuple[int, bytes, dict[str, str]]:
        if enrolment.token != "good":
            return 404, _error("token_unknown", "This set-up command is not one of ours."), {}
        self.enrolment, self.public_x = enrolment, enrolment.public_key
        return (
            200,
            protocol.to_json(
                Enrolled(
                    self.device_id,
                    self.url,
                    self.link_url,
                    release_key=self.release_key,
                    link_key=self.link_signer.public_x,
                )
            ),
            {},
        )

    def proof(self, claims: dict[str, str], **changes: str) -> protocol.LinkProof:
        """Return what convinces the device that opened a link with these claims."""
        said = protocol.PortalProof(self.device_id, self.url, claims["nonce"])
        signed = self.link_signer.sign(protocol.to_json(dataclasses.replace(said, **changes)))
        return protocol.LinkProof(signed, self.link_signer.public_x, self.statements)

    def prove(self, link: ServerConnection, claims: dict[str, str]) -> bool:
        link.send(protocol.to_json(self.proof(claims)).decode())
        return True

    def _desired(self, headers: Any, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        etag = f'"{self._version}"'
        if headers.get("If-None-Match") == etag:
            return 304, b"", {"ETag": etag}
        return 200, protocol.to_json(self.desired), {"ETag": etag}

    def _report(self, headers: Any, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        self.reports.append((time.monotonic(), protocol.from_json(Report, body)))
        return 204, b"", {}

    def _readings(self, headers: Any, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        batch = protocol.from_json(ReadingBatch, self._verified(body.decode()))
        duplicate = batch.id in self.batches
        self.duplicates += duplicate
        self.batches[batch.id] = batch
        self.readings += batch.readings
        return 200, protocol.to_json(protocol.Accepted(batch.id, duplicate)), {}

    def _receipt(self, headers: Any, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        self.receipts.append(protocol.from_json(WipeReceipt, self._verified(body.decode())))
        return 204, b"", {}

    def _wish(self, headers: Any, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        self.wishes.append(protocol.from_json(protocol.ModeWish, body).mode)
        return 204, b"", {}

    def _directory(self, headers: Any, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        answer = protocol.to_json(self.directory)
        etag = f'"{hashlib.sha256(answer).hexdigest()}"'
        return (304, b"", {"ETag": etag}) if headers.get("If-None-Match") == etag else (200, answer, {"ETag": etag})

    def _suspect(self, headers: Any, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        self.suspicions.append(protocol.from_json(records.Suspicion, body))
        return 204, b"", {}

    def _leave(self, headers: Any, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        self.left = True
        return 204, b"", {}

    def _change_key(self, headers: Any, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        change = protocol.from_json(protocol.KeyChange, self._verified(body.decode()))
        if change.new_key != self.public_x:
            self.old_keys.append(self.public_x)
            self.public_x = change.new_key
        self._version += 1
        self.desired = dataclasses.replace(self.desired, new_key=False)
        return (204, b"", {}) if self.key_change_answers else (500, b"", {})

    def _check(self, headers: Any, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        self.checks.append(protocol.from_json(protocol.CheckReport, body))
        return 204, b"", {}

    def _spot_check(self, headers: Any, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        self.spot_checks.append(protocol.from_json(protocol.SpotCheckAnswer, self._verified(body.decode())))
        return 204, b"", {}

    def _open_snapshots(self, headers: Any, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        return 200, protocol.to_json(protocol.SnapshotAccess("device", "opened", "restic's own password")), {}

    def _snapshot(self, headers: Any, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        self.snapshots.append(protocol.from_json(protocol.SnapshotReport, self._verified(body.decode())))
        return 204, b"", {}

    def _refuse(self, token: str) -> str:
        try:
            claims = json.loads(self._verified(token))
        except Exception as error:
            return f"bad token: {error}"
        now = time.time() + self.clock_offset
        if claims["iss"] != self.device_id or claims["aud"] != self.url:
            return "not for us"
        if claims["jti"] in self.tokens:
            return "replayed"
        if not claims["iat"] - protocol.CLOCK_SKEW_SECONDS <= now <= claims["exp"] + protocol.CLOCK_SKEW_SECONDS:
            return "not now"
        self.tokens.add(claims["jti"])
        return ""

    def _verified(self, compact: str) -> bytes:
        for x in [self.public_x, *self.old_keys]:
            with suppress(BadSignatureError):
                return self._verified_with(compact, x)
        raise BadSignatureError

    def _verified_with(self, compact: str, x: str) -> bytes:
        key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": x})
        return jws.deserialize_compact(compact, key, algorithms=[protocol.SIGNATURE_ALGORITHM]).payload

    def _link(self, link: ServerConnection) -> None:
        token = str(link.recv())
        refusal = self._refuse(token)
        if refusal:
            self.rejected.append(refusal)
            return
        self.links_opened.append(time.monotonic())
        self.claims = json.loads(jws.extract_compact(token.encode()).payload)
        if not self.answers_links(link, self.claims):
            return
        if self.closes_with is not None:
            link.close(*self.closes_with)
            return
        self._links.add(link)
        with self.changed:
            self.changed.notify_all()
        try:
            for _ in link:
                pass
        except ConnectionClosed:
            pass  # the agent was killed
        finally:
            self.goodbyes.append((link.close_code, link.close_reason))
            self._links.discard(link)
            with self.changed:
                self.changed.notify_all()


def _handler(portal: FakePortal) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Without it each answer waits 40 ms for the client's delayed acknowledgement.
        disable_nagle_algorithm = True
        wbufsize = -1

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, data, headers = portal.answer(self.command, self.path, self.headers, body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data if self.command != "HEAD" else b"")
            self.wfile.flush()
            with portal.changed:
                portal.changed.notify_all()

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(timestamp or time.time() + portal.clock_offset)

        def log_message(self, *_: object) -> None:
            pass

        do_GET = do_POST = do_HEAD = do_DELETE = _do

    return Handler


def _error(code: str, message: str) -> bytes:
    return json.dumps({"code": code, "message": message, "fields": {}}).encode()
