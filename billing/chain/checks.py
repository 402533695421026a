"""System checks of the chain.

The one about settings runs always. Those that ask the node run with `manage.py check --deploy --tag chain` and when the
chain worker starts, not at every command: a portal without its node can still be migrated.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from billing.chain import deployments
from billing.chain.errors import ChainError, KeyUnavailable


@register("interchain")
def check_keystore_pair(**_: Any) -> list[CheckMessage]:
    """E020."""
    if bool(settings.ETHEREUM_KEYSTORE_FILE) == bool(settings.ETHEREUM_KEYSTORE_PASSWORD_FILE):
        return []
    hint = "Set both ETHEREUM_KEYSTORE_FILE and ETHEREUM_KEYSTORE_PASSWORD_FILE, or neither."
    return [Error("The operator's keystore is half set.", hint=hint, id="interchain.E020")]


@register("chain", deploy=True)
def check_chain(**_: Any) -> list[CheckMessage]:
    """E021 to E026; the first that fails makes the later ones meaningless."""
    from billing.chain import client, keys  # web3 takes a second to import; other commands need not wait for it
    from billing.services.contracts import is_foreign

    try:
        operator = keys.operator()
    except KeyUnavailable as error:
        return [Error("The operator's key cannot be opened.", hint=error.message, id="interchain.E021")]
    try:
        chain = client.connect()
        deployment = deployments.recorded()
        if deployment is None or not chain.has_code(deployment.settlement):
            hint = "Run: python manage.py deploy_contracts"
            return [Error("The contracts are not deployed.", hint=hint, id="interchain.E024")]
        if not deployment.contract.has_operator(chain, operator.address):
            hint = (
                f"Let the contract's admin grant OPERATOR_ROLE to {operator.address}, or use the operator's keystore."
            )
            return [Error("The key is not the contract's operator.", hint=hint, id="interchain.E025")]
        if is_foreign(deployment, chain):
            hint = "Restore the database that belongs to the contract in ETHEREUM_DEPLOYMENTS_FILE."
            text = "The contract has settled epochs this database does not know."
            return [Error(text, hint=hint, id="interchain.E026")]
    except ChainError as error:
        number = "E023" if error.code == "wrong_chain" else "E022"
        return [Error("The Ethereum node cannot be used.", hint=error.message, id=f"interchain.{number}")]
    return []
