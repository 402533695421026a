"""`interchain-verify FILE --rpc URL`: what an Interchain proof file proves, in words.

Exit codes: 0 everything that can be proven is; 1 something is false; 2 the file or the call is not readable; 3 nothing is
false, but something could not be checked (no node asked, not settled yet, not deep enough).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from interchain_verify import __version__, bill, reserves
from interchain_verify.documents import Unreadable, address_of, parse
from interchain_verify.report import EXIT_UNREADABLE, Report, plain
from interchain_verify.rpc import NoAnswer, Node
from interchain_verify.settled import Question

LARGEST_FILE = 16 * 1024 * 1024


def main(arguments: list[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    asked = _arguments().parse_args(arguments)
    try:
        with Path(asked.file).open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise Unreadable("This is no proof file: it is far too large.")
        question = Question(
            node=Node(asked.rpc) if asked.rpc else None,
            confirmations=asked.confirmations,
            settlement=address_of(asked.settlement, "--settlement") if asked.settlement else "",
        )
        report = examine(data, question)
    except (OSError, Unreadable, NoAnswer) as error:
        print(plain(f"interchain-verify: {error}"), file=sys.stderr)
        return EXIT_UNREADABLE
    print(report.text())
    return report.exit_code


def examine(data: bytes, question: Question) -> Report:
    """Return what a proof file shows.

    Raises:
        Unreadable: it is none, or was edited.
    """
    proof: dict[str, Any] = parse(data)
    for kind in (bill, reserves):
        if proof.get("format") == kind.FORMAT:
            try:
                found: Report = kind.check(proof, question)
                return found
            except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
                raise Unreadable(f"The file is damaged: {type(error).__name__} {error}.") from None
    raise Unreadable(f"This is no bill proof and no reserves proof, but {proof.get('format')!r}.")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="interchain-verify", description=__doc__.split("\n")[0])
    parser.add_argument("file", help="a bill proof or a reserves proof, as downloaded")
    parser.add_argument(
        "--rpc", metavar="URL", help="an Ethereum node of your choice; without it the chain is not checked"
    )
    parser.add_argument("--settlement", metavar="ADDRESS", help="the Settlement contract's address as you know it")
    parser.add_argument(
        "--confirmations", type=int, default=12, metavar="N", help="how deep the block must be (default 12)"
    )
    parser.add_argument("--version", action="version", version=__version__)
    return parser
