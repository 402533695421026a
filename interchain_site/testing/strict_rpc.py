"""An Ethereum node that is stricter than Anvil, and misbehaves when told to: a proxy in front of one.

Anvil takes a replacement at +5 %. Real nodes want +10 % on both fees (EIP-1559 pools of geth, Nethermind, Besu), so this
one refuses less. Each fault is queued for a method and used up by its next calls.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.crypto import keccak
from hexbytes import HexBytes

SEND = "eth_sendRawTransaction"
UNDERPRICED = "replacement transaction underpriced"
Question = dict[str, Any]
Fault = Callable[["StrictRpc", Question], Any]


class Silence(Exception):
    """No answer: the connection is closed."""


class Refusal(Exception):
    """The node answers with an error."""


class StrictRpc:
    """What a test tells the node to do.

    Attributes:
        refused: how many replacements it found underpriced.
    """

    def __init__(self, target: str) -> None:
        self.url = ""
        self.refused = 0
        self._target = target
        self._client = httpx.Client(timeout=20)
        self._faults: dict[str, list[Fault]] = defaultdict(list)
        self._always: dict[str, Fault] = {}
        self._seen: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
        self._lock = threading.Lock()

    def next(self, method: str, fault: Fault, times: int = 1) -> None:
        """Misbehave at the next calls of a method."""
        self._faults[method] += [fault] * times

    def always(self, method: str, fault: Fault) -> None:
        """Misbehave at every call of a method, until `calm`."""
        self._always[method] = fault

    def calm(self) -> None:
        self._faults.clear()
        self._always.clear()

    def left(self, method: str) -> int:
        """Return how many queued faults nobody has met yet."""
        return len(self._faults[method])

    def answer(self, question: Question) -> Any:
        """Return the result for a question. Raises `Silence` or `Refusal`."""
        method = question["method"]
        with self._lock:
            fault = self._faults[method].pop(0) if self._faults[method] else self._always.get(method)
        return fault(self, question) if fault else self.obey(question)

    def obey(self, question: Question) -> Any:
        """Return what a well-behaved strict node says."""
        if question["method"] == SEND:
            self._check_replacement(bytes(HexBytes(question["params"][0])))
        answer = self._client.post(self._target, json=question).json()
        if "error" in answer:
            raise Refusal(answer["error"])
        return answer["result"]

    def _check_replacement(self, raw: bytes) -> None:
        fields = dict(TypedTransaction.from_bytes(HexBytes(raw)).as_dict(), hash="0x" + keccak(raw).hex())
        sender, nonce = str(Account.recover_transaction(raw)), int(fields["nonce"])
        with self._lock:
            earlier = [one for one in self._seen[sender, nonce] if one["hash"] != fields["hash"]]
            for fee in ("maxFeePerGas", "maxPriorityFeePerGas"):
                if self._waits(earlier) and any(fields[fee] * 10 < one[fee] * 11 for one in earlier):
                    self.refused += 1
                    raise Refusal({"code": -32000, "message": UNDERPRICED})
            self._seen[sender, nonce].append(fields)

    def _waits(self, earlier: list[dict[str, Any]]) -> bool:
        """Return whether one of the earlier ones is in the pool: what is mined or dropped needs no replacement."""
        found = [self._client_asks("eth_getTransactionByHash", one["hash"]) for one in earlier]
        return any(one is not None and one["blockHash"] is None for one in found)

    def _client_asks(self, method: str, *params: object) -> Any:
        question = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return self._client.post(self._target, json=question).json().get("result")


def swallow(rpc: StrictRpc, question: Question) -> Any:
    """Do it, and keep the answer to itself."""
    rpc.obey(question)
    raise Silence


def dead(rpc: StrictRpc, question: Question) -> Any:
    """Do nothing and say nothing."""
    raise Silence


def drop(rpc: StrictRpc, question: Question) -> Any:
    """Say that a transaction was taken, and forget it."""
    return "0x" + keccak(bytes(HexBytes(question["params"][0]))).hex()


def refuse(message: str) -> Fault:
    """Answer with an error."""

    def fault(rpc: StrictRpc, question: Question) -> Any:
        raise Refusal({"code": -32000, "message": message})

    return fault


def slow(seconds: float) -> Fault:
    """Answer, but later than anybody waits."""

    def fault(rpc: StrictRpc, question: Question) -> Any:
        time.sleep(seconds)
        return rpc.obey(question)

    return fault


def lie(change: Callable[[Any], Any]) -> Fault:
    """Answer something else than what is so."""

    def fault(rpc: StrictRpc, question: Question) -> Any:
        return change(rpc.obey(question))

    return fault


@contextmanager
def strict_rpc(target: str) -> Iterator[StrictRpc]:
    """Run the proxy in front of the node at `target` until the block ends."""
    rpc = StrictRpc(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement

        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                said: dict[str, Any] = {"result": rpc.answer(question)}
            except Refusal as refusal:
                said = {"error": refusal.args[0]}
            except Silence:
                self.close_connection = True
                return
            body = json.dumps({"jsonrpc": "2.0", "id": question["id"], **said}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    rpc.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield rpc
    finally:
        server.shutdown()
        server.server_close()
