"""The loop: what it writes, what it commits, and when it pauses."""

import asyncio
from collections.abc import Callable

import pytest

from ingest.batch import Caps
from ingest.errors import Misconfigured, Unavailable, WentBack
from ingest.ports import Polled, Progress
from tests.strategies import PlainRecord
from tests.unit.doubles import (
    FIRST,
    MINUTE,
    SECOND,
    START,
    World,
    broken,
    clients,
    now,
    offsets_of,
    seen,
    skipped,
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


# -- from poll to commit ---------------------------------------------------------------------------


@in_virtual_time
async def test_records_become_rows_and_their_offsets_are_committed() -> None:
    world = World()
    world.source.add(seen("a", 0), seen("b", 1), seen("a", 2, -3))
    running = world.start()
    await until(lambda: world.source.committed == {FIRST: 3})
    assert world.sink.stored == {"a": (START - 3 * MINUTE, START), "b": (START, START)}
    assert world.sink.progress == {FIRST: 3}
    await world.finish(running)


@in_virtual_time
async def test_a_batch_is_written_once_its_interval_is_over_and_no_sooner() -> None:
    world = World(caps=Caps(interval=8.0))
    world.source.add(seen("a", 0))
    began = monotonic()
    running = world.start()
    await until(lambda: bool(world.sink.writes))
    assert 8.0 <= monotonic() - began < 11.0
    await world.finish(running)


@in_virtual_time
async def test_a_batch_is_written_on_time_while_a_poll_hangs() -> None:
    world = World(caps=Caps(interval=1.0))
    running = world.start()
    world.source.add(seen("a", 0))
    await until(lambda: world.worker.buffered_records == 1)
    polling = world.source.poll

    async def hanging(timeout_s: float, limit: int) -> Polled:
        await asyncio.sleep(900)
        return await polling(timeout_s, limit)

    world.source.poll = hanging  # type: ignore[method-assign]
    began = monotonic()
    await until(lambda: bool(world.sink.writes))
    assert monotonic() - began < 3.0
    await world.finish(running)


@in_virtual_time
async def test_a_batch_of_skips_alone_is_committed_too() -> None:
    world = World()
    world.source.add(skipped(0), skipped(1))
    running = world.start()
    await until(lambda: world.source.committed == {FIRST: 2})
    assert world.sink.stored == {}
    await world.finish(running)


@in_virtual_time
async def test_rejects_go_to_the_dead_letters_and_are_committed_over() -> None:
    world = World()
    world.source.add(seen("a", 0), broken(1))
    running = world.start()
    await until(lambda: world.source.committed == {FIRST: 2})
    assert offsets_of(world.dead_letters.rejects) == [1]
    await world.finish(running)


@in_virtual_time
async def test_holes_in_the_log_are_committed_over() -> None:
    world = World(idle_refresh=3600.0)
    world.source.add(seen("a", 0))
    running = world.start()
    await until(lambda: world.source.committed == {FIRST: 1})
    world.source.positions[FIRST] = 5
    began = monotonic()
    await until(lambda: world.source.committed == {FIRST: 5})
    assert monotonic() - began < 3.0
    await world.finish(running)


@in_virtual_time
async def test_a_later_flush_that_is_done_first_commits_nothing_before_the_earlier_one() -> None:
    world = World(caps=TWO_ROWS)
    world.sink.held = True
    world.source.add(*pairs(0, 1))
    running = world.start()
    await until(lambda: len(world.sink.waiting) == 1)
    world.source.add(*pairs(2, 3))
    await world.sink.release(which=1)
    await until(lambda: len(world.sink.writes) == 1)
    await asyncio.sleep(5)
    assert world.source.commits == []
    assert world.sink.writes[0][1] == ()
    await world.sink.release()
    await until(lambda: world.source.committed == {FIRST: 4})
    world.sink.release_all()
    await world.finish(running)


@in_virtual_time
async def test_two_flushes_are_in_flight_and_a_third_waits() -> None:
    world = World(caps=TWO_ROWS)
    world.sink.held = True
    running = world.start()
    for first in (0, 2, 4):
        world.source.add(*pairs(first, first + 1))
        await until(stands_at(world, first + 2))
    await asyncio.sleep(60)
    assert len(world.sink.attempts) == 2
    world.sink.release_all()
    await until(lambda: world.source.committed == {FIRST: 6})
    await world.finish(running)


@in_virtual_time
async def test_committed_offsets_never_go_back() -> None:
    world = World(FIRST, SECOND)
    world.source.add(seen("a", 0), seen("b", 1))
    running = world.start()
    await until(lambda: world.source.committed == {FIRST: 2, SECOND: 0})
    world.source.positions[FIRST] = 1
    world.source.add(seen("c", 0, partition=SECOND))
    await until(lambda: world.source.committed[SECOND] == 1)
    assert [offsets[FIRST] for offsets, _ in world.source.commits if FIRST in offsets] == [2]
    await world.finish(running)


@in_virtual_time
async def test_a_commit_that_fails_is_made_again() -> None:
    world = World(idle_refresh=3600.0)
    world.source.commit_failures.extend([DOWN] * 5)
    world.source.add(seen("a", 0))
    running = world.start()
    await until(lambda: world.source.committed == {FIRST: 1})
    assert len(world.sink.stored) == 1
    assert ("connection",) in world.metrics.calls["retry"]
    await world.finish(running)


@in_virtual_time
async def test_a_poll_that_fails_is_made_again_and_nothing_read_is_lost() -> None:
    world = World()
    world.source.add(seen("a", 0))
    running = world.start()
    await until(lambda: world.worker.buffered_records == 1)
    world.source.poll_failures.extend([DOWN] * 7)
    world.source.add(seen("b", 1))
    await until(lambda: world.source.committed == {FIRST: 2} and not world.source.poll_failures)
    assert sorted(world.sink.stored) == ["a", "b"]
    await world.finish(running)
    assert world.metrics.calls["retry"] == [("connection",)] * 7


# -- bounded -----------------------------------------------------------------------------------------


@in_virtual_time
async def test_when_postgres_takes_no_more_reading_pauses_but_polling_goes_on() -> None:
    world = World(caps=TWO_ROWS)
    world.sink.held = True
    running = world.start()
    for first in (0, 2, 4):
        world.source.add(*pairs(first, first + 1))
        await until(stands_at(world, first + 2))
    await until(lambda: world.source.paused)
    world.source.add(*pairs(6, 20))
    polls = world.source.polls
    await asyncio.sleep(120)
    assert world.source.polls > polls + 60
    assert world.worker.buffered_records == 2
    assert world.source.pauses == 1
    assert sum(seconds for (seconds,) in world.metrics.calls["paused"]) == pytest.approx(120, abs=5)
    world.sink.release_all()
    await until(lambda: world.source.committed == {FIRST: 21})
    assert not world.source.paused
    await world.finish(running)


@in_virtual_time
async def test_a_short_wait_for_postgres_pauses_nothing() -> None:
    world = World(caps=TWO_ROWS)
    world.sink.held = True
    running = world.start()
    for first in (0, 2, 4):
        world.source.add(*pairs(first, first + 1))
        await until(stands_at(world, first + 2))
    await asyncio.sleep(0.5)
    world.sink.release_all()
    await until(lambda: world.source.committed == {FIRST: 6})
    assert world.source.pauses == 0
    await world.finish(running)


# -- quiet topics ------------------------------------------------------------------------------------


@in_virtual_time
async def test_how_far_quiet_partitions_were_read_rides_along() -> None:
    world = World(FIRST, SECOND)
    world.source.positions[SECOND] = 7
    world.source.add(seen("a", 0))
    running = world.start()
    await until(lambda: bool(world.sink.writes))
    progress = {p.partition: p for p in world.sink.writes[0][1]}
    assert {p: one.next_offset for p, one in progress.items()} == {FIRST: 1, SECOND: 7}
    assert all(one.read_up_to and START <= one.read_up_to <= now() for one in progress.values())
    await world.finish(running)


@in_virtual_time
async def test_a_partition_with_a_backlog_is_read_up_to_its_last_record_only() -> None:
    world = World(caps=Caps(max_records=1_000, interval=3600.0))
    world.source.add(*(seen("a", n) for n in range(1_500)))
    running = world.start()
    await until(lambda: bool(world.sink.writes))
    assert world.sink.writes[0][1] == (Progress(FIRST, 1_000, START),)
    await world.finish(running)


@in_virtual_time
async def test_while_idle_progress_is_refreshed_now_and_then() -> None:
    world = World(idle_refresh=5.0)
    world.source.add(seen("a", 0))
    running = world.start()
    await until(lambda: bool(world.sink.writes))
    began = monotonic()
    await until(lambda: len(world.sink.writes) == 11)
    assert monotonic() - began == pytest.approx(50, abs=6)
    (latest,) = world.sink.writes[-1][1]
    assert (latest.partition, latest.next_offset) == (FIRST, 1)
    assert latest.read_up_to
    assert now() - latest.read_up_to < MINUTE / 10
    await world.finish(running)


@in_virtual_time
async def test_progress_is_refreshed_as_often_where_batches_are_written_seldom() -> None:
    world = World(caps=HOURLY, idle_refresh=5.0)
    running = world.start()
    began = monotonic()
    await until(lambda: len(world.sink.writes) == 3)
    assert monotonic() - began < 20
    await world.finish(running)


@in_virtual_time
async def test_progress_is_not_refreshed_while_a_flush_waits() -> None:
    world = World(idle_refresh=5.0)
    world.sink.held = True
    world.source.add(seen("a", 0))
    running = world.start()
    await until(lambda: bool(world.sink.waiting))
    await asyncio.sleep(60)
    assert len(world.sink.attempts) == 1
    world.sink.release_all()
    await world.finish(running)


# -- what others see -----------------------------------------------------------------------------------


@in_virtual_time
async def test_a_worker_is_assigned_once_it_has_its_share_even_of_no_partition() -> None:
    world = World()
    assert not world.worker.assigned
    world.source.reassign()
    running = world.start()
    await until(lambda: world.worker.assigned)
    assert world.worker.positions == {}
    await world.finish(running)


@in_virtual_time
async def test_each_flush_is_counted_with_its_trigger_and_outcome() -> None:
    world = World(caps=Caps(max_rows=2, interval=1.0))
    world.source.add(*pairs(0, 1))
    running = world.start()
    await until(lambda: len(world.sink.writes) == 1)
    world.source.add(seen("a", 2))
    await until(lambda: len(world.sink.writes) == 2)
    world.source.add(seen("b", 3))
    await until(lambda: world.worker.buffered_records == 1)
    await world.finish(running)
    told = [call[:2] for call in world.metrics.calls["flush"]]
    assert told == [("rows", "ok"), ("interval", "ok"), ("drain", "ok")]
    assert [clients(flush) for flush, _, _ in world.metrics.calls["stored"]] == [["c0", "c1"], ["a"], ["b"]]


@in_virtual_time
async def test_the_loop_shows_that_it_turns_while_postgres_is_down() -> None:
    world = World(caps=TWO_ROWS)
    world.sink.failures.extend([DOWN] * 10_000)
    world.source.add(*pairs(0, 40))
    running = world.start()
    await asyncio.sleep(600)
    assert monotonic() - world.worker.last_turn < 5
    assert (world.source.commits, world.dead_letters.rejects) == ([], [])
    assert world.writer.troubles
    world.sink.failures.clear()
    await until(lambda: world.source.committed == {FIRST: 41})
    await world.finish(running)


@in_virtual_time
async def test_when_postgres_went_back_everything_held_is_forgotten_and_read_again() -> None:
    world = World()
    world.source.add(seen("a", 0))
    running = world.start()
    await until(lambda: world.source.committed == {FIRST: 1})
    world.sink.failures.append(WentBack("restored"))
    world.source.add(seen("b", 1))
    await until(lambda: world.source.begun_anew == 1)
    world.source.add(seen("c", 2))
    await until(lambda: world.source.positions[FIRST] == 3)
    await asyncio.sleep(10)  # virtual: more than a flush interval
    assert world.source.committed == {FIRST: 1}, "what the old assignment still delivers is not ours"
    assert world.sink.progress == {FIRST: 1}
    await world.finish(running)


@in_virtual_time
async def test_a_flush_says_what_postgres_is_known_to_hold() -> None:
    world = World(FIRST)
    world.worker.found({FIRST: 5, SECOND: 9})
    world.source.positions[FIRST] = 5
    world.source.add(seen("a", 5))
    running = world.start()
    await until(lambda: len(world.sink.writes) == 2)
    assert [[p.stored for p in progress] for _, progress in world.sink.writes] == [[5], [6]]
    await world.finish(running)
