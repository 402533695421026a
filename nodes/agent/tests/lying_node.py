"""A node that lies, as a process: `lying_node.py MODE ADDRESS PORT RECORD`, where RECORD is an old record to show again.

forged: right form, another key · wrong: the honest record's text with another address in it · old: an old record, well signed ·
garbage: no HTTP · endless: an answer without end · slow: one byte a second
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time

from nacl.signing import SigningKey

from nodes.agent import jws, records
from nodes.agent.directory_store import BUCKETS, DIGEST_BYTES

EVIL = "127.9.9.9:666"


def lie(mode: str, record: str, path: str) -> object:
    said = records.unchecked(record)
    payload = json.loads(jws.decode(record.split(".")[1]))
    payload |= {"endpoints": [EVIL], "sequence": said.sequence + 1000, "generation": said.generation + 1000}
    body = json.dumps(payload, sort_keys=True, separators=(",", ":")).encode()
    forged = jws.sign(body, SigningKey.generate())
    head, _, signature = record.split(".")
    shown = {"forged": forged, "wrong": f"{head}.{jws.encode(body)}.{signature}", "old": record}[mode]
    if path.startswith("/directory/"):
        return {"record": shown, "statements": []}
    if path == "/gossip/digest":
        return {"digest": jws_digest(), "portal_seconds": 0, "statements": [shown], "device": "liar"}
    return {"records": [shown], "wanted": [said.name]}


def jws_digest() -> str:
    import base64

    return base64.b64encode(b"\x07" * (BUCKETS * DIGEST_BYTES)).decode()


def serve(connection: socket.socket, mode: str, record: str) -> None:
    try:
        path = connection.recv(65_536).split(b" ")[1].decode()
        if mode == "garbage":
            connection.sendall(b"\x00\xff garbage \r\n\r\n{" * 50)
        elif mode == "endless":
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n{")
            while True:
                connection.sendall(b" " * 65_536)
        elif mode == "slow":
            for byte in b"HTTP/1.0 200 OK\r\n" * 100:
                connection.sendall(bytes([byte]))
                time.sleep(1)
        else:
            body = json.dumps(lie(mode, record, path)).encode()
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    except (OSError, IndexError, UnicodeDecodeError):
        pass
    finally:
        connection.close()


def main(mode: str, address: str, port: str, record: str) -> None:
    with socket.create_server((address, int(port))) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection, mode, record), daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
