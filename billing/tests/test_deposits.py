"""NTC deposited on the chain: for a person, for nobody known, undone by a deep reorganisation; and from a wallet in the browser."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse
from eth_account import Account as Key

from billing.chain.keys import DEVELOPMENT_MNEMONIC
from billing.chain.permits import BadPermit
from billing.chain.types import Call
from billing.models import ChainEvent, SentDeposit, UnassignedDeposit
from billing.services import accounts, chain_accounts, deposit_calls, deposits, ledger
from billing.services.deposit_calls import Wish
from billing.signals import balance_credited
from billing.tests.settling import NTC, World, balance
from billing.tests.withdrawing import fund, withdraw
from billing.wallet_queries import deposits_of
from interchain_site.core.errors import Conflict, Invalid
from interchain_site.core.models import StaffAlert

NOBODYS = "0x" + "ab" * 32


def event(world: World, reference: str, ntc: int, *, number: int = 1) -> ChainEvent:
    """What the chain worker hands over when a deposit is final."""
    return ChainEvent.objects.create(
        contract="Settlement",
        address=world.deployment.settlement,
        name="Deposited",
        values={"account": reference, "payer": "0x" + "1" * 40, "amount": str(ntc * NTC)},
        block_number=number,
        block_index=0,
        block_hash="0x" + "b" * 64,
        block_time=world.now,
        transaction_hash="0x" + f"{number:064x}",
        log_index=0,
        seen_at=world.now,
    )


def test_a_person_is_credited_and_the_apps_are_told(fake: World, cast, django_capture_on_commit_callbacks):
    told: list[int] = []
    balance_credited.connect(lambda user_id, **_: told.append(user_id), weak=False, dispatch_uid="test")
    with django_capture_on_commit_callbacks(execute=True):
        deposits.book(event(fake, chain_accounts.reference_of(user=cast.publisher), 7), now=fake.now)
    balance_credited.disconnect(dispatch_uid="test")
    assert (balance("available", cast.publisher), told) == (7 * NTC, [cast.publisher.pk])


def test_what_somebody_owes_is_repaid_first(fake: World, cast):
    lines = (
        ledger.Line(accounts.user_account(cast.publisher.pk, accounts.SHORTFALL), -3 * NTC),
        ledger.Line(accounts.platform_account("commission"), 3 * NTC),
    )
    ledger.post(postings=[ledger.Posting("debt", "test", lines, fake.now)], now=fake.now)
    deposits.book(event(fake, chain_accounts.reference_of(user=cast.publisher), 7), now=fake.now)
    assert (balance("available", cast.publisher), balance("shortfall", cast.publisher)) == (4 * NTC, 0)


def test_nobodys_deposit_waits_for_staff_who_give_it_once(fake: World, cast):
    deposits.book(event(fake, NOBODYS, 7), now=fake.now)
    assert balance("unassigned_deposits") == 7 * NTC
    assert StaffAlert.objects.standing().filter(code=deposits.ALERT).exists()
    waiting = UnassignedDeposit.objects.get()
    deposits.assign(deposit_id=waiting.pk, user=cast.publisher, by=cast.staff, now=fake.now)
    assert (balance("unassigned_deposits"), balance("available", cast.publisher)) == (0, 7 * NTC)
    assert not StaffAlert.objects.standing().filter(code=deposits.ALERT).exists()
    with pytest.raises(Conflict):
        deposits.assign(deposit_id=waiting.pk, user=cast.stranger, by=cast.staff, now=fake.now)


@pytest.mark.parametrize("given", [False, True])
def test_nobodys_deposit_that_vanishes_is_taken_from_whoever_has_it(fake: World, cast, given):
    seen = event(fake, NOBODYS, 7)
    before = balance("escrow")
    deposits.book(seen, now=fake.now)
    if given:
        waiting = UnassignedDeposit.objects.get()
        deposits.assign(deposit_id=waiting.pk, user=cast.publisher, by=cast.staff, now=fake.now)
    deposits.unbook(seen, now=fake.now)
    left = (balance("unassigned_deposits"), balance("available", cast.publisher), balance("escrow"))
    assert left == (0, 0, before)
    assert not UnassignedDeposit.objects.exists()
    assert StaffAlert.objects.standing().filter(code="deposit_vanished").exists()


def test_what_was_spent_before_it_vanished_becomes_a_debt(fake: World, cast):
    seen = event(fake, chain_accounts.reference_of(user=cast.publisher), 7)
    deposits.book(seen, now=fake.now)
    fund(fake, cast.publisher, -5)
    deposits.unbook(seen, now=fake.now)
    assert (balance("available", cast.publisher), balance("shortfall", cast.publisher)) == (0, -5 * NTC)


def test_it_can_be_credited_again_after_it_vanished(fake: World, cast):
    seen = event(fake, chain_accounts.reference_of(user=cast.publisher), 7)
    for undone in range(3):
        seen.unbooked = undone
        deposits.book(seen, now=fake.now)
        deposits.unbook(seen, now=fake.now)
    assert balance("available", cast.publisher) == 0


def test_what_the_desk_sold_before_its_deposit_vanished_is_not_sold_again(fake: World, cast):
    seen = event(fake, chain_accounts.desk_reference(), 10)
    stock = balance("desk_inventory")
    deposits.book(seen, now=fake.now)
    fund(fake, cast.publisher, stock // NTC + 4)
    deposits.unbook(seen, now=fake.now)
    assert (balance("desk_inventory"), balance("shortfall")) == (0, -4 * NTC)
    ChainEvent.objects.filter(pk=seen.pk).update(unbooked=1)
    seen.refresh_from_db()
    deposits.book(seen, now=fake.now)
    assert (balance("desk_inventory"), balance("shortfall")) == (6 * NTC, 0)


def test_the_page_shows_what_is_sent_seen_and_credited(fake: World, cast, client):
    reference = chain_accounts.reference_of(user=cast.publisher)
    seen = event(fake, reference, 7)
    SentDeposit.objects.create(user=cast.publisher, transaction_hash=seen.transaction_hash, units=NTC, sent_at=fake.now)
    SentDeposit.objects.create(user=cast.publisher, transaction_hash="0x" + "c" * 64, units=NTC, sent_at=fake.now)
    rows = {row.state: row for row in deposits_of(cast.publisher.pk, reference=reference)}
    assert set(rows) == {"confirming", "sent"}
    client.force_login(cast.publisher)
    page = client.get(reverse("deposit")).content.decode()
    assert reference in page
    assert fake.deployment.settlement in page
    assert "of 1 confirmations" in page
    client.force_login(cast.stranger)
    assert reference not in client.get(reverse("deposit")).content.decode()


@pytest.mark.parametrize("hash_", ["nonsense", "0x12", "0x" + "g" * 64])
def test_only_a_hash_is_remembered(fake: World, cast, hash_):
    wish = Wish(NTC, "0x" + "1" * 40)
    with pytest.raises(Invalid):
        deposit_calls.next_step(wish=wish, answers={"hash": hash_}, user=cast.publisher, chain=fake.chain, now=fake.now)


# --- with a real wallet on a real node ------------------------------------------------------------------------------

KEY = 7


@pytest.fixture
def wallet(real: World, cast) -> Any:
    """A person's wallet that holds 40 NTC, withdrawn from their balance."""
    Key.enable_unaudited_hdwallet_features()
    key = Key.from_mnemonic(DEVELOPMENT_MNEMONIC, account_path=f"m/44'/60'/0'/0/{KEY}")
    fund(real, cast.publisher, 100)
    withdraw(real, cast.publisher, 40, key.address)
    real.settle()
    for _ in range(3):
        assert real.round(later=1) == []
    assert real.deployment.token.balance(real.chain, key.address) == 40 * NTC
    return key


