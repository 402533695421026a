"""`bin/test PATH…`: pytest on files, folders or single tests, with the environment they need and nothing else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection
from pathlib import Path

from interchain_site.local import check
from interchain_site.local.steps import ROOT, Stop

BROWSER = "browser"  # the folders whose tests drive one: Playwright keeps an event loop running


def are_meant(arguments: list[str], suites: Collection[str]) -> bool:
    """Tell whether these arguments name tests rather than suites.

    Raises:
        Stop: a test's file is not there, or suites are named beside tests.
    """
    named = [argument for argument in arguments if not argument.startswith("-") and argument not in suites]
    paths = [argument for argument in named if _file(argument) is not None]
    lost = [argument for argument in named if _file(argument) is None and ("/" in argument or "::" in argument)]
    if lost:
        raise Stop(f"there is no file {lost[0].partition('::')[0]}. Name it from here or from the repository's root")
    if paths and any(argument in suites for argument in arguments):
        raise Stop("name suites or tests, not both in one call")
    return bool(paths)


def run(arguments: list[str]) -> int:
    """Run pytest with these arguments in one process; returns its exit code."""
    given = [_absolute(argument) for argument in arguments]
    environment = check.environment()
    if any(BROWSER in Path(argument.partition("::")[0]).parts for argument in given):
        environment["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    parallel = [] if any(argument.startswith("-n") for argument in given) else ["-n", "0"]
    call = [str(check.BIN / "python"), "-m", "pytest", *parallel, *given]
    return subprocess.run(call, cwd=ROOT, env=environment, check=False).returncode


def _file(argument: str) -> Path | None:
    path = argument.partition("::")[0]
    places = (Path(os.environ.get("PWD", ".")) / path, ROOT / path)  # bin/test itself has changed to the root
    return next((place for place in places if path and place.exists()), None)


def _absolute(argument: str) -> str:
    found = None if argument.startswith("-") else _file(argument)
    if found is None:
        return argument
    _, colons, test = argument.partition("::")
    return f"{os.path.normpath(found)}{colons}{test}"
