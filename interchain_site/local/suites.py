"""`bin/test`: set up what the tests need, run every suite, name what was skipped, print one sum."""

from __future__ import annotations

import argparse
import os
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from interchain_site.local import check, chosen_tests, npm, postgres, system
from interchain_site.local.steps import ROOT, Steps

PYTHON = str(check.BIN / "python")
REPORTS = ROOT / "test-results"
REAL = "docker or anvil or browser"  # marks of tests that need more than Python and Valkey
SINGLE = """Files, folders and single tests run with the environment they need, without reports:

  bin/test nodes/tests/test_leases.py
  bin/test marketplace/tests/test_api.py::test_from_nothing_to_a_bill -x --pdb
"""


@dataclass
class Outcome:
    """What one suite came to."""

    name: str
    passed: int = 0
    failed: int = 0
    seconds: float = 0.0
    skipped: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Suite:
    """One way of proving something: what it needs, and the function that runs it."""

    name: str
    about: str
    needs: tuple[system.Package, ...]
    run: Callable[[], Outcome]
    engine: bool = False
    packages: bool = False


def suites() -> dict[str, Suite]:
    """Return every suite in the order `all` runs them."""
    containers = (*system.DOCKER, *system.SNAPSHOTS, *system.TEST_IMAGES)
    rows = [
        Suite(
            "unit",
            "services, views, money and states on SQLite",
            (*system.SNAPSHOTS, *system.SSH, *system.CERTIFICATES),
            unit,
        ),
        Suite(
            "fast",
            "unit without its slow tests: under two minutes; `all` leaves it out",
            (*system.SNAPSHOTS, *system.SSH, *system.CERTIFICATES),
            fast,
        ),
        Suite(
            "postgres",
            "the same on PostgreSQL, with the tests of concurrency",
            (*system.POSTGRES, *system.SNAPSHOTS, *system.SSH, *system.CERTIFICATES),
            on_postgres,
        ),
        Suite("anvil", "a real local Ethereum node", (), anvil, packages=True),
        Suite(
            "docker",
            "a real Docker Engine, and killing each process of a site",
            (
                *containers,
                *system.UNITS,
                *system.COMPILER,
                *system.DISKS,
                *system.NAMESPACES,
                *system.GVISOR,
                *system.SSH,
            ),
            docker,
            True,
            True,
        ),
        Suite("browser", "headless Chromium", (*system.BROWSER, *containers), browser, True, True),
        Suite("contracts", "Solidity, by Forge", (), contracts, packages=True),
        Suite("smoke", "bin/run --smoke", (*system.DOCKER, *system.SNAPSHOTS), smoke, True, True),
    ]
    return {suite.name: suite for suite in rows}


