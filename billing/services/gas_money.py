"""Whether those who sign for us can pay for gas: looked at in each round, and by a system check before that."""

from __future__ import annotations

from dataclasses import dataclass

from billing.chain import keys
from billing.chain.errors import ChainError
from billing.chain.types import Chain, ether_text
from interchain_site.core.alerts import clear_alert, raise_alert

# A day of hourly epochs and as many batches of claims, at the fee of this moment.
RESERVE_GAS = {"operator": 24 * 45_000 + 24 * 600_000, "cashier": 24 * 130_000, "sales": 200_000}
CODE = "gas_money_low"


@dataclass(frozen=True)
class Low:
    """A sender with too little ether. Amounts in wei."""

    role: str
    address: str
    has: int
    wanted: int

    @property
    def message(self) -> str:
        return (
            f"The {self.role}'s address {self.address} has {ether_text(self.has)} left for gas, too little for a day."
        )

    @property
    def mend(self) -> str:
        missing = ether_text(self.wanted - self.has)
        return f"Send at least {missing} to {self.address}. What cannot be paid for waits; nothing is lost."


def low(*, chain: Chain) -> list[Low]:
    """Return the senders whose ether does not last a day. Roles without a key are left out.

    Raises:
        ChainError: the node cannot be asked.
    """
    fee, found = chain.fees().max_fee, []
    for role in keys.ROLES:
        address = _address(role)
        has = chain.ether(address) if address else 0
        if address and has < RESERVE_GAS[role] * fee:
            found.append(Low(role, address, has, RESERVE_GAS[role] * fee))
    return found


def look(*, chain: Chain) -> None:
    """Raise an alert for each sender that is low, and clear those that are not any more."""
    found = {one.address: one for one in low(chain=chain)}
    for address in {_address(role) for role in keys.ROLES} - {""} - found.keys():
        clear_alert(code=CODE, subject=address)
    for address, one in found.items():
        raise_alert(code=CODE, subject=address, message=one.message, mend=one.mend)


def _address(role: keys.Role) -> str:
    try:
        return keys.signer(role).address
    except ChainError:
        return ""
