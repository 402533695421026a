"""`interchain connect APP`: opens a local port that leads to the app, through whichever nodes can be reached.

Exit codes: 0 ended by Ctrl-C; 1 the app is not found; 2 the trust file or the call cannot be used.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import urllib.request
from pathlib import Path

from interchain_connect import __version__, trust
from interchain_connect.proxy import Proxy
from interchain_connect.resolve import Resolver
from interchain_connect.trust import Known, Unusable

FOUND_WITHIN_SECONDS = 30.0


def main(arguments: list[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    asked = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        code: int = asked.command(asked)
        return code
    except Unusable as error:
        print(f"interchain: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0


def fetch_trust(asked: argparse.Namespace) -> int:
    """Get the trust file from the portal, over HTTPS, and keep it."""
    _fetch(asked.portal, Path(asked.trust))
    print(f"Kept in {asked.trust}.")
    return 0


def _fetch(portal: str, path: Path) -> None:
    url = portal.rstrip("/") + "/directory/trust.json"
    if not url.startswith(("https://", "http://")):
        raise Unusable(f"{portal} is not an address: it begins with https://")
    try:
        with urllib.request.urlopen(url, timeout=15) as answer:  # noqa: S310 (the person names the portal)
            data = answer.read(trust.LARGEST_FILE)
        Known(json.loads(data))
    except (OSError, ValueError) as error:
        raise Unusable(f"{url} cannot be had: {error}") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def resolve(asked: argparse.Namespace) -> int:
    """Print where the app is served now, one endpoint a line."""
    record = asyncio.run(_resolver(asked).refresh())
    if record is None or not record.endpoints:
        print(f"interchain: no node knows where {asked.app} is served.", file=sys.stderr)
        return 1
    print("\n".join(record.endpoints))
    return 0


def connect(asked: argparse.Namespace) -> int:
    """Open a local port that leads to the app, until Ctrl-C."""
    return asyncio.run(_connect(asked))


async def _connect(asked: argparse.Namespace) -> int:
    resolver = _resolver(asked)
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + FOUND_WITHIN_SECONDS
    while await resolver.refresh() is None:
        if loop.time() > give_up_at:
            print(f"interchain: no node that can be reached knows {asked.app}.", file=sys.stderr)
            return 1
        await asyncio.sleep(1)
    try:
        server = await Proxy(resolver).serve(asked.listen, asked.port)
    except OSError as error:
        raise Unusable(f"Port {asked.port} cannot be opened: {error}") from None
    port = server.sockets[0].getsockname()[1]
    print(f"{asked.app} is at {asked.listen}:{port}", flush=True)
    await server.serve_forever()  # until Ctrl-C
    return 0


def _resolver(asked: argparse.Namespace) -> Resolver:
    path = Path(asked.trust)
    memory = Path(asked.memory) if asked.memory else path.with_name(path.stem + ".learnt.json")
    if asked.portal and not path.exists():
        _fetch(asked.portal, path)
    known = trust.load(path, memory)
    known.seeds = [*asked.node, *known.seeds]
    return Resolver(known, asked.app)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="interchain", description="Reaches apps on Interchain through any node.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command in (("connect", connect), ("resolve", resolve), ("trust", fetch_trust)):
        text = (command.__doc__ or "").split("\n")[0]
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        sub.add_argument("--trust", default=str(_folder() / "trust.json"), help="the trust file")
        if name == "trust":
            sub.add_argument("portal", help="the portal's address, https://…")
            continue
        sub.add_argument("app", help="the app's name")
        sub.add_argument("--node", action="append", default=[], metavar="HOST:PORT", help="another node to ask")
        sub.add_argument("--portal", default="", metavar="URL", help="where the trust file is had if there is none yet")
        sub.add_argument("--memory", default="", help="where what is learnt is kept (default: beside the trust file)")
        if name == "connect":
            sub.add_argument("--port", type=int, default=0, help="local port (default: any that is free)")
            sub.add_argument("--listen", default="127.0.0.1", help="local address (default: this computer only)")
    return parser


def _folder() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "interchain"
