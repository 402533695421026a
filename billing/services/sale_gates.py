"""The rules of the sale that staff can switch on: a quota per person, a country gate and a terms gate.

They bind what is bought through the portal. The sale contract knows none of them: somebody who calls it from a wallet, past
the portal, is held by the round's cap and price alone. Staff read so where they switch them on.
"""

from __future__ import annotations

import importlib.resources
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.db import transaction
from django.db.models import Sum

from billing import money
from billing.errors import SaleRefused
from billing.models import SaleDeclaration, SalePurchase, SaleRound, SaleRules, SaleTerms
from billing.states import SalePurchaseState
from interchain_site.core import audit
from interchain_site.core.errors import Invalid
from interchain_site.core.models import User

COUNTS_FOR_QUOTA = (
    SalePurchaseState.AWAITING,
    SalePurchaseState.SENT,
    SalePurchaseState.PAID,
    SalePurchaseState.ALLOCATING,
    SalePurchaseState.DELIVERED,
)


@lru_cache(maxsize=1)
def countries() -> dict[str, str]:
    """Return the countries of ISO 3166-1 by their two letters, from the time zone database's own table, in name order."""
    text = importlib.resources.files("tzdata").joinpath("zoneinfo/iso3166.tab").read_text()
    rows = [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]
    return dict(sorted(((code, name) for code, name in rows), key=lambda row: row[1]))


def rules() -> SaleRules:
    """Return the rules in force; without any set, none holds anybody."""
    return SaleRules.objects.filter(pk=1).first() or SaleRules(pk=1)


def refused_countries(found: SaleRules) -> set[str]:
    """Return the two-letter codes from which nobody may buy while the country gate is on."""
    return set(found.refused_countries.upper().split()) if found.country_required else set()


def newest_terms() -> SaleTerms | None:
    """Return the terms people accept now."""
    return SaleTerms.objects.order_by("-published_at", "-pk").first()


def check_rules(*, quota_units: int | None, terms_required: bool, refused: str) -> list[str]:
    """Return the refused countries' codes in order.

    Raises:
        Invalid: a code that is no country, a quota of nothing, or a terms gate without terms.
    """
    codes = sorted(set(refused.upper().replace(",", " ").split()))
    unknown = [code for code in codes if code not in countries()]
    if unknown:
        message = f"Not a country's two letters: {', '.join(unknown)}."
        raise Invalid(message, fields={"refused_countries": message})
    if quota_units is not None and quota_units <= 0:
        raise Invalid("A quota is above zero; leave it empty for none.", fields={"quota": "Above zero, or empty."})
    if terms_required and newest_terms() is None:
        message = "Publish terms first: under Sale terms, Add."
        raise Invalid(message, fields={"terms_required": message})
    return codes


@transaction.atomic
def set_rules(
    *,
    quota_units: int | None,
    terms_required: bool,
    country_required: bool,
    refused: str,
    paused: bool,
    by: User | None,
) -> SaleRules:
    """Switch the rules; every change is in the audit trail.

    Raises:
        Invalid: see `check_rules`.
    """
    codes = check_rules(quota_units=quota_units, terms_required=terms_required, refused=refused)
    wanted: dict[str, Any] = {
        "quota_units": quota_units,
        "terms_required": terms_required,
        "country_required": country_required,
        "refused_countries": " ".join(codes),
        "paused": paused,
    }
    row, _ = SaleRules.objects.update_or_create(pk=1, defaults=wanted)
    audit.record("sale_rules_set", subject="sale_rules:1", by=by, **wanted)
    return row


def publish_terms(*, version: str, text: str, by: User | None, now: datetime) -> SaleTerms:
    """Publish a version of the terms; who accepted an earlier one is asked again.

    Raises:
        Invalid: empty, or the version exists.
    """
    if not version.strip() or not text.strip():
        raise Invalid("Terms have a version and a text.", fields={"text": "Write the terms."})
    if SaleTerms.objects.filter(version=version).exists():
        message = f"Version {version} was published before; people accepted those words. Choose another name."
        raise Invalid(message, fields={"version": message})
    with transaction.atomic():
        row = SaleTerms.objects.create(version=version, text=text, published_at=now, published_by=by)
        audit.record("sale_terms_published", subject=f"sale_terms:{row.pk}", by=by, version=version)
    return row


def declare(*, user: User, country: str, terms_id: int | None, now: datetime) -> SaleDeclaration:
    """Write down where a person lives and which terms they accept.

    Raises:
        Invalid: not a country, or terms that are not the newest.
    """
    if country and country not in countries():
        raise Invalid("Choose your country from the list.", fields={"country": "Choose one from the list."})
    newest = newest_terms()
    if terms_id is not None and (newest is None or newest.pk != terms_id):
        message = "These terms were replaced meanwhile. Read and accept the new ones."
        raise Invalid(message, fields={"terms": message})
    with transaction.atomic():
        row = SaleDeclaration.objects.create(user=user, country=country, terms_id=terms_id, declared_at=now)
        audit.record("sale_declared", subject=f"user:{user.pk}", by=user, country=country, terms=terms_id)
    return row


def missing(*, user: User) -> set[str]:
    """Return what a person still has to say before buying: of `country` and `terms`, what the rules ask for."""
    found = rules()
    declared = SaleDeclaration.objects.filter(user=user).first()
    asked: set[str] = set()
    if found.country_required and not (declared and declared.country):
        asked.add("country")
    newest = newest_terms()
    if found.terms_required and newest is not None and (declared is None or declared.terms_id != newest.pk):
        asked.add("terms")
    return asked


def check(*, user: User, sale_round: SaleRound, units: int) -> None:
    """Say no to a purchase the rules do not allow.

    Raises:
        SaleRefused: with what to do about it.
    """
    found = rules()
    asked = missing(user=user)
    if asked:
        words = " and ".join(
            {"country": "tell us your country", "terms": "accept the terms"}[one] for one in sorted(asked)
        )
        raise SaleRefused(f"Before you buy, {words} on the sale page.", code="sale_declaration_missing")
    declared = SaleDeclaration.objects.filter(user=user).first()
    if declared is not None and declared.country in refused_countries(found):
        raise SaleRefused(
            f"The sale is not open to residents of {countries()[declared.country]}.", code="sale_country_refused"
        )
    left = quota_left(user=user, sale_round=sale_round)
    if left is not None and units > left:
        raise SaleRefused(
            f"One person may buy {money.format_ntc(found.quota_units or 0)} in a round; you have "
            f"{money.format_ntc(left)} left of it. Ask for less.",
            code="sale_quota",
        )


def quota_left(*, user: User, sale_round: SaleRound) -> int | None:
    """Return the base units a person may still buy in a round; None without a quota."""
    quota = rules().quota_units
    if quota is None:
        return None
    bought = SalePurchase.objects.filter(user=user, sale_round=sale_round, state__in=COUNTS_FOR_QUOTA)
    return max(0, quota - (bought.aggregate(units=Sum("units"))["units"] or 0))


def declared_country(*, user: User) -> str:
    """Return the country a person said last, or nothing."""
    found = SaleDeclaration.objects.filter(user=user).first()
    return found.country if found else ""


def accepted_terms(*, user: User) -> int | None:
    """Return the newest terms' id if this person accepted them already."""
    found, newest = SaleDeclaration.objects.filter(user=user).first(), newest_terms()
    return found.terms_id if found and newest and found.terms_id == newest.pk else None
