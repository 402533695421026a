"""A real local Ethereum node for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from interchain_site.testing.servers import free_port, running

CONTRACTS = Path(__file__).resolve().parents[2] / "billing" / "contracts"


def anvil_program() -> str:
    """Return Anvil's path.

    Raises:
        FileNotFoundError: the contracts' npm packages are not installed.
    """
    for program in sorted(CONTRACTS.glob("node_modules/@foundry-rs/anvil-*/bin/anvil*")):
        return str(program)
    raise FileNotFoundError(f"Anvil is not installed. Run: npm install --prefix {CONTRACTS.relative_to(Path.cwd())}")


@contextmanager
def anvil(*, port: int | None = None, state: Path | None = None) -> Iterator[Anvil]:
    """Run a chain until the block ends; it mines each transaction at once unless told otherwise."""
    port = port or free_port()
    command = [anvil_program(), "--port", str(port), "--hardfork", "osaka", "--enable-tx-gas-limit", "--silent"]
    if state is not None:
        command += ["--state", str(state), "--state-interval", "1"]
    with running(command, port=port):
        yield Anvil(f"http://127.0.0.1:{port}")


class Anvil:
    """What only a test chain can be told."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, method: str, *params: object) -> Any:
        """Return the node's answer to a JSON-RPC call."""
        answer = httpx.post(self.url, json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, timeout=20)
        body = answer.json()
        assert "error" not in body, f"{method}: {body['error']}"
        return body["result"]

    def mine(self, blocks: int = 1) -> None:
        self.ask("anvil_mine", hex(blocks))

    def automine(self, on: bool) -> None:
        self.ask("evm_setAutomine", on)

    def pass_time(self, seconds: int) -> None:
        """Move the chain's clock and mine a block with it."""
        self.ask("evm_increaseTime", seconds)
        self.mine()

    def reset(self) -> None:
        """Begin anew at block 0: no contracts, nothing waiting, the clock at now."""
        self.ask("anvil_reset")
        self.automine(True)

    def snapshot(self) -> str:
        return str(self.ask("evm_snapshot"))

    def restore(self, snapshot: str) -> None:
        self.ask("evm_revert", snapshot)
