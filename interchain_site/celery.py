"""Celery and its whole schedule, in one table.

A task loads a row by id and calls one service; it may run twice or never: rows in the database say what is still to do,
and the periodic tasks below pick up whatever the queue lost.
"""

from __future__ import annotations

import gc
import os
from typing import Any

from celery import Celery
from celery.signals import worker_process_init
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "interchain_site.settings")
app = Celery("interchain")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


def schedule() -> dict[str, dict[str, object]]:
    """Return the beat schedule: what runs, how often (seconds)."""
    rows: list[tuple[str, float]] = [
        ("marketplace.tasks.charge", settings.CHARGE_INTERVAL_SECONDS),
        ("marketplace.tasks.sweep", 15),
        ("marketplace.tasks.recharge_all", 3600),
        ("marketplace.tasks.check_domains", 30),
        ("billing.tasks.money.sweep_payments", 15),
        ("billing.tasks.money.release_earnings", 20),
        ("billing.tasks.wallets.sweep_wallets", 15),
        ("billing.tasks.money.sweep_cash_outs", 15),
        ("billing.tasks.money.read_stripe_books", 60),
        ("billing.tasks.settlement.run_round", settings.SETTLEMENT_ROUND_SECONDS),
        ("billing.tasks.proofs.take_reserves_if_due", min(60, settings.RESERVES_SECONDS)),
        ("billing.tasks.proofs.reconcile_if_due", min(60, settings.RECONCILE_SECONDS)),
        ("nodes.tasks.sweep_liveness", 5),
        ("nodes.tasks.sweep_elections", 3),
        ("nodes.tasks.sweep_owner_limits", 30),
        ("nodes.tasks.sweep_spot_checks", 30),
        ("nodes.tasks.sweep_snapshots", min(60, settings.SNAPSHOT_SECONDS)),
        ("nodes.tasks.observe_devices", 60),
        ("nodes.tasks.rate_devices", 300),
        ("nodes.tasks.republish_routes", 10),
        ("nodes.tasks.watch_gateways", 10),
        ("nodes.tasks.sweep_directory", 30),
        ("nodes.tasks.probe_directories", 30),
        ("nodes.tasks.probe_devices", 15),
        ("nodes.tasks.save_gateway_counts", settings.READING_INTERVAL_SECONDS),
    ]
    return {task: {"task": task, "schedule": seconds, "options": {"expires": seconds}} for task, seconds in rows}


@worker_process_init.connect
def keep_what_was_loaded(**_: Any) -> None:
    """Let no garbage collection look at what was loaded before the start: a tenth of a large epoch's time (bench/settle)."""
    gc.freeze()


app.add_defaults(lambda: {"beat_schedule": schedule()})  # lazily: importing this package must not need settings
