"""A person's way in: sign-up, verification, login, password reset, a second factor, and limits on trying."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from django.core import mail
from django.test import Client
from django.urls import reverse

from interchain_site.core.models import User

pytestmark = pytest.mark.django_db
PASSWORD = "a long enough sentence"


def sign_up(client: Client, email: str = "new@example.com"):
    return client.post(
        reverse("account_signup"), {"email": email, "password1": PASSWORD, "password2": PASSWORD}, follow=True
    )


def link_in(message: mail.EmailMessage) -> str:
    return re.search(r"http://testserver(/\S+)", message.body).group(1)


def log_in(client: Client, email: str, password: str = PASSWORD):
    return client.post(reverse("account_login"), {"login": email, "password": password})


def prove_it_is_me(client: Client, password: str = "correct horse") -> None:
    """Security settings ask for the password again."""
    client.post(reverse("account_reauthenticate"), {"password": password})


def totp_code(secret: str) -> str:
    return format_hotp_value(hotp_value(secret, next(yield_hotp_counters_from_time())))


def test_sign_up_needs_a_verified_address_before_login(client):
    page = sign_up(client)
    assert "Check your e-mail" in page.text
    assert log_in(client, "new@example.com").url == reverse("account_email_verification_sent")

    link = link_in(mail.outbox[0])
    assert "Yes, confirm" in client.get(link).text
    client.post(link)
    assert log_in(client, "new@example.com").url == reverse("home")


def test_the_verification_message_has_a_plain_and_a_styled_part(client):
    sign_up(client)
    (message,) = mail.outbox
    assert message.subject == "Interchain: Confirm your address"
    (styled,) = message.alternatives
    assert link_in(message) in styled.content


def test_an_address_is_compared_without_case(client, cast):
    assert log_in(client, "OWNER@example.com", "correct horse").url == reverse("home")


def test_signing_up_with_a_known_address_tells_a_stranger_nothing(client, cast):
    assert "Check your e-mail" in sign_up(client, cast.owner.email).text
    assert "already" in mail.outbox[0].body
    assert User.objects.filter(email=cast.owner.email).count() == 1


def test_a_used_verification_link_says_what_to_do(client):
    assert "Sign in" in client.get(reverse("account_confirm_email", args=["nonsense"])).text


def test_password_reset(client, cast):
    client.post(reverse("account_reset_password"), {"email": cast.owner.email})
    form = client.get(link_in(mail.outbox[0]), follow=True)
    assert "Choose a new password" in form.text
    done = client.post(form.request["PATH_INFO"], {"password1": PASSWORD, "password2": PASSWORD}, follow=True)
    assert "Password changed" in done.text
    assert log_in(client, cast.owner.email).url == reverse("home")


def test_a_reset_link_works_once(client, cast):
    client.post(reverse("account_reset_password"), {"email": cast.owner.email})
    link = link_in(mail.outbox[0])
    form = client.get(link, follow=True)
    client.post(form.request["PATH_INFO"], {"password1": PASSWORD, "password2": PASSWORD})
    assert "no longer works" in Client().get(link, follow=True).text


def test_reset_for_an_unknown_address_looks_the_same(client):
    page = client.post(reverse("account_reset_password"), {"email": "nobody@example.com"}, follow=True)
    assert "If the address has an account" in page.text


def enrol_totp(client: Client) -> str:
    prove_it_is_me(client)
    page = client.get(reverse("mfa_activate_totp"))
    secret = page.context["form"].secret
    client.post(reverse("mfa_activate_totp"), {"code": totp_code(secret)})
    return secret


def test_totp_enrolment_then_login_asks_for_the_code(client, cast, time_machine):
    time_machine.move_to("2026-01-31 12:00:00+00:00", tick=False)
    log_in(client, cast.owner.email, "correct horse")
    secret = enrol_totp(client)
    assert "On" in client.get(reverse("account_home")).text

    other = Client()
    assert log_in(other, cast.owner.email, "correct horse").url == reverse("mfa_authenticate")
    assert "_auth_user_id" not in other.session
    wrong = other.post(reverse("mfa_authenticate"), {"code": "000000"})
    assert "Incorrect code" in wrong.text
    time_machine.move_to("2026-01-31 12:01:00+00:00", tick=False)
    assert other.post(reverse("mfa_authenticate"), {"code": totp_code(secret)}).url == reverse("home")


def test_a_recovery_code_opens_the_account_once(client, cast):
    log_in(client, cast.owner.email, "correct horse")
    enrol_totp(client)
    codes = client.get(reverse("mfa_view_recovery_codes")).context["unused_codes"]

    other = Client()
    log_in(other, cast.owner.email, "correct horse")
    assert other.post(reverse("mfa_authenticate"), {"code": codes[0]}).url == reverse("home")
    again = Client()
    log_in(again, cast.owner.email, "correct horse")
    assert "Incorrect code" in again.post(reverse("mfa_authenticate"), {"code": codes[0]}).text


def test_guessing_a_password_is_cut_short(client, cast):
    for _ in range(5):
        log_in(client, cast.owner.email, "wrong")
    assert "Too many failed login attempts" in log_in(client, cast.owner.email, "correct horse").text


def test_too_many_reset_requests_get_a_readable_429(client, cast):
    for _ in range(20):
        answer = client.post(reverse("account_reset_password"), {"email": cast.owner.email})
        if answer.status_code == 429:
            break
    assert answer.status_code == 429
    assert "Wait five minutes" in answer.text


@pytest.mark.parametrize(
    "name",
    [
        "account_home", "account_email", "account_change_password", "mfa_index", "mfa_activate_totp",
        "mfa_add_webauthn", "account_logout",
    ],
)  # fmt: skip
def test_every_settings_page_opens(client, cast, name):
    log_in(client, cast.owner.email, "correct horse")
    prove_it_is_me(client)
    page = client.get(reverse(name))
    assert page.status_code == 200
    assert "<h1>" in page.text


def test_a_second_factor_is_changed_only_after_the_password(client, cast):
    log_in(client, cast.owner.email, "correct horse")
    assert client.get(reverse("mfa_activate_totp")).url.startswith(reverse("account_reauthenticate"))


def test_settings_ask_a_stranger_to_sign_in(client):
    assert client.get(reverse("account_home")).url.startswith(reverse("account_login"))


def test_under_https_a_neighbouring_host_cannot_plant_a_session():
    """Apps are served below the portal's domain, where an ordinary cookie may be set for all of it."""
    show = "from django.conf import settings as s; print(s.SESSION_COOKIE_NAME, s.CSRF_COOKIE_NAME)"
    environment = os.environ | {
        "PORTAL_URL": "https://interchain.example",
        "DJANGO_SETTINGS_MODULE": "interchain_site.settings",
    }
    done = subprocess.run([sys.executable, "-c", show], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["__Host-sessionid", "__Host-csrftoken"]
