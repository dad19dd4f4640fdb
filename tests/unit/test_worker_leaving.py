"""How a worker gives partitions up, stops, and is stopped."""

import asyncio
from collections.abc import Callable

import pytest

from ingest.batch import Caps
from ingest.errors import LostOffsets, Misconfigured, Unavailable, WentBack
from tests.strategies import PlainRecord
from tests.unit.doubles import (
    FIRST,
    SECOND,
    World,
    broken,
    clients,
    offsets_of,
    seen,
)
from tests.unit.virtual_time import in_virtual_time, monotonic, until

DOWN = Unavailable("nobody answers", "connection")
WRONG = Misconfigured("the table is gone", "migrate")
TWO_ROWS = Caps(max_rows=2, interval=3600.0)
HOURLY = Caps(interval=3600.0)


def pairs(first: int, last: int) -> list[PlainRecord]:
    """Records first..last, each of a client of its own: two fill a batch of TWO_ROWS."""
    return [seen(f"c{n}", n) for n in range(first, last + 1)]


def stands_at(world: World, offset: int) -> Callable[[], bool]:
    return lambda: world.source.positions == {FIRST: offset}


# -- rebalances --------------------------------------------------------------------------------------


@in_virtual_time
async def test_when_partitions_are_taken_away_what_is_held_is_written_and_committed_first() -> None:
    world = World(caps=HOURLY)
    world.source.add(seen("a", 0), seen("b", 1))
    running = world.start()
    await until(lambda: world.worker.buffered_records == 2)
    await world.worker.revoke()
    assert world.source.commits == [({FIRST: 2}, 1)]
    assert world.sink.progress == {FIRST: 2}
    assert not world.worker.assigned
    world.source.reassign(SECOND)
    await world.finish(running)


@in_virtual_time
async def test_a_revoke_starts_no_retry_and_forgets_what_was_not_durable() -> None:
    world = World(caps=HOURLY)
    world.source.add(seen("a", 0))
    running = world.start()
    await until(lambda: world.worker.buffered_records == 1)
    world.sink.failures.append(DOWN)
    began = monotonic()
    await world.worker.revoke()
    assert (len(world.sink.attempts), world.sink.writes, world.source.commits) == (1, [], [])
    assert world.worker.buffered_records == 0
    assert monotonic() - began < 1.0
    world.source.reassign(SECOND)
    await world.finish(running)
    assert world.source.committed.get(FIRST) is None


@in_virtual_time
async def test_a_revoke_writes_nothing_after_a_flush_that_was_not_durable() -> None:
    world = World(caps=TWO_ROWS)
    world.sink.held = True
    world.source.add(*pairs(0, 1))
    running = world.start()
    await until(lambda: len(world.sink.waiting) == 1)
    world.source.add(seen("later", 2))
    await until(lambda: world.worker.buffered_records == 1)
    world.sink.failures.append(DOWN)
    world.sink.release_all()
    await world.worker.revoke()
    assert (len(world.sink.attempts), world.sink.writes, world.source.commits) == (1, [], [])
    world.source.reassign(SECOND)
    await world.finish(running)


@in_virtual_time
async def test_what_is_read_again_under_a_new_assignment_is_committed_again() -> None:
    world = World()
    world.source.add(seen("a", 0), seen("b", 1))
    running = world.start()
    await until(lambda: world.source.commits == [({FIRST: 2}, 1)])
    await world.worker.revoke()
    world.source.reassign(FIRST, at={FIRST: 1})
    await until(lambda: world.source.commits[1:] == [({FIRST: 2}, 2)])
    await world.finish(running)


@in_virtual_time
async def test_a_revoke_waits_for_running_flushes_but_not_for_ever() -> None:
    world = World(caps=TWO_ROWS, revoke_timeout=30.0)
    world.sink.held = True
    world.source.add(*pairs(0, 1))
    running = world.start()
    await until(lambda: len(world.sink.waiting) == 1)
    began = monotonic()
    await world.worker.revoke()
    assert monotonic() - began == pytest.approx(30.0, abs=1.0)
    assert (world.source.commits, world.worker.assigned) == ([], False)
    world.sink.held = False
    world.source.reassign(FIRST)
    await until(lambda: world.worker.buffered_records == 0 and world.worker.assigned)
    await world.finish(running)


@in_virtual_time
async def test_partitions_that_come_back_are_read_again_from_what_was_committed() -> None:
    world = World(caps=HOURLY)
    world.source.add(seen("a", 0))
    running = world.start()
    await until(lambda: world.worker.buffered_records == 1)
    world.sink.failures.append(DOWN)
    await world.worker.revoke()
    world.source.reassign(FIRST)
    await until(lambda: world.worker.buffered_records == 1)
    await world.finish(running)
    assert world.source.commits == [({FIRST: 1}, 2)]


