"""Read our contracts' events, block range by block range, and notice what vanished.

What a node answers is believed only as far as it holds together: hashes must match, receipts must hold the events, and
the events must add up to what the contracts themselves count. A node that leaves out logs is found by that sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Least

from billing.chain import deployments, following
from billing.chain.deployments import Deployment
from billing.chain.errors import BadAnswer, ChainRefused, ChainUnavailable, LogsMissing, WrongChain
from billing.chain.states import EventState
from billing.chain.types import Block, Chain
from billing.models import ChainBlock, ChainCursor, ChainEvent
from billing.services import chain_evidence, chain_sums
from interchain_site.core import audit
from interchain_site.core.alerts import clear_alert

log = structlog.get_logger(__name__)
BLOCKS_AT_ONCE = 2_000
BLOCKS_WITH_CARE = 50  # a node that leaves logs out of long answers may give them in short ones
REMEMBERED_BLOCKS = 10_000


def read(*, chain: Chain, now: datetime) -> int:
    """Bring `ChainEvent` up to the newest block; returns the number of that block.

    1. Find the newest block we remember that is still there; what was seen above it and is not there any more vanished.
    2. Read the logs after it, a range at a time, each range in one database transaction with its place.
    3. Compare the sums; if events are missing, read again what was not checked, in short ranges.

    Raises:
        WrongChain, ChainUnavailable, BadAnswer: nothing of this range is believed; the next round reads it again.
        LogsMissing: the node leaves events out. What it did tell is kept; nothing new is checked off.
        NotDeployed, OldDeployment: there is nothing to read yet.
    """
    deployment = deployments.load()
    if chain.chain_id() != settings.ETHEREUM_CHAIN_ID:
        raise WrongChain
    head = chain.head()
    if _is_behind(chain, head, deployment, now):
        return head.number
    cursor = _cursor(deployment)
    if cursor.checked_block >= head.number:
        return head.number  # nothing new since it last added up
    _read_until(head, cursor.next_block, BLOCKS_AT_ONCE, chain, deployment, now)
    missing = chain_sums.difference(chain=chain, deployment=deployment, block=head.number)
    if missing:
        log.warning("chain_logs_missing", missing=missing)
        _read_until(head, cursor.checked_block + 1, BLOCKS_WITH_CARE, chain, deployment, now)
        missing = chain_sums.difference(chain=chain, deployment=deployment, block=head.number)
    if missing:
        raise LogsMissing.of(missing)
    ChainCursor.objects.filter(pk=cursor.pk, checked_block__lt=head.number).update(checked_block=head.number)
    ChainBlock.objects.filter(number__lt=head.number - REMEMBERED_BLOCKS).delete()
    return head.number


def forget(*, chain: Chain, above: int, now: datetime) -> None:
    """Take back what was seen above a block and is not there any more: events, and our transactions' blocks.

    What was not final has vanished; what was final is doubted, until the blocks instead of its own are final too.
    """
    cursor = _cursor(deployments.load())
    seen = ChainEvent.objects.filter(block_number__gt=above, state__in=[EventState.SEEN, EventState.FINAL])
    blocks = list(seen.order_by().values_list("block_number", "block_hash").distinct())
    gone = [hash_ for number, hash_ in blocks if not _is_there(chain, number, hash_)]
    with transaction.atomic():
        ChainCursor.objects.select_for_update().get(pk=cursor.pk)
        lost = seen.filter(block_hash__in=gone)
        doubted = lost.filter(state=EventState.FINAL).update(state=EventState.DOUBTED)
        unbooked = list(lost.filter(state=EventState.SEEN).values_list("pk", flat=True))
        vanished = ChainEvent.objects.filter(pk__in=unbooked).update(state=EventState.VANISHED)
        for pk in unbooked:
            clear_alert(code="chain_event_waits", subject=f"chain_event:{pk}")  # nothing waits for it any more
        ChainBlock.objects.filter(number__gt=above).delete()
        ChainCursor.objects.filter(pk=cursor.pk).update(
            next_block=Least(F("next_block"), above + 1), checked_block=Least(F("checked_block"), above)
        )
        audit.record("chain_reorganised", subject=f"block:{above + 1}", vanished=vanished, doubted=doubted)
    following.forget(chain=chain, above=above)


def _cursor(deployment: Deployment) -> ChainCursor:
    start = {"next_block": deployment.block, "checked_block": deployment.block - 1}
    return ChainCursor.objects.get_or_create(contract=deployment.settlement, defaults=start)[0]


def _is_behind(chain: Chain, head: Block, deployment: Deployment, now: datetime) -> bool:
    """Notice a reorganisation and take back what it undid; true when the node is merely behind what we have read.

    A chain that is shorter than ours and has the same blocks as far as it goes may be a node that lags: nothing vanishes.
    """
    known = dict(ChainBlock.objects.filter(number__lte=head.number).values_list("number", "hash"))
    common = _newest_common(chain, known)
    if common < max(known, default=0):
        log.warning("chain_reorganised", above=common, head=head.number)
        forget(chain=chain, above=common or deployment.block - 1, now=now)
        return False
    return ChainBlock.objects.filter(number__gt=head.number).exists()


def _newest_common(chain: Chain, known: Mapping[int, str]) -> int:
    """Return the newest block of ours that the node has too, 0 for none. What it has, it has with all before it."""
    numbers = sorted(known)
    if not numbers or _is_there(chain, numbers[-1], known[numbers[-1]]):
        return numbers[-1] if numbers else 0
    low, high = 0, len(numbers) - 1  # everything before `low` is there, `high` is not
    while low < high:
        middle = (low + high) // 2
        if _is_there(chain, numbers[middle], known[numbers[middle]]):
            low = middle + 1
        else:
            high = middle
    return numbers[low - 1] if low else 0


def _is_there(chain: Chain, number: int, hash_: str) -> bool:
    found = chain.block(number)
    return found is not None and found.hash == hash_


def _read_until(head: Block, first: int, step: int, chain: Chain, deployment: Deployment, now: datetime) -> None:
    while first <= head.number:
        last = min(first + step - 1, head.number)
        end = head if last == head.number else chain.block(last)
        try:
            logs = chain.logs(addresses=list(deployment.watched), first=first, last=last)
        except ChainUnavailable:
            raise
        except ChainRefused:
            if step == 1:
                raise
            step = max(step // 4, 1)  # too many logs for one answer
            continue
        if end is None or not _is_there(chain, last, end.hash):
            raise BadAnswer("The chain changed while it was read. It is read again.")
        found = chain_evidence.proven(logs, first=first, last=last, chain=chain, deployment=deployment)
        _store(found, end, first, deployment, now)
        first = last + 1


def _store(found: list[chain_evidence.Proven], end: Block, first: int, deployment: Deployment, now: datetime) -> None:
    with transaction.atomic():
        cursor = ChainCursor.objects.select_for_update().get(contract=deployment.settlement)
        if cursor.next_block < first:
            raise BadAnswer("Another worker noticed a reorganisation meanwhile. It is read again.")
        for one in found:
            _store_event(one, now)
        ChainBlock.objects.update_or_create(number=end.number, defaults={"hash": end.hash})
        if end.number >= cursor.next_block:
            ChainCursor.objects.filter(pk=cursor.pk).update(next_block=end.number + 1)


def _store_event(one: chain_evidence.Proven, now: datetime) -> None:
    """Keep an event, once: found again in another block it is the same, unless it says something else now."""
    rows = ChainEvent.objects.filter(transaction_hash=one.transaction_hash, log_index=one.log_index)
    known = rows.select_for_update().order_by("-unbooked", "-pk").first()  # another worker may be booking it
    facts = {**one.block_facts(), **one.said()}
    if known is None:
        ChainEvent.objects.create(transaction_hash=one.transaction_hash, log_index=one.log_index, seen_at=now, **facts)
    elif known.state in (EventState.FINAL, EventState.DOUBTED):
        if one.says_what(known):
            rows.filter(pk=known.pk).update(state=EventState.FINAL, **one.block_facts())
        elif known.state == EventState.DOUBTED:  # it stays to be undone; what the transaction does now is another event
            again = {"transaction_hash": one.transaction_hash, "log_index": one.log_index, "seen_at": now, **facts}
            ChainEvent.objects.create(**again, unbooked=known.unbooked + 1)
    else:
        rows.filter(pk=known.pk).update(state=EventState.SEEN, error="", **facts)
