"""The plan: one lease at a time first, then any mixture of leases (property tests)."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.agent import reconcile
from nodes.agent.protocol import Action, Desired, DesiredLease, Observed, Reason
from nodes.agent.reconcile import GIVE_UP_AFTER, Note, Seen, Step, Verb, after_failure, plan, statuses
from nodes.agent.tests.conftest import lease, workload

WORK = workload(id="w")
STATEFUL = replace(WORK, volume_path="/data")


def one(action: Action, *, seen: Seen | None = None, note: Note | None = None, now: float = 100.0) -> list[Verb]:
    wanted = lease(WORK, action=action, lease_id="a")
    steps = plan(Desired((wanted,)), {"a": seen} if seen else {}, {"a": note} if note else {}, now)
    return [step.verb for step in steps]


RUNNING = Seen("a", 1, "w", "c1", running=True)
EXITED = Seen("a", 1, "w", "c1", exit_code=1)


def test_nothing_there_is_started() -> None:
    assert one(Action.RUN) == [Verb.START]


def test_what_runs_is_left_alone() -> None:
    assert one(Action.RUN, seen=RUNNING) == []
    assert one(Action.RUN, seen=RUNNING, note=Note(healthy=True, running_since=1.0)) == []


def test_what_exited_is_started_again_after_its_backoff() -> None:
    assert one(Action.RUN, seen=EXITED) == [Verb.START]
    assert one(Action.RUN, seen=EXITED, note=Note(ready_at=100.5)) == []
    assert one(Action.RUN, seen=EXITED, note=Note(ready_at=99.5)) == [Verb.START]


def test_a_step_under_way_is_waited_for() -> None:
    for action in Action:
        assert one(action, seen=RUNNING, note=Note(busy=True)) == []


def test_given_up_leaves_no_container() -> None:
    assert one(Action.RUN, seen=EXITED, note=Note(failed=True)) == [Verb.STOP]
    assert one(Action.RUN, note=Note(failed=True)) == []


def test_stop_and_wipe() -> None:
    assert one(Action.STOP, seen=RUNNING) == [Verb.STOP]
    assert one(Action.STOP) == []
    assert one(Action.WIPE) == [Verb.WIPE], "even with nothing there the portal needs its receipt"
    assert one(Action.WIPE, note=Note(wiped=True)) == []


def test_a_stop_that_did_not_succeed_is_not_hammered() -> None:
    assert one(Action.STOP, seen=RUNNING, note=Note(retry_at=101.0)) == []
    assert one(Action.STOP, seen=RUNNING, note=Note(retry_at=99.0)) == [Verb.STOP]


def test_never_healthy_in_time_is_restarted() -> None:
    start = WORK.health.start_seconds
    assert one(Action.RUN, seen=RUNNING, note=Note(running_since=1.0), now=1.0 + start) == [Verb.RESTART]
    assert one(Action.RUN, seen=RUNNING, note=Note(running_since=1.0), now=0.9 + start) == []


def test_unhealthy_for_long_is_restarted() -> None:
    ill = Note(running_since=1.0, was_healthy=True, unhealthy_since=50.0)
    assert one(Action.RUN, seen=RUNNING, note=ill, now=51.0) == []
    assert one(Action.RUN, seen=RUNNING, note=ill, now=50.0 + 6 * WORK.health.interval_seconds) == [Verb.RESTART]


def test_what_lives_and_is_not_ready_is_left_alone() -> None:
    unready = Note(running_since=1.0, was_healthy=True, alive=True, unhealthy_since=50.0)
    assert one(Action.RUN, seen=RUNNING, note=unready, now=5000.0) == []
    never = replace(unready, was_healthy=False)
    assert one(Action.RUN, seen=RUNNING, note=never, now=5000.0) == [Verb.RESTART], (
        "a start has its time to become ready"
    )


def test_what_is_not_listed_is_stopped_not_wiped() -> None:
    assert plan(Desired(), {"a": RUNNING}, {}, 0.0) == [Step(Verb.STOP, "a")]


def test_an_older_generation_with_data_is_stopped_whatever_is_asked_of_it() -> None:
    old, new = lease(STATEFUL, lease_id="a"), lease(STATEFUL, lease_id="b", generation=2)
    steps = plan(Desired((old, new)), {"a": RUNNING}, {}, 0.0)
    assert (Verb.STOP, "a") in [(step.verb, step.lease_id) for step in steps]


def test_without_data_two_generations_run_side_by_side_as_long_as_both_are_wanted() -> None:
    old, new = lease(WORK, lease_id="a"), lease(WORK, lease_id="b", generation=2)
    assert [(s.verb, s.lease_id) for s in plan(Desired((old, new)), {"a": RUNNING}, {}, 0.0)] == [(Verb.START, "b")]
    given_up = replace(new, action=Action.STOP)
    assert plan(Desired((old, given_up)), {"a": RUNNING}, {}, 0.0) == []
    found = statuses(Desired((old, given_up)), {"a": RUNNING}, {"a": Note(healthy=True)})
    assert [status.observed for status in found] == [Observed.RUNNING, Observed.STOPPED]


def test_a_volume_has_one_writer() -> None:
    old, new = lease(STATEFUL, lease_id="a"), lease(STATEFUL, lease_id="b", generation=2)
    assert [s.verb for s in plan(Desired((old, new)), {"a": RUNNING}, {"a": Note(busy=True)}, 0.0)] == []
    assert [s.verb for s in plan(Desired((old, new)), {}, {}, 0.0)] == [Verb.START]


def test_failures_wait_longer_and_end() -> None:
    note, now, pauses = Note(), 0.0, []
    for _ in range(GIVE_UP_AFTER):
        note = after_failure(note, now, reason=Reason.EXITED, message="m")
        pauses.append(note.ready_at - now)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert note.failed
    assert note.restarts == GIVE_UP_AFTER - 1


def test_a_long_healthy_life_forgives() -> None:
    tired = Note(attempts=GIVE_UP_AFTER - 1, healthy_since=1.0)
    assert not after_failure(tired, 1.0 + reconcile.FORGIVEN_AFTER_SECONDS, reason=Reason.EXITED, message="").failed
    assert after_failure(tired, 2.0, reason=Reason.EXITED, message="").failed


def test_what_is_reported() -> None:
    def status(action: Action, seen: Seen | None, note: Note) -> tuple[Observed, Reason, int]:
        wanted = lease(WORK, action=action, lease_id="a")
        found = statuses(Desired((wanted,)), {"a": seen} if seen else {}, {"a": note})[0]
        return found.observed, found.reason, found.host_port

    running = replace(RUNNING, host_port=20_001)
    ill = Note(was_healthy=True, reason=Reason.UNHEALTHY)
    assert status(Action.RUN, None, Note()) == (Observed.PREPARING, Reason.NONE, 0)
    assert status(Action.RUN, running, Note()) == (Observed.PREPARING, Reason.NONE, 20_001)
    assert status(Action.RUN, running, Note(healthy=True, reason=Reason.EXITED)) == (
        Observed.RUNNING,
        Reason.NONE,
        20_001,
    )
    assert status(Action.RUN, running, ill) == (Observed.UNHEALTHY, Reason.UNHEALTHY, 20_001)
    assert status(Action.RUN, None, Note(failed=True, reason=Reason.EXITED)) == (Observed.FAILED, Reason.EXITED, 0)
    assert status(Action.STOP, None, Note(failed=True, reason=Reason.EXITED))[0] is Observed.STOPPED
    assert status(Action.WIPE, None, Note(wiped=True))[0] is Observed.WIPED
    assert status(Action.WIPE, None, Note())[0] is Observed.STOPPED


def test_a_superseded_generation_is_reported_stopped() -> None:
    old, new = lease(STATEFUL, lease_id="a"), lease(STATEFUL, lease_id="b", generation=2)
    found = statuses(Desired((old, new)), {}, {"a": Note(was_healthy=True)})
    assert [status.observed for status in found] == [Observed.STOPPED, Observed.PREPARING]


# --- any mixture --------------------------------------------------------------------------------------------------

NAMES = ("a", "b", "c", "d")
LEASES = st.lists(
    st.builds(
        DesiredLease,
        lease_id=st.sampled_from(NAMES),
        generation=st.integers(1, 3),
        action=st.sampled_from(Action),
        workload=st.sampled_from((WORK, STATEFUL, replace(WORK, id="v"), replace(STATEFUL, id="v"))),
    ),
    unique_by=lambda item: item.lease_id,
).map(lambda items: Desired(tuple(items)))
NOTES = st.dictionaries(
    st.sampled_from(NAMES),
    st.builds(Note, busy=st.booleans(), failed=st.booleans(), wiped=st.booleans(), ready_at=st.just(0.0)),
)
SEEN = st.dictionaries(st.sampled_from(NAMES), st.tuples(st.booleans(), st.sampled_from(("w", "v"))), max_size=4).map(
    lambda found: {name: Seen(name, 1, work, "c", running=running) for name, (running, work) in found.items()}
)


@settings(deadline=None)  # the machine may be busy
@given(LEASES, SEEN, NOTES)
def test_at_most_one_step_for_each_lease_and_none_for_a_busy_one(desired: Desired, seen: dict, notes: dict) -> None:
    steps = plan(desired, seen, notes, 0.0)
    assert len({step.lease_id for step in steps}) == len(steps)
    assert not [step for step in steps if notes.get(step.lease_id, Note()).busy]


@settings(deadline=None)  # the machine may be busy
@given(LEASES, SEEN, NOTES)
def test_only_what_was_told_to_be_wiped_is_wiped(desired: Desired, seen: dict, notes: dict) -> None:
    told = {item.lease_id for item in desired.leases if item.action is Action.WIPE}
    assert {step.lease_id for step in plan(desired, seen, notes, 0.0) if step.verb is Verb.WIPE} <= told


@settings(deadline=None)  # the machine may be busy
@given(LEASES, SEEN, NOTES)
def test_only_the_newest_generation_is_ever_started_of_what_keeps_data(
    desired: Desired, seen: dict, notes: dict
) -> None:
    newest = reconcile.newest_generations(desired)
    keeping = {item.workload.id for item in desired.leases if item.workload.volume_path}
    for step in plan(desired, seen, notes, 0.0):
        if step.verb in (Verb.START, Verb.RESTART):
            assert step.lease.action is Action.RUN
            if step.lease.workload.id in keeping:
                assert step.lease.generation == newest[step.lease.workload.id]


@settings(deadline=None)  # the machine may be busy
@given(LEASES, SEEN)
def test_taking_the_steps_comes_to_rest(desired: Desired, seen: dict) -> None:
    """Each step taken as promised, the plan is empty after a few rounds and what should run runs."""
    notes: dict[str, Note] = {}
    for _ in range(4):
        for step in plan(desired, seen, notes, 0.0):
            if step.verb in (Verb.START, Verb.READY):
                runs = step.verb is Verb.START
                seen[step.lease_id] = Seen(
                    step.lease_id, step.lease.generation, step.lease.workload.id, "c", running=runs
                )
                notes[step.lease_id] = Note(healthy=True, running_since=1.0) if runs else Note()
            else:
                seen.pop(step.lease_id, None)
                notes[step.lease_id] = Note(wiped=step.verb is Verb.WIPE)
    assert plan(desired, seen, notes, 0.0) == []
    newest = reconcile.newest_generations(desired)
    keeping = {item.workload.id for item in desired.leases if item.workload.volume_path}
    should = {
        item.lease_id
        for item in desired.leases
        if item.action in (Action.RUN, Action.STANDBY)
        and (item.workload.id not in keeping or item.generation == newest[item.workload.id])
    }
    assert set(seen) <= should


# --- warm standby --------------------------------------------------------------------------------------------------
def test_a_standby_is_made_ready_never_started_and_starts_once_it_is_wanted():
    created = Seen("a", 1, "w", "c1")
    assert one(Action.STANDBY) == [Verb.READY]
    assert one(Action.STANDBY, note=Note(ready_at=100.5)) == []
    assert one(Action.STANDBY, seen=created) == []
    assert one(Action.STANDBY, seen=RUNNING) == [Verb.STOP]
    assert one(Action.RUN, seen=created) == [Verb.START]
    desired = Desired((lease(WORK, action=Action.STANDBY, lease_id="a"),))
    assert statuses(desired, {"a": created}, {})[0].observed is Observed.READY
    assert statuses(desired, {}, {})[0].observed is Observed.PREPARING
    assert statuses(desired, {}, {"a": Note(failed=True)})[0].observed is Observed.FAILED
