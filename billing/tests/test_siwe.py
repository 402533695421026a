"""EIP-4361 messages: what is written can be read back, and nothing else can."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from eth_utils.address import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from billing.chain import siwe
from billing.chain.siwe import Message

ADDRESS = "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2"
# The standard's own first example, with an expiration time.
EXAMPLE = """example.com wants you to sign in with your Ethereum account:
0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2

I accept the ExampleOrg Terms of Service: https://example.com/tos

URI: https://example.com/login
Version: 1
Chain ID: 1
Nonce: 32891756
Issued At: 2021-09-30T16:25:24Z
Expiration Time: 2021-10-01T16:25:24.500+02:00
Resources:
- ipfs://bafybeiemxf5abjwjbikoz4mc3a3dla6ual3jsgpdr4cjr3oz3evfyavhwq/
- https://example.com/my-web2-claim.json"""
STATEMENT = st.text("abcXYZ019 :/?#[]@!$&'()*+,;=-._~", min_size=1, max_size=80)
MOMENTS = st.integers(946_684_800, 4_102_444_800).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


def test_the_standards_example_is_read():
    found = siwe.parse(EXAMPLE)
    assert found is not None
    assert (found.domain, found.address, found.chain_id, found.nonce) == ("example.com", ADDRESS, 1, "32891756")
    assert found.expiration_time == datetime(2021, 10, 1, 14, 25, 24, 500_000, tzinfo=UTC)
    assert len(found.resources) == 2


@given(
    statement=st.one_of(st.just(""), STATEMENT),
    address=st.binary(min_size=20, max_size=20).map(to_checksum_address),
    nonce=st.from_regex(r"[A-Za-z0-9]{8,30}", fullmatch=True),
    issued_at=MOMENTS,
    expires=st.one_of(st.none(), MOMENTS),
    port=st.sampled_from(["", ":8000"]),
    chain_id=st.integers(1, 10**12),
)
def test_what_is_written_is_read_back(statement, address, nonce, issued_at, expires, port, chain_id):
    domain = f"portal.example{port}"
    message = Message(domain, str(address), statement, f"https://{domain}/wallet/", chain_id, nonce, issued_at, expires)
    assert siwe.parse(siwe.compose(message)) == message


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("example.com wants", " wants"),
        ("wants you", "wants  you"),
        ("0xC02aaA39", "0xc02aaA39"),  # not EIP-55
        ("0xC02aaA39", "0xC02aaA3"),
        ("URI: https", "URI: //"),
        ("Version: 1", "Version: 01"),
        ("Chain ID: 1", "Chain ID: 0x1"),
        ("Nonce: 32891756", "Nonce: 3289175"),
        ("Nonce: 32891756", "Nonce: 3289-1756"),
        ("2021-09-30", "2021-02-30"),
        ("16:25:24Z", "16:25:24"),
        ("16:25:24Z", "25:25:24Z"),
        ("Issued At", "issued at"),
        ("\nResources:", "\n\nResources:"),
        ("- ipfs", "-ipfs"),
        ("Terms", "Terms\r"),
        ("Terms", "Térms"),
        ("claim.json", "claim.json\n"),
        ("claim.json", "claim.json\nRequest ID: late"),
    ],
)
def test_anything_else_is_refused(part, other):
    assert part in EXAMPLE
    assert siwe.parse(EXAMPLE.replace(part, other, 1)) is None


def test_a_statement_that_the_grammar_does_not_allow_is_not_written():
    now = datetime.now(UTC)
    message = Message("a.example", ADDRESS, "two\nlines", "https://a.example/", 1, "12345678", now, now + timedelta(1))
    with pytest.raises(ValueError, match="EIP-4361"):
        siwe.compose(message)
    assert not siwe.allowed_in_statement("two\nlines")


def test_a_very_long_text_is_not_even_looked_at():
    assert siwe.parse(EXAMPLE + "\n- https://x.example/" * 500) is None
