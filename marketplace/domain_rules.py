"""Which domains may be an app's own."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from urllib.parse import urlsplit

from django.conf import settings
from publicsuffixlist import PublicSuffixList

from interchain_site.core.errors import Invalid

LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)\Z")
LONGEST = 230  # leaves room for _interchain-challenge.


def checked(host: str) -> str:
    """Return a domain as it is kept: small letters, as in DNS.

    Raises:
        Invalid: it cannot be an app's own; the message says why.
    """
    host = host.strip().lower().rstrip(".")
    if "*" in host:
        raise _refused("Name each domain by itself; one for all below it (*) cannot be proven.")
    if "/" in host or ":" in host:
        raise _refused("Give the name alone, such as www.example.com, without https:// or a port.")
    try:
        host = host.encode("idna").decode("ascii")
    except UnicodeError:
        raise _refused("This is not a domain name.") from None
    if _is_address(host) or len(host) > LONGEST or not all(LABEL.match(label) for label in host.split(".")):
        raise _refused("This is not a domain name, such as www.example.com.")
    ours = (settings.GATEWAY_DOMAIN.lower(), urlsplit(settings.PORTAL_URL).hostname or "")
    if any(host == our or host.endswith(f".{our}") for our in ours):
        raise _refused("This domain is Interchain's own.")
    if "." not in host or _suffixes().privatesuffix(host) is None:
        raise _refused("Everybody registers names below this one; it cannot belong to one app.")
    return host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=1)
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


def _refused(message: str) -> Invalid:
    return Invalid(message, fields={"host": message})
