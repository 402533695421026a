"""A real name server on loopback, for tests: answers TXT questions over UDP."""

from __future__ import annotations

from collections import defaultdict
from types import TracebackType

from dnslib import QTYPE, RR, TXT, DNSRecord
from dnslib.server import BaseResolver, DNSHandler, DNSServer


class NameServer(BaseResolver):  # type: ignore[misc]
    """Use it in `with`; `port` is where it answers. While `silent`, it does not."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = defaultdict(list)
        self.asked = 0
        self.silent = False

    def add(self, name: str, text: str) -> None:
        self._texts[name.lower()].append(text)

    def clear(self) -> None:
        self._texts.clear()

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:
        self.asked += 1
        if self.silent:
            raise TimeoutError
        reply = request.reply()
        for text in self._texts[str(request.q.qname).rstrip(".").lower()]:
            if request.q.qtype == QTYPE.TXT:
                reply.add_answer(RR(request.q.qname, QTYPE.TXT, ttl=0, rdata=TXT(text)))
        return reply

    def __enter__(self) -> NameServer:
        self._server = DNSServer(self, port=0, address="127.0.0.1", logger=_Quiet())
        self._server.start_thread()
        self.port = int(self._server.server.server_address[1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()
        self._server.server.server_close()


class _Quiet:
    def __getattr__(self, name: str) -> object:
        return lambda *_: None
