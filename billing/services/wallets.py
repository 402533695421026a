"""Link a payout address to a person: proven with a signature, or entered and confirmed."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.core import signing
from django.db import IntegrityError, transaction

from billing.chain import deployments, keys
from billing.chain.types import ZERO_ADDRESS
from billing.models import Wallet, WalletProof
from interchain_site.core import audit
from interchain_site.core.errors import Conflict, Invalid
from interchain_site.core.models import User

CHALLENGE_SECONDS = 900
_signer = signing.TimestampSigner(salt="billing.wallets.challenge")


class AddressTaken(Conflict):
    code = "address_taken"
    message = "This address belongs to another account. Use one of your own; each account needs its own."


def read_address(text: str) -> str:
    """Return what a person typed as an EIP-55 address we can pay to.

    Raises:
        Invalid: it is no address, its checksum is wrong (a typing error), or nobody could ever spend from it.
    """
    address = keys.checksummed(text)
    if address is None:
        message = "This is not an Ethereum address. Copy it whole from your wallet: 0x and 40 digits."
        raise Invalid(message, fields={"address": message})
    recorded = deployments.recorded()
    ours = {recorded.intercoin, recorded.settlement} if recorded else set()
    if address == ZERO_ADDRESS or address in ours:
        message = "NTC sent to this address would be lost. Enter your own wallet's address."
        raise Invalid(message, fields={"address": message})
    return address


def challenge(*, user: User) -> str:
    """Return the text a person signs with their wallet; valid for a quarter of an hour, for this person only."""
    token = _signer.sign(str(user.pk))
    return f"Interchain: pay the earnings of {user.email} to this wallet.\nPortal: {settings.PORTAL_URL}\nCode: {token}"


def link_signed(*, message: str, signature: str, by: User, now: datetime) -> Wallet:
    """Link the address whose key signed the challenge.

    Raises:
        Invalid: the text is not a challenge of this person, too old, or the signature cannot be read.
        AddressTaken: it is another person's.
    """
    message = message.replace("\r\n", "\n").strip()
    token = message.rsplit("Code: ", 1)[-1]
    try:
        of = _signer.unsign(token, max_age=CHALLENGE_SECONDS)
    except signing.BadSignature:
        raise Invalid("This text is too old or was changed. Reload the page and sign the new one.") from None
    expected = (
        f"Interchain: pay the earnings of {by.email} to this wallet.\nPortal: {settings.PORTAL_URL}\nCode: {token}"
    )
    if of != str(by.pk) or message != expected:
        raise Invalid("This text is not the one shown to you. Reload the page and sign that one.")
    address = keys.signer_of(message, signature)
    if address is None:
        text = "This is not a signature. Sign the text with your wallet and paste all of the result."
        raise Invalid(text, fields={"signature": text})
    return _link(address=read_address(address), proof=WalletProof.SIGNATURE, by=by, now=now)


def link_confirmed(*, address: str, by: User, now: datetime) -> Wallet:
    """Link an address the person entered and confirmed on a second page.

    Raises:
        Invalid: see `read_address`.
        AddressTaken: it is another person's.
    """
    return _link(address=read_address(address), proof=WalletProof.CONFIRMED, by=by, now=now)


@transaction.atomic
def _link(*, address: str, proof: WalletProof, by: User, now: datetime) -> Wallet:
    User.objects.select_for_update().get(pk=by.pk)  # one change at a time for a person
    wallet = Wallet.objects.filter(address=address).first()
    if wallet is not None and wallet.user_id != by.pk:
        _take_over(wallet, proof=proof, by=by)
        wallet = None
    before = Wallet.objects.filter(user=by, active=True).first()
    if before is not None and before.address != address:
        Wallet.objects.filter(pk=before.pk).update(active=False)
    if wallet is None:
        wallet = _create(address=address, proof=proof, by=by, now=now)
    elif not wallet.active or (proof == WalletProof.SIGNATURE and wallet.proof != proof):
        # Entering a proven address again does not make it less proven.
        wallet.proof = proof if proof == WalletProof.SIGNATURE else wallet.proof
        wallet.active, wallet.linked_at = True, now
        wallet.save(update_fields=["proof", "active", "linked_at"])
    else:
        return wallet
    audit.record(
        "wallet_linked",
        subject=f"wallet:{wallet.pk}",
        by=by,
        address=address,
        proof=wallet.proof,
        before=before.address if before else "",
    )
    return wallet


def _take_over(wallet: Wallet, *, proof: WalletProof, by: User) -> None:
    """Free an address that somebody merely entered, for the person who proves to hold its key.

    Raises:
        AddressTaken: the other person proved it as well, or something was settled to it already.
    """
    if proof != WalletProof.SIGNATURE or wallet.proof == WalletProof.SIGNATURE or wallet.leaves.exists():
        raise AddressTaken
    audit.record("wallet_unlinked", subject=f"wallet:{wallet.pk}", by=by, address=wallet.address, was=wallet.user_id)
    wallet.delete()


def _create(*, address: str, proof: WalletProof, by: User, now: datetime) -> Wallet:
    try:
        with transaction.atomic():
            return Wallet.objects.create(
                user=by, address=address, proof=proof, created_at=now, linked_at=now, trusted_from=now
            )
    except IntegrityError:
        raise AddressTaken from None
