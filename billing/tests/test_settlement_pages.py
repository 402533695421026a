"""The pages of settlement, and who may see what."""

from __future__ import annotations

import pytest
from django.urls import reverse
from eth_account import Account as Key
from eth_account.messages import encode_defunct

from billing.models import ChainTransaction, Claim, Epoch, Wallet
from billing.tests.settling import NTC, World, new_address


@pytest.fixture
def settled(fake: World, cast) -> World:
    fake.link(cast.owner)
    fake.earn(cast.owner, 5)
    fake.settle()
    return fake


@pytest.fixture
def owner_client(client, cast):
    client.force_login(cast.owner)
    return client


def test_anybody_sees_the_list_and_each_epoch(client, settled: World):
    page = client.get(reverse("settlements"))
    hash_ = ChainTransaction.objects.get(key__startswith="epoch:").hash
    assert page.status_code == 200
    assert b"5.00 NTC" in page.content
    assert hash_[:10].encode() in page.content
    detail = client.get(reverse("settlement_detail", args=[1]))
    assert hash_.encode() in detail.content
    assert b"Yours" not in detail.content


def test_the_owner_sees_their_share_and_a_stranger_does_not(client, cast, settled: World):
    client.force_login(cast.owner)
    assert b"Yours" in client.get(reverse("settlement_detail", args=[1])).content
    client.force_login(cast.stranger)
    page = client.get(reverse("settlement_detail", args=[1]))
    assert b"Yours" not in page.content
    assert cast.owner.wallets.get().address.encode() not in page.content


def test_there_is_a_page_before_anything_is_settled_or_deployed(client, db, settings, tmp_path):
    settings.ETHEREUM_DEPLOYMENTS_FILE = tmp_path / "none.json"
    assert b"not deployed yet" in client.get(reverse("settlements")).content


@pytest.mark.parametrize("sequence", [99, 10**30])
def test_an_unknown_epoch_is_not_found(client, settled: World, sequence):
    assert client.get(f"/settlements/{sequence}/").status_code == 404


def test_older_epochs_are_a_page_away(client, cast, fake: World):
    fake.link(cast.owner)
    for _ in range(3):
        fake.earn(cast.owner, 1)
        fake.settle()
    page = client.get(reverse("settlements") + "?before=3")
    assert b">2</a>" in page.content
    assert b">3</a>" not in page.content
    assert client.get(reverse("settlements") + "?before=nonsense").status_code == 200


def test_the_list_takes_the_same_number_of_queries_for_any_number_of_epochs(
    client, cast, fake: World, django_assert_num_queries
):
    fake.link(cast.owner)
    for _ in range(2):
        fake.earn(cast.owner, 1)
        fake.settle()
    client.get(reverse("settlements"))
    with django_assert_num_queries(2):
        client.get(reverse("settlements"))
    for _ in range(4):
        fake.earn(cast.owner, 1)
        fake.settle()
    with django_assert_num_queries(2):
        client.get(reverse("settlements"))


def test_the_wallet_wants_a_login(client, db):
    for name in ("wallet", "wallet_status", "wallet_enter", "wallet_sign"):
        assert client.post(reverse(name)).status_code in (302, 405)
    assert client.get(reverse("wallet")).url.startswith(reverse("account_login"))


def test_an_address_is_entered_confirmed_and_linked(owner_client, fake: World, cast):
    address = new_address()
    confirm = owner_client.post(reverse("wallet_enter"), {"address": address.lower()})
    assert address.encode() in confirm.content
    assert not Wallet.objects.exists()
    done = owner_client.post(reverse("wallet_enter"), {"address": address, "confirmed": "true"}, follow=True)
    assert address.encode() in done.content
    assert cast.owner.wallets.get().proof == "confirmed"


def test_a_wrong_address_is_said_beside_its_field(owner_client, fake: World):
    page = owner_client.post(reverse("wallet_enter"), {"address": "0x123"})
    assert page.status_code == 400
    assert b"not an Ethereum address" in page.content


