import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from threading import Event as Signal
from typing import Any

import pytest

from ingest.contract import KNOWN_EVENTS, Limits, encode
from ingest.errors import FoundWrong, IngestError, Misconfigured, Unavailable
from ingest.publish import (
    Checker,
    Complaints,
    Failures,
    Line,
    Outbox,
    Outcome,
    in_background,
    publish_file,
    tell_undelivered,
)
from ingest.publish.check import SHOWN_PER_REASON
from ingest.record import Reason

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
LIMITS = Limits(max_event_bytes=1_000)
TOPICS = {topic: f"prod.{topic}" for topic in ("activity.client", "activity.user", "activity.live")}


class Taken:
    """Takes what is sent; from the record number `fails_at` on nothing is delivered."""

    def __init__(self, failures: Failures | None = None, fails_at: int = 1_000_000) -> None:
        self.acknowledged = 0
        self.records: list[tuple[str, bytes | None, bytes | None]] = []
        self.failures, self.fails_at = failures, fails_at

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[Any] = (),
        tag: object = None,
    ) -> None:
        if len(self.records) >= self.fails_at and self.failures:
            self.failures.add([tag], Unavailable("no broker answers", "kafka"))
            return
        self.records.append((topic, key, value))
        self.acknowledged += 1

    async def flush(self) -> None: ...


def checker() -> Checker:
    return Checker(KNOWN_EVENTS, LIMITS)


def client(id: str = "C1", time: datetime = NOW) -> bytes:
    return encode("client.seen", "id", "/test", time, {"client_id": id})


def user(id: str = "ana") -> bytes:
    return encode("user.active", "id", "/test", NOW, {"user_id": id})


def lines(*values: bytes, start: int = 1) -> list[Line]:
    return [Line(value, "f", number) for number, value in enumerate(values, start)]


async def portions(*chunks: list[Line]) -> AsyncIterator[list[Line]]:
    for chunk in chunks:
        yield chunk


def test_the_topic_follows_from_the_type_and_the_key_from_the_data() -> None:
    live = encode("live.ended", "id", "/test", NOW, {"user_id": "Zoë", "session_id": "s"})
    good, rejects = checker().check(lines(client("C1"), user("ana"), live), NOW)
    assert [(line.topic, line.key) for line in good] == [
        ("activity.client", b"C1"),
        ("activity.user", b"ana"),
        ("activity.live", "Zoë".encode()),
    ]
    assert rejects == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'{"type":"client.seen"', Reason.MALFORMED),
        (b"[1]", Reason.MALFORMED),
        (b"\xff\xfe{}", Reason.MALFORMED),
        (b"{}", Reason.INVALID),
        (b'{"type":7}', Reason.INVALID),
        (b'{"type":"client.seen","data":7}', Reason.INVALID),
        (b'{"type":"client.lost","data":{"client_id":"a"}}', Reason.UNKNOWN_TYPE),
        (client(time=NOW + timedelta(hours=1)), Reason.FUTURE),
        (client(time=datetime(1999, 1, 1, tzinfo=UTC)), Reason.PAST),
        (client("x" * 1_000), Reason.TOO_LARGE),
        (client("x" * 51), Reason.INVALID),
        (b'{"data":{"user_id":"\\ud800"},"type":"user.active"}', Reason.INVALID),
    ],
)
def test_each_kind_of_bad_line_is_told_from_the_good_ones_around_it(value: bytes, reason: Reason) -> None:
    good, rejects = checker().check(lines(client(), value, user()), NOW)
    assert [line.number for line in good] == [1, 3]
    assert [(reject.record.offset, reject.reason) for reject in rejects] == [(2, reason)]
    assert rejects[0].detail


def test_half_a_surrogate_pair_where_nobody_reads_does_not_hide_the_topic() -> None:
    value = user().replace(b"{", b'{"note":"\\ud800",', 1)
    good, _ = checker().check(lines(value), NOW)
    assert [(line.topic, line.key, line.value) for line in good] == [("activity.user", b"ana", value)]


def test_bad_lines_are_told_in_the_order_of_the_file_whatever_their_topics() -> None:
    bad_user, bad_client = user("x" * 200), client("x" * 51)
    _, rejects = checker().check(lines(bad_client, bad_user, bad_client, bad_user), NOW)
    assert [reject.record.offset for reject in rejects] == [1, 2, 3, 4]


def test_a_byte_order_mark_is_named_and_only_the_first_line_suffers() -> None:
    good, rejects = checker().check(lines(b"\xef\xbb\xbf" + client(), client()), NOW)
    assert [line.number for line in good] == [2]
    assert "byte order mark" in rejects[0].detail


def test_lines_are_published_byte_for_byte_to_the_actual_topics() -> None:
    odd = b' {"data":{"client_id":"C1"},"extra":[1, 2],  "type":"client.seen","time":"2026-03-10T12:00:00Z",'
    odd += b'"id":"1","source":"/t","specversion":"1.0"}'

    async def publish() -> Taken:
        taken, outcome, told = Taken(), Outcome(), list[str]()
        outbox = Outbox(taken, TOPICS, Failures())
        chunks = portions(lines(odd, b"{}"), lines(user(), start=3))
        await publish_file("f", chunks, checker(), outbox, Complaints(told.append), outcome, lambda: NOW)
        assert (outcome.lines, outcome.good) == (3, 2)
        assert [line.split(": ")[:2] for line in told] == [["f:2", "invalid"]]
        return taken

    taken = asyncio.run(publish())
    assert taken.records == [("prod.activity.client", b"C1", odd), ("prod.activity.user", b"ana", user())]


