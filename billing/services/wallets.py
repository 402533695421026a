"""Link a payout address to a person: proven with a signature (EIP-4361), or entered and confirmed.

An address that is new to an account is a common way to steal what is on it. So the person is told by e-mail, with a way to
stop it; an active wallet is replaced, and a withdrawal to a new address leaves, only after `ADDRESS_HOLD_SECONDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta

from django.conf import settings
from django.core import signing
from django.db import IntegrityError, transaction

from billing.chain import deployments, keys
from billing.chain.types import ZERO_ADDRESS, Chain
from billing.models import Wallet, WalletProof
from billing.services import wallet_challenges, withdrawals
from interchain_site.core import audit
from interchain_site.core.errors import Conflict, Invalid, NotFound
from interchain_site.core.models import User

_stop_signer = signing.TimestampSigner(salt="billing.wallets.stop")


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
    if address == ZERO_ADDRESS or (recorded is not None and address in asdict(recorded).values()):
        message = "NTC sent to this address would be lost. Enter your own wallet's address."
        raise Invalid(message, fields={"address": message})
    return address


def challenge(*, user: User, address: str, now: datetime) -> str:
    """Return the text a person signs with the wallet at an address they gave.

    Raises:
        Invalid: see `read_address`.
    """
    return wallet_challenges.issue(user=user, address=read_address(address), now=now)


def link_signed(*, message: str, signature: str, by: User, now: datetime, connect: Callable[[], Chain]) -> Wallet:
    """Link the address that signed the challenge.

    Raises:
        Invalid: the text is not a challenge of this person, too old, used before, or another key signed it.
        AddressTaken: it is another person's.
        ChainUnavailable, WalletNotDeployed: a contract's wallet that cannot be asked now.
    """
    address = wallet_challenges.verify(message=message, signature=signature, by=by, now=now, connect=connect)
    return _link(address=read_address(address), proof=WalletProof.SIGNATURE, by=by, now=now)


def link_confirmed(*, address: str, by: User, now: datetime) -> Wallet:
    """Link an address the person entered and confirmed on a second page.

    Raises:
        Invalid: see `read_address`.
        AddressTaken: it is another person's.
    """
    return _link(address=read_address(address), proof=WalletProof.CONFIRMED, by=by, now=now)


@transaction.atomic
def remember(*, address: str, by: User, now: datetime) -> Wallet:
    """Return a person's row for an address they want to withdraw to, without paying earnings to it.

    Raises:
        Invalid: see `read_address`.
        AddressTaken: it is another person's.
    """
    User.objects.select_for_update().get(pk=by.pk)
    wallet, new = _row(address=read_address(address), proof=WalletProof.CONFIRMED, by=by, now=now)
    if wallet.stopped_at is not None:
        _restart(wallet, now)
    elif not new:
        return wallet
    audit.record("address_entered", subject=f"wallet:{wallet.pk}", by=by, address=wallet.address)
    return wallet


@transaction.atomic
def activate_due(*, now: datetime) -> int:
    """Let the wallets whose waiting time is over replace the active ones; returns how many."""
    done = 0
    for user_id in list(Wallet.objects.filter(active_from__lte=now).values_list("user_id", flat=True)):
        User.objects.select_for_update().get(pk=user_id)
        wallet = Wallet.objects.filter(user_id=user_id, active_from__lte=now).first()
        if wallet is not None:
            _activate(wallet, now)
            done += 1
    return done


def stop_token(wallet: Wallet) -> str:
    """Return what the link in the e-mail about an address carries; it works until the address is linked anew."""
    return _stop_signer.sign(f"{wallet.pk}:{int(wallet.linked_at.timestamp())}")


def read_stop_token(token: str) -> Wallet:
    """Return the wallet a link from our e-mail is about.

    Raises:
        NotFound: not a link of ours, or the address was entered again since.
    """
    try:
        pk, _, linked_at = _stop_signer.unsign(token).partition(":")
    except signing.BadSignature:
        raise NotFound("This link is not one of ours. Open it from the e-mail again.") from None
    wallet = Wallet.objects.select_related("user").filter(pk=int(pk)).first()
    if wallet is None or int(wallet.linked_at.timestamp()) != int(linked_at):
        raise NotFound("This link is about an earlier change. Look for our newest e-mail.")
    return wallet


@transaction.atomic
def stop(*, token: str, now: datetime) -> Wallet:
    """Let nothing more leave to an address; withdrawals to it that are in no epoch yet are cancelled.

    The link in the e-mail is proof enough: whoever reads the person's mail may stop money, not move it.

    Raises:
        NotFound: see `read_stop_token`.
    """
    wallet = read_stop_token(token)
    User.objects.select_for_update().get(pk=wallet.user_id)
    wallet = Wallet.objects.select_for_update().get(pk=wallet.pk)
    if wallet.stopped_at is None:
        wallet.active, wallet.active_from, wallet.stopped_at = False, None, now
        wallet.save(update_fields=["active", "active_from", "stopped_at"])
        withdrawals.cancel_all_to(wallet=wallet, reason="You stopped this address.", now=now)
        audit.record("wallet_stopped", subject=f"wallet:{wallet.pk}", actor="e-mail link", address=wallet.address)
    return wallet


@transaction.atomic
def _link(*, address: str, proof: WalletProof, by: User, now: datetime) -> Wallet:
    User.objects.select_for_update().get(pk=by.pk)  # one change at a time for a person
    wallet, _ = _row(address=address, proof=proof, by=by, now=now)
    # Entering a proven address again does not make it less proven.
    proven_now = proof == WalletProof.SIGNATURE and wallet.proof != proof
    before = Wallet.objects.filter(user=by, active=True).first()
    Wallet.objects.filter(user=by, active_from__isnull=False).exclude(pk=wallet.pk).update(active_from=None)
    if wallet.active or (wallet.active_from is not None and wallet.stopped_at is None):
        if proven_now:
            Wallet.objects.filter(pk=wallet.pk).update(proof=proof)
            wallet.proof = proof
        return wallet
    waits = settings.ADDRESS_HOLD_SECONDS > 0 and (before is not None or wallet.stopped_at is not None)
    if wallet.stopped_at is not None:
        _restart(wallet, now)
    wallet.proof = proof if proven_now else wallet.proof
    wallet.linked_at, wallet.told_at = now, None
    wallet.active_from = now + _hold() if waits else None
    wallet.save(update_fields=["proof", "linked_at", "told_at", "active_from"])
    if not waits:
        _activate(wallet, now)
    audit.record(
        "wallet_linked",
        subject=f"wallet:{wallet.pk}",
        by=by,
        address=address,
        proof=wallet.proof,
        before=before.address if before else "",
        active_from=wallet.active_from.isoformat() if wallet.active_from else "",
    )
    return wallet


def _activate(wallet: Wallet, now: datetime) -> None:
    Wallet.objects.filter(user_id=wallet.user_id, active=True).update(active=False)
    waited = wallet.active_from is not None
    wallet.active, wallet.active_from = True, None
    wallet.save(update_fields=["active", "active_from"])
    if waited:
        audit.record("wallet_activated", subject=f"wallet:{wallet.pk}", address=wallet.address)


def _restart(wallet: Wallet, now: datetime) -> None:
    """Begin anew with an address that was stopped: it is new again."""
    wallet.stopped_at, wallet.told_at = None, None
    wallet.linked_at, wallet.trusted_from = now, now + _hold()
    wallet.save(update_fields=["stopped_at", "told_at", "linked_at", "trusted_from"])


def _row(*, address: str, proof: WalletProof, by: User, now: datetime) -> tuple[Wallet, bool]:
    """Return the person's row for an address, and whether it is new to them.

    Raises:
        AddressTaken: it is another person's.
    """
    wallet = Wallet.objects.select_for_update().filter(address=address).first()
    if wallet is None:
        return _create(address=address, proof=proof, by=by, now=now), True
    if wallet.user_id == by.pk:
        return wallet, False
    _take_over(wallet, proof=proof, by=by, now=now)
    return wallet, True


def _take_over(wallet: Wallet, *, proof: WalletProof, by: User, now: datetime) -> None:
    """Give an address that somebody merely entered to the person who proves to hold its key.

    Raises:
        AddressTaken: the other person proved it as well, or something was settled to it already.
    """
    if proof != WalletProof.SIGNATURE or wallet.proof == WalletProof.SIGNATURE or wallet.leaves.exists():
        raise AddressTaken
    withdrawals.cancel_all_to(wallet=wallet, reason="Somebody else proved to hold this address's key.", now=now)
    audit.record("wallet_unlinked", subject=f"wallet:{wallet.pk}", by=by, address=wallet.address, was=wallet.user_id)
    wallet.user, wallet.proof, wallet.active, wallet.active_from, wallet.stopped_at = by, proof, False, None, None
    wallet.created_at, wallet.linked_at, wallet.trusted_from, wallet.told_at = now, now, now + _hold(), None
    wallet.save()


def _create(*, address: str, proof: WalletProof, by: User, now: datetime) -> Wallet:
    try:
        with transaction.atomic():
            return Wallet.objects.create(
                user=by,
                address=address,
                proof=proof,
                active=False,
                created_at=now,
                linked_at=now,
                trusted_from=now + _hold(),
            )
    except IntegrityError:
        raise AddressTaken from None


def _hold() -> timedelta:
    return timedelta(seconds=settings.ADDRESS_HOLD_SECONDS)
