"""Smaller flushes from one that could not be written whole."""

from datetime import timedelta

from consumers.streaks import PROJECTION
from ingest.batch import Batch, Flush
from ingest.contract import Decoder, LessonViewed, Limits, StreakImported, UserActive
from ingest.record import Partition, Record
from ingest.retry import Bisection
from ingest.splitting import bare, entities, fold, names, only, touching
from tests.strategies import PlainRecord, event
from tests.unit.doubles import START, broken

OPTIONS = PROJECTION.options()
DECODER = Decoder(PROJECTION.events, PROJECTION.topic, {}, Limits())
USERS = ("B", "a", "é", "😀", "z")


def lesson(user: str, offset: int, day: int = 0) -> PlainRecord:
    time = START + timedelta(days=day)
    value = event(LessonViewed, time, user_id=user, lesson_id=f"l{offset}", timezone="UTC")
    return PlainRecord(value, offset=offset)


RECORDS: list[Record] = [lesson(user, n, day) for n, user in enumerate(USERS) for day in (0, 3)]


def flush() -> Flush:
    filling = Batch(PROJECTION, OPTIONS, DECODER, generation=1)
    filling.add(Partition("t", 0), [*RECORDS, broken(99)], START + timedelta(days=9), 0.0)
    return filling.close("rows")


def test_entities_are_never_parted_and_every_row_is_kept() -> None:
    whole = flush()
    parts = []
    bisection = Bisection(names(whole))
    while part := bisection.part:
        parts.append(only(whole, set(part)))
        bisection.refused()
    alone = [part for part in parts if len(entities(part)) == 1]
    assert len(alone) == len(USERS)
    for table, rows in enumerate(whole.rows):
        assert {len(part.rows[table]) for part in alone} == {len(rows) // len(USERS)}
        assert [row for part in alone for row in part.rows[table]] == list(rows)


def test_names_are_in_the_order_in_which_rows_are_written() -> None:
    assert names(flush()) == sorted(USERS)


def test_a_part_carries_rows_and_nothing_that_belongs_to_the_whole() -> None:
    whole = flush()
    for part in (only(whole, {"a"}), bare(whole)):
        assert (part.rejects, dict(part.offsets), dict(part.starts)) == ((), {}, {})
        assert (part.records, part.skipped, part.projection) == (0, 0, "streaks")
        assert len(part.rows) == len(PROJECTION.tables)
    assert bare(whole).row_count == 0


def test_folding_the_records_again_gives_the_same_rows_in_any_order() -> None:
    assert fold(PROJECTION, OPTIONS, DECODER, RECORDS[::-1], START + timedelta(days=9)).rows == flush().rows


def test_the_records_that_touch_an_entity_are_found_whatever_table_they_reach() -> None:
    imported = event(
        StreakImported, START, user_id="a", current_streak=2, max_streak=2, last_activity_date="2026-11-20"
    )
    others = [PlainRecord(imported, offset=50), PlainRecord(event(UserActive, START, user_id="a"), offset=51)]
    read = [*RECORDS, broken(60), *others]
    found = touching(PROJECTION, OPTIONS, DECODER, read, START + timedelta(days=9), {"a", "gone"})
    assert [record.offset for record in found] == [1, 1, 50, 51]
