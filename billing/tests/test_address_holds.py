"""An address that is new to an account waits, its owner is told, and can stop it without signing in."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.urls import reverse

from billing.models import Wallet
from billing.services import settlement, wallet_notices, wallets
from billing.tests.settling import NTC, World, new_address
from interchain_site.core.errors import NotFound

HOUR = timedelta(hours=1)


@pytest.fixture
def holding(fake: World, settings) -> World:
    settings.ADDRESS_HOLD_SECONDS = 3600
    return fake


def active(person) -> str:
    return person.wallets.get(active=True).address


def test_the_first_wallet_is_active_at_once(holding: World, cast):
    assert holding.link(cast.owner).active


def test_a_replacement_waits_and_earnings_go_where_they_went(holding: World, cast):
    first, second = holding.link(cast.owner), holding.link(cast.owner)
    assert (second.active, second.active_from) == (False, holding.now + HOUR)
    holding.earn(cast.owner, 5)
    settlement.close_epoch(now=holding.now)
    assert first.leaves.get().earned_units == 5 * NTC
    assert active(cast.owner) == first.address


def test_the_waiting_wallet_takes_over_when_its_time_has_come(holding: World, cast):
    holding.link(cast.owner)
    second = holding.link(cast.owner)
    assert wallets.activate_due(now=holding.now + HOUR - timedelta(seconds=1)) == 0
    assert wallets.activate_due(now=holding.now + HOUR) == 1
    assert active(cast.owner) == second.address


def test_an_epoch_that_closes_then_pays_the_new_one(holding: World, cast):
    holding.link(cast.owner)
    second = holding.link(cast.owner)
    holding.earn(cast.owner, 5)
    settlement.close_epoch(now=holding.now + HOUR)
    assert second.leaves.get().earned_units == 5 * NTC


def test_entering_it_again_does_not_shorten_the_time(holding: World, cast):
    holding.link(cast.owner)
    second = holding.link(cast.owner)
    holding.now += timedelta(minutes=30)
    again = holding.link(cast.owner, second.address)
    assert again.active_from == second.active_from


def test_another_address_takes_the_place_of_the_waiting_one(holding: World, cast):
    holding.link(cast.owner)
    second, third = holding.link(cast.owner), holding.link(cast.owner)
    second.refresh_from_db()
    assert (second.active_from, third.active_from) == (None, holding.now + HOUR)


def test_going_back_to_the_active_one_takes_the_change_back(holding: World, cast):
    first = holding.link(cast.owner)
    second = holding.link(cast.owner)
    holding.link(cast.owner, first.address)
    second.refresh_from_db()
    assert second.active_from is None
    assert wallets.activate_due(now=holding.now + 2 * HOUR) == 0


def stop_link(mailoutbox) -> str:
    return re.search(r"(/wallet/stop/\S+)", mailoutbox[-1].body).group(1)


def test_the_person_is_told_once_with_a_way_to_stop_it(holding: World, cast, client, mailoutbox):
    holding.link(cast.owner)
    wallet_notices.send_due(now=holding.now)
    second = holding.link(cast.owner)
    assert wallet_notices.send_due(now=holding.now) == 1
    assert wallet_notices.send_due(now=holding.now) == 0
    assert second.address in mailoutbox[-1].body
    assert "replaces your present wallet on" in mailoutbox[-1].body
    link = stop_link(mailoutbox)
    assert b"Stop this address?" in client.get(link).content
    second.refresh_from_db()
    assert second.stopped_at is None  # looking stops nothing: mail programs open links
    assert b"The address is stopped" in client.post(link).content
    second.refresh_from_db()
    assert (second.stopped_at is not None, second.active_from) == (True, None)
    assert wallets.activate_due(now=holding.now + 2 * HOUR) == 0


def test_an_address_that_is_active_already_is_stopped_too(holding: World, cast, client, mailoutbox):
    holding.link(cast.owner)
    wallet_notices.send_due(now=holding.now)
    client.post(stop_link(mailoutbox))
    assert not Wallet.objects.filter(active=True).exists()
    holding.earn(cast.owner, 5)
    assert settlement.close_epoch(now=holding.now) is None


def test_a_stopped_address_begins_anew_and_waits(holding: World, cast):
    wallet = holding.link(cast.owner)
    wallets.stop(token=wallets.stop_token(wallet), now=holding.now)
    holding.now += timedelta(minutes=1)
    again = holding.link(cast.owner, wallet.address)
    assert (again.active, again.active_from) == (False, holding.now + HOUR)
    with pytest.raises(NotFound, match="earlier change"):
        wallets.stop(token=wallets.stop_token(wallet), now=holding.now)


@pytest.mark.parametrize("token", ["nonsense", "1:2", "1:2:3:4"])
def test_other_links_stop_nothing(holding: World, cast, client, token):
    holding.link(cast.owner)
    assert client.post(reverse("wallet_stop", args=[token])).status_code == 404
    assert Wallet.objects.get().active


def test_an_address_for_withdrawals_is_told_as_well(holding: World, cast, mailoutbox):
    wallets.remember(address=new_address(), by=cast.publisher, now=holding.now)
    assert wallet_notices.send_due(now=holding.now) == 1
    assert "Withdrawals to it leave from" in mailoutbox[-1].body
