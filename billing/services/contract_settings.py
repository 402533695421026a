"""What the contracts are deployed with: read from settings, or in the embedded default Anvil's accounts and test tokens."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from django.conf import settings

from billing.chain import keys
from billing.chain.creations import FeedLimits, Wanted
from billing.chain.interfaces import interface
from billing.chain.types import Call, Chain
from billing.money import NANO
from interchain_site.core.errors import DomainError

LOCAL_DECIMALS = 8
LOCAL_ETHER_USD = 3_000


class AddressesMissing(DomainError):
    code = "addresses_missing"


def local_tokens() -> dict[str, Call]:
    """Return what only a local chain needs, by name: a stablecoin that is worth nothing, and two price feeds."""
    ntc_price = first_price_nano_usd() * 10**LOCAL_DECIMALS // NANO
    return {
        "TestDollar": interface("TestDollar").creation(),
        "EtherFeed": interface("TestFeed").creation(LOCAL_DECIMALS, LOCAL_ETHER_USD * 10**LOCAL_DECIMALS),
        "NtcFeed": interface("TestFeed").creation(LOCAL_DECIMALS, ntc_price),
    }


def first_price_nano_usd() -> int:
    """Return the price at which the embedded default opens round 1, in nano-dollars per NTC."""
    return int(Decimal(settings.SALE_FIRST_PRICE_USD) * NANO)


def read(chain: Chain, made: Mapping[str, str]) -> Wanted:
    """Return what the settings say.

    Args:
        made: addresses of the local tokens, by the key of the transaction that made them.

    Raises:
        AddressesMissing: some are not set, or are no addresses.
        KeyUnavailable: nobody signs for a role.
        ChainUnavailable: a feed cannot be asked for its decimals.
    """
    local = (keys.GUARDIAN, keys.BENEFICIARY, keys.TREASURY, keys.PROPOSER)
    defaults = [keys.development_signer(index).address for index in local] if keys.embedded() else [""] * len(local)
    ours = dict(
        zip(("GUARDIAN", "BENEFICIARY", "TREASURY", "PROPOSER"), defaults, strict=True),
        STABLECOIN=made.get("deploy:TestDollar", ""),
        ETHER_FEED=made.get("deploy:EtherFeed", ""),
        NTC_FEED=made.get("deploy:NtcFeed", ""),
    )
    found = {name: getattr(settings, f"ETHEREUM_{name}_ADDRESS") or default for name, default in ours.items()}
    missing = [f"ETHEREUM_{name}_ADDRESS" for name, address in found.items() if keys.checksummed(address) is None]
    if missing:
        raise AddressesMissing(f"Set these to Ethereum addresses before deploying: {', '.join(sorted(missing))}.")
    return Wanted(
        claim_delay_seconds=settings.ETHEREUM_CLAIM_DELAY_SECONDS,
        timelock_seconds=settings.ETHEREUM_TIMELOCK_SECONDS,
        cashier_daily_units=settings.ETHEREUM_CASHIER_DAILY_NTC * NANO,
        operator=keys.signer("operator").address,
        sales_manager=keys.signer("sales").address,
        cashier=keys.signer("cashier").address,
        ether_limits=_limits(
            chain, found["ETHER_FEED"], settings.ETHEREUM_ETHER_FEED_MAX_AGE_SECONDS, settings.ETHEREUM_ETHER_USD_BOUNDS
        ),
        ntc_limits=_limits(
            chain, found["NTC_FEED"], settings.ETHEREUM_NTC_FEED_MAX_AGE_SECONDS, settings.ETHEREUM_NTC_USD_BOUNDS
        ),
        **{name.lower(): address for name, address in found.items()},
    )


def _limits(chain: Chain, feed: str, max_age_seconds: int, bounds: list[str]) -> FeedLimits:
    decimals = int(interface("TestFeed").read(chain, feed, "decimals"))
    lowest, highest = (int(Decimal(bound) * 10**decimals) for bound in bounds)
    return FeedLimits(max_age_seconds, decimals, lowest, highest)
