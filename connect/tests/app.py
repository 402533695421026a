"""A served app as a process: answers every connection with its own name. Args: address, port, name."""

from __future__ import annotations

import socket
import sys


def main(address: str, port: str, name: str) -> None:
    with socket.create_server((address, int(port))) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(name.encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
