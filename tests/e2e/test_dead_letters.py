"""What was refused, as it arrives in the dead-letter topic."""

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version

import pytest

from ingest.record import Record
from tests.e2e.process import Process
from tests.e2e.world import DEAD_LETTERS, Produced, World

pytestmark = pytest.mark.e2e

TIME = "2026-05-04T10:20:30Z"
EVENT = '{"specversion":"1.0","id":"1","source":"/t","type":"%s","time":"%s","data":{"client_id":"%s"}}'
BINARY = {"ce_specversion": b"1.0", "ce_id": b"1", "ce_source": b"/t", "ce_time": TIME.encode()}
WRONG: list[tuple[str, str, bytes | None]] = [
    ("malformed", "", b"\x00\xff\xfe not JSON"),
    ("malformed", "", b'{"specversion":"1.0","id":'),
    ("malformed", "", b"[]"),
    ("malformed", "", b'{"source":"\xff"}'),
    ("malformed", "", b""),
    ("malformed", "no value", None),
    ("invalid", "time", EVENT.encode() % (b"client.seen", b"2026-05-04 10:20:30", b"c")),
    ("invalid", "data.client_id", EVENT.encode() % (b"client.seen", TIME.encode(), b"c" * 51)),
    ("invalid", "data.client_id", EVENT.encode() % (b"client.seen", TIME.encode(), b"c\\u0000")),
    ("unknown_type", "client.left", EVENT.encode() % (b"client.left", TIME.encode(), b"c")),
    ("wrong_topic", "user.active", EVENT.encode() % (b"user.active", TIME.encode(), b"c")),
    ("future", "time", EVENT.encode() % (b"client.seen", b"2199-01-01T00:00:00Z", b"c")),
    ("past", "time", EVENT.encode() % (b"client.seen", b"1999-12-31T23:59:59Z", b"c")),
    ("too_large", "bytes", EVENT.encode() % (b"client.seen", TIME.encode(), b"c" * 66_000)),
]
"""Reason, what the detail must name, value."""

OURS = ["origin", "reason", "detail", "projection", "timestamp", "failed-at", "version", "attempt"]


def seen(client: str) -> bytes:
    return (EVENT % ("client.seen", TIME, client)).encode()


def by_origin(letters: list[Record]) -> dict[str, Record]:
    return {header(letter, "activity-origin"): letter for letter in letters}


def header(record: Record, name: str) -> str:
    """The one header of this name."""
    (value,) = [value for key, value in record.headers if key == name]
    assert value is not None
    return value.decode()


def letters_of(world: World, origins: Sequence[str], worker: Process) -> list[Record]:
    """The dead letters of the records that are there, in their order."""

    def found() -> list[Record]:
        letters = by_origin(world.read(DEAD_LETTERS))
        return [letters[origin] for origin in origins] if letters.keys() >= {*origins} else []

    return worker.until(found, f"dead letters of {origins}")


def test_every_reason_keeps_key_value_and_headers_byte_for_byte(busy_world: World, worker: Process) -> None:
    headers = [("trace", b"\x00\xff"), ("twice", b"1"), ("twice", b"2"), ("Trace", b"")]
    keys = [None, b"", b"\xff\x00key"]
    records = [
        Produced("activity.client", value, keys[n % 3], headers) for n, (_, _, value) in enumerate(WRONG)
    ]
    sent = busy_world.produce(records)
    stamped = {f"{r.topic}:{r.partition}:{r.offset}": r.timestamp for r in busy_world.read("activity.client")}
    letters = letters_of(busy_world, sent, worker)
    for record, letter, (reason, names, _) in zip(records, letters, WRONG, strict=True):
        assert (letter.key, letter.value) == (record.key, record.value)
        assert list(letter.headers[: len(headers)]) == headers
        assert [name for name, _ in letter.headers[len(headers) :]] == [f"activity-{name}" for name in OURS]
        assert header(letter, "activity-reason") == reason
        assert names in header(letter, "activity-detail")
        assert header(letter, "activity-projection") == "client_activity"
        assert header(letter, "activity-version") == version("activity-ingest")
        assert header(letter, "activity-attempt") == "1"
        produced_at = datetime.fromisoformat(header(letter, "activity-timestamp"))
        assert produced_at.timestamp() * 1000 == stamped[header(letter, "activity-origin")]
        assert (
            produced_at <= datetime.fromisoformat(header(letter, "activity-failed-at")) <= datetime.now(UTC)
        )


def test_a_bad_event_in_binary_mode_keeps_its_attributes(busy_world: World, worker: Process) -> None:
    headers = [*BINARY.items(), ("ce_type", b"client.seen")]
    sent = busy_world.produce([Produced("activity.client", b'{"client_id":7}', b"k", headers)])
    (letter,) = letters_of(busy_world, sent, worker)
    assert (letter.value, list(letter.headers[: len(headers)])) == (b'{"client_id":7}', headers)
    assert header(letter, "activity-reason") == "invalid"
    assert "data.client_id" in header(letter, "activity-detail")


def test_each_projection_of_a_topic_dead_letters_what_it_rejects(busy_world: World, worker: Process) -> None:
    (origin,) = busy_world.produce([Produced("activity.user", b"{", b"user")])

    def rejecting() -> list[str]:
        letters = busy_world.read(DEAD_LETTERS)
        return sorted(
            header(r, "activity-projection") for r in letters if header(r, "activity-origin") == origin
        )

    worker.until(lambda: rejecting() == ["streaks", "user_activity"], "a dead letter of both projections")


def test_a_row_that_postgres_refuses_costs_its_own_records_alone(busy_world: World, worker: Process) -> None:
    with busy_world.database() as session:
        session.execute("alter table client_activity add constraint not_him check (client_id <> 'he-alone')")
    others = [f"other-{n:03}" for n in range(200)]
    clients = [*others[:70], "he-alone", *others[70:140], "he-alone", *others[140:]]
    sent = busy_world.produce(
        [Produced("activity.client", seen(client), client.encode()) for client in clients]
    )
    refused = [origin for origin, client in zip(sent, clients, strict=True) if client == "he-alone"]
    for letter in letters_of(busy_world, refused, worker):
        assert (letter.key, letter.value) == (b"he-alone", seen("he-alone"))
        assert header(letter, "activity-reason") == "unstorable"
        assert header(letter, "activity-sqlstate") == "23514"
        assert header(letter, "activity-constraint") == "not_him"
        assert header(letter, "activity-projection") == "client_activity"
    stored = "select client_id from client_activity where client_id like 'other-%' order by 1"
    worker.until(lambda: busy_world.rows(stored) == [(other,) for other in others], "all other rows")

    busy_world.produce([Produced("activity.client", seen("afterwards"), b"k")])
    busy_world.until_read("client_activity", worker)
    assert busy_world.rows("select 1 from client_activity where client_id = 'afterwards'") == [(1,)]
    assert "he-alone" not in worker.text


def test_what_is_refused_is_counted_by_reason_and_proved(busy_world: World, worker: Process) -> None:
    sent = busy_world.produce(Produced("activity.client", value, b"k") for _, _, value in WRONG)
    letters_of(busy_world, sent, worker)
    reports = {report["projection"]: report for report in busy_world.verify()}
    letters = busy_world.read(DEAD_LETTERS)
    for reason in {header(letter, "activity-reason") for letter in letters}:
        of = [r for r in letters if header(r, "activity-reason") == reason]
        assert worker.metric("dead_letters_total", reason=reason) == len(of)
        proved = sum(report["dead_letters"].get(reason, 0) for report in reports.values())
        assert proved == len(of)
