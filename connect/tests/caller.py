"""A client as a process: asks a port again and again and prints each answer with its time. Args: port."""

from __future__ import annotations

import socket
import sys
import time


def main(port: str) -> None:
    while True:
        answer = ""
        try:
            with socket.create_connection(("127.0.0.1", int(port)), 5) as connection:
                connection.settimeout(20)
                connection.sendall(b"who?")
                answer = connection.recv(100).decode()
        except OSError:
            pass
        print(f"{time.monotonic():.3f} {answer or '-'}", flush=True)  # noqa: T201 (read by the test)
        time.sleep(0.05)


if __name__ == "__main__":
    main(*sys.argv[1:])
