"""The Ethereum node, over JSON-RPC.

The only module that imports web3. Callers never see it: they get the values of `billing.chain.types` and the errors of
`billing.chain.errors`:

- `ChainUnavailable`: no answer in time, or an unreadable one; try again (a transaction sent may have arrived).
- `ChainRefused`: the node refused; the same call may work once the cause is mended.
- `Reverted`: the contract refuses this call; permanent.
- `WrongChain`: the node is on another chain than `ETHEREUM_CHAIN_ID`; permanent, nothing is ever sent to it.

Nothing here tries again by itself: who retries is decided by whoever knows what a second try means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, cast

import requests
from django.conf import settings
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from web3 import HTTPProvider, Web3
from web3.exceptions import (
    BadResponseFormat,
    BlockNotFound,
    ContractLogicError,
    TransactionNotFound,
    Web3Exception,
    Web3RPCError,
)
from web3.types import FilterParams, TxParams

from billing.chain import interfaces
from billing.chain.errors import BadAnswer, ChainRefused, ChainUnavailable, Reverted, WrongChain
from billing.chain.types import Block, Call, Chain, Fees, Log, Receipt

TIMEOUT_SECONDS = 10
ALREADY_THERE = ("already known", "already imported", "known transaction", "nonce too low")


def connect() -> Chain:
    """Return the node of `ETHEREUM_RPC_URL`, after making sure once that it is on our chain.

    Raises:
        ChainUnavailable: it does not answer.
        WrongChain: it is on another chain.
    """
    return connect_to(settings.ETHEREUM_RPC_URL, settings.ETHEREUM_CHAIN_ID)


@lru_cache(maxsize=8)
def connect_to(url: str, chain_id: int) -> RpcChain:
    """Return the node behind a URL, after making sure once that it is on that chain. Raises: see `connect`."""
    chain = RpcChain(url)
    found = chain.chain_id()
    if found != chain_id:
        raise WrongChain(f"The Ethereum node is on chain {found}, but ETHEREUM_CHAIN_ID is {chain_id}. Set both alike.")
    return chain


class RpcChain:
    """A node behind a URL; see `types.Chain` for what each method promises."""

    def __init__(self, url: str, *, timeout_seconds: int = TIMEOUT_SECONDS) -> None:
        provider = HTTPProvider(url, request_kwargs={"timeout": timeout_seconds}, exception_retry_configuration=None)
        self._eth = Web3(provider).eth

    def chain_id(self) -> int:
        with _translated():
            return int(self._eth.chain_id)

    def head(self) -> Block:
        with _translated():
            return _block(self._eth.get_block("latest"))

    def finalized(self) -> Block:
        with _translated():
            try:
                return _block(self._eth.get_block("finalized"))
            except BlockNotFound as error:
                raise ChainRefused("The Ethereum node calls no block finalized.") from error

    def block(self, number: int) -> Block | None:
        with _translated():
            try:
                return _block(self._eth.get_block(number))
            except BlockNotFound:
                return None

    def transaction_count(self, address: str, *, block: int | None = None) -> int:
        with _translated():
            return int(self._eth.get_transaction_count(to_checksum_address(address), _at(block)))

    def ether(self, address: str) -> int:
        with _translated():
            return int(self._eth.get_balance(to_checksum_address(address)))

    def fees(self) -> Fees:
        """Bear two full blocks of rising base fee, as wallets do."""
        with _translated():
            base = int(self._eth.get_block("latest").get("baseFeePerGas", 0))
            tip = int(self._eth.max_priority_fee)
        return Fees(max_fee=2 * base + tip, priority_fee=tip)

    def has_code(self, address: str) -> bool:
        with _translated():
            return len(self._eth.get_code(to_checksum_address(address))) > 0

    def read(self, call: Call, *, block: int | None = None, gas: int | None = None) -> bytes:
        params = _params(call)
        if gas is not None:
            params["gas"] = gas
        with _translated():
            return bytes(self._eth.call(params, _at(block)))

    def estimate_gas(self, call: Call, *, sender: str) -> int:
        params = _params(call)
        params["from"] = to_checksum_address(sender)
        with _translated():
            return int(self._eth.estimate_gas(params))

    def send(self, raw: bytes) -> None:
        try:
            with _translated():
                told = _hex(self._eth.send_raw_transaction(raw))
        except ChainRefused as error:
            if not any(phrase in error.message.lower() for phrase in ALREADY_THERE):
                raise
        else:
            if told != "0x" + keccak(raw).hex():
                raise BadAnswer("The Ethereum node took a transaction under another hash than its own.")

    def receipt(self, transaction_hash: str) -> Receipt | None:
        with _translated():
            try:
                found = self._eth.get_transaction_receipt(HexBytes(transaction_hash))
            except TransactionNotFound:
                return None
            if _hex(found["transactionHash"]) != transaction_hash:
                raise BadAnswer("The Ethereum node answers with another transaction's receipt.")
            return Receipt(
                hash=transaction_hash,
                block_number=int(found["blockNumber"]),
                block_hash=_hex(found["blockHash"]),
                succeeded=found["status"] == 1,
                gas_used=int(found["gasUsed"]),
                gas_price=int(found["effectiveGasPrice"]),
                contract_address=str(found["contractAddress"]) if found.get("contractAddress") else None,
                logs=tuple(_log(log) for log in found["logs"]),
            )

    def logs(self, *, addresses: Sequence[str], first: int, last: int) -> list[Log]:
        wanted: FilterParams = {
            "address": [to_checksum_address(address) for address in addresses],
            "fromBlock": cast(Any, first),
            "toBlock": cast(Any, last),
        }
        with _translated():
            found = [_log(log) for log in self._eth.get_logs(wanted)]
        return sorted(found, key=lambda log: (log.block_number, log.index))


@contextmanager
def _translated() -> Iterator[None]:
    """Turn web3's and requests' errors into ours."""
    try:
        yield
    except ContractLogicError as error:
        raise Reverted(interfaces.error_name(error.data)) from error
    except (TransactionNotFound, BlockNotFound):
        raise
    except BadResponseFormat as error:
        raise ChainUnavailable from error
    except Web3RPCError as error:
        raise ChainRefused(f"The Ethereum node refuses: {_said(error)}") from error
    except (requests.RequestException, OSError) as error:
        raise ChainUnavailable from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadAnswer("The Ethereum node's answer cannot be read.") from error
    except Web3Exception as error:
        raise ChainRefused(f"The Ethereum node's answer cannot be used: {error}") from error


def _said(error: Web3RPCError) -> str:
    """Return the node's own words, without web3's wrapping."""
    answer = (error.rpc_response or {}).get("error")
    return str(answer.get("message", answer)) if isinstance(answer, dict) else str(error)


def _params(call: Call) -> TxParams:
    params: TxParams = {"data": HexBytes(call.data)}
    if call.to is not None:
        params["to"] = to_checksum_address(call.to)
    return params


def _at(block: int | None) -> Any:
    return "latest" if block is None else block


def _block(found: Any) -> Block:
    return Block(
        int(found["number"]), _hex(found["hash"]), int(found["timestamp"]), parent_hash=_hex(found["parentHash"])
    )


def _log(found: Any) -> Log:
    return Log(
        address=str(found["address"]),
        topics=tuple(bytes(part) for part in found["topics"]),
        data=bytes(found["data"]),
        block_number=int(found["blockNumber"]),
        block_hash=_hex(found["blockHash"]),
        transaction_hash=_hex(found["transactionHash"]),
        index=int(found["logIndex"]),
    )


def _hex(value: bytes) -> str:
    return "0x" + bytes(value).hex()
