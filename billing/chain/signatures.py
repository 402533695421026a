"""Whose signature it is: a key's (EIP-191), or a contract's that is asked itself (EIP-1271)."""

from __future__ import annotations

from collections.abc import Callable

from eth_abi.abi import encode
from eth_account.messages import encode_defunct
from eth_utils.abi import function_signature_to_4byte_selector
from eth_utils.crypto import keccak

from billing.chain import keys
from billing.chain.errors import ChainError, Reverted
from billing.chain.types import Call, Chain

MAGIC = bytes.fromhex("1626ba7e")  # EIP-1271's "this is mine"; also the function's selector
NOT_DEPLOYED = "6492" * 16  # EIP-6492: the signature of a wallet contract that is not on the chain yet
LONGEST_BYTES = 10_000
MOST_GAS = (
    5_000_000  # many times what wallets with many owners need; a stranger's contract must not keep our node at work
)


class WalletNotDeployed(ChainError):
    code, status = "wallet_not_deployed", 400
    message = (
        "Your wallet is a contract that is not on the chain yet, so nobody can ask it. Send any transaction with it first, "
        "then sign again."
    )


def is_signed_by(*, address: str, message: str, signature: str, connect: Callable[[], Chain]) -> bool:
    """Return whether the account at `address` signed the text.

    Args:
        address: in EIP-55 form.
        connect: gives the node to ask about a contract; not called for a key's signature.

    Raises:
        WalletNotDeployed: a contract's signature that nobody can check yet (EIP-6492).
        ChainUnavailable: the node does not answer, and the signature is no key's.
    """
    if keys.signer_of(message, signature) == address:
        return True
    try:
        raw = bytes.fromhex(signature.strip().removeprefix("0x"))
    except ValueError:
        return False
    if raw.hex().endswith(NOT_DEPLOYED):
        raise WalletNotDeployed
    if not raw or len(raw) > LONGEST_BYTES:
        return False
    chain = connect()
    if not chain.has_code(address):
        return False
    signable = encode_defunct(text=message)
    digest = keccak(b"\x19" + signable.version + signable.header + signable.body)
    return _asked(chain, address, digest, raw)


def _asked(chain: Chain, address: str, digest: bytes, signature: bytes) -> bool:
    selector = function_signature_to_4byte_selector("isValidSignature(bytes32,bytes)")
    try:
        answer = chain.read(Call(address, selector + encode(["bytes32", "bytes"], [digest, signature])), gas=MOST_GAS)
    except Reverted:
        return False
    return len(answer) >= 32 and answer[:32] == MAGIC + bytes(28)
