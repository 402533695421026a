"""Compare what Slither finds in src/ with the table in SLITHER.md; run by slither.sh in Slither's own environment.

Exits 1 on a finding without an answer, and on an answer without a finding, so that the table stays true.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ANSWERS = HERE / "SLITHER.md"
ROW = re.compile(r"^\| `(?P<detector>[a-z0-9-]+)` \| (?P<places>[^|]+) \| [^|]+ \|$", re.MULTILINE)

Finding = tuple[str, str]  # detector, Contract.function


def found(folder: Path) -> dict[Finding, str]:
    """Compile src/ into the folder, analyse it, and return each finding with Slither's own words."""
    out, report = folder / "out", folder / "report.json"
    places = ["--out", str(out), "--build-info-path", str(out / "build-info"), "--cache-path", str(folder / "cache")]
    run([str(HERE / "forge"), "build", "src", "--force", "--build-info", *places])
    slither = [str(Path(sys.executable).parent / "slither"), ".", "--foundry-ignore-compile"]
    # Slither answers with the number of its findings; whether it worked is in the report.
    run(
        [*slither, "--foundry-out-directory", str(out), "--filter-paths", "node_modules", "--json", str(report)],
        ok=False,
    )
    answer = json.loads(report.read_text())
    if not answer["success"]:
        sys.exit(f"Slither failed: {answer['error']}")
    return {(one["check"], place(one)): one["description"] for one in answer["results"].get("detectors", [])}


def run(command: list[str], *, ok: bool = True) -> None:
    """Run a program in this folder, Forge's wrapper first in the path; stop with its output when it must work."""
    environment = os.environ | {"PATH": f"{HERE}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, check=False)
    if ok and done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}")


def place(finding: dict[str, list[dict[str, object]]]) -> str:
    """Return the function or event a finding is about, without line numbers, which change."""
    part = finding["elements"][0]
    fields = part["type_specific_fields"]
    if part["type"] == "variable" and isinstance(fields, dict):
        part, fields = fields["parent"], fields["parent"]["type_specific_fields"]
    parent = fields.get("parent", {}) if isinstance(fields, dict) else {}
    return f"{parent.get('name', '')}.{part['name']}".lstrip(".")


def answered() -> set[Finding]:
    rows = ROW.finditer(ANSWERS.read_text())
    return {(row["detector"], name) for row in rows for name in re.findall(r"`([^`]+)`", row["places"])}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        findings = found(Path(folder))
    answers = answered()
    for key in sorted(findings.keys() - answers):
        sys.stdout.write(f"Not answered in SLITHER.md: {key[0]} in {key[1]}\n{findings[key]}\n")
    for detector, name in sorted(answers - findings.keys()):
        sys.stdout.write(f"Answered in SLITHER.md but no longer found: {detector} in {name}\n")
    if findings.keys() != answers:
        sys.exit(1)
    sys.stdout.write(f"Slither: {len(findings)} findings, each answered in SLITHER.md.\n")


if __name__ == "__main__":
    main()
