"""Stripe's published test cards and what each of them does (docs.stripe.com/testing)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """`code` and `message` of a decline; `dispute` is the reason of one that follows; `asks` for the bank's approval."""

    brand: str = "visa"
    country: str = "US"
    code: str = ""
    decline_code: str = ""
    message: str = ""
    dispute: str = ""
    inquiry: bool = False
    asks: bool = False


_DECLINED = "Your card was declined."

CARDS: dict[str, Outcome] = {
    "4242424242424242": Outcome(),
    "4000056655665556": Outcome(),
    "5555555555554444": Outcome(brand="mastercard"),
    "378282246310005": Outcome(brand="amex"),
    "4000008260000000": Outcome(country="GB"),
    "4000002760000016": Outcome(country="DE"),
    "4000001560000002": Outcome(country="CN"),
    "4000000000000002": Outcome(code="card_declined", decline_code="generic_decline", message=_DECLINED),
    "4000000000009995": Outcome(
        code="card_declined",
        decline_code="insufficient_funds",
        message="Your card has insufficient funds. Try a different card.",
    ),
    "4000000000009987": Outcome(code="card_declined", decline_code="lost_card", message=_DECLINED),
    "4000000000009979": Outcome(code="card_declined", decline_code="stolen_card", message=_DECLINED),
    "4000000000000069": Outcome(code="expired_card", message="Your card has expired. Try a different card."),
    "4000000000000127": Outcome(code="incorrect_cvc", message="Your card's security code is incorrect."),
    "4000000000000119": Outcome(
        code="processing_error", message="An error occurred while processing your card. Try again in a little bit."
    ),
    "4000000000000259": Outcome(dispute="fraudulent"),
    "4000000000002685": Outcome(dispute="product_not_received"),
    "4000000000001976": Outcome(dispute="fraudulent", inquiry=True),
    "4000002500003155": Outcome(asks=True),
    "4000008400001629": Outcome(asks=True, code="card_declined", decline_code="generic_decline", message=_DECLINED),
}


def look_up(number: str) -> Outcome:
    """Return what a card does; a number that is not a test card is refused with words."""
    if not luhn(number):
        return Outcome(code="incorrect_number", message="Your card number is incorrect.")
    unknown = Outcome(
        code="card_declined",
        decline_code="test_mode_live_card",
        message="This page takes test cards only, such as 4242 4242 4242 4242. No real card is ever charged here.",
    )
    return CARDS.get(number, unknown)


def luhn(number: str) -> bool:
    """Return whether the check digit of a card number is right."""
    if not number.isdigit() or not 12 <= len(number) <= 19:
        return False
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
