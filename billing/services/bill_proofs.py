"""What proves a statement to somebody who does not trust us: its document, its path to a root, and where that root was settled.

`interchain-verify` (folder `verify/`) checks the file. Whoever recorded the statement adds the evidence the document names.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from billing import settlement_queries as queries
from billing.chain.merkle import statement_leaf
from billing.chain.states import EpochState
from billing.models import Entry, Epoch, UsageStatement
from billing.services.charges import KIND
from interchain_site.core.errors import NotFound
from interchain_site.core.models import User

ON_CHAIN = (EpochState.MINED, EpochState.FINAL, EpochState.VETOED)


class NoStatement(NotFound):
    code = "no_statement"
    message = "There is no usage statement behind this line."


@dataclass(frozen=True)
class StatementProof:
    """A statement's own part of a proof file.

    Attributes:
        epoch: number, usage root and path, or None while no epoch has committed to it.
        chain: where that root was settled, or None while it is in no block.
    """

    key: str
    document: dict[str, Any]
    epoch: dict[str, Any] | None
    chain: dict[str, Any] | None


def of_line(*, entry_id: int, by: User) -> StatementProof:
    """Return the proof behind one line of a ledger statement, for the person whose line it is, or staff.

    Raises:
        NotFound: there is no such line, or it is not this person's.
        NoStatement: the line is no charge for use.
    """
    lines = Entry.objects.filter(pk=entry_id).select_related("transaction", "account")
    line = (lines if by.is_staff else lines.filter(account__user=by)).first()
    if line is None:
        raise NotFound("There is no such line on your statement.")
    if line.transaction.kind != KIND:
        raise NoStatement
    return of_statement(line.transaction.key)


def of_statement(key: str) -> StatementProof:
    """Return the proof of a statement. Who may see it is for the caller to decide.

    Raises:
        NoStatement: none has this key.
    """
    statement = UsageStatement.objects.select_related("epoch__posting").filter(key=key).first()
    if statement is None:
        raise NoStatement
    epoch = statement.epoch
    committed = epoch is not None and epoch.usage_root != ""
    return StatementProof(
        key=key,
        document=json.loads(statement.document),
        epoch=_path(statement, epoch) if committed and epoch else None,
        chain=_place(epoch) if committed and epoch else None,
    )


def _path(statement: UsageStatement, epoch: Epoch) -> dict[str, Any]:
    proof = queries.usage_proof(epoch, leaf=statement_leaf(statement.sha256))
    return {
        "number": epoch.sequence,
        "usage_root": epoch.usage_root,
        "proof": ["0x" + sibling.hex() for sibling in proof],
    }


def _place(epoch: Epoch) -> dict[str, Any] | None:
    posting = epoch.posting
    if epoch.state not in ON_CHAIN or posting is None or posting.block_number is None:
        return None
    return {
        "chain_id": settings.ETHEREUM_CHAIN_ID,
        "settlement": epoch.contract,
        "block_number": posting.block_number,
        "transaction": posting.mined_hash,
    }