@in_virtual_time
async def test_a_flush_of_an_earlier_assignment_commits_nothing_and_notes_no_progress() -> None:
    world = World(caps=TWO_ROWS)
    world.sink.held = True
    world.source.add(*pairs(0, 1))
    running = world.start()
    await until(lambda: len(world.sink.waiting) == 1)
    world.sink.failures.append(DOWN)
    world.source.reassign(SECOND)
    await until(lambda: world.worker.positions == {SECOND: 0})
    world.sink.release_all()
    await asyncio.sleep(120)
    assert all(FIRST not in offsets for offsets, _ in world.source.commits)
    assert FIRST not in world.sink.progress
    assert [clients(flush) for flush in world.sink.attempts if flush.records] == [["c0", "c1"]]
    await world.finish(running)


@in_virtual_time
async def test_a_flush_of_an_earlier_assignment_that_succeeds_late_commits_nothing_either() -> None:
    world = World(caps=TWO_ROWS)
    world.sink.held = True
    world.source.add(*pairs(0, 1))
    running = world.start()
    await until(lambda: len(world.sink.waiting) == 1)
    world.source.reassign(FIRST, SECOND, at={FIRST: 2})
    await until(lambda: world.worker.positions == {FIRST: 2, SECOND: 0})
    world.sink.release_all()
    await until(lambda: len(world.sink.writes) == 1)
    world.source.add(seen("new", 2))
    await until(lambda: world.worker.buffered_records == 1)
    await world.finish(running)
    assert sorted(world.sink.stored) == ["c0", "c1", "new"]
    assert {generation for _, generation in world.source.commits} == {2}


@in_virtual_time
async def test_what_a_flush_of_an_earlier_assignment_finds_does_not_end_the_present_one() -> None:
    world = World(caps=TWO_ROWS)
    world.sink.held = True
    world.source.add(*pairs(0, 1))
    running = world.start()
    await until(lambda: len(world.sink.waiting) == 1)
    world.source.reassign(SECOND)
    await until(lambda: world.worker.positions == {SECOND: 0})
    world.sink.failures.append(WentBack("restored"))
    world.sink.release_all()
    await asyncio.sleep(10)
    assert world.source.begun_anew == 0
    assert world.worker.assigned
    await world.finish(running)


@in_virtual_time
async def test_records_read_under_an_earlier_assignment_are_not_written_under_the_next() -> None:
    world = World(caps=HOURLY)
    world.source.add(seen("a", 0), seen("b", 1))
    running = world.start()
    await until(lambda: world.worker.buffered_records == 2)
    world.source.reassign(FIRST, at={FIRST: 1})
    await until(lambda: world.worker.buffered_records == 1)
    await world.finish(running)
    assert sorted(world.sink.stored) == ["b"]
    assert world.source.commits == [({FIRST: 2}, 2)]


# -- leaving -----------------------------------------------------------------------------------------


@in_virtual_time
async def test_stopping_writes_and_commits_what_is_held() -> None:
    world = World(caps=HOURLY)
    world.source.add(seen("a", 0), broken(1))
    running = world.start()
    await until(lambda: world.worker.buffered_records == 2)
    await world.finish(running)
    assert world.source.commits == [({FIRST: 2}, 1)]
    assert offsets_of(world.dead_letters.rejects) == [1]
    assert world.sink.progress == {FIRST: 2}


@in_virtual_time
async def test_stopping_with_nothing_to_say_writes_nothing() -> None:
    world = World()
    running = world.start()
    await until(lambda: world.source.polls > 2)
    await world.finish(running)
    assert (world.sink.attempts, world.source.commits) == ([], [])


@in_virtual_time
async def test_stopping_waits_for_running_flushes_and_then_writes_the_rest() -> None:
    world = World(caps=TWO_ROWS)
    world.sink.held = True
    world.source.add(*pairs(0, 1))
    running = world.start()
    await until(lambda: len(world.sink.waiting) == 1)
    world.source.add(seen("late", 2))
    await until(lambda: world.worker.buffered_records == 1)
    world.stop.set()
    await world.sink.release()
    await world.sink.release()
    await running
    assert world.source.committed == {FIRST: 3}
    assert sorted(world.sink.stored) == ["c0", "c1", "late"]


