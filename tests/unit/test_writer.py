"""How one flush becomes durable when Postgres or Kafka is in the way."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from consumers.client_activity import PROJECTION, ClientActivity
from ingest.batch import Batch, Flush
from ingest.errors import LostOffsets, Misconfigured, TimedOut, Unavailable
from ingest.ports import Progress
from ingest.record import Reason
from ingest.writer import Abandoned, Patience
from tests.strategies import PlainRecord
from tests.unit.doubles import (
    DECODER,
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
)
from tests.unit.virtual_time import in_virtual_time, monotonic, until

DOWN = Unavailable("the server is gone", "connection")
SLOW = TimedOut("the statement took too long")
PROGRESS = (Progress(FIRST, 99, START),)


def flush_of(world: World, *records: PlainRecord, quiet: bool = True) -> Flush:
    """A flush of these records, as a worker makes it: quiet partitions ride along."""
    world.source.add(*records)
    batch = Batch(PROJECTION, PROJECTION.options(), DECODER, generation=1)
    batch.add(FIRST, records, now(), 0.0)
    flush = batch.close("rows")
    offsets = {SECOND: 1000, **flush.offsets} if quiet else flush.offsets
    return Flush(**{name: getattr(flush, name) for name in flush.__slots__} | {"offsets": offsets})


async def store(world: World, flush: Flush, patience: Patience | None = None) -> list[int]:
    """Offsets of the records that only Postgres refused."""
    outcome = await world.writer.store(flush, lambda: PROGRESS, patience or Patience())
    return offsets_of(outcome.rejects)


@in_virtual_time
async def test_rows_and_progress_go_in_one_write() -> None:
    world = World()
    flush = flush_of(world, seen("a", 0), seen("b", 1))
    await store(world, flush)
    assert world.sink.writes == [(flush, PROGRESS)]


@in_virtual_time
async def test_rejects_are_acknowledged_before_rows_and_progress_are_written() -> None:
    world = World()
    turns: list[str] = []
    world.sink.in_turn = world.dead_letters.in_turn = turns
    world.dead_letters.failures.append(DOWN)
    await store(world, flush_of(world, seen("a", 0), broken(1)))
    assert turns == ["publish", "write"]
    assert offsets_of(world.dead_letters.rejects) == [1]
    assert len(world.metrics.calls["dead_letters"]) == 1


@in_virtual_time
async def test_an_outage_is_waited_out_and_fills_no_dead_letter_topic() -> None:
    world = World()
    flush = flush_of(world, seen("a", 0), seen("b", 1))
    world.sink.failures.extend([DOWN] * 500)
    await store(world, flush)
    assert world.sink.attempts == [flush] * 501
    assert world.dead_letters.rejects == []
    assert world.metrics.calls["retry"] == [("connection",)] * 500


@in_virtual_time
async def test_waits_grow_and_are_capped() -> None:
    world = World()
    world.sink.failures.extend([DOWN] * 20)
    began = monotonic()
    await store(world, flush_of(world, seen("a", 0)))
    growing = sum(0.1 * 2**n for n in range(9))
    assert monotonic() - began == pytest.approx(growing + 11 * 30.0, abs=1.0)


@in_virtual_time
async def test_what_keeps_a_flush_waiting_can_be_seen_and_is_forgotten_afterwards() -> None:
    world = World()
    world.sink.failures.extend([DOWN] * 9)
    storing = asyncio.create_task(store(world, flush_of(world, seen("a", 0))))
    await until(lambda: len(world.sink.attempts) == 3)
    assert list(world.writer.troubles.values()) == ["connection"]
    await storing
    assert world.writer.troubles == {}


@in_virtual_time
async def test_after_its_patience_ended_a_flush_fails_once_and_is_abandoned() -> None:
    world, patience = World(), Patience()
    world.sink.failures.append(DOWN)
    patience.end()
    with pytest.raises(Abandoned):
        await store(world, flush_of(world, seen("a", 0)), patience)
    assert (len(world.sink.attempts), world.sink.writes) == (1, [])


@in_virtual_time
async def test_a_flush_that_waits_is_abandoned_as_soon_as_its_patience_ends() -> None:
    world, patience = World(), Patience()
    world.sink.failures.extend([DOWN] * 100)
    storing = asyncio.create_task(store(world, flush_of(world, seen("a", 0)), patience))
    await until(lambda: len(world.sink.attempts) == 12)
    patience.end()
    with pytest.raises(Abandoned):
        await storing
    assert len(world.sink.attempts) == 12
    assert world.writer.troubles == {}


@in_virtual_time
async def test_an_attempt_that_succeeds_counts_although_patience_ended_meanwhile() -> None:
    world, patience = World(), Patience()
    patience.end()
    await store(world, flush_of(world, seen("a", 0)), patience)
    assert clients(world.sink.writes[0][0]) == ["a"]


@in_virtual_time
async def test_three_time_outs_in_a_row_halve_the_flush_until_its_parts_are_quick() -> None:
    world = World()
    world.sink.too_slow, world.sink.too_slow_above = SLOW, 2
    await store(world, flush_of(world, *(seen(c, n) for n, c in enumerate("abcdefgh"))))
    assert [len(clients(f)) for f in world.sink.attempts] == [8, 8, 8, 4, 4, 4, 2, 2, 4, 4, 4, 2, 2, 0]
    assert sorted(world.sink.stored) == list("abcdefgh")
    assert world.metrics.calls["retry"] == [("timeout",)] * 9


@in_virtual_time
async def test_two_time_outs_or_a_time_out_now_and_then_halve_nothing() -> None:
    world = World()
    flush = flush_of(world, seen("a", 0), seen("b", 1))
    world.sink.failures.extend([SLOW, SLOW, DOWN, SLOW, SLOW])
    await store(world, flush)
    assert world.sink.attempts == [flush] * 6


@in_virtual_time
async def test_a_single_row_that_times_out_is_kept_and_tried_again_for_ever() -> None:
    world = World()
    world.sink.failures.extend([SLOW] * 50)
    await store(world, flush_of(world, seen("a", 0)))
    assert len(world.sink.attempts) == 51
    assert world.dead_letters.rejects == []


@in_virtual_time
async def test_progress_is_written_last_when_a_flush_went_in_parts() -> None:
    world = World()
    world.sink.refuses = named("b")
    await store(world, flush_of(world, seen("a", 0), seen("b", 1), seen("c", 2)))
    assert [bool(progress) for _, progress in world.sink.writes] == [
        *[False] * (len(world.sink.writes) - 1),
        True,
    ]
    assert world.sink.writes[-1][1] == PROGRESS


@in_virtual_time
async def test_a_refused_row_is_found_and_all_others_are_stored() -> None:
    world = World()
    world.sink.refuses = named("bad")
    letters = "abcdefghijklmnop"
    refused = await store(
        world, flush_of(world, *(seen(c, n) for n, c in enumerate(letters)), seen("bad", 16))
    )
    assert refused == [16]
    assert sorted(world.sink.stored) == list(letters)
    assert len(world.sink.attempts) < 17


@in_virtual_time
async def test_the_same_rows_are_not_offered_again_whole_once_they_were_refused() -> None:
    world = World()
    world.sink.refuses = named("bad")
    await store(world, flush_of(world, seen("a", 0), seen("bad", 1)))
    assert [clients(f) for f in world.sink.attempts] == [["a", "bad"], ["a"], ["bad"], ["bad"], []]


@in_virtual_time
async def test_of_a_refused_entity_the_records_that_are_good_are_stored() -> None:
    world = World()
    world.sink.refuses = lambda row: row.created_at < START
    records = [seen("x", 0, 5), seen("y", 1, 1), seen("x", 2, -9), seen("x", 3, 7), seen("x", 4, 2)]
    refused = await store(world, flush_of(world, *records))
    assert refused == [2]
    assert world.sink.stored == {"x": (START + 2 * MINUTE, START + 7 * MINUTE), "y": (START + MINUTE,) * 2}


@in_virtual_time
async def test_a_refused_record_is_dead_lettered_as_it_was_with_what_postgres_said() -> None:
    world = World()
    world.sink.refuses = named("bad")
    original = seen("bad", 1)
    await store(world, flush_of(world, seen("a", 0), original))
    (reject,) = world.dead_letters.rejects
    assert reject.record is original
    assert (reject.reason, reject.detail) == (Reason.UNSTORABLE, "a value is too long")
    assert (reject.sqlstate, reject.constraint) == ("22001", "some_constraint")


@in_virtual_time
async def test_several_bad_records_are_all_found() -> None:
    world = World()
    world.sink.refuses = lambda row: row.client_id.startswith("bad") and row.last_seen >= START + 5 * MINUTE
    records = [seen(f"bad{n % 2}", n, minutes=n % 7) for n in range(30)]
    refused = await store(world, flush_of(world, *records))
    assert sorted(refused) == [n for n in range(30) if n % 7 >= 5]
    assert world.sink.stored == {f"bad{n}": (START, START + 4 * MINUTE) for n in (0, 1)}


@in_virtual_time
async def test_an_outage_during_the_search_for_a_bad_row_dead_letters_nothing_more() -> None:
    world = World()
    world.sink.refuses, world.sink.held = named("bad"), True
    flush = flush_of(world, *(seen(c, n) for n, c in enumerate("abc")), seen("bad", 3))
    storing = asyncio.create_task(store(world, flush))
    await world.sink.release()
    await until(lambda: len(world.sink.attempts) == 2)
    for port in (world.sink.failures, world.source.read_failures, world.dead_letters.failures):
        port.extend([DOWN] * 10)
    world.sink.release_all()
    assert await storing == [3]
    assert offsets_of(world.dead_letters.rejects) == [3]
    assert sorted(world.sink.stored) == list("abc")


@in_virtual_time
async def test_rejects_found_by_postgres_are_acknowledged_before_the_progress() -> None:
    world = World()
    world.sink.refuses = named("bad")
    turns: list[str] = []
    world.sink.in_turn = world.dead_letters.in_turn = turns
    await store(world, flush_of(world, seen("a", 0), seen("bad", 1)))
    assert turns == ["write", "publish", "write"]


@in_virtual_time
async def test_only_the_range_of_the_flush_is_read_again_not_that_of_quiet_partitions() -> None:
    world = World()
    world.sink.refuses = named("bad")
    await store(world, flush_of(world, seen("a", 5), seen("bad", 6)))
    assert world.source.reads == [({FIRST: 5}, {FIRST: 7})]


@in_virtual_time
async def test_a_record_rejected_before_is_not_dead_lettered_twice() -> None:
    world = World()
    world.sink.refuses = named("bad")
    await store(world, flush_of(world, broken(0), seen("bad", 1)))
    assert offsets_of(world.dead_letters.rejects) == [0, 1]


@in_virtual_time
async def test_refused_rows_without_records_in_the_log_are_counted_and_do_not_block() -> None:
    world = World()
    world.sink.refuses = lambda row: row.client_id in ("bad", "gone")
    flush = flush_of(world, seen("a", 0), seen("bad", 1), seen("gone", 2))
    del world.source.logs[FIRST][2]
    assert await store(world, flush) == [1]
    assert world.metrics.calls["vanished"] == [(1,)]
    assert world.sink.writes[-1][1] == PROGRESS


@in_virtual_time
async def test_an_operators_matter_ends_the_flush_at_once() -> None:
    world = World()
    world.sink.failures.append(Misconfigured("the table is gone", "migrate"))
    with pytest.raises(Misconfigured):
        await store(world, flush_of(world, seen("a", 0), broken(1)))
    assert (len(world.sink.attempts), world.sink.writes) == (1, [])


@pytest.mark.parametrize("where", ["publish", "read"])
@in_virtual_time
async def test_an_operators_matter_of_kafka_ends_the_flush_too(where: str) -> None:
    world = World()
    world.sink.refuses = named("bad")
    failures = world.dead_letters.failures if where == "publish" else world.source.read_failures
    failures.append(LostOffsets("gone", "see the log"))
    with pytest.raises(Misconfigured):
        await store(world, flush_of(world, seen("a", 0), seen("bad", 1)))
    assert all(progress == () for _, progress in world.sink.writes)


@in_virtual_time
async def test_progress_is_asked_for_anew_at_each_attempt() -> None:
    world = World()
    world.sink.failures.append(DOWN)
    answers: list[Sequence[Progress]] = [(), PROGRESS]
    await world.writer.store(flush_of(world, seen("a", 0)), lambda: answers.pop(0), Patience())
    assert world.sink.writes[0][1] == PROGRESS


@in_virtual_time
async def test_rows_and_statements_of_all_parts_are_added_up() -> None:
    world = World()
    world.sink.refuses = named("bad")
    flush = flush_of(world, seen("a", 0), seen("b", 1), seen("bad", 2))
    outcome = await world.writer.store(flush, lambda: PROGRESS, Patience())
    assert (outcome.rows, outcome.statements) == (2, len(world.sink.writes))


def named(client: str) -> Callable[[ClientActivity], bool]:
    return lambda row: row.client_id == client
