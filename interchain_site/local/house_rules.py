"""House rules no linter knows. Each takes text and returns what is wrong; tests prove that it bites, then run it on the repository."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator

from interchain_site.local.steps import ROOT

LONGEST_FILE = 300
# Folders whose library nobody else may import (STYLE §1: one outside system, one module or folder).
ONLY_HERE = {
    "stripe": ("billing/stripe/",),
    "web3": ("billing/chain/",),
    "eth_account": ("billing/chain/",),
    "docker": ("nodes/agent/docker_executor.py", "nodes/agent/sandbox.py"),
}
TEST_PATH = re.compile(r"(^|/)(tests|testing|bench)/|(^|/)conftest\.py$|^interchain_site/local/")
REASON = re.compile(r"(longer than|over|more than) 300 lines", re.IGNORECASE)
# Folders that exist only on one developer's machine.
PRIVATE_PATH = re.compile(r"(?<![\w.$}])/(work|home/[a-z]\w*|root|tmp/team|Users/\w+)/")
SETTING_READ = re.compile(r"""env\.(?:text|flag|integer|names)\(\s*["']([A-Z0-9_]+)["']""")
SAMPLE_LINE = re.compile(r"^#?\s?([A-Z][A-Z0-9_]+)=", re.MULTILINE)


def tracked(*endings: str) -> Iterator[tuple[str, str]]:
    """Yield (path, text) of every file in git with one of these endings (any when none is named), vendored ones excepted."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.split("\0"):
        if not name or (endings and not name.endswith(endings)) or name.startswith("static/vendor/"):
            continue
        path = ROOT / name
        if path.is_file():
            try:
                yield name, path.read_text()
            except UnicodeDecodeError:
                continue


def foreign_imports(path: str, text: str) -> list[str]:
    """A library behind a gateway is imported only there, so that leaving a provider is deleting a folder."""
    if TEST_PATH.search(path):
        return []
    return [
        f"{path}:{line}: imports {name}; only {' and '.join(ONLY_HERE[name])} may"
        for line, name in _imports(text)
        if name in ONLY_HERE and not path.startswith(ONLY_HERE[name])
    ]


def floats_near_money(path: str, text: str) -> list[str]:
    """Floats lose cents: nothing in billing/ computes with them. Waiting times of chain/ and stripe/ may be floats."""
    if not path.startswith("billing/") or TEST_PATH.search(path):
        return []
    waits = path.startswith(("billing/chain/", "billing/stripe/"))
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, float) and not waits:
            found.append(f"{path}:{node.lineno}: float literal {node.value}; use int base units or Decimal")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float":
            found.append(f"{path}:{node.lineno}: float(…); use int base units or Decimal")
        if isinstance(node, ast.Attribute) and node.attr == "FloatField":
            found.append(f"{path}:{node.lineno}: FloatField; use BigIntegerField")
    return found


def too_long(path: str, text: str) -> list[str]:
    """A file over 300 lines says why in its first 15 ("Longer than 300 lines because …")."""
    lines = text.splitlines()
    if len(lines) <= LONGEST_FILE or "/migrations/" in path or REASON.search("\n".join(lines[:15])):
        return []
    return [f"{path}: {len(lines)} lines; split it by noun, or say why it is longer than 300 lines at its top"]


def private_places(path: str, text: str, hosts: tuple[str, ...] = ()) -> list[str]:
    """Nothing in the repository names a folder or package host that only one machine has."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        match = PRIVATE_PATH.search(line)
        if match:
            found.append(f"{path}:{number}: names {match.group(0)}, a folder of one machine")
        found += [f"{path}:{number}: names a package host of one machine" for host in hosts if host in line]
    return found


def own_hosts() -> tuple[str, ...]:
    """Return this machine's own package hosts (pip's and npm's settings), which must not leak into lock files."""
    said = ""
    for program in (["pip", "config", "list"], ["npm", "config", "get", "registry"]):
        try:
            said += subprocess.run(program, capture_output=True, text=True, check=False, timeout=30).stdout
        except (FileNotFoundError, subprocess.TimeoutExpired):
            continue
    hosts = set(re.findall(r"https?://(?:[^@/\s'\"]*@)?([^:/\s'\"]+)", said))
    return tuple(sorted(hosts - {"localhost", "127.0.0.1"}))


def settings_read(sources: str) -> set[str]:
    """Return the names of environment variables that settings read through `core.env`."""
    return set(SETTING_READ.findall(sources))


def settings_named(sample: str) -> set[str]:
    """Return the names a dotenv file sets or shows commented out."""
    return set(SAMPLE_LINE.findall(sample))


def _imports(text: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.lineno, node.module.split(".")[0]
