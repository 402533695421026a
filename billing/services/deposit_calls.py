"""Depositing from a browser wallet, step by step: the server writes each document and call, the wallet signs or sends it.

With a permit (EIP-2612) it is one transaction. Wallets that are contracts cannot sign permits, so they approve first; a person
whose wallet does not show permits can choose so, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.urls import reverse

from billing import money
from billing.chain import deployments, keys, permits
from billing.chain.types import Call, Chain
from billing.models import SentDeposit
from billing.services import chain_accounts
from interchain_site.core.errors import Invalid
from interchain_site.core.models import User

PERMIT_VALID = timedelta(minutes=30)
HASH_LETTERS = 66


@dataclass(frozen=True)
class Wish:
    """What a person wants to deposit, in base units, and with which wallet.

    Attributes:
        approve: approve first instead of signing a permit.
    """

    units: int
    address: str
    approve: bool = False


def next_step(*, wish: Wish, answers: dict[str, str], user: User, chain: Chain, now: datetime) -> dict[str, Any]:
    """Return what the wallet does next, as `static/js/wallet.js` understands it.

    1. Sign a permit (`permit`, until `deadline`), or send an approval (`approval`).
    2. Send the deposit (`hash`).
    3. Go to the page that follows it.

    Args:
        answers: what came back so far, by those names.

    Raises:
        Invalid: no address, or it does not hold that much.
        BadPermit: the signature is not this permit's.
        NotDeployed, ChainUnavailable: try again later.
    """
    owner = keys.checksummed(wish.address)
    if owner is None:
        raise Invalid("The wallet gave no address. Connect it again.")
    if answers.get("hash"):
        return _note(wish, answers["hash"], user, now)
    deployment = deployments.load()
    held = deployment.token.balance(chain, owner)
    if held < wish.units:
        message = f"This wallet holds {money.format_ntc(held)}, less than you want to deposit."
        raise Invalid(message, fields={"amount": message})
    reference = chain_accounts.reference_of(user=user)
    if answers.get("permit"):
        call = _with_permit(wish, owner, reference, answers, chain)
        return _send(call, "hash", f"Deposit {money.format_ntc(wish.units)}: confirm in your wallet.")
    allowed = deployment.token.allowance(chain, owner=owner, spender=deployment.settlement)
    if answers.get("approval") or allowed >= wish.units:
        call = deployment.contract.deposit(reference=reference, amount=wish.units)
        return _send(call, "hash", f"Deposit {money.format_ntc(wish.units)}: confirm in your wallet.")
    if wish.approve or chain.has_code(owner):
        return _approve(wish)
    deadline = int((now + PERMIT_VALID).timestamp())
    try:
        document = _permit(wish, owner, deadline, chain)
    except permits.NoPermit:
        return _approve(wish)
    return {
        "do": "sign_typed_data",
        "document": document,
        "keep": "permit",
        "fields": {"deadline": str(deadline)},
        "explain": f"Allow exactly {money.format_ntc(wish.units)}: sign in your wallet. This costs nothing.",
    }


def _approve(wish: Wish) -> dict[str, Any]:
    deployment = deployments.load()
    call = deployment.token.approve(spender=deployment.settlement, amount=wish.units)
    words = f"First of two: allow the contract to take exactly {money.format_ntc(wish.units)}."
    return {**_send(call, "approval", words), "wait": True}


def _with_permit(wish: Wish, owner: str, reference: str, answers: dict[str, str], chain: Chain) -> Call:
    deadline = answers.get("deadline", "")
    if not (deadline.isdecimal() and len(deadline) < 12):
        raise permits.BadPermit
    signature = permits.read_signature(_permit(wish, owner, int(deadline), chain), answers["permit"])
    return deployments.load().contract.deposit_with_permit(
        reference=reference,
        amount=wish.units,
        deadline=int(deadline),
        signature=signature,
    )


def _permit(wish: Wish, owner: str, deadline: int, chain: Chain) -> dict[str, Any]:
    deployment = deployments.load()
    return permits.document(
        chain=chain,
        token=deployment.intercoin,
        owner=owner,
        spender=deployment.settlement,
        value=wish.units,
        deadline=deadline,
        chain_id=settings.ETHEREUM_CHAIN_ID,
    )


def _send(call: Call, keep: str, words: str) -> dict[str, Any]:
    shown = {"to": call.to, "data": "0x" + call.data.hex(), "value": "0x0"}
    return {"do": "send", "call": shown, "keep": keep, "explain": words}


def _note(wish: Wish, transaction_hash: str, user: User, now: datetime) -> dict[str, Any]:
    """Remember that it was sent, so that the page shows it before the chain does. It credits nothing."""
    given = transaction_hash.lower()
    if len(given) != HASH_LETTERS or not given.startswith("0x") or set(given[2:]) - set("0123456789abcdef"):
        raise Invalid("The wallet gave no transaction. See in the wallet whether it was sent.")
    SentDeposit.objects.get_or_create(user=user, transaction_hash=given, defaults={"units": wish.units, "sent_at": now})
    return {"do": "go", "url": reverse("deposit")}