@in_virtual_time
async def test_a_batch_that_the_timer_sends_while_stopping_waits_is_waited_for_as_well() -> None:
    world = World(caps=Caps(max_rows=2, interval=4.0))
    world.sink.held = True
    world.source.add(*pairs(0, 1))
    running = world.start()
    await until(lambda: len(world.sink.waiting) == 1)
    world.source.add(*pairs(2, 3))
    await until(lambda: len(world.sink.waiting) == 2)
    world.source.add(*pairs(4, 5))
    await until(lambda: world.worker.buffered_records == 2)
    world.stop.set()
    await asyncio.sleep(2)
    await world.sink.release()
    await until(lambda: world.worker.buffered_records == 0)
    await world.sink.release()
    await asyncio.sleep(2)
    world.sink.release_all()
    await running
    assert sorted(world.sink.stored) == [f"c{n}" for n in range(6)]
    assert world.source.committed == world.sink.progress == {FIRST: 6}


@in_virtual_time
async def test_stopping_gives_up_after_the_drain_timeout_with_nothing_committed() -> None:
    world = World(caps=HOURLY, drain_timeout=25.0)
    world.sink.held = True
    world.source.add(seen("a", 0))
    running = world.start()
    await until(lambda: world.worker.buffered_records == 1)
    began = monotonic()
    await world.finish(running)
    assert 25.0 <= monotonic() - began < 27.0
    assert (world.sink.writes, world.source.commits) == ([], [])


@in_virtual_time
async def test_what_is_noted_in_postgres_is_what_was_committed_when_flushes_end_out_of_order() -> None:
    world = World(caps=TWO_ROWS)
    world.sink.held = True
    world.source.add(*pairs(0, 1))
    running = world.start()
    await until(lambda: len(world.sink.waiting) == 1)
    world.source.add(*pairs(2, 3))
    await world.sink.release(which=1)
    await until(lambda: len(world.sink.writes) == 1)
    world.sink.release_all()
    await world.finish(running)
    assert world.source.committed == world.sink.progress == {FIRST: 4}


@in_virtual_time
async def test_what_is_noted_is_what_was_committed_when_partitions_are_taken_away_as_well() -> None:
    world = World(caps=TWO_ROWS)
    world.sink.held = True
    world.source.add(*pairs(0, 1))
    running = world.start()
    await until(lambda: len(world.sink.waiting) == 1)
    world.source.add(*pairs(2, 3))
    await world.sink.release(which=1)
    await until(lambda: len(world.sink.writes) == 1)
    world.sink.release_all()
    await world.worker.revoke()
    assert world.source.committed == world.sink.progress == {FIRST: 4}
    world.source.reassign(SECOND)
    await world.finish(running)


# -- an operator must act ------------------------------------------------------------------------------


@in_virtual_time
async def test_a_flush_that_an_operator_must_mend_stops_the_worker_with_nothing_committed() -> None:
    world = World()
    world.sink.failures.append(WRONG)
    world.source.add(seen("a", 0))
    with pytest.raises(Misconfigured, match="the table is gone"):
        await world.start()
    assert (world.source.commits, world.sink.writes) == ([], [])


@in_virtual_time
async def test_a_later_flush_is_not_committed_over_one_that_stopped_the_worker() -> None:
    world = World(caps=TWO_ROWS)
    world.sink.held = True
    world.source.add(*pairs(0, 1))
    running = world.start()
    await until(lambda: len(world.sink.waiting) == 1)
    world.source.add(*pairs(2, 3))
    await world.sink.release(which=1)
    await until(lambda: len(world.sink.writes) == 1)
    world.sink.failures.append(WRONG)
    await world.sink.release()
    with pytest.raises(Misconfigured):
        await running
    assert world.source.commits == []


@pytest.mark.parametrize("failure", [WRONG, LostOffsets("gone", "see")])
@in_virtual_time
async def test_a_poll_that_an_operator_must_mend_stops_the_worker(failure: Misconfigured) -> None:
    world = World(caps=HOURLY)
    world.source.add(seen("a", 0))
    running = world.start()
    await until(lambda: world.worker.buffered_records == 1)
    world.source.poll_failures.append(failure)
    with pytest.raises(type(failure)):
        await running
    assert (world.source.commits, world.sink.writes) == ([], [])


@in_virtual_time
async def test_a_commit_that_an_operator_must_mend_stops_the_worker() -> None:
    world = World()
    world.source.commit_failures.append(WRONG)
    world.source.add(seen("a", 0))
    with pytest.raises(Misconfigured):
        await world.start()
    assert world.source.commits == []


@in_virtual_time
async def test_a_bug_in_a_flush_stops_the_worker_rather_than_stalling_it() -> None:
    world = World()
    world.sink.failures.append(ZeroDivisionError())
    world.source.add(seen("a", 0))
    with pytest.raises(ZeroDivisionError):
        await world.start()
    assert world.source.commits == []
