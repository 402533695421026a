"""The agent as one file a device can install: a wheel made from these very sources. `install.sh` installs it.

Used by the portal. A wheel needs no build tool on the device: pip checks it, fetches what it needs, and makes `interchain-node`.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import zipfile
from pathlib import Path

from nodes.agent import __version__

HERE = Path(__file__).resolve().parent
NAME = "interchain_node"
ARCHIVE_NAME = f"{NAME}-{__version__}-py3-none-any.whl"
_FIXED_TIME = (2020, 1, 1, 0, 0, 0)  # the same sources give the same bytes


@functools.cache
def build_archive(version: str = __version__) -> bytes:
    """Return the wheel. Its file name must say the same version (`ARCHIVE_NAME`): pip reads it from there."""
    info = f"{NAME}-{version}.dist-info"
    contents = {"nodes/__init__.py": b'"""Holds the agent."""\n'}
    for path in sorted(HERE.glob("*.py")):
        contents[f"nodes/agent/{path.name}"] = path.read_bytes()
    init = contents["nodes/agent/__init__.py"].replace(f'"{__version__}"'.encode(), f'"{version}"'.encode())
    contents["nodes/agent/__init__.py"] = init
    contents[f"{info}/METADATA"] = _metadata(version)
    contents[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: interchain\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    contents[f"{info}/entry_points.txt"] = b"[console_scripts]\ninterchain-node = nodes.agent.__main__:main\n"
    lines = [f"{name},{_digest(data)},{len(data)}" for name, data in contents.items()]
    contents[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            item = zipfile.ZipInfo(name, _FIXED_TIME)
            item.compress_type, item.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(item, data)
    return out.getvalue()


def _metadata(version: str) -> bytes:
    lines = (HERE / "requirements.txt").read_text().splitlines()
    needed = [f"Requires-Dist: {line}" for line in lines if line and not line.startswith("#")]
    head = ["Metadata-Version: 2.1", "Name: interchain-node", f"Version: {version}", "Requires-Python: >=3.9"]
    return "\n".join([*head, *needed, ""]).encode()


def _digest(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
