"""The operator's key: an encrypted keystore file, opened with a password file. It never leaves this module.

Only in the embedded default (DEBUG, chain 31337, no keystore set) it is the first of Anvil's well-known development
keys, which are worthless anywhere else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from eth_utils.address import is_address, to_checksum_address

from billing.chain.errors import KeyUnavailable
from billing.chain.types import Call, Fees

DEVELOPMENT_CHAIN = 31337
DEVELOPMENT_MNEMONIC = "test test test test test test test test test test test junk"  # Anvil's and Hardhat's


@dataclass(frozen=True)
class Signed:
    raw: bytes
    hash: str


class Signer:
    """Signs with one key; the key itself cannot be had from it."""

    def __init__(self, account: LocalAccount) -> None:
        self.address = str(account.address)
        self._account = account

    def __repr__(self) -> str:
        return f"Signer({self.address})"

    def sign(self, call: Call, *, chain_id: int, nonce: int, gas: int, fees: Fees) -> Signed:
        """Return the signed EIP-1559 transaction and its hash."""
        fields: dict[str, Any] = {
            "type": 2,
            "chainId": chain_id,
            "nonce": nonce,
            "gas": gas,
            "maxFeePerGas": fees.max_fee,
            "maxPriorityFeePerGas": fees.priority_fee,
            "value": 0,
            "data": call.data,
        }
        if call.to is not None:
            fields["to"] = call.to
        signed = self._account.sign_transaction(fields)
        return Signed(raw=bytes(signed.raw_transaction), hash="0x" + bytes(signed.hash).hex())


def embedded() -> bool:
    """Return whether this is the embedded default: debugging, Anvil's chain, no keystore of one's own."""
    return settings.DEBUG and settings.ETHEREUM_CHAIN_ID == DEVELOPMENT_CHAIN and not settings.ETHEREUM_KEYSTORE_FILE


def operator() -> Signer:
    """Return the signer of the portal's transactions.

    Raises:
        KeyUnavailable: no keystore is set, or it does not open with its password.
    """
    if embedded():
        return development_signer(0)
    return _from_keystore(settings.ETHEREUM_KEYSTORE_FILE, settings.ETHEREUM_KEYSTORE_PASSWORD_FILE)


def development_signer(index: int) -> Signer:
    """Return one of Anvil's funded development accounts.

    Raises:
        KeyUnavailable: this is not the embedded default.
    """
    if not embedded():
        raise KeyUnavailable
    return _development_signer(index)


@lru_cache(maxsize=16)
def _development_signer(index: int) -> Signer:
    Account.enable_unaudited_hdwallet_features()
    return Signer(Account.from_mnemonic(DEVELOPMENT_MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}"))


@lru_cache(maxsize=2)
def _from_keystore(keystore: str, password_file: str) -> Signer:
    if not keystore or not password_file:
        raise KeyUnavailable
    try:
        password = Path(password_file).read_text().rstrip("\n")
        return Signer(Account.from_key(Account.decrypt(json.loads(Path(keystore).read_text()), password)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        # The cause may quote the password or the key; name only its kind.
        raise KeyUnavailable(f"{KeyUnavailable.message} ({type(error).__name__})") from None


def checksummed(address: str) -> str | None:
    """Return the address in EIP-55 form, or None when it is none; a mixed-case one must carry the right checksum."""
    text = address.strip()
    if not text.startswith("0x") or not is_address(text):
        return None
    right = str(to_checksum_address(text))
    has_no_checksum = text[2:] in (text[2:].lower(), text[2:].upper())
    return right if has_no_checksum or text == right else None


def signer_of(message: str, signature: str) -> str | None:
    """Return the address whose key signed the text (EIP-191 `personal_sign`), or None for an unreadable signature."""
    try:
        return str(Account.recover_message(encode_defunct(text=message), signature=signature.strip()))
    except Exception:
        return None
