"""Publishers' own domains: added, proven by a TXT record, looked at again and again, moved and removed.

**Who has a domain** is who can write into its DNS now. A record names one app's token, so a domain that another app has moves
only when the new app's own record is found, which nobody but the domain's owner can have put there.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.utils import timezone

from interchain_site.core import audit
from interchain_site.core.errors import Invalid, NotFound
from interchain_site.core.models import User
from marketplace import dns, domain_rules, policies, queries
from marketplace.models import App, Domain
from marketplace.services import history
from nodes.services import route_options

MOST_PER_APP = 20
WAITING_DAYS = 14  # a domain never proven is looked for so long
WAITING_SECONDS = 60
PROVEN_SECONDS = 6 * 3600
FORGIVEN = timedelta(days=2)  # a record may be gone so long: name servers are moved and mistakes mended
AT_ONCE = 50

log = structlog.get_logger(__name__)


@transaction.atomic
def add(*, app: App, host: str, by: User) -> Domain:
    """Return the domain, which waits for its TXT record; adding it twice changes nothing.

    Raises:
        NotYours; Invalid: it cannot be an app's own, or there are too many.
    """
    policies.check_can_change_app(by, app)
    host = domain_rules.checked(host)
    known = Domain.objects.filter(app=app, host=host).first()
    if known is not None:
        return known
    App.objects.select_for_update().get(pk=app.pk)
    if Domain.objects.filter(app=app).count() >= MOST_PER_APP:
        raise Invalid(fields={"host": f"An app has {MOST_PER_APP} domains at most. Remove one first."})
    token = secrets.token_hex(20)
    domain = Domain.objects.create(app=app, host=host, token=token, created_at=timezone.now())
    audit.record("domain_added", subject=f"app:{app.pk}", by=by, host=host)
    return domain


@transaction.atomic
def remove(*, app: App, host: str, by: User) -> None:
    """Stop serving a domain at once.

    Raises:
        NotYours; NotFound: the app has no such domain.
    """
    policies.check_can_change_app(by, app)
    domain = _locked(app, host)
    if domain.proven_at:
        route_options.drop_domain(host=domain.host, name=app.slug)
    domain.delete()
    audit.record("domain_removed", subject=f"app:{app.pk}", by=by, host=host)


def check(*, app: App, host: str, by: User) -> Domain:
    """Look for the TXT record now, and return what that came to.

    Raises:
        NotYours; NotFound: the app has no such domain.
    """
    policies.check_can_change_app(by, app)
    domain = Domain.objects.filter(app=app, host=host).first()
    if domain is None:
        raise NotFound("This app has no such domain.")
    look(domain)
    return Domain.objects.select_related("app").get(pk=domain.pk)


def look(domain: Domain, *, now: datetime | None = None) -> None:
    """Ask DNS, then act on what it says: prove, go on, or give up. Not knowing changes nothing."""
    now = now or timezone.now()
    try:
        found = domain.record_text in dns.texts(domain.record_name)  # slow: outside the transaction
    except dns.Unanswered as error:
        log.info("domain_unanswered", host=domain.host, error=str(error))
        Domain.objects.filter(pk=domain.pk).update(
            checked_at=now, message="No name server answered. It is tried again."
        )
        return
    with transaction.atomic():
        # All of a host's rows, in one order, so that two apps' proofs take turns.
        rows = list(Domain.objects.select_for_update().filter(host=domain.host).order_by("id"))
        current = next((row for row in rows if row.pk == domain.pk), None)
        if current is None:
            return
        if found and current.proven_at is None:
            _prove(current, rows, now)
        elif found:
            _note(current, now, missing_since=None, message="")
        elif current.proven_at is None:
            _note(current, now, message=f"There is no TXT record {current.record_name} with this text yet.")
        else:
            _missing(current, now)


def sweep(*, now: datetime | None = None) -> None:
    """Look at what waits for its proof each minute or so, at what is proven every six hours."""
    now = now or timezone.now()
    waiting = Domain.objects.filter(proven_at=None, created_at__gt=now - timedelta(days=WAITING_DAYS))
    due = [
        *waiting.exclude(checked_at__gt=now - timedelta(seconds=WAITING_SECONDS)).order_by("checked_at")[:AT_ONCE],
        *Domain.objects.filter(proven_at__isnull=False)
        .exclude(checked_at__gt=now - timedelta(seconds=PROVEN_SECONDS))
        .order_by("checked_at")[:AT_ONCE],
    ]
    for domain in due:
        look(domain, now=now)


def _locked(app: App, host: str) -> Domain:
    domain = Domain.objects.select_for_update().filter(app=app, host=host).first()
    if domain is None:
        raise NotFound("This app has no such domain.")
    return domain


def _prove(domain: Domain, rows: list[Domain], now: datetime) -> None:
    for other in rows:
        if other.proven_at is not None:
            _note(other, now, proven_at=None, missing_since=None, message="Another app has proven this domain since.")
            _tell(other.app, "domain_lost", f"{other.host} is served for another app now, as its DNS says.", now)
            audit.record("domain_lost", subject=f"app:{other.app_id}", host=other.host, to=domain.app_id)
    _note(domain, now, proven_at=now, missing_since=None, message="")
    route_options.set_domain(host=domain.host, name=domain.app.slug)
    _tell(domain.app, "domain_proven", f"{domain.host} is proven and served.", now)
    audit.record("domain_proven", subject=f"app:{domain.app_id}", host=domain.host)


def _missing(domain: Domain, now: datetime) -> None:
    since = domain.missing_since or now
    if now - since < FORGIVEN:
        until = f"{since + FORGIVEN:%Y-%m-%d %H:%M} UTC"
        _note(domain, now, missing_since=since, message=f"The TXT record is gone. Put it back before {until}.")
        return
    _note(domain, now, proven_at=None, missing_since=None, message="The TXT record was gone for two days.")
    route_options.drop_domain(host=domain.host, name=domain.app.slug)
    _tell(domain.app, "domain_lost", f"{domain.host} is no longer served: its TXT record is gone.", now)
    audit.record("domain_lost", subject=f"app:{domain.app_id}", host=domain.host)


def _note(domain: Domain, now: datetime, **changes: object) -> None:
    Domain.objects.filter(pk=domain.pk).update(checked_at=now, **changes)


def _tell(app: App, kind: str, words: str, now: datetime) -> None:
    deployment = queries.latest_deployment(app)
    if deployment is not None:
        history.note(deployment, kind=kind, words=words, now=now)
