"""The chain worker's round: everything settlement has to do now, in order. One step that fails does not stop the next."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial

import structlog
from django.conf import settings

from billing.chain import client, following
from billing.chain.errors import WrongChain
from billing.chain.states import EpochState
from billing.chain.types import Chain
from billing.models import Epoch
from billing.services import (
    auto_claims,
    cashier,
    chain_alerts,
    chain_events,
    claims,
    epoch_confirmation,
    gas_money,
    payout_planner,
    sale_purchases,
    sale_rounds,
    settlement,
    token_facts,
    vault_keeper,
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

    What went wrong stands as alerts where staff look, until a round in which it does not happen (`chain_alerts`).

    Raises:
        Exception: the first that is not a `DomainError`, after all steps: a bug, which the worker's log should show.
    """
    steps = _Steps()
    if settlement.is_due(settlement.open_epoch(now=now), now=now):
        steps.attempt("close epoch", partial(settlement.close_epoch, now=now))
    try:
        node = chain or client.connect()
        if node.chain_id() != settings.ETHEREUM_CHAIN_ID:
            raise WrongChain
    except DomainError as error:
        steps.errors.append(("connect", error))
        log.warning("settlement_waits", code=error.code, message=error.message)
    else:
        _on_chain(steps, node, now)
        _sale(steps, node, now)
        steps.attempt("gas money", partial(gas_money.look, chain=node))
    chain_alerts.told([error for _, error in steps.errors])
    if steps.bugs:
        raise steps.bugs[0]
    return [f"{name}: {error.message}" for name, error in steps.errors]


class _Steps:
    """What went wrong in a round. One step's error does not stop the next."""

    def __init__(self) -> None:
        self.errors: list[tuple[str, DomainError]] = []
        self.bugs: list[Exception] = []

    def attempt(self, name: str, step: Callable[[], object]) -> None:
        try:
            step()
        except DomainError as error:
            self.errors.append((name, error))
            log.warning("settlement_step_failed", step=name, code=error.code, message=error.message)
        except Exception as error:
            self.bugs.append(error)
            log.exception("settlement_step_broke", step=name)


def _on_chain(steps: _Steps, node: Chain, now: datetime) -> None:
    attempt = steps.attempt
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


def _sale(steps: _Steps, node: Chain, now: datetime) -> None:
    attempt = steps.attempt
    attempt("sale orders", partial(sale_rounds.send_orders, chain=node, now=now))
    attempt("cashier", partial(cashier.run, chain=node, now=now))
    attempt("purchases sent by wallets", partial(sale_purchases.check_sent, chain=node, now=now))
    attempt("read the sale", partial(sale_rounds.refresh, chain=node, now=now))
    attempt("observe the price", partial(vault_keeper.observe, chain=node, now=now))
    attempt("read the token", partial(token_facts.refresh, chain=node, now=now))


def _follow(chain: Chain, now: datetime) -> None:
    found = following.follow(chain=chain, now=now)
    for reason in found.refused:
        log.warning("chain_transaction_refused", reason=reason)
