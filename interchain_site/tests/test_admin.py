"""The admin is for staff, goes through the same door as everybody, and its list pages open."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.urls import reverse

pytestmark = pytest.mark.django_db


def test_the_admin_has_no_second_door(client):
    assert client.get(reverse("admin:index"), follow=True).redirect_chain[-1][0].startswith(reverse("account_login"))


def test_only_staff_come_in(client, cast):
    client.force_login(cast.stranger)
    assert client.get(reverse("admin:index"), follow=True).status_code == 403
    client.force_login(cast.staff)
    assert "What staff look after" in client.get(reverse("admin:index")).text


def test_every_list_opens_and_can_be_searched(client, cast):
    client.force_login(cast.staff)
    for model, options in admin.site._registry.items():
        where = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        answer = client.get(where, {"q": "x"} if options.search_fields else {})
        assert answer.status_code == 200, where


def test_nobodys_keys_are_shown():
    shown = {model._meta.label for model in admin.site._registry}
    assert not shown & {"authtoken.TokenProxy", "mfa.Authenticator"}
