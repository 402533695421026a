"""Draw every state table of the site as it is in the code (docs/states.md)."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

import billing.chain.states
import billing.states
import marketplace.states
import nodes.states

MODULES: tuple[ModuleType, ...] = (marketplace.states, nodes.states, billing.states, billing.chain.states)
SUFFIX = "_MOVES"
HEAD = """# States

Made by `python manage.py diagrams` from the tables in the code; a test fails when this page is stale. Do not edit it.
The first row of a table is where a thing begins.
"""


def tables() -> dict[str, dict[str, Mapping[str, object]]]:
    """Return `{module: {table name: moves}}`, every table named `…_MOVES` in the order it is written."""
    return {
        module.__name__: {name: value for name, value in vars(module).items() if name.endswith(SUFFIX)}
        for module in MODULES
    }


def page() -> str:
    """Return docs/states.md as it should be."""
    parts = [HEAD]
    for module, found in tables().items():
        for name, moves in found.items():
            title = name.removesuffix(SUFFIX).replace("_", " ").capitalize()
            parts.append(f"## {title}\n\n`{module}.{name}`\n\n{_diagram(moves)}")
    return "\n".join(parts)


def _diagram(moves: Mapping[str, object]) -> str:
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {_name(next(iter(moves)))}"]
    order = [_name(state) for state in moves]
    for state, targets in moves.items():
        assert isinstance(targets, set | frozenset)  # noqa: S101  (tables hold sets)
        names = sorted((_name(target) for target in targets), key=order.index)
        lines += [f"    {_name(state)} --> {target}" for target in names or ["[*]"]]
    return "\n".join([*lines, "```", ""])


def _name(state: object) -> str:
    return str(getattr(state, "value", state))
