"""The code before money leaves: right once, bound to its subject, not to be guessed."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, hotp_value, yield_hotp_counters_from_time
from django.core import mail

from billing.models import Confirmation
from billing.services import confirmations
from interchain_site.core.errors import NotFound
from interchain_site.core.models import AuditEvent

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
SUBJECT = "withdrawal:1"


def ask(user, now, subject=SUBJECT):
    return confirmations.ask(subject=subject, what="4.00 NTC to 0x1", user=user, now=now)


def mailed_code() -> str:
    return re.search(r"code is (\d{6})", mail.outbox[-1].subject)[1]


def other_code(code: str) -> str:
    return f"{(int(code) + 1) % 10**6:06d}"


def check(user, code, now, subject=SUBJECT):
    confirmations.check(subject=subject, user=user, code=code, now=now)


def test_a_code_comes_by_mail_and_confirms(cast, now):
    asked = ask(cast.owner, now)
    assert asked.method == "email"
    assert "4.00 NTC to 0x1" in mail.outbox[0].body
    assert not confirmations.confirmed(subject=SUBJECT)
    code = mailed_code()
    check(cast.owner, f" {code[:3]} {code[3:]} ", now)
    assert confirmations.confirmed(subject=SUBJECT)
    check(cast.owner, "whatever", now)  # it stays confirmed
    assert AuditEvent.objects.filter(action="confirmed_by_code").count() == 1


def test_the_code_itself_is_nowhere_stored(cast, now):
    ask(cast.owner, now)
    assert mailed_code() not in str(Confirmation.objects.values().get())


def test_a_code_is_for_one_subject_and_one_person(cast, now):
    ask(cast.owner, now)
    code = mailed_code()
    ask(cast.owner, now, subject="withdrawal:2")
    with pytest.raises(confirmations.WrongCode):
        check(cast.owner, code, now, subject="withdrawal:2")
    with pytest.raises(NotFound):
        check(cast.stranger, code, now)


def test_a_code_grows_old(cast, now, settings):
    ask(cast.owner, now)
    with pytest.raises(confirmations.CodeExpired):
        check(cast.owner, mailed_code(), now + timedelta(seconds=settings.CONFIRMATION_SECONDS))


def test_a_new_code_replaces_the_old_one(cast, now):
    ask(cast.owner, now)
    old = mailed_code()
    ask(cast.owner, now + timedelta(seconds=5))
    assert len(mail.outbox) == 1  # no second mail at once
    ask(cast.owner, now + timedelta(seconds=31))
    assert len(mail.outbox) == 2
    if old != mailed_code():
        with pytest.raises(confirmations.WrongCode):
            check(cast.owner, old, now + timedelta(seconds=32))
    check(cast.owner, mailed_code(), now + timedelta(seconds=33))


def test_guessing_ends_after_five(cast, now):
    ask(cast.owner, now)
    code = mailed_code()
    for _ in range(5):
        with pytest.raises(confirmations.WrongCode):
            check(cast.owner, other_code(code), now)
    with pytest.raises(confirmations.TooManyCodes):
        check(cast.owner, code, now)
    assert Confirmation.objects.get().tries == 5


def test_guessing_does_not_go_on_with_other_subjects(cast, now):
    for number in range(3):
        ask(cast.owner, now, subject=f"withdrawal:{number}")
        for _ in range(5):
            with pytest.raises(confirmations.WrongCode):
                check(cast.owner, other_code(mailed_code()), now, subject=f"withdrawal:{number}")
    ask(cast.owner, now, subject="withdrawal:9")
    with pytest.raises(confirmations.TooManyCodes):
        check(cast.owner, mailed_code(), now, subject="withdrawal:9")
    later = now + timedelta(minutes=61)
    ask(cast.owner, later, subject="withdrawal:10")
    check(cast.owner, mailed_code(), later, subject="withdrawal:10")


def test_nobody_is_flooded_with_mail(cast, now):
    for number in range(confirmations.MOST_MAILS_AN_HOUR):
        ask(cast.owner, now, subject=f"withdrawal:{number}")
    with pytest.raises(confirmations.TooManyCodes, match="many codes already"):
        ask(cast.owner, now, subject="withdrawal:more")


def test_a_mail_that_cannot_be_sent_may_be_asked_for_again(cast, now, monkeypatch):
    def broken(self):
        raise ConnectionRefusedError

    with monkeypatch.context() as patch:
        patch.setattr("django.core.mail.EmailMessage.send", broken)
        with pytest.raises(confirmations.MailNotSent):
            ask(cast.owner, now)
    ask(cast.owner, now)
    check(cast.owner, mailed_code(), now)


def test_with_an_authenticator_no_mail_is_sent(cast, now):
    TOTP.activate(cast.owner, SECRET)
    assert ask(cast.owner, now).method == "authenticator"
    assert not mail.outbox
    [code, *_] = [format_hotp_value(hotp_value(SECRET, counter)) for counter in yield_hotp_counters_from_time()]
    check(cast.owner, code, now)
    ask(cast.owner, now, subject="withdrawal:2")
    with pytest.raises(confirmations.WrongCode):  # a code works once
        check(cast.owner, code, now, subject="withdrawal:2")


def test_a_recovery_code_helps_when_the_phone_is_lost(cast, now):
    TOTP.activate(cast.owner, SECRET)
    codes = RecoveryCodes.activate(cast.owner).get_unused_codes()
    ask(cast.owner, now)
    check(cast.owner, codes[0], now)
    assert confirmations.confirmed(subject=SUBJECT)
