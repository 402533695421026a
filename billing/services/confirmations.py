"""A second look before money leaves: a code from the person's authenticator, or one sent to their e-mail address.

Withdrawals and cash-outs share it. The flow: `ask` when the thing is asked for (it says how the code comes), `check` with what the person
typed, and only then the service moves on. A code is bound to one subject, so a code for one payout confirms no other.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from allauth.mfa.models import Authenticator
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models import F, QuerySet, Sum
from django.template.loader import render_to_string
from django.utils.crypto import constant_time_compare, salted_hmac

from billing.models import Confirmation
from interchain_site.core import audit
from interchain_site.core.errors import Busy, Conflict, Invalid, NotFound
from interchain_site.core.models import User

Method = Confirmation.Method
DIGITS = 6
MOST_TRIES = 5  # for one subject
MOST_TRIES_AN_HOUR = 15  # for one person over all subjects: a stolen session must not guess on with new ones
MOST_MAILS_AN_HOUR = 10
PAUSE = timedelta(seconds=30)  # between two mails about one subject


class WrongCode(Invalid):
    code = "wrong_code"
    message = "This code is not right. Look again and type all six digits."


class CodeExpired(Conflict):
    code = "code_expired"
    message = "This code is too old. Ask for a new one."


class TooManyCodes(Conflict):
    code, status = "too_many_codes", 429
    message = "Too many wrong codes. Cancel this, wait an hour, and begin again."


class MailNotSent(Busy):
    code = "mail_not_sent"
    message = "The e-mail with your code could not be sent. Ask for another one in a moment."


def method_for(user: User) -> Confirmation.Method:
    """Return how this person confirms: by authenticator once they have one, else by e-mail."""
    has_one = Authenticator.objects.filter(user=user, type=Authenticator.Type.TOTP).exists()
    return Method.AUTHENTICATOR if has_one else Method.EMAIL


def ask(*, subject: str, what: str, user: User, now: datetime) -> Confirmation:
    """Ask a person to confirm; sends a code where they have no authenticator. Asking again sends a new code.

    Args:
        subject: `kind:id` of what is confirmed.
        what: what it is, in words for the e-mail: the amount and where it goes.

    Raises:
        TooManyCodes: more mails in an hour than anybody needs.
        MailNotSent: try again in a moment.
    """
    confirmation, code = _prepare(subject=subject, user=user, now=now)
    if code:
        context = {"code": code, "what": what, "minutes": settings.CONFIRMATION_SECONDS // 60, "user": user}
        text = render_to_string("billing/emails/confirmation.txt", context)
        title, _, body = text.strip().partition("\n")
        try:
            EmailMessage(title, body.strip() + "\n", to=[user.email]).send()
        except OSError as error:
            Confirmation.objects.filter(pk=confirmation.pk).update(digest="", asked_at=now - PAUSE)
            raise MailNotSent from error
    return confirmation


def check(*, subject: str, user: User, code: str, now: datetime) -> None:
    """Return if the code is right; a subject confirmed before stays confirmed. Never call it inside a transaction.

    A wrong try stays counted, so it must not be rolled back with the caller's work.

    Raises:
        NotFound: nothing to confirm for this person.
        WrongCode, CodeExpired, TooManyCodes.
    """
    with transaction.atomic(durable=True):
        problem = _look(subject=subject, user=user, code="".join(code.split()), now=now)
    if problem is not None:
        raise problem


@transaction.atomic
def accept(*, subject: str, user: User, by: str, now: datetime) -> None:
    """Confirm without a code, after the page has seen something as good, such as a passkey used again just now.

    Args:
        by: what it saw, for the audit trail.

    Raises:
        NotFound: nothing to confirm for this person.
    """
    found = Confirmation.objects.select_for_update().filter(subject=subject, user=user).first()
    if found is None:
        raise NotFound("There is nothing of yours to confirm here.")
    if found.confirmed_at is None:
        Confirmation.objects.filter(pk=found.pk).update(confirmed_at=now)
        audit.record("confirmed_otherwise", subject=subject, by=user, method=by)


def confirmed(*, subject: str) -> bool:
    """Return whether the person has confirmed it; services ask before they move money."""
    return Confirmation.objects.filter(subject=subject).exclude(confirmed_at=None).exists()


@transaction.atomic
def _prepare(*, subject: str, user: User, now: datetime) -> tuple[Confirmation, str]:
    User.objects.select_for_update().get(pk=user.pk)  # one at a time, so that the counts below hold
    found = Confirmation.objects.filter(subject=subject).first()
    method = method_for(user)
    if found is not None and (found.confirmed_at or (method == Method.EMAIL and now < found.asked_at + PAUSE)):
        return found, ""
    confirmation = found or Confirmation(subject=subject, user=user)
    confirmation.method, confirmation.asked_at = method, now
    confirmation.expires_at = now + timedelta(seconds=settings.CONFIRMATION_SECONDS)
    code = ""
    if method == Method.EMAIL:
        mails = _lately(user, now).aggregate(total=Sum("mails"))["total"] or 0
        if mails >= MOST_MAILS_AN_HOUR:
            raise TooManyCodes("We sent you many codes already. Wait an hour, then ask again.")
        code = f"{secrets.randbelow(10**DIGITS):0{DIGITS}d}"
        confirmation.mails += 1
        confirmation.digest = _digest(subject, code)
    confirmation.save()
    return confirmation, code


def _look(*, subject: str, user: User, code: str, now: datetime) -> WrongCode | CodeExpired | TooManyCodes | None:
    """Count and answer a try; the refusal is returned, not raised, so that the count is kept."""
    User.objects.select_for_update().get(pk=user.pk)
    confirmation = Confirmation.objects.select_for_update().filter(subject=subject, user=user).first()
    if confirmation is None:
        raise NotFound("There is nothing of yours to confirm here.")
    if confirmation.confirmed_at is not None:
        return None
    tries = _lately(user, now).aggregate(total=Sum("tries"))["total"] or 0
    if confirmation.tries >= MOST_TRIES or tries >= MOST_TRIES_AN_HOUR:
        return TooManyCodes()
    if now >= confirmation.expires_at:
        return CodeExpired()
    if not _right(confirmation, code):
        Confirmation.objects.filter(pk=confirmation.pk).update(tries=F("tries") + 1)
        audit.record("wrong_confirmation_code", subject=subject, by=user, tries=confirmation.tries + 1)
        return WrongCode(fields={"code": WrongCode.message})
    confirmation.confirmed_at = now
    confirmation.save(update_fields=["confirmed_at"])
    audit.record("confirmed_by_code", subject=subject, by=user, method=confirmation.method)
    return None


def _right(confirmation: Confirmation, code: str) -> bool:
    if confirmation.method == Method.EMAIL:
        return bool(confirmation.digest) and constant_time_compare(
            confirmation.digest, _digest(confirmation.subject, code)
        )
    kinds = [Authenticator.Type.TOTP, Authenticator.Type.RECOVERY_CODES]
    authenticators = Authenticator.objects.filter(user_id=confirmation.user_id, type__in=kinds)
    return any(authenticator.wrap().validate_code(code) for authenticator in authenticators)


def _digest(subject: str, code: str) -> str:
    return salted_hmac("billing.confirmations", f"{subject}:{code}", algorithm="sha256").hexdigest()


def _lately(user: User, now: datetime) -> QuerySet[Confirmation]:
    return Confirmation.objects.filter(user=user, asked_at__gt=now - timedelta(hours=1))
