"""Keep the price before the founders' vault's eyes: its average needs a reading at least every two days.

Anybody may send `FounderVault.observe`. If nobody did, the condition on the price (whitepaper §4) could never be met, so the
chain worker does it once a day, from the opening of round 3 until the founders' share has left or three years are over.
"""

from __future__ import annotations

from datetime import datetime

from billing.chain import deployments, transactions
from billing.chain.errors import Reverted
from billing.chain.types import Chain
from billing.chain.vault import FounderVault
from billing.models import ChainTransaction
from interchain_site.core.alerts import clear_alert, raise_alert

EVERY_SECONDS = 86_400  # half of the contract's MAX_GAP, so that one that fails can be made up for
KEY = "vault:observe"
ALERT = "vault_not_observed"
PATIENCE_SECONDS = 3_600


def observe(*, chain: Chain, now: datetime) -> int:
    """Send today's observation if it is due; returns how many were sent. Safe to repeat.

    Raises:
        ChainUnavailable, ChainRefused, KeyUnavailable, NotDeployed: the next round tries again.
    """
    vault = FounderVault(deployments.load().vault)
    if not _is_due(vault, chain):
        return 0
    try:
        plan = transactions.plan(call=vault.observe(), chain=chain)
    except Reverted as error:
        raise_alert(
            code=ALERT,
            message=f"The founders' vault does not take today's price of NTC: {error.message}",
            mend="Look at the price feed of NTC. After two days without a reading the vault's average begins anew; its "
            "three years run on.",
            patience_seconds=PATIENCE_SECONDS,
        )
        return 0
    clear_alert(code=ALERT)
    row = transactions.build(key=transactions.next_key(KEY), plan=plan, now=now)
    transactions.send(row=row, chain=chain, now=now)
    return 1


def _is_due(vault: FounderVault, chain: Chain) -> bool:
    if ChainTransaction.objects.outstanding().filter(key__startswith=f"{KEY}:").exists():
        return False
    if vault.price_target(chain) == 0 or vault.released(chain) > 0:
        return False
    at, unlocks_at = chain.head().timestamp, vault.unlocks_at(chain)
    observed_at, _ = vault.last_observation(chain)
    return at - observed_at >= EVERY_SECONDS and not (unlocks_at and at >= unlocks_at)
