"""What the chain says about the token as a whole, read by the chain worker into one row, so that no page waits for a node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from billing.chain import deployments
from billing.chain.deployments import Deployment
from billing.chain.errors import Reverted
from billing.chain.interfaces import interface
from billing.chain.sale import TokenSale
from billing.chain.types import Chain
from billing.chain.vault import FounderVault
from billing.models import TokenFacts
from billing.money import NANO

log = structlog.get_logger(__name__)
SLOW_SECONDS = 60  # how often what hardly changes is read again; prices and the sale's state are read each time


@dataclass(frozen=True)
class Facts:
    """NTC in base units, prices in nano-dollars per NTC, times in seconds since 1970; 0 or "" where the chain has none yet.

    Attributes:
        stablecoin_cost: of 1 NTC in the stablecoin's base units; 0 while no round is open.
        wei_cost: of 1 NTC in wei; 0 while no round is open or the ether feed is not to be believed.
    """

    checked_at: datetime
    block_number: int = 0
    chain_id: int = 0
    intercoin: str = ""
    settlement: str = ""
    sale: str = ""
    vault: str = ""
    timelock: str = ""
    stablecoin: str = ""
    ether_feed: str = ""
    ntc_feed: str = ""
    treasury: str = ""
    supply: int = 0
    sale_balance: int = 0
    vault_balance: int = 0
    settlement_balance: int = 0
    sale_paused: bool = False
    cashier_left: int = 0
    stablecoin_symbol: str = ""
    stablecoin_decimals: int = 0
    stablecoin_cost: int = 0
    wei_cost: int = 0
    vault_released: int = 0
    vault_open: bool = False
    vault_price_target: int = 0
    vault_average_price: int = 0
    vault_unlocks_at: int = 0
    vault_window_seconds: int = 0
    vault_observed_since: int = 0
    vault_last_price: int = 0
    vault_last_observed_at: int = 0

    @property
    def time_met(self) -> bool:
        """Whether the three years were over when the chain was read."""
        return self.unlocks_at is not None and self.unlocks_at <= self.checked_at

    @property
    def unlocks_at(self) -> datetime | None:
        """When time alone opens the founders' vault."""
        return datetime.fromtimestamp(self.vault_unlocks_at, UTC) if self.vault_unlocks_at else None


def current() -> Facts | None:
    """Return what the chain worker read last; None before its first look, or when the contracts were deployed anew."""
    row = TokenFacts.objects.filter(pk=1).first()
    if row is None:
        return None
    kinds = {field.name: field.type for field in fields(Facts)}
    values: dict[str, Any] = {
        name: int(value) if kinds[name] == "int" else value == "1" if kinds[name] == "bool" else value
        for name, value in row.values.items()
        if name in kinds
    }
    return Facts(checked_at=row.checked_at, block_number=row.block_number, **values)


def refresh(*, chain: Chain, now: datetime) -> None:
    """Read the chain and keep what it says. What hardly changes is read once in `SLOW_SECONDS`.

    Raises:
        ChainUnavailable, NotDeployed: what was known before stays, with its time.
    """
    deployment = deployments.load()
    row = TokenFacts.objects.filter(pk=1).first()
    values = dict(row.values) if row else {}
    read_at = int(values.get("slow_read_at", "0"))
    slow = values.get("sale") != deployment.sale or now - datetime.fromtimestamp(read_at, UTC) >= timedelta(
        seconds=SLOW_SECONDS
    )
    head = chain.head()
    found: dict[str, object] = _of_sale(deployment, chain)
    if slow:
        found |= _addresses(deployment) | _of_token(deployment, chain) | _of_vault(deployment, chain)
        found["slow_read_at"] = int(now.timestamp())
    values |= {name: _text(value) for name, value in found.items()}
    TokenFacts.objects.update_or_create(
        pk=1, defaults={"values": values, "block_number": head.number, "checked_at": now}
    )


def _addresses(deployment: Deployment) -> dict[str, object]:
    names = ("chain_id", "intercoin", "settlement", "sale", "vault", "timelock", "stablecoin", "ether_feed", "ntc_feed")
    return {name: getattr(deployment, name) for name in names}


def _of_sale(deployment: Deployment, chain: Chain) -> dict[str, object]:
    sale = TokenSale(deployment.sale)
    return {
        "sale_paused": sale.paused(chain),
        "cashier_left": sale.cashier_left(chain),
        "stablecoin_cost": _or_nothing(lambda: sale.quote_stablecoin(chain, NANO)),
        "wei_cost": _or_nothing(lambda: sale.quote_ether(chain, NANO)),
    }


def _of_token(deployment: Deployment, chain: Chain) -> dict[str, object]:
    token, erc20 = deployment.token, interface("Intercoin")
    return {
        "supply": erc20.read(chain, deployment.intercoin, "totalSupply"),
        "sale_balance": token.balance(chain, deployment.sale),
        "vault_balance": token.balance(chain, deployment.vault),
        "settlement_balance": token.balance(chain, deployment.settlement),
        "stablecoin_symbol": erc20.read(chain, deployment.stablecoin, "symbol")[:20],
        "stablecoin_decimals": erc20.read(chain, deployment.stablecoin, "decimals"),
        "treasury": TokenSale(deployment.sale).treasury(chain),
    }


def _of_vault(deployment: Deployment, chain: Chain) -> dict[str, object]:
    vault = FounderVault(deployment.vault)
    observed_at, price = vault.last_observation(chain)
    return {
        "vault_released": vault.released(chain),
        "vault_open": vault.is_open(chain),
        "vault_price_target": vault.price_target(chain),
        "vault_average_price": vault.average_price(chain),
        "vault_unlocks_at": vault.unlocks_at(chain),
        "vault_window_seconds": vault.window_seconds(chain),
        "vault_observed_since": vault.observed_since(chain),
        "vault_last_price": price,
        "vault_last_observed_at": observed_at,
    }


def _or_nothing(read: Callable[[], int]) -> int:
    try:
        return read()
    except Reverted:
        return 0


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
