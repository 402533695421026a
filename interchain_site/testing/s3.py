"""An S3 server that checks who asks (moto), and a cable to it that can be pulled."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import boto3

from interchain_site.testing.servers import free_port, running

BUCKET = "snapshots"
REGION = "us-east-1"
# Calls before who asks is checked: the user, their rights, their key.
SETTING_UP = 3
ALL_OF_S3 = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'


@dataclass
class Bucket:
    """A bucket on a server of its own, and the key that opens it."""

    endpoint: str
    key: str
    secret: str
    cable: Cable

    def options(self, **changes: str) -> dict[str, Any]:
        """Return the options of Django's storage "snapshots", as settings.py makes them."""
        named = {"endpoint_url": self.endpoint, "access_key": self.key, "secret_key": self.secret}
        return {"bucket_name": BUCKET, "region_name": REGION, **named, **changes}

    def objects(self) -> dict[str, int]:
        """Return the size of everything in it."""
        client = _client("s3", self.endpoint, self.key, self.secret)
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", ())}

    def contents(self) -> bytes:
        """Return everything in it, joined."""
        client = _client("s3", self.endpoint, self.key, self.secret)
        return b"".join(client.get_object(Bucket=BUCKET, Key=name)["Body"].read() for name in self.objects())


@contextmanager
def bucket() -> Iterator[Bucket]:
    """Run the server until the block ends."""
    port = free_port()
    checked = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(SETTING_UP)}
    with running([sys.executable, "-m", "moto.server", "-p", str(port)], port=port, env=checked, seconds=60):
        direct = f"http://127.0.0.1:{port}"
        iam = _client("iam", direct, "setting", "up")
        iam.create_user(UserName="portal")
        iam.put_user_policy(UserName="portal", PolicyName="all", PolicyDocument=ALL_OF_S3)
        made = iam.create_access_key(UserName="portal")["AccessKey"]
        key, secret = made["AccessKeyId"], made["SecretAccessKey"]
        _client("s3", direct, key, secret).create_bucket(Bucket=BUCKET)
        with Cable(port) as cable:
            yield Bucket(f"http://127.0.0.1:{cable.port}", key, secret, cable)


def _client(service: str, endpoint: str, key: str, secret: str) -> Any:
    return boto3.client(
        service, endpoint_url=endpoint, region_name=REGION, aws_access_key_id=key, aws_secret_access_key=secret
    )


class Cable:
    """A TCP forwarder: while it is pulled, what is open breaks off and nothing new is let in."""

    def __init__(self, to_port: int) -> None:
        self._to, self._open, self._pulled = to_port, set[socket.socket](), False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.carried = 0  # bytes towards the server
        self.pull_after = 0  # pulls itself after so many more bytes; 0: never

    def __enter__(self) -> Cable:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.pull()
        self._listener.close()

    def pull(self) -> None:
        self._pulled = True
        for end in list(self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def plug(self) -> None:
        self._pulled, self.pull_after = False, 0

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self._pulled:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._to))
                self._open |= {near, far}
                threading.Thread(target=self._carry, args=(near, far, True), daemon=True).start()
                threading.Thread(target=self._carry, args=(far, near, False), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if counted:
                    self.carried += len(data)
                    if self.pull_after and self.carried > self.pull_after:
                        self.pull()
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open -= {source, target}
