"""The token sale for people: the rounds, buying by card or from a wallet, one's purchases, and the public token page."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from billing import sale_queries as queries
from billing.chain import keys
from billing.forms import BuyForm
from billing.sale_forms import APPROVE, PORTAL, DeclarationForm, WalletBuyForm
from billing.sale_tables import FOUNDERS_UNITS, PRICE_FACTOR, SUPPLY_UNITS
from billing.services import sale_gates, sale_purchases, sale_wallets, token_facts
from billing.views.topups import person
from billing.views.wallet_flow import answers, browser_chain, refuse, wallet_flow
from interchain_site.core.errors import DomainError, Invalid


@require_GET
def sale(request: HttpRequest) -> HttpResponse:
    """The three rounds, and for who is signed in the two ways to buy."""
    return _sale_page(request, BuyForm(initial={"unit": "usd"}))


@login_required
@require_POST
def sale_card(request: HttpRequest) -> HttpResponse:
    """Lock the round's price for an amount; the page of the quote goes on to the card."""
    form = BuyForm(request.POST)
    if form.is_valid():
        try:
            quote = sale_purchases.quote(user=person(request), now=timezone.now(), **form.wanted())
            return redirect("quote_detail", quote.pk)
        except DomainError as error:
            form.add_error("amount", error.message)
    return _sale_page(request, form, status=400)


@require_GET
def sale_price(request: HttpRequest) -> HttpResponse:
    """Fragment: what the amount being typed would cost or buy by card now. Locks nothing."""
    form = BuyForm(request.GET)
    price, problem = None, ""
    if form.is_valid():
        try:
            _, price = sale_purchases.price(**form.wanted())
        except DomainError as error:
            problem = error.message
    elif request.GET.get("amount"):
        problem = str(next(iter(form.errors.get("amount", ["Choose dollars or NTC."]))))
    return render(request, "billing/_price.html", {"price": price, "problem": problem})


@require_GET
def sale_wallet_price(request: HttpRequest) -> HttpResponse:
    """Fragment: what the amount being typed would cost from a wallet now."""
    form = WalletBuyForm(request.GET)
    offer, problem = None, ""
    if form.is_valid():
        try:
            offer = sale_wallets.offer(
                asset=form.cleaned_data["asset"],
                units=form.units(),
                slippage_basis_points=form.slippage_basis_points(),
            )
        except DomainError as error:
            problem = error.message
    elif request.GET.get("ntc"):
        problem = " ".join(str(text) for errors in form.errors.values() for text in errors)
    return render(request, "billing/_sale_offer.html", {"offer": offer, "problem": problem})


@login_required
@require_POST
@wallet_flow
def sale_wallet(request: HttpRequest) -> dict[str, Any]:
    """The next thing the buyer's wallet has to do (`static/js/wallet.js` asks after each answer)."""
    form = WalletBuyForm(request.POST)
    if not form.is_valid():
        raise refuse(form)
    kept: dict[str, Any] = request.session.get("sale_wallet", {})
    found = answers(request, "signature", "approval", "hash")
    step = sale_wallets.next_step(wish=_wish(request, form), answers=found, kept=kept, now=timezone.now())
    request.session["sale_wallet"] = kept
    return step


@login_required
@require_POST
def sale_declare(request: HttpRequest) -> HttpResponse:
    """Country and terms, as far as the rules ask for them."""
    user, newest = person(request), sale_gates.newest_terms()
    asked = sale_gates.missing(user=user)
    form = DeclarationForm(request.POST, asked=asked, terms_id=newest.pk if newest else None)
    if not form.is_valid():
        return _sale_page(request, BuyForm(initial={"unit": "usd"}), declaration=form, status=400)
    try:
        sale_gates.declare(
            user=user,
            country=form.cleaned_data.get("country", "") or sale_gates.declared_country(user=user),
            terms_id=form.cleaned_data.get("terms_id") or sale_gates.accepted_terms(user=user),
            now=timezone.now(),
        )
    except DomainError as error:
        messages.error(request, error.message)
    return redirect("sale")


