"""The chain worker's round: everything settlement has to do now, in order. One step that fails does not stop the next."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial

import structlog

from billing.chain import client, transactions
from billing.chain.states import EpochState
from billing.chain.types import Chain
from billing.models import Epoch
from billing.services import (
    auto_claims,
    cashier,
    chain_events,
    claims,
    epoch_confirmation,
    payout_planner,
    sale_purchases,
    sale_rounds,
    settlement,
    token_facts,
    withdrawal_epochs,
)
from interchain_site.core.errors import DomainError

log = structlog.get_logger(__name__)


def run(*, now: datetime, chain: Chain | None = None) -> list[str]:
    """Do one round; returns the errors met, in words. Any two rounds may overlap or be cut short.

    1. Follow what was sent: mined, final, vanished, stuck.
    2. Compare epochs and claims with the contract.
    3. Close the open epoch if it is due, and post what is closed.
    4. Follow withdrawals, and send the claims that people asked for or that are due.
    5. The token sale: carry out staff's orders, hand over or pay back what cards paid for, read rounds and token for the pages.

    Raises:
        Exception: the first that is not a `DomainError`, after all steps: a bug, which the worker's log should show.
    """
    troubles: list[str] = []
    bugs: list[Exception] = []

    def attempt(name: str, step: Callable[[], object]) -> None:
        try:
            step()
        except DomainError as error:
            troubles.append(f"{name}: {error.message}")
            log.warning("settlement_step_failed", step=name, code=error.code, message=error.message)
        except Exception as error:
            bugs.append(error)
            log.exception("settlement_step_broke", step=name)

    if settlement.is_due(settlement.open_epoch(now=now), now=now):
        attempt("close epoch", partial(settlement.close_epoch, now=now))
    try:
        node = chain or client.connect()
    except DomainError as error:
        log.warning("settlement_waits", code=error.code, message=error.message)
        return [*troubles, error.message]
    attempt("follow transactions", partial(_follow, node, now))
    attempt("watch the chain", partial(chain_events.watch, chain=node, now=now))
    attempt("confirm epochs", partial(epoch_confirmation.confirm, chain=node, now=now))
    attempt("refused claims", partial(claims.take_back_refused, chain=node, now=now))
    for pk in Epoch.objects.filter(state=EpochState.CLOSED).order_by("sequence").values_list("pk", flat=True):
        attempt("post epoch", partial(settlement.post_epoch, epoch_id=pk, chain=node, now=now))
    attempt("follow withdrawals", partial(withdrawal_epochs.follow, now=now))
    attempt("gas price", partial(payout_planner.observe, chain=node, now=now))
    attempt("payouts due", partial(auto_claims.request_due, now=now))
    attempt("send claims", partial(auto_claims.send_requested, chain=node, now=now))
    attempt("sale orders", partial(sale_rounds.send_orders, chain=node, now=now))
    attempt("cashier", partial(cashier.run, chain=node, now=now))
    attempt("purchases sent by wallets", partial(sale_purchases.check_sent, chain=node, now=now))
    attempt("read the sale", partial(sale_rounds.refresh, chain=node, now=now))
    attempt("read the token", partial(token_facts.refresh, chain=node, now=now))
    if bugs:
        raise bugs[0]
    return troubles


def _follow(chain: Chain, now: datetime) -> None:
    found = transactions.follow(chain=chain, now=now)
    for reason in found.refused:
        log.warning("chain_transaction_refused", reason=reason)
