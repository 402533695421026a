#!/usr/bin/env python3
"""Prove that `billing/chain/abi/` is what the contracts compile to, byte for byte; `--write` renews it after a change.

Run it from anywhere: `python billing/contracts/verify_artifacts.py [--write]`. Exits 1 and names the file that differs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ABI = HERE.parent / "chain" / "abi"
CONTRACTS = ("FounderVault", "Intercoin", "Settlement", "TestDollar", "TestFeed", "TimelockController", "TokenSale")


def compiled(out: Path) -> dict[str, str]:
    """Compile everything anew and return each contract's file as it should be."""
    command = [str(HERE / "forge"), "build", "src", "--force", "--no-cache", "--out", str(out)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        sys.exit(f"The contracts do not compile:\n{built.stdout}{built.stderr}")
    return {name: artifact(json.loads((out / f"{name}.sol" / f"{name}.json").read_text())) for name in CONTRACTS}


def artifact(forge: dict[str, dict[str, object]]) -> str:
    kept = {"abi": forge["abi"], "bytecode": forge["bytecode"]["object"]}
    return json.dumps(kept, indent=1, sort_keys=True) + "\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = compiled(Path(folder))
    if "--write" in sys.argv[1:]:
        for name, text in files.items():
            (ABI / f"{name}.json").write_text(text)
        return
    stale = [name for name, text in files.items() if not _same(ABI / f"{name}.json", text)]
    if stale:
        sys.exit(
            f"billing/chain/abi/ is not what the contracts compile to: {', '.join(stale)}. "
            "Run billing/contracts/verify_artifacts.py --write and commit the result."
        )


def _same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    main()
