"""What staff are told when a round of the chain worker meets trouble, and what to do about it.

One alert per kind of trouble, raised by each round that meets it and cleared by the first that does not.
"""

from __future__ import annotations

from collections.abc import Sequence

from interchain_site.core.alerts import clear_alert, raise_alert
from interchain_site.core.errors import DomainError

PATIENCE_SECONDS = 120  # a node that restarts, a lost answer: over before anybody could look
WAITS = "Meanwhile epochs and payouts wait, charging goes on, and nothing is lost."
MEND = {
    "chain_unavailable": f"See that the node of ETHEREUM_RPC_URL runs and answers within seconds, or name another. {WAITS}",
    "chain_refused": f"Read what the node says. {WAITS}",
    "wrong_chain": f"Set ETHEREUM_RPC_URL and ETHEREUM_CHAIN_ID to the same chain. Nothing is sent until then. {WAITS}",
    "node_contradicts_itself": (
        "If it lasts, the node is broken, or several that are not alike answer under one address: name another in "
        f"ETHEREUM_RPC_URL. Nothing it says is booked. {WAITS}"
    ),
    "logs_missing": (
        "Name a node in ETHEREUM_RPC_URL that keeps all logs; they are read again from the last block that added up. "
        f"Nothing new is booked until then. {WAITS}"
    ),
    "nodes_disagree": (
        f"Compare both nodes with a block explorer, and set the wrong one of ETHEREUM_RPC_URL and ETHEREUM_CHECK_RPC_URL "
        f"anew. {WAITS}"
    ),
    "no_gas_money": f"Send the ether. {WAITS}",
    "key_unavailable": f"Set the key and restart the chain worker. {WAITS}",
    "signer_unavailable": f"Start the signer, or see in its log why it refuses. {WAITS}",
    "signer_disagrees": f"Stop the signer and look at it: what it signed was thrown away. {WAITS}",
    "contracts_not_deployed": "Run: python manage.py deploy_contracts",
    "old_deployment": "See docs/architecture.md, Where state lives.",
    "foreign_contracts": "Restore the database that belongs to the contract; nothing is settled until then.",
    "escrow_too_small": "Deposit the missing NTC for the desk, then it goes on by itself.",
    "tree_mismatch": "Run: python manage.py reconcile. No epoch is closed until the sums agree.",
    "reverted": f"See the epoch's or the claim's row for what the contract says. {WAITS}",
}


def told(errors: Sequence[DomainError]) -> None:
    """Raise an alert for each kind of error met, and clear all others."""
    met = {error.code: error for error in errors}
    for code, mend in MEND.items():
        if code in met:
            patience = 0 if met[code].permanent else PATIENCE_SECONDS
            raise_alert(code=code, message=met[code].message, mend=mend, patience_seconds=patience)
        else:
            clear_alert(code=code)
