"""The landing page tells the prices in force, the promises, and an example that adds up."""

from __future__ import annotations

import pytest
from django.urls import reverse

from marketplace.price_table import TABLE_3

pytestmark = pytest.mark.django_db


def test_table_3_is_on_the_page(client):
    page = client.get(reverse("landing"))
    assert len(page.context["rows"]) == len(TABLE_3)
    assert "$0.10 per million instructions" in " ".join(page.text.replace("</span>", "").split())


def test_the_example_adds_up(client):
    example = client.get(reverse("landing")).context["example"]
    assert sum(line["nano_usd"] for line in example["lines"]) == pytest.approx(example["owner_nano_usd"], abs=5)
    assert example["owner_nano_usd"] + example["commission_nano_usd"] == example["total_nano_usd"]
    assert example["commission_nano_usd"] == example["owner_nano_usd"] // 10


def test_a_visitor_is_led_to_sign_up_and_a_member_to_the_apps(client, cast):
    assert reverse("account_signup") in client.get(reverse("landing")).text
    client.force_login(cast.publisher)
    assert reverse("home") in client.get(reverse("landing")).text


def test_without_a_price_list_the_page_says_so(client, monkeypatch):
    monkeypatch.setattr("interchain_site.pages._price_list_in_force", lambda: None)
    assert "No price list is in force" in client.get(reverse("landing")).text