def test_a_damaged_file_is_complained_of_and_does_not_stop_the_next_one() -> None:
    async def damaged() -> AsyncIterator[list[Line]]:
        yield lines(client())
        raise FoundWrong("f: damaged gzip: cut short")

    async def check() -> tuple[Outcome, Complaints, list[str]]:
        outcome, told = Outcome(), list[str]()
        complaints = Complaints(told.append)
        for name, chunks in (("f", damaged()), ("g", portions(lines(client())))):
            await publish_file(name, chunks, checker(), None, complaints, outcome, lambda: NOW)
        return outcome, complaints, told

    outcome, complaints, told = asyncio.run(check())
    assert (outcome.good, complaints.by_reason, told) == (
        2,
        {"damaged": 1},
        ["f: damaged: damaged gzip: cut short"],
    )


def test_of_many_complaints_for_one_reason_the_first_are_shown_and_all_are_counted() -> None:
    told: list[str] = []
    complaints = Complaints(told.append)
    for number in range(1_000):
        complaints.add(f"f:{number}", "invalid", "data: missing")
    complaints.add("f:1000", "past", "time: before 2000")
    complaints.finish()
    assert complaints.by_reason == {"invalid": 1_000, "past": 1}
    assert len(told) == SHOWN_PER_REASON + 2
    assert told[-1] == "… and 980 more: invalid"


def test_a_failed_delivery_names_its_lines_and_stops_the_rest() -> None:
    async def publish() -> list[str]:
        told: list[str] = []
        complaints = Complaints(told.append)
        failures = Failures(tell_undelivered(complaints))
        outbox = Outbox(Taken(failures, fails_at=2), TOPICS, failures)
        chunks = portions(lines(*[client()] * 10))
        with pytest.raises(Unavailable, match="1 messages not delivered: no broker answers"):
            await publish_file("f", chunks, checker(), outbox, complaints, Outcome(), lambda: NOW)
        return told

    assert asyncio.run(publish()) == ["f:3: not delivered: no broker answers"]


def test_a_delivery_refused_for_good_keeps_its_mend() -> None:
    failures = Failures()
    failures.add([1, 2], Misconfigured("may not write", "grant WRITE"))
    with pytest.raises(Misconfigured, match="2 messages") as raised:
        failures.check()
    assert raised.value.mend == "grant WRITE"


def test_an_event_whose_topic_does_not_exist_is_a_mistake_in_the_set_up() -> None:
    async def publish() -> None:
        await Outbox(Taken(), {"activity.client": "c"}, Failures()).send("activity.user", b"k", b"v")

    with pytest.raises(Misconfigured, match=r"activity\.user"):
        asyncio.run(publish())


class Clockwork(asyncio.SelectorEventLoop):
    """A loop whose clock stands still but for what is slept."""

    now = 100.0

    def time(self) -> float:
        return self.now


async def paced(count: int, rate: float, stall_at: int | None = None) -> tuple[list[float], float]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Clockwork)
    slept: list[float] = []

    async def sleep(seconds: float, result: Any = None) -> None:
        slept.append(seconds)
        loop.now += seconds

    outbox = Outbox(Taken(), TOPICS, Failures(), rate)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "sleep", sleep)
        for number in range(count):
            if number == stall_at:
                loop.now += 60.0
            await outbox.send("activity.user", b"k", b"v")
    return slept, loop.now - 100.0


def test_a_rate_is_kept_by_pausing_now_and_then() -> None:
    with asyncio.Runner(loop_factory=Clockwork) as runner:
        slept, took = runner.run(paced(5_000, 1_000))
    assert took == pytest.approx(5.0, abs=0.02)
    assert len(slept) < 2_000


def test_after_a_stall_the_rate_is_not_exceeded_to_make_up_for_it() -> None:
    with asyncio.Runner(loop_factory=Clockwork) as runner:
        _, took = runner.run(paced(2_000, 1_000, stall_at=1_000))
    assert took > 60.9


def test_items_are_made_in_the_background_and_the_loop_goes_on_meanwhile() -> None:
    arrived = Signal()

    def slow() -> Iterator[int]:
        yield 1
        assert arrived.wait(10)
        yield 2

    async def read() -> list[int]:
        found: list[int] = []
        async for item in in_background(slow()):
            found.append(item)
            asyncio.get_running_loop().call_soon(arrived.set)
        return found

    assert asyncio.run(read()) == [1, 2]


def test_what_goes_wrong_in_the_background_is_raised_where_it_is_waited_for() -> None:
    def damaged() -> Iterator[int]:
        yield 1
        raise FoundWrong("damaged")

    async def read() -> None:
        async for _ in in_background(damaged()):
            pass

    with pytest.raises(IngestError, match="damaged"):
        asyncio.run(read())


def test_a_reader_that_waits_for_its_first_line_does_not_keep_the_program_from_ending() -> None:
    never = Signal()

    def stuck() -> Iterator[int]:
        never.wait(30)
        yield 1

    async def read() -> None:
        async for _ in in_background(stuck()):
            pass

    async def interrupted() -> None:
        async with asyncio.timeout(0.05):
            await read()

    with pytest.raises(TimeoutError):
        asyncio.run(interrupted())
    assert not never.is_set()
    never.set()
