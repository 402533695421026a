"""What needs a person: one row per cause, one e-mail, gone by itself."""

from __future__ import annotations

import pytest
from django.core import mail
from django.urls import reverse

from interchain_site.core.alerts import clear_alert, raise_alert
from interchain_site.core.models import AuditEvent, StaffAlert

pytestmark = pytest.mark.django_db


def low(**changes: object) -> StaffAlert:
    facts = {"code": "gas_money_low", "subject": "0xabc", "message": "0.001 ETH left.", "mend": "Send 0.05 ETH."}
    return raise_alert(**{**facts, **changes})


def test_staff_are_told_once_and_what_to_do(cast, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        first = low()
    with django_capture_on_commit_callbacks(execute=True):
        assert low(message="0.0009 ETH left.").pk == first.pk
    assert [message.to for message in mail.outbox] == [[cast.staff.email]]
    assert "What to do: Send 0.05 ETH." in mail.outbox[0].body
    assert StaffAlert.objects.get().message == "0.0009 ETH left."


def test_it_goes_by_itself_and_comes_as_a_new_one(cast, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        low()
        assert clear_alert(code="gas_money_low", subject="0xabc") == 1
        assert clear_alert(code="gas_money_low", subject="0xabc") == 0
    with django_capture_on_commit_callbacks(execute=True):
        low()
    assert StaffAlert.objects.count() == 2
    assert StaffAlert.objects.standing().count() == 1
    assert len(mail.outbox) == 2


def test_what_often_passes_is_mailed_only_when_it_lasts(cast, django_capture_on_commit_callbacks, time_machine):
    time_machine.move_to("2026-11-22T10:00:00+00:00", tick=False)
    with django_capture_on_commit_callbacks(execute=True):
        low(patience_seconds=60)
    assert mail.outbox == []
    time_machine.move_to("2026-11-22T10:01:01+00:00", tick=False)
    with django_capture_on_commit_callbacks(execute=True):
        low(patience_seconds=60)
    assert len(mail.outbox) == 1


def test_mail_that_cannot_be_sent_is_tried_again(cast, monkeypatch, django_capture_on_commit_callbacks):
    def refuse(*_: object) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr("interchain_site.core.alerts.send_mail", refuse)
    with django_capture_on_commit_callbacks(execute=True):
        low()
    monkeypatch.undo()
    with django_capture_on_commit_callbacks(execute=True):
        low()
    assert len(mail.outbox) == 1


def test_the_admins_first_page_says_so(client, cast):
    client.force_login(cast.staff)
    assert "need" not in client.get(reverse("admin:index")).text.split("What staff look after")[1][:200]
    low()
    page = client.get(reverse("admin:index")).text
    assert "1 thing needs a person" in " ".join(page.replace("</a>", "").split())
    assert "Send 0.05 ETH." in page
    listed = client.get(reverse("admin:core_staffalert_changelist") + "?over=no").text
    assert "0.001 ETH left." in listed


def test_staff_close_what_happened_once_and_it_is_written_down(admin_client, admin_user):
    alert = low(code="deposit_vanished", subject="0x12")
    url = reverse("admin:core_staffalert_changelist")
    assert admin_client.post(url, {"action": "close", "_selected_action": [alert.pk]}).status_code == 302
    alert.refresh_from_db()
    assert alert.cleared_at is not None
    closed = AuditEvent.objects.get(action="alert_closed")
    assert (closed.by, closed.subject) == (admin_user, f"staff_alert:{alert.pk}")
