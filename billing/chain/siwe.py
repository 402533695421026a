"""Sign-In with Ethereum (EIP-4361): write the message a wallet signs, and read one by the standard's exact grammar.

Nothing is guessed: a message that is not what the grammar (ABNF of EIP-4361, RFC 3986, RFC 3339) allows is refused, because
what a person saw in their wallet must be what is checked here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from billing.chain import keys

VERSION = "1"
LONGEST = 2_000
NONCE_LEAST = 8

_RESERVED = r":/?#\[\]@!$&'()*+,;="
_UNRESERVED = r"A-Za-z0-9\-._~"
_PERCENT = r"%[0-9A-Fa-f]{2}"
_SUB_DELIMS = r"!$&'()*+,;="
_PCHAR = rf"(?:[{_UNRESERVED}{_SUB_DELIMS}:@]|{_PERCENT})"
_AUTHORITY = rf"(?:[{_UNRESERVED}{_SUB_DELIMS}:@\[\]]|{_PERCENT})+"
_SCHEME = r"[A-Za-z][A-Za-z0-9+\-.]*"
_URI = rf"{_SCHEME}:(?:[{_UNRESERVED}{_RESERVED}]|{_PERCENT})*"
_DATE_TIME = (
    r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])[Tt](?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)"
    r"(?:\.\d+)?(?:[Zz]|[+\-](?:[01]\d|2[0-3]):[0-5]\d)"
)
# \A and \Z, never $: that also matches before a last line break.
MESSAGE = re.compile(
    rf"\A(?:(?P<scheme>{_SCHEME})://)?(?P<domain>{_AUTHORITY}) wants you to sign in with your Ethereum account:\n"
    r"(?P<address>0x[0-9A-Fa-f]{40})\n"
    r"\n"
    rf"(?:(?P<statement>[{_RESERVED}{_UNRESERVED} ]+)\n)?"
    r"\n"
    rf"URI: (?P<uri>{_URI})\n"
    r"Version: (?P<version>1)\n"
    r"Chain ID: (?P<chain_id>[0-9]{1,18})\n"
    rf"Nonce: (?P<nonce>[A-Za-z0-9]{{{NONCE_LEAST},}})\n"
    rf"Issued At: (?P<issued_at>{_DATE_TIME})"
    rf"(?:\nExpiration Time: (?P<expiration_time>{_DATE_TIME}))?"
    rf"(?:\nNot Before: (?P<not_before>{_DATE_TIME}))?"
    rf"(?:\nRequest ID: (?P<request_id>{_PCHAR}*))?"
    rf"(?:\nResources:(?P<resources>(?:\n- {_URI})*))?\Z"
)
_STATEMENT = re.compile(rf"[{_RESERVED}{_UNRESERVED} ]+")


@dataclass(frozen=True)
class Message:
    """What a wallet signed. Times are aware."""

    domain: str
    address: str
    statement: str
    uri: str
    chain_id: int
    nonce: str
    issued_at: datetime
    expiration_time: datetime | None = None
    not_before: datetime | None = None
    scheme: str = ""
    request_id: str | None = None
    resources: tuple[str, ...] = ()


def compose(message: Message) -> str:
    """Return the text to sign.

    Raises:
        ValueError: a part has characters the grammar does not allow there.
    """
    lines = [
        f"{f'{message.scheme}://' if message.scheme else ''}{message.domain} wants you to sign in with your Ethereum "
        "account:",
        message.address,
        "",
        *([message.statement] if message.statement else []),
        "",
        f"URI: {message.uri}",
        f"Version: {VERSION}",
        f"Chain ID: {message.chain_id}",
        f"Nonce: {message.nonce}",
        f"Issued At: {_written(message.issued_at)}",
    ]
    if message.expiration_time is not None:
        lines.append(f"Expiration Time: {_written(message.expiration_time)}")
    if message.not_before is not None:
        lines.append(f"Not Before: {_written(message.not_before)}")
    if message.request_id is not None:
        lines.append(f"Request ID: {message.request_id}")
    if message.resources:
        lines += ["Resources:", *(f"- {uri}" for uri in message.resources)]
    text = "\n".join(lines)
    if parse(text) is None:
        raise ValueError("A part of this message has characters that EIP-4361 does not allow there.")
    return text


def parse(text: str) -> Message | None:
    """Return what a message says, or None when it is not exactly of the standard's form.

    An address that is not in EIP-55 form is refused, as the standard wants it.
    """
    found = MESSAGE.match(text) if len(text) <= LONGEST else None
    if found is None or keys.checksummed(found["address"]) != found["address"]:
        return None
    try:
        times = {name: _read(found[name]) for name in ("issued_at", "expiration_time", "not_before")}
    except ValueError:  # such as 30 February
        return None
    issued_at = times["issued_at"]
    if issued_at is None:
        return None
    resources = found["resources"] or ""
    return Message(
        domain=found["domain"],
        address=found["address"],
        statement=found["statement"] or "",
        uri=found["uri"],
        chain_id=int(found["chain_id"]),
        nonce=found["nonce"],
        issued_at=issued_at,
        expiration_time=times["expiration_time"],
        not_before=times["not_before"],
        scheme=found["scheme"] or "",
        request_id=found["request_id"],
        resources=tuple(line.removeprefix("- ") for line in resources.split("\n")[1:]),
    )


def allowed_in_statement(text: str) -> bool:
    """Return whether the grammar allows a text within a statement."""
    return _STATEMENT.fullmatch(text) is not None


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _read(text: str | None) -> datetime | None:
    if text is None:
        return None
    text = text.upper().replace(":60", ":59", 1) if ":60" in text else text.upper()
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
