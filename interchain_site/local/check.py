"""`bin/check`: all that can be proven without running the product. Reports every failure, not only the first."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass

from interchain_site.local import npm
from interchain_site.local.steps import ROOT

BIN = ROOT / ".venv" / "bin"
MOST_LINES = 80  # of what a failing check said
ABI_PROOF = ROOT / "billing" / "contracts" / "verify_artifacts.py"


@dataclass(frozen=True)
class Check:
    """One program that must succeed; `why` is shown when it does not."""

    name: str
    command: tuple[str, ...]
    mend: str


def checks() -> list[Check]:
    """Return the checks, quickest first."""
    python, manage = str(BIN / "python"), str(ROOT / "manage.py")
    found = [
        Check("ruff check", (str(BIN / "ruff"), "check", "--quiet", "."), "try: .venv/bin/ruff check --fix ."),
        Check("ruff format", (str(BIN / "ruff"), "format", "--check", "--quiet", "."), "type: .venv/bin/ruff format ."),
        Check("layers", (str(BIN / "lint-imports"),), "the contracts are in pyproject.toml"),
        Check("templates", (str(BIN / "djlint"), "templates", "--lint", "--quiet"), "the rules are in pyproject.toml"),
        Check("settings", (python, manage, "check", "--fail-level", "WARNING"), "each id is in docs/architecture.md"),
        Check(
            "migrations",
            (python, manage, "makemigrations", "--check", "--dry-run"),
            "type: .venv/bin/python manage.py makemigrations",
        ),
        Check(
            "house rules",
            (python, "-m", "pytest", "-n", "0", "interchain_site/tests/test_house_rules.py"),
            "each rule says what to do",
        ),
        Check(
            "tests load",  # types are not checked in tests: a name that is gone would show only in the suites
            (python, "-m", "pytest", "-n", "0", "--collect-only", "--quiet"),
            "a test imports what is not there",
        ),
    ]
    if ABI_PROOF.exists():
        found.append(Check("contracts rebuild", (python, str(ABI_PROOF)), "see billing/contracts/README.md"))
    return [*found, Check("types", (str(BIN / "mypy"), "."), "strict mypy, see pyproject.toml")]


def main(arguments: list[str]) -> int:
    """Run every check; return 1 when any failed."""
    parser = argparse.ArgumentParser(prog="bin/check", description=__doc__)
    parser.add_argument("only", nargs="*", help="names of checks; all when left out")
    only = parser.parse_args(arguments).only
    wanted = [check for check in checks() if not only or check.name in only]
    if not wanted:
        parser.error("no such check; they are: " + ", ".join(check.name for check in checks()))
    if any(check.name == "contracts rebuild" for check in wanted):
        npm.install()
    failed = [check.name for check in wanted if not passes(check)]
    print(
        f"{len(wanted) - len(failed)} checks passed, {len(failed)} failed"
        + (": " if failed else "")
        + ", ".join(failed)
    )
    return 1 if failed else 0


def passes(check: Check) -> bool:
    """Run one check, printing its name, duration and, when it fails, all it said."""
    began = time.monotonic()
    done = subprocess.run(check.command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    ok = done.returncode == 0
    print(f"{'ok    ' if ok else 'FAILED'}  {check.name:<18} {time.monotonic() - began:6.1f} s", flush=True)
    if not ok:
        lines = (done.stdout + done.stderr).strip().splitlines()
        left = [f"… {len(lines) - MOST_LINES} lines before"] if len(lines) > MOST_LINES else []
        print("\n".join(f"        {line}" for line in [*left, *lines[-MOST_LINES:]]))
        print(f"        → {check.mend}", flush=True)
    return ok


def environment() -> dict[str, str]:
    """Return the variables under which checks and tests run, whatever this machine's .env says."""
    return {
        **os.environ,
        "DEBUG": "1",
        "INTERCHAIN_ENV_FILE": os.devnull,
        "FIELD_ENCRYPTION_KEYS": "dGVzdHMtb25seS1rZXktdGVzdHMtb25seS1rZXktISE=",
        "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
