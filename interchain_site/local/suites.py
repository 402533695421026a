"""`bin/test`: set up what the tests need, run every suite, name what was skipped, print one sum."""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from interchain_site.local import check, chosen_tests, engines, npm, postgres, reports, system
from interchain_site.local.reports import Outcome
from interchain_site.local.steps import ROOT, Steps

PYTHON = str(check.BIN / "python")
REPORTS = ROOT / "test-results"
APART = ("fast", "engines")  # run only when they are named
MOST_AGAIN = 3  # tests of a suite that failed and are run once more
REAL = "docker or anvil or browser"  # marks of tests that need more than Python and Valkey
SINGLE = """Files, folders and single tests run with the environment they need, without reports:

  bin/test nodes/tests/test_leases.py
  bin/test marketplace/tests/test_api.py::test_from_nothing_to_a_bill -x --pdb
"""


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
        Suite(
            "engines",
            "the agent with newer Docker Engines, as root on Debian (local/engines.py); `all` leaves it out",
            (*containers, *system.DISKS, *system.NAMESPACES),
            newer_engines,
        ),
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
    parser.add_argument("suite", nargs="*", help="`all`, the default, is every one but fast and engines")
    wanted = parser.parse_args(arguments).suite or ["all"]
    if unknown := set(wanted) - {*known, "all"}:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    names = [name for name in known if name not in APART] if "all" in wanted else wanted
    chosen = [known[name] for name in dict.fromkeys(names)]
    prepare(chosen)
    return reports.print_sum([_run(suite) for suite in chosen])


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


def newer_engines() -> Outcome:
    """The agent's tests with each Engine; one of them counts as one test."""
    done = [program("engines", [PYTHON, "-m", engines.__name__, name]) for name in engines.VARIANTS]
    return Outcome("engines", passed=sum(one.passed for one in done), failed=sum(one.failed for one in done))


def browser() -> Outcome:
    """Tests in a real browser: a call of their own, because Playwright keeps an event loop running."""
    return pytest("browser", ["-n", "0", "-m", "browser"], env={"DJANGO_ALLOW_ASYNC_UNSAFE": "true"})


def pytest(name: str, arguments: list[str], *, env: dict[str, str] | None = None, ours: str = "") -> Outcome:
    """Run pytest and read its report; skips whose reason names `ours` are run by another suite and do not count.

    What fails is run once more, alone, when it is little: most such tests wait for processes of a machine that others
    load too. The sum names them. One that passes only then is a fault to be found all the same.
    """
    outcome = _pytest(name, arguments, env or {}, ours)
    if not 0 < len(outcome.failures) <= MOST_AGAIN or outcome.failed > len(outcome.failures):
        return outcome
    print(f"\n── {name}: once more, alone: {', '.join(outcome.failures)}", flush=True)
    return reports.with_second_try(outcome, _pytest(f"{name}-again", ["-n", "0", *outcome.failures], env or {}, ours))


def _pytest(name: str, arguments: list[str], env: dict[str, str], ours: str) -> Outcome:
    report = REPORTS / f"{name}.xml"
    report.unlink(missing_ok=True)
    call = [PYTHON, "-m", "pytest", *arguments, f"--junitxml={report}", "-o", "junit_family=xunit1"]
    done = subprocess.run(call, cwd=ROOT, env={**check.environment(), **env}, check=False)
    outcome = reports.read(name, report, ours) if report.exists() else Outcome(name)
    # 5: nothing was collected under these marks.
    if done.returncode not in (0, 5) and not outcome.failed:
        outcome.failed = 1
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