@login_required
@require_GET
def purchases(request: HttpRequest) -> HttpResponse:
    """A person's purchases in the sale, newest first."""
    rows = list(queries.purchases_of(person(request).pk)[: queries.PAGE])
    return render(request, "billing/sale_purchases.html", {"purchases": queries.views_of(rows)})


@login_required
@require_GET
def purchase(request: HttpRequest, purchase_id: UUID) -> HttpResponse:
    """What became of a purchase. A buyer coming back from Stripe, or from the wallet, waits here for the chain."""
    return render(request, "billing/sale_purchase.html", _purchase(request, purchase_id))


@login_required
@require_GET
def purchase_status(request: HttpRequest, purchase_id: UUID) -> HttpResponse:
    """Fragment of `purchase`, asked for again every two seconds while there is something to wait for."""
    return render(request, "billing/_sale_purchase_status.html", _purchase(request, purchase_id))


@require_GET
def token(request: HttpRequest) -> HttpResponse:
    """The token for everybody: supply, rounds, the founders' lock, where the capital goes, and the contracts."""
    context = {
        "facts": token_facts.current(),
        "rounds": queries.round_cards(timezone.now()),
        "sold": queries.sold_units(),
        "supply": SUPPLY_UNITS,
        "founders": FOUNDERS_UNITS,
        "shares": queries.allocation(),
        "sums": queries.allocation_sums(),
        "chart": [{"name": share.name, "percent": share.percent} for share in queries.allocation()],
    }
    return render(request, "billing/token.html", context)


def _purchase(request: HttpRequest, purchase_id: UUID) -> dict[str, object]:
    row = get_object_or_404(queries.purchases_of(person(request).pk), pk=purchase_id)
    [view] = queries.views_of([row])
    disputes = list(row.payment.disputes.all()) if row.payment else []
    return {"view": view, "purchase": row, "payment": row.payment, "disputes": disputes}


def _wish(request: HttpRequest, form: WalletBuyForm) -> sale_wallets.Wish:
    address = keys.checksummed(request.POST.get("address", ""))
    if address is None:
        raise Invalid("The wallet gave no address. Connect it again.", fields={"address": "Connect the wallet again."})
    return sale_wallets.Wish(
        user=person(request),
        asset=form.cleaned_data["asset"],
        units=form.units(),
        slippage_basis_points=form.slippage_basis_points(),
        to_portal=form.cleaned_data["destination"] == PORTAL,
        by_permit=form.cleaned_data["method"] != APPROVE,
        address=address,
    )


def _sale_page(
    request: HttpRequest, form: BuyForm, *, declaration: DeclarationForm | None = None, status: int = 200
) -> HttpResponse:
    cards = queries.round_cards(timezone.now())
    context: dict[str, object] = {
        "rounds": cards,
        "open_round": sale_purchases.open_round(),
        "open_card": next((card for card in cards if card.state == "open"), None),
        "facts": token_facts.current(),
        "form": form,
        "wallet_form": WalletBuyForm(),
        "least": settings.DESK_MIN_CENTS,
        "most": settings.DESK_MAX_CENTS,
        "locked_seconds": settings.QUOTE_LOCK_SECONDS,
        "price_factor": PRICE_FACTOR,
        "chain": browser_chain(),
        "rules": sale_gates.rules(),
    }
    if request.user.is_authenticated:
        context |= _for_buyer(request, declaration)
    return render(request, "billing/sale.html", context, status=status)


def _for_buyer(request: HttpRequest, declaration: DeclarationForm | None) -> dict[str, object]:
    user, newest, sale_round = person(request), sale_gates.newest_terms(), sale_purchases.open_round()
    asked = sale_gates.missing(user=user)
    form = declaration or DeclarationForm(asked=asked, terms_id=newest.pk if newest else None)
    return {
        "asked": asked,
        "declaration": form,
        "terms": newest,
        "quota_left": sale_gates.quota_left(user=user, sale_round=sale_round) if sale_round else None,
    }
