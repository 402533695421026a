"""An external signer: asked over HTTP, and never believed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from eth_account import Account as Key

from billing.chain import keys
from billing.chain.checks import check_finality, check_keystore_pair
from billing.chain.errors import KeyUnavailable, SignerDisagrees, SignerUnavailable
from billing.chain.signers import LocalSigner, RemoteSigner
from billing.chain.types import Call, Fees
from billing.tests.settling import NTC, World

CALL = Call("0x" + "11" * 20, b"\x01\x02\x03")
ASKED: dict[str, Any] = {"chain_id": 31337, "nonce": 7, "gas": 90_000, "fees": Fees(3 * 10**9, 10**9)}
KEY = Key.create()


class Web3Signer:
    """A stand-in that signs what it is asked, unless told to sign something else."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: dict[str, Any] = {}
        self.twist: Callable[[dict[str, Any]], Any] = lambda fields: fields
        self.account = KEY

    def answer(self, question: dict[str, Any]) -> Any:
        assert question["method"] == "eth_signTransaction"
        [self.asked] = question["params"]
        numbers = ("nonce", "gas", "maxFeePerGas", "maxPriorityFeePerGas", "value")
        fields = {**{name: int(self.asked[name], 16) for name in numbers}, "data": self.asked["data"]}
        fields = self.twist({**fields, "to": self.asked.get("to", ""), "chainId": 31337, "type": 2})
        if not isinstance(fields, dict):
            return fields
        return "0x" + bytes(self.account.sign_transaction(fields).raw_transaction).hex()


@pytest.fixture
def web3signer() -> Iterator[Web3Signer]:
    signer = Web3Signer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": signer.answer(question)}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    signer.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield signer
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("call", [CALL, Call(None, b"\x60\x00")], ids=["call", "creation"])
def test_it_signs_what_a_key_of_our_own_would(web3signer, call):
    ours = LocalSigner(KEY).sign(call, **ASKED)
    assert RemoteSigner(web3signer.url, KEY.address).sign(call, **ASKED) == ours


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("to", "0x" + "22" * 20),
        ("value", 10**18),
        ("nonce", 8),
        ("chainId", 1),
        ("data", "0xff"),
        ("gas", 10_000_000),
        ("maxFeePerGas", 10**12),
        ("maxPriorityFeePerGas", 2 * 10**9),
        ("accessList", [{"address": "0x" + "33" * 20, "storageKeys": []}]),
    ],
)
def test_what_differs_from_what_was_asked_is_thrown_away(web3signer, name, value):
    web3signer.twist = lambda fields: {**fields, name: value}
    with pytest.raises(SignerDisagrees, match=name):
        RemoteSigner(web3signer.url, KEY.address).sign(CALL, **ASKED)


def test_another_key_is_noticed(web3signer):
    web3signer.account = Key.create()
    with pytest.raises(SignerDisagrees, match="signer"):
        RemoteSigner(web3signer.url, KEY.address).sign(CALL, **ASKED)


@pytest.mark.parametrize("answer", ["0x", "0xdeadbeef", "0x02" + "00" * 40])
def test_rubbish_is_no_transaction(web3signer, answer):
    web3signer.twist = lambda fields: answer
    with pytest.raises(SignerDisagrees):
        RemoteSigner(web3signer.url, KEY.address).sign(CALL, **ASKED)


@pytest.mark.parametrize("answer", [None, 7, [], {"tx": {}}])
def test_no_answer_is_tried_again(web3signer, answer):
    web3signer.twist = lambda fields: answer
    with pytest.raises(SignerUnavailable) as caught:
        RemoteSigner(web3signer.url, KEY.address).sign(CALL, **ASKED)
    assert not caught.value.permanent
    with pytest.raises(SignerUnavailable, match="ETHEREUM_SIGNER_URL"):
        RemoteSigner("http://127.0.0.1:9", KEY.address, timeout_seconds=1).sign(CALL, **ASKED)


def test_each_role_may_sign_in_its_own_way(chain_settings, settings, web3signer, tmp_path):
    settings.ETHEREUM_SIGNER_URL, settings.ETHEREUM_OPERATOR_ADDRESS = web3signer.url, KEY.address.lower()
    assert keys.signer("operator").address == KEY.address
    stored, password = tmp_path / "cashier.json", tmp_path / "password"
    cashier = Key.create()
    stored.write_text(json.dumps(Key.encrypt(cashier.key, "hush", iterations=2, kdf="pbkdf2")))
    password.write_text("hush\n")
    settings.ETHEREUM_CASHIER_KEYSTORE_FILE = str(stored)
    assert check_keystore_pair()[0].id == "interchain.E020"
    settings.ETHEREUM_CASHIER_KEYSTORE_PASSWORD_FILE = str(password)
    assert check_keystore_pair() == []
    assert keys.signer("cashier").address == cashier.address
    with pytest.raises(KeyUnavailable, match="ETHEREUM_SALES_KEYSTORE_FILE"):
        keys.signer("sales")
    assert keys.signer_at(cashier.address) is keys.signer("cashier")
    assert keys.signer_at(Key.create().address) is None


def test_a_plain_key_in_the_environment_is_refused_in_production(settings, monkeypatch):
    settings.DEBUG = True
    monkeypatch.setenv("ETHEREUM_PRIVATE_KEY", KEY.key.hex())
    assert check_keystore_pair() == []
    settings.DEBUG = False
    [found] = check_keystore_pair()
    assert found.id == "interchain.E027"
    assert KEY.key.hex() not in f"{found.msg}{found.hint}"


def test_a_careless_finality_is_named(settings):
    assert check_finality() == []
    settings.ETHEREUM_FINALITY, settings.ETHEREUM_CHAIN_ID = "soon", 1
    settings.ETHEREUM_CHECK_RPC_URL = settings.ETHEREUM_RPC_URL
    assert [found.id for found in check_finality()] == ["interchain.E028", "interchain.W029", "interchain.W030"]
    settings.ETHEREUM_FINALITY = "confirmations"
    assert check_finality()[0].id == "interchain.W029"


@pytest.mark.anvil
@pytest.mark.verification
def test_an_epoch_posted_by_a_signer_of_its_own(real: World, cast, settings):
    """Anvil itself answers `eth_signTransaction` for its accounts, as Web3Signer does for its keys."""
    addresses = {role: keys.signer(role).address for role in keys.ROLES}
    settings.ETHEREUM_SIGNER_URL = real.node.url
    for role, address in addresses.items():
        setattr(settings, f"ETHEREUM_{role.upper()}_ADDRESS", address)
    assert isinstance(keys.signer("operator"), RemoteSigner)
    wallet = real.link(cast.owner)
    real.earn(cast.owner, 5)
    real.settle()
    real.claim(wallet)
    assert real.paid(wallet) == 5 * NTC