def main(arguments: list[str]) -> int:
    """Run the suites named (all when none is), or the tests; return 1 when one failed, or was skipped under CI=true."""
    known = suites()
    if chosen_tests.are_meant(arguments, {*known, "all"}):
        return chosen_tests.run(arguments)
    lines = "\n".join(f"  {suite.name:<10} {suite.about}" for suite in known.values())
    parser = argparse.ArgumentParser(
        prog="bin/test",
        usage="bin/test [suite …]\n       bin/test PATH[::test] … [pytest's own options]",
        description=f"{__doc__}\n\n{lines}",
        epilog=SINGLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("suite", nargs="*", help="`all`, the default, is every one but fast")
    wanted = parser.parse_args(arguments).suite or ["all"]
    if unknown := set(wanted) - {*known, "all"}:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    names = [name for name in known if name != "fast"] if "all" in wanted else wanted
    chosen = [known[name] for name in dict.fromkeys(names)]
    prepare(chosen)
    return summary([_run(suite) for suite in chosen])


def prepare(chosen: list[Suite]) -> None:
    """Install and start what these suites need."""
    steps = Steps()
    packages = list(dict.fromkeys(package for suite in chosen for package in suite.needs))
    if packages:
        steps.do("System packages", lambda: system.install(packages))
    if any(suite.packages for suite in chosen):
        steps.do("npm packages", npm.install)
    if any(suite.engine for suite in chosen):
        steps.do("Docker Engine", system.start_engine)


def summary(outcomes: list[Outcome]) -> int:
    """Print one line per suite, what was skipped, and the sum."""
    strict = os.environ.get("CI", "").lower() == "true"
    print()
    for outcome in outcomes:
        print(f"{outcome.name:<10} {outcome.passed:5d} passed {outcome.failed:4d} failed {outcome.seconds:7.1f} s")
    skipped = [f"{outcome.name}: {line}" for outcome in outcomes for line in outcome.skipped]
    for line in skipped:
        print(f"skipped    {line}")
    failed = sum(outcome.failed for outcome in outcomes)
    also = f", {len(skipped)} skipped" + (" (a failure under CI=true)" if strict else "") if skipped else ""
    print(f"{sum(outcome.passed for outcome in outcomes)} passed, {failed} failed{also}")
    return 1 if failed or (strict and skipped) else 0


def _run(suite: Suite) -> Outcome:
    print(f"\n── {suite.name}: {suite.about}", flush=True)
    began = time.monotonic()
    outcome = suite.run()
    outcome.seconds = time.monotonic() - began
    return outcome


def unit() -> Outcome:
    """Everything that needs only Python and Valkey, on SQLite."""
    return pytest("unit", ["-n", "2", "--dist", "worksteal", "-m", f"not postgres and not ({REAL})"], ours="PostgreSQL")


def fast() -> Outcome:
    """Unit without what takes many seconds."""
    return pytest(
        "fast",
        ["-n", "2", "--dist", "worksteal", "-m", f"not slow and not postgres and not ({REAL})"],
        ours="PostgreSQL",
    )


def on_postgres() -> Outcome:
    """The same on PostgreSQL."""
    with postgres.cluster(ROOT / "var" / "test-postgres") as url:
        return pytest(
            "postgres",
            ["-n", "2", "--dist", "worksteal", "-m", f"not ({REAL})"],
            env={"DATABASE_URL": url},
            ours="SQLite",
        )


def anvil() -> Outcome:
    """Tests against a real local Ethereum node."""
    return pytest("anvil", ["-n", "0", "-m", "anvil and not (docker or browser)"])


def docker() -> Outcome:
    """Tests that start containers; one at a time, for they share the Engine."""
    return pytest("docker", ["-n", "0", "-m", "docker and not browser"])


def browser() -> Outcome:
    """Tests in a real browser: a call of their own, because Playwright keeps an event loop running."""
    return pytest("browser", ["-n", "0", "-m", "browser"], env={"DJANGO_ALLOW_ASYNC_UNSAFE": "true"})


def pytest(name: str, arguments: list[str], *, env: dict[str, str] | None = None, ours: str = "") -> Outcome:
    """Run pytest and read its report; skips whose reason names `ours` are run by another suite and do not count."""
    report = REPORTS / f"{name}.xml"
    report.unlink(missing_ok=True)
    call = [PYTHON, "-m", "pytest", *arguments, f"--junitxml={report}"]
    done = subprocess.run(call, cwd=ROOT, env={**check.environment(), **(env or {})}, check=False)
    outcome = read_report(name, report, ours) if report.exists() else Outcome(name)
    # 5: nothing was collected under these marks.
    if done.returncode not in (0, 5) and not outcome.failed:
        outcome.failed = 1
    return outcome


def read_report(name: str, report: Path, ours: str) -> Outcome:
    """Return the outcome in a junit file."""
    outcome = Outcome(name)
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            outcome.failed += 1
        elif skip is None:
            outcome.passed += 1
        elif not (ours and ours in (skip.get("message") or "")):
            outcome.skipped.append(f"{case.get('classname')}::{case.get('name')}: {skip.get('message')}")
    return outcome


def contracts() -> Outcome:
    """Forge's tests, through the script beside the contracts."""
    script = ROOT / "billing" / "contracts" / "test.sh"
    if not script.exists():
        return Outcome("contracts", skipped=["billing/contracts/test.sh is not there"])
    return program("contracts", [str(script)])


def smoke() -> Outcome:
    """The whole site on free ports, its main job done once over HTTP."""
    return program("smoke", [PYTHON, "-m", "interchain_site.local", "run", "--smoke"])


def program(name: str, arguments: list[str]) -> Outcome:
    """Run a program that counts as one test."""
    done = subprocess.run(arguments, cwd=ROOT, env=check.environment(), check=False)
    return Outcome(name, passed=int(done.returncode == 0), failed=int(done.returncode != 0))
