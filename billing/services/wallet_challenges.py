"""Prove an address with a signature: a message by EIP-4361, with a nonce of ours, for one person, once."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.urls import reverse

from billing.chain import signatures, siwe
from billing.chain.types import Chain
from billing.models import WalletChallenge
from interchain_site.core.errors import Invalid
from interchain_site.core.models import User

VALID = timedelta(minutes=15)
CLOCK_SKEW = timedelta(minutes=1)
NONCE_LETTERS = 17  # of 62 kinds: 101 bits
KEPT = timedelta(days=1)


class StaleMessage(Invalid):
    code = "stale_message"
    message = "This text is too old, was used before, or was changed. Ask for a new one and sign that."


class WrongSignature(Invalid):
    code = "wrong_signature"
    message = "This is not this address's signature of the text. Sign it with the wallet whose address you gave."


def issue(*, user: User, address: str, now: datetime) -> str:
    """Return the text this person signs with the wallet at `address` (EIP-55 form), within a quarter of an hour."""
    WalletChallenge.objects.filter(user=user, expires_at__lt=now - KEPT).delete()
    nonce = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(NONCE_LETTERS))
    expires_at = now + VALID
    WalletChallenge.objects.create(user=user, nonce=nonce, issued_at=now, expires_at=expires_at)
    whose = user.email if siwe.allowed_in_statement(user.email) else "your account"
    return siwe.compose(
        siwe.Message(
            domain=urlsplit(settings.PORTAL_URL).netloc,
            address=address,
            statement=f"Link this wallet to {whose} at Interchain. Earnings are paid to it. This costs nothing.",
            uri=_uri(),
            chain_id=settings.ETHEREUM_CHAIN_ID,
            nonce=nonce,
            issued_at=now,
            expiration_time=expires_at,
        )
    )


def verify(*, message: str, signature: str, by: User, now: datetime, connect: Callable[[], Chain]) -> str:
    """Return the address that signed a message of ours, and use its nonce up. Never call it inside a transaction.

    Args:
        connect: gives the node that is asked when a contract's wallet signed (EIP-1271).

    Raises:
        StaleMessage: not of the standard's form, not for this site, chain or person, too old, or used before.
        WrongSignature: another key's.
        WalletNotDeployed, ChainUnavailable: a contract's wallet that cannot be asked.
    """
    said = siwe.parse(message.replace("\r\n", "\n").strip("\n"))
    if said is None or not _is_ours(said, now):
        raise StaleMessage
    known = WalletChallenge.objects.filter(user=by, nonce=said.nonce, used_at=None, expires_at__gt=now).first()
    if known is None or said.issued_at < known.issued_at - CLOCK_SKEW:
        raise StaleMessage
    text = message.replace("\r\n", "\n").strip("\n")
    if not signatures.is_signed_by(address=said.address, message=text, signature=signature, connect=connect):
        raise WrongSignature(fields={"signature": WrongSignature.message})
    if not WalletChallenge.objects.filter(pk=known.pk, used_at=None).update(used_at=now):
        raise StaleMessage
    return said.address


def _is_ours(said: siwe.Message, now: datetime) -> bool:
    """Return whether a message is for this site and chain, and for now."""
    site = urlsplit(settings.PORTAL_URL)
    return (
        said.domain == site.netloc
        and said.scheme in ("", site.scheme)
        and said.uri == _uri()
        and said.chain_id == settings.ETHEREUM_CHAIN_ID
        and said.issued_at <= now + CLOCK_SKEW
        and (said.expiration_time is None or now < said.expiration_time)
        and (said.not_before is None or said.not_before <= now)
    )


def _uri() -> str:
    return settings.PORTAL_URL + reverse("wallet")
