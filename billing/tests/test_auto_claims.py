"""Payouts that we send: above the owner's threshold, many in one transaction, and not where the gas is too dear."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.urls import reverse

from billing.chain import gas
from billing.models import ChainTransaction, Claim, GasQuote
from billing.services import auto_claims, claims, desk, payout_planner
from billing.services.auto_claims import NotWorthItsGas
from billing.services.payout_planner import Plan
from billing.tests.settling import NTC, World, balance
from interchain_site.core.errors import Invalid, NotFound


def test_above_the_threshold_it_is_sent_by_itself(world: World, cast):
    wallet = world.link(cast.owner)
    auto_claims.set_threshold(units=8 * NTC, by=cast.owner, now=world.now)
    world.earn(cast.owner, 5)
    world.settle()
    world.round(later=1)
    assert not Claim.objects.exists()  # below it
    world.earn(cast.owner, 5)
    world.settle()
    for _ in range(3):
        assert world.round(later=1) == []
    assert (world.paid(wallet), balance("settled", cast.owner)) == (10 * NTC, 0)


def test_many_payees_share_one_transaction(world: World, cast):
    people = [cast.owner, cast.publisher, cast.buyer, cast.stranger]
    wallets = [world.link(person) for person in people]
    for number, person in enumerate(people, 1):
        auto_claims.set_threshold(units=NTC, by=person, now=world.now)
        world.earn(person, number)
    world.settle()
    for _ in range(4):
        assert world.round(later=1) == []
    assert [world.paid(wallet) for wallet in wallets] == [NTC, 2 * NTC, 3 * NTC, 4 * NTC]
    sending = {claim.sending_id for claim in Claim.objects.all()}
    assert len(sending) == 1
    assert set(Claim.objects.values_list("state", flat=True)) == {"final"}
    assert ChainTransaction.objects.filter(key__startswith="claims:").count() == 1


def test_a_batch_claims_what_the_newest_epoch_holds(fake: World, cast):
    for person in (cast.owner, cast.buyer):
        fake.link(person)
        fake.earn(person, 5)
    fake.settle()
    for person in (cast.owner, cast.buyer):
        claims.claim(wallet_id=person.wallets.get().pk, by=person, now=fake.now)
    fake.earn(cast.owner, 3)
    fake.settle()  # the round that settles also sends
    for _ in range(3):
        fake.round(later=1)
    assert fake.paid(cast.owner.wallets.get()) in (5 * NTC, 8 * NTC)
    assert balance("settled", cast.owner) == 8 * NTC - fake.paid(cast.owner.wallets.get())


def test_where_gas_is_too_dear_it_is_refused_in_words_and_never_sent(fake: World, cast, monkeypatch):
    monkeypatch.setattr(payout_planner, "plan", lambda **_: Plan(False, "Its gas costs about $9.00."))
    wallet = fake.link(cast.owner)
    auto_claims.set_threshold(units=NTC, by=cast.owner, now=fake.now)
    fake.earn(cast.owner, 5)
    fake.settle()
    with pytest.raises(NotWorthItsGas, match="costs about"):
        auto_claims.ask(wallet_id=wallet.pk, by=cast.owner, now=fake.now)
    fake.round(later=1)
    assert not Claim.objects.exists()


def test_the_page_says_why_and_lets_the_owner_claim_from_their_own_wallet(fake: World, cast, client):
    desk.set_rate(rate=Decimal("0.5"), by=cast.staff, now=fake.now)
    wallet = fake.link(cast.owner)
    fake.earn(cast.owner, 5)
    fake.settle()
    facts = {"wei_per_gas": 50 * 10**9, "nano_usd_per_ether": 3_000 * 10**9, "taken_at": fake.now}
    GasQuote.objects.update_or_create(pk=1, defaults=facts)
    client.force_login(cast.owner)
    page = client.get(reverse("wallet")).content.decode()
    assert "Claiming it from your own wallet costs you about" in page
    assert f'action="{reverse("wallet_claim", args=[wallet.pk])}"' not in page
    step = client.post(reverse("wallet_claim_self", args=[wallet.pk])).json()
    assert (step["do"], step["call"]["to"]) == ("send", fake.deployment.settlement)
    client.force_login(cast.stranger)
    assert client.post(reverse("wallet_claim_self", args=[wallet.pk])).status_code == 404


def test_a_failed_payout_is_not_tried_again_at_once(fake: World, cast):
    wallet = fake.link(cast.owner)
    auto_claims.set_threshold(units=NTC, by=cast.owner, now=fake.now)
    fake.earn(cast.owner, 5)
    epoch = fake.settle()
    Claim.objects.all().delete()
    Claim.objects.create(wallet=wallet, epoch=epoch, units=1, cumulative_units=1, state="failed", requested_at=fake.now)
    assert auto_claims.request_due(now=fake.now) == 0


def test_the_threshold_is_set_and_taken_away_on_the_page(fake: World, cast, client):
    fake.link(cast.owner)
    client.force_login(cast.owner)
    client.post(reverse("wallet_auto"), {"threshold": "2.5"})
    assert cast.owner.auto_claim.threshold_units == 2_500_000_000
    assert b"2.5" in client.get(reverse("wallet")).content
    client.post(reverse("wallet_auto"), {"threshold": ""})
    assert not type(cast.owner).objects.filter(auto_claim__isnull=False).exists()


def test_the_stranger_asks_for_nothing_of_the_owners(fake: World, cast):
    wallet = fake.link(cast.owner)
    with pytest.raises(NotFound):
        auto_claims.ask(wallet_id=wallet.pk, by=cast.stranger, now=fake.now)
    with pytest.raises(Invalid):
        auto_claims.set_threshold(units=0, by=cast.stranger, now=fake.now)


def test_a_full_batch_stays_far_below_what_one_transaction_may_use():
    assert gas.claim_many(2**20, first=auto_claims.BATCH, again=0) < gas.MAX_TRANSACTION * 3 // 4


def test_a_batch_that_ethereum_never_took_is_sent_anew(fake: World, cast):
    """Else the same claims meet the dead transaction under its key in every round, and nobody of them is paid."""
    people = [cast.owner, cast.buyer]
    for person in people:
        fake.link(person)
        fake.earn(person, 5)
    fake.settle()
    for person in people:
        claims.claim(wallet_id=person.wallets.get().pk, by=person, now=fake.now)
    fake.automine(False)
    auto_claims.send_requested(chain=fake.chain, now=fake.now)
    dead = ChainTransaction.objects.get(key__startswith="claims:")
    fake.node.forget_pool()
    ChainTransaction.objects.filter(pk=dead.pk).update(state="displaced")
    claims.take_back_refused(chain=fake.chain, now=fake.now)
    auto_claims.send_requested(chain=fake.chain, now=fake.now)
    sending = set(Claim.objects.values_list("state", "sending__state"))
    assert sending == {("sent", "sent")}
    assert ChainTransaction.objects.filter(key__startswith="claims:").count() == 2


def test_a_claim_whose_epoch_is_not_final_any_more_holds_up_nobody(fake: World, cast):
    for person in (cast.owner, cast.buyer):
        fake.link(person)
    fake.earn(cast.owner, 5)
    fake.settle()
    fake.earn(cast.buyer, 5)
    newest = fake.settle()
    for person in (cast.owner, cast.buyer):
        claims.claim(wallet_id=person.wallets.get().pk, by=person, now=fake.now)
    type(newest).objects.filter(pk=newest.pk).update(state="posted")  # its block vanished
    auto_claims.send_requested(chain=fake.chain, now=fake.now)
    states = dict(Claim.objects.values_list("wallet__user", "state"))
    assert (states[cast.owner.pk], states[cast.buyer.pk]) == ("sent", "requested")