def signed(key, text: str) -> str:
    return "0x" + bytes(key.sign_message(encode_defunct(text=text)).signature).hex()


def test_the_wallet_in_the_browser_signs_and_is_linked(owner_client, fake: World, cast):
    key = Key.create()
    asked = owner_client.post(reverse("wallet_connect"), {"address": key.address}).json()
    assert (asked["do"], asked["keep"]) == ("sign_text", "signature")
    fields = {"address": key.address, **asked["fields"], "signature": signed(key, asked["text"])}
    assert owner_client.post(reverse("wallet_connect"), fields).json() == {"do": "go", "url": reverse("wallet")}
    assert cast.owner.wallets.get().proof == "signature"


def test_a_text_signed_elsewhere_links_too(owner_client, fake: World, cast):
    key = Key.create()
    page = owner_client.post(reverse("wallet_text"), {"address": key.address})
    text = page.context["text"]
    assert "wants you to sign in with your Ethereum account" in text
    as_browsers_send = text.replace("\n", "\r\n")
    done = owner_client.post(
        reverse("wallet_sign"), {"message": as_browsers_send, "signature": signed(key, text)}, follow=True
    )
    assert key.address.encode() in done.content
    assert cast.owner.wallets.get().proof == "signature"


def test_a_bad_signature_is_said_beside_its_field(owner_client, fake: World, cast):
    text = owner_client.post(reverse("wallet_text"), {"address": new_address()}).context["text"]
    page = owner_client.post(reverse("wallet_sign"), {"message": text, "signature": "nonsense"})
    assert page.status_code == 400
    assert b"not this address" in page.content


def test_claiming_from_the_page(owner_client, cast, settled: World):
    wallet = cast.owner.wallets.get()
    assert b"Claim 5.00 NTC" in owner_client.get(reverse("wallet")).content
    page = owner_client.post(reverse("wallet_claim", args=[wallet.pk]), follow=True)
    assert b"on its way" in page.content
    for _ in range(3):
        settled.round(later=1)
    status = owner_client.get(reverse("wallet_status"))
    assert b"Paid" in status.content
    assert Claim.objects.get().transaction_hash.encode() in status.content
    assert settled.paid(wallet) == 5 * NTC


def test_a_second_click_claims_nothing_more(owner_client, cast, settled: World):
    wallet = cast.owner.wallets.get()
    for _ in range(2):
        owner_client.post(reverse("wallet_claim", args=[wallet.pk]))
    assert Claim.objects.count() == 1


def test_nothing_to_claim_is_a_readable_page(owner_client, cast, fake: World):
    wallet = fake.link(cast.owner)
    page = owner_client.post(reverse("wallet_claim", args=[wallet.pk]))
    assert page.status_code == 409
    assert b"nothing to claim yet" in page.content


def test_the_stranger_sees_and_claims_nothing_of_the_owners(client, cast, settled: World):
    client.force_login(cast.stranger)
    wallet = cast.owner.wallets.get()
    assert client.post(reverse("wallet_claim", args=[wallet.pk])).status_code == 404
    assert wallet.address.encode() not in client.get(reverse("wallet")).content
    assert not Claim.objects.exists()


def test_staff_read_everything_in_the_admin_and_change_nothing(client, cast, settled: World):
    client.force_login(cast.staff)
    for name in ("epoch", "usagestatement", "wallet", "claim", "chaintransaction"):
        assert client.get(reverse(f"admin:billing_{name}_changelist")).status_code == 200
        assert client.get(reverse(f"admin:billing_{name}_add")).status_code == 403
    stuck = client.get(reverse("admin:billing_chaintransaction_changelist") + "?stuck=yes")
    assert b"0 chain transactions" in stuck.content
    for row in (Epoch.objects.first(), ChainTransaction.objects.first()):
        assert client.get(reverse(f"admin:billing_{row._meta.model_name}_change", args=[row.pk])).status_code == 200