def send(world: World, step: dict[str, Any]) -> str:
    """Send what the page's wallet was told to send; returns its hash."""
    assert step["do"] == "send"
    call = Call(step["call"]["to"], bytes.fromhex(step["call"]["data"][2:]))
    return str(world.node.ask("eth_sendTransaction", {"from": _address(), "to": call.to, "data": step["call"]["data"]}))


def _address() -> str:
    return str(Key.from_mnemonic(DEVELOPMENT_MNEMONIC, account_path=f"m/44'/60'/0'/0/{KEY}").address)


def signed(key: Any, document: dict[str, Any]) -> str:
    text = json.loads(json.dumps(document))
    for name in ("value", "nonce", "deadline"):
        text["message"][name] = int(text["message"][name])
    return "0x" + key.sign_typed_data(full_message=text).signature.hex()


@pytest.mark.anvil
def test_a_permit_and_one_transaction_are_credited_after_enough_confirmations(real: World, cast, wallet, settings):
    settings.ETHEREUM_CONFIRMATIONS = 3
    wish = Wish(15 * NTC, wallet.address)

    def step(**answers: str) -> dict[str, Any]:
        return deposit_calls.next_step(wish=wish, answers=answers, user=cast.publisher, chain=real.chain, now=real.now)

    asked = step()
    assert asked["do"] == "sign_typed_data"
    given = {"permit": signed(wallet, asked["document"]), "deadline": asked["fields"]["deadline"]}
    sent = send(real, step(**given))
    assert step(**given, hash=sent) == {"do": "go", "url": reverse("deposit")}
    before = balance("available", cast.publisher)
    real.round(later=1)
    [row, *_] = deposits_of(cast.publisher.pk, reference=chain_accounts.reference_of(user=cast.publisher))
    assert (row.state, row.needed, balance("available", cast.publisher)) == ("confirming", 3, before)
    real.node.mine(3)
    real.round(later=1)
    assert balance("available", cast.publisher) == before + 15 * NTC
    assert real.deployment.token.balance(real.chain, wallet.address) == 25 * NTC


