"""What calls of our contracts cost in gas, as whole transactions; for plans and estimates, never for a transaction's limit.

Measured on Anvil on 2026-11-22 (`bench/results/gas.md`). "First" means an account that was never
paid and holds no NTC: its two slots are written for the first time.
"""

from __future__ import annotations

from typing import Final

SETTLE: Final = 44_460  # one epoch, any number of payees
TRANSFER: Final = 34_340  # NTC to an account that holds some
TRANSFER_FIRST: Final = 51_440  # NTC to an account that holds none

# claim: the account (or anybody) sends it
CLAIM: Final = 57_000  # again, in a tree of one leaf
CLAIM_FIRST: Final = CLAIM + 34_200

# claimMany: a relayer sends it; the transaction itself, then each payee
CLAIM_MANY: Final = 39_500
CLAIM_MANY_PAYEE: Final = 18_500  # again, in a tree of one leaf
CLAIM_MANY_PAYEE_FIRST: Final = CLAIM_MANY_PAYEE + 34_200

PROOF_LEVEL: Final = 760  # more for each level of the tree: 10 levels hold up to 1,024 leaves
MAX_TRANSACTION: Final = 16_777_216  # EIP-7825


def proof_levels(leaves: int) -> int:
    """Return the longest proof in a tree of so many leaves."""
    return max(leaves - 1, 0).bit_length()


def claim(leaves: int, *, first: bool) -> int:
    """Return the gas of one account's own claim."""
    return (CLAIM_FIRST if first else CLAIM) + PROOF_LEVEL * proof_levels(leaves)


def claim_many(leaves: int, *, first: int, again: int) -> int:
    """Return the gas of one relayed transaction for so many payees."""
    proofs = PROOF_LEVEL * proof_levels(leaves) * (first + again)
    return CLAIM_MANY + CLAIM_MANY_PAYEE_FIRST * first + CLAIM_MANY_PAYEE * again + proofs
