"""House rules: first that each rule bites, then that the repository keeps it."""

from __future__ import annotations

import re

import pytest

from interchain_site.local import house_rules as rules
from interchain_site.local.steps import ROOT


def everything(rule, *endings: str) -> list[str]:
    return [problem for path, text in rules.tracked(*endings) for problem in rule(path, text)]


@pytest.mark.parametrize("line", ["import stripe", "from stripe import StripeClient", "import stripe.error"])
def test_importing_stripe_outside_its_folder_is_found(line):
    assert rules.foreign_imports("billing/services/desk.py", line)
    assert not rules.foreign_imports("billing/stripe/gateway.py", line)


def test_our_own_folder_named_stripe_is_not_the_library():
    assert not rules.foreign_imports("billing/services/desk.py", "from billing.stripe import gateway")


@pytest.mark.parametrize("code", ["rate = 0.1", "x = float(y)", "x = models.FloatField()"])
def test_floats_near_money_are_found(code):
    assert rules.floats_near_money("billing/services/ledger.py", code)
    assert not rules.floats_near_money("billing/tests/test_ledger.py", code)
    assert not rules.floats_near_money("nodes/services/placement.py", code)


def test_a_long_file_needs_a_reason():
    assert rules.too_long("nodes/x.py", "x\n" * 301)
    assert not rules.too_long("nodes/x.py", '"""Longer than 300 lines because it is one table."""\n' + "x\n" * 301)
    assert not rules.too_long("nodes/x.py", "x\n" * 300)


@pytest.mark.parametrize("place", ["home/alice", "Users/bob", "root"])
def test_a_folder_of_one_machine_is_found(place):
    assert rules.private_places("docs/x.md", f"see /{place}/notes")
    assert not rules.private_places("docs/x.md", f"see https://example.com/{place}/notes")


def test_a_package_host_of_one_machine_is_found():
    assert rules.private_places("package-lock.json", "https://mirror.example.test/x", hosts=("mirror.example.test",))


def test_names_of_settings_are_read_from_code_and_sample():
    assert rules.settings_read("A = env.text('A_B', '')\nB = env.integer(\n    \"C_D\", 1)") == {"A_B", "C_D"}
    assert rules.settings_named("# what\nA_B=1\n# or\n#C_D=2\n") == {"A_B", "C_D"}


def test_libraries_are_imported_only_behind_their_gateway():
    assert not everything(rules.foreign_imports, ".py")


def test_no_float_in_billing():
    assert not everything(rules.floats_near_money, ".py")


def test_files_are_short_or_say_why():
    assert not everything(rules.too_long, ".py", ".html", ".js", ".css")


def test_nothing_leaks_from_one_machine():
    hosts = rules.own_hosts()
    assert not everything(lambda path, text: rules.private_places(path, text, hosts))


def test_dotenv_sample_names_every_setting_and_no_other():
    read = {
        name
        for path, text in rules.tracked(".py")
        if path == "interchain_site/settings.py"
        for name in rules.settings_read(text)
    }
    read |= {"INTERCHAIN_ENV_FILE", "POSTGRES_PASSWORD"}  # read by settings itself, by docker-compose.yml
    named = rules.settings_named((ROOT / "dotenv-sample").read_text())
    assert (sorted(read - named), sorted(named - read)) == ([], [])


def test_every_system_check_is_explained():
    ids = {
        found
        for path, text in rules.tracked(".py")
        if not path.startswith("interchain_site/tests/")
        for found in re.findall(r"interchain\.[EW]\d{3}", text)
    }
    explained = (ROOT / "docs" / "architecture.md").read_text()
    assert [found for found in sorted(ids) if found not in explained] == []


def test_requirements_are_pinned():
    lines = [
        line
        for name in ("requirements.txt", "requirements-dev.txt", "nodes/agent/requirements.txt")
        for line in (ROOT / name).read_text().splitlines()
    ]
    assert [line for line in lines if line and not line.startswith(("#", "-r")) and "==" not in line] == []
