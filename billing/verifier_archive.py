"""`interchain-verify` as one file to download: a zip that Python runs (PEP 441), made from the sources in `verify/`."""

from __future__ import annotations

import functools
import io
import zipfile
from pathlib import Path

from django.conf import settings

from interchain_site.core.canonical import sha256_hex

NAME = "interchain-verify.pyz"
_FIXED_TIME = (2020, 1, 1, 0, 0, 0)  # the same sources give the same bytes
_MAIN = b"import sys\n\nfrom interchain_verify.cli import main\n\nsys.exit(main())\n"


@functools.cache
def build() -> bytes:
    """Return the file; `python3 interchain-verify.pyz FILE --rpc URL` runs it."""
    folder = Path(settings.BASE_DIR) / "verify" / "interchain_verify"
    contents = {"__main__.py": _MAIN}
    contents |= {f"interchain_verify/{path.name}": path.read_bytes() for path in sorted(folder.glob("*.py"))}
    out = io.BytesIO()
    out.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            item = zipfile.ZipInfo(name, _FIXED_TIME)
            item.compress_type, item.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(item, data)
    return out.getvalue()


@functools.cache
def sha256() -> str:
    return sha256_hex(build())
