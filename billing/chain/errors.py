"""What can go wrong with the chain. Tasks try again only what is not `permanent`."""

from __future__ import annotations

from billing.chain.types import ether_text
from interchain_site.core.errors import DomainError


class ChainError(DomainError):
    code, status = "chain_error", 502
    message = "The Ethereum node refused this."


class ChainUnavailable(ChainError):
    """No answer, or none that can be read. Whether a sent transaction arrived is unknown: send the same bytes again."""

    code, status, permanent = "chain_unavailable", 503, False
    message = "The Ethereum node does not answer. It is tried again by itself; check ETHEREUM_RPC_URL if this lasts."


class ChainRefused(ChainError):
    """The node answered with an error, such as too little ether for gas. Mending the cause makes the same call work."""

    code, permanent = "chain_refused", False


class WrongChain(ChainError):
    code = "wrong_chain"
    message = "The Ethereum node is on another chain than ETHEREUM_CHAIN_ID says. Set both to the same chain."


class Reverted(ChainError):
    """The contract refuses the call.

    Attributes:
        name: the contract's error, e.g. `SettlementNothingToClaim`; empty when it gave none.
    """

    code = "reverted"

    def __init__(self, name: str = "") -> None:
        super().__init__(f"The contract refuses this: {name or 'it gave no reason'}.")
        self.name = name


class KeyUnavailable(ChainError):
    """A role's key cannot be used. Never says what is in a keystore or a password file."""

    code, status, permanent = "key_unavailable", 500, False

    @classmethod
    def of(cls, role: str, why: str = "") -> KeyUnavailable:
        """Name the settings of a role: `operator`, `cashier` or `sales`."""
        part = "" if role == "operator" else f"{role.upper()}_"
        return cls(
            f"The {role}'s key cannot be opened. Set ETHEREUM_{part}KEYSTORE_FILE and "
            f"ETHEREUM_{part}KEYSTORE_PASSWORD_FILE to an encrypted keystore and the file with its password, or "
            f"ETHEREUM_SIGNER_URL and ETHEREUM_{role.upper()}_ADDRESS to an external signer."
            + (f" ({why})" if why else "")
        )


class SignerUnavailable(ChainError):
    code, status, permanent = "signer_unavailable", 503, False
    message = "The external signer does not sign. See that ETHEREUM_SIGNER_URL answers and holds the role's key."


class SignerDisagrees(ChainError):
    """It returned something else than it was asked to sign: broken or not ours. What it signed is never sent."""

    code, status = "signer_disagrees", 500


class NoGasMoney(ChainRefused):
    """The sender cannot pay for the gas. Nothing was signed; it goes on once ether has arrived."""

    code = "no_gas_money"

    @classmethod
    def of(cls, role: str, address: str, *, has: int, needed: int) -> NoGasMoney:
        """Amounts in wei."""
        return cls(
            f"The {role}'s address {address} has {ether_text(has)} for gas, and the next transaction may need "
            f"{ether_text(needed)}. Send it at least {ether_text(needed - has)}."
        )


class BadAnswer(ChainUnavailable):
    """The node's answers contradict each other: it lies, lags behind itself, or is several nodes behind one address."""

    code = "node_contradicts_itself"


class NotDeployed(ChainError):
    code, status, permanent = "contracts_not_deployed", 503, False
    message = "The contracts are not deployed yet. Run: python manage.py deploy_contracts"


class OldDeployment(ChainError):
    code, status = "old_deployment", 503

    @classmethod
    def at(cls, path: str) -> OldDeployment:
        return cls(
            f"{path} does not describe the contracts of this version of Interchain. What was settled with an older "
            "version is not carried over: start with an empty data folder, or move the file away and run "
            "`python manage.py deploy_contracts` with an empty database."
        )


class LogsMissing(ChainError):
    """The node's logs do not add up to what the contracts count: it leaves some out."""

    code, status, permanent = "logs_missing", 503, False

    @classmethod
    def of(cls, missing: str) -> LogsMissing:
        return cls(f"The Ethereum node's events do not add up to what the contracts count: {missing}.")


class NodesDisagree(ChainError):
    code, status, permanent = "nodes_disagree", 503, False

    @classmethod
    def about(cls, number: int, ours: str, theirs: str) -> NodesDisagree:
        return cls(f"The two Ethereum nodes have different blocks {number}: {ours} and {theirs}.")


class ForeignContracts(ChainError):
    code = "foreign_contracts"
    message = (
        "The recorded Settlement contract has settled epochs this database does not know. Restore the database that "
        "belongs to it; until then nothing is settled."
    )
