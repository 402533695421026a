"""The file behind "verify" on a statement line: billing's proof, with the prices and the signed readings the statement names."""

from __future__ import annotations

from typing import Any

from billing.services.bill_proofs import NoStatement, StatementProof
from marketplace import price_documents
from marketplace.models import PriceList
from marketplace.services.usage_statements import VERSION as STATEMENT_VERSION
from nodes import evidence

FORMAT, VERSION = "interchain-bill-proof", 1


class TooOld(NoStatement):
    code = "statement_too_old"
    message = "This line is from before bills could be proven: its statement does not name its evidence."


def document(proof: StatementProof) -> dict[str, Any]:
    """Return the whole file as `interchain-verify` reads it.

    Raises:
        TooOld: the statement was written before version 2.
    """
    statement = proof.document
    if statement.get("version") != STATEMENT_VERSION:
        raise TooOld
    price_list = PriceList.objects.prefetch_related("prices").get(pk=statement["price_list"]["id"])
    return {
        "format": FORMAT,
        "version": VERSION,
        "statement": statement,
        "price_list": price_documents.document(price_list, price_list.prices_by_meter()),
        "batches": evidence.signed_batches(device_id=statement["device_id"], batch_ids=statement["evidence"]),
        "key_changes": evidence.earlier_keys(device_id=statement["device_id"], key=statement["device_key"]),
        "epoch": proof.epoch,
        "chain": proof.chain,
    }
