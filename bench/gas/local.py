"""A throw-away Anvil with our contracts, to send real transactions to and read what they cost."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from eth_abi.abi import encode

from billing.chain.contracts import Claimant, Intercoin, SettledEpoch, Settlement, Totals
from billing.chain.interfaces import interface
from billing.chain.keccak import keccak
from billing.chain.merkle import MerkleTree, payout_leaf
from billing.chain.types import Call

HERE = Path(__file__).resolve().parent
CONTRACTS = HERE.parents[1] / "billing" / "contracts"
GAS_LIMIT = 16_777_216  # EIP-7825
METERS = (5 * 10**12 + 1, 9 * 10**17 + 1, 7 * 10**15 + 1, 36 * 10**10 + 1, 1200)  # a month of a thousand devices


@dataclass
class Chain:
    """An Anvil at a URL. Everything is sent by its first account, which holds all NTC."""

    url: str
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60))
    sender: str = ""

    def __post_init__(self) -> None:
        self.sender = self.ask("eth_accounts")[0]

    def ask(self, method: str, *parameters: object) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        answer = self.client.post(self.url, json=body).json()
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def send(self, call: Call) -> dict[str, Any]:
        """Send one transaction and return its receipt. Raises `RuntimeError` when it was refused."""
        request = {"from": self.sender, "data": "0x" + call.data.hex(), "gas": hex(GAS_LIMIT)}
        digest = self.ask("eth_sendTransaction", request | ({"to": call.to} if call.to else {}))
        receipt: dict[str, Any] | None = None
        while receipt is None:
            receipt = self.ask("eth_getTransactionReceipt", digest)
        if receipt["status"] != "0x1":
            raise RuntimeError(f"Transaction {digest} was refused.")
        return receipt

    def cost(self, call: Call) -> int:
        """Send one transaction and return the gas it used: intrinsic, calldata and execution."""
        return int(self.send(call)["gasUsed"], 16)

    def create(self, call: Call) -> str:
        return str(self.send(call)["contractAddress"])


@dataclass(frozen=True)
class Disperse:
    """The loop to compare with."""

    address: str

    def pay(self, token: str, payees: list[str], amounts: list[int]) -> Call:
        arguments = encode(["address", "address[]", "uint256[]"], [token, payees, amounts])
        return Call(self.address, keccak(b"disperse(address,address[],uint256[])")[:4] + arguments)


@dataclass
class Escrow:
    """A Settlement of its own, with the payees of one tree."""

    chain: Chain
    settlement: Settlement
    payees: list[str]
    earned: list[int]
    epoch: SettledEpoch | None = None
    tree: MerkleTree | None = None

    def settle(self, more: list[int]) -> int:
        """Settle an epoch in which everybody earned more, let its delay pass, and return what settling cost."""
        self.earned = [before + new for before, new in zip(self.earned, more, strict=True)]
        self.tree = MerkleTree(map(payout_leaf, self.payees, self.earned))
        usage = "0x" + keccak(self.tree.root.encode()).hex()
        number = self.epoch.number + 1 if self.epoch else 1
        totals = Totals(sum(self.earned), len(self.payees), 10 * len(self.payees), METERS)
        receipt = self.chain.send(
            self.settlement.settle(epoch=number, payout_root=self.tree.root, usage_root=usage, totals=totals)
        )
        block = self.chain.ask("eth_getBlockByNumber", receipt["blockNumber"], False)
        self.epoch = SettledEpoch(number, int(block["timestamp"], 16) + 60, self.tree.root, usage, totals.cumulative)
        self.chain.ask("evm_increaseTime", 61)
        return int(receipt["gasUsed"], 16)

    def claimants(self) -> list[Claimant]:
        assert self.tree is not None
        tree = self.tree
        return [
            Claimant(payee, earned, tree.proof(payout_leaf(payee, earned)))
            for payee, earned in zip(self.payees, self.earned, strict=True)
        ]

    def claim(self) -> int:
        """Let everybody claim by themselves; return what they paid together."""
        assert self.epoch is not None
        return sum(
            self.chain.cost(
                self.settlement.claim(epoch=self.epoch, account=one.account, cumulative=one.cumulative, proof=one.proof)
            )
            for one in self.claimants()
        )

    def claim_many(self, batch: int) -> int:
        """Relay everybody's claim in batches; return what the relayer paid."""
        assert self.epoch is not None
        everybody = self.claimants()
        return sum(
            self.chain.cost(self.settlement.claim_many(epoch=self.epoch, claimants=everybody[start : start + batch]))
            for start in range(0, len(everybody), batch)
        )


def token(chain: Chain) -> Intercoin:
    return Intercoin(chain.create(interface("Intercoin").creation(chain.sender, chain.sender)))


def escrow(chain: Chain, ntc: Intercoin, payees: list[str], amount: int) -> Escrow:
    """Deploy a Settlement with a delay of a minute and deposit the amount, base units."""
    creation = interface("Settlement").creation(ntc.address, 60, chain.sender, chain.sender, chain.sender)
    settlement = Settlement(chain.create(creation))
    chain.send(ntc.approve(spender=settlement.address, amount=amount))
    chain.send(settlement.deposit(reference="0x" + "11" * 32, amount=amount))
    return Escrow(chain, settlement, payees, [0] * len(payees))


def disperse(chain: Chain, ntc: Intercoin) -> Disperse:
    """Compile, deploy and approve the loop, with the contracts' compiler and settings."""
    sources = {path: {"content": (CONTRACTS / "node_modules" / path).read_text()} for path in _imports()}
    settings = {
        "evmVersion": "cancun",
        "optimizer": {"enabled": True, "runs": 10_000},
        "outputSelection": {"*": {"Disperse": ["evm.bytecode.object"]}},
    }
    source = {"Disperse.sol": {"content": (HERE / "Disperse.sol").read_text()}}
    work = {"language": "Solidity", "sources": source | sources, "settings": settings}
    answer = subprocess.run([str(CONTRACTS / "solc"), "-"], input=json.dumps(work), capture_output=True, text=True)
    code = json.loads(answer.stdout)["contracts"]["Disperse.sol"]["Disperse"]["evm"]["bytecode"]["object"]
    loop = Disperse(chain.create(Call(None, bytes.fromhex(code))))
    chain.send(ntc.approve(spender=loop.address, amount=2**255))
    return loop


def _imports() -> list[str]:
    return ["@openzeppelin/contracts/token/ERC20/IERC20.sol"]
