"""Withdrawing NTC: asked, confirmed, held while the address is new, taken up by an epoch, paid; or cancelled."""

from __future__ import annotations

from datetime import timedelta

import pytest
from allauth.mfa.models import Authenticator

from billing.models import ChainEvent, Claim, PayoutLeaf, ReconcileRun, Withdrawal
from billing.services import accounts, claims, ledger, reconcile, settlement, vetoes, wallets, withdrawals
from billing.services.confirmations import WrongCode
from billing.services.withdrawals import PayoutsPaused, WithdrawalRefused
from billing.signals import balance_credited
from billing.states import ReconcileOutcome
from billing.tests.settling import NTC, World, balance, new_address
from billing.tests.withdrawing import ask, confirm, fund, newest_code, withdraw
from interchain_site.core.errors import Conflict, NotFound


@pytest.fixture
def funded(fake: World, cast) -> World:
    fund(fake, cast.publisher, 100)
    return fake


def held(person) -> tuple[int, int, int]:
    kinds = (accounts.AVAILABLE, accounts.WITHDRAWING, accounts.SETTLED)
    available, withdrawing, settled = (balance(kind, person) // NTC for kind in kinds)
    return available, withdrawing, settled


def state(withdrawal: Withdrawal) -> str:
    withdrawal.refresh_from_db()
    return withdrawal.state


def test_nothing_moves_before_it_is_confirmed(funded: World, cast):
    withdrawal = ask(funded, cast.publisher, 40)
    assert (withdrawal.state, held(cast.publisher)) == ("asked", (100, 0, 0))


def test_a_confirmed_withdrawal_is_set_aside_settled_and_paid(funded: World, cast):
    withdrawal = withdraw(funded, cast.publisher, 40)
    assert (withdrawal.state, held(cast.publisher)) == ("confirmed", (60, 40, 0))
    epoch = settlement.close_epoch(now=funded.now)
    assert (state(withdrawal), held(cast.publisher)) == ("committed", (60, 0, 40))
    assert (epoch.withdrawal_units, epoch.earned_units, epoch.cumulative_units) == (40 * NTC, 0, 40 * NTC)


def test_a_withdrawal_and_earnings_share_a_leaf(funded: World, cast):
    wallet = funded.link(cast.publisher)
    funded.earn(cast.publisher, 5)
    withdraw(funded, cast.publisher, 40, wallet.address)
    settlement.close_epoch(now=funded.now)
    leaf = PayoutLeaf.objects.get()
    assert (leaf.earned_units, leaf.withdrawal_units, leaf.cumulative_units) == (5 * NTC, 40 * NTC, 45 * NTC)


def test_a_wrong_code_moves_nothing(funded: World, cast):
    withdrawal = ask(funded, cast.publisher, 40)
    wrong = f"{(int(newest_code()) + 1) % 10**6:06d}"
    with pytest.raises(WrongCode):
        withdrawals.confirm(withdrawal_id=withdrawal.pk, code=wrong, by=cast.publisher, now=funded.now)
    assert held(cast.publisher) == (100, 0, 0)


def test_reserving_without_a_confirmation_is_refused(funded: World, cast):
    withdrawal = ask(funded, cast.publisher, 40)
    with pytest.raises(Conflict, match="Confirm"):
        withdrawals.reserve(withdrawal_id=withdrawal.pk, by=cast.publisher, now=funded.now)


def test_who_has_an_authenticator_gets_no_mail(funded: World, cast, mailoutbox):
    from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, generate_totp_secret, hotp_value
    from allauth.mfa.totp.internal.auth import yield_hotp_counters_from_time as counters

    secret = generate_totp_secret()
    TOTP.activate(cast.publisher, secret)
    assert Authenticator.objects.filter(user=cast.publisher).exists()
    withdrawal = ask(funded, cast.publisher, 40)
    assert not mailoutbox
    code = format_hotp_value(hotp_value(secret, next(iter(counters()))))
    done = withdrawals.confirm(withdrawal_id=withdrawal.pk, code=code, by=cast.publisher, now=funded.now)
    assert done.state == "confirmed"


def test_never_more_than_there_is(funded: World, cast):
    with pytest.raises(WithdrawalRefused, match=r"at most 100.00 NTC"):
        ask(funded, cast.publisher, 101)


def test_what_was_spent_before_the_confirmation_cannot_leave(funded: World, cast):
    withdrawal = ask(funded, cast.publisher, 40)
    fund(funded, cast.publisher, -70)
    with pytest.raises(WithdrawalRefused, match=r"at most 30.00 NTC"):
        confirm(funded, withdrawal)
    fund(funded, cast.publisher, 70)
    done = withdrawals.confirm(withdrawal_id=withdrawal.pk, code="", by=cast.publisher, now=funded.now)
    assert done.state == "confirmed"  # confirmed before: the code is not asked for twice


def test_two_withdrawals_cannot_share_the_same_money(funded: World, cast):
    first, second = ask(funded, cast.publisher, 60), ask(funded, cast.publisher, 60)
    confirm(funded, second)
    with pytest.raises(WithdrawalRefused):
        withdrawals.confirm(
            withdrawal_id=first.pk, code=newest_code(first.wallet.address), by=cast.publisher, now=funded.now
        )


def test_the_least_and_the_most_in_a_day(funded: World, cast, settings):
    settings.WITHDRAWAL_MIN_NTC, settings.WITHDRAWAL_DAILY_NTC = 10, 50
    with pytest.raises(WithdrawalRefused, match=r"at least 10.00 NTC"):
        ask(funded, cast.publisher, 9)
    withdraw(funded, cast.publisher, 30)
    with pytest.raises(WithdrawalRefused, match=r"at most 20.00 NTC now. The limit is 50.00 NTC in 24 hours"):
        ask(funded, cast.publisher, 21)
    funded.now += timedelta(days=1)
    assert ask(funded, cast.publisher, 50).state == "asked"


def test_what_was_bought_by_card_waits(funded: World, cast, bought, settings):
    bought()  # the buyer: 4 NTC
    with pytest.raises(WithdrawalRefused, match=r"at most 0.00 NTC now. NTC bought by card can leave after 7 d"):
        ask(funded, cast.buyer, 4)
    funded.now += timedelta(days=8)
    assert ask(funded, cast.buyer, 4).state == "asked"


def test_a_new_address_waits_and_then_goes(funded: World, cast, settings):
    settings.ADDRESS_HOLD_SECONDS = 3600
    withdrawal = withdraw(funded, cast.publisher, 40)
    assert (withdrawal.state, withdrawal.held_until) == ("held", funded.now + timedelta(hours=1))
    assert settlement.close_epoch(now=funded.now + timedelta(minutes=59)) is None
    assert settlement.close_epoch(now=funded.now + timedelta(hours=1)).withdrawal_units == 40 * NTC
    assert state(withdrawal) == "committed"


def test_the_second_withdrawal_to_an_address_does_not_wait(funded: World, cast, settings):
    settings.ADDRESS_HOLD_SECONDS = 3600
    address = new_address()
    withdraw(funded, cast.publisher, 10, address)
    funded.now += timedelta(hours=1)
    assert withdraw(funded, cast.publisher, 10, address).state == "confirmed"


@pytest.mark.parametrize("waiting", [0, 3600])
def test_it_can_be_cancelled_until_an_epoch_has_it(
    funded: World, cast, settings, waiting, django_capture_on_commit_callbacks
):
    settings.ADDRESS_HOLD_SECONDS = waiting
    told: list[int] = []
    balance_credited.connect(lambda user_id, **_: told.append(user_id), weak=False, dispatch_uid="test_cancel")
    withdrawal = withdraw(funded, cast.publisher, 40)
    with django_capture_on_commit_callbacks(execute=True):
        withdrawals.cancel(withdrawal_id=withdrawal.pk, by=cast.publisher, now=funded.now)
    balance_credited.disconnect(dispatch_uid="test_cancel")
    assert (state(withdrawal), held(cast.publisher), told) == ("cancelled", (100, 0, 0), [cast.publisher.pk])
    again = withdraw(funded, cast.publisher, 40)
    settlement.close_epoch(now=funded.now + timedelta(hours=2))
    with pytest.raises(Conflict, match="already in an epoch"):
        withdrawals.cancel(withdrawal_id=again.pk, by=cast.publisher, now=funded.now)


def test_the_stranger_can_do_nothing_with_it(funded: World, cast):
    withdrawal = ask(funded, cast.publisher, 40)
    with pytest.raises(NotFound):
        withdrawals.confirm(withdrawal_id=withdrawal.pk, code=newest_code(), by=cast.stranger, now=funded.now)
    with pytest.raises(NotFound):
        withdrawals.cancel(withdrawal_id=withdrawal.pk, by=cast.stranger, now=funded.now)
    with pytest.raises(NotFound):
        withdrawals.ask(wallet_id=withdrawal.wallet_id, units=NTC, by=cast.stranger, now=funded.now)


def test_while_payouts_are_paused_none_leaves_and_none_is_lost(funded: World, cast):
    waiting = withdraw(funded, cast.publisher, 40)
    run = ReconcileRun.objects.create(
        outcome=ReconcileOutcome.DIFFERENCE, checks=[], started_at=funded.now, finished_at=funded.now
    )
    with pytest.raises(PayoutsPaused):
        ask(funded, cast.publisher, 10)
    assert settlement.close_epoch(now=funded.now) is None
    run.delete()
    assert settlement.close_epoch(now=funded.now) is not None
    assert state(waiting) == "committed"


def test_who_owes_meanwhile_repays_from_it(funded: World, cast):
    withdrawal = withdraw(funded, cast.publisher, 40)
    lines = (
        ledger.Line(accounts.user_account(cast.publisher.pk, accounts.SHORTFALL), -30 * NTC),
        ledger.Line(accounts.user_account(cast.publisher.pk, accounts.AVAILABLE), -60 * NTC),
        ledger.Line(accounts.platform_account("commission"), 90 * NTC),
    )
    ledger.post(postings=[ledger.Posting("debt", "test", lines, funded.now)], now=funded.now)
    assert settlement.close_epoch(now=funded.now) is None
    assert (state(withdrawal), held(cast.publisher)) == ("cancelled", (10, 0, 0))
    assert balance(accounts.SHORTFALL, cast.publisher) == 0


def test_what_nobody_confirms_is_forgotten_after_a_day(funded: World, cast):
    withdrawal = ask(funded, cast.publisher, 40)
    assert withdrawals.sweep(now=funded.now + timedelta(hours=25)) == 1
    assert (state(withdrawal), withdrawal.reason) == ("cancelled", "Not confirmed within a day.")


def test_stopping_an_address_cancels_what_goes_there(funded: World, cast, settings):
    settings.ADDRESS_HOLD_SECONDS = 3600
    withdrawal = withdraw(funded, cast.publisher, 40)
    token = wallets.stop_token(withdrawal.wallet)
    wallets.stop(token=token, now=funded.now)
    assert (state(withdrawal), held(cast.publisher)) == ("cancelled", (100, 0, 0))
    with pytest.raises(NotFound):
        withdrawals.ask(wallet_id=withdrawal.wallet_id, units=NTC, by=cast.publisher, now=funded.now)


def test_it_is_paid_on_the_chain_without_being_asked_again(world: World, cast):
    fund(world, cast.publisher, 100)
    withdrawal = withdraw(world, cast.publisher, 40)
    world.settle()
    for _ in range(4):
        assert world.round(later=1) == []
    assert (state(withdrawal), held(cast.publisher)) == ("paid", (60, 0, 0))
    assert withdrawal.transaction_hash == Claim.objects.get().transaction_hash
    assert world.paid(withdrawal.wallet) == 40 * NTC


def test_a_veto_returns_it_and_a_later_epoch_takes_it_up(fake: World, cast):
    world = fake
    world.node.settlement.claim_delay = 60  # the real contracts in these tests have none
    fund(world, cast.publisher, 100)
    withdrawal = withdraw(world, cast.publisher, 40)
    epoch = settlement.close_epoch(now=world.now)
    for _ in range(3):
        world.round(later=1)
    world.node.call_directly(world.deployment.contract.veto(epoch=epoch.sequence))
    for _ in range(3):
        world.round(later=1)
    assert (state(withdrawal), withdrawal.epoch, withdrawal.returned) == ("confirmed", None, 1)
    assert held(cast.publisher) == (60, 40, 0)
    epoch.refresh_from_db()
    vetoes.resume(epoch_id=epoch.pk, by=cast.staff, now=world.now)
    again = settlement.close_epoch(now=world.now)
    assert (state(withdrawal), withdrawal.epoch, again.cumulative_units) == ("committed", again, 40 * NTC)


def test_after_a_veto_it_can_be_cancelled(fake: World, cast):
    fake.node.settlement.claim_delay = 60
    fund(fake, cast.publisher, 100)
    withdrawal = withdraw(fake, cast.publisher, 40)
    epoch = settlement.close_epoch(now=fake.now)
    for _ in range(3):
        fake.round(later=1)
    fake.node.call_directly(fake.deployment.contract.veto(epoch=epoch.sequence))
    for _ in range(3):
        fake.round(later=1)
    withdrawals.cancel(withdrawal_id=withdrawal.pk, by=cast.publisher, now=fake.now)
    assert held(cast.publisher) == (100, 0, 0)


@pytest.mark.parametrize("was", ["committed", "claimable"])  # claimable: final before a deep reorganisation
def test_what_a_veto_returns_goes_back_if_the_address_was_stopped(fake: World, cast, was):
    fake.node.settlement.claim_delay = 60
    fund(fake, cast.publisher, 100)
    withdrawal = withdraw(fake, cast.publisher, 40)
    epoch = settlement.close_epoch(now=fake.now)
    for _ in range(3):
        fake.round(later=1)
    Withdrawal.objects.update(state=was)
    wallets.stop(token=wallets.stop_token(withdrawal.wallet), now=fake.now)
    fake.node.call_directly(fake.deployment.contract.veto(epoch=epoch.sequence))
    for _ in range(3):
        fake.round(later=1)
    assert (state(withdrawal), held(cast.publisher)) == ("confirmed", (60, 40, 0))
    epoch.refresh_from_db()
    vetoes.resume(epoch_id=epoch.pk, by=cast.staff, now=fake.now)
    assert settlement.close_epoch(now=fake.now) is None
    assert (state(withdrawal), held(cast.publisher)) == ("cancelled", (100, 0, 0))


def test_a_block_on_payouts_is_looked_at_again_within_the_hour(fake: World):
    ReconcileRun.objects.create(started_at=fake.now, finished_at=fake.now, outcome="difference", checks=[])
    assert not reconcile.is_due(now=fake.now + timedelta(minutes=59))
    assert reconcile.is_due(now=fake.now + timedelta(hours=1))


def test_a_payment_that_vanishes_is_waited_for_again(fake: World, cast):
    fund(fake, cast.publisher, 100)
    withdrawal = withdraw(fake, cast.publisher, 40)
    fake.settle()
    for _ in range(4):
        fake.round(later=1)
    assert state(withdrawal) == "paid"
    paid = ChainEvent.objects.get(name="Claimed")
    claims.unbook(paid, now=fake.now)
    assert (state(withdrawal), withdrawal.transaction_hash, withdrawal.paid_at) == ("claimable", "", None)
    assert held(cast.publisher) == (60, 0, 40)