@pytest.mark.anvil
def test_another_amount_than_was_signed_is_refused_before_anything_is_sent(real: World, cast, wallet):
    asked = deposit_calls.next_step(
        wish=Wish(15 * NTC, wallet.address), answers={}, user=cast.publisher, chain=real.chain, now=real.now
    )
    given = {"permit": signed(wallet, asked["document"]), "deadline": asked["fields"]["deadline"]}
    with pytest.raises(BadPermit):
        deposit_calls.next_step(
            wish=Wish(16 * NTC, wallet.address), answers=given, user=cast.publisher, chain=real.chain, now=real.now
        )


@pytest.mark.anvil
def test_approving_first_works_too(real: World, cast, wallet):
    wish = Wish(15 * NTC, wallet.address, approve=True)

    def step(**answers: str) -> dict[str, Any]:
        return deposit_calls.next_step(wish=wish, answers=answers, user=cast.publisher, chain=real.chain, now=real.now)

    approved = step()
    assert (approved["keep"], approved["wait"]) == ("approval", True)
    hash_ = send(real, approved)
    assert step(approval=hash_)["keep"] == "hash"
    send(real, step(approval=hash_))
    before = balance("available", cast.publisher)
    real.now += timedelta(seconds=1)
    real.node.mine(2)
    real.round(later=1)
    assert balance("available", cast.publisher) == before + 15 * NTC


@pytest.mark.anvil
def test_more_than_the_wallet_holds_is_refused_in_words(real: World, cast, wallet):
    with pytest.raises(Invalid, match=r"holds 40.00 NTC"):
        deposit_calls.next_step(
            wish=Wish(41 * NTC, wallet.address), answers={}, user=cast.publisher, chain=real.chain, now=real.now
        )
