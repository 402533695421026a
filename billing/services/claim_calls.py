"""Claim from one's own wallet: the server writes the call, the person's wallet sends it and pays its gas."""

from __future__ import annotations

from typing import Any

from django.urls import reverse

from billing import settlement_queries as queries
from billing.chain import deployments
from billing.models import Wallet
from billing.services.claims import NothingToClaim
from interchain_site.core.errors import NotFound
from interchain_site.core.models import User


def next_step(*, wallet_id: int, answers: dict[str, str], user: User) -> dict[str, Any]:
    """Return what the browser's wallet does next, as `static/js/wallet.js` understands it.

    Any account may send the claim; the NTC go to the linked wallet whoever does.

    Raises:
        NotFound: not this person's wallet.
        NothingToClaim: no final epoch holds more than was paid.
        NotDeployed: later.
    """
    wallet = Wallet.objects.filter(pk=wallet_id, user=user).first()
    if wallet is None:
        raise NotFound
    if answers.get("hash"):
        return {"do": "go", "url": reverse("wallet")}
    epoch = queries.newest_final_epoch()
    total = queries.cumulative_by_wallet(epoch.sequence, wallet_ids=[wallet.pk]).get(wallet.pk, 0) if epoch else 0
    if epoch is None or total <= queries.paid_by_wallet([wallet.pk]).get(wallet.pk, 0):
        raise NothingToClaim
    proof = queries.payout_proof(epoch, address=wallet.address, cumulative=total)
    call = deployments.load().contract.claim(
        epoch=queries.settled_epoch(epoch), account=wallet.address, cumulative=total, proof=proof
    )
    return {
        "do": "send",
        "call": {"to": call.to, "data": "0x" + call.data.hex(), "value": "0x0"},
        "keep": "hash",
        "wait": True,
        "explain": "Confirm the claim in your wallet. You pay its gas; the NTC go to the linked wallet.",
    }
