"""The operator's key: from an encrypted keystore, or Anvil's only where nothing is at stake."""

from __future__ import annotations

import json

import pytest
from eth_account import Account as Key

from billing.chain import keys
from billing.chain.errors import KeyUnavailable

ANVIL_FIRST = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


@pytest.fixture
def keystore(settings, tmp_path):
    key = Key.create()
    stored, password = tmp_path / "operator.json", tmp_path / "password"
    stored.write_text(json.dumps(Key.encrypt(key.key, "hush", iterations=2, kdf="pbkdf2")))
    password.write_text("hush\n")
    settings.ETHEREUM_KEYSTORE_FILE, settings.ETHEREUM_KEYSTORE_PASSWORD_FILE = str(stored), str(password)
    return key


def test_the_keystore_opens_with_its_password(chain_settings, keystore):
    assert keys.operator().address == keystore.address


def test_a_wrong_password_says_what_to_do_and_shows_nothing(chain_settings, keystore, settings, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("not this one")
    settings.ETHEREUM_KEYSTORE_PASSWORD_FILE = str(wrong)
    with pytest.raises(KeyUnavailable, match="ETHEREUM_KEYSTORE_FILE") as caught:
        keys.operator()
    assert "not this one" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(("name", "value"), [("DEBUG", False), ("ETHEREUM_CHAIN_ID", 1)])
def test_the_development_key_needs_debug_and_the_development_chain(chain_settings, settings, name, value):
    assert keys.operator().address == keys.development_signer(0).address == ANVIL_FIRST
    setattr(settings, name, value)
    for call in (keys.operator, lambda: keys.development_signer(0)):
        with pytest.raises(KeyUnavailable):
            call()


def test_a_signer_does_not_show_its_key(chain_settings):
    assert repr(keys.operator()) == f"Signer({ANVIL_FIRST})"
