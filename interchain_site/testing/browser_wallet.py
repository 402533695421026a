"""A wallet for browser tests: a small EIP-1193 provider in the page that forwards to Anvil's unlocked accounts.

The page's content policy forbids it to speak to the node, so requests go through a Playwright binding. What a person decides
in a real wallet is decided here: `refuse` names methods they turn down, `chain_id` is the network their wallet is on.

    wallet = BrowserWallet(node, account=7)
    wallet.install(page.context)     # before the page is opened
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import BrowserContext

from interchain_site.testing.anvil import Anvil, anvil
from interchain_site.testing.browser import ROOT, Site, site

USER_REJECTED = 4001
UNKNOWN_CHAIN = 4902
SCRIPT = """
(() => {
  const ask = async ({ method, params }) => {
    const answer = JSON.parse(await window.__wallet(method, JSON.stringify(params || [])));
    if (answer.error) throw Object.assign(new Error(answer.error.message), { code: answer.error.code });
    return answer.result;
  };
  const provider = { request: ask, on() {}, removeListener() {} };
  window.ethereum = provider;
  const info = { uuid: "00000000-0000-4000-8000-000000000001", name: "Test wallet", icon: "data:,", rdns: "test.wallet" };
  const announce = () => window.dispatchEvent(
    new CustomEvent("eip6963:announceProvider", { detail: Object.freeze({ info, provider }) }));
  window.addEventListener("eip6963:requestProvider", announce);
  announce();
})();
"""


QUICK = {
    "ADDRESS_HOLD_SECONDS": "0",
    "EPOCH_SECONDS": "3",
    "ETHEREUM_CONFIRMATIONS": "1",
    "WITHDRAWAL_CARD_HOLD_SECONDS": "0",
}


@contextmanager
def chain_site(data: Path, *, rich: str = "publisher", ntc: int = 100) -> Iterator[tuple[Site, Anvil]]:
    """Run a portal with a real chain and a chain worker; one of the cast has NTC to spend, nothing else is there."""
    with anvil() as node:
        settings = {**QUICK, "ETHEREUM_RPC_URL": node.url}
        with site(data, settings=settings, people_only=True) as portal, (data / "worker.log").open("wb") as log:
            command = [sys.executable, "-W", "ignore", "-m", "interchain_site.testing.chain_worker"]
            worker = subprocess.Popen(
                [*command, f"{rich}@example.com", str(ntc)],
                cwd=ROOT,
                env={**os.environ, **portal.environment},
                stdout=log,
                stderr=log,
            )
            try:
                yield portal, node
            finally:
                worker.terminate()
                worker.wait(timeout=10)


@dataclass
class BrowserWallet:
    """One account of a local Anvil, as a wallet.

    Attributes:
        account: which of Anvil's development accounts; 7 to 9 are people's.
        chain_id: the network the wallet is on at first; the page has to switch it.
        refuse: methods the person turns down.
        asked: what the page asked for, in order.
    """

    node: Anvil
    account: int = 7
    chain_id: int = 31337
    knows: set[int] = field(default_factory=lambda: {1, 31337})
    refuse: set[str] = field(default_factory=set)
    asked: list[tuple[str, list[Any]]] = field(default_factory=list)

    @property
    def address(self) -> str:
        """The account's address, as the node writes it."""
        return str(self.node.ask("eth_accounts")[self.account])

    def install(self, context: BrowserContext) -> None:
        """Put the wallet into every page opened in this context from now on."""
        context.expose_function("__wallet", self._request)
        context.add_init_script(SCRIPT)

    def _request(self, method: str, params: str) -> str:
        given: list[Any] = json.loads(params)
        self.asked.append((method, given))
        if method in self.refuse:
            return _error(USER_REJECTED, "User rejected the request.")
        if method in ("eth_requestAccounts", "eth_accounts"):
            return json.dumps({"result": [self.address]})
        if method == "eth_chainId":
            return json.dumps({"result": hex(self.chain_id)})
        if method == "wallet_switchEthereumChain":
            return self._switch(int(given[0]["chainId"], 16))
        if method == "wallet_addEthereumChain":
            self.knows.add(int(given[0]["chainId"], 16))
            return self._switch(int(given[0]["chainId"], 16))
        if method == "eth_signTypedData_v4" and isinstance(given[1], str):
            given[1] = json.loads(given[1])  # wallets take text, Anvil takes the document
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": given}
        return httpx.post(self.node.url, json=body, timeout=20).text

    def _switch(self, chain_id: int) -> str:
        if chain_id not in self.knows:
            return _error(UNKNOWN_CHAIN, "Unrecognized chain.")
        self.chain_id = chain_id
        return json.dumps({"result": None})


def _error(code: int, message: str) -> str:
    return json.dumps({"error": {"code": code, "message": message}})
