"""An upstream developer's first hours: files with mistakes, any producer, either content mode."""

import re
from pathlib import Path

import pytest

from tests.e2e.process import Process
from tests.e2e.world import Produced, World

pytestmark = pytest.mark.e2e

TIME = "2026-05-04T10:20:30.123456Z"
GOOD = '{"specversion":"1.0","id":"1","source":"/t","type":"%s","time":"%s","data":%s}'


def seen(client: str, time: str = TIME) -> bytes:
    return (GOOD % ("client.seen", time, f'{{"client_id":"{client}"}}')).encode()


def active(user: str, time: str = TIME) -> bytes:
    return (GOOD % ("user.active", time, f'{{"user_id":"{user}"}}')).encode()


def clients_like(world: World, pattern: str) -> list[str]:
    found = world.rows("select client_id from client_activity where client_id like $1 order by 1", pattern)
    return [client for (client,) in found]


BROKEN_FILE = b"\n".join(
    [
        seen("file-1"),
        b'{"specversion":"1.0",',
        seen("file-2"),
        b"",
        active("file-user"),
        seen("file-3", "yesterday"),
        GOOD.encode() % (b"client.seen", TIME.encode(), b"{}"),
        GOOD.encode() % (b"client.gone", TIME.encode(), b"{}"),
        seen("file-4", "1999-12-31T23:59:59Z"),
        seen("file-5", "2199-12-31T23:59:59Z"),
        b'"\xff"',
        seen("file-6"),
    ]
)


def test_the_good_lines_of_a_broken_file_become_rows_and_each_bad_one_is_named(
    busy_world: World, worker: Process, tmp_path: Path
) -> None:
    file = tmp_path / "events.ndjson"
    file.write_bytes(BROKEN_FILE)
    done = busy_world.cli("publish", str(file))
    assert done.returncode == 1
    *named, summary = done.stderr.splitlines()
    told = [re.fullmatch(r"(.*):(\d+): (\w+): \S.*", line) for line in named]
    assert [match and match.groups() for match in told] == [
        (str(file), "2", "malformed"),
        (str(file), "6", "invalid"),
        (str(file), "7", "invalid"),
        (str(file), "8", "unknown_type"),
        (str(file), "9", "past"),
        (str(file), "10", "future"),
        (str(file), "11", "malformed"),
    ]
    assert "7 of 11 lines" in summary
    assert "published 4 events" in done.stdout
    worker.until(lambda: len(clients_like(busy_world, "file-%")) == 3, "the good clients' rows")
    assert clients_like(busy_world, "file-%") == ["file-1", "file-2", "file-6"]
    days = "select activity_date::text from daily_activity where user_id = 'file-user'"
    worker.until(lambda: busy_world.rows(days) == [("2026-05-04",)], "the user's day")


def test_batches_of_every_codec_are_read(busy_world: World, worker: Process) -> None:
    codecs = ("gzip", "lz4", "snappy", "zstd")
    clients = [f"codec-{codec}-{n:02}" for codec in codecs for n in range(50)]
    for codec in codecs:
        named = [client for client in clients if codec in client]
        records = [Produced("activity.client", seen(client), client.encode()) for client in named]
        busy_world.produce(records, compression_type=codec, linger_ms=20)
    worker.until(lambda: clients_like(busy_world, "codec-%") == clients, "rows from batches of every codec")


def test_binary_mode_events_become_rows(busy_world: World, worker: Process) -> None:
    attributes = {
        "ce_specversion": b"1.0",
        "ce_id": b"1",
        "ce_source": b"/binary",
        "ce_type": b"client.seen",
        "ce_time": b"2026-05-04T12:20:30.123456+02:00",
        "content-type": b"application/json",
    }
    headers = list(attributes.items())
    value = b'{"client_id":"binary-1","more":[1]}'
    busy_world.produce([Produced("activity.client", value, headers=headers)])
    row = "select last_seen = $1::text::timestamptz from client_activity where client_id = 'binary-1'"
    worker.until(lambda: busy_world.value(row, TIME), "the row of an event in binary mode")


def test_structured_mode_is_recognised_by_its_content_type(busy_world: World, worker: Process) -> None:
    headers = [("content-type", b"application/cloudevents+json; charset=utf-8"), ("ce_id", b"somebody's")]
    busy_world.produce([Produced("activity.client", seen("structured-1"), headers=headers)])
    worker.until(lambda: clients_like(busy_world, "structured-%"), "the row of an event in structured mode")


def test_the_tables_equal_the_fold_of_the_log_then(busy_world: World, worker: Process) -> None:
    worker.alive()
    busy_world.verify()
