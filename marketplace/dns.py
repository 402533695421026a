"""TXT records; callers never see the DNS library. Raises `Unanswered` when nobody can say."""

from __future__ import annotations

import ipaddress

import dns.exception
import dns.resolver
from django.conf import settings

SECONDS = 4.0


class Unanswered(Exception):
    """No name server answered: the record may be there or not."""


def texts(name: str) -> list[str]:
    """Return the TXT records of a name; none when there are none.

    Raises:
        Unanswered: nobody can say.
    """
    try:
        answer = _resolver().resolve(name, "TXT", search=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    except (dns.exception.DNSException, OSError) as error:
        raise Unanswered(str(error)) from error
    return [b"".join(record.strings).decode("utf-8", "replace") for record in answer]


def _resolver() -> dns.resolver.Resolver:
    resolver = dns.resolver.Resolver(configure=not settings.DNS_SERVERS)
    if settings.DNS_SERVERS:
        resolver.nameservers = [_server(text) for text in settings.DNS_SERVERS]
    resolver.lifetime = SECONDS
    return resolver


def _server(text: str) -> dns.nameserver.Do53Nameserver:
    try:
        return dns.nameserver.Do53Nameserver(str(ipaddress.ip_address(text)))
    except ValueError:
        host, _, port = text.rpartition(":")
        return dns.nameserver.Do53Nameserver(host.strip("[]"), int(port))
