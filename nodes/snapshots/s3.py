"""Snapshots in a bucket of anything that speaks S3. The only module that imports boto3's library (botocore).

Callers never see its errors: what goes wrong with the storage is a `StorageAway` that says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.core.files.base import File
from storages.backends.s3 import S3Storage

from nodes.errors import StorageAway
from nodes.streaming import CHUNK_BYTES

# A web process's thread waits no longer than this for a storage that does not answer; restic and the sweeps try again.
CONFIG = Config(connect_timeout=5, read_timeout=30, retries={"max_attempts": 2, "mode": "standard"})
REFUSED = (401, 403)
MEMORY_BYTES = 2 * 2**20


class SnapshotBucket(S3Storage):  # type: ignore[misc]  # django-storages has no types
    """A bucket; objects are replaced, never numbered anew, and keep no rights of their own."""

    def get_default_settings(self) -> dict[str, Any]:
        return {
            **super().get_default_settings(),
            "client_config": CONFIG,
            "default_acl": None,
            "file_overwrite": True,
            "max_memory_size": MEMORY_BYTES,
        }

    def exists(self, name: str) -> bool:
        with _told():
            return bool(super().exists(name))

    def size(self, name: str) -> int:
        with _told():
            return int(super().size(name))

    def delete(self, name: str) -> None:
        with _told():
            super().delete(name)

    def listing(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield name and size of each object right under a folder: one request for a thousand of them."""
        prefix = self._normalize_name(folder) + "/"
        with _told():
            pages = self.connection.meta.client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket_name, Prefix=prefix, Delimiter="/"):
                for entry in page.get("Contents", ()):
                    yield entry["Key"].removeprefix(prefix), int(entry["Size"])

    def chunks(self, name: str, first: int, size: int) -> Iterator[bytes]:
        """Yield so many bytes of an object from `first` on; no more than they are fetched.

        Raises:
            FileNotFoundError: there is none.
        """
        asked = {"Bucket": self.bucket_name, "Key": self._normalize_name(name)}
        if size:
            with _told():
                found = self.connection.meta.client.get_object(**asked, Range=f"bytes={first}-{first + size - 1}")
                yield from found["Body"].iter_chunks(CHUNK_BYTES)

    def _save(self, name: str, content: File[bytes]) -> str:
        with _told():
            return str(super()._save(name, content))


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        code = error.response.get("Error", {}).get("Code", "")
        if code == "NoSuchKey":
            raise FileNotFoundError(code) from None
        if status in REFUSED:
            raise StorageAway(f"the bucket refuses our key ({code})") from error
        raise StorageAway(f"the bucket answers {code or status}") from error
    except (BotoCoreError, Boto3Error) as error:
        raise StorageAway(str(error)[:200]) from error
