"""What `bin/test` makes of pytest's reports: nothing that failed is lost, and a second try is seen."""

from __future__ import annotations

import pytest

from interchain_site.local import reports, suites
from interchain_site.local.reports import Outcome


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of tests for `suites.pytest`, and for its reports."""
    monkeypatch.setattr(suites, "ROOT", tmp_path)
    monkeypatch.setattr(suites, "REPORTS", tmp_path)
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:django -p no:cacheprovider")
    return tmp_path


def test_skips_another_suite_runs_do_not_count(tmp_path):
    report = tmp_path / "r.xml"
    report.write_text(
        "<testsuites><testsuite><testcase classname='a' name='ok'/>"
        "<testcase classname='a' file='a.py' name='bad'><failure/></testcase>"
        "<testcase classname='a' name='pg'><skipped message='needs PostgreSQL'/></testcase>"
        "<testcase classname='a' name='no'><skipped message='no moon'/></testcase></testsuite></testsuites>"
    )
    outcome = reports.read("unit", report, "PostgreSQL")
    assert (outcome.passed, outcome.failed, outcome.skipped) == (1, 1, ["a::no: no moon"])
    assert outcome.failures == ["a.py::bad"]


@pytest.mark.parametrize(("ci", "code"), [("true", 1), ("", 0)])
def test_a_skip_is_a_failure_in_ci(monkeypatch, capsys, ci, code):
    monkeypatch.setenv("CI", ci)
    assert reports.print_sum([Outcome("unit", passed=3, skipped=["a::b: no moon"])]) == code
    assert "3 passed, 0 failed, 1 skipped" in capsys.readouterr().out


def test_what_failed_and_what_passed_only_the_second_time_is_named_in_the_sum(capsys):
    outcomes = [
        Outcome("unit", passed=3, second_time=["a.py::test_slow"]),
        Outcome("docker", failed=1, failures=["b.py::test_bad"]),
    ]
    assert reports.print_sum(outcomes) == 1
    printed = capsys.readouterr().out
    assert "AGAIN      unit: a.py::test_slow" in printed
    assert "FAILED     docker: b.py::test_bad" in printed
    assert "3 passed, 1 of them only the second time, 1 failed" in printed


FLAKY = """
import pathlib
import pytest
seen = pathlib.Path(__file__).with_name("seen")
@pytest.mark.parametrize("what", ["a/b", "c"])
def test_first_time(what):
    known = seen.exists() and what in seen.read_text()
    with seen.open("a") as file:
        file.write(what)
    assert known
def test_fine():
    pass
"""


def test_what_fails_once_is_run_again_alone_and_told(folder, capsys):
    (folder / "test_flaky.py").write_text(FLAKY)
    outcome = suites.pytest("unit", ["-n", "0"])
    assert (outcome.passed, outcome.failed, outcome.failures) == (3, 0, [])
    assert outcome.second_time == ["test_flaky.py::test_first_time[a/b]", "test_flaky.py::test_first_time[c]"]


def test_what_fails_twice_fails(folder):
    (folder / "test_bad.py").write_text("def test_bad():\n    assert False\ndef test_fine():\n    pass\n")
    outcome = suites.pytest("unit", ["-n", "0"])
    assert (outcome.passed, outcome.failed, outcome.failures) == (1, 1, ["test_bad.py::test_bad"])
    assert outcome.second_time == []


def test_many_failures_are_no_accident(folder):
    (folder / "test_flaky.py").write_text(FLAKY.replace('["a/b", "c"]', "'abcd'"))
    outcome = suites.pytest("unit", ["-n", "0"])
    assert (outcome.passed, outcome.failed, outcome.second_time) == (1, 4, [])


def test_a_file_that_cannot_be_read_fails(folder):
    (folder / "test_broken.py").write_text("import nothing_like_this\n")
    assert suites.pytest("unit", ["-n", "0"]).failed == 1


def test_a_second_run_that_did_not_run_takes_nothing_back():
    first = Outcome("unit", passed=1, failed=2, failures=["a.py::x", "a.py::y"])
    assert reports.with_second_try(first, Outcome("again", passed=1)).failed == 2
