"""System checks of the chain.

Those about settings run always. Those that ask the node run with `manage.py check --deploy --tag chain` and when the
chain worker starts, not at every command: a portal without its node can still be migrated.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from billing.chain import deployments
from billing.chain.errors import ChainError, KeyUnavailable

if TYPE_CHECKING:
    from billing.chain.deployments import Deployment
    from billing.chain.types import Chain

ROLES = ("operator", "cashier", "sales")
FINALITIES = ("confirmations", "finalized")
SAFE_CONFIRMATIONS = 12
MAINNET = 1


@register("interchain")
def check_keystore_pair(**_: Any) -> list[CheckMessage]:
    """E020, E027."""
    found: list[CheckMessage] = []
    for role in ROLES:
        name = "ETHEREUM_KEYSTORE" if role == "operator" else f"ETHEREUM_{role.upper()}_KEYSTORE"
        if bool(getattr(settings, f"{name}_FILE")) != bool(getattr(settings, f"{name}_PASSWORD_FILE")):
            hint = f"Set both {name}_FILE and {name}_PASSWORD_FILE, or neither."
            found.append(Error(f"The {role}'s keystore is half set.", hint=hint, id="interchain.E020"))
    plain = sorted(name for name, value in os.environ.items() if _names_a_key(name) and value)
    if plain and not settings.DEBUG:
        hint = "Remove it, use an encrypted keystore or an external signer, and give the role a new key: this one was seen."
        found.append(
            Error(f"A private key stands in plain text in {', '.join(plain)}.", hint=hint, id="interchain.E027")
        )
    return found


@register("interchain")
def check_finality(**_: Any) -> list[CheckMessage]:
    """E028, W029, W030."""
    found: list[CheckMessage] = []
    if settings.ETHEREUM_FINALITY not in FINALITIES:
        hint = "Write ETHEREUM_FINALITY=confirmations or ETHEREUM_FINALITY=finalized."
        found.append(Error("ETHEREUM_FINALITY is neither of the two ways.", hint=hint, id="interchain.E028"))
    few = settings.ETHEREUM_FINALITY != "finalized" and settings.ETHEREUM_CONFIRMATIONS < SAFE_CONFIRMATIONS
    if few and settings.ETHEREUM_CHAIN_ID == MAINNET:
        hint = f"Set ETHEREUM_FINALITY=finalized, or ETHEREUM_CONFIRMATIONS to {SAFE_CONFIRMATIONS} or more."
        found.append(Warning("Money is booked after very few blocks.", hint=hint, id="interchain.W029"))
    if settings.ETHEREUM_CHECK_RPC_URL and settings.ETHEREUM_CHECK_RPC_URL == settings.ETHEREUM_RPC_URL:
        hint = "Name a node of another provider in ETHEREUM_CHECK_RPC_URL, or leave it empty."
        found.append(Warning("A node is asked to check itself.", hint=hint, id="interchain.W030"))
    return found


@register("chain", deploy=True)
def check_chain(**_: Any) -> list[CheckMessage]:
    """E021 to E026 and W031; the first error makes the later ones meaningless."""
    from billing.chain import client, keys  # web3 takes a second to import; other commands need not wait for it
    from billing.services import gas_money
    from billing.services.contracts import is_foreign

    try:
        addresses = {role: keys.signer(role).address for role in keys.ROLES}
    except KeyUnavailable as error:
        return [Error("A role's key cannot be opened.", hint=error.message, id="interchain.E021")]
    try:
        chain = client.connect()
        deployment = deployments.recorded()
        if deployment is None or not chain.has_code(deployment.settlement):
            hint = "Run: python manage.py deploy_contracts"
            return [Error("The contracts are not deployed.", hint=hint, id="interchain.E024")]
        strangers = _without_their_role(chain, deployment, addresses)
        if strangers:
            hint = f"Let the timelock grant it, or use the right key: {', '.join(strangers)}."
            return [Error("A key does not have its role in the contracts.", hint=hint, id="interchain.E025")]
        if is_foreign(deployment, chain):
            hint = "Restore the database that belongs to the contract in ETHEREUM_DEPLOYMENTS_FILE."
            text = "The contract has settled epochs this database does not know."
            return [Error(text, hint=hint, id="interchain.E026")]
        low = gas_money.low(chain=chain)
    except ChainError as error:
        number = {"wrong_chain": "E023", "old_deployment": "E024"}.get(error.code, "E022")
        text = "The contracts are not usable." if number == "E024" else "The Ethereum node cannot be used."
        return [Error(text, hint=error.message, id=f"interchain.{number}")]
    return [Warning(one.message, hint=one.mend, id="interchain.W031") for one in low]


def _without_their_role(chain: Chain, deployment: Deployment, addresses: dict[Any, str]) -> list[str]:
    """Return the roles that are missing, in words."""
    from billing.chain.interfaces import interface

    wanted = (
        ("Settlement", deployment.settlement, "OPERATOR_ROLE", "operator"),
        ("TokenSale", deployment.sale, "CASHIER_ROLE", "cashier"),
        ("TokenSale", deployment.sale, "SALES_ROLE", "sales"),
    )
    missing = []
    for contract, address, name, role in wanted:
        known = interface(contract)
        if not known.read(chain, address, "hasRole", known.read(chain, address, name), addresses[role]):
            missing.append(f"{name} of {contract} for {addresses[role]}")
    return missing


def _names_a_key(name: str) -> bool:
    ours = name.startswith(("ETHEREUM_", "INTERCHAIN_"))
    return ours and name.endswith(("PRIVATE_KEY", "MNEMONIC", "_SEED", "SECRET_KEY"))
