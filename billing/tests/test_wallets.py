"""Linking a payout address: proven, or entered and confirmed; one person each."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from eth_account import Account as Key
from eth_account.messages import encode_defunct

from billing.models import Wallet
from billing.services import wallets
from billing.services.wallets import AddressTaken
from billing.tests.settling import World, new_address
from interchain_site.core.errors import Invalid
from interchain_site.core.models import AuditEvent


def sign(key, text: str) -> str:
    return "0x" + bytes(key.sign_message(encode_defunct(text=text)).signature).hex()


def prove(key, person, now) -> Wallet:
    text = wallets.challenge(user=person)
    return wallets.link_signed(message=text, signature=sign(key, text), by=person, now=now)


def test_a_signature_links_the_address_that_made_it(fake: World, cast):
    key = Key.create()
    wallet = prove(key, cast.owner, fake.now)
    assert (wallet.address, wallet.proof, wallet.active) == (key.address, "signature", True)


def test_an_entered_address_is_kept_with_its_checksum(fake: World, cast):
    address = new_address()
    assert wallets.link_confirmed(address=f" {address.lower()} ", by=cast.owner, now=fake.now).address == address


@pytest.mark.parametrize(
    "address",
    ["", "0x", "hello", "0x" + "1" * 39, "0x" + "g" * 40, "1" * 40, "0x52908400098527886E0F7030069857D2E4169Ee7"],
)
def test_what_is_no_address_or_has_a_typing_error_is_refused(fake: World, cast, address):
    with pytest.raises(Invalid, match="not an Ethereum address"):
        wallets.link_confirmed(address=address, by=cast.owner, now=fake.now)


def test_addresses_nobody_can_spend_from_are_refused(fake: World, cast):
    for address in ("0x" + "0" * 40, fake.deployment.settlement, fake.deployment.intercoin):
        with pytest.raises(Invalid, match="would be lost"):
            wallets.link_confirmed(address=address, by=cast.owner, now=fake.now)


def test_a_change_keeps_the_former_wallet_and_is_audited(fake: World, cast):
    first, second = fake.link(cast.owner), fake.link(cast.owner)
    first.refresh_from_db()
    assert (first.active, second.active) == (False, True)
    event = AuditEvent.objects.filter(action="wallet_linked").latest("id")
    assert (event.by, event.data["before"], event.data["address"]) == (cast.owner, first.address, second.address)


def test_going_back_to_a_former_wallet_uses_its_row(fake: World, cast):
    first = fake.link(cast.owner)
    fake.link(cast.owner)
    assert fake.link(cast.owner, first.address).pk == first.pk
    assert Wallet.objects.filter(user=cast.owner, active=True).count() == 1


def test_entering_a_proven_address_again_keeps_it_proven(fake: World, cast):
    key = Key.create()
    prove(key, cast.owner, fake.now)
    assert fake.link(cast.owner, key.address).proof == "signature"


def test_one_address_one_person(fake: World, cast):
    address = fake.link(cast.owner).address
    with pytest.raises(AddressTaken):
        fake.link(cast.stranger, address)


def test_who_proves_an_address_gets_it_from_one_who_merely_entered_it(fake: World, cast):
    key = Key.create()
    fake.link(cast.stranger, key.address)
    assert prove(key, cast.owner, fake.now).user == cast.owner
    assert not Wallet.objects.filter(user=cast.stranger).exists()


def test_but_not_once_something_was_settled_to_it(fake: World, cast):
    key = Key.create()
    fake.link(cast.stranger, key.address)
    fake.earn(cast.stranger, 1)
    fake.settle()
    with pytest.raises(AddressTaken):
        prove(key, cast.owner, fake.now)


def test_nor_from_one_who_proved_it_as_well(fake: World, cast):
    key = Key.create()
    prove(key, cast.owner, fake.now)
    with pytest.raises(AddressTaken):
        prove(key, cast.stranger, fake.now)


def test_somebody_elses_challenge_proves_nothing(fake: World, cast):
    text = wallets.challenge(user=cast.owner)
    with pytest.raises(Invalid, match="not the one shown to you"):
        wallets.link_signed(message=text, signature=sign(Key.create(), text), by=cast.stranger, now=fake.now)


def test_an_old_challenge_proves_nothing(fake: World, cast):
    text = wallets.challenge(user=cast.owner)
    with time_machine.travel(fake.now + timedelta(minutes=16)), pytest.raises(Invalid, match="too old"):
        wallets.link_signed(message=text, signature=sign(Key.create(), text), by=cast.owner, now=fake.now)


def test_a_changed_text_proves_nothing(fake: World, cast):
    text = "I hereby sell my house.\n" + wallets.challenge(user=cast.owner)
    with pytest.raises(Invalid, match="not the one shown to you"):
        wallets.link_signed(message=text, signature=sign(Key.create(), text), by=cast.owner, now=fake.now)


@pytest.mark.parametrize("signature", ["", "0x", "nonsense", "0x" + "00" * 65, "0x" + "ff" * 65, "0x" + "11" * 64])
def test_what_is_no_signature_is_refused(fake: World, cast, signature):
    text = wallets.challenge(user=cast.owner)
    with pytest.raises(Invalid, match="not a signature"):
        wallets.link_signed(message=text, signature=signature, by=cast.owner, now=fake.now)
