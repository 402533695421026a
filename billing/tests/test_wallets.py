"""Linking a payout address: proven, or entered and confirmed; one person each."""

from __future__ import annotations

from datetime import timedelta

import pytest
import requests
from eth_abi.abi import decode
from eth_account import Account as Key
from eth_account.messages import encode_defunct

from billing.chain import signatures
from billing.chain.errors import ChainRefused, ChainUnavailable
from billing.chain.signatures import WalletNotDeployed
from billing.models import Wallet
from billing.services import wallets
from billing.services.wallet_challenges import StaleMessage, WrongSignature
from billing.services.wallets import AddressTaken
from billing.tests.settling import World, new_address
from interchain_site.core.errors import Invalid
from interchain_site.core.models import AuditEvent


def sign(key, text: str) -> str:
    return "0x" + bytes(key.sign_message(encode_defunct(text=text)).signature).hex()


def no_node():
    raise ChainUnavailable


def asked(key, person, now) -> str:
    return wallets.challenge(user=person, address=key.address, now=now)


def link(text: str, signature: str, person, now) -> Wallet:
    return wallets.link_signed(message=text, signature=signature, by=person, now=now, connect=no_node)


def prove(key, person, now) -> Wallet:
    text = asked(key, person, now)
    return link(text, sign(key, text), person, now)


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
    key = Key.create()
    text = asked(key, cast.owner, fake.now)
    with pytest.raises(StaleMessage):
        link(text, sign(key, text), cast.stranger, fake.now)


def test_an_old_challenge_proves_nothing(fake: World, cast):
    key = Key.create()
    text = asked(key, cast.owner, fake.now)
    with pytest.raises(StaleMessage):
        link(text, sign(key, text), cast.owner, fake.now + timedelta(minutes=15))


def test_a_challenge_is_used_once(fake: World, cast):
    key = Key.create()
    text = asked(key, cast.owner, fake.now)
    link(text, sign(key, text), cast.owner, fake.now)
    with pytest.raises(StaleMessage):
        link(text, sign(key, text), cast.owner, fake.now)


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("localhost:8000 wants", "localhost.evil:8000 wants"),
        ("URI: http://localhost:8000", "URI: http://evil"),
        ("Chain ID: 31337", "Chain ID: 1"),
        ("Version: 1", "Version: 2"),
        ("Nonce: ", "Nonce: x"),
        ("Issued At: 2", "Issued At: 3"),
        ("Expiration Time: 2", "Expiration Time: 1"),
        ("Interchain", "Inter\nchain"),
        ("0x", "0X"),
    ],
)
def test_a_changed_text_proves_nothing_whoever_signs_it(fake: World, cast, part, other):
    key = Key.create()
    text = asked(key, cast.owner, fake.now)
    assert part in text
    changed = text.replace(part, other, 1)
    with pytest.raises(Invalid):
        link(changed, sign(key, changed), cast.owner, fake.now)
    assert not Wallet.objects.exists()


def test_another_keys_signature_proves_nothing(fake: World, cast):
    text = asked(Key.create(), cast.owner, fake.now)
    with pytest.raises(ChainUnavailable):  # it might be a contract's: only the node could tell
        link(text, sign(Key.create(), text), cast.owner, fake.now)
    fake.chain.has_code = lambda address: False
    with pytest.raises(WrongSignature):
        wallets.link_signed(
            message=text, signature=sign(Key.create(), text), by=cast.owner, now=fake.now, connect=lambda: fake.chain
        )


@pytest.mark.parametrize("signature", ["", "0x", "nonsense", "0x" + "00" * 65, "0x" + "ff" * 65, "0x" + "11" * 64])
def test_what_is_no_signature_is_refused(fake: World, cast, signature):
    text = asked(Key.create(), cast.owner, fake.now)
    fake.chain.has_code = lambda address: False
    with pytest.raises(WrongSignature):
        wallets.link_signed(message=text, signature=signature, by=cast.owner, now=fake.now, connect=lambda: fake.chain)


class ContractWallet:
    """A node on which every address is a contract that takes one signature (EIP-1271)."""

    def __init__(self, right: bytes) -> None:
        self.right = right

    def has_code(self, address: str) -> bool:
        return True

    def read(self, call, *, gas) -> bytes:
        assert gas == signatures.MOST_GAS  # whose contract it is, nobody knows: it may loop for ever
        _, signature = decode(["bytes32", "bytes"], call.data[4:])
        return (bytes.fromhex("1626ba7e") if signature == self.right else b"\xff" * 4) + bytes(28)


def test_a_contracts_wallet_is_asked_itself(fake: World, cast):
    address, node = new_address(), ContractWallet(b"by two owners of three")
    text = wallets.challenge(user=cast.owner, address=address, now=fake.now)

    def linked(signature: bytes) -> Wallet:
        return wallets.link_signed(
            message=text, signature="0x" + signature.hex(), by=cast.owner, now=fake.now, connect=lambda: node
        )

    with pytest.raises(WrongSignature):
        linked(b"by one owner of three")
    assert linked(node.right).address == address


@pytest.mark.anvil
def test_a_contract_that_loops_for_ever_costs_a_moment(real: World):
    address = new_address()
    loop = "0x5b600056"  # JUMPDEST, PUSH1 0, JUMP
    requests.post(
        real.node.url, json={"jsonrpc": "2.0", "id": 1, "method": "anvil_setCode", "params": [address, loop]}, timeout=5
    )
    asked = {"address": address, "message": "hello", "signature": "0x" + "11" * 70}
    with pytest.raises(ChainRefused, match=r"(?i)gas"):
        signatures.is_signed_by(**asked, connect=lambda: real.chain)


def test_a_contract_that_is_not_there_yet_is_told_what_to_do(fake: World, cast):
    text = wallets.challenge(user=cast.owner, address=new_address(), now=fake.now)
    with pytest.raises(WalletNotDeployed, match="Send any transaction"):
        link(text, "0x" + "00" * 64 + "6492" * 16, cast.owner, fake.now)
