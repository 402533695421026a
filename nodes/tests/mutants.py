"""Deliberate mistakes in metering and ingest, and the test that must notice each: what shows that the tests can fail.

    python -m nodes.tests.mutants               # those whose tests need SQLite only
    python -m nodes.tests.mutants postgres      # those of the ingest on PostgreSQL
    python -m nodes.tests.mutants docker        # those of an agent with a real Docker
    python -m nodes.tests.mutants NAME …

The sources are copied to a folder of their own, one mistake is made there, its test is run. A test that passes is a failure. The table is
also in docs/mutation-tests.md, which nodes/tests/test_mutants.py holds to this one. Longer than 300 lines because it is that table.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from interchain_site.local import check, postgres
from interchain_site.local.steps import ROOT

AGENT, SERVICES = "nodes/agent", "nodes/services"
INTERLEAVINGS = "nodes/tests/test_metering_interleavings.py"
BILLS, COUNTS = f"{INTERLEAVINGS}::test_an_interleaving_that_once_found_something", "nodes/tests/test_metering.py"
CAPS, PROCESSES = "nodes/tests/test_capped_claims.py", "nodes/tests/test_ingest_by_many.py"
DISK = "nodes/agent/tests/test_full_disk.py::test_a_full_disk_stops_nothing_and_loses_nothing"
SQLITE, POSTGRES, DOCKER = "sqlite", "postgres", "docker"


@dataclass(frozen=True)
class Mutant:
    """One mistake: in a file, a text that is there once becomes another."""

    name: str
    broken: str
    path: str
    old: str
    new: str
    caught_by: str
    on: str = SQLITE


MUTANTS = (
    Mutant(
        "outbox_trusts_its_disk",
        "what a failing disk made of a waiting batch is sent, and signed anew",
        f"{AGENT}/outbox.py",
        "if known and known != [_hash(data)]:",
        "if False:",
        f"{BILLS}[damaged_in_the_outbox]",
    ),
    Mutant(
        "merge_keeps_the_lowest",
        "of merged batches the lowest total of each counter stays",
        f"{AGENT}/outbox.py",
        "if kept is None or reading.total > kept.total:",
        "if kept is None or reading.total < kept.total:",
        f"{BILLS}[merged_while_idle]",
    ),
    Mutant(
        "merge_drops_the_oldest",
        "when too many batches wait, the older half is dropped",
        f"{AGENT}/outbox.py",
        "        self._write_all(list(best.values()), newest)\n",
        "",
        f"{BILLS}[merged_while_idle]",
    ),
    Mutant(
        "failed_check_is_not_saved",
        "that an app failed its health check is in memory only",
        f"{AGENT}/meter.py",
        '                uptime.source = ""\n                self._save_if_possible()\n',
        '                uptime.source = ""\n',
        f"{BILLS}[killed_while_ill]",
    ),
    Mutant(
        "full_disk_ends_the_watch",
        "a failed check that cannot be kept on disk ends the health monitor",
        f"{AGENT}/meter.py",
        '            log.error("The totals cannot be kept on disk',
        '            raise\n            log.error("The totals cannot be kept on disk',
        "nodes/agent/tests/test_meter.py::test_what_a_full_disk_does_not_take_is_kept_until_it_does",
    ),
    Mutant(
        "time_away_is_uptime",
        "any time between two passed checks counts, however long nobody looked",
        f"{AGENT}/meter.py",
        "0 <= gap <= LONGEST_UNSEEN_MS + pause_ms:",
        "0 <= gap:",
        f"{BILLS}[away_while_ill]",
    ),
    Mutant(
        "counter_reset_is_use",
        "a counter that began again counts by how much it fell",
        f"{AGENT}/meter.py",
        "grown = raw.value - self.last if raw.source == self.source and raw.value >= self.last else raw.value",
        "grown = abs(raw.value - self.last)",
        f"{BILLS}[counters_begin_again]",
    ),
    Mutant(
        "another_counter_goes_on",
        "a new cgroup or interface is taken for the one before",
        f"{AGENT}/meter.py",
        "if raw.source == self.source and raw.value >= self.last else raw.value",
        "if self.source and raw.value >= self.last else raw.value",
        f"{BILLS}[a_larger_counter_begins]",
    ),
    Mutant(
        "volume_counts_its_larger_size",
        "between two looks a volume held the larger of the two sizes",
        f"{AGENT}/meter.py",
        "min(size.last, volume_bytes) * (now_ms - storage.last)",
        "max(size.last, volume_bytes) * (now_ms - storage.last)",
        f"{BILLS}[grown_between_two_looks]",
    ),
    Mutant(
        "another_start_goes_on",
        "the time in which a crashed app was gone counts once another start of it is well",
        f"{AGENT}/meter.py",
        "if uptime.source == source and 0 <= gap",
        "if uptime.source and 0 <= gap",
        f"{BILLS}[crashed_between_two_checks]",
    ),
    Mutant(
        "another_boot_goes_on",
        "a volume is counted by a clock that began again",
        f"{AGENT}/meter.py",
        "if storage.source == self._boot and now_ms >= storage.last:",
        "if storage.source and now_ms >= storage.last:",
        f"{BILLS}[agent_started_long_after_a_reboot]",
    ),
    Mutant(
        "smaller_volume_is_not_saved",
        "that a volume became smaller is in memory only",
        f"{AGENT}/meter.py",
        "            if shrunk:\n                self._save_if_possible()\n",
        "            del shrunk\n",
        f"{BILLS}[shrunk_killed_and_grown]",
    ),
    Mutant(
        "told_before_it_is_on_disk",
        "totals are told as they are in memory",
        f"{AGENT}/meter.py",
        "total = self._saved.get((lease_id, meter.value))",
        "total = self._numbers().get((lease_id, meter.value))",
        "nodes/agent/tests/test_meter.py",
    ),
    Mutant(
        "lost_batch_is_not_said_again",
        "the readings of a batch that a disk damaged are not said again",
        f"{AGENT}/metering.py",
        "            self._sent.clear()\n",
        "",
        f"{BILLS}[damaged_in_the_outbox]",
    ),
    Mutant(
        "unanswered_is_confirmed",
        "a batch leaves the disk before the portal has it",
        f"{AGENT}/courier.py",
        "                accepted = self._portal.readings(jws)\n",
        "                self._outbox.confirmed(name)\n                accepted = self._portal.readings(jws)\n",
        f"{BILLS}[lost_on_the_way]",
    ),
    Mutant(
        "resent_batch_is_an_error",
        "no deduplication: a batch that came before is stored again",
        f"{SERVICES}/totals.py",
        '            " ON CONFLICT (device_id, batch_id) DO NOTHING RETURNING id",\n',
        '            " RETURNING id",\n',
        f"{BILLS}[told_twice_and_replayed]",
    ),
    Mutant(
        "old_batch_counts_again",
        "a batch that came before raises totals again, by what is possible by now",
        f"{SERVICES}/totals.py",
        '            " ON CONFLICT (device_id, batch_id) DO NOTHING RETURNING id",\n',
        '            " ON CONFLICT (device_id, batch_id) DO UPDATE SET received_at = excluded.received_at RETURNING id",\n',
        f"{COUNTS}::test_a_batch_replayed_after_ninety_days_changes_nothing",
    ),
    Mutant(
        "totals_are_added",
        "a total that came is added to what stands",
        f"{SERVICES}/totals.py",
        'raised = ", ".join(f"{column} = excluded.{column}" for column in _TOTAL.split(", ")[2:])',
        'raised = ", ".join(f"{column} = excluded.{column}" for column in _TOTAL.split(", ")[2:])'
        '.replace("total = excluded.total", f"total = {table}.total + excluded.total")',
        f"{BILLS}[told_twice_and_replayed]",
    ),
    Mutant(
        "signatures_are_not_checked",
        "whoever signed a batch, it counts",
        f"{SERVICES}/signatures.py",
        "    signed = read(token)\n    signed.check_of(device)\n    return signed.payload\n",
        "    return read(token).payload\n",
        f"{BILLS}[told_by_an_old_key_and_by_strangers]",
    ),
    Mutant(
        "revoked_key_is_accepted",
        "a key that was replaced is good for ever",
        f"{SERVICES}/signatures.py",
        "if until is None or until <= timezone.now():",
        "if until is None:",
        f"{BILLS}[told_by_an_old_key_and_by_strangers]",
    ),
    Mutant(
        "nothing_is_capped",
        "whatever a device claims is granted",
        f"{SERVICES}/plausibility.py",
        "        granted = max(stands, min(claim, most))\n",
        "        granted = claim\n",
        f"{COUNTS}::test_more_than_possible_is_capped_and_noted",
    ),
    Mutant(
        "no_bound_by_cores",
        "a lease may claim as if all cores were its own",
        f"{SERVICES}/plausibility.py",
        "return instructions_of_core(device, method, lease.opened_at, ends) * lease.cpu_millis // 1000",
        "return most_of_device(device, meter, method, lease.opened_at, ends)",
        f"{COUNTS}::test_more_than_possible_is_capped_and_noted[compute]",
    ),
    Mutant(
        "no_bound_by_link",
        "transfer is held to no link",
        f"{SERVICES}/plausibility.py",
        'return DIRECTIONS * (device.had("link_bytes_per_second") or USUAL_LINK_BYTES_PER_SECOND)',
        "return 2**62",
        f"{CAPS}::test_transfer_is_held_to_what_the_devices_link_can_carry_both_ways",
    ),
    Mutant(
        "no_bound_by_disk",
        "storage is held to no disk",
        f"{SERVICES}/plausibility.py",
        "return lease.disk_bytes * milliseconds // 1000 if lease.has_volume else 0",
        "return 2**62",
        f"{CAPS}::test_a_lease_without_a_volume_stores_nothing",
    ),
    Mutant(
        "no_bound_by_clock",
        "uptime is held to no clock",
        f"{SERVICES}/plausibility.py",
        "    if meter is Meter.UPTIME:\n        return milliseconds\n",
        "    if meter is Meter.UPTIME:\n        return 2**62\n",
        f"{COUNTS}::test_more_than_possible_is_capped_and_noted[uptime]",
    ),
    Mutant(
        "no_bound_of_the_device",
        "leases of one device together may claim more than it can do",
        f"{SERVICES}/plausibility.py",
        "            most = min(most, stands + self._room(place, meter, method))\n",
        "            pass\n",
        f"{CAPS}::test_two_leases_share_one_link",
    ),
    Mutant(
        "a_grant_takes_nothing",
        "what was granted in a batch leaves the room of the device as it was",
        f"{SERVICES}/plausibility.py",
        "        self._take(place, meter, granted - stands)\n",
        "",
        f"{CAPS}::test_two_leases_in_one_batch_share_one_link",
    ),
    Mutant(
        "fenced_lease_goes_on",
        "what was read after another lease took the place counts",
        f"{SERVICES}/metering.py",
        "return fenced_at is not None and claim.at > fenced_at",
        "return False",
        "nodes/tests/test_election.py::test_the_stale_copy_is_asked_to_stop_and_its_later_use_never_counts",
    ),
    Mutant(
        "a_statement_for_each_reading",
        "totals are written one by one",
        f"{SERVICES}/totals.py",
        "        return _store_at_once(batch, rows)\n",
        "        stored = _store_at_once(batch, rows[:1])\n        for row in rows[1:]:\n            raise_totals([row])\n"
        "        return stored\n",
        f"{COUNTS}::test_a_batch_is_two_statements_however_many_readings",
        POSTGRES,
    ),
    Mutant(
        "one_statement_counts_a_resend",
        "the one statement raises totals for a batch that came before",
        f"{SERVICES}/totals.py",
        '        " ON CONFLICT (device_id, batch_id) DO NOTHING RETURNING id),"\n',
        '        " ON CONFLICT (device_id, batch_id) DO UPDATE SET received_at = excluded.received_at RETURNING id),"\n',
        f"{PROCESSES}::test_the_same_and_different_batches_through_two_processes_have_one_effect",
        POSTGRES,
    ),
    Mutant(
        "the_last_writer_wins",
        "of two processes the later one's total stays, though it is lower",
        f"{SERVICES}/totals.py",
        " WHERE excluded.total > {table}.total",
        "",
        f"{PROCESSES}::test_the_same_and_different_batches_through_two_processes_have_one_effect",
        POSTGRES,
    ),
    Mutant(
        "order_of_changes_stands_still",
        "changes of totals get places that were given before",
        f"{SERVICES}/totals.py",
        "value = {table}.value + excluded.value",
        "value = {table}.value",
        f"{COUNTS}::test_a_reader_of_changes_misses_nothing_whatever_its_page_size",
        POSTGRES,
    ),
    Mutant(
        "capped_on_every_resend",
        "a resent batch is noted as capped once more",
        f"{SERVICES}/metering.py",
        "    if not totals.store(row, grown):\n        return",
        "    fresh = totals.store(row, grown)\n    if excesses:\n        capped_claims.note(device, excesses, now=now)\n"
        "    if not fresh:\n        return",
        f"{PROCESSES}::test_a_capped_batch_through_two_processes_is_noted_once",
        POSTGRES,
    ),
    Mutant(
        "wall_clock_is_uptime",
        "uptime is counted by a clock that people set",
        f"{AGENT}/meter.py",
        "return time.monotonic_ns() // 1_000_000",
        "return time.time_ns() // 1_000_000",
        "nodes/agent/tests/test_wrong_clock.py::test_a_clock_that_jumps_moves_no_total",
        DOCKER,
    ),
    Mutant(
        "no_ballast",
        "on a full disk nothing can be kept",
        f"{AGENT}/files.py",
        "BALLAST_BYTES = 2**20",
        "BALLAST_BYTES = 0",
        f"{DISK}[tmpfs]",
        DOCKER,
    ),
    Mutant(
        "full_docker_is_a_bad_image",
        "an image there is no room for counts as damaged, for good",
        f"{AGENT}/engine.py",
        'return "no space left on device" in text or "disk quota exceeded" in text',
        "return False",
        "nodes/agent/tests/test_full_docker.py::test_no_half_image_is_trusted_and_it_runs_once_there_is_room",
        DOCKER,
    ),
    Mutant(
        "reboot_goes_on_with_old_counters",
        "after a reboot counters are taken for those before",
        f"{AGENT}/meter.py",
        "if raw.source == self.source and raw.value >= self.last else raw.value",
        "if self.source else raw.value",
        "nodes/agent/tests/test_reboot.py::test_counters_that_begin_again_lose_and_repeat_nothing",
        DOCKER,
    ),
)


def main(names: list[str]) -> int:
    """Try the mutants named, or those of a database; return 1 if one was not caught."""
    wanted = [one for one in MUTANTS if one.name in names or one.on in (names or [SQLITE])]
    alive = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        copy = Path(folder) / "copy"
        _copy(copy)
        environment = {**check.environment(), "PYTHONPATH": str(copy)}
        if any(one.on == POSTGRES for one in wanted):
            environment["DATABASE_URL"] = stack.enter_context(postgres.cluster(ROOT / "var" / "test-postgres"))
        for mutant in wanted:
            began = time.monotonic()
            caught = _is_caught(mutant, copy, environment)
            words = "caught" if caught else "NOT CAUGHT"
            took = time.monotonic() - began
            sys.stdout.write(f"{words:<11} {mutant.name:<36} {took:5.1f} s  {mutant.caught_by}\n")
            sys.stdout.flush()
            alive += [] if caught else [mutant]
    return 1 if alive else 0


def mutated(mutant: Mutant, text: str) -> str:
    """Return a source with the mistake made.

    Raises:
        ValueError: the text that would become another is not there exactly once.
    """
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: {mutant.path} has {text.count(mutant.old)} times {mutant.old!r}")
    return text.replace(mutant.old, mutant.new)


def _copy(to: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def _is_caught(mutant: Mutant, copy: Path, environment: dict[str, str]) -> bool:
    """Whether the test fails with the mistake made: exit code 1, not that of a test that could not be run."""
    path = copy / mutant.path
    sound = path.read_text()
    path.write_text(mutated(mutant, sound))
    command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "--nomigrations", mutant.caught_by]
    try:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    finally:
        path.write_text(sound)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{mutant.name}: its test could not be run\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    return done.returncode == 1 and bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
