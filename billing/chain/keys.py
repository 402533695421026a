"""Whose key signs what: operator (epochs, claims), cashier (card purchases in the sale), sales manager (rounds).

Each role has an encrypted keystore of its own, opened with a password file, or an address at an external signer. Only in
the embedded default (DEBUG, chain 31337, nothing of one's own set) the keys are Anvil's well-known development keys,
which are worthless anywhere else. A key never leaves this module.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Literal

from django.conf import settings
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_utils.address import is_address, to_checksum_address

from billing.chain.errors import KeyUnavailable
from billing.chain.signers import LocalSigner, RemoteSigner, Signer

Role = Literal["operator", "cashier", "sales"]
ROLES: tuple[Role, ...] = ("operator", "cashier", "sales")

DEVELOPMENT_CHAIN = 31337
DEVELOPMENT_MNEMONIC = "test test test test test test test test test test test junk"  # Anvil's and Hardhat's
# Which of Anvil's accounts is who in the embedded default; 7 to 9 are people's wallets.
OPERATOR, GUARDIAN, BENEFICIARY, CASHIER, SALES, TREASURY, PROPOSER = range(7)
DEVELOPMENT_INDEX: dict[Role, int] = {"operator": OPERATOR, "cashier": CASHIER, "sales": SALES}


def embedded() -> bool:
    """Return whether this is the embedded default: debugging, Anvil's chain, no key or signer of one's own."""
    own = settings.ETHEREUM_KEYSTORE_FILE or settings.ETHEREUM_SIGNER_URL
    return settings.DEBUG and settings.ETHEREUM_CHAIN_ID == DEVELOPMENT_CHAIN and not own


def signer(role: Role) -> Signer:
    """Return who signs for a role.

    Raises:
        KeyUnavailable: neither a keystore nor an external signer is set for it, or the keystore does not open.
    """
    if embedded():
        return development_signer(DEVELOPMENT_INDEX[role])
    keystore, password_file, address = configured(role)
    if keystore or password_file:
        return _from_keystore(role, keystore, password_file)
    if settings.ETHEREUM_SIGNER_URL and address:
        return _remote(settings.ETHEREUM_SIGNER_URL, address)
    raise KeyUnavailable.of(role)


def signer_at(address: str) -> Signer | None:
    """Return the signer with this address, or None when no role's key is it (any more). A key that is not set is no error."""
    for role in ROLES:
        try:
            found = signer(role)
        except KeyUnavailable:
            continue
        if found.address == address:
            return found
    return None


def operator() -> Signer:
    """Return the signer of epochs and claims. Raises: see `signer`."""
    return signer("operator")


def configured(role: Role) -> tuple[str, str, str]:
    """Return a role's keystore file, its password file, and its address at the external signer, as set; "" where not."""
    part = "" if role == "operator" else f"{role.upper()}_"
    return (
        getattr(settings, f"ETHEREUM_{part}KEYSTORE_FILE"),
        getattr(settings, f"ETHEREUM_{part}KEYSTORE_PASSWORD_FILE"),
        getattr(settings, f"ETHEREUM_{role.upper()}_ADDRESS"),
    )


def development_signer(index: int) -> Signer:
    """Return one of Anvil's funded development accounts.

    Raises:
        KeyUnavailable: this is not the embedded default.
    """
    if not embedded():
        raise KeyUnavailable.of("operator")
    return _development_signer(index)


@lru_cache(maxsize=16)
def _development_signer(index: int) -> Signer:
    Account.enable_unaudited_hdwallet_features()
    return LocalSigner(Account.from_mnemonic(DEVELOPMENT_MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}"))


@lru_cache(maxsize=4)
def _from_keystore(role: Role, keystore: str, password_file: str) -> Signer:
    if not keystore or not password_file:
        raise KeyUnavailable.of(role)
    try:
        password = Path(password_file).read_text().rstrip("\n")
        return LocalSigner(Account.from_key(Account.decrypt(json.loads(Path(keystore).read_text()), password)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        # The cause may quote the password or the key; name only its kind.
        raise KeyUnavailable.of(role, type(error).__name__) from None


@lru_cache(maxsize=4)
def _remote(url: str, address: str) -> Signer:
    return RemoteSigner(url, address)


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
