"""Periodic work of settlement; its queue is `chain`, so that one worker alone speaks to Ethereum."""

from __future__ import annotations

from typing import Any

import structlog
from celery import shared_task
from celery.signals import celeryd_after_setup
from django.db import connections
from django.utils import timezone

from billing.services import rounds

log = structlog.get_logger(__name__)


@shared_task
def run_round() -> None:
    """Do what settlement has to do now. Safe to run twice, at once, or cut short; the next round goes on."""
    rounds.run(now=timezone.now())


@celeryd_after_setup.connect
def check_chain_at_start(instance: Any, **_: Any) -> None:
    """Say at the chain worker's start what is wrong with node, key or contracts, and how to mend it."""
    if "chain" not in instance.app.amqp.queues.consume_from:
        return
    from billing.chain.checks import check_chain

    for found in check_chain():
        log.error("chain_check", id=found.id, message=found.msg, hint=found.hint)
    connections.close_all()  # the worker forks next; a connection must not be shared
