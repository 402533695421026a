"""The client of Docker's API, held to what newer Engines do and this machine's does not."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from nodes.agent.engine import Engine, EngineDown, EngineError, is_disk_full

FULL = b'{"message":"write /layer.tar: no space left on device"}'


def engine_that_answers(at: Path, answers: "list[bytes]") -> Engine:
    """Return the client of a server that gives each connection one answer as soon as the headers are there, and hangs up."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(at))
    server.listen()

    def serve() -> None:
        with server:
            for answer in answers:
                connection, _ = server.accept()
                with connection:
                    said = b""
                    while b"\r\n\r\n" not in said:
                        said += connection.recv(1024)
                    connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return Engine(f"unix://{at}")


def answer(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status.encode(), len(body), body)


VERSION = answer("200 OK", b'{"ApiVersion":"1.51","MinAPIVersion":"1.24"}')


def test_an_engine_that_refuses_before_it_has_all_is_heard(tmp_path: Path) -> None:
    """Docker 28 does so when its disk is full; without its answer it looked as if it were not there."""
    engine = engine_that_answers(tmp_path / "s", [VERSION, answer("500 Internal Server Error", FULL)])
    with pytest.raises(EngineError) as caught:
        list(engine.stream("POST", "/images/load", body=(bytes(2**20) for _ in range(64))))
    assert is_disk_full(caught.value)


def test_an_engine_that_hangs_up_without_a_word_is_not_there(tmp_path: Path) -> None:
    engine = engine_that_answers(tmp_path / "s", [VERSION, b""])
    with pytest.raises(EngineDown):
        list(engine.stream("POST", "/images/load", body=(bytes(2**20) for _ in range(64))))


def test_an_engine_has_an_archives_first_bytes_before_the_rest_is_there(tmp_path: Path) -> None:
    """Docker 28 tells by ten of them how it is packed, before it mounts the volume the agent waits for."""
    engine = engine_that_answers(tmp_path / "s", [VERSION])
    engine._negotiate()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "t"))
        server.listen()
        engine._address = Engine(f"unix://{tmp_path / 't'}")._address
        with engine.unfinished("PUT", "/containers/x/archive", query={"path": "/volume"}):
            connection, _ = server.accept()
            connection.settimeout(60)
            said = b""
            while len(said.partition(b"\r\n\r\n")[2]) < len(b"10\r\n") + 10:
                said += connection.recv(1024)
            connection.close()
    assert said.partition(b"\r\n\r\n")[2].startswith(b"10\r\n" + bytes(10))
